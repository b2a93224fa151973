// The child process of the targets in Node: runs models in LiteRT.js and answers JSON lines.
//
//     node worker.mjs RUNTIME FOLDER
//
// RUNTIME is the record of a runtime as JSON: its `name` and its `build`. FOLDER is that of the
// package @litertjs/core. Needs Node 20 or later and that package alone.
// The protocol is that of worker.py. What is used is the package's WebAssembly module itself, as
// its own dist/index.js does (version 2.5.3): the public run() is asynchronous, refuses models with
// a dynamic batch, and knows only three element types. Neither throws where an invocation fails:
// LiteRT prints a line that begins with ERROR and returns outputs that nobody wrote. So a request
// during which it prints one has failed.
//
// Of the builds in the package "normal" is what LiteRT.js itself loads wherever there is relaxed
// SIMD (Chrome 114, Firefox 145, Node 21); elsewhere it loads "compat", whose dense kernels have no
// fused multiplication and addition. So does "normal" here.

import crypto from 'node:crypto';
import fs from 'node:fs';
import {createRequire} from 'node:module';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import vm from 'node:vm';

const PROTOCOL = 2;
// File names of the package, without their endings (src/load.ts, version 2.5.3).
const BUILDS = new Map([
  ['normal', 'litert_wasm_internal'], ['compat', 'litert_wasm_compat_internal'],
]);
// A module whose only function is i8x16.relaxed_swizzle of two constants.
const RELAXED_SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0,
  10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11,
]);
// litert::ElementType -> numpy's name (litert/c/litert_model_types.h).
const DTYPES = new Map([
  [1, 'float32'], [2, 'int32'], [3, 'uint8'], [4, 'int64'], [6, 'bool'], [7, 'int16'],
  [8, 'complex64'], [9, 'int8'], [10, 'float16'], [11, 'float64'], [13, 'uint64'],
  [16, 'uint32'], [17, 'uint16'],
]);

// Two patterns of bytes: no output can hold both, so what is still there was not written.
const PATTERNS = [0x5A, 0xA5];
// What dlmalloc, emscripten's allocator, writes into memory that is free: the links of a list or of
// a tree in front, the size in what will be the last word (malloc.c 2.8.6, wasm32).
const LINKS = 24;
const FOOTER = 4;

// Standard output carries the protocol alone.
const write = process.stdout.write.bind(process.stdout);
process.stdout.write = process.stderr.write.bind(process.stderr);

class RequestError extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

/** What LiteRT has printed as errors since somebody last asked. */
const errors = [];

function log(...words) {
  const line = words.join(' ');
  if (line.startsWith('ERROR: ')) errors.push(line.slice('ERROR: '.length));
  console.error(line);
}

/** Throws what LiteRT has printed as errors, if anything. */
function heed(kind) {
  if (errors.length > 0) throw new RequestError(kind, [...new Set(errors.splice(0))].join('\n'));
}

/** Instantiates the WebAssembly module; its glue is CommonJS in a package of ES modules. */
async function instantiate(folder, build) {
  const file = path.join(folder, 'wasm', `${BUILDS.get(build)}.js`);
  const glue = {exports: {}};
  const wrapped = vm.runInThisContext(
      `(function (module, exports, require, __filename, __dirname) {${fs.readFileSync(file)}\n})`,
      {filename: file});
  wrapped(glue, glue.exports, createRequire(file), file, path.dirname(file));
  const wasm = await glue.exports({print: log, printErr: log});
  wasm.setupLogging();
  return wasm;
}

/** Returns the elements of a C++ vector, which is deleted. */
function elements(vector) {
  const array = Array.from({length: vector.size()}, (_, i) => vector.get(i));
  vector.delete();
  return array;
}

/** One compiled model with its inputs set to zero. */
class Loaded {
  constructor(wasm, environment) {
    this.wasm = wasm;
    this.environment = environment;
    this.memory = [];
    this.buffers = [];
  }

  open({path: file, pad, shapes}) {
    const {wasm, environment} = this;
    const bytes = fs.readFileSync(file);
    this.sha256 = crypto.createHash('sha256').update(bytes).digest('hex');
    // Sizes that the host draws at random keep fresh models from getting the same addresses.
    this.memory = pad.map(size => wasm._malloc(size));
    const address = wasm._malloc(bytes.length);
    this.memory.push(address);
    wasm.HEAPU8.set(bytes, address);
    this.model = wasm.loadModel(environment, address, bytes.length);
    this.compiled = wasm.compileModel(environment, this.model, {
      environment,
      accelerator: 'wasm',
      cpuOptions: {numThreads: 1},
      gpuOptions: {},
      webNNOptions: {},
    });
    // The first signature; LiteRT sorts its tensors into the order of the file and makes one up if
    // the file has none.
    const signature = this.model.getSignature(0);
    this.inputs = this.described('Input', signature.inputNames(), shapes);
    this.outputs = this.described('Output', signature.outputNames());
    signature.delete();
    this.checkOutputs(shapes ?? []);
    this.buffers = this.inputs.map(input => this.filled(input, 0));
  }

