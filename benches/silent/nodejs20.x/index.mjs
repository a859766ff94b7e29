// The template without its console.log: what a call costs that logs nothing.

export const handler = async (event, context) => {
  return { message: `Hello, ${event.name}!`, request_id: context.awsRequestId };
};
