"""The child process of the Python targets: runs models and answers JSON lines.

    python worker.py RUNTIME [--counts FILE]

RUNTIME is the record of a runtime as JSON: its `name`; the `module` with its Interpreter; the
`packages` that may hold it; `bare`, the package whose __init__ is not to be executed, or "";
`profile`, whether litert_profile.py can tell the operators that run.

Needs the standard library (3.9 or later), numpy and the runtime, and imports nothing of
pytest_sparsity, so that it runs in a bare guest or on a board. It is one file, however long,
because it is sent there alone. One runtime per process: TensorFlow imported first breaks
tflite-runtime.

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

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import importlib
import importlib.util
import itertools
import json
import os
import platform
import resource
import runpy
import signal
import sys
import time
import types
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROTOCOL = 2
HERE = Path(__file__).resolve().parent
# Our names of the sets of kernels -> members of the interpreters' OpResolverType.
RESOLVERS = {"builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}
# Operators whose result is known before any invocation, whatever their inputs contain: it is filled
# in when memory is allocated and not again (kTfLitePersistentRo in shape.cc and rank.cc, TF 2.21).
KNOWN_BEFORE = {"SHAPE", "RANK"}
# Two patterns of bytes: no output can hold both, so what is still there was not written.
PATTERNS = (0x5A, 0xA5)
# Never open; the number is agreed with the plugin of the emulator.
MARK = 0x5A5A5A
# From linux/prctl.h.
PR_SET_PDEATHSIG = 1

Request = dict[str, Any]
Answer = dict[str, Any]


class RequestError(Exception):
    """A request that cannot be answered.

    `kind` is `load`, `invocation`, `unwritten`, `unsupported` or `error`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Joined(Exception):  # noqa: N818  (no error)
    """A copy of this process has ended after answering that it would."""


class Counter:
    """Reads the totals that the emulator appends at every mark."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def mark(self) -> None:
        """Make the emulator append the number of instructions so far."""
        try:
            os.close(MARK)
        except OSError:
            return

    def between_last_two(self) -> int:
        """Return the instructions between the last two marks."""
        before, after = self._path.read_text(encoding="ascii").splitlines()[-2:]
        return int(after.split()[-1]) - int(before.split()[-1])


class Digests:
    """SHA-256 of files by path; a file is read again when it is another or has changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, ...], str]] = {}

    @staticmethod
    def stamp(path: str) -> tuple[int, ...]:
        """Return what is another when the file is replaced or written to."""
        found = Path(path).stat()
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def sha256(self, path: str) -> str:
        """Return the digest of a file's content."""
        stamp = self.stamp(path)
        if self._known.get(path, ((), ""))[0] != stamp:
            digest = hashlib.sha256()
            with Path(path).open("rb") as file:
                for part in iter(lambda: file.read(1 << 20), b""):
                    digest.update(part)
            self._known[path] = stamp, digest.hexdigest()
        return self._known[path][1]


