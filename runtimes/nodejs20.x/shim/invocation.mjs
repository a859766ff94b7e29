// One invocation: calls the handler in whichever of AWS's styles it is written, and turns what comes back into frames.
// It answers once; whatever the function says later is not sent.

import * as faults from './faults.mjs';
import * as lines from './lines.mjs';
import * as stream from './stream.mjs';
import * as wire from './wire.mjs';

const ANSWER_MAX = 6 * 1024 * 1024 + 100;

export class Invocation {
  #connection;
  #stream;
  #onDone;
  #context;
  #controller; // made when the function asks for `context.signal`
  #responseStream; // of a streaming handler
  #pieces; // what a handler that yields its answer returned
  #whenIdle; // what to do once the function has nothing left to do
  #ended = false;
  cancelled = false;

  constructor(connection, streamId, onDone) {
    this.#connection = connection;
    this.#stream = streamId;
    this.#onDone = onDone;
  }

  run(handler, event, context) {
    this.#context = context;
    if (stream.isStreaming(handler)) {
      this.#runStreaming(handler, event, context);
      return;
    }
    let result;
    try {
      result = handler(event, context, (error, value) => this.#callback(error, value));
    } catch (error) {
      this.fail(error);
      return;
    }
    if (this.#ended) return;
    if (typeof result?.then === 'function') {
      // A promise that can never settle, because nothing is left to settle it, is answered with null.
      this.#whenIdle ??= () => this.#answerIdle(null);
      result.then(
        (value) => this.#settle(value),
        (error) => this.fail(error ?? 'handled'), // AWS's word for nothing
      );
    } else if (stream.isPieces(result)) {
      this.#settle(result);
    } else {
      // AWS ignores what a handler returns directly and waits for its callback; without one it answers null when nothing is
      // left to do. Then the value is what was meant.
      this.#whenIdle ??= () => this.#answerIdle(result);
    }
  }

  /** The event loop ran empty: nothing the function started is left. */
  idle() {
    if (!this.#ended) this.#whenIdle?.();
  }

  /** A function that listens to its signal waits for us, so it is not idle. */
  #answerIdle(value) {
    if (this.#controller === undefined) this.#answer(value);
  }

  cancel(reason) {
    if (this.#ended || this.cancelled) return;
    this.cancelled = true;
    const error = new Error(`The invocation was cancelled: ${reason}`);
    error.name = 'AbortError';
    this.#controller?.abort(error);
    this.#responseStream?.destroy(error);
    this.#stopPieces(error);
  }

  #stopPieces(error) {
    if (typeof this.#pieces?.destroy === 'function') this.#pieces.destroy(error);
    // A generator is stopped where it yields; what its `finally` throws has nobody to go to.
    else this.#pieces?.return?.().catch?.(() => {});
  }

  signal() {
    this.#controller ??= new AbortController();
    return this.#controller.signal;
  }

  #callback(error, value) {
    if (error !== undefined && error !== null) {
      this.fail(error);
    } else if (this.#context.callbackWaitsForEmptyEventLoop) {
      this.#whenIdle = () => this.#answer(value);
      this.#connection.hold(false);
    } else {
      this.#answer(value);
    }
  }

  /** `context.done`, `.succeed` and `.fail`: at once, whatever else goes on. */
  done(error, value) {
    if (error !== undefined && error !== null) this.fail(error);
    else this.#answer(value);
  }

  #settle(value) {
    if (stream.isPieces(value)) {
      this.#pieces = value;
      stream.sendPieces(value, this).then(
        () => this.#endStream(),
        (error) => this.fail(error),
      );
    } else {
      this.#answer(value);
    }
  }

  #answer(value) {
    if (this.#ended) return;
    if (value instanceof Uint8Array) {
      this.#sendAnswer(value, value.length, wire.RAW);
      return;
    }
    let text;
    try {
      text = JSON.stringify(value) ?? 'null';
    } catch (error) {
      this.failAs('Runtime.MarshalError', `Unable to stringify response body: ${error?.message ?? error}`);
      return;
    }
    this.#sendAnswer(text, Buffer.byteLength(text), 0);
  }

  #sendAnswer(body, length, flags) {
    if (length > ANSWER_MAX) {
      const text = `Response payload size exceeded maximum allowed payload size (${ANSWER_MAX} bytes).`;
      this.failAs('Function.ResponseSizeTooLarge', text);
      return;
    }
    this.#ended = true;
    this.#connection.send(wire.RESPONSE_END, this.#stream, body, flags);
    this.#onDone();
  }

  /** Ends it with whatever was thrown. */
  fail(thrown) {
    const fault = faults.describe(thrown);
    if (this.cancelled) fault.errorType = 'Runtime.Cancelled';
    this.#fail('Invoke Error', fault, 0, thrown);
  }

  /** Ends it with what nobody caught: the process ends, too, as soon as this is `sent`. */
  failLast(what, thrown, sent) {
    this.#fail(what, faults.describe(thrown), wire.LAST, thrown, sent);
  }

  /** Ends it with something the shim found. */
  failAs(errorType, errorMessage, flags = 0) {
    this.#fail('Invoke Error', { errorType, errorMessage, stackTrace: [] }, flags);
  }

  #fail(what, fault, flags, thrown = undefined, sent = undefined) {
    if (this.#ended) return;
    this.#ended = true;
    lines.failed(what, fault, thrown);
    this.#connection.send(wire.ERROR, this.#stream, faults.encode(fault), flags, sent);
    this.#onDone();
  }

  // The streaming answer.

  async #runStreaming(handler, event, context) {
    const answer = new stream.ResponseStream(this);
    this.#responseStream = answer;
    const finished = new Promise((resolve, reject) => {
      answer.once('finish', resolve);
      answer.once('error', reject);
      answer.once('close', resolve);
    });
    // A handler that is done may have left a pipeline running, so its stream is not ended for it. Who forgets to end it is
    // answered when nothing is left to do.
    this.#whenIdle = () => {
      answer.end();
      finished.then(
        () => this.#endStream(),
        (error) => this.fail(error),
      );
    };
    const handled = (async () => handler(event, answer, context))();
    try {
      await Promise.all([handled, finished]);
      this.#endStream();
    } catch (error) {
      // Its stream broke at once; it cleans up for as long as Hearth lets it.
      if (this.cancelled) await handled.catch(() => {});
      this.fail(error);
    }
  }

  head(contentType) {
    if (this.#ended) return;
    this.#connection.send(wire.RESPONSE_HEAD, this.#stream, JSON.stringify({ content_type: contentType }));
  }

  /** `sent` is called when there is room for more. */
  piece(bytes, sent = undefined) {
    if (this.#ended || bytes.length === 0) {
      sent?.();
      return;
    }
    for (let at = 0; at < bytes.length; at += wire.CHUNK_MAX) {
      const last = at + wire.CHUNK_MAX >= bytes.length;
      const part = bytes.subarray(at, at + wire.CHUNK_MAX);
      this.#connection.send(wire.RESPONSE_CHUNK, this.#stream, part, 0, last && sent ? () => sent() : undefined);
    }
  }

  #endStream() {
    if (this.#ended) return;
    if (this.cancelled) {
      this.failAs('Runtime.Cancelled', 'The invocation was cancelled');
      return;
    }
    this.#ended = true;
    this.#connection.send(wire.RESPONSE_END, this.#stream, '');
    this.#onDone();
  }
}
