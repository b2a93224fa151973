"""Operator names and times from LiteRT's C API; runs in the child, with the worker.

No Python binding shows which kernels XNNPACK picked. LiteRT's profiler does, by the names that
`xnn_get_runtime_profiling_info` gives ("Convolution (NCHW, F32) SPMM" is a sparse kernel), and
libLiteRt.so exports it. The declarations follow litert/c/litert_profiler_event.h,
litert_layout.h, litert_compiled_model.h and litert_tensor_buffer.h of LiteRT 2.3.0.
"""

from __future__ import annotations

import ctypes
import importlib.util
from ctypes import byref, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

# LiteRtHwAccelerators: kLiteRtHwAcceleratorCpu.
CPU = 1
# LiteRtTensorBufferLockMode: kLiteRtTensorBufferLockModeWrite.
WRITE = 1
# LiteRtProfilerEventType: an operator of the interpreter, and one that a delegate executes.
OPERATOR, DELEGATED_OPERATOR = 1 << 1, 1 << 3
# The maximal rank of a layout.
RANK = 8
# Words in tflite::profiling::memory::MemoryUsage (the C declaration of it has one word too few).
MEMORY_USAGE = 3


class Layout(ctypes.Structure):
    """LiteRtLayout."""

    _fields_: ClassVar = [
        ("rank", c_uint32, 7),
        ("has_strides", c_uint32, 1),
        ("dimensions", c_int32 * RANK),
        ("strides", c_uint32 * RANK),
    ]


class RankedTensorType(ctypes.Structure):
    """LiteRtRankedTensorType."""

    _fields_: ClassVar = [("element_type", c_int), ("layout", Layout)]


class Event(ctypes.Structure):
    """ProfiledEventData."""

    _fields_: ClassVar = [
        ("tag", ctypes.c_char_p),
        ("event_type", c_int),
        ("start_us", c_uint64),
        ("elapsed_us", c_uint64),
        ("memory_before", c_size_t * MEMORY_USAGE),
        ("memory_after", c_size_t * MEMORY_USAGE),
        ("metadata1", c_uint64),
        ("metadata2", c_uint64),
        ("event_source", c_int),
    ]


def profile(
    path: str,
    inputs: Sequence[tuple[str, Sequence[int], bytes]],
    outputs: Sequence[tuple[str, Sequence[int]]],
    invocations: int,
    threads: int,
) -> list[tuple[str, int]]:
    """Return the operators that one invocation executes, in order, with their median time.

    The profiler's clock ticks in whole microseconds and cuts off the rest: short operators read as
    less than they take, down to 0.

    Args:
        path: the `.tflite` file.
        inputs: name, shape and content of every input.
        outputs: name and shape of every output.
        invocations: how many invocations the median is over, after one that is not counted.
        threads: threads of XNNPACK.

    Returns:
        Pairs of the operator's name and its median time in ns.

    Raises:
        RuntimeError: LiteRT refuses a step, or the invocations executed different operators.
    """
    session = _Session(path, threads)
    try:
        session.bind(inputs, outputs)
        session.invoke()
        return _per_invocation(session.profiled(invocations), invocations)
    finally:
        session.close()


