"""stdout, stderr and `logging` as the function sees them. Must survive whatever the function does to them."""

import json
import logging
import os
import sys
import time
import traceback

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


class _Json(logging.Formatter):
    """The same where lines are JSON."""

    converter = time.gmtime

    def format(self, record):
        # AWS knows the levels by their tens.
        level = logging.getLevelName(min(50, max(0, record.levelno)) // 10 * 10)
        error = record.exc_info
        told = {
            "timestamp": self.formatTime(record, _SECONDS),
            "level": level,
            "message": record.getMessage(),
            "logger": record.name,
            "stackTrace": traceback.format_tb(error[2]) if error else None,
            "errorType": error[0].__name__ if error and error[0] else None,
            "errorMessage": str(error[1]) if error else None,
            "requestId": request_id,
            "location": f"{record.pathname}:{record.funcName}:{record.lineno}" if error else None,
        }
        told.update((name, value) for name, value in vars(record).items() if name not in _OF_RECORDS and name not in told)
        return json.dumps({name: value for name, value in told.items() if value is not None}, ensure_ascii=False, default=str)


_SECONDS = "%Y-%m-%dT%H:%M:%SZ"
_OF_RECORDS = {*vars(logging.makeLogRecord({})), "message", "asctime"}
_handler = _Stdout()
_is_json = False


def prepare_logging():
    """As on AWS, the root logger has a handler before the function's modules are loaded."""
    _handler.setFormatter(_Line())
    logging.getLogger().addHandler(_handler)


def set_logging(environment):
    """As the function's environment, or AWS for it, says it."""
    global _is_json
    _is_json = environment.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
    if _is_json:
        _handler.setFormatter(_Json())
    level = environment.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    level = "DEBUG" if level == "TRACE" else level
    if level in logging.getLevelNamesMapping():
        logging.getLogger().setLevel(level)


def failed(kind, message, stack):
    """What the log gets to see of what went wrong."""
    if not _is_json:
        text = f"[ERROR] {kind}: {message}"
        say(text + "\nTraceback (most recent call last):\n" + "".join(stack).rstrip("\n") if stack else text)
        return
    now = time.strftime(_SECONDS, time.gmtime())
    told = {"timestamp": now, "log_level": "ERROR", "errorMessage": message, "errorType": kind}
    say(json.dumps({**told, "requestId": request_id, "stackTrace": stack}, ensure_ascii=False))
