// The life of a worker: HELLO, then a stem worker that answers PING, then INIT, then one invocation after the other.
//
// States: stem --INIT--> loading --ok--> ready --INVOKE--> busy --answer--> ready; loading --failed--> failed. SHUTDOWN
// (not when busy) and the end of the connection end it with status 0, anything unexpected with status 70. What nobody caught
// leads to the end, too: the last answer is on its way then, and nothing more is taken.

import { isUtf8 } from 'node:buffer';
import v8 from 'node:v8';

import { load } from './code.mjs';
import { Context, Settings } from './context.mjs';
import * as faults from './faults.mjs';
import { Invocation } from './invocation.mjs';
import * as layers from './layers.mjs';
import * as lines from './lines.mjs';
import * as options from './options.mjs';
import * as output from './output.mjs';
import { awslambda } from './stream.mjs';
import * as wire from './wire.mjs';

const PROTOCOL = 'hearth-worker/1';
const RUNTIME = 'nodejs20.x';

const STEM = 'before INIT';
const LOADING = 'while loading';
const READY = 'after INIT';
const BUSY = 'during an invocation';
const FAILED = 'after a failed INIT';
const ENDING = 'at the end';

const EXPECTED = {
  [STEM]: 'INIT, PING or SHUTDOWN',
  [LOADING]: 'PING or SHUTDOWN',
  [READY]: 'INVOKE, PING or SHUTDOWN',
  [BUSY]: 'CANCEL',
  [FAILED]: 'PING or SHUTDOWN',
};

export class Worker {
  #connection;
  #state = STEM;
  #settings;
  #handler;
  #invocation;
  #last = 0; // stream of the last invocation
  #traced = false; // the last invocation was part of a trace
  #onDone = () => this.#onInvocationDone();

  constructor(path) {
    globalThis.awslambda = awslambda;
    process.on('beforeExit', () => this.#onEmptyLoop());
    // As on AWS: neither leaves a process that can be trusted with the next invocation.
    process.on('uncaughtException', (error) => this.#fatal('Uncaught Exception', error, 129));
    process.on('unhandledRejection', (reason) => this.#fatal('Unhandled Promise Rejection', rejection(reason), 128));
    this.#connection = new wire.Connection(
      path,
      () => this.#hello(),
      (kind, flags, stream, body) => this.#onFrame(kind, flags, stream, body),
      (error) => this.#breach(error.message),
      (error) => this.#onClose(error),
    );
  }

  #hello() {
    const hello = { protocol: PROTOCOL, runtime: RUNTIME, language: `Node.js ${process.version}`, pid: process.pid };
    this.#connection.send(wire.HELLO, 0, JSON.stringify(hello));
  }

  #onFrame(kind, flags, stream, body) {
    if (this.#state === ENDING) return;
    if (kind === wire.INVOKE && this.#state === READY) {
      this.#invoke(flags, stream, body);
    } else if (kind === wire.CANCEL && stream > 0 && stream <= this.#last) {
      this.#cancel(stream, body);
    } else if (stream !== 0) {
      throw this.#unexpected(`${wire.name(kind)} on stream ${stream}`);
    } else if (kind === wire.PING && this.#state !== BUSY) {
      this.#connection.send(wire.PONG, 0, body);
    } else if (kind === wire.SHUTDOWN && this.#state !== BUSY) {
      process.exit(0);
    } else if (kind === wire.INIT && this.#state === STEM) {
      this.#init(body);
    } else {
      throw this.#unexpected(wire.name(kind));
    }
  }

  #unexpected(got) {
    return new wire.ProtocolError(`expected ${EXPECTED[this.#state]} ${this.#state}, got ${got}`);
  }

