"""The part of a network that knows no layer: tensors, constants, operators, and the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity import encoding as sparse_encoding
from pytest_sparsity.model import replace_file
from pytest_sparsity.writer.flatbuffer import file_of
from pytest_sparsity.writer.layers import BLOCKS, FIXED_SCALES, quantize_weights, version_of
from pytest_sparsity.writer.values import Described, Names, Operand, Operation, Quantization

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike

    from pytest_sparsity.encoding import Array, Sparsity
    from pytest_sparsity.writer.values import DType, Encoding


@dataclass(init=False)
class Builder:
    """Collects tensors and operators of one graph.

    Attributes:
        input: the first input.
    """

    input: Operand
    _tensors: list[Described] = field(repr=False)
    _operators: list[Operation] = field(repr=False)
    _inputs: list[Operand] = field(repr=False)
    _outputs: list[Operand] = field(repr=False)
    _names: Names | None = field(default=None, repr=False)

    def __init__(self, input_shape: Sequence[int], dtype: DType = "float32") -> None:
        self._tensors, self._operators, self._inputs, self._outputs = [], [], [], []
        self.input = self.add_input(input_shape, dtype)

    def add_input(self, shape: Sequence[int], dtype: DType = "float32") -> Operand:
        """A further input."""
        value = self._tensor(f"input_{len(self._inputs)}", shape, dtype)
        self._inputs.append(value)
        return value

    def leave_open(self, x: Operand, *dimensions: int) -> None:
        """Leave sizes of a tensor to whoever runs the network; `x.shape` has what is made up."""
        self._tensors[x.index].open = dimensions

    def sign(self, inputs: Mapping[str, Operand], outputs: Mapping[str, Operand]) -> None:
        """Name the inputs and outputs in a signature, as the converter does."""
        self._names = Names(inputs, outputs)

    def output(self, *values: Operand) -> None:
        """Declare outputs of the network, in this order."""
        self._outputs += values

    def constant(
        self,
        values: Array,
        name: str = "",
        *,
        shape: Sequence[int] | None = None,
        sparsity: Sparsity | None = None,
        quantization: Quantization | None = None,
    ) -> Operand:
        """A constant as it is stored: the values of any dtype, and what is said about them.

        Args:
            values: as stored; with a `sparsity`, those of its encoding.
            name: of the tensor.
            shape: of the decoded tensor if that is not the values' own.
            sparsity: the encoding of the values.
            quantization: their meaning.
        """
        import numpy as np

        index = len(self._tensors)
        value = Operand(
            index,
            tuple(values.shape if shape is None else shape),
            values.dtype.name,
            quantization,
            sparse_encoding.label(sparsity),
        )
        data = np.ascontiguousarray(values).tobytes()
        self._tensors.append(Described(name or f"constant_{index}", value, data, sparsity))
        return value

    def weights(
        self,
        weights: Array,
        name: str = "",
        *,
        encoding: Encoding = "dense",
        dtype: DType = "float32",
        channels: int | None = 0,
    ) -> Operand:
        """Weights ready to be an operand, which several layers may share.

        Sparse-encoded ones pass through DENSIFY, float16 ones through DEQUANTIZE. Block-encoded
        ones have no DENSIFY, also not with float16, where the converter's own files are wrong for
        the lack of it.

        Args:
            weights: float values in TFLite's layout.
            name: of the stored tensor.
            encoding: how they are stored.
            dtype: as what they are stored; int8 is quantized here, symmetrically.
            channels: for int8, the dimension with one scale each, or None for a single scale.
        """
        import numpy as np

        quantization = None
        stored = np.asarray(weights).astype(dtype) if dtype != "int8" else np.asarray(weights)
        if dtype == "int8":
            stored, quantization = quantize_weights(stored, channels)
        sparsity = None
        shape = stored.shape
        if encoding != "dense":
            stored, sparsity = sparse_encoding.encode(stored, BLOCKS[encoding])
        value = self.constant(
            stored, name, shape=shape, sparsity=sparsity, quantization=quantization
        )
        if encoding == "sparse":
            value = self.densify(value)
        return self.dequantize(value) if dtype == "float16" else value

    def densify(self, x: Operand) -> Operand:
        """DENSIFY."""
        return self.operator("DENSIFY", [x], x.shape, dtype=x.dtype, quantization=x.quantization)

    def quantize(self, x: Operand, scale: float, zero_point: int = 0) -> Operand:
        """QUANTIZE float32 to int8."""
        quantization = Quantization((scale,), (zero_point,))
        return self.operator("QUANTIZE", [x], x.shape, dtype="int8", quantization=quantization)

    def dequantize(self, x: Operand) -> Operand:
        """DEQUANTIZE float16 or int8 to float32."""
        version = {"float16": 3, "int8": 2}[x.dtype]
        return self.operator("DEQUANTIZE", [x], x.shape, dtype="float32", version=version)

    def operator(
        self,
        op: str,
        inputs: Sequence[Operand | None],
        shape: Sequence[int],
        kind: str = "",
        options: Mapping[str, object] | None = None,
        *,
        dtype: str | None = None,
        version: int | None = None,
        quantization: Quantization | None = None,
    ) -> Operand:
        """Any operator with one output.

        Args:
            op: its name in the schema's `BuiltinOperator`.
            inputs: None for one that is absent.
            shape: of the output.
            kind: name of the schema's table of options.
            options: by the schema's names, enums by the names of their values.
            dtype: of the output; that of the first input unless given.
            version: what the converter writes unless given.
            quantization: of the output; unless given what the specification fixes for the operator,
                else that of the first input if it has its type.
        """
        first = next(x for x in inputs if x is not None)
        dtype = dtype or first.dtype
        if quantization is None and dtype == "int8" and op in FIXED_SCALES:
            scale, zero_point = FIXED_SCALES[op]
            quantization = Quantization((scale,), (zero_point,))
        elif quantization is None and dtype == first.dtype:
            quantization = first.quantization
        if version is None:
            version = version_of(op, first)
        name = f"{op.lower()}_{len(self._operators)}"
        value = self._tensor(name, shape, dtype, quantization)
        indices = tuple(-1 if x is None else x.index for x in inputs)
        self._operators.append(
            Operation(op, version, indices, (value.index,), kind, dict(options or {}))
        )
        return value

    def to_bytes(self) -> bytes:
        """The file."""
        if not self._outputs:
            raise ValueError("the network has no output: call output(value)")
        return file_of(
            self._tensors,
            self._operators,
            [value.index for value in self._inputs],
            [value.index for value in self._outputs],
            self._names,
        )

    def write(self, path: str | PathLike[str]) -> Path:
        """Write the file; returns its path."""
        path = Path(fspath(path))
        replace_file(path, self.to_bytes())
        return path

    def _tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        quantization: Quantization | None = None,
    ) -> Operand:
        value = Operand(len(self._tensors), tuple(map(int, shape)), dtype, quantization)
        self._tensors.append(Described(name, value))
        return value
