"""Reading a `.tflite` file: its graphs, its layers, and how their weights are stored.

The structure is read and checked at once, the weights when asked for. The file is mapped into
memory and its arrays are views, so nothing is copied but what `Model.weights` returns.
"""

from __future__ import annotations

import mmap
import stat
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import prod
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity import encoding
from pytest_sparsity.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from os import PathLike, stat_result

    from pytest_sparsity.encoding import Array, Sparsity

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
MAX_TABLES = 1_000_000  # the limit of flatbuffers' own verifier (verifier.h, Options::max_tables)
MAX_RANK = 32  # numpy's before 2.0; TFLite's kernels stop at 8
CHUNK = 2**20  # bytes of weights looked at at once: what the counts need fits into a CPU cache

WEIGHT_OPERANDS: Mapping[str, tuple[int, ...]] = {
    "CONV_2D": (1,),
    "DEPTHWISE_CONV_2D": (1,),
    "TRANSPOSE_CONV": (1,),
    "CONV_3D": (1,),
    "FULLY_CONNECTED": (1,),
    "BATCH_MATMUL": (0, 1),
    "GATHER": (0,),  # what an Embedding becomes
    "EMBEDDING_LOOKUP": (1,),
    "SVDF": (1, 2),
    "RNN": (1, 2),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2),
    "LSTM": (*range(1, 9), 16),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (*range(1, 9), 16),
    "BIDIRECTIONAL_SEQUENCE_LSTM": (*range(1, 9), 16, *range(18, 26), 33),
}
"""Operands that are weights, by operator. Source: the comments in TFLite's kernels (2.21)."""

_OPERANDS: Mapping[str, int] = {
    **dict.fromkeys(("DENSIFY", "DEQUANTIZE", "QUANTIZE", "RESHAPE", "SOFTMAX"), 1),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "DEPTH_TO_SPACE", "LEAKY_RELU"), 1),
    **dict.fromkeys(("LOGISTIC", "TANH", "RELU", "RELU6", "ELU", "HARD_SWISH", "GELU"), 1),
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM"), 2),
    **dict.fromkeys(("PAD", "MEAN", "SUM", "RESIZE_BILINEAR", "PRELU", "GATHER"), 2),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"), 2),
    "TRANSPOSE_CONV": 3,
}
"""How many leading inputs must be there; whoever reads an Operator may rely on them."""

_WEIGHTS_RANK = {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 4, "TRANSPOSE_CONV": 4, "FULLY_CONNECTED": 2}

_CONV = ("padding", "stride_w", "stride_h", "activation", "dilation_w", "dilation_h")
_POOL = ("padding", "stride_w", "stride_h", "filter_width", "filter_height", "activation")
_LSTM = ("activation", "cell_clip", "proj_clip", "asymmetric_quantize_inputs")
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "AddOptions": ("activation",),
    "BatchMatMulOptions": ("adj_x", "adj_y", "asymmetric_quantize_inputs"),
    "BidirectionalSequenceLSTMOptions": (*_LSTM, "merge_outputs", "time_major"),
    "ConcatenationOptions": ("axis", "activation"),
    "Conv2DOptions": _CONV,
    "DepthToSpaceOptions": ("block_size",),
    "DepthwiseConv2DOptions": (*_CONV, "depth_multiplier"),
    "DivOptions": ("activation",),
    "FullyConnectedOptions": (
        "activation",
        "weights_format",
        "keep_num_dims",
        "asymmetric_quantize_inputs",
    ),
    "GatherOptions": ("axis", "batch_dims"),
    "GeluOptions": ("approximate",),
    "IfOptions": ("then_subgraph_index", "else_subgraph_index"),
    "L2NormOptions": ("activation",),
    "LSTMOptions": (*_LSTM, "kernel_type"),
    "LeakyReluOptions": ("alpha",),
    "MirrorPadOptions": ("mode",),
    "MulOptions": ("activation",),
    "PackOptions": ("values_count", "axis"),
    "Pool2DOptions": _POOL,
    "ReducerOptions": ("keep_dims",),
    "ReshapeOptions": ("new_shape",),
    "ResizeBilinearOptions": ("align_corners", "half_pixel_centers"),
    "ResizeNearestNeighborOptions": ("align_corners", "half_pixel_centers"),
    "SVDFOptions": ("rank", "activation", "asymmetric_quantize_inputs"),
    "SequenceRNNOptions": ("time_major", "activation", "asymmetric_quantize_inputs"),
    "SoftmaxOptions": ("beta",),
    "SpaceToDepthOptions": ("block_size",),
    "SplitOptions": ("num_splits",),
    "SqueezeOptions": ("squeeze_dims",),
    "StridedSliceOptions": (
        "begin_mask",
        "end_mask",
        "ellipsis_mask",
        "new_axis_mask",
        "shrink_axis_mask",
    ),
    "SubOptions": ("activation",),
    "TransposeConvOptions": ("padding", "stride_w", "stride_h", "activation"),
    "UnidirectionalSequenceLSTMOptions": (*_LSTM, "time_major"),
    "WhileOptions": ("cond_subgraph_index", "body_subgraph_index"),
}
"""The options that are read, by their table in the schema; others have none that matter here."""

