// Layers: their modules are looked up after the function's own, by `require` as NODE_PATH says and, as on AWS, by `import` too.

import fs from 'node:fs';
import module from 'node:module';

export const ROOT = '/opt';
const MODULES = `${ROOT}/nodejs`;
const OWN = `${MODULES}/node${process.versions.node.split('.')[0]}`;

/** NODE_PATH as AWS sets it. */
export function modulePath(root) {
  return [`${OWN}/node_modules`, `${MODULES}/node_modules`, '/var/runtime/node_modules', '/var/runtime', root].join(':');
}

/** After NODE_PATH was set: Node read it when it started. */
export function use() {
  module._initPaths();
  // Hooks run in a thread of their own, which a function without layers need not wait for.
  if (fs.existsSync(MODULES)) module.register('./hooks.mjs', import.meta.url, { data: { parent: `file://${OWN}/index.mjs` } });
}
