"""stdout, stderr and `logging` as the function sees them. Must survive whatever the function does to them."""

import logging
import os
import sys
import time

_held = None

# The invocation whose lines are being written; `invocation` sets it, log records carry it.
request_id = ""


def prepare():
    """A line is in the log pipe once it is ended, whatever happens next; odd characters are never a reason to fail."""
    global _held
    # The end of the pipe's last writer is the end of the worker: a function that closes its streams loses only its words.
    _held = os.dup(1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


def flush():
    """Before an answer leaves, what was printed for it is in the pipe. The function may have closed or replaced the streams."""
    stdout, stderr = sys.stdout, sys.stderr
    try:
        stdout.flush()
    except Exception:
        pass
    try:
        stderr.flush()
    except Exception:
        pass
    if stdout is not sys.__stdout__:
        try:
            sys.__stdout__.flush()
        except Exception:
            pass


def say(text):
    """The shim's own words, past whatever the function did to sys.stderr."""
    flush()
    try:
        os.write(2, (text + "\n").encode("utf-8", "backslashreplace"))
    except OSError:
        pass


class _Stdout(logging.StreamHandler):
    """Follows sys.stdout when the function replaces it."""

    def __init__(self):
        logging.Handler.__init__(self)

    @property
    def stream(self):
        return sys.stdout


class _Line(logging.Formatter):
    """The line AWS writes for a record."""

    converter = time.gmtime

    def __init__(self):
        super().__init__(
            "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s",
            "%Y-%m-%dT%H:%M:%S",
        )

    def format(self, record):
        record.aws_request_id = request_id
        return super().format(record)


def prepare_logging():
    """As on AWS, the root logger has a handler before the function's modules are loaded."""
    handler = _Stdout()
    handler.setFormatter(_Line())
    logging.getLogger().addHandler(handler)
