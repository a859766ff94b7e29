// Streaming answers: `awslambda.streamifyResponse` as on AWS, and handlers that are async generators.

import { Writable } from 'node:stream';

import { Fault } from './faults.mjs';

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HTTP_CONTENT_TYPE = 'application/vnd.awslambda.http-integration-response';
const HTTP_PRELUDE_END = new Uint8Array(8);

/** What AWS's runtime offers as a global. */
export const awslambda = {
  streamifyResponse(handler, options) {
    handler[STREAMING] = 'response';
    if (options?.highWaterMark !== undefined) {
      handler[Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark')] = parseInt(options.highWaterMark, 10);
    }
    return handler;
  },
  HttpResponseStream: class HttpResponseStream {
    /** Status and headers of an HTTP answer go in front of its body: JSON, then eight zero bytes. */
    static from(stream, prelude) {
      stream.setContentType(HTTP_CONTENT_TYPE);
      const text = JSON.stringify(prelude);
      stream._onBeforeFirstWrite = (write) => {
        write(text);
        write(HTTP_PRELUDE_END);
      };
      return stream;
    }
  },
};

export function isStreaming(handler) {
  return handler[STREAMING] === 'response';
}

/** Not strings, arrays and the like: generators and readable streams, which nobody means as JSON. */
export function isPieces(value) {
  return typeof value === 'object' && value !== null && typeof value[Symbol.asyncIterator] === 'function';
}

/** The `responseStream` of a streaming handler. */
export class ResponseStream extends Writable {
  #invocation;
  #contentType = 'application/octet-stream';
  #begun = false;

  constructor(invocation) {
    super();
    this.#invocation = invocation;
  }

  setContentType(contentType) {
    this.#contentType = String(contentType);
  }

  _write(chunk, _encoding, done) {
    this.#begin();
    this.#invocation.piece(chunk, done);
  }

  _final(done) {
    this.#begin();
    done();
  }

  #begin() {
    if (this.#begun) return;
    this.#begun = true;
    this.#invocation.head(this.#contentType);
    this._onBeforeFirstWrite?.((piece) => this.#invocation.piece(Buffer.from(piece)));
  }
}

/** Sends what an async generator or a readable stream yields. */
export async function sendPieces(pieces, invocation) {
  let begun = false;
  for await (const piece of pieces) {
    if (typeof piece !== 'string' && !(piece instanceof Uint8Array)) {
      throw new Fault('Runtime.MarshalError', `A streamed answer is made of strings and bytes, not of ${typeof piece}`);
    }
    if (!begun) {
      begun = true;
      invocation.head(typeof piece === 'string' ? 'text/plain; charset=utf-8' : 'application/octet-stream');
    }
    await new Promise((resolve) => invocation.piece(Buffer.from(piece), resolve));
    if (invocation.cancelled) break; // leaving the loop runs the generator's `finally`
  }
  if (!begun) invocation.head('application/octet-stream');
}