_GETTERS = {
    "activation": "FusedActivationFunction",
    "dilation_h": "DilationHFactor",
    "dilation_w": "DilationWFactor",
}
_VECTORS = {"new_shape", "squeeze_dims"}
_ENUMS = {
    "activation": "ActivationFunctionType",
    "kernel_type": "LSTMKernelType",
    "mode": "MirrorPadMode",
    "padding": "Padding",
    "weights_format": "FullyConnectedOptionsWeightsFormat",
}

# Byte offsets of fields within a vtable: 4 + 2 * their position in schema.fbs, fixed for ever.
_BUFFER_DATA = 4
_CODE_CUSTOM = 6
_TENSOR_NAME = 10

_STORED_AS = {
    "float32": "<u4",
    "float16": "<u2",
    "bfloat16": "<u2",
    "float64": "<u8",
}
_SMALLEST_NORMAL = {"float32": 1 << 23, "float64": 1 << 52}
_NUMPY = {
    "float32": "<f4",
    "float16": "<f2",
    "float64": "<f8",
    "bfloat16": "<u2",
    "int4": "i1",
    "int8": "i1",
    "int16": "<i2",
    "int32": "<i4",
    "int64": "<i8",
    "uint8": "u1",
    "uint16": "<u2",
    "uint32": "<u4",
    "uint64": "<u8",
    "bool": "?",
}


