// NODE_OPTIONS of the function's environment. Node reads them when it starts, and this process started before anybody knew the function: what loads
// modules before the code and what maps stack traces is made good here. What only a new process can have is left.

import { Module, createRequire } from 'node:module';
import path from 'node:path';

/** Before the code is loaded, in Node's order: what is required comes before what is imported. */
export async function use(text, root) {
  const given = read(words(text));
  if (given.sourceMaps) process.setSourceMapsEnabled(true);
  const parent = path.join(root, 'index.js');
  const require = createRequire(parent);
  for (const name of given.required) require(name);
  if (given.imported.length === 0) return;
  // `import` looks for packages from where it stands, so it has to stand among the function's files.
  const among = new Module(parent);
  among._compile('module.exports = (name) => import(name);', parent);
  for (const name of given.imported) await among.exports(name);
}

function read(given) {
  const options = { required: [], imported: [], sourceMaps: false };
  while (given.length > 0) {
    const [, name, value] = /^([^=]*)(?:=(.*))?$/s.exec(given.shift());
    const named = () => value ?? given.shift();
    if (name === '--require' || name === '-r') options.required.push(named());
    else if (name === '--import') options.imported.push(named());
    else if (name === '--enable-source-maps') options.sourceMaps = true;
  }
  return options;
}

/** As Node splits it: at spaces, but for what is in quotation marks, where a backslash takes away what the next character means. */
function words(text) {
  const quoted = /"((?:[^"\\]|\\.)*)"/gs;
  const word = /(?:"(?:[^"\\]|\\.)*"|[^ "])+/gs;
  return (text.match(word) ?? []).map((found) => found.replace(quoted, (_, inner) => inner.replace(/\\(.)/gs, '$1')));
}
