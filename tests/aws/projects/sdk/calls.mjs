// What users of AWS's SDK for JavaScript do with it, its own classes, waiters and pages. The function's zip is the first argument.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';

import * as sdk from '@aws-sdk/client-lambda';

const client = new sdk.LambdaClient({ maxAttempts: 2 });
const lambda = new sdk.Lambda({ maxAttempts: 2 });
const [, , zip, FunctionName, Role] = process.argv;
const code = () => ({ ZipFile: readFileSync(zip) });
const settings = { FunctionName, Role, Runtime: 'nodejs20.x', Handler: 'index.handler', Timeout: 10 };

async function all(pages, key) {
  const items = [];
  for await (const page of pages) items.push(...page[key]);
  return items;
}

async function streamed(event) {
  const answer = await lambda.invokeWithResponseStream({
    FunctionName, Qualifier: 'stream', LogType: 'Tail', Payload: JSON.stringify(event),
  });
  let text = '';
  let end;
  for await (const { PayloadChunk, InvokeComplete } of answer.EventStream) {
    if (PayloadChunk) text += Buffer.from(PayloadChunk.Payload).toString();
    end ??= InvokeComplete;
  }
  return { text, end };
}

before(async () => {
  const made = await lambda.createFunction({ ...settings, Code: code(), Publish: true });
  assert.deepEqual([made.$metadata.httpStatusCode, made.State, made.Version], [201, 'Pending', '1']);
  for (const wait of [sdk.waitUntilFunctionActiveV2, sdk.waitUntilFunctionExists, sdk.waitUntilPublishedVersionActive]) {
    const { state } = await wait({ client, maxWaitTime: 30 }, { FunctionName, Qualifier: '1' });
    assert.equal(state, 'SUCCESS');
  }
  await lambda.updateFunctionConfiguration({ FunctionName, Handler: 'index.stream' });
  await sdk.waitUntilFunctionUpdatedV2({ client, maxWaitTime: 30 }, { FunctionName });
  const { Version } = await lambda.publishVersion({ FunctionName });
  await lambda.createAlias({ FunctionName, Name: 'live', FunctionVersion: '1' });
  await lambda.createAlias({ FunctionName, Name: 'stream', FunctionVersion: Version });
});

after(async () => {
  await lambda.deleteFunction({ FunctionName });
  await assert.rejects(lambda.getFunction({ FunctionName }), sdk.ResourceNotFoundException);
});

test('a call, its log and its context', async () => {
  const ClientContext = Buffer.from('{"custom":{"n":1}}').toString('base64');
  const answer = await lambda.invoke({
    FunctionName, Qualifier: 'live', LogType: 'Tail', ClientContext, Payload: JSON.stringify({ a: 'é' }),
  });
  const body = JSON.parse(answer.Payload.transformToString());
  assert.deepEqual([body.event, body.context], [{ a: 'é' }, { custom: { n: 1 } }]);
  assert.deepEqual([answer.StatusCode, answer.ExecutedVersion, answer.FunctionError], [200, '1', undefined]);
  assert.equal(body.id, answer.$metadata.requestId);
  assert.match(Buffer.from(answer.LogResult, 'base64').toString(), /seen/);
});

test('the other kinds of calls', async () => {
  for (const [InvocationType, status] of [['Event', 202], ['DryRun', 204]]) {
    assert.equal((await lambda.invoke({ FunctionName, Qualifier: 'live', InvocationType })).StatusCode, status);
  }
  assert.equal((await lambda.invokeAsync({ FunctionName: `${FunctionName}:live`, InvokeArgs: '{}' })).Status, 202);
});

test('an error of the function', async () => {
  const answer = await lambda.invoke({ FunctionName, Qualifier: 'live', Payload: '{"fail":"so"}' });
  assert.equal(answer.FunctionError, 'Unhandled');
  const { errorType, errorMessage } = JSON.parse(answer.Payload.transformToString());
  assert.deepEqual([errorType, errorMessage], ['TypeError', 'so']);
});

test('a stream and one that breaks', async () => {
  const whole = await streamed({ pieces: ['one ', 'two'] });
  assert.deepEqual([whole.text, whole.end.ErrorCode], ['one two', undefined]);
  assert.match(Buffer.from(whole.end.LogResult, 'base64').toString(), /REPORT RequestId/);
  const broken = await streamed({ pieces: ['one ', 2] });
  assert.deepEqual([broken.text, broken.end.ErrorCode], ['one ', 'Unhandled']);
});

