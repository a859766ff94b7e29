// Finds the function's handler: `index.handler`, `folder/index.handler`, `index.object.handler`; ES modules and CommonJS. The texts
// of the faults are AWS's, because people search for them.

import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

import { Fault } from './faults.mjs';

const EXTENSIONS = ['.js', '.mjs', '.cjs'];

export async function load(name, root) {
  if (name.includes('..')) {
    throw new Fault(
      'Runtime.MalformedHandlerName',
      `'${name}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`,
    );
  }
  const parts = /^([^.]*)\.(.*)$/.exec(path.basename(name));
  if (!parts || parts[1] === '' || parts[2] === '') throw new Fault('Runtime.MalformedHandlerName', 'Bad handler');
  const [, module, keys] = parts;
  const loaded = await loadModule(path.resolve(root, path.dirname(name), module), module, root);
  const handler = resolve(loaded, keys) ?? resolve(loaded.default, keys);
  if (handler === undefined || handler === null) {
    throw new Fault('Runtime.HandlerNotFound', `${name} is undefined or not exported`);
  }
  if (typeof handler !== 'function') throw new Fault('Runtime.HandlerNotFound', `${name} is not a function`);
  return handler;
}

async function loadModule(base, module, root) {
  try {
    if (isFile(base)) return createRequire(base)(base);
    for (const extension of EXTENSIONS) {
      // `import` takes both kinds: CommonJS arrives as the default export of its namespace.
      if (isFile(base + extension)) return await import(pathToFileURL(base + extension));
    }
    // Perhaps it names a package in node_modules.
    const require = createRequire(path.join(root, 'index.js'));
    return require(require.resolve(module, { paths: [root, path.dirname(base)] }));
  } catch (error) {
    throw named(error);
  }
}

function named(error) {
  if (error instanceof SyntaxError) return new Fault('Runtime.UserCodeSyntaxError', String(error), error);
  if (error?.code === 'MODULE_NOT_FOUND' || error?.code === 'ERR_MODULE_NOT_FOUND') {
    return new Fault('Runtime.ImportModuleError', String(error), error);
  }
  return error;
}

function isFile(file) {
  return fs.statSync(file, { throwIfNoEntry: false })?.isFile() ?? false;
}

function resolve(object, keys) {
  return keys.split('.').reduce((value, key) => value?.[key], object);
}
