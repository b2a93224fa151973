// The child process of the targets in Node: runs models in LiteRT.js and answers JSON lines.
//
//     node worker.mjs RUNTIME FOLDER
//
// RUNTIME is the record of a runtime as JSON: its `name` and its `build`. FOLDER is that of the
// package @litertjs/core. Needs Node 20 or later and that package alone.
// The protocol is that of worker/; what answers is litert.mjs.

import crypto from 'node:crypto';
import fs from 'node:fs';
import {createRequire} from 'node:module';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import vm from 'node:vm';

import {answered, buildFor, glueOf, listener, reason, Worker} from './litert.mjs';

// Standard output carries the protocol alone.
const write = process.stdout.write.bind(process.stdout);
process.stdout.write = process.stderr.write.bind(process.stderr);

const host = {
  read: file => fs.readFileSync(file),
  write: (file, arrays) => fs.writeFileSync(file, Buffer.concat(arrays)),
  digest: bytes => crypto.createHash('sha256').update(bytes).digest('hex'),
  say: line => console.error(line),

  timed(act) {
    const switches = process.resourceUsage().involuntaryContextSwitches;
    // process.threadCpuUsage() would leave the JIT's threads out, but ticks in steps of 4 ms.
    const cpu = process.cpuUsage();
    const wall = process.hrtime.bigint();
    act();
    const wallNs = Number(process.hrtime.bigint() - wall);
    const used = process.cpuUsage(cpu);
    const preempted = process.resourceUsage().involuntaryContextSwitches - switches;
    return {wall_ns: wallNs, cpu_ns: 1000 * (used.user + used.system), preempted};
  },

  describe() {
    const {node, v8} = process.versions;
    const cpu = os.cpus()[0]?.model ?? process.arch;
    return {clock: 'cpu', cpu, engine: `Node ${node} (V8 ${v8})`};
  },
};

/** Instantiates the WebAssembly module; its glue is CommonJS in a package of ES modules. */
async function instantiate(folder, build) {
  const file = path.join(folder, 'wasm', glueOf(build));
  const glue = {exports: {}};
  const wrapped = vm.runInThisContext(
      `(function (module, exports, require, __filename, __dirname) {${fs.readFileSync(file)}\n})`,
      {filename: file});
  wrapped(glue, glue.exports, createRequire(file), file, path.dirname(file));
  const log = listener(host.say);
  const wasm = await glue.exports({print: log, printErr: log});
  wasm.setupLogging();
  return wasm;
}

// Whoever reads the log takes its last line; Node by itself ends with its version.
process.on('uncaughtException', error => {
  console.error(error instanceof Error ? error.stack : error);
  console.error(reason(error));
  process.exit(1);
});

const [record, folder] = process.argv.slice(2);
const {name, build} = JSON.parse(record);
const {version} = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
const chosen = buildFor(build);
const worker = new Worker(host, name, version, chosen, await instantiate(folder, chosen));
write(`${JSON.stringify(worker.hello())}\n`);
for await (const line of readline.createInterface({input: process.stdin})) {
  const request = JSON.parse(line);
  write(`${JSON.stringify(await answered(worker, request))}\n`);
  if (request.do === 'quit') break;
}
process.exit(0);
