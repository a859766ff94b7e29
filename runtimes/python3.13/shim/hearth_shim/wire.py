"""The connection to Hearth and its frames. Blocking, one reusable buffer, no allocation for small frames but their values.

Knows lengths, kinds and flags; what is expected when is `worker`'s business.
"""

import os
import select
import socket
import struct

HEADER = struct.Struct(">IBBHI")
HEADER_LEN = 12
BODY_MAX = 8 * 1024 * 1024
SMALL_BODY_MAX = 64 * 1024
CHUNK_MAX = 1024 * 1024

HELLO, INIT, READY, INIT_ERROR, INVOKE, RESPONSE_HEAD, RESPONSE_CHUNK = range(1, 8)
RESPONSE_END, ERROR, CANCEL, PING, PONG, SHUTDOWN = range(8, 14)

RAW = 0x01
BAD_REQUEST = 0x02

NAMES = (
    "nothing HELLO INIT READY INIT_ERROR INVOKE RESPONSE_HEAD RESPONSE_CHUNK "
    "RESPONSE_END ERROR CANCEL PING PONG SHUTDOWN"
).split()

# Kind -> the longest body and the flags it may have. Only what Hearth may send is listed; all else is refused at the header.
_ACCEPTED = {
    INIT: (BODY_MAX, 0),
    INVOKE: (BODY_MAX, RAW),
    CANCEL: (SMALL_BODY_MAX, 0),
    PING: (64, 0),
    SHUTDOWN: (0, 0),
}

_BUFFER_LEN = 64 * 1024
# Below this, one copy and one system call beat two system calls.
_JOINED_MAX = 64 * 1024


class ProtocolError(Exception):
    """The other end broke the protocol; the message names both sides' view. The worker ends with status 70."""


class Closed(Exception):
    """Hearth's end of the connection is gone."""


def name(kind):
    return NAMES[kind] if 0 < kind < len(NAMES) else f"unknown kind {kind}"


class Connection:
    def __init__(self, path):
        # Close-on-exec is Python's default: programs the function starts do not get the socket.
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.descriptor = self.socket.fileno()
        self._buffer = bytearray(_BUFFER_LEN)
        self._view = memoryview(self._buffer)
        self._start = 0  # first byte not yet handed out
        self._end = 0  # end of what was received
        self._poll = select.poll()
        self._poll.register(self.descriptor, select.POLLIN)

    def receive(self):
        """The next frame as (kind, flags, stream, body). The body is a view that is valid until the next call."""
        while True:
            have = self._end - self._start
            if have >= HEADER_LEN:
                length, kind, flags, reserved, stream = HEADER.unpack_from(self._buffer, self._start)
                accepted = _ACCEPTED.get(kind)
                if accepted is None or reserved or length > accepted[0] or flags & ~accepted[1]:
                    raise ProtocolError(_complaint(length, kind, flags, reserved))
                body = self._start + HEADER_LEN
                if self._end >= body + length:
                    self._start = body + length
                    return kind, flags, stream, self._view[body : body + length]
                if HEADER_LEN + length > _BUFFER_LEN:
                    return kind, flags, stream, self._large(body, length)
            if self._start:
                self.settle()
            received = self.socket.recv_into(self._view[self._end :])
            if not received:
                raise Closed
            self._end += received

    def _large(self, body, length):
        whole = memoryview(bytearray(length))
        filled = self._end - body
        whole[:filled] = self._view[body : self._end]
        self._start = self._end = 0
        while filled < length:
            received = self.socket.recv_into(whole[filled:])
            if not received:
                raise Closed
            filled += received
        return whole

    def settle(self):
        """Moves what is left to the front, so that a header always fits behind it. Ends the life of the last body."""
        left = self._end - self._start
        if not left:
            self._start = self._end = 0
            return
        self._buffer[:left] = self._buffer[self._start : self._end]
        self._start, self._end = 0, left

    def pending(self):
        """Whether bytes wait, here or in the socket."""
        return self._end > self._start or bool(self._poll.poll(0))

    def peek(self):
        """The next frame's (kind, stream) if its header is here, without taking it and without waiting."""
        if self._end - self._start < HEADER_LEN:
            try:
                received = self.socket.recv_into(self._view[self._end :], 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            if not received:
                raise Closed
            self._end += received
        if self._end - self._start < HEADER_LEN:
            return None
        _, kind, _, _, stream = HEADER.unpack_from(self._buffer, self._start)
        return kind, stream

    def send(self, kind, stream, body, flags=0):
        header = HEADER.pack(len(body), kind, flags, 0, stream)
        try:
            if len(body) <= _JOINED_MAX:
                self.socket.sendall(header + body)
            else:
                self.socket.sendall(header)
                self.socket.sendall(body)
        except (BrokenPipeError, ConnectionResetError):
            raise Closed from None


def _complaint(length, kind, flags, reserved):
    if kind not in _ACCEPTED:
        return f"expected a frame a worker may get, got {name(kind)}"
    longest, allowed = _ACCEPTED[kind]
    if reserved:
        return f"expected zero in the reserved bytes of {name(kind)}, got {reserved:#06x}"
    if flags & ~allowed:
        return f"expected no flags but {allowed:#04x} on {name(kind)}, got {flags:#04x}"
    return f"expected at most {longest} bytes in {name(kind)}, got a length of {length}"


def connect():
    return Connection(os.environ.get("HEARTH_SOCKET", "/hearth/worker.sock"))
