"""What must hold of a graph so that everybody who reads its facts can rely on it.

TFLite's kernels refuse such files when they are prepared, or read what nobody has written. A shape
without dimensions is that of a scalar or of a tensor whose shape is only known at run time, so
nothing is concluded from it.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pytest_sparsity.errors import ModelError
from pytest_sparsity.model.operators import (
    AXES,
    CHANNELS,
    EXACT,
    NUMPY,
    OPERANDS,
    OPTIONS,
    RANKS,
    UNPACKING,
    WEIGHTED,
    WINDOWS,
    stored_bytes,
)
from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_sparsity.encoding import Array
    from pytest_sparsity.model.facts import Graph, Operator, Tensor


def check(graph: Graph, stored: Callable[[Tensor], Array]) -> None:
    """Raise ModelError or ValueError unless whoever reads the graph can rely on it.

    Every index is one, every operator has its operands and an output, of the ranks that it needs,
    constant axes and paddings fit, nothing is read before it is written, and constants have the
    same shape before and after they are unpacked.

    Args:
        graph: to be checked.
        stored: gives the bytes of a constant tensor.
    """
    count = len(graph.tensors)
    for used in (graph.inputs, graph.outputs, *(o.outputs for o in graph.operators)):
        _check_indices(used, 0, count)
    for operator in graph.operators:
        _check_indices(operator.inputs, -1, count)
        _check_operands(operator)
        _check_shapes(operator, graph.tensors)
        _check_parameters(operator, graph.tensors, stored)
    _check_order(graph)
    _check_unpacking(graph)


def check_calls(graphs: Sequence[Graph]) -> None:
    """Raise ModelError unless every graph that an operator calls is there."""
    for graph in graphs:
        for operator in graph.operators:
            for name, value in operator.options.items():
                if not (name.endswith("subgraph_index") or name == "subgraph"):
                    continue
                assert isinstance(value, int), "the schema has numbers there"
                if not 0 <= value < len(graphs):
                    raise _fault(
                        operator, f"has {name} {value}, of {counted(len(graphs), 'graph')}"
                    )


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


def check_quantization(tensor: Tensor) -> None:
    """Raise ModelError unless there is one scale, or one for each entry of a dimension.

    These are TFLite's own conditions (`ParseQuantization` in interpreter_builder.cc).
    """
    scales, zeros = len(tensor.scales), len(tensor.zero_points)
    if not scales or not zeros:
        return
    if scales != zeros:
        raise ModelError(
            f"tensor {tensor.name!r} has {scales} scales and {counted(zeros, 'zero point')}"
        )
    dimension, shape = tensor.quantized_dimension, tensor.shape
    if shape and not 0 <= dimension < len(shape):
        raise ModelError(
            f"tensor {tensor.name!r} is quantized along dimension {dimension} of {len(shape)}"
        )
    if shape and scales not in {1, shape[dimension]}:
        raise ModelError(
            f"tensor {tensor.name!r} has {scales} scales for {shape[dimension]} entries"
        )


def _check_indices(indices: tuple[int, ...], lowest: int, count: int) -> None:
    if indices and not lowest <= min(indices) <= max(indices) < count:
        raise ValueError(f"an operator or graph with tensors {indices}, of {count}")


def _fault(operator: Operator, what: str) -> ModelError:
    return ModelError(f"operator {operator.index} ({operator.op}) {what}")


def _check_operands(operator: Operator) -> None:
    needed = OPERANDS.get(operator.op, 0)
    given = operator.inputs[:needed]
    outputs = len(operator.outputs) == 1 or operator.op == "ASSIGN_VARIABLE"
    outputs = outputs or (operator.op == "SPLIT" and len(operator.outputs) > 1)
    more = operator.op in EXACT and len(operator.inputs) > needed
    if needed and (len(given) < needed or more or -1 in given or not outputs):
        raise _fault(
            operator,
            f"has the inputs {operator.inputs} and outputs {operator.outputs}, "
            f"it needs {needed} and one",
        )


def _check_shapes(operator: Operator, tensors: tuple[Tensor, ...]) -> None:
    ranks = RANKS.get(operator.op, {})
    shapes = {
        f"operand {i}": (tensors[operator.inputs[i]].shape, rank) for i, rank in ranks.items()
    }
    if operator.op in WEIGHTED:
        shapes["weights"] = shapes.pop("operand 1")
        if 0 in shapes["weights"][0]:
            raise _fault(operator, f"has weights of the shape {shapes['weights'][0]}")
    if operator.op in RANKS and operator.op != "FULLY_CONNECTED":
        shapes["output"] = tensors[operator.outputs[0]].shape, 4
    for what, (shape, rank) in shapes.items():
        if len(shape) != rank and (shape or what == "weights"):
            raise _fault(
                operator, f"has {what} of the shape {shape}, it needs {counted(rank, 'dimension')}"
            )
    _check_bias(operator, tensors)
    if operator.op in WINDOWS:
        _check_window(operator)


def _check_window(operator: Operator) -> None:
    """Steps, dilations and sizes are at least 1: what computes an output's size divides by them."""
    if not operator.options:
        raise _fault(operator, f"has no {OPTIONS[operator.op]}")
    for name, value in operator.options.items():
        least = name.startswith(("stride", "dilation", "filter"))
        if least and isinstance(value, int) and value < 1:
            raise _fault(operator, f"has {name} {value}, it needs at least 1")