  /** Returns name, shape and element type of every input or output; a dynamic size not given is 1. */
  described(kind, names, shapes) {
    return elements(names).map((name, index) => {
      const type = this.model[`get${kind}TensorType`](0, index);
      const layout = type.layout();
      const sizes = elements(layout.dimensions());
      const shape = shapes?.[index] ?? sizes.map(size => size < 1 ? 1 : size);
      const element = type.elementType();
      layout.delete();
      type.delete();
      const dtype = DTYPES.get(element.value) ?? `element type ${element.value}`;
      const open = sizes.flatMap((size, place) => size < 1 ? [place] : []);
      const resized = sizes.some((size, place) => size > 0 && size !== shape[place]);
      return {name, shape, element, dtype, open, resized};
    });
  }

  /**
   * Refuses outputs whose size follows from the inputs' shapes: run() gives every output the size
   * that the file says, with 1 for what is open, and takes no buffers from outside (2.5.3).
   */
  checkOutputs(shapes) {
    const batched = shapes.some(shape => shape.length && shape[0] !== 1);
    // Of some files LiteRT does not see that sizes are open, neither the inputs' nor the outputs'.
    const unseen = this.inputs.some(({resized}) => resized);
    this.outputs.forEach(({name, open}) => {
      if (unseen || open.some(place => place > 0 || batched)) {
        throw new RequestError('unsupported', `LiteRT.js cannot size the output ${name}, whose ` +
            'shape is open in the file: convert the model with a fixed input shape');
      }
    });
  }

  filled({shape, element}, byte) {
    const {wasm} = this;
    const dimensions = new wasm.VectorInt32();
    shape.forEach(size => dimensions.push_back(size));
    const layout = wasm.LiteRtLayout.create(dimensions);
    const type = wasm.LiteRtRankedTensorType.create(element, layout);
    const host = wasm.LiteRtTensorBufferType.HOST_MEMORY;
    const size = type.bytes();
    const buffer = wasm.LiteRtTensorBuffer.createManaged(this.environment, host, type, size);
    this.copyIn(buffer, Buffer.alloc(size, byte));
    [type, layout, dimensions].forEach(item => item.delete());
    return buffer;
  }

  copyIn(buffer, bytes) {
    const address = buffer.lock(this.wasm.LiteRtTensorBufferLockMode.WRITE);
    this.wasm.HEAPU8.set(bytes, address);
    buffer.unlock();
  }

  /** Copies the bytes of all inputs, one after the other. */
  setInputs(bytes) {
    let start = 0;
    for (const buffer of this.buffers) {
      const size = buffer.packedSize();
      this.copyIn(buffer, bytes.subarray(start, start + size));
      start += size;
    }
  }

  /** Invokes the model n times; every invocation allocates its outputs. */
  invoke(n) {
    const {compiled, buffers} = this;
    for (let i = 0; i < n; i++) {
      const outputs = compiled.run(0, buffers);
      for (let k = 0; k < outputs.length; k++) outputs[k].delete();
    }
  }

  /** Invokes once and returns [bytes, shape, dtype] of every output in the file's order. */
  run() {
    this.spoil(PATTERNS[0]);
    let outputs = this.read();
    if (this.untouched(outputs, PATTERNS[0]).length) {
      // The pattern may be the result. It cannot be if the other pattern stays as well.
      this.spoil(PATTERNS[1]);
      const again = this.read();
      const [output] = this.untouched(again, PATTERNS[1]);
      if (output !== undefined) {
        throw new RequestError(
            'unwritten', `an invocation left the output '${output.name}' unwritten`);
      }
      outputs = again;
    }
    return outputs.map(({bytes, shape, dtype}) => [bytes, shape, dtype]);
  }

  /** Fills the memory that the allocator will give to the outputs of the next invocation. */
  spoil(pattern) {
    const spoilt = this.outputs.map(output => this.filled(output, pattern));
    spoilt.forEach(buffer => buffer.delete());
  }

  /** Invokes once and returns what the outputs hold. */
  read() {
    const {wasm} = this;
    const buffers = this.compiled.run(0, this.buffers);
    heed('invocation');
    const outputs = buffers.map((buffer, i) => {
      const type = buffer.tensorType();
      const layout = type.layout();
      const shape = elements(layout.dimensions());
      const address = buffer.lock(wasm.LiteRtTensorBufferLockMode.READ);
      const bytes = Buffer.from(wasm.HEAPU8.slice(address, address + buffer.packedSize()));
      buffer.unlock();
      layout.delete();
      type.delete();
      const {name, dtype} = this.outputs[i];
      return {name, bytes, shape, dtype};
    });
    buffers.forEach(buffer => buffer.delete());
    return outputs;
  }

