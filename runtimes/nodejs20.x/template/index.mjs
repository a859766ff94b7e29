// A first function: call it with {"name": "Ada"}.

export const handler = async (event, context) => {
  const name = event?.name ?? 'World';
  console.log(`greeting ${name}`);
  return { message: `Hello, ${name}!`, request_id: context.awsRequestId };
};
