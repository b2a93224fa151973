"""From a network to the bytes of its file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity.model.schema import IDENTIFIER, SCHEMA_VERSION
from pytest_sparsity.writer.layers import enum_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_sparsity.encoding import Array, Sparsity
    from pytest_sparsity.writer.values import Described, Names, Operation, Quantization, Value


class Serializer:
    """Turns a network into a flatbuffer, children before their parents as the format wants it."""

    def __init__(self) -> None:
        import flatbuffers
        import tflite

        self.builder: Any = flatbuffers.Builder(1024)
        self.schema: Any = tflite

    def table(self, kind: str, /, **fields: object) -> int:
        """A table; fields that are None stay absent."""
        getattr(self.schema, f"{kind}Start")(self.builder)
        for name, value in fields.items():
            if value is not None:
                getattr(self.schema, f"{kind}Add{name}")(self.builder, value)
        end: int = getattr(self.schema, f"{kind}End")(self.builder)
        return end

    def tables(self, offsets: Sequence[int]) -> int:
        """A vector of tables."""
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        end: int = self.builder.EndVector()
        return end

    def numbers(self, values: Sequence[float], dtype: str) -> int:
        """A vector of numbers."""
        import numpy as np

        end: int = self.builder.CreateNumpyVector(np.array(values, dtype))
        return end

    def data(self, data: bytes) -> int:
        """A buffer; XNNPACK and TFLite read the values where they are, so aligned to 16 bytes."""
        builder = self.builder
        builder.StartVector(1, len(data), 16)
        builder.head -= len(data)
        builder.Bytes[builder.head : builder.head + len(data)] = data
        return self.table("Buffer", Data=builder.EndVector())

    def model(
        self,
        tensors: Sequence[Described],
        operations: Sequence[Operation],
        inputs: Sequence[int],
        outputs: Sequence[int],
        names: Names | None = None,
    ) -> bytes:
        """The whole file."""
        buffers = [self.table("Buffer")]  # by convention the first is empty
        places = []
        for tensor in tensors:
            places.append(len(buffers) if tensor.data is not None else 0)
            if tensor.data is not None:
                buffers.append(self.data(tensor.data))
        versions: dict[str, int] = {}
        for operation in operations:  # the converter, too, has one code for all uses of an operator
            versions[operation.op] = max(operation.version, versions.get(operation.op, 0))
        codes = list(versions)
        graph = self.table(
            "SubGraph",
            Tensors=self.tables([self.tensor(t, p) for t, p in zip(tensors, places, strict=True)]),
            Inputs=self.numbers(inputs, "i4"),
            Outputs=self.numbers(outputs, "i4"),
            Operators=self.tables([self.operator(o, codes) for o in operations]),
            Name=self.builder.CreateString("main"),
        )
        root = self.table(
            "Model",
            Version=SCHEMA_VERSION,
            OperatorCodes=self.tables([self.code(op, versions[op]) for op in codes]),
            Subgraphs=self.tables([graph]),
            Description=self.builder.CreateString("pytest-sparsity"),
            Buffers=self.tables(buffers),
            SignatureDefs=None if names is None else self.tables([self.signature(names)]),
        )
        self.builder.Finish(root, file_identifier=IDENTIFIER)
        return bytes(self.builder.Output())

    def signature(self, names: Names) -> int:
        """The signature that the converter writes for a Keras network."""
        return self.table(
            "SignatureDef",
            Inputs=self.tensor_map(names.inputs),
            Outputs=self.tensor_map(names.outputs),
            SignatureKey=self.builder.CreateString("serving_default"),
            SubgraphIndex=0,
        )

    def tensor_map(self, values: Mapping[str, Value]) -> int:
        """Names of tensors."""
        return self.tables(
            [
                self.table(
                    "TensorMap", Name=self.builder.CreateString(name), TensorIndex=value.index
                )
                for name, value in values.items()
            ]
        )

    def code(self, op: str, version: int) -> int:
        """An operator code; numbers over 127 are only in the newer field."""
        number = enum_number("BuiltinOperator", op)
        return self.table(
            "OperatorCode",
            DeprecatedBuiltinCode=min(number, 127),
            BuiltinCode=number,
            Version=version,
        )

    def operator(self, operator: Operation, codes: Sequence[str]) -> int:
        """An operator and its options."""
        kind = operator.kind
        return self.table(
            "Operator",
            OpcodeIndex=codes.index(operator.op),
            Inputs=self.numbers(operator.inputs, "i4"),
            Outputs=self.numbers(operator.outputs, "i4"),
            BuiltinOptionsType=enum_number("BuiltinOptions", kind) if kind else None,
            BuiltinOptions=self.table(kind, **operator.options) if kind else None,
        )

    def tensor(self, tensor: Described, buffer: int) -> int:
        """A tensor and what is said about its values."""
        value = tensor.value
        return self.table(
            "Tensor",
            Shape=self.numbers(value.shape, "i4"),
            Type=enum_number("TensorType", value.dtype.upper()),
            Buffer=buffer,
            Name=self.builder.CreateString(tensor.name),
            Quantization=self.quantization(value.quantization),
            Sparsity=self.sparsity(tensor.sparsity),
            ShapeSignature=self.shape_signature(tensor),
            HasRank=True if tensor.open else None,
        )

    def shape_signature(self, tensor: Described) -> int | None:
        """The shape with -1 for what is open, if anything is."""
        if not tensor.open:
            return None
        sizes = enumerate(tensor.value.shape)
        return self.numbers([-1 if place in tensor.open else size for place, size in sizes], "i4")

    def quantization(self, quantization: Quantization | None) -> int | None:
        """Quantization parameters, if there are any."""
        if quantization is None:
            return None
        return self.table(
            "QuantizationParameters",
            Scale=self.numbers(quantization.scales, "f4"),
            ZeroPoint=self.numbers(quantization.zero_points, "i8"),
            QuantizedDimension=quantization.dimension,
        )

    def sparsity(self, sparsity: Sparsity | None) -> int | None:
        """Sparsity parameters, if there are any."""
        if sparsity is None:
            return None
        return self.table(
            "SparsityParameters",
            TraversalOrder=self.numbers(sparsity.traversal_order, "i4"),
            BlockMap=self.numbers(sparsity.block_map, "i4") if sparsity.block_map else None,
            DimMetadata=self.tables(
                [self.level(sparsity, i) for i in range(len(sparsity.formats))]
            ),
        )

    def level(self, sparsity: Sparsity, level: int) -> int:
        """One level of the encoding."""
        segments, indices = sparsity.segments[level], sparsity.indices[level]
        if segments is None or indices is None:
            return self.table("DimensionMetadata", Format=0, DenseSize=sparsity.dense_sizes[level])
        segments_kind, segments_vector = self.index_vector(segments)
        indices_kind, indices_vector = self.index_vector(indices)
        return self.table(
            "DimensionMetadata",
            Format=1,
            ArraySegmentsType=segments_kind,
            ArraySegments=segments_vector,
            ArrayIndicesType=indices_kind,
            ArrayIndices=indices_vector,
        )

    def index_vector(self, numbers: Array) -> tuple[int, int]:
        """Segments or indices: which kind of vector, and the vector."""
        kind = {1: "Uint8Vector", 2: "Uint16Vector", 4: "Int32Vector"}[numbers.dtype.itemsize]
        vector = self.table(kind, Values=self.builder.CreateNumpyVector(numbers))
        return enum_number("SparseIndexVector", kind), vector
