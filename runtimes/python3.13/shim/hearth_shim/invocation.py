"""One invocation: calls the handler, turns what comes back into frames, and interrupts it when Hearth says CANCEL.

The loop in `worker` is blocked in the handler meanwhile, so the kernel tells us: for exactly as long as the handler runs the
socket is in O_ASYNC mode, SIGIO arrives with the next bytes, and its handler raises `Cancelled` inside the function's code, where
`finally` blocks see it. Whatever arrives at any other time is left to the loop. A signal that arrives between the interpreter's last look and
a system call that sleeps is not seen before that call ends: Hearth repeats CANCEL, and the next signal interrupts it.
"""

import fcntl
import json
import os
import signal
import sys
from fcntl import ioctl
from json import encoder as json_encoder
from termios import FIOASYNC
from types import AsyncGeneratorType, CoroutineType, GeneratorType

from hearth_shim import faults, output, wire

ANSWER_MAX = 6 * 1024 * 1024 + 100

# O_ASYNC by ioctl takes half the time it takes by fcntl, if the argument is something ioctl could write to.
_ON, _OFF = bytearray((1).to_bytes(4, sys.byteorder)), bytearray(4)

_BYTES = (bytes, bytearray, memoryview)
_LATER = {CoroutineType, GeneratorType, AsyncGeneratorType}


class Cancelled(BaseException):
    """Nobody waits for this invocation any more. Not an Exception, so that `except Exception` does not swallow it."""


class _Digits(Exception):
    """There is a Decimal, which has more digits than a float."""


class _Raw(str):
    """Something that is JSON already."""


def _is_decimal(value):
    # Without loading the module for those who have none.
    return any(kind.__name__ == "Decimal" and kind.__module__ == "decimal" for kind in type(value).__mro__)


def _default(value):
    # What AWS's client writes and the standard library does not.
    if isinstance(value, bytes):
        return value.decode()
    if _is_decimal(value):
        raise _Digits
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _with_digits(value):
    if not _is_decimal(value):
        return _default(value)
    return float("nan") if value.is_nan() else _Raw(value)


def _text(value):
    return value if type(value) is _Raw else json_encoder.encode_basestring(value)


def _encoder(default, text):
    """Pieces of JSON as AWS's client writes it: ensure_ascii off, no indent, a space behind each comma and colon, NaN and infinities as Python
    reads them."""
    return json_encoder.c_make_encoder(_containers, default, text, None, ": ", ", ", False, False, True)


# What JSONEncoder.encode makes anew for every call, made once: 3 of the 20 µs an invocation takes. Containers on the way are remembered.
_containers = {}
_pieces = _encoder(_default, json_encoder.encode_basestring)
# The same where DynamoDB's numbers are, which are Decimals: each text is looked at once more.
_pieces_with_digits = _encoder(_with_digits, _text)


def _encode(value):
    try:
        try:
            return "".join(_pieces(value, 0))
        except _Digits:
            _containers.clear()
            return "".join(_pieces_with_digits(value, 0))
    except BaseException:
        _containers.clear()  # else the next answer might seem to contain itself
        raise


