// What runs models in LiteRT.js, whoever asks: requests in, answers out, as worker/ has them.
//
// Knows neither Node nor a browser. Whatever differs there is the host's, an object with
//
//     read(file) -> Uint8Array        of a file, or a promise of it
//     write(file, arrays)             the arrays of bytes one after the other, or a promise
//     digest(bytes) -> string         their SHA-256 in hexadecimal digits, or a promise
//     timed(act) -> {wall_ns, cpu_ns, preempted}
//     describe() -> object            what its hello adds: cpu, clock, engine
//     say(line)                       what LiteRT prints
//
// What is used is the WebAssembly module of the package @litertjs/core itself, as its own
// dist/index.js does (version 2.5.3): the public run() is asynchronous, refuses models with
// a dynamic batch, and knows only three element types. Neither throws where an invocation fails:
// LiteRT prints a line that begins with ERROR and returns outputs that nobody wrote. So a request
// during which it prints one has failed.
//
// Of the builds in the package "normal" is what LiteRT.js itself loads wherever there is relaxed
// SIMD (Chrome 114, Firefox 145, Node 21); elsewhere it loads "compat", whose dense kernels have no
// fused multiplication and addition. So does "normal" here. "threaded" is "normal" with threads.

const PROTOCOL = 2;
// File names of the package, without their endings (src/load.ts, version 2.5.3).
const BUILDS = new Map([
  ['normal', 'litert_wasm_internal'], ['compat', 'litert_wasm_compat_internal'],
  ['threaded', 'litert_wasm_threaded_internal'],
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

class RequestError extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

/** What LiteRT has printed as errors since somebody last asked. */
const errors = [];

/** Returns what takes the lines that LiteRT prints, and hands them to the host. */
export function listener(say) {
  return (...words) => {
    const line = words.join(' ');
    if (line.startsWith('ERROR: ')) errors.push(line.slice('ERROR: '.length));
    say(line);
  };
}

/** Throws what LiteRT has printed as errors, if anything. */
function heed(kind) {
  if (errors.length > 0) throw new RequestError(kind, [...new Set(errors.splice(0))].join('\n'));
}

/** Returns the build that the engine can run in place of the one that is asked for. */
export function buildFor(asked) {
  return WebAssembly.validate(RELAXED_SIMD) ? asked : 'compat';
}

/** Returns the name of a build's glue in the package's folder. */
export function glueOf(build) {
  return `${BUILDS.get(build)}.js`;
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

  open(bytes, {pad, shapes, threads}) {
    const {wasm, environment} = this;
    // Sizes that the host draws at random keep fresh models from getting the same addresses.
    this.memory = pad.map(size => wasm._malloc(size));
    const address = wasm._malloc(bytes.length);
    this.memory.push(address);
    wasm.HEAPU8.set(bytes, address);
    this.model = wasm.loadModel(environment, address, bytes.length);
    this.compiled = wasm.compileModel(environment, this.model, {
      environment,
      accelerator: 'wasm',
      cpuOptions: {numThreads: threads},
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
    this.copyIn(buffer, new Uint8Array(size).fill(byte));
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
      const bytes = wasm.HEAPU8.slice(address, address + buffer.packedSize());
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

export class Worker {
  constructor(host, name, version, build, wasm) {
    this.host = host;
    this.name = name;
    this.version = version;
    this.build = build;
    this.wasm = wasm;
    this.environment = wasm.LiteRtEnvironment.create(null);
    this.models = new Map();
  }

  hello() {
    const {engine, ...known} = this.host.describe();
    return {
      protocol: PROTOCOL, runtime: this.name, version: this.version, compiles: true, ...known,
      engine: `${engine}, ${this.build} build`,
    };
  }

  model(key) {
    const model = this.models.get(key);
    if (model === undefined) throw new RequestError('error', `no model is loaded as ${key}`);
    return model;
  }

  async load({key, kernels, path, ...request}) {
    if (kernels !== 'default') throw new RequestError('unsupported', `no ${kernels} kernels`);
    if (request.threads !== 1 && this.build !== 'threaded') {
      throw new RequestError('unsupported', 'one thread only');
    }
    const model = new Loaded(this.wasm, this.environment);
    let sha256;
    try {
      const bytes = await this.host.read(path);
      sha256 = await this.host.digest(bytes);
      model.open(bytes, request);
      heed('load');
    } catch (error) {
      if (isFatal(error)) throw error;
      model.delete();
      if (error instanceof RequestError) throw error;
      throw new RequestError('load', [...errors.splice(0), reason(error)].join('\n'));
    }
    this.models.set(key, model);
    const spec = ({name, shape, dtype}) => [name, shape, dtype];
    const {inputs, outputs} = model;
    return {sha256, inputs: inputs.map(spec), outputs: outputs.map(spec)};
  }

  async inputs({key, file}) {
    this.model(key).setInputs(await this.host.read(file));
    return {};
  }

  run({blocks, warm}) {
    const timed = blocks.map(([key, n]) => this.timeBlock(this.model(key), n, warm));
    const column = name => timed.map(block => block[name]);
    return {
      ran: blocks, wall_ns: column('wall_ns'), cpu_ns: column('cpu_ns'),
      preempted: column('preempted'),
    };
  }

  /** Times n invocations as one block after `warm` untimed ones. */
  timeBlock(model, n, warm) {
    model.invoke(warm);
    const timed = this.host.timed(() => model.invoke(n));
    heed('invocation');
    return timed;
  }

  async outputs({key, file}) {
    const outputs = this.model(key).run();
    await this.host.write(file, outputs.map(([bytes]) => bytes));
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
export function reason(error) {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/[└├│─]/g, '').trim();
}

/** Tells whether the WebAssembly instance is lost: after a trap its memory cannot be trusted. */
function isFatal(error) {
  return error instanceof WebAssembly.RuntimeError;
}

const REQUESTS = new Set(['load', 'inputs', 'run', 'outputs', 'profile', 'unload', 'quit']);

/**
 * Returns the answer to a request.
 *
 * Throws what ends the instance: a trap, after which nothing may be asked any more.
 */
export async function answered(worker, {id, do: what, ...request}) {
  try {
    if (!REQUESTS.has(what)) throw new RequestError('error', `unknown request ${what}`);
    return {id, ok: true, ...await worker[what](request)};
  } catch (error) {
    if (isFatal(error)) throw error;
    return {id, ok: false, kind: error.kind ?? 'error', error: reason(error)};
  }
}
