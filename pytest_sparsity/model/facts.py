"""What is known of a model, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_sparsity.encoding import Sparsity


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
        shape_signature: the shape with -1 for dimensions that are open; empty if none is.
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
    shape_signature: tuple[int, ...] = ()

    @property
    def open_dimensions(self) -> tuple[int, ...]:
        """The dimensions whose sizes the file leaves to whoever runs the model."""
        sizes = self.shape_signature or self.shape
        return tuple(place for place, size in enumerate(sizes) if size < 1)


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
class SignatureDef:
    """The names by which the main graph's inputs and outputs are called, with their tensors.

    In the order of the file, which the converter sorts by name. Keras' own names of inputs are
    kept; its outputs are called `output_0`, `output_1`, ... in Keras' order.
    """

    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Layer:
    """An operator with constant weights, seen through DENSIFY and DEQUANTIZE.

    An operator with several weights, such as an LSTM, is several layers. Weights that a branch or a
    loop is handed are those of a layer where they are: its graph and operator are the call's.

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
    parameters: int
    subnormals: int
    negative_zeros: int
    nbytes: int
