// What went wrong, as the JSON of ERROR and INIT_ERROR frames. Cuts the shim's own frames off a stack and what is too long.

import path from 'node:path';
import util from 'node:util';
import { fileURLToPath } from 'node:url';

import { SMALL_BODY_MAX } from './wire.mjs';

const OWN_FOLDER = path.dirname(fileURLToPath(import.meta.url)) + path.sep;

/** Something the shim itself found wrong, under a name of the protocol's. */
export class Fault extends Error {
  constructor(kind, message, cause = undefined) {
    super(message, { cause });
    // Not among what it has besides, which the log shows.
    Object.defineProperty(this, 'name', { value: kind });
    this.stack = cause?.stack ?? '';
  }
}

/** Whatever was thrown, as AWS describes it: `{ errorType, errorMessage, stackTrace }`. */
export function describe(thrown) {
  try {
    if (util.types.isNativeError(thrown) || thrown instanceof Error || looksLikeOne(thrown)) {
      return {
        errorType: String(thrown.name),
        errorMessage: String(thrown.message),
        stackTrace: stackOf(thrown),
      };
    }
    return { errorType: typeof thrown, errorMessage: String(thrown), stackTrace: [] };
  } catch {
    return { errorType: typeof thrown, errorMessage: 'something that cannot be printed', stackTrace: [] };
  }
}

function looksLikeOne(thrown) {
  return ['name', 'message', 'stack'].every((key) => typeof thrown?.[key] === 'string' && thrown[key] !== '');
}

function stackOf(error) {
  const lines = String(error.stack ?? '').split('\n');
  return lines.filter((line) => line !== '' && !line.includes(OWN_FOLDER));
}

/** The body of an ERROR frame, never longer than the protocol allows: the middle of a long stack goes first. */
export function encode(fault) {
  let { errorType, errorMessage, stackTrace } = fault;
  let body = json({ errorType, errorMessage, stackTrace });
  for (let clip = 16 * 1024, keep = 64; Buffer.byteLength(body) > SMALL_BODY_MAX; clip >>= 1) {
    if (stackTrace.length > keep) {
      stackTrace = [...stackTrace.slice(0, keep / 2), '    ...', ...stackTrace.slice(-keep / 2)];
    }
    stackTrace = stackTrace.map((line) => line.slice(0, clip));
    errorType = errorType.slice(0, 256);
    errorMessage = errorMessage.slice(0, clip);
    body = json({ errorType, errorMessage, stackTrace });
    keep = Math.max(keep >> 1, 2);
  }
  return body;
}

// Half a surrogate pair, perhaps left by the cut, has no place in JSON that others read.
function json({ errorType, errorMessage, stackTrace }) {
  return JSON.stringify({
    errorType: errorType.toWellFormed(),
    errorMessage: errorMessage.toWellFormed(),
    stackTrace: stackTrace.map((line) => line.toWellFormed()),
  });
}
