// Every other way to write a handler that AWS knows. See cases.toml.

const { Readable } = require('node:stream');
const { pipeline } = require('node:stream/promises');

const print = (line) => process.stdout.write(`${line}\n`);

exports.by_callback = (event, context, callback) => {
  setTimeout(() => print('the loop is empty now'), 50);
  callback(null, 'by callback');
};

exports.by_callback_at_once = (event, context, callback) => {
  context.callbackWaitsForEmptyEventLoop = false;
  setInterval(() => {}, 1000);
  callback(null, 'at once');
};

exports.by_callback_error = (event, context, callback) => callback(new RangeError('out of range'));

exports.by_callback_text = (event, context, callback) => callback('only text');

exports.by_succeed = (event, context) => {
  setTimeout(() => context.succeed({ by: 'succeed' }), 1);
};

exports.by_done = (event, context) => context.done(null, 'by done');

exports.by_fail = (event, context) => context.fail(new Error('by fail'));

exports.returns_directly = (event) => ({ got: event });

exports.throws_directly = () => {
  throw new TypeError('thrown directly');
};

exports.throws_text = async () => {
  throw 'only text';
};

exports.never_settles = () => new Promise(() => {});

exports.promise = (event) => Promise.resolve({ then: undefined, event });

exports.deep = { inside: { handler: async () => 'deep inside' } };

exports.uncaught = () =>
  new Promise(() => {
    setTimeout(() => {
      throw new RangeError('nobody catches this');
    }, 1);
  });

exports.unhandled = async () => {
  Promise.reject(new RangeError('nobody handles this'));
  await new Promise((resolve) => setTimeout(resolve, 5000));
};

exports.keeps_own_listener = async (event, context) => {
  print('listening');
  return new Promise((resolve, reject) => {
    context.signal.addEventListener('abort', () => {
      print(`told: ${context.signal.reason.message}`);
      reject(context.signal.reason);
    });
  });
};

exports.spins = () => {
  print('spinning');
  const end = Date.now() + 300;
  while (Date.now() < end);
  return 'done spinning';
};

exports.pipes_into_stdout = async () => {
  await pipeline(Readable.from(['piped\n']), process.stdout);
  print('after');
  return 'piped';
};

exports.uncaught_later = async () => {
  setTimeout(() => {
    throw new RangeError('too late for an answer');
  }, 50);
  return 'answered';
};

const cyclic = {};
cyclic.self = cyclic;

exports.consoles = async () => {
  console.log('log %s', 'formatted', { a: 1 });
  console.info('two\nlines');
  console.debug();
  console.trace('no stack');
  console.warn(new RangeError('an error').message);
  console.error('worse');
  console.fatal('worst');
  console.table([[1]]);
  return globalThis[Symbol.for('aws.lambda.runtime.requestId')];
};

exports.consoles_of_json = async () => {
  console.log('text');
  console.info({ a: 1 });
  console.warn('two', 'parts');
  console.error('with', Object.assign(new RangeError('an error'), { code: 7 }));
  console.error(Object.assign(new RangeError('alone'), { code: 7 }));
  console.fatal(cyclic);
};

exports.throws_odd = async (event) => {
  if (event === 'nothing') throw undefined;
  if (event === 'alike') throw { name: 'Alike', message: 'not one', stack: 'Alike: not one\n    at somewhere' };
  if (event === 'cyclic') throw Object.assign(new Error('around'), { cyclic });
  if (event === 'hostile') throw Object.defineProperty(new Error('hostile'), 'code', { get: () => { throw 1; } });
  throw Object.assign(new Error('outer', { cause: new Error('inner') }), { code: 'EODD', inner: new TypeError('kept') });
};