@dataclass(frozen=True)
class Tensor:
    """A tensor of a graph as the file describes it.

    Attributes:
        index: within its graph.
        name: as in the file; not necessarily unique.
        shape: of the decoded tensor.
        dtype: `"float32"`, `"float16"`, `"int8"`, ...: the schema's name in lower case.
        constant: whether the file holds its values. The converter stores none at all for a
            sparse-encoded tensor of zeros only; it is constant all the same.
        buffer: index of the buffer with the values; several tensors may share one.
        sparsity: its encoding if it is sparse-encoded, else None.
        quantized: whether it has scales.
        scales: of its quantization, one or one per channel.
        zero_points: likewise.
        quantized_dimension: the dimension of the channels.
        variable: whether it keeps its values from one inference to the next.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    constant: bool
    buffer: int
    sparsity: Sparsity | None
    quantized: bool
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    quantized_dimension: int
    variable: bool


@dataclass(frozen=True)
class Operator:
    """An operator of a graph.

    Attributes:
        index: within its graph, which is the order of execution.
        op: `"CONV_2D"`, `"DENSIFY"`, ...: the schema's name, or a custom operator's own.
        version: of the operator's definition.
        inputs: tensor indices, -1 for one that is absent.
        outputs: tensor indices.
        options: by snake-case name; enums as strings (`padding` `"SAME"` or `"VALID"`,
            `activation` `"NONE"`, `"RELU"`, ...).
    """

    index: int
    op: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, object]


@dataclass(frozen=True)
class Graph:
    """A subgraph: tensors, operators in order of execution, and which tensors go in and out."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """An operator with constant weights, seen through DENSIFY and DEQUANTIZE.

    An operator with several weights, such as an LSTM, is several layers.

    Attributes:
        index: position in `Model.layers`.
        graph: index of its graph in `Model.graphs`.
        operator: index of the operator in its graph.
        tensor: index of the stored weights in its graph.
        op: name of the operator.
        name: of the stored weights.
        shape: of the decoded weights.
        dtype: of the stored weights.
        sparsity: exact zeros (-0.0, and a quantized zero, included) / elements.
        encoding: `"dense"`, `"sparse"`, `"block 1x4"`, ...
        prunable: whether a sparse kernel exists for it: 1x1 CONV_2D, and FULLY_CONNECTED in a
            file without any 1x1 CONV_2D.
        parameters: elements.
        subnormals: weights too small for a normal number of the type they are computed in. A
            float16 weight never counts: as a float32 it is normal.
        negative_zeros: stored as -0.0, which costs size after compression.
        nbytes: bytes of the stored weights, and of the segments and indices of their encoding.
    """

    index: int
    graph: int
    operator: int
    tensor: int
    op: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    sparsity: float
    encoding: str
    prunable: bool
    parameters: int
    subnormals: int
    negative_zeros: int
    nbytes: int


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Model:
    """One `.tflite` file and the facts read from it.

    Attributes:
        path: of the file, absolute.
        nbytes: its size.
        graphs: its subgraphs.

    Raises:
        ModelError: when made, if the file's structure is not that of a model; later, if stored
            weights are inconsistent or the file has changed since.
    """

    path: Path
    nbytes: int
    graphs: tuple[Graph, ...]

    def __init__(self, path: str | PathLike[str]) -> None:
        path = Path(fspath(path))
        with _faults(path):
            data, status = _map(path)
            with _reading():
                graphs, spans = _Reader(data).read()
        values = {
            "path": path.absolute(),
            "nbytes": len(data),
            "graphs": graphs,
            "_data": data,
            "_spans": spans,
            "_stamp": _stamp(status),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    if TYPE_CHECKING:
        _data: mmap.mmap
        _spans: tuple[tuple[int, int], ...]
        _stamp: tuple[int, ...]

    @staticmethod
    def of(model: str | PathLike[str] | Model) -> Model:
        """The model itself, or the one at the path."""
        return model if isinstance(model, Model) else Model(model)

    @property
    def graph(self) -> Graph:
        """The main graph."""
        return self.graphs[0]

    @property
    def encoded(self) -> bool:
        """Whether any tensor is sparse-encoded."""
        return any(t.sparsity is not None for graph in self.graphs for t in graph.tensors)

    @property
    def data(self) -> mmap.mmap:
        """The content of the file, mapped: it can be sliced, hashed and copied like bytes."""
        with _faults(self.path):
            self._check_unchanged()
        return self._data

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The operators with weights, in order of execution, those of the main graph first."""
        with _faults(self.path):
            self._check_unchanged()
            return _layers(self)

    @cached_property
    def sparsity(self) -> float:
        """Exact zeros / elements over all layers' weights, each tensor counted once."""
        weights = {(layer.graph, layer.tensor): layer for layer in self.layers}.values()
        parameters = sum(layer.parameters for layer in weights)
        zeros = sum(round(layer.sparsity * layer.parameters) for layer in weights)
        return zeros / parameters if parameters else 0.0

    @cached_property
    def sha256(self) -> str:
        """Of the file's content, in hexadecimal."""
        import hashlib

        return hashlib.sha256(self.data).hexdigest()

    def weights(self, tensor: int, graph: int = 0) -> Array:
        """The values of a constant tensor, decoded: a new array of the tensor's shape and dtype.

        int4 comes as int8, and bfloat16 as the uint16 of its bits.

        Raises:
            ModelError: the stored values are inconsistent with the tensor's description.
            ValueError: the tensor is not constant.
        """
        described = self.graphs[graph].tensors[tensor]
        if not described.constant:
            raise ValueError(f"tensor {tensor} ({described.name!r}) is not constant")
        with _faults(self.path), _faults_of(described):
            self._check_unchanged()
            values = _values(self.stored(described.buffer), described)
            if described.sparsity is not None:
                return encoding.decode(values, described.shape, described.sparsity)
            return values[: prod(described.shape)].reshape(described.shape).copy()

    def span(self, buffer: int) -> tuple[int, int]:
        """Where in the file a buffer's bytes start, and how many there are."""
        return self._spans[buffer]

    def stored(self, buffer: int) -> Array:
        """The bytes of a buffer as they are in the file: a read-only view, uint8."""
        import numpy as np

        start, length = self.span(buffer)
        return np.frombuffer(self._data, np.uint8, length, start)

    def _check_unchanged(self) -> None:
        if _stamp(self.path.stat()) != self._stamp:
            raise ModelError("the file has changed since it was read: make a new Model of it")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model):
            return NotImplemented
        return self.path == other.path and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash((self.path, self.sha256))

    def __repr__(self) -> str:
        return f"Model({self.path.name!r}, {_size(self.nbytes)})"


