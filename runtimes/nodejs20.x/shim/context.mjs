// The `context` a handler is given: AWS's fields and methods, plus `signal`, an AbortSignal that says nobody waits any more, and the
// call's place in its trace as the W3C writes it.

/** What INIT said about the function: the same for every invocation of this worker. */
export class Settings {
  constructor(init) {
    this.name = text(init, 'function_name');
    this.version = text(init, 'function_version');
    this.memory = String(number(init, 'memory_mb'));
    this.logGroup = text(init, 'log_group');
    this.logStream = text(init, 'log_stream');
    this.arn = text(init, 'function_arn');
    this.region = this.arn.split(':')[3];
    if (!this.region) throw new TypeError('function_arn names no region');
    this.initialization = init.initialization_type ?? 'on-demand';
    this.handler = text(init, 'handler');
    this.root = text(init, 'task_root');
    this.timeout = number(init, 'timeout_ms');
    if (typeof init.environment !== 'object' || init.environment === null) throw new TypeError('environment is not an object');
    this.environment = init.environment;
  }
}

function text(init, key) {
  if (typeof init[key] !== 'string') throw new TypeError(`${key} is not a string`);
  return init[key];
}

function number(init, key) {
  if (typeof init[key] !== 'number') throw new TypeError(`${key} is not a number`);
  return init[key];
}

/** Made for every invocation, so it only stores what it is given. */
export class Context {
  #invocation;
  #deadline;

  constructor(settings, requestId, deadline, extra, invocation) {
    this.#invocation = invocation;
    this.#deadline = deadline;
    this.callbackWaitsForEmptyEventLoop = true;
    this.functionVersion = settings.version;
    this.functionName = settings.name;
    this.memoryLimitInMB = settings.memory;
    this.logGroupName = settings.logGroup;
    this.logStreamName = settings.logStream;
    this.clientContext = extra?.client_context;
    this.identity = extra?.identity;
    this.traceparent = extra?.traceparent;
    this.tracestate = extra?.tracestate;
    this.invokedFunctionArn = extra?.invoked_function_arn ?? settings.arn;
    this.awsRequestId = requestId;
  }

  getRemainingTimeInMillis() {
    return Math.max(this.#deadline - Date.now(), 0);
  }

  get signal() {
    return this.#invocation.signal();
  }

  done(error, value) {
    this.#invocation.done(error, value);
  }

  succeed(value) {
    this.#invocation.done(null, value);
  }

  fail(error) {
    this.#invocation.done(error ?? 'handled');
  }
}