def _check_bias(operator: Operator, tensors: tuple[Tensor, ...]) -> None:
    """A number for each channel, as TFLite's own kernels ask for (conv.cc, fully_connected.cc)."""
    if operator.op not in CHANNELS or len(operator.inputs) < 3 or operator.inputs[2] < 0:
        return
    bias, weights = (tensors[operator.inputs[i]] for i in (2, 1))
    channels = weights.shape[CHANNELS[operator.op]]
    known = bias.constant or (bias.shape and not bias.open_dimensions)
    if known and (prod(bias.shape) != channels or bias.sparsity is not None):
        raise _fault(
            operator, f"has a bias of the shape {bias.shape} for {counted(channels, 'channel')}"
        )


def _check_parameters(
    operator: Operator, tensors: tuple[Tensor, ...], stored: Callable[[Tensor], Array]
) -> None:
    """Axes, orders and paddings, where they are constant and the rank is known."""
    if operator.op not in {*AXES, "PAD", "TRANSPOSE"}:
        return
    operand, parameter = (tensors[index] for index in operator.inputs[:2])
    if not parameter.constant:
        return
    if parameter.dtype not in {"int32", "int64"} or parameter.sparsity is not None:
        raise _fault(operator, f"has an operand 1 of {parameter.dtype}, it needs whole numbers")
    rank = len(operand.shape)
    if operator.op == "PAD":
        rows = rank if operand.shape else parameter.shape[0] if parameter.shape else 0
        if parameter.shape != (rows, 2):
            raise _fault(
                operator, f"has paddings {parameter.shape} for {counted(rank, 'dimension')}"
            )
        return
    axes = stored(parameter).view(NUMPY[parameter.dtype])
    if operator.op == "TRANSPOSE":
        if sorted(axes.tolist()) != list(range(rank if operand.shape else axes.size)):
            raise _fault(
                operator, f"has the order {axes.tolist()} for {counted(rank, 'dimension')}"
            )
        return
    if operand.shape and axes.size and not -rank <= axes.min() <= axes.max() < rank:
        raise _fault(operator, f"has the axes {axes.tolist()} for {counted(rank, 'dimension')}")


def _check_order(graph: Graph) -> None:
    writers: dict[int, int] = {}
    for operator in graph.operators:
        for output in operator.outputs:
            if graph.tensors[output].constant:
                raise _fault(operator, f"writes tensor {output}, which is constant")
            if output in writers and not graph.tensors[output].variable:
                raise _fault(
                    operator, f"writes tensor {output}, as operator {writers[output]} does"
                )
            writers.setdefault(output, operator.index)
    for operator in graph.operators:
        for index in operator.inputs:
            late = writers.get(index, -1) >= operator.index
            if late and index not in graph.inputs and not graph.tensors[index].variable:
                raise _fault(operator, f"reads tensor {index}, which is written only later")


def _check_unpacking(graph: Graph) -> None:
    """DENSIFY and DEQUANTIZE keep a shape, whatever their output declares (densify.cc)."""
    known = {tensor.index for tensor in graph.tensors if tensor.constant}
    for operator in graph.operators:
        if operator.op not in UNPACKING or operator.inputs[0] not in known:
            continue
        before, after = (graph.tensors[i] for i in (operator.inputs[0], operator.outputs[0]))
        if before.shape != after.shape:
            raise _fault(operator, f"unpacks a constant {before.shape} as one of {after.shape}")
        known.add(after.index)
