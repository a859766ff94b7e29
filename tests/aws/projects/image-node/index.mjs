// What tests ask of AWS's client for Node.js.
import { setTimeout as wait } from "node:timers/promises";

export const handler = async (event, context) => {
  console.log(`called ${event.do}`);
  switch (event.do) {
    case "describe":
      return {
        id: context.awsRequestId,
        function: [context.functionName, context.functionVersion, context.memoryLimitInMB],
        arn: context.invokedFunctionArn,
        custom: context.clientContext?.custom,
        remaining: context.getRemainingTimeInMillis(),
        handler: process.env._HANDLER,
        region: process.env.AWS_REGION,
      };
    case "fail":
      throw new RangeError("žluťoučký kůň");
    case "exit":
      process.exit(3);
    default:
      return event;
  }
};

export const stream = awslambda.streamifyResponse(async (event, out) => {
  out = awslambda.HttpResponseStream.from(out, { statusCode: 201, headers: { "x-of": "the function" } });
  for (const piece of event.pieces) {
    if (typeof piece !== "string") throw new TypeError(`no such piece: ${piece}`);
    out.write(piece);
    await wait(10);
  }
  out.end();
});