class Loaded:
    """One model in one interpreter, with its inputs set to zero."""

    def __init__(self, module: types.ModuleType, request: Request) -> None:
        self.path = str(request["path"])
        self.threads = int(request["threads"])
        # Where the allocator puts an interpreter decides 1 to 3 % of a small model's time; sizes
        # that the host draws at random keep fresh interpreters from getting the same addresses.
        self._pad = [bytearray(size) for size in request["pad"]]
        options = {"model_path": self.path, "num_threads": self.threads}
        if request["kernels"] != "default":
            kind = getattr(module.OpResolverType, RESOLVERS[request["kernels"]])
            options["experimental_op_resolver_type"] = kind
        self._interpreter = module.Interpreter(**options)
        self._allocate(request.get("shapes"))
        # The public invoke() costs 0.18 us more, 3.4 % of a 5 us model; and it refuses to work
        # while this bound method exists, so this one is used throughout.
        self.invoke: Callable[[], object] = self._interpreter._interpreter.Invoke  # noqa: SLF001
        for detail in self._inputs:
            self._interpreter.set_tensor(
                detail["index"], np.zeros(detail["shape"], detail["dtype"])
            )
        self._written = self._written_by_every_invocation()

    def _allocate(self, shapes: list[list[int]] | None) -> None:
        for i, detail in enumerate(self._interpreter.get_input_details()):
            sizes = shapes[i] if shapes else detail["shape_signature"]
            wanted = [1 if size < 1 else int(size) for size in sizes]
            if wanted != list(detail["shape"]):
                self._interpreter.resize_tensor_input(detail["index"], wanted)
        self._interpreter.allocate_tensors()
        self._inputs = self._interpreter.get_input_details()

    def signature(self) -> Answer:
        """Return name, shape and dtype of inputs and outputs, in the order of the file."""
        outputs = self._interpreter.get_output_details()
        return {"inputs": _described(self._inputs), "outputs": _described(outputs)}

    def set_inputs(self, data: bytes) -> None:
        """Copy the bytes of all inputs, one after the other, into the interpreter."""
        start = 0
        for detail in self._inputs:
            count = int(np.prod(detail["shape"], dtype=np.int64))
            array = np.frombuffer(data, detail["dtype"], count, start)
            self._interpreter.set_tensor(detail["index"], array.reshape(detail["shape"]))
            start += array.nbytes

    def _written_by_every_invocation(self) -> list[int]:
        """Return the outputs that no invocation may leave as they were.

        These are numbers of a fixed size that depend on the values of the inputs and do not share
        their memory.
        """
        interpreter = self._interpreter
        inputs = [detail["index"] for detail in self._inputs]
        dependent = set(inputs)
        for operator in interpreter._get_ops_details():  # noqa: SLF001  (no public way)
            if operator["op_name"] not in KNOWN_BEFORE and dependent & set(operator["inputs"]):
                dependent.update(operator["outputs"])
        found = []
        for detail in interpreter.get_output_details():
            index, fixed = detail["index"], min(detail["shape_signature"], default=1) > 0
            if index not in dependent or index in inputs or np.dtype(detail["dtype"]).kind in "SO":
                continue
            if fixed and self._has_own_memory(index, inputs):
                found.append(index)
        return found

    def _has_own_memory(self, index: int, inputs: list[int]) -> bool:
        tensor = self._interpreter.tensor
        try:
            data = tensor(index)()
        except ValueError:
            return False  # It gets its memory during the invocation.
        return not any(np.may_share_memory(data, tensor(i)()) for i in inputs)

    def spoil(self, pattern: int = PATTERNS[0]) -> None:
        """Fill the outputs with a pattern of bytes."""
        for index in self._written:
            self._interpreter.tensor(index)().reshape(-1).view(np.uint8).fill(pattern)

    def prove(self) -> None:
        """Make sure that the outputs have been written since they were spoilt.

        Raises:
            RequestError: one has not.
        """
        if not self._untouched(PATTERNS[0]):
            return
        # The pattern may be the result. It cannot be if the other pattern stays as well.
        self.spoil(PATTERNS[1])
        self.invoke()
        untouched = self._untouched(PATTERNS[1])
        if untouched:
            fault = f"an invocation left the output {untouched[0]!r} unwritten"
            raise RequestError("unwritten", fault)

    def _untouched(self, pattern: int) -> list[str]:
        """Return the names of the outputs that hold nothing but the pattern."""
        names = {d["index"]: str(d["name"]) for d in self._interpreter.get_output_details()}
        found = []
        for index in self._written:
            data = self._interpreter.tensor(index)().reshape(-1).view(np.uint8)
            if data.size and data[0] == pattern and (data == pattern).all():
                found.append(names[index])
        return found

    def contents(self) -> tuple[list[tuple[str, list[int], bytes]], list[tuple[str, list[int]]]]:
        """Return name, shape and bytes of every input, and name and shape of every output."""
        content = [self._interpreter.get_tensor(d["index"]).tobytes() for d in self._inputs]
        inputs = [
            (name, shape, content[i]) for i, (name, shape, _) in enumerate(_described(self._inputs))
        ]
        outputs = _described(self._interpreter.get_output_details())
        return inputs, [(name, shape) for name, shape, _ in outputs]

    def outputs(self) -> list[Any]:
        """Invoke once and return every output as an array."""
        self.spoil()
        self.invoke()
        self.prove()
        details = self._interpreter.get_output_details()
        return [self._interpreter.get_tensor(detail["index"]) for detail in details]


