// awslambda.streamifyResponse as it is used on AWS. See cases.toml.

import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';

const print = (line) => process.stdout.write(`${line}\n`);

export const piped = awslambda.streamifyResponse(async (event, responseStream) => {
  await pipeline(Readable.from(event.pieces), responseStream);
});

export const http = awslambda.streamifyResponse(async (event, responseStream) => {
  const stream = awslambda.HttpResponseStream.from(responseStream, { statusCode: 201, headers: { 'x-made': 'here' } });
  stream.write('body');
  stream.end();
});

export const not_ended = awslambda.streamifyResponse(async (event, responseStream) => {
  responseStream.write('no end');
});

export const fails = awslambda.streamifyResponse(async (event, responseStream) => {
  responseStream.write('first');
  await new Promise((resolve) => setTimeout(resolve, 5));
  throw new RangeError('half way');
});

export const waits = awslambda.streamifyResponse(async (event, responseStream, context) => {
  responseStream.write('first');
  try {
    await pipeline(
      async function* () {
        yield 'second';
        await sleep(60_000, undefined, { signal: context.signal });
      },
      responseStream,
    );
  } finally {
    print('cleaned up');
  }
});

export const readable = async () => Readable.from(['a', 'b']);
