// The page of the targets in browsers: runs models in LiteRT.js and answers what relay.py asks.
//
// window.start(runtime) begins and returns the hello; window.ask(request) answers a request of the
// protocol of worker/. Both return {answer, said} or {fatal, said}, `said` being the lines that
// LiteRT has printed.

import {answered, buildFor, glueOf, listener, reason, Worker} from './litert.mjs';

const said = [];

async function response(file, options) {
  const got = await fetch(file, options);
  if (!got.ok) throw new Error(await got.text());
  return got;
}

const host = {
  read: async file => new Uint8Array(await (await response(file)).arrayBuffer()),
  write: (file, arrays) => response(file, {method: 'PUT', body: new Blob(arrays)}),
  say: line => said.push(line),

  async digest(bytes) {
    const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    return Array.from(hash, byte => byte.toString(16).padStart(2, '0')).join('');
  },

  timed(act) {
    const begun = performance.now();
    act();
    // A page has no clock of CPU time; relay.py has.
    return {wall_ns: Math.round(1e6 * (performance.now() - begun)), cpu_ns: 0, preempted: 0};
  },

  describe: () => ({}),
};

/** Instantiates the WebAssembly module; its glue is a script that leaves `ModuleFactory`. */
async function instantiate(build) {
  const script = document.createElement('script');
  script.src = `wasm/${glueOf(build)}`;
  const loaded = new Promise((resolve, reject) => {
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${script.src} does not load`));
  });
  document.head.append(script);
  await loaded;
  const log = listener(host.say);
  const options = {print: log, printErr: log, locateFile: file => `wasm/${file}`};
  if (build === 'threaded') options.mainScriptUrlOrBlob = script.src;
  const wasm = await window.ModuleFactory(options);
  wasm.setupLogging();
  return wasm;
}

let worker = null;

async function told(act) {
  try {
    return {answer: await act(), said: said.splice(0)};
  } catch (error) {
    return {fatal: reason(error), said: said.splice(0)};
  }
}

window.start = ({name, version, build}) => told(async () => {
  if (!window.crossOriginIsolated) throw new Error('the page is not isolated from other origins');
  const chosen = buildFor(build);
  worker = new Worker(host, name, version, chosen, await instantiate(chosen));
  return {...worker.hello(), build: chosen};
});
window.ask = request => told(() => answered(worker, request));
/** Computes for so many milliseconds. */
window.burn = ms => {
  const end = performance.now() + ms;
  while (performance.now() < end);
};
window.began(true);