def replace_file(path: Path, data: bytes | bytearray) -> None:
    """Write a file in one step.

    A model's file may be mapped; writing into it would change the numbers under its reader, and
    making it shorter would kill the process (SIGBUS).
    """
    import os
    import tempfile

    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _size(nbytes: int) -> str:
    if nbytes < 1e6:
        return f"{nbytes / 1e3:.1f} kB"
    return f"{nbytes / 1e6:.1f} MB"


# ---------------------------------------------------------------------------------- the file


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Name the file in a ModelError, and turn what the operating system says into one."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error.__cause__
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error


@contextmanager
def _reading() -> Iterator[None]:
    """Turn what damaged offsets make the schema's classes and struct raise into a ModelError."""
    try:
        yield
    except ModelError:
        raise
    except (struct.error, IndexError, OverflowError, TypeError, ValueError) as error:
        raise ModelError(f"the file is cut off or damaged ({error})") from error


@contextmanager
def _faults_of(tensor: Tensor) -> Iterator[None]:
    try:
        yield
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(f"the weights of tensor {tensor.name!r} are damaged: {error}") from error


def _map(path: Path) -> tuple[mmap.mmap, stat_result]:
    if not stat.S_ISREG(path.stat().st_mode):
        raise ModelError("not a file")
    with path.open("rb") as file:
        from os import fstat

        status = fstat(file.fileno())
        if not status.st_size:
            raise ModelError("the file is empty")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if data[4:8] != IDENTIFIER:
        raise ModelError(
            f"not a .tflite file: bytes 4 to 8 are {data[4:8]!r}, a model has {IDENTIFIER!r} there"
        )
    return data, status


def _stamp(status: stat_result) -> tuple[int, ...]:
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _names(enum: type) -> dict[int, str]:
    """Names by number of a schema enum, which the `tflite` package has as plain classes."""
    return {n: name for name, n in vars(enum).items() if isinstance(n, int)}


