"""Logs by what the environment says, and sets no level of its own: see cases.toml."""

import logging


def handler(event, context):
    if event == "fail":
        raise ValueError("no")
    logging.debug("told %d", 1, extra={"order": 7})
    logging.getLogger("mine").warning("žluťoučký")
    try:
        1 / 0
    except ZeroDivisionError:
        logging.exception("caught")