  /** Returns the outputs that hold nothing but the pattern, but for what the allocator keeps there. */
  untouched(outputs, pattern) {
    return outputs.filter(({bytes}) => {
      const left = bytes.subarray(LINKS, bytes.length - FOOTER);
      return left.length > 0 && left.every(byte => byte === pattern);
    });
  }

  delete() {
    this.buffers.forEach(buffer => buffer.delete());
    this.compiled?.delete();
    this.model?.delete();
    this.memory.forEach(address => this.wasm._free(address));
  }
}

/** Times n invocations as one block after `warm` untimed ones. */
function timeBlock(model, n, warm) {
  model.invoke(warm);
  const switches = process.resourceUsage().involuntaryContextSwitches;
  // process.threadCpuUsage() would leave the JIT's threads out, but ticks in steps of 4 ms.
  const cpu = process.cpuUsage();
  const wall = process.hrtime.bigint();
  model.invoke(n);
  const wallNs = Number(process.hrtime.bigint() - wall);
  const used = process.cpuUsage(cpu);
  const preempted = process.resourceUsage().involuntaryContextSwitches - switches;
  heed('invocation');
  return {wall_ns: wallNs, cpu_ns: 1000 * (used.user + used.system), preempted};
}

class Worker {
  constructor(name, version, build, wasm) {
    this.name = name;
    this.version = version;
    this.build = build;
    this.wasm = wasm;
    this.environment = wasm.LiteRtEnvironment.create(null);
    this.models = new Map();
  }

  hello() {
    const {node, v8} = process.versions;
    return {
      protocol: PROTOCOL, runtime: this.name, version: this.version, clock: 'cpu',
      compiles: true,
      cpu: os.cpus()[0]?.model ?? process.arch,
      engine: `Node ${node} (V8 ${v8}), ${this.build} build`,
    };
  }

  model(key) {
    const model = this.models.get(key);
    if (model === undefined) throw new RequestError('error', `no model is loaded as ${key}`);
    return model;
  }

  load({key, kernels, threads, ...request}) {
    if (kernels !== 'default') throw new RequestError('unsupported', `no ${kernels} kernels`);
    if (threads !== 1) throw new RequestError('unsupported', 'one thread only');
    const model = new Loaded(this.wasm, this.environment);
    try {
      model.open(request);
      heed('load');
    } catch (error) {
      if (isFatal(error)) throw error;
      model.delete();
      if (error instanceof RequestError) throw error;
      throw new RequestError('load', [...errors.splice(0), reason(error)].join('\n'));
    }
    this.models.set(key, model);
    const spec = ({name, shape, dtype}) => [name, shape, dtype];
    const {sha256, inputs, outputs} = model;
    return {sha256, inputs: inputs.map(spec), outputs: outputs.map(spec)};
  }

  inputs({key, file}) {
    this.model(key).setInputs(fs.readFileSync(file));
    return {};
  }

  run({blocks, warm}) {
    const timed = blocks.map(([key, n]) => timeBlock(this.model(key), n, warm));
    const column = name => timed.map(block => block[name]);
    return {
      ran: blocks, wall_ns: column('wall_ns'), cpu_ns: column('cpu_ns'),
      preempted: column('preempted'),
    };
  }

  outputs({key, file}) {
    const outputs = this.model(key).run();
    fs.writeFileSync(file, Buffer.concat(outputs.map(([bytes]) => bytes)));
    return {arrays: outputs.map(([, shape, dtype]) => [shape, dtype])};
  }

  profile() {
    throw new RequestError('unsupported', 'no operator profile');
  }

  unload({key}) {
    this.model(key).delete();
    this.models.delete(key);
    return {};
  }

  quit() {
    return {};
  }
}

/** Returns what an error says on one line, without the branches of LiteRT's trees of errors. */
function reason(error) {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/[└├│─]/g, '').trim();
}

/** Tells whether the WebAssembly instance is lost: after a trap its memory cannot be trusted. */
function isFatal(error) {
  return error instanceof WebAssembly.RuntimeError;
}

const REQUESTS = new Set(['load', 'inputs', 'run', 'outputs', 'profile', 'unload', 'quit']);

function answered(worker, {id, do: what, ...request}) {
  try {
    if (!REQUESTS.has(what)) throw new RequestError('error', `unknown request ${what}`);
    return {id, ok: true, ...worker[what](request)};
  } catch (error) {
    if (isFatal(error)) throw error;
    return {id, ok: false, kind: error.kind ?? 'error', error: reason(error)};
  }
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
const chosen = WebAssembly.validate(RELAXED_SIMD) ? build : 'compat';
const worker = new Worker(name, version, chosen, await instantiate(folder, chosen));
write(`${JSON.stringify(worker.hello())}\n`);
for await (const line of readline.createInterface({input: process.stdin})) {
  const request = JSON.parse(line);
  write(`${JSON.stringify(answered(worker, request))}\n`);
  if (request.do === 'quit') break;
}
process.exit(0);