class _Reader:
    """Reads the structure of a model through the schema's classes, and checks what they do not."""

    def __init__(self, data: mmap.mmap) -> None:
        import tflite

        self.data = data
        self.schema: Any = tflite
        self.tables = 0
        self.ops = _names(tflite.BuiltinOperator)
        self.types = {n: name.lower() for n, name in _names(tflite.TensorType).items()}
        self.option_tables = _names(tflite.BuiltinOptions)
        self.enums = {option: _names(getattr(tflite, name)) for option, name in _ENUMS.items()}

    def read(self) -> tuple[tuple[Graph, ...], tuple[tuple[int, int], ...]]:
        """The graphs, and where in the file each buffer starts and how long it is."""
        model = self.table(self.schema.Model.GetRootAs(self.data, 0))
        if model.Version() != SCHEMA_VERSION:
            raise ModelError(f"schema version {model.Version()} is not {SCHEMA_VERSION}")
        spans = tuple(self.buffer(b) for b in self.children(model, "Buffers"))
        codes = [self.code(c) for c in self.children(model, "OperatorCodes")]
        graphs = tuple(self.graph(g, codes, spans) for g in self.children(model, "Subgraphs"))
        if not graphs:
            raise ModelError("the file holds no graph")
        return graphs, spans

    def table(self, table: Any) -> Any:
        """The table, after a look at its vtable; the schema's classes believe all they read."""
        self.tables += 1
        if self.tables > MAX_TABLES:
            raise ValueError(f"more than {MAX_TABLES} tables")
        position = table._tab.Pos  # noqa: SLF001  (the classes have no public way to ask)
        (distance,) = struct.unpack_from("<i", self.data, position)
        vtable = position - distance
        if vtable < 0:
            raise ValueError(f"a vtable at {vtable}")
        length, size = struct.unpack_from("<HH", self.data, vtable)
        if length < 4 or length % 2 or vtable + length > len(self.data):
            raise ValueError(f"a vtable of {length} bytes at {vtable}")
        fields = struct.unpack_from(f"<{length // 2 - 2}H", self.data, vtable + 4)
        if position + size > len(self.data) or max(fields, default=0) >= max(size, 4):
            raise ValueError(f"a table of {size} bytes at {position}")
        return table

    def children(self, parent: Any, field: str) -> Iterator[Any]:
        get = getattr(parent, field)
        for i in range(getattr(parent, f"{field}Length")()):
            yield self.table(get(i))

    def numbers(self, parent: Any, field: str) -> Array:
        """A vector of numbers as a view; empty if the field is absent."""
        import numpy as np

        if getattr(parent, f"{field}IsNone")():
            return np.zeros(0, np.int32)
        view: Array = getattr(parent, f"{field}AsNumpy")()
        return view

    def span(self, table: Any, slot: int) -> tuple[int, int]:
        """Start and length of a vector of bytes."""
        inner = table._tab  # noqa: SLF001
        field = inner.Offset(slot)
        if not field:
            return 0, 0
        start, length = inner.Vector(field), inner.VectorLen(field)
        if start + length > len(self.data):
            raise ValueError(f"{length} bytes at {start}")
        return start, length

    def text(self, table: Any, slot: int) -> str:
        start, length = self.span(table, slot)
        return self.data[start : start + length].decode(errors="replace")

    def buffer(self, buffer: Any) -> tuple[int, int]:
        if buffer.Offset() > 1:  # 0 and 1 mean: inside (schema.fbs)
            raise ModelError("weights outside the flatbuffer (files over 2 GB) are not supported")
        return self.span(buffer, _BUFFER_DATA)

    def code(self, code: Any) -> tuple[str, int]:
        """Name and version of an operator code."""
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = self.ops.get(number, f"BUILTIN_{number}")
        if name == "CUSTOM":
            name = self.text(code, _CODE_CUSTOM)
        return name, code.Version()

    def graph(self, graph: Any, codes: list[tuple[str, int]], spans: Any) -> Graph:
        tensors = tuple(
            self.tensor(i, t, spans) for i, t in enumerate(self.children(graph, "Tensors"))
        )
        operators = tuple(
            self.operator(i, o, codes) for i, o in enumerate(self.children(graph, "Operators"))
        )
        inputs, outputs = (
            tuple(self.numbers(graph, field).tolist()) for field in ("Inputs", "Outputs")
        )
        for used in (inputs, outputs, *(o.outputs for o in operators)):
            _check_indices(used, 0, len(tensors))
        for operator in operators:
            _check_indices(operator.inputs, -1, len(tensors))
            _check_operands(operator, tensors)
        return Graph(tensors, operators, inputs, outputs)

    def operator(self, index: int, operator: Any, codes: list[tuple[str, int]]) -> Operator:
        op, version = codes[operator.OpcodeIndex()]
        return Operator(
            index=index,
            op=op,
            version=version,
            inputs=tuple(self.numbers(operator, "Inputs").tolist()),
            outputs=tuple(self.numbers(operator, "Outputs").tolist()),
            options=self.options(operator),
        )

    def options(self, operator: Any) -> dict[str, object]:
        kind = self.option_tables.get(operator.BuiltinOptionsType(), "")
        union = operator.BuiltinOptions()
        if kind not in _FIELDS or union is None:
            return {}
        table = getattr(self.schema, kind)()
        table.Init(union.Bytes, union.Pos)
        self.table(table)
        return {field: self.option(table, field) for field in _FIELDS[kind]}

    def option(self, table: Any, field: str) -> object:
        getter = _GETTERS.get(field) or "".join(part.capitalize() for part in field.split("_"))
        if field in _VECTORS:
            return tuple(self.numbers(table, getter).tolist())
        value = getattr(table, getter)()
        return self.enums[field].get(value, str(value)) if field in _ENUMS else value

    def tensor(self, index: int, tensor: Any, spans: Any) -> Tensor:
        shape = self.numbers(tensor, "Shape")
        if shape.size > MAX_RANK or (shape < 0).any():
            raise ValueError(f"a tensor of {shape.size} dimensions, or a negative one")
        scales, zero_points, dimension = self.quantization(tensor)
        sparsity = self.sparsity(tensor)
        described = Tensor(
            index=index,
            name=self.text(tensor, _TENSOR_NAME),
            shape=tuple(shape.tolist()),
            dtype=self.types.get(tensor.Type(), f"type{tensor.Type()}"),
            constant=spans[tensor.Buffer()][1] > 0 or sparsity is not None,
            buffer=tensor.Buffer(),
            sparsity=sparsity,
            quantized=bool(scales),
            scales=scales,
            zero_points=zero_points,
            quantized_dimension=dimension,
            variable=tensor.IsVariable(),
        )
        _check_size(described, spans[described.buffer][1])
        return described

    def quantization(self, tensor: Any) -> tuple[tuple[float, ...], tuple[int, ...], int]:
        quantization = tensor.Quantization()
        if quantization is None:
            return (), (), 0
        self.table(quantization)
        scales = tuple(self.numbers(quantization, "Scale").tolist())
        zero_points = tuple(self.numbers(quantization, "ZeroPoint").tolist())
        return scales, zero_points, quantization.QuantizedDimension()

    def sparsity(self, tensor: Any) -> Sparsity | None:
        parameters = tensor.Sparsity()
        if parameters is None:
            return None
        self.table(parameters)
        levels = list(self.children(parameters, "DimMetadata"))
        formats = ("dense", "csr")
        return encoding.Sparsity(
            traversal_order=tuple(self.numbers(parameters, "TraversalOrder").tolist()),
            block_map=tuple(self.numbers(parameters, "BlockMap").tolist()),
            dense_sizes=tuple(level.DenseSize() for level in levels),
            formats=tuple(formats[level.Format()] for level in levels),
            segments=tuple(self.index_vector(level, "ArraySegments") for level in levels),
            indices=tuple(self.index_vector(level, "ArrayIndices") for level in levels),
        )

    def index_vector(self, level: Any, field: str) -> Array | None:
        kind = getattr(level, f"{field}Type")()
        union = getattr(level, field)()
        if not kind or union is None:
            return None
        # The order of schema.fbs' union SparseIndexVector.
        name = ("Int32Vector", "Uint16Vector", "Uint8Vector")[kind - 1]
        vector = getattr(self.schema, name)()
        vector.Init(union.Bytes, union.Pos)
        return self.numbers(self.table(vector), "Values")


