// The contract's handlers in JavaScript; what each must do is written in runtimes/_contract/README.md.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

let calls = 0;

// `console` has a form of its own: see cases.toml.
const print = (line) => process.stdout.write(`${line}\n`);

class ContractError extends Error {
  name = 'ContractError';
}

export const echo = async (event) => event;

export const echo_async = async (event) => {
  await sleep(1);
  return event;
};

export const fails = async (event) => innerFailure(event);

function innerFailure(event) {
  throw new ContractError(`no such thing: ${event.thing}`);
}

export const fails_async = async (event) => {
  await sleep(1);
  innerFailure(event);
};

export const fails_at_length = async () => {
  throw new ContractError('long '.repeat(100_000));
};

export const prints = async () => {
  print('one');
  process.stderr.write('two\n');
  process.stdout.write('three: žluťoučký kůň 🐎\n');
  process.stdout.write('four, not ended');
  return 'printed';
};

export const prints_later = async () => {
  setTimeout(() => print('later'), 200);
  print('now');
  return 'answered';
};

export const prints_much = async (event) => {
  for (let number = 0; number < event.lines; number += 1) {
    print(`line ${String(number).padStart(6, '0')} ${'x'.repeat(100)}`);
  }
  return 'printed';
};

export const prints_natively = async () => {
  print('before');
  fs.writeSync(1, 'native stdout\n');
  fs.writeSync(2, 'native stderr\n');
  spawnSync('/bin/echo', ['child'], { stdio: 'inherit' });
  print('after');
  return 'printed';
};

export const loses_output = async () => {
  fs.closeSync(1);
  fs.closeSync(2);
  print('into nothing');
  return 'still here';
};

export const sleeps = async (event, context) => {
  const before = context.getRemainingTimeInMillis();
  await sleep(event.ms);
  return { before, after: context.getRemainingTimeInMillis() };
};

export const answers_bytes = async (event) => Uint8Array.from(event.values);

export const reverses_bytes = async (event) => {
  assert(Buffer.isBuffer(event));
  return Buffer.from(event).reverse();
};

export const answers_size = async (event) => 'x'.repeat(event.bytes - 2);

export const answers_nothing = async () => {};

export const answers_not_json = async () => ({ not: 1n });

export const environment = async (event) =>
  Object.fromEntries(event.names.map((name) => [name, process.env[name] ?? null]));

export const counts = async () => {
  calls += 1;
  return calls;
};

export const counts_async = async () => {
  await sleep(1);
  calls += 1;
  return { calls, same_loop: true };
};

export const describes_context = async (event, context) => ({
  request_id: context.awsRequestId,
  function_name: context.functionName,
  function_version: context.functionVersion,
  memory_mb: context.memoryLimitInMB,
  log_group: context.logGroupName,
  log_stream: context.logStreamName,
  function_arn: context.invokedFunctionArn,
  identity: context.identity?.cognitoIdentityId ?? null,
  client_custom: context.clientContext?.custom ?? null,
  trace_id: process.env._X_AMZN_TRACE_ID ?? null,
  traceparent: context.traceparent ?? null,
  tracestate: context.tracestate ?? null,
  in_task_root: fs.realpathSync(process.cwd()) === fs.realpathSync(process.env.LAMBDA_TASK_ROOT),
});

export const sockets_of_child = async () => {
  const listing = execFileSync('/bin/sh', ['-c', 'exec </dev/null 2>/dev/null; ls -l /proc/self/fd'], {
    stdio: ['ignore', 'pipe', 'ignore'],
    encoding: 'utf8',
  });
  // The pipe Node reads a program's stdout through is a socket pair: one of it is the program's own.
  return (listing.match(/socket:/g)?.length ?? 0) - 1;
};

export const exits = async (event) => {
  print('about to exit');
  process.exit(event.status);
};

export const crashes = async () => {
  print('about to crash');
  process.abort();
};

export const exhausts_memory = async () => {
  print('about to run out of memory');
  const kept = [];
  for (;;) kept.push(Buffer.alloc(1 << 20, 'x'));
};

export const waits = async (event, context) => {
  print('running');
  try {
    await sleep(60_000, undefined, { signal: context.signal });
    return 'not told';
  } finally {
    print('cleaned up');
  }
};

export const waits_async = waits;

export async function* streams(event) {
  for (const piece of event.pieces) {
    print(`sending ${piece}`);
    yield piece;
  }
}

export async function* streams_async(event) {
  for (const piece of event.pieces) {
    await sleep(1);
    yield piece;
  }
}

export const streams_typed = awslambda.streamifyResponse(async (event, responseStream) => {
  responseStream.setContentType('text/event-stream');
  responseStream.write('data: 1\n\n');
  responseStream.end();
});

export async function* streams_size(event) {
  yield Buffer.alloc(event.bytes, 'x');
}

export async function* streams_nothing() {}

export async function* streams_then_fails(event) {
  yield 'first';
  innerFailure(event);
}

export async function* streams_then_waits(event, context) {
  try {
    yield 'first';
    await sleep(60_000, undefined, { signal: context.signal });
    yield 'not told';
  } finally {
    print('cleaned up');
  }
}

export const streams_then_waits_async = streams_then_waits;
