"""Reading the structure of a model: all but the weights."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_sparsity import encoding
from pytest_sparsity.errors import ModelError
from pytest_sparsity.model.facts import Graph, Operator, SignatureDef, Tensor
from pytest_sparsity.model.schema import (
    BUFFER_DATA,
    CODE_CUSTOM,
    ENUMS,
    GETTERS,
    NUMPY,
    OPERANDS,
    OPTIONS,
    SCHEMA_VERSION,
    TENSOR_MAP_NAME,
    TENSOR_NAME,
    VECTORS,
    WEIGHTS_RANK,
    stored_bytes,
)

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

    from pytest_sparsity.encoding import Array, Sparsity

T = TypeVar("T")

MAX_TABLES = 1_000_000  # the limit of flatbuffers' own verifier (verifier.h, Options::max_tables)
MAX_NUMBERS = (
    1_000_000  # in a vector that becomes a tuple: more inputs or scales than any model has
)
MAX_RANK = 32  # numpy's before 2.0; TFLite's kernels stop at 8


@contextmanager
def reading() -> Iterator[None]:
    """Turn what damaged offsets make the schema's classes and struct raise into a ModelError."""
    try:
        yield
    except ModelError:
        raise
    except struct.error as error:
        raise ModelError("the file is cut off or damaged: it points behind its end") from error
    except (LookupError, OverflowError, TypeError, ValueError) as error:
        raise ModelError(f"the file is damaged: it has {error}") from error


def _choose(items: Mapping[int, T] | Sequence[T], index: int, what: str) -> T:
    known = index in items if isinstance(items, Mapping) else 0 <= index < len(items)
    if not known:
        raise ValueError(f"{what} {index}, of {len(items)}")
    return items[index]


def _names(enum: type) -> dict[int, str]:
    """Names by number of a schema enum, which the `tflite` package has as plain classes."""
    return {n: name for name, n in vars(enum).items() if isinstance(n, int)}


