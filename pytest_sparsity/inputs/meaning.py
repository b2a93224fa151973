"""What the values of an input mean, found by following it through the graph.

An id that a table is looked up with must be a row of the table; what QUANTIZE turns into integers
has the range that it declares. All else is a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_sparsity.model import Model, Operator, Tensor


@dataclass(frozen=True)
class Meaning:
    """The values that an input may have.

    Attributes:
        low: the smallest one.
        high: integers are below, real numbers at most this.
        whole: integers only, whatever the type.
    """

    low: float = -inf
    high: float = inf
    whole: bool = False

    @property
    def known(self) -> bool:
        """Whether both ends are."""
        return self.low > -inf and self.high < inf

    def __and__(self, other: Meaning) -> Meaning:
        """What both allow."""
        return Meaning(
            max(self.low, other.low), min(self.high, other.high), self.whole or other.whole
        )


MOVING = {
    **dict.fromkeys(("CAST", "RESHAPE", "EXPAND_DIMS", "SQUEEZE", "TRANSPOSE", "TILE"), (0,)),
    **dict.fromkeys(("SLICE", "STRIDED_SLICE", "BROADCAST_TO", "REVERSE_V2", "UNPACK"), (0,)),
    **dict.fromkeys(("GATHER", "GATHER_ND", "PAD", "PADV2", "FLOOR", "ROUND", "CEIL"), (0,)),
    **dict.fromkeys(("SPLIT_V", "MIRROR_PAD", "DYNAMIC_UPDATE_SLICE"), (0,)),
    "SPLIT": (1,),
    **dict.fromkeys(("SELECT", "SELECT_V2"), (1, 2)),
}
"""Operators that move values and do not change them, with the operands that they move."""
JOINING = frozenset({"CONCATENATION", "PACK"})
"""The same, of all operands."""

Tensors = tuple["Tensor", ...]


def _rows(table: int, axis: str = "") -> Callable[[Model, Operator, Tensors], Meaning]:
    def rows(_: Model, operator: Operator, tensors: Tensors) -> Meaning:
        shape = tensors[operator.inputs[table]].shape
        place = int(str(operator.options.get(axis, 0)))
        if not -len(shape) <= place < len(shape):
            return Meaning()
        return Meaning(0, max(shape[place], 1), whole=True)

    return rows


def _depth(place: int) -> Callable[[Model, Operator, Tensors], Meaning]:
    def depth(model: Model, operator: Operator, tensors: Tensors) -> Meaning:
        tensor = tensors[operator.inputs[place]]
        if not tensor.constant or prod(tensor.shape) != 1:
            return Meaning(0, whole=True)
        return Meaning(0, max(int(model.weights(tensor.index).ravel()[0]), 1), whole=True)

    return depth


def _places(_: Model, operator: Operator, tensors: Tensors) -> Meaning:
    """Of GATHER_ND: a row of indices has one for each of the leading dimensions."""
    shape = tensors[operator.inputs[0]].shape
    indices = tensors[operator.inputs[1]].shape
    leading = shape[: indices[-1]] if indices else shape
    return Meaning(0, max(min(leading, default=1), 1), whole=True)


def _declared(_: Model, operator: Operator, tensors: Tensors) -> Meaning:
    """Of QUANTIZE: the real numbers that the integers stand for."""
    import numpy as np

    out = tensors[operator.outputs[0]]
    if not out.quantized or out.dtype not in ("int8", "uint8", "int16"):
        return Meaning()
    info = np.iinfo(out.dtype)
    low, high = ((end - out.zero_points[0]) * out.scales[0] for end in (info.min, info.max))
    return Meaning(low, high)


READING: dict[tuple[str, int], Callable[[Model, Operator, Tensors], Meaning]] = {
    ("GATHER", 1): _rows(0, "axis"),
    ("GATHER_ND", 1): _places,
    ("EMBEDDING_LOOKUP", 0): _rows(1),
    ("EMBEDDING_LOOKUP_SPARSE", 0): _rows(4),
    ("ONE_HOT", 0): _depth(1),
    ("UNSORTED_SEGMENT_SUM", 1): _depth(2),
    ("UNSORTED_SEGMENT_MAX", 1): _depth(2),
    ("UNSORTED_SEGMENT_MIN", 1): _depth(2),
    ("UNSORTED_SEGMENT_PROD", 1): _depth(2),
    ("QUANTIZE", 0): _declared,
}
"""What an operator demands of an operand. Source: TFLite's kernels of these operators (2.21)."""


def meanings(model: Model) -> tuple[Meaning, ...]:
    """One per input of the main graph, in the order of the file."""
    readers: dict[int, list[tuple[Operator, int]]] = {}
    for operator in model.graph.operators:
        for place, index in enumerate(operator.inputs):
            readers.setdefault(index, []).append((operator, place))
    return tuple(_followed(model, index, readers) for index in model.graph.inputs)


def _followed(model: Model, start: int, readers: dict[int, list[tuple[Operator, int]]]) -> Meaning:
    """All that is demanded of a tensor and of what its values are moved or shifted to."""
    found = Meaning()
    waiting, seen = [(start, 0.0)], {start}
    while waiting:
        index, shift = waiting.pop()
        for operator, place in readers.get(index, ()):
            demand = READING.get((operator.op, place))
            if demand is not None:
                meant = demand(model, operator, model.graph.tensors)
                found &= Meaning(meant.low - shift, meant.high - shift, meant.whole)
            for further, by in _moved(model, operator, place):
                if further not in seen:
                    seen.add(further)
                    waiting.append((further, shift + by))
    return found


def _moved(model: Model, operator: Operator, place: int) -> Iterator[tuple[int, float]]:
    """Tensors that get the operand's values, and what is added to them."""
    if operator.op in JOINING or place in MOVING.get(operator.op, ()):
        yield from ((index, 0.0) for index in operator.outputs)
    elif operator.op in ("ADD", "SUB") and operator.outputs:
        other = model.graph.tensors[operator.inputs[1 - place]] if place < 2 else None
        if other is None or not other.constant or prod(other.shape) != 1 or other.quantized:
            return
        if operator.op == "SUB" and place == 1:
            return
        value = float(model.weights(other.index).ravel()[0])
        yield operator.outputs[0], value if operator.op == "ADD" else -value