test('errors have classes of their own', async () => {
  const nobody = { FunctionName: 'nobody' };
  for (const [kind, status, command] of [
    [sdk.ResourceNotFoundException, 404, new sdk.InvokeCommand(nobody)],
    [sdk.ResourceNotFoundException, 404, new sdk.GetFunctionCommand(nobody)],
    [sdk.ResourceConflictException, 409, new sdk.CreateFunctionCommand({ ...settings, Code: code() })],
    [sdk.InvalidParameterValueException, 400, new sdk.UpdateFunctionConfigurationCommand({ FunctionName, Runtime: 'cobol' })],
    [sdk.PreconditionFailedException, 412, new sdk.UpdateFunctionConfigurationCommand({ FunctionName, RevisionId: 'x' })],
    [sdk.InvalidRequestContentException, 400, new sdk.InvokeCommand({ FunctionName, Payload: '{' })],
    [sdk.ProvisionedConcurrencyConfigNotFoundException, 404,
      new sdk.GetProvisionedConcurrencyConfigCommand({ FunctionName, Qualifier: 'live' })],
  ]) {
    await assert.rejects(client.send(command), (error) => {
      assert.ok(error instanceof kind, `${error.name}: ${error.message}`);
      assert.deepEqual([error.$metadata.httpStatusCode, error.Type, error.$fault], [status, 'User', 'client']);
      return error.message !== '' && error.$metadata.attempts === 1;
    });
  }
  for (const [name, status, attempts, command] of [
    ['ValidationException', 400, 1, new sdk.UpdateFunctionConfigurationCommand({ FunctionName, MemorySize: 1 })],
    ['NotImplementedException', 501, 1, new sdk.GetFunctionScalingConfigCommand({ FunctionName, Qualifier: '1' })],
  ]) {
    await assert.rejects(client.send(command), (error) => {
      assert.deepEqual([error.name, error.$metadata.httpStatusCode, error.$metadata.attempts], [name, status, attempts]);
      return error instanceof sdk.LambdaServiceException;
    });
  }
});

test('who is throttled tries again', async () => {
  await lambda.putFunctionConcurrency({ FunctionName, ReservedConcurrentExecutions: 0 });
  await assert.rejects(lambda.invoke({ FunctionName }), (error) => {
    assert.ok(error instanceof sdk.TooManyRequestsException);
    assert.equal(error.Reason, 'ReservedFunctionConcurrentInvocationLimitExceeded');
    return error.$metadata.attempts === 2;
  });
  await lambda.deleteFunctionConcurrency({ FunctionName });
});

test('lists come in pages', async () => {
  const paginate = { client, pageSize: 1 };
  const versions = await all(sdk.paginateListVersionsByFunction(paginate, { FunctionName }), 'Versions');
  assert.deepEqual(versions.map((v) => v.Version), ['$LATEST', '1', '2']);
  const aliases = await all(sdk.paginateListAliases(paginate, { FunctionName }), 'Aliases');
  assert.deepEqual(aliases.map((a) => a.Name), ['live', 'stream']);
  const functions = await all(sdk.paginateListFunctions({ client, pageSize: 50 }, {}), 'Functions');
  assert.ok(functions.some((f) => f.FunctionName === FunctionName));
});

test('a URL, tags, times and the code', async () => {
  const { FunctionUrl } = await lambda.createFunctionUrlConfig({ FunctionName, Qualifier: 'live', AuthType: 'NONE' });
  assert.match(FunctionUrl, /^http.*lambda-url.*\/$/);
  const { Configuration, Code } = await lambda.getFunction({ FunctionName });
  assert.equal((await (await fetch(Code.Location)).arrayBuffer()).byteLength, Configuration.CodeSize);
  const Resource = Configuration.FunctionArn;
  const Tags = { 'of: me': 'é/+= x', b: '' };
  await lambda.tagResource({ Resource, Tags });
  assert.deepEqual((await lambda.listTags({ Resource })).Tags, Tags);
  await lambda.untagResource({ Resource, TagKeys: ['of: me', 'b'] });
  assert.deepEqual((await lambda.listTags({ Resource })).Tags, {});
  await lambda.putFunctionEventInvokeConfig({ FunctionName, MaximumRetryAttempts: 0 });
  const { LastModified } = await lambda.getFunctionEventInvokeConfig({ FunctionName });
  assert.ok(LastModified instanceof Date && LastModified.getFullYear() > 2000, String(LastModified));
});

test('many at once', async () => {
  const calls = [...Array(12).keys()].map((n) => lambda.invoke({ FunctionName, Qualifier: 'live', Payload: JSON.stringify({ n }) }));
  const bodies = (await Promise.all(calls)).map((answer) => JSON.parse(answer.Payload.transformToString()));
  assert.deepEqual(bodies.map((body) => body.event.n), [...Array(12).keys()]);
});
