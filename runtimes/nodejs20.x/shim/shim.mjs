// The program a nodejs20.x worker runs: speaks `hearth-worker/1` (runtimes/PROTOCOL.md) and calls the function's handler.
// Node's own modules only. `worker` is the life of a worker, `wire` the frames, `code` loads the handler, `layers` finds the modules of layers, `invocation` runs it,
// `stream` is the streaming answer, `context` what the handler is given, `faults` describes what went wrong, `lines` is `console`,
// `output` stdout and stderr.

import * as output from './output.mjs';
import { Worker } from './worker.mjs';

output.prepare();
new Worker(process.env.HEARTH_SOCKET ?? '/hearth/worker.sock');
