"""A model in the interpreter of a Python runtime: loaded, invoked, timed and proved to have run."""

from __future__ import annotations

import itertools
import os
import resource
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import types
    from collections.abc import Callable
    from pathlib import Path

# Our names of the sets of kernels -> members of the interpreters' OpResolverType.
RESOLVERS = {"builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}
# Operators whose result is known before any invocation, whatever their inputs contain: it is filled
# in when memory is allocated and not again (kTfLitePersistentRo in shape.cc and rank.cc, TF 2.21).
KNOWN_BEFORE = {"SHAPE", "RANK"}
# Two patterns of bytes: no output can hold both, so what is still there was not written.
PATTERNS = (0x5A, 0xA5)
# Never open; the number is agreed with the plugin of the emulator.
MARK = 0x5A5A5A

Request = dict[str, Any]
Answer = dict[str, Any]


class RequestError(Exception):
    """A request that cannot be answered.

    `kind` is `load`, `invocation`, `unwritten`, `unsupported` or `error`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


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


def _described(details: list[dict[str, Any]]) -> list[tuple[str, list[int], str]]:
    return [(d["name"], [int(n) for n in d["shape"]], np.dtype(d["dtype"]).name) for d in details]


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
    switches = _involuntary_switches(model.threads)
    wall_start = wall_ns()
    cpu_start = cpu_ns()
    for _ in itertools.repeat(None, invocations):
        invoke()
    cpu_end = cpu_ns()
    wall_end = wall_ns()
    switches = _involuntary_switches(model.threads) - switches
    if counter:
        counter.mark()
    counted = counter.between_last_two() if counter else 0
    model.prove()
    return wall_end - wall_start, cpu_end - cpu_start, switches, counted


def _involuntary_switches(threads: int) -> int:
    """Return those of the thread if the model runs on one, else of all threads of the process."""
    # RUSAGE_THREAD is Linux only; elsewhere the switches of the whole process have to do.
    one = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
    who = one if threads == 1 else resource.RUSAGE_SELF
    return resource.getrusage(who).ru_nivcsw
