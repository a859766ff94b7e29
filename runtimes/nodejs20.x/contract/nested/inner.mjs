// A handler in a folder.

export const handler = async () => 'from a folder';