class Runner:
    """Calls handlers over one connection, one at a time."""

    def __init__(self, connection):
        self._connection = connection
        self._stream = 0  # the invocation that may be interrupted now, or 0
        self._sending = False  # in the middle of a frame: an interruption would tear it
        self._noticed = False  # a signal came while sending
        self._loop = None  # the event loop of `async` handlers, made once and kept, as their globals are
        self._task = None  # what runs on it now
        signal.signal(signal.SIGIO, self._on_signal)
        fcntl.fcntl(connection.descriptor, fcntl.F_SETOWN, os.getpid())

    def run(self, stream, handler, event, context):
        """Runs it and sends its answer or its error. Raises only what ends the worker."""
        connection = self._connection
        descriptor = connection.descriptor
        try:
            try:
                connection.settle()
                self._stream = stream
                ioctl(descriptor, FIOASYNC, _ON)
                if connection.pending():
                    # It came before the socket was told to signal.
                    self._on_signal(None, None)
                value = handler(event, context)
                streamed = False
                if type(value) in _LATER:
                    streamed, value = self._finish(stream, value, context)
                self._stream = 0
                ioctl(descriptor, FIOASYNC, _OFF)
            except BaseException:
                self._stream = 0
                ioctl(descriptor, FIOASYNC, _OFF)
                raise
        except Cancelled as error:
            # Raised at most once for an invocation, but perhaps between any two lines above: settle it for good.
            self._stream = 0
            ioctl(descriptor, FIOASYNC, _OFF)
            self.fail(stream, "Runtime.Cancelled", "The invocation was cancelled", faults.stack_of(error))
        except (SystemExit, wire.Closed, wire.ProtocolError):
            raise
        except BaseException as error:
            self.fail(stream, *faults.describe(error))
        else:
            if not streamed:
                self._answer(stream, value)

    def fail(self, stream, kind, message, stack, flags=0):
        output.failed(kind, message, stack)
        self._connection.send(wire.ERROR, stream, faults.encode(kind, message, stack), flags)

    def _answer(self, stream, value):
        flags = 0
        if isinstance(value, _BYTES):
            body, flags = bytes(value), wire.RAW
        else:
            try:
                # A lone surrogate becomes its JSON escape: the only way it has to be written at all.
                body = _encode(value).encode("utf-8", "backslashreplace")
            except Exception as error:
                self.fail(stream, "Runtime.MarshalError", f"Unable to marshal response: {error}", [])
                return
        if len(body) > ANSWER_MAX:
            text = f"Response payload size exceeded maximum allowed payload size ({ANSWER_MAX} bytes)."
            self.fail(stream, "Function.ResponseSizeTooLarge", text, [])
            return
        output.flush()
        self._connection.send(wire.RESPONSE_END, stream, body, flags)

    # What a handler may return instead of a value.

    def _finish(self, stream, value, context):
        """Awaits a coroutine, streams a generator: (whether the answer is sent already, the value if not)."""
        while type(value) is CoroutineType:
            value = self._await(value)
        if type(value) is AsyncGeneratorType:
            value = self._pull(value)
        if type(value) is not GeneratorType:
            return False, value
        self._stream_out(stream, value, context)
        return True, None

    def _pull(self, generator):
        """An async generator as a plain one."""
        try:
            while True:
                try:
                    piece = self._await(generator.__anext__())
                except StopAsyncIteration:
                    return
                yield piece
        finally:
            self._await(generator.aclose())

    def _stream_out(self, stream, generator, context):
        begun = False
        try:
            for piece in generator:
                if isinstance(piece, str):
                    body, kind = piece.encode("utf-8", "replace"), "text/plain; charset=utf-8"
                elif isinstance(piece, _BYTES):
                    body, kind = bytes(piece), "application/octet-stream"
                else:
                    raise faults.Fault(
                        "Runtime.MarshalError",
                        f"A streamed answer is made of str and bytes, not of {type(piece).__name__}",
                    )
                if not begun:
                    begun = True
                    self._send(wire.RESPONSE_HEAD, stream, _head(context._content_type or kind))
                output.flush()
                for at in range(0, len(body), wire.CHUNK_MAX):
                    self._send(wire.RESPONSE_CHUNK, stream, body[at : at + wire.CHUNK_MAX])
        finally:
            generator.close()
        if not begun:
            self._send(wire.RESPONSE_HEAD, stream, _head(context._content_type or "application/octet-stream"))
        output.flush()
        # From here on it has answered: a late interruption must not add an ERROR to a stream that has its END.
        self._stream = 0
        self._send(wire.RESPONSE_END, stream, b"")

    def _send(self, kind, stream, body):
        self._sending = True
        self._connection.send(kind, stream, body)
        self._sending = False
        if self._noticed:
            self._noticed = False
            self._on_signal(None, None)

    def _await(self, awaitable):
        import asyncio

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)

        if type(awaitable) is not CoroutineType:
            awaitable = _outcome(awaitable)
        self._task = self._loop.create_task(awaitable)
        try:
            return self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            if self._stream:
                raise  # the function cancelled itself
            raise Cancelled from None
        finally:
            self._task = None

    # Cancellation.

    def _on_signal(self, _signal, _frame):
        stream = self._stream
        if not stream:
            return
        if self._sending:
            self._noticed = True
            return
        try:
            next_frame = self._connection.peek()
        except wire.Closed:
            next_frame = (wire.CANCEL, stream)  # the loop will find the connection closed, too
        if next_frame is None:
            return
        kind, target = next_frame
        if kind != wire.CANCEL:
            # Raised into the function's code it might be caught there: end here.
            end_of_protocol(f"expected CANCEL of stream {stream}, got {wire.name(kind)}")
        if target != stream:
            return  # for an invocation that has just ended; the loop drops it
        self._stream = 0
        if self._task is not None:
            import asyncio

            if asyncio.current_task(self._loop) is not self._task:
                # The loop is waiting, or runs something else: let the task see it at its own await.
                self._task.cancel()
                self._loop.call_soon_threadsafe(lambda: None)
                return
        raise Cancelled("the invocation was cancelled")


async def _outcome(awaitable):
    return await awaitable


def _head(content_type):
    return json.dumps({"content_type": content_type}).encode()


def end_of_protocol(complaint):
    """The other end is not what it should be: nothing more can be said to it."""
    output.say(f"hearth shim: {complaint}")
    os._exit(70)
