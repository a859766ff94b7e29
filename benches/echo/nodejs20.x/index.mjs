// Answers with what it was given: what a payload costs on its way there and back.

export const handler = async (event) => event;
