// Finds the function's handler: `index.handler`, `folder/index.handler`, `index.object.handler`; ES modules and CommonJS. The texts
// of the faults are AWS's, because people search for them.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

import { Fault } from './faults.mjs';

const EXTENSIONS = ['.js', '.mjs', '.cjs'];

/** `watched`: what was loaded before may want to see CommonJS being required, as it is on AWS, to get at the handler. */
export async function load(name, root, watched) {
  if (name.includes('..')) {
    throw new Fault(
      'Runtime.MalformedHandlerName',
      `'${name}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`,
    );
  }
  const parts = /^([^.]*)\.(.*)$/.exec(path.basename(name));
  if (!parts || parts[1] === '' || parts[2] === '') throw new Fault('Runtime.MalformedHandlerName', 'Bad handler');
  const [, module, keys] = parts;
  const loaded = await loadModule(path.resolve(root, path.dirname(name), module), module, root, watched);
  const handler = resolve(loaded, keys) ?? resolve(loaded.default, keys);
  if (handler === undefined || handler === null) {
    throw new Fault('Runtime.HandlerNotFound', `${name} is undefined or not exported`);
  }
  if (typeof handler !== 'function') throw new Fault('Runtime.HandlerNotFound', `${name} is not a function`);
  return handler;
}

async function loadModule(base, module, root, watched) {
  const extension = EXTENSIONS.find((candidate) => isFile(base + candidate));
  try {
    if (isFile(base)) return createRequire(base)(base);
    if (watched && mayBeCommon(base + extension)) {
      try {
        return createRequire(base)(base + extension);
      } catch (error) {
        // It is an ES module all the same, and one that awaits something.
        if (error?.code !== 'ERR_REQUIRE_ASYNC_MODULE') throw error;
      }
    }
    // `import` takes both kinds: CommonJS arrives as the default export of its namespace.
    if (extension !== undefined) return await import(pathToFileURL(base + extension));
    // Perhaps it names a package in node_modules.
    const require = createRequire(path.join(root, 'index.js'));
    return require(require.resolve(module, { paths: [root, path.dirname(base)] }));
  } catch (error) {
    throw named(error, base + extension);
  }
}

function named(error, file) {
  if (error instanceof SyntaxError) {
    const fault = new Fault('Runtime.UserCodeSyntaxError', String(error), error);
    fault.stack = placeOfSyntaxError(file) ?? fault.stack;
    return fault;
  }
  // What `import` does not find has another code, and goes out as it is.
  if (error?.code === 'MODULE_NOT_FOUND') {
    return new Fault('Runtime.ImportModuleError', String(error), error);
  }
  return error;
}

/** The stack of a module's syntax error has no place in it; only Node's own check tells, in the few lines before the message. */
function placeOfSyntaxError(file) {
  const check = spawnSync(process.execPath, ['--check', file], {
    encoding: 'utf8',
    timeout: 5000,
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  if (check.status !== 1 || !check.stderr.startsWith(file)) return undefined;
  return check.stderr.split('\n').filter((line) => line !== '' && !/^( {4}at |Node\.js v)/.test(line)).join('\n');
}

/** Whether a file is no ES module by its name, or by what the nearest package.json says. */
function mayBeCommon(file) {
  if (!file.endsWith('.js')) return file.endsWith('.cjs');
  let folder = path.dirname(file);
  while (!isFile(path.join(folder, 'package.json')) && folder !== path.dirname(folder)) folder = path.dirname(folder);
  const said = path.join(folder, 'package.json');
  try {
    return !isFile(said) || JSON.parse(fs.readFileSync(said, 'utf8').replace(/^\uFEFF/, ''))?.type !== 'module';
  } catch {
    // `import` says what is wrong with it.
    return false;
  }
}

function isFile(file) {
  return fs.statSync(file, { throwIfNoEntry: false })?.isFile() ?? false;
}

function resolve(object, keys) {
  return keys.split('.').reduce((value, key) => value?.[key], object);
}
