"""What must hold of a graph so that everybody who reads its facts can rely on it."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pytest_sparsity.errors import ModelError
from pytest_sparsity.model.operators import NUMPY, OPERANDS, WEIGHTS_RANK, stored_bytes

if TYPE_CHECKING:
    from pytest_sparsity.model.facts import Graph, Operator, Tensor


def check(graph: Graph) -> None:
    """Raise ModelError or ValueError unless every index is one, and every operator has operands."""
    count = len(graph.tensors)
    for used in (graph.inputs, graph.outputs, *(o.outputs for o in graph.operators)):
        _check_indices(used, 0, count)
    for operator in graph.operators:
        _check_indices(operator.inputs, -1, count)
        _check_operands(operator, graph.tensors)


def check_size(tensor: Tensor, stored: int) -> None:
    """Raise ModelError unless a densely stored constant has as many bytes as its shape needs.

    This is TFLite's own condition (subgraph.cc).
    """
    if not tensor.constant or tensor.sparsity is not None or tensor.dtype not in NUMPY:
        return
    needed = stored_bytes(prod(tensor.shape), tensor.dtype)
    if stored != needed:
        raise ModelError(
            f"tensor {tensor.name!r} has {stored} bytes of values, "
            f"its shape {tensor.shape} of {tensor.dtype} needs {needed}"
        )


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