def _check_indices(indices: tuple[int, ...], lowest: int, count: int) -> None:
    if indices and not lowest <= min(indices) <= max(indices) < count:
        raise ValueError(f"tensors {indices} of {count}")


def _check_operands(operator: Operator, tensors: tuple[Tensor, ...]) -> None:
    needed = _OPERANDS.get(operator.op, 0)
    given = operator.inputs[:needed]
    if len(given) < needed or -1 in given or (needed and not operator.outputs):
        raise ModelError(
            f"operator {operator.index} ({operator.op}) has the inputs {operator.inputs} and "
            f"outputs {operator.outputs}, it needs {needed} and one"
        )
    rank = _WEIGHTS_RANK.get(operator.op)
    if rank and len(tensors[given[1]].shape) != rank:
        raise ModelError(
            f"operator {operator.index} ({operator.op}) has weights of the shape "
            f"{tensors[given[1]].shape}, it needs {rank} dimensions"
        )


# --------------------------------------------------------------------------------- the weights


def _check_size(tensor: Tensor, stored: int) -> None:
    """TFLite's own condition for a constant that is stored densely (subgraph.cc)."""
    if not tensor.constant or tensor.sparsity is not None or tensor.dtype not in _NUMPY:
        return
    needed = _nbytes(prod(tensor.shape), tensor.dtype)
    if stored != needed:
        raise ModelError(
            f"tensor {tensor.name!r} has {stored} bytes of values, "
            f"its shape {tensor.shape} of {tensor.dtype} needs {needed}"
        )


def _nbytes(count: int, dtype: str) -> int:
    import numpy as np

    return (count + 1) // 2 if dtype == "int4" else count * np.dtype(_NUMPY[dtype]).itemsize


def _values(stored: Array, tensor: Tensor) -> Array:
    """The stored bytes as numbers, a view except for int4."""
    import numpy as np

    if tensor.dtype not in _NUMPY:
        raise ModelError(f"tensor {tensor.name!r} is of {tensor.dtype}, which cannot be read")
    if tensor.dtype == "int4":  # the low half of a byte comes first
        nibbles: Array = np.stack([stored << 4, stored], axis=1).view(np.int8).reshape(-1) >> 4
        return nibbles
    if stored.size % np.dtype(_NUMPY[tensor.dtype]).itemsize:
        raise ValueError(f"{stored.size} bytes are no whole number of {tensor.dtype}")
    values: Array = stored.view(_NUMPY[tensor.dtype])
    return values


@dataclass(frozen=True)
class _Counts:
    values: int
    zeros: int
    negative_zeros: int
    subnormals: int


