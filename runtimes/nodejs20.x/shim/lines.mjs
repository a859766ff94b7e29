// `console` as AWS's runtimes have it: what is said becomes one line, with the time, the call's request id and the level before it. What a
// call, or the loading of the code, failed of is told in the same form.

import util from 'node:util';

import * as output from './output.mjs';

// Where AWS's runtimes keep it, and libraries look. As there, it is not set while the code is loaded.
const REQUEST_ID = Symbol.for('aws.lambda.runtime.requestId');
const LEVELS = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];

let line = textLine;

/** Whose lines follow. */
export function belongTo(requestId) {
  globalThis[REQUEST_ID] = requestId;
}

/** Once the environment is known, which says, as on AWS, whether lines are JSON and below which level nothing is written. */
export function prepare() {
  line = process.env.AWS_LAMBDA_LOG_FORMAT?.toUpperCase() === 'JSON' ? jsonLine : textLine;
  const lowest = LEVELS.indexOf(process.env.AWS_LAMBDA_LOG_LEVEL?.toUpperCase());
  LEVELS.forEach((level, at) => {
    // The first has a name of its own: on AWS, to say nothing is to say `undefined`.
    const write = (said, ...more) => {
      process.stdout.write(`${line(level, said, more)}\n`);
    };
    console[level.toLowerCase()] = at < lowest ? () => {} : write;
  });
  console.log = console.info;
}

/** That something failed, past whatever the function did to `console`; `thrown` is what was thrown, if something was. */
export function failed(what, fault, thrown = undefined) {
  let text;
  try {
    text = failure(what, fault, thrown);
  } catch {
    // What was thrown cannot be looked at.
    text = line('ERROR', what, [fault.errorMessage]);
  }
  output.say(text);
}

function failure(what, { errorType, errorMessage, stackTrace }, thrown) {
  const own = thrown instanceof Error ? { code: thrown.code, ...thrown } : undefined;
  const fault = { errorType, errorMessage, ...own };
  // AWS makes an error of whatever else is thrown.
  if (thrown !== undefined && own === undefined) fault.errorType = 'Error';
  if (line === jsonLine) return line('ERROR', { ...fault, stackTrace }, []);
  const detail = whole({ ...fault, stack: stackTrace }, 'stack') ?? JSON.stringify({ errorType, errorMessage, trace: stackTrace });
  return line('ERROR', what, [`\t${detail}`]);
}

function textLine(level, said, more) {
  return `${new Date().toISOString()}\t${globalThis[REQUEST_ID]}\t${level}\t${util.format(said, ...more)}`;
}

function jsonLine(level, said, more) {
  const record = { timestamp: new Date().toISOString(), level, requestId: globalThis[REQUEST_ID] };
  if (more.length === 0) return whole({ ...record, message: said }, 'stackTrace') ?? JSON.stringify({ ...record, message: util.format(said) });
  const error = [said, ...more].find((one) => one instanceof Error);
  const message = util.format(said, ...more);
  return whole({ ...record, message, ...(error && described(error, 'stackTrace')) }, 'stackTrace') ?? JSON.stringify({ ...record, message });
}

/** With every error in it; nothing if it cannot be written, because it contains itself. */
function whole(value, stack) {
  try {
    return JSON.stringify(value, (_, inner) => (inner instanceof Error ? { ...described(inner, stack), ...inner } : inner));
  } catch {
    return undefined;
  }
}

function described(error, stack) {
  return {
    errorType: error.constructor?.name ?? 'UnknownError',
    errorMessage: error.message,
    [stack]: typeof error.stack === 'string' ? error.stack.split('\n') : [],
  };
}
