"""A model whose sums round otherwise and are the same in exact arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.model import Model
from pytest_sparsity.model.flatbuffer import Table
from pytest_sparsity.transform.edit import Edit

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike
    from pathlib import Path

    from pytest_sparsity.model import Graph, Operator

SUMS = {"AVERAGE_POOL_2D": 0, "BATCH_MATMUL": 0, "CUMSUM": 0, "MEAN": 0, "SUM": 0}
"""Operators that add up what was computed, and which operand holds the terms."""
LINEAR = ("NONE", "RELU")
"""Activations that keep a positive factor."""


def rescale_sums(
    model: Model | str | PathLike[str], factor: Callable[[], float], path: Path
) -> Model:
    """The model with the terms of its sums multiplied by a factor, and the sums divided by it.

    Of a sum of float32 every partial sum is rounded, which adds up to (n - 1) * 2^-24 of the sum of
    the n terms' magnitudes at most (Higham, Accuracy and Stability of Numerical Algorithms, 2nd
    edition, section 4.2). With other factors it is rounded otherwise, so that the difference tells
    how much of that bound the terms and the kernel of a model use. Sums with constant weights stay
    as they are: to move the weights does the same.

    Args:
        model: any model; one without such sums keeps all that it has.
        factor: called for every sum; between 1 and 2, so that nothing overflows.
        path: of the file to write, which is replaced if it exists.
    """
    model = Model.of(model)
    edit = Edit(model)
    for g, graph in enumerate(model.graphs):
        for operator in reversed(graph.operators):  # those in front keep their places
            if _is_sum(graph, operator):
                _rescale(edit, g, operator, factor())
    return edit.write(path)


def _is_sum(graph: Graph, operator: Operator) -> bool:
    if operator.op not in SUMS:
        return False
    terms = graph.tensors[operator.inputs[SUMS[operator.op]]]
    linear = operator.options.get("activation", "NONE") in LINEAR
    return linear and terms.dtype == "float32" and terms.sparsity is None


def _rescale(edit: Edit, graph: int, operator: Operator, factor: float) -> None:
    table, operand = edit.operator(graph, operator.index), SUMS[operator.op]
    inputs = list(operator.inputs)
    scaled = _like(edit, graph, inputs[operand])
    total = _like(edit, graph, operator.outputs[0])
    _multiply(edit, graph, operator.index + 1, (total, operator.outputs[0]), 1 / factor)
    _multiply(edit, graph, operator.index, (inputs[operand], scaled), factor)
    inputs[operand] = scaled
    table["inputs"], table["outputs"] = inputs, [total]


def _like(edit: Edit, graph: int, tensor: int) -> int:
    """A further tensor of the shape of one that is there."""
    there = edit.tensor(graph, tensor)
    added = edit.add_tensor(graph, there["name"] + b"/rescaled", there["shape"], "FLOAT32")
    if there["shape_signature"] is not None:
        edit.tensor(graph, added)["shape_signature"] = there["shape_signature"]
    return added


def _multiply(edit: Edit, graph: int, place: int, ends: tuple[int, int], factor: float) -> None:
    import numpy as np

    source, output = ends
    scalar = not len(edit.tensor(graph, source)["shape"])
    value = np.full(() if scalar else (1,), factor, np.float32)
    constant = edit.add_tensor(graph, b"factor", value.shape, "FLOAT32", value)
    edit.add_operator(graph, place, "MUL", [source, constant], [output], Table("MulOptions"))