def _count(stored: Array, tensor: Tensor) -> _Counts:
    """Counts over the stored values, piece by piece so that no array of their size is made."""
    values = zeros = negative_zeros = subnormals = 0
    limit = prod(tensor.shape)  # an odd number of int4 leaves half a byte over
    for start in range(0, stored.size, CHUNK):
        decoded = _values(stored[start : start + CHUNK], tensor)
        piece = _count_piece(decoded[: limit - values], tensor)
        values += piece.values
        zeros += piece.zeros
        negative_zeros += piece.negative_zeros
        subnormals += piece.subnormals
    return _Counts(values, zeros, negative_zeros, subnormals)


def _count_piece(values: Array, tensor: Tensor) -> _Counts:
    import numpy as np

    if tensor.dtype not in _STORED_AS:
        zero = tensor.zero_points[0] if len(tensor.zero_points) == 1 else 0
        return _Counts(values.size, int(np.count_nonzero(values == zero)), 0, 0)
    bits = values.view(_STORED_AS[tensor.dtype])
    sign = 1 << (8 * bits.itemsize - 1)
    magnitude = bits & (sign - 1)
    zeros = int(np.count_nonzero(magnitude == 0))
    smallest = _SMALLEST_NORMAL.get(tensor.dtype, 0)
    subnormals = int(np.count_nonzero(magnitude < smallest)) - zeros if smallest else 0
    return _Counts(values.size, zeros, int(np.count_nonzero(bits == sign)), subnormals)


def _layers(model: Model) -> tuple[Layer, ...]:
    found: list[Layer] = []
    counts: dict[tuple[int, int], _Counts] = {}
    for g, graph in enumerate(model.graphs):
        producers = {
            output: operator for operator in graph.operators for output in operator.outputs
        }
        for operator in graph.operators:
            for operand in WEIGHT_OPERANDS.get(operator.op, ()):
                weights = _stored_weights(graph, producers, operator, operand)
                if weights is None:
                    continue
                key = (g, weights.index)
                if key not in counts:
                    counts[key] = _check_and_count(model, weights)
                stored = model.span(weights.buffer)[1]
                found.append(_layer(len(found), g, operator, weights, counts[key], stored))
    return tuple(_mark_prunable(found))


def _stored_weights(
    graph: Graph, producers: Mapping[int, Operator], operator: Operator, operand: int
) -> Tensor | None:
    """The constant behind an operand, at most one DENSIFY and one DEQUANTIZE away."""
    index = operator.inputs[operand] if operand < len(operator.inputs) else -1
    for _ in range(2):
        producer = producers.get(index)
        if producer is None or producer.op not in ("DENSIFY", "DEQUANTIZE") or not producer.inputs:
            break
        index = producer.inputs[0]
    if index < 0 or not graph.tensors[index].constant:
        return None
    return graph.tensors[index]


def _check_and_count(model: Model, tensor: Tensor) -> _Counts:
    sparsity = tensor.sparsity
    with _faults_of(tensor):
        stored = model.stored(tensor.buffer)
        counts = _count(stored, tensor)
        if sparsity is not None:
            encoding.check(counts.values, tensor.shape, sparsity)
            if not encoding.whole_blocks(tensor.shape, sparsity):
                decoded = encoding.decode(_values(stored, tensor), tensor.shape, sparsity)
                counts = _count_piece(decoded, tensor)
    return counts


def _layer(
    index: int, graph: int, operator: Operator, weights: Tensor, counts: _Counts, stored: int
) -> Layer:
    parameters = prod(weights.shape)
    zeros = parameters - (counts.values - counts.zeros)
    metadata = weights.sparsity.nbytes if weights.sparsity is not None else 0
    return Layer(
        index=index,
        graph=graph,
        operator=operator.index,
        tensor=weights.index,
        op=operator.op,
        name=weights.name,
        shape=weights.shape,
        dtype=weights.dtype,
        sparsity=zeros / parameters if parameters else 0.0,
        encoding=encoding.label(weights.sparsity),
        prunable=False,
        parameters=parameters,
        subnormals=counts.subnormals,
        negative_zeros=counts.negative_zeros,
        nbytes=stored + metadata,
    )


def _mark_prunable(layers: list[Layer]) -> Iterator[Layer]:
    from dataclasses import replace

    pointwise = [x.op == "CONV_2D" and x.shape[1:3] == (1, 1) for x in layers]
    for layer, is_pointwise in zip(layers, pointwise, strict=True):
        linear = layer.op == "FULLY_CONNECTED" and not any(pointwise)
        yield replace(layer, prunable=is_pointwise or linear)