class Server:
    """Answers requests; holds the loaded models by key."""

    def __init__(self, runtime: Request, counter: Counter | None) -> None:
        self._runtime = runtime
        self._module = import_interpreter(runtime)
        self._counter = counter
        self._models: dict[str, Loaded] = {}
        self._digests = Digests()

    def hello(self) -> Answer:
        """Say what runs here."""
        return {
            "protocol": PROTOCOL,
            "runtime": self._runtime["name"],
            "version": version(self._runtime, self._module),
            "cpu": cpu(),
            "clock": "instructions" if self._counter else "cpu",
            "forks": self.forks,
            "engine": f"{platform.python_implementation()} {platform.python_version()}",
        }

    @property
    def forks(self) -> bool:
        """Whether copies can answer: they must die with this process, and nothing else may run."""
        alone = self._counter is None and not self._models
        return alone and sys.platform == "linux"

    def answer(self, request: Request) -> Answer:
        """Do what one request asks."""
        do = request.get("do")
        handler = getattr(self, f"_do_{do}", None)
        if handler is None:
            raise RequestError("error", f"unknown request {do!r}")
        answer: Answer = handler(request)
        return answer

    def _do_load(self, request: Request) -> Answer:
        try:
            before = self._digests.stamp(request["path"])
            model = Loaded(self._module, request)
            # Only what loads is read whole: a file larger than the memory is refused at once.
            digest = self._digests.sha256(request["path"])
            if self._digests.stamp(request["path"]) != before:
                raise RequestError("load", "the file was replaced while it was loaded")
        except (RuntimeError, ValueError, OSError, MemoryError) as error:
            raise RequestError("load", str(error) or type(error).__name__) from error
        self._models[request["key"]] = model
        return dict(model.signature(), sha256=digest)

    def _do_inputs(self, request: Request) -> Answer:
        self._models[request["key"]].set_inputs(Path(request["file"]).read_bytes())
        return {}

    def _do_run(self, request: Request) -> Answer:
        blocks = [(self._models[key], int(n)) for key, n in request["blocks"]]
        warm = int(request["warm"])
        with invoking():
            timed = [time_block(model, n, warm, self._counter) for model, n in blocks]
        columns = ("wall_ns", "cpu_ns", "preempted", "instructions")
        answer: Answer = {name: [row[i] for row in timed] for i, name in enumerate(columns)}
        answer["ran"] = request["blocks"]
        return answer if self._counter else dict(answer, instructions=None)

    def _do_outputs(self, request: Request) -> Answer:
        with invoking():
            arrays = self._models[request["key"]].outputs()
        with Path(request["file"]).open("wb") as file:
            file.writelines(array.tobytes() for array in arrays)
        return {"arrays": [[list(array.shape), array.dtype.name] for array in arrays]}

    def _do_profile(self, request: Request) -> Answer:
        if not self._runtime["profile"]:
            raise RequestError("unsupported", "no operator profile")
        model = self._models[request["key"]]
        profile = runpy.run_path(str(HERE / "litert_profile.py"))["profile"]
        inputs, outputs = model.contents()
        invocations = int(request["invocations"])
        return {"operators": profile(model.path, inputs, outputs, invocations, model.threads)}

    def _do_join(self, request: Request) -> Answer:
        del request
        return {}

    def _do_unload(self, request: Request) -> Answer:
        del self._models[request["key"]]
        gc.collect()
        return {}

    def _do_fork(self, request: Request) -> Answer:
        del request
        if not self.forks:
            raise RequestError("unsupported", "no copies")
        parent, pid = os.getpid(), os.fork()
        if pid:
            # The copy has the conversation. If it dies, so does this process, in the same way.
            _, status = os.waitpid(pid, 0)
            if os.WIFSIGNALED(status):
                os.kill(os.getpid(), os.WTERMSIG(status))
            raise SystemExit(os.WEXITSTATUS(status)) if status else Joined
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        return {"pid": os.getpid()}

    def _do_quit(self, request: Request) -> Answer:
        del request
        self._models.clear()
        return {}


