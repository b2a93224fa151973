"""The weights of a model: as numbers, counted, and which layer they belong to."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from pytest_sparsity import encoding
from pytest_sparsity.errors import ModelError
from pytest_sparsity.model.facts import Graph, Layer, Operator, Tensor
from pytest_sparsity.model.operators import NUMPY, WEIGHT_OPERANDS, stored_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_sparsity.encoding import Array

CHUNK = 2**20  # bytes of weights looked at at once: what the counts need fits into a CPU cache

_STORED_AS = {
    "float32": "<u4",
    "float16": "<u2",
    "bfloat16": "<u2",
    "float64": "<u8",
}
_SMALLEST_NORMAL = {"float32": 1 << 23, "float64": 1 << 52}


@contextmanager
def naming_weights(tensor: Tensor) -> Iterator[None]:
    """Turn what is inconsistent about a tensor's values into a ModelError that names it."""
    try:
        yield
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(f"the weights of tensor {tensor.name!r} are damaged: {error}") from error


def as_numbers(stored: Array, tensor: Tensor) -> Array:
    """The stored bytes as numbers, a view except for int4."""
    import numpy as np

    if tensor.dtype not in NUMPY:
        raise ModelError(f"tensor {tensor.name!r} is of {tensor.dtype}, which cannot be read")
    if tensor.dtype == "int4":  # the low half of a byte comes first
        nibbles: Array = np.stack([stored << 4, stored], axis=1).view(np.int8).reshape(-1) >> 4
        return nibbles
    if stored.size % np.dtype(NUMPY[tensor.dtype]).itemsize:
        raise ValueError(f"{stored.size} bytes are no whole number of {tensor.dtype}")
    values: Array = stored.view(NUMPY[tensor.dtype])
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
        decoded = as_numbers(stored[start : start + CHUNK], tensor)
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


def decoded_nbytes(graphs: Sequence[Graph], stored: Callable[[int], Array]) -> int:
    """Bytes of all tensors of all graphs, decoded and alive at once; nothing is decoded.

    Raises:
        ModelError: a sparse encoding is inconsistent, or its shape implausible.
    """
    total = 0
    for tensor in (tensor for graph in graphs for tensor in graph.tensors):
        # Of what has no fixed size (text) the file says nothing.
        total += stored_bytes(prod(tensor.shape), tensor.dtype) if tensor.dtype in NUMPY else 0
        if tensor.sparsity is not None:
            with naming_weights(tensor):
                values = as_numbers(stored(tensor.buffer), tensor)
                encoding.check(values.size, tensor.shape, tensor.sparsity)
                encoding.decoded_nbytes(values, tensor.shape, tensor.sparsity)
    return total


def find_layers(graphs: Sequence[Graph], stored: Callable[[int], Array]) -> tuple[Layer, ...]:
    """The layers of all graphs; `stored` gives the bytes of a buffer."""
    found: list[Layer] = []
    counts: dict[tuple[int, int], _Counts] = {}
    for g, operator, weights in _operators_with_weights(graphs):
        key = (g, weights.index)
        values = stored(weights.buffer)
        if key not in counts:
            counts[key] = _check_and_count(values, weights)
        found.append(_layer(len(found), g, operator, weights, counts[key], values.size))
    return tuple(found)


def _operators_with_weights(graphs: Sequence[Graph]) -> Iterator[tuple[int, Operator, Tensor]]:
    for g, graph in enumerate(graphs):
        producers = {output: o for o in graph.operators for output in o.outputs}
        for operator in graph.operators:
            for operand in WEIGHT_OPERANDS.get(operator.op, ()):
                weights = _stored_weights(graph, producers, operator, operand)
                if weights is not None:
                    yield g, operator, weights


def _stored_weights(
    graph: Graph, producers: Mapping[int, Operator], operator: Operator, operand: int
) -> Tensor | None:
    """The constant behind an operand, at most one DENSIFY and one DEQUANTIZE away."""
    index = operator.inputs[operand] if operand < len(operator.inputs) else -1
    for _ in range(2):
        producer = producers.get(index)
        if producer is None or producer.op not in ("DENSIFY", "DEQUANTIZE"):
            break
        index = producer.inputs[0]
    if index < 0 or not graph.tensors[index].constant:
        return None
    return graph.tensors[index]


def _check_and_count(stored: Array, tensor: Tensor) -> _Counts:
    sparsity = tensor.sparsity
    with naming_weights(tensor):
        counts = _count(stored, tensor)
        if sparsity is not None:
            encoding.check(counts.values, tensor.shape, sparsity)
            if not encoding.whole_blocks(tensor.shape, sparsity):
                decoded = encoding.decode(as_numbers(stored, tensor), tensor.shape, sparsity)
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
        parameters=parameters,
        subnormals=counts.subnormals,
        negative_zeros=counts.negative_zeros,
        nbytes=stored + metadata,
    )
