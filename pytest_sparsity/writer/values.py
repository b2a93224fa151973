"""What a network being built consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_sparsity.encoding import Sparsity

Activation: TypeAlias = Literal["NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH"]
Padding: TypeAlias = Literal["SAME", "VALID"]
Encoding: TypeAlias = Literal["dense", "sparse", "block 1x4", "block 1x16"]
DType: TypeAlias = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class Quantization:
    """Scales and zero points: one, or one per channel of a dimension."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    dimension: int = 0


@dataclass(frozen=True)
class Operand:
    """A tensor of a network being built."""

    index: int
    shape: tuple[int, ...]
    dtype: str = "float32"
    quantization: Quantization | None = None
    encoding: str = "dense"


@dataclass
class Described:
    """A tensor as it will be written: a constant if it has data."""

    name: str
    value: Operand
    data: bytes | None = None
    sparsity: Sparsity | None = None
    open: tuple[int, ...] = ()
    """Dimensions whose size is left to whoever runs the network."""


@dataclass(frozen=True)
class Names:
    """A signature: inputs and outputs by name, in the order in which they are written."""

    inputs: Mapping[str, Operand]
    outputs: Mapping[str, Operand]


@dataclass
class Operation:
    """An operator as it will be written; options by the schema's names."""

    op: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kind: str
    options: Mapping[str, object]
