// stdout and stderr as the function sees them: written at once, so that what an invocation printed is in the log pipe before its
// answer is on the socket, and kept when the process crashes. (Node's own streams queue what a full pipe does not take.)

import fs from 'node:fs';
import { Writable } from 'node:stream';

const pause = new Int32Array(new SharedArrayBuffer(4));

function writeAll(descriptor, bytes) {
  let at = 0;
  while (at < bytes.length) {
    try {
      at += fs.writeSync(descriptor, bytes, at);
    } catch (error) {
      // A program the function started may have made the shared pipe non-blocking. Whoever reads it drains it.
      if (error.code === 'EAGAIN') Atomics.wait(pause, 0, 0, 1);
      // The function may have closed the descriptor: then its words are lost, which is no reason to fail.
      else return;
    }
  }
}

class Pipe extends Writable {
  constructor(descriptor) {
    // It never closes, and whoever waits for its end must not wait for that.
    super({ emitClose: false });
    this.fd = descriptor;
  }

  _write(chunk, _encoding, done) {
    writeAll(this.fd, chunk);
    done();
  }

  // One invocation that ends or destroys it, as a pipeline into it does, must not take the log from the next.
  end(chunk, encoding, done) {
    const [callback] = [chunk, encoding, done].filter((argument) => typeof argument === 'function');
    if (chunk !== undefined && chunk !== null && typeof chunk !== 'function') {
      this.write(chunk, typeof encoding === 'string' ? encoding : undefined);
    }
    process.nextTick(() => {
      this.emit('finish');
      callback?.();
    });
    return this;
  }

  destroy() {
    return this;
  }
}

/** Takes the place of Node's own streams, which are made on first use; `console` follows. */
export function prepare() {
  // The end of the pipe's last writer is the end of the worker: a function that closes its streams loses only its words. Never
  // closed, and not inherited by what the function starts.
  try {
    fs.openSync('/proc/self/fd/1', 'w');
  } catch {
    // stdout is something that cannot be opened again: then it is no worker's log pipe.
  }
  for (const [name, descriptor] of [['stdout', 1], ['stderr', 2]]) {
    const pipe = new Pipe(descriptor);
    Object.defineProperty(process, name, { configurable: true, enumerable: true, get: () => pipe });
  }
}

/** The shim's own words, past whatever the function did to process.stderr. */
export function say(text) {
  writeAll(2, Buffer.from(`${text}\n`));
}