@contextlib.contextmanager
def invoking() -> Iterator[None]:
    """Say that it was an invocation that the runtime failed in."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise RequestError("invocation", str(error)) from error


def time_block(
    model: Loaded, invocations: int, warm: int, counter: Counter | None = None
) -> tuple[int, int, int, int]:
    """Time `invocations` invocations as one block, after `warm` untimed ones.

    The untimed ones bring the model back into the caches that the block before has used. CPU time
    is the thread's if the model runs on one thread, else the process's.

    Returns:
        Wall ns, CPU ns, involuntary context switches and instructions (0 without a counter) of the
        whole block.
    """
    invoke = model.invoke
    model.spoil()
    cpu_ns = time.thread_time_ns if model.threads == 1 else time.process_time_ns
    wall_ns = time.perf_counter_ns
    for _ in itertools.repeat(None, warm):
        invoke()
    if counter:
        counter.mark()
    switches = _involuntary_switches()
    wall_start = wall_ns()
    cpu_start = cpu_ns()
    for _ in itertools.repeat(None, invocations):
        invoke()
    cpu_end = cpu_ns()
    wall_end = wall_ns()
    switches = _involuntary_switches() - switches
    if counter:
        counter.mark()
    counted = counter.between_last_two() if counter else 0
    model.prove()
    return wall_end - wall_start, cpu_end - cpu_start, switches, counted


def _involuntary_switches() -> int:
    # RUSAGE_THREAD is Linux only; elsewhere the switches of the whole process have to do.
    who = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
    return resource.getrusage(who).ru_nivcsw


def import_interpreter(runtime: Request) -> types.ModuleType:
    """Import the module that has the runtime's `Interpreter`."""
    bare = runtime["bare"]
    if bare:
        # An empty package of that name with the right search path stands in for it.
        spec = importlib.util.find_spec(bare)
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError(f"No module named {bare!r}", name=bare)
        package = types.ModuleType(bare)
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules[bare] = package
    return importlib.import_module(runtime["module"])


def version(runtime: Request, module: types.ModuleType) -> str:
    """Return the version of the runtime's distribution, or "unknown".

    Of several that are installed, stable and nightly, it is the one that lies beside the module.
    """
    beside = Path(str(module.__file__)).parents[runtime["module"].count(".")]
    places: list[dict[str, Any]] = [{"path": [str(beside)]}, {}]
    for place in places:
        for name in runtime["packages"]:
            for distribution in metadata.distributions(name=name, **place):
                return str(distribution.version)
    return "unknown"


def cpu() -> str:
    """Return the CPU's name as Linux tells it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    # ARM boards name themselves in their device tree instead.
    with contextlib.suppress(OSError):
        names.append(Path("/proc/device-tree/model").read_text(errors="replace").strip("\0\n "))
    return next(filter(None, names), platform.processor() or platform.machine())


def _described(details: list[dict[str, Any]]) -> list[tuple[str, list[int], str]]:
    return [(d["name"], [int(n) for n in d["shape"]], np.dtype(d["dtype"]).name) for d in details]


def serve(server: Server, requests: IO[str], answers: IO[str]) -> None:
    """Say hello, then answer requests until `quit` or the end of input."""
    _send(answers, server.hello())
    for line in requests:
        request = json.loads(line)
        try:
            answer = dict(server.answer(request), id=request["id"], ok=True)
        except Joined:
            continue
        except RequestError as refused:
            answer = {"ok": False, "kind": refused.kind, "error": str(refused)}
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            answer = {"ok": False, "kind": "error", "error": text}
        _send(answers, dict(answer, id=request["id"]))
        if request["do"] == "join":
            os._exit(0)
        if request["do"] == "quit":
            return


def _send(answers: IO[str], answer: Answer) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def main(arguments: list[str]) -> None:
    """Keep descriptors 0 and 1 for the protocol, import the runtime and serve."""
    runtime, *rest = arguments
    counter = Counter(Path(rest[1])) if rest[:1] == ["--counts"] else None
    # Native libraries print to descriptor 1 whatever Python's sys.stdout is.
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    # This folder holds modules of pytest_sparsity; they must not answer to other people's imports.
    sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != HERE]
    server = Server(json.loads(runtime), counter)
    gc.collect()
    gc.freeze()
    gc.disable()
    serve(server, requests, answers)


if __name__ == "__main__":
    main(sys.argv[1:])
