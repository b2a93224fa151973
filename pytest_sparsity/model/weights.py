"""The weights of a model: as numbers, counted, and which layer they belong to."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from pytest_sparsity import encoding
from pytest_sparsity.errors import ModelError
from pytest_sparsity.model.facts import Graph, Layer, Operator, Tensor
from pytest_sparsity.model.operators import (
    NUMPY,
    UNPACKING,
    WEIGHT_OPERANDS,
    WEIGHTED,
    stored_bytes,
)
from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from pytest_sparsity.encoding import Array

    _Place: TypeAlias = tuple[int, Operator, Tensor]

CHUNK = 2**20  # bytes of weights looked at at once: what the counts need fits into a CPU cache

_STORED_AS = {
    "float32": "<u4",
    "float16": "<u2",
    "bfloat16": "<u2",
    "float64": "<u8",
}
_SMALLEST_NORMAL = {"float32": 1 << 23, "float64": 1 << 52}
# Operators that run other graphs, by the option that names the graph: their first operand for it.
CALLING: Mapping[str, Mapping[str, int]] = {
    "IF": {"then_subgraph_index": 1, "else_subgraph_index": 1},
    "WHILE": {"cond_subgraph_index": 0, "body_subgraph_index": 0},
    "CALL": {"subgraph": 0},
}
COMPUTING = frozenset((*WEIGHTED, "CONV_3D", "BATCH_MATMUL"))


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
        raise ValueError(
            f"{counted(stored.size, 'byte is', 'bytes are')} no whole number of {tensor.dtype}"
        )
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
    for op, (g, operator, weights) in _operators_with_weights(graphs):
        key = (g, weights.index)
        values = stored(weights.buffer)
        if key not in counts:
            counts[key] = _check_and_count(values, weights)
        layer = _layer(len(found), g, operator, weights, counts[key], values.size)
        found.append(replace(layer, op=op))
    return tuple(found)


def _operators_with_weights(graphs: Sequence[Graph]) -> Iterator[tuple[str, _Place]]:
    """Names of operators, each with the place of its weights, which may be that of a call."""
    producers = [{output: o for o in graph.operators for output in o.outputs} for graph in graphs]
    calls = _calls(graphs)
    for g, graph in enumerate(graphs):
        for operator in graph.operators:
            for operand in WEIGHT_OPERANDS.get(operator.op, ()):
                index = operator.inputs[operand] if operand < len(operator.inputs) else -1
                place = _stored_weights(graphs, producers, calls, (g, operator, index))
                if place is not None:
                    yield operator.op, place


def _stored_weights(
    graphs: Sequence[Graph],
    producers: Sequence[Mapping[int, Operator]],
    calls: Mapping[int, list[tuple[int, Operator, Mapping[int, int]]]],
    wanted: tuple[int, Operator, int],
) -> _Place | None:
    """The constant behind a tensor, at most one DENSIFY and one DEQUANTIZE away.

    What a branch or a loop is handed is followed into the graph that calls it, if all calls hand
    over a constant; the first one's is taken. The converter transposes it in the branch.
    """
    g, operator, index = wanted
    passed = set(UNPACKING) | ({"TRANSPOSE"} if g in calls else set())
    for _ in passed:
        producer = producers[g].get(index)
        if producer is None or producer.op not in passed:
            break
        index = producer.inputs[0]
    if index >= 0 and graphs[g].tensors[index].constant:
        return g, operator, graphs[g].tensors[index]
    if index not in graphs[g].inputs or g not in calls:
        return None
    places = [
        _stored_weights(graphs, producers, calls, (caller, call, handed[index]))
        for caller, call, handed in calls[g]
        if caller < g and index in handed
    ]
    return places[0] if len(places) == len(calls[g]) and None not in places else None


def _calls(
    graphs: Sequence[Graph],
) -> Mapping[int, list[tuple[int, Operator, Mapping[int, int]]]]:
    """Of every graph the operators that call it, and what each hands over for which input."""
    found: dict[int, list[tuple[int, Operator, Mapping[int, int]]]] = {}
    for g, graph in enumerate(graphs):
        for operator in graph.operators:
            for option, first in CALLING.get(operator.op, {}).items():
                called = int(str(operator.options[option]))
                inputs, handed = graphs[called].inputs, operator.inputs[first:]
                pairs = dict(zip(inputs, handed, strict=False))
                if operator.op == "WHILE":  # what the loop changes is no constant
                    body = graphs[int(str(operator.options["body_subgraph_index"]))]
                    kept = [a == b for a, b in zip(body.inputs, body.outputs, strict=False)]
                    pairs = {
                        i: x for (i, x), same in zip(pairs.items(), kept, strict=False) if same
                    }
                found.setdefault(called, []).append((g, operator, pairs))
    return found


@dataclass(frozen=True)
class Computed:
    """A layer whose weights are not stored but computed at run time, from constants or variables.

    Attributes:
        graph: index of its graph.
        operator: the operator.
        name: of the weights.
        masks: constants of that graph which the weights are multiplied by.
    """

    graph: int
    operator: Operator
    name: str
    masks: tuple[int, ...]


def find_computed(graphs: Sequence[Graph]) -> tuple[Computed, ...]:
    """The layers of all graphs whose weights do not depend on the inputs and are not stored."""
    return tuple(found for g, graph in enumerate(graphs) for found in _computed_in(g, graph))


def _computed_in(g: int, graph: Graph) -> Iterator[Computed]:
    producers = {output: o for o in graph.operators for output in o.outputs}
    dependent, assigned = _dependent(graph)
    for operator in graph.operators:
        operands = WEIGHT_OPERANDS[operator.op] if operator.op in COMPUTING else ()
        for index in (operator.inputs[i] for i in operands if i < len(operator.inputs)):
            chain = _above(index, producers, assigned)
            stored = set(UNPACKING).issuperset(o.op for o in chain)
            if index < 0 or index in dependent or stored:
                continue
            factors = [i for o in chain if o.op == "MUL" for i in o.inputs]
            masks = tuple(i for i in factors if graph.tensors[i].constant)
            yield Computed(g, operator, graph.tensors[index].name, masks)


def _dependent(graph: Graph) -> tuple[set[int], dict[int, list[int]]]:
    """Tensors that depend on the inputs, and what is assigned to variables, by their handles."""
    assigned: dict[int, list[int]] = {}
    for operator in graph.operators:
        if operator.op == "ASSIGN_VARIABLE":
            assigned.setdefault(operator.inputs[0], []).append(operator.inputs[1])
    dependent, before = set(graph.inputs), -1
    while len(dependent) > before:  # a variable may be read before it is assigned
        before = len(dependent)
        for operator in graph.operators:
            if dependent.intersection(operator.inputs):
                dependent.update(operator.outputs)
        dependent.update(h for h, values in assigned.items() if dependent.intersection(values))
    return dependent, assigned


def _above(
    index: int, producers: Mapping[int, Operator], assigned: Mapping[int, list[int]]
) -> list[Operator]:
    """The operators that a tensor comes from, through variables too."""
    found: list[Operator] = []
    waiting, seen = [index], {index}
    while waiting:
        tensor = waiting.pop()
        operator = producers.get(tensor)
        further = list(assigned.get(tensor, ()))
        if operator is not None:
            found.append(operator)
            further += operator.inputs
        waiting += [i for i in further if i not in seen]
        seen.update(further)
    return found


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
