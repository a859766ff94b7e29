"""What went wrong, as the JSON of ERROR and INIT_ERROR frames. Cuts the shim's own frames off a stack and what is too long."""

import json
import os
import traceback

from hearth_shim import wire

_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep


class Fault(Exception):
    """Something the shim itself found wrong, under a name of the protocol's."""

    def __init__(self, kind, message, stack=()):
        super().__init__(message)
        self.kind = kind
        self.stack = list(stack)


def describe(error):
    """(errorType, errorMessage, stackTrace) of any exception."""
    if isinstance(error, Fault):
        return error.kind, str(error), error.stack
    try:
        message = str(error)
    except Exception:
        message = f"<{type(error).__name__} that cannot be printed>"
    return type(error).__name__, message, stack_of(error)


def stack_of(error):
    """The stack as AWS formats it: one string for each frame, outermost first, the shim's left out. Of a module that fails as it is loaded
    those of the import are there, too."""
    frames = traceback.extract_tb(error.__traceback__)
    # As tuples, of which no part of a line is underlined.
    own = [(f.filename, f.lineno, f.name, f.line) for f in frames if not f.filename.startswith(_OWN_FOLDER)]
    return traceback.format_list(own)


def encode(kind, message, stack):
    """The body of an ERROR frame, never longer than the protocol allows: the middle of a long stack goes first."""
    body = _encode(kind, message, stack)
    clip, keep = 16 * 1024, 64
    while len(body) > wire.SMALL_BODY_MAX:
        if len(stack) > keep:
            stack = stack[: keep // 2] + ["  ...\n"] + stack[-keep // 2 :]
        stack = [entry[:clip] for entry in stack]
        body = _encode(kind[:256], message[:clip], stack)
        clip, keep = clip // 2, max(keep // 2, 2)
    return body


def _encode(kind, message, stack):
    fault = {"errorType": kind, "errorMessage": message, "stackTrace": stack}
    return json.dumps(fault, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