class Reader:
    """Reads the structure of a model through the schema's classes, and checks what they do not."""

    def __init__(self, data: mmap.mmap) -> None:
        import tflite

        self.data = data
        self.schema: Any = tflite
        self.tables = 0
        self.ops = _names(tflite.BuiltinOperator)
        self.types = {n: name.lower() for n, name in _names(tflite.TensorType).items()}
        self.option_tables = _names(tflite.BuiltinOptions)
        self.enums = {option: _names(getattr(tflite, name)) for option, name in ENUMS.items()}

    def read(
        self,
    ) -> tuple[tuple[Graph, ...], tuple[tuple[int, int], ...], SignatureDef | None]:
        """The graphs, where in the file each buffer starts and how long it is, and the names."""
        model = self.table(self.schema.Model.GetRootAs(self.data, 0))
        if model.Version() != SCHEMA_VERSION:
            raise ModelError(f"schema version {model.Version()} is not {SCHEMA_VERSION}")
        spans = tuple(self.buffer(b) for b in self.children(model, "Buffers"))
        codes = [self.code(c) for c in self.children(model, "OperatorCodes")]
        graphs = tuple(self.graph(g, codes, spans) for g in self.children(model, "Subgraphs"))
        if not graphs:
            raise ModelError("the file holds no graph")
        named = (self.signature(s, graphs) for s in self.children(model, "SignatureDefs"))
        return graphs, spans, next((each for each in named if each), None)

    def signature(self, signature: Any, graphs: tuple[Graph, ...]) -> SignatureDef | None:
        """A signature of the main graph; None if it is another graph's or does not cover it."""
        maps: dict[str, tuple[tuple[str, int], ...]] = {
            field: tuple(
                (self.text(each, TENSOR_MAP_NAME), each.TensorIndex())
                for each in self.children(signature, field)
            )
            for field in ("Inputs", "Outputs")
        }
        covered = all(
            {index for _, index in maps[field]} == set(used)
            for field, used in (("Inputs", graphs[0].inputs), ("Outputs", graphs[0].outputs))
        )
        if signature.SubgraphIndex() or not covered:
            return None
        return SignatureDef(maps["Inputs"], maps["Outputs"])

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
        """The tables of a vector of tables, one after the other."""
        get = getattr(parent, field)
        for i in range(getattr(parent, f"{field}Length")()):
            yield self.table(get(i))

    def numbers(self, parent: Any, field: str) -> Array:
        """A vector of numbers as a view; empty if the field is absent."""
        import numpy as np

        if getattr(parent, f"{field}IsNone")():
            return np.zeros(0, np.int32)
        try:
            view: Array = getattr(parent, f"{field}AsNumpy")()
        except ValueError as error:  # numpy's word for a vector that is longer than the file
            raise ModelError("the file is cut off or damaged: it points behind its end") from error
        return view

    def values(self, parent: Any, field: str) -> tuple[Any, ...]:
        """A vector of numbers as a tuple."""
        view = self.numbers(parent, field)
        if view.size > MAX_NUMBERS:
            raise ValueError(f"a vector of {view.size} {field}")
        return tuple(view.tolist())

    def span(self, table: Any, slot: int) -> tuple[int, int]:
        """Start and length of a vector of bytes."""
        inner = table._tab  # noqa: SLF001
        field = inner.Offset(slot)
        if not field:
            return 0, 0
        start, length = inner.Vector(field), inner.VectorLen(field)
        if start + length > len(self.data):
            raise ValueError(f"{length} bytes at {start}, which is behind its end")
        return start, length

    def text(self, table: Any, slot: int) -> str:
        """A string; what is not UTF-8 in it is replaced."""
        start, length = self.span(table, slot)
        return self.data[start : start + length].decode(errors="replace")

    def buffer(self, buffer: Any) -> tuple[int, int]:
        """Where a buffer's bytes start, and how many there are."""
        if buffer.Offset() > 1:  # 0 and 1 mean: inside (schema.fbs)
            raise ModelError("weights outside the flatbuffer (files over 2 GB) are not supported")
        return self.span(buffer, BUFFER_DATA)

    def code(self, code: Any) -> tuple[str, int]:
        """Name and version of an operator code."""
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = self.ops.get(number, f"BUILTIN_{number}")
        if name == "CUSTOM":
            name = self.text(code, CODE_CUSTOM)
        return name, code.Version()

    def graph(self, graph: Any, codes: list[tuple[str, int]], spans: Any) -> Graph:
        """A subgraph, its operators checked for the operands they need."""
        tensors = tuple(
            self.tensor(i, t, spans) for i, t in enumerate(self.children(graph, "Tensors"))
        )
        operators = tuple(
            self.operator(i, o, codes) for i, o in enumerate(self.children(graph, "Operators"))
        )
        inputs, outputs = self.values(graph, "Inputs"), self.values(graph, "Outputs")
        for used in (inputs, outputs, *(o.outputs for o in operators)):
            _check_indices(used, 0, len(tensors))
        for operator in operators:
            _check_indices(operator.inputs, -1, len(tensors))
            _check_operands(operator, tensors)
        return Graph(tensors, operators, inputs, outputs)

    def operator(self, index: int, operator: Any, codes: list[tuple[str, int]]) -> Operator:
        """An operator, its name and version looked up among the codes."""
        op, version = _choose(codes, operator.OpcodeIndex(), "an operator of code")
        return Operator(
            index=index,
            op=op,
            version=version,
            inputs=self.values(operator, "Inputs"),
            outputs=self.values(operator, "Outputs"),
            options=self.options(operator),
        )

    def options(self, operator: Any) -> dict[str, object]:
        """The options that `schema.OPTIONS` lists for the kind of table the operator has."""
        kind = self.option_tables.get(operator.BuiltinOptionsType(), "")
        union = operator.BuiltinOptions()
        if kind not in OPTIONS or union is None:
            return {}
        table = getattr(self.schema, kind)()
        table.Init(union.Bytes, union.Pos)
        self.table(table)
        return {field: self.option(table, field) for field in OPTIONS[kind]}

    def option(self, table: Any, field: str) -> object:
        """One option: a number, a flag, a tuple of numbers, or the name of an enum value."""
        getter = GETTERS.get(field) or "".join(part.capitalize() for part in field.split("_"))
        if field in VECTORS:
            return self.values(table, getter)
        value = getattr(table, getter)()
        return self.enums[field].get(value, str(value)) if field in ENUMS else value

    def tensor(self, index: int, tensor: Any, spans: Any) -> Tensor:
        """A tensor, the bytes of its values checked against its shape."""
        shape = self.values(tensor, "Shape")
        shape_signature = self.values(tensor, "ShapeSignature")
        if len(shape) > MAX_RANK or min(shape, default=0) < 0:
            raise ValueError(f"a tensor of {len(shape)} dimensions, or a negative one")
        _, stored = _choose(spans, tensor.Buffer(), "a tensor of buffer")
        scales, zero_points, dimension = self.quantization(tensor)
        sparsity = self.sparsity(tensor)
        described = Tensor(
            index=index,
            name=self.text(tensor, TENSOR_NAME),
            shape=shape,
            dtype=self.types.get(tensor.Type(), f"type{tensor.Type()}"),
            constant=stored > 0 or sparsity is not None,
            buffer=tensor.Buffer(),
            sparsity=sparsity,
            quantized=bool(scales),
            scales=scales,
            zero_points=zero_points,
            quantized_dimension=dimension,
            variable=tensor.IsVariable(),
            shape_signature=shape_signature if len(shape_signature) == len(shape) else (),
        )
        _check_size(described, stored)
        return described

    def quantization(self, tensor: Any) -> tuple[tuple[float, ...], tuple[int, ...], int]:
        """Scales, zero points and their dimension."""
        quantization = tensor.Quantization()
        if quantization is None:
            return (), (), 0
        self.table(quantization)
        scales = self.values(quantization, "Scale")
        zero_points = self.values(quantization, "ZeroPoint")
        return scales, zero_points, quantization.QuantizedDimension()

    def sparsity(self, tensor: Any) -> Sparsity | None:
        """The encoding, its arrays as views; its consistency is checked with the values."""
        parameters = tensor.Sparsity()
        if parameters is None:
            return None
        self.table(parameters)
        levels = list(self.children(parameters, "DimMetadata"))
        formats = {0: "dense", 1: "csr"}
        return encoding.Sparsity(
            traversal_order=self.values(parameters, "TraversalOrder"),
            block_map=self.values(parameters, "BlockMap"),
            dense_sizes=tuple(level.DenseSize() for level in levels),
            formats=tuple(_choose(formats, x.Format(), "a level of format") for x in levels),
            segments=tuple(self.index_vector(level, "ArraySegments") for level in levels),
            indices=tuple(self.index_vector(level, "ArrayIndices") for level in levels),
        )

    def index_vector(self, level: Any, field: str) -> Array | None:
        """Segments or indices, in one of three widths."""
        kind = getattr(level, f"{field}Type")()
        union = getattr(level, field)()
        if not kind or union is None:
            return None
        # Numbers of schema.fbs' union SparseIndexVector.
        kinds = {1: "Int32Vector", 2: "Uint16Vector", 3: "Uint8Vector"}
        name = _choose(kinds, kind, "indices of kind")
        vector = getattr(self.schema, name)()
        vector.Init(union.Bytes, union.Pos)
        return self.numbers(self.table(vector), "Values")


