"""The child process of the Python targets: runs models and answers JSON lines.

    python FOLDER RUNTIME [--counts FILE]

RUNTIME is the record of a runtime as JSON: its `name`; the `module` with its Interpreter; the
`packages` that may hold it; `bare`, the package whose __init__ is not to be executed, or "";
`profile`, whether profile.py can tell the operators that run.

FOLDER is this one. It needs the standard library (3.9 or later), numpy and the runtime, and imports
nothing else of pytest_sparsity, so that its files alone run in a bare guest or on a board. One
runtime per process: TensorFlow imported first breaks tflite-runtime.

The first line of output is the hello. Every line of input is a request `{"id", "do", ...}` and gets
one line `{"id", "ok": true, ...}` or `{"id", "ok": false, "kind", "error"}`:

    load     key, path, threads, kernels, pad, shapes
             -> sha256, inputs, outputs: [[name, shape, dtype], ...]
    inputs   key, file: the bytes of all inputs, one after the other
    run      blocks: [[key, invocations], ...], warm
             -> ran: [[key, invocations], ...], wall_ns, cpu_ns, preempted, instructions
    outputs  key, file -> arrays: [[shape, dtype], ...] after one invocation; their bytes go into
             the file
    profile  key, invocations -> operators: [[name, ns], ...]
    unload   key
    fork     -> pid: a copy of this process, as it was when it said hello, answers from now on
    join     the copy ends, and the process that it is a copy of goes on
    quit

Whoever stands for a worker elsewhere may say in the hello that it shows no `outputs` (false), or
instead of the hello what it `lacks` and the `remedy`, and, before it ends, with an `id` of null and
the `kind` "machine", why it cannot go on; its answers may carry `conditions` of clocks and heat.

A block is answered only if every invocation succeeded and wrote the model's outputs: they are
filled with a pattern before, which nobody may find there after. Large data goes through files that
the host names, since a line of text for 100 MB of inputs takes gigabytes.

With --counts an emulator counts instructions: a mark is the closing of a descriptor that is never
open, and at every mark the emulator appends a line to FILE whose last word is the running total.
"""