  async #init(body) {
    const begun = process.hrtime.bigint();
    let settings;
    try {
      settings = new Settings(JSON.parse(body.toString()));
    } catch (error) {
      this.#breach(`expected an INIT with every setting, got one where ${error.message}`);
    }
    this.#settings = settings;
    this.#state = LOADING;
    try {
      v8.setFlagsFromString(`--heap-growing-percent=${heapGrowth(Number(settings.memory))}`);
      applyEnvironment(settings);
      lines.prepare();
      layers.use();
      process.chdir(settings.root);
      if (process.env.NODE_OPTIONS) await options.use(process.env.NODE_OPTIONS, settings.root);
      this.#handler = await load(settings.handler, settings.root, Boolean(process.env.NODE_OPTIONS));
    } catch (error) {
      this.#initError('Uncaught Exception', error);
      return;
    }
    this.#state = READY;
    const applied = {
      handler: settings.handler,
      function_name: settings.name,
      function_version: settings.version,
      memory_mb: Number(settings.memory),
      timeout_ms: settings.timeout,
      environment_count: Object.keys(settings.environment).length,
      init_us: Number((process.hrtime.bigint() - begun) / 1000n),
    };
    this.#connection.send(wire.READY, 0, JSON.stringify(applied));
  }

  #initError(what, error, sent = undefined) {
    const fault = faults.describe(error);
    lines.failed(what, fault, error);
    this.#state = FAILED;
    this.#connection.send(wire.INIT_ERROR, 0, faults.encode(fault), 0, sent);
  }

  #invoke(flags, stream, body) {
    if (stream <= this.#last) {
      throw new wire.ProtocolError(`expected INVOKE on a stream after ${this.#last}, got stream ${stream}`);
    }
    const { deadline, requestId, extra, payload } = parseInvoke(body);
    this.#last = stream;
    this.#state = BUSY;
    lines.belongTo(requestId);
    const invocation = new Invocation(this.#connection, stream, this.#onDone);
    this.#invocation = invocation;
    if (extra?.trace_id) {
      process.env._X_AMZN_TRACE_ID = extra.trace_id;
      this.#traced = true;
    } else if (this.#traced) {
      delete process.env._X_AMZN_TRACE_ID;
      this.#traced = false;
    }
    let event;
    if ((flags & wire.RAW) !== 0) {
      event = Buffer.from(payload);
    } else if (payload.length === 0) {
      event = {};
    } else {
      try {
        if (!isUtf8(payload)) throw new SyntaxError('invalid UTF-8');
        event = JSON.parse(payload.utf8Slice());
      } catch (error) {
        invocation.failAs(
          'Runtime.InvalidPayload',
          `Could not parse payload into json: ${error.message}`,
          wire.BAD_REQUEST,
        );
        return;
      }
    }
    // While it runs, the connection alone is no reason to go on: see #onEmptyLoop.
    this.#connection.hold(false);
    invocation.run(this.#handler, event, new Context(this.#settings, requestId, deadline, extra, invocation));
  }

  #onInvocationDone() {
    this.#invocation = undefined;
    this.#state = READY;
    this.#connection.hold(true);
  }

  #cancel(stream, body) {
    if (this.#invocation === undefined || stream !== this.#last) return; // it has just ended
    let reason = 'unknown';
    try {
      reason = JSON.parse(body.toString()).reason;
    } catch {
      // Why it is cancelled is only for the message.
    }
    this.#invocation.cancel(reason);
  }

  #onEmptyLoop() {
    this.#connection.hold(true);
    this.#invocation?.idle();
  }

  #onClose(error) {
    if (error !== undefined && this.#state === STEM && this.#last === 0 && error.syscall === 'connect') {
      output.say(`hearth shim: cannot connect: ${error.message}`);
      process.exit(1);
    }
    // Hearth is gone, and with it whoever could be answered.
    process.exit(0);
  }

  #breach(complaint) {
    output.say(`hearth shim: ${complaint}`);
    process.exit(70);
  }

  #fatal(what, error, status) {
    const exit = () => process.exit(status);
    if (this.#invocation !== undefined) {
      this.#invocation.failLast(what, error, exit);
      this.#state = ENDING;
    } else if (this.#state === LOADING) {
      this.#initError(what, error, exit);
      this.#state = ENDING;
    } else {
      lines.failed(what, faults.describe(error), error);
      exit();
    }
  }
}

/**
 * How many percent the heap may grow before it is collected. V8 goes by a limit that is fixed when the process starts, before anybody
 * knows the function's memory; left alone it lets a small heap quadruple, and the kernel kills a worker of 128 MB that has
 * 30 MB in use. 0 leaves it alone.
 */
function heapGrowth(memoryMb) {
  return memoryMb >= 2048 ? 0 : Math.max(Math.round(memoryMb / 10), 20);
}

function rejection(reason) {
  const fault = new faults.Fault('Runtime.UnhandledPromiseRejection', String(reason), reason);
  return Object.assign(fault, { reason, promise: {} });
}

/** What AWS's runtimes set, the function's own variables, then the ones AWS reserves. */
function applyEnvironment(settings) {
  const defaults = {
    AWS_REGION: settings.region,
    AWS_DEFAULT_REGION: settings.region,
    // Without it the tracing library throws where there is no trace.
    AWS_XRAY_CONTEXT_MISSING: 'LOG_ERROR',
    LAMBDA_RUNTIME_DIR: '/var/runtime',
    NODE_PATH: layers.modulePath(settings.root),
    PATH: `${process.env.PATH}:${layers.ROOT}/bin`,
  };
  Object.assign(process.env, defaults, settings.environment, {
    AWS_LAMBDA_FUNCTION_NAME: settings.name,
    AWS_LAMBDA_FUNCTION_VERSION: settings.version,
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE: settings.memory,
    AWS_LAMBDA_LOG_GROUP_NAME: settings.logGroup,
    AWS_LAMBDA_LOG_STREAM_NAME: settings.logStream,
    AWS_EXECUTION_ENV: `AWS_Lambda_${RUNTIME}`,
    AWS_LAMBDA_INITIALIZATION_TYPE: settings.initialization,
    LAMBDA_TASK_ROOT: settings.root,
    _HANDLER: settings.handler,
  });
}

function parseInvoke(body) {
  try {
    const deadline = Number(body.readBigUInt64BE(0));
    const idEnd = 9 + body[8];
    const extraLength = body.readUInt16BE(idEnd);
    const extraEnd = idEnd + 2 + extraLength;
    if (extraEnd > body.length) throw new RangeError('the body ends inside the extra context');
    return {
      deadline,
      requestId: body.latin1Slice(9, idEnd),
      extra: extraLength === 0 ? undefined : JSON.parse(body.utf8Slice(idEnd + 2, extraEnd)),
      payload: body.subarray(extraEnd),
    };
  } catch (error) {
    throw new wire.ProtocolError(`expected a whole INVOKE, got one where ${error.message}`);
  }
}