class _Session:
    """The objects of LiteRT's C API that belong to one compiled model."""

    def __init__(self, path: str, threads: int) -> None:
        self._library = _library()
        self._owned: list[tuple[str, c_void_p]] = []
        # Payloads of options must outlive the compilation that reads them.
        self._kept: list[object] = []
        self._environment = self._create("Environment", 0, None)
        options = self._create("Options")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, CPU)
        self._add_options(options, b"runtime_options_string", "enable_profiling = true\n")
        self._add_options(options, b"xnnpack", f"num_threads = {threads}\n")
        self._model = c_void_p()
        file = str(path).encode()
        self._call("LiteRtCreateModelFromFile", self._environment, file, byref(self._model))
        self._owned.append(("Model", self._model))
        self._compiled = self._create("CompiledModel", self._environment, self._model, options)
        self._inputs: Any = None
        self._outputs: Any = None

    def close(self) -> None:
        """Destroy everything, the last first."""
        while self._owned:
            kind, item = self._owned.pop()
            destroy = getattr(self._library, f"LiteRtDestroy{kind}")
            destroy.restype = None
            destroy(item)

    def bind(
        self,
        inputs: Sequence[tuple[str, Sequence[int], bytes]],
        outputs: Sequence[tuple[str, Sequence[int]]],
    ) -> None:
        """Give the compiled model its buffers; it adapts a dynamic shape to that of the buffer.

        The C API counts inputs and outputs in the order of the signature, which need not be that
        of the file, so they are matched by the name of the tensor.
        """
        shapes = {name: shape for name, shape, _ in inputs}
        contents = {name: content for name, _, content in inputs}
        tensors = self._signature_tensors("Input")
        buffers = [self._buffer("Input", i, t, shapes[n]) for i, (n, t) in enumerate(tensors)]
        for (name, _), buffer in zip(tensors, buffers):  # noqa: B905  (strict= is Python 3.10)
            self._write(buffer, contents[name])
        self._inputs = (c_void_p * len(buffers))(*[buffer.value for buffer in buffers])
        shapes = dict(outputs)
        tensors = self._signature_tensors("Output")
        buffers = [self._buffer("Output", i, t, shapes[n]) for i, (n, t) in enumerate(tensors)]
        self._outputs = (c_void_p * len(buffers))(*[buffer.value for buffer in buffers])

    def invoke(self) -> None:
        """Run the compiled model once."""
        self._call(
            "LiteRtRunCompiledModel",
            self._compiled,
            c_size_t(0),
            c_size_t(len(self._inputs)),
            self._inputs,
            c_size_t(len(self._outputs)),
            self._outputs,
        )

    def profiled(self, invocations: int) -> list[tuple[str, int]]:
        """Run and return name and elapsed microseconds of every operator of every invocation."""
        profiler = c_void_p()
        self._call("LiteRtCompiledModelGetProfiler", self._compiled, byref(profiler))
        self._call("LiteRtStartProfiler", profiler)
        for _ in range(invocations):
            self.invoke()
        self._call("LiteRtStopProfiler", profiler)
        count = c_int()
        self._call("LiteRtGetNumProfilerEvents", profiler, byref(count))
        events = (Event * count.value)()
        self._call("LiteRtGetProfilerEvents", profiler, count, events)
        return [
            (event.tag.decode(), event.elapsed_us)
            for event in events
            if event.event_type in (OPERATOR, DELEGATED_OPERATOR)
        ]

    def _call(self, name: str, *arguments: object) -> None:
        function = getattr(self._library, name)
        function.restype = c_int
        status = function(*arguments)
        if status:
            raise RuntimeError(f"{name} returned status {status}")

    def _create(self, kind: str, *arguments: object) -> c_void_p:
        created = c_void_p()
        self._call(f"LiteRtCreate{kind}", *arguments, byref(created))
        self._owned.append((kind, created))
        return created

    def _add_options(self, options: c_void_p, identifier: bytes, toml: str) -> None:
        payload = ctypes.create_string_buffer(toml.encode())
        deleter = ctypes.CFUNCTYPE(None, c_void_p)(lambda _: None)
        self._kept += [payload, deleter]
        added = c_void_p()
        data = ctypes.cast(payload, c_void_p)
        self._call("LiteRtCreateOpaqueOptions", identifier, data, deleter, byref(added))
        self._call("LiteRtAddOpaqueOptions", options, added)

    def _signature_tensors(self, kind: str) -> list[tuple[str, RankedTensorType]]:
        signature = c_void_p()
        self._call("LiteRtGetModelSignature", self._model, c_size_t(0), byref(signature))
        count = c_size_t()
        self._call(f"LiteRtGetNumSignature{kind}s", signature, byref(count))
        tensors = []
        for index in range(count.value):
            tensor, name, described = c_void_p(), ctypes.c_char_p(), RankedTensorType()
            by_index = f"LiteRtGetSignature{kind}TensorByIndex"
            self._call(by_index, signature, c_size_t(index), byref(tensor))
            self._call("LiteRtGetTensorName", tensor, byref(name))
            self._call("LiteRtGetRankedTensorType", tensor, byref(described))
            tensors.append(((name.value or b"").decode(), described))
        return tensors

    def _buffer(
        self, kind: str, index: int, described: RankedTensorType, shape: Sequence[int]
    ) -> c_void_p:
        for position, size in enumerate(shape):
            described.layout.dimensions[position] = size
        needs = c_void_p()
        get = f"LiteRtGetCompiledModel{kind}BufferRequirements"
        self._call(get, self._compiled, c_size_t(0), c_size_t(index), byref(needs))
        buffer = c_void_p()
        create = "LiteRtCreateManagedTensorBufferFromRequirements"
        self._call(create, self._environment, byref(described), needs, byref(buffer))
        self._owned.append(("TensorBuffer", buffer))
        return buffer

    def _write(self, buffer: c_void_p, content: bytes) -> None:
        address = c_void_p()
        self._call("LiteRtLockTensorBuffer", buffer, byref(address), WRITE)
        ctypes.memmove(address, content, len(content))
        self._call("LiteRtUnlockTensorBuffer", buffer)


def _library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("ai_edge_litert")
    if spec is None or spec.origin is None:
        raise RuntimeError("ai_edge_litert is not installed")
    return ctypes.CDLL(str(Path(spec.origin).with_name("libLiteRt.so")))


def _per_invocation(events: list[tuple[str, int]], invocations: int) -> list[tuple[str, int]]:
    length = len(events) // invocations
    runs = [events[length * i : length * (i + 1)] for i in range(invocations)]
    names = [[name for name, _ in run] for run in runs]
    if length * invocations != len(events) or any(run != names[0] for run in names):
        raise RuntimeError(f"{invocations} invocations executed different operators")
    # A median: one invocation that was interrupted says nothing about the model.
    middle = [int(1000 * median(run[at][1] for run in runs)) for at in range(length)]
    return list(zip(names[0], middle))  # noqa: B905  (strict= is Python 3.10)