def _check_indices(indices: tuple[int, ...], lowest: int, count: int) -> None:
    if indices and not lowest <= min(indices) <= max(indices) < count:
        raise ValueError(f"an operator or graph with tensors {indices}, of {count}")


def _check_operands(operator: Operator, tensors: tuple[Tensor, ...]) -> None:
    needed = OPERANDS.get(operator.op, 0)
    given = operator.inputs[:needed]
    if len(given) < needed or -1 in given or (needed and not operator.outputs):
        raise ModelError(
            f"operator {operator.index} ({operator.op}) has the inputs {operator.inputs} and "
            f"outputs {operator.outputs}, it needs {needed} and one"
        )
    rank = WEIGHTS_RANK.get(operator.op)
    if rank and len(tensors[given[1]].shape) != rank:
        raise ModelError(
            f"operator {operator.index} ({operator.op}) has weights of the shape "
            f"{tensors[given[1]].shape}, it needs {rank} dimensions"
        )


def _check_size(tensor: Tensor, stored: int) -> None:
    """TFLite's own condition for a constant that is stored densely (subgraph.cc)."""
    if not tensor.constant or tensor.sparsity is not None or tensor.dtype not in NUMPY:
        return
    needed = stored_bytes(prod(tensor.shape), tensor.dtype)
    if stored != needed:
        raise ModelError(
            f"tensor {tensor.name!r} has {stored} bytes of values, "
            f"its shape {tensor.shape} of {tensor.dtype} needs {needed}"
        )
