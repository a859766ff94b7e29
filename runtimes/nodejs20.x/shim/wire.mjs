// The connection to Hearth and its frames. Reads into one reusable buffer, sends a small frame with one write.
// Knows lengths, kinds and flags; what is expected when is `worker`'s business.

import net from 'node:net';

export const HEADER_LEN = 12;
const BODY_MAX = 8 * 1024 * 1024;
export const SMALL_BODY_MAX = 64 * 1024;
export const CHUNK_MAX = 1024 * 1024;
// Below this, one copy and one write beat two writes.
const JOINED_MAX = 64 * 1024;

export const HELLO = 1;
export const INIT = 2;
export const READY = 3;
export const INIT_ERROR = 4;
export const INVOKE = 5;
export const RESPONSE_HEAD = 6;
export const RESPONSE_CHUNK = 7;
export const RESPONSE_END = 8;
export const ERROR = 9;
export const CANCEL = 10;
export const PING = 11;
export const PONG = 12;
export const SHUTDOWN = 13;

export const RAW = 0x01;
export const BAD_REQUEST = 0x02;
export const LAST = 0x04;

const NAMES = [
  'nothing', 'HELLO', 'INIT', 'READY', 'INIT_ERROR', 'INVOKE', 'RESPONSE_HEAD', 'RESPONSE_CHUNK',
  'RESPONSE_END', 'ERROR', 'CANCEL', 'PING', 'PONG', 'SHUTDOWN',
];

// Kind -> the longest body and the flags it may have. Only what Hearth may send is listed; all else is refused at the header.
const ACCEPTED = [];
ACCEPTED[INIT] = { longest: BODY_MAX, flags: 0 };
ACCEPTED[INVOKE] = { longest: BODY_MAX, flags: RAW };
ACCEPTED[CANCEL] = { longest: SMALL_BODY_MAX, flags: 0 };
ACCEPTED[PING] = { longest: 64, flags: 0 };
ACCEPTED[SHUTDOWN] = { longest: 0, flags: 0 };

/** The other end broke the protocol; the message names both sides' view. The worker ends with status 70. */
export class ProtocolError extends Error {}

export function name(kind) {
  return NAMES[kind] ?? `unknown kind ${kind}`;
}

export class Connection {
  #socket;
  #onFrame;
  #partial; // a frame, or only its header, that is longer than what has come of it
  #filled = 0;

  /**
   * `onFrame(kind, flags, stream, body)` gets every frame; the body is a view that is valid until it returns. `onBreach(error)` gets
   * what is not a frame. `onClose()`: Hearth's end is gone.
   */
  constructor(path, onOpen, onFrame, onBreach, onClose) {
    this.#onFrame = onFrame;
    // net marks the descriptor close-on-exec: programs the function starts do not get it.
    this.#socket = net.connect({
      path,
      onread: {
        buffer: Buffer.allocUnsafeSlow(64 * 1024),
        callback: (count, buffer) => {
          try {
            this.#take(buffer.subarray(0, count));
          } catch (error) {
            if (!(error instanceof ProtocolError)) throw error;
            onBreach(error);
          }
          return true;
        },
      },
    });
    this.#socket.on('connect', onOpen);
    // A write that fails says the same as the end of the connection.
    this.#socket.on('error', (error) => onClose(error));
    this.#socket.on('end', () => onClose());
  }

  /** Whether the connection alone keeps the process alive. Off, `beforeExit` tells that the function has nothing left to do. */
  hold(on) {
    if (on) this.#socket.ref();
    else this.#socket.unref();
  }

  /** Sends a frame whose body is text or bytes. `sent` is called when the bytes are with the kernel. */
  send(kind, stream, body, flags = 0, sent = undefined) {
    const text = typeof body === 'string';
    const length = text ? Buffer.byteLength(body) : body.length;
    if (length <= JOINED_MAX) {
      const frame = Buffer.allocUnsafe(HEADER_LEN + length);
      writeHeader(frame, length, kind, flags, stream);
      if (text) frame.utf8Write(body, HEADER_LEN);
      else frame.set(body, HEADER_LEN);
      this.#socket.write(frame, sent);
      return;
    }
    const header = Buffer.allocUnsafe(HEADER_LEN);
    writeHeader(header, length, kind, flags, stream);
    this.#socket.cork();
    this.#socket.write(header);
    this.#socket.write(body, sent);
    this.#socket.uncork();
  }

  #take(bytes) {
    let at = this.#partial ? this.#complete(bytes) : 0;
    while (bytes.length - at >= HEADER_LEN) {
      const length = checkedLength(bytes, at);
      const end = at + HEADER_LEN + length;
      if (end > bytes.length) break;
      this.#onFrame(bytes[at + 4], bytes[at + 5], bytes.readUInt32BE(at + 8), bytes.subarray(at + HEADER_LEN, end));
      at = end;
    }
    if (at < bytes.length) {
      const known = bytes.length - at >= HEADER_LEN;
      this.#partial = Buffer.allocUnsafe(known ? HEADER_LEN + checkedLength(bytes, at) : HEADER_LEN);
      this.#filled = bytes.copy(this.#partial, 0, at);
    }
  }

  /** Puts what belongs to the partial frame where it belongs; answers how many bytes that were. */
  #complete(bytes) {
    let at = 0;
    for (;;) {
      const copied = bytes.copy(this.#partial, this.#filled, at);
      at += copied;
      this.#filled += copied;
      if (this.#filled < this.#partial.length) return at;
      const whole = this.#partial;
      const length = checkedLength(whole, 0);
      if (whole.length === HEADER_LEN + length) {
        this.#partial = undefined;
        this.#onFrame(whole[4], whole[5], whole.readUInt32BE(8), whole.subarray(HEADER_LEN));
        return at;
      }
      // It was the header alone.
      this.#partial = Buffer.allocUnsafe(HEADER_LEN + length);
      whole.copy(this.#partial);
    }
  }
}

function hex(byte) {
  return `0x${byte.toString(16).padStart(2, '0')}`;
}

function writeHeader(frame, length, kind, flags, stream) {
  frame.writeUInt32BE(length, 0);
  frame[4] = kind;
  frame[5] = flags;
  frame[6] = 0;
  frame[7] = 0;
  frame.writeUInt32BE(stream, 8);
}

function checkedLength(bytes, at) {
  const length = bytes.readUInt32BE(at);
  const kind = bytes[at + 4];
  const accepted = ACCEPTED[kind];
  if (accepted === undefined) throw new ProtocolError(`expected a frame a worker may get, got ${name(kind)}`);
  if (bytes[at + 6] !== 0 || bytes[at + 7] !== 0) {
    const reserved = bytes.readUInt16BE(at + 6).toString(16);
    throw new ProtocolError(`expected zero in the reserved bytes of ${name(kind)}, got 0x${reserved}`);
  }
  if ((bytes[at + 5] & ~accepted.flags) !== 0) {
    throw new ProtocolError(`expected no flags but ${hex(accepted.flags)} on ${name(kind)}, got ${hex(bytes[at + 5])}`);
  }
  if (length > accepted.longest) {
    throw new ProtocolError(
      `expected at most ${accepted.longest} bytes in ${name(kind)}, got a length of ${length}`,
    );
  }
  return length;
}
