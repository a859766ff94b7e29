// Answers in two pieces, the second a moment after the first: when a caller has the first one is what streaming is for.

export const handler = awslambda.streamifyResponse(async (event, stream) => {
  stream.write("first");
  await new Promise((resolve) => setTimeout(resolve, 5));
  stream.end("second");
});
