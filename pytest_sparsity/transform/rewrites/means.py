"""Rewrites of the averages that end a chain."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pytest_sparsity.model.flatbuffer import Table
from pytest_sparsity.transform.rewrites.change import ProposedRewrite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_sparsity.model import Operator
    from pytest_sparsity.transform.work import Work

HEIGHT_AND_WIDTH = (1, 2)


def transposed(work: Work) -> Iterator[ProposedRewrite]:
    """An average behind a TRANSPOSE, over the axes where they were before it."""
    for operator in work.operators:
        if operator.op != "MEAN":
            continue
        transpose = work.writer(operator.inputs[0])
        if transpose is None or transpose.op != "TRANSPOSE":
            continue
        order, axes = work.values(transpose.inputs[1]), _axes(work, operator)
        if order is None or not axes or not _restorable(work, operator):
            continue
        moved = [int(order[axis]) for axis in axes]
        rest = [int(order[d]) for d in range(len(order)) if d not in axes]
        if rest == sorted(rest):
            says = "it averages before the transposition"
            apply = partial(_move, operator, transpose, tuple(sorted(moved)))
            yield ProposedRewrite("transposed-mean", operator.index, says, apply)


def _axes(work: Work, operator: Operator) -> tuple[int, ...]:
    values = work.values(operator.inputs[1])
    rank = len(work.shape(operator.inputs[0]))
    if values is None or not rank:
        return ()
    return tuple(sorted(int(v) % rank for v in values.reshape(-1)))


def _restorable(work: Work, operator: Operator) -> bool:
    """Whether a RESHAPE can restore the dimensions that are kept: their sizes are declared."""
    ranks = {len(work.shape(tensor)) for tensor in (operator.inputs[0], operator.outputs[0])}
    return len(ranks) == 1 or not operator.options.get("keep_dims")


def _move(operator: Operator, transpose: Operator, axes: tuple[int, ...], work: Work) -> None:
    import numpy as np

    source, output = transpose.inputs[0], operator.outputs[0]
    name, table = work.tensor(output).name, work.table(operator.index)
    table["inputs"] = [source, work.constant(f"{name}/axes", np.array(axes, np.int32))]
    if table["builtin_options"]["keep_dims"]:
        _flatten(work, operator, axes, source)


def keeping_dimensions(work: Work) -> Iterator[ProposedRewrite]:
    """An average that keeps its dimensions, as one that does not and a RESHAPE.

    XNNPACK gives the first the shape (n, c, 1, 1) at the end of a sparse chain, and what reads it
    is computed in the wrong order, or refused.
    """
    for operator in work.operators:
        if operator.op == "MEAN" and work.is_float(operator.outputs[0]):
            axes, keeps = _axes(work, operator), operator.options.get("keep_dims")
            if axes == HEIGHT_AND_WIDTH and keeps and _restorable(work, operator):
                says = "a RESHAPE behind it keeps its dimensions"
                apply = partial(_keep, operator, axes)
                yield ProposedRewrite("kept-dimensions", operator.index, says, apply)


def _keep(operator: Operator, axes: tuple[int, ...], work: Work) -> None:
    _flatten(work, operator, axes, operator.inputs[0])


def _flatten(work: Work, operator: Operator, axes: tuple[int, ...], source: int) -> None:
    """Let an average drop its axes, and a RESHAPE behind it restore the shape of its output."""
    import numpy as np

    output = operator.outputs[0]
    name, table = work.tensor(output).name, work.table(operator.index)
    shape = work.shape(output)
    rest = [size for d, size in enumerate(work.shape(source)) if d not in axes]
    flat = work.like(output, f"{name}/flat", rest)
    table["outputs"] = [flat]
    table["builtin_options"]["keep_dims"] = False
    open_batch = bool(work.tensor(output).open_dimensions)
    target = np.array([-1 if open_batch else shape[0], *shape[1:]], np.int32)
    inputs = [flat, work.constant(f"{name}/shape", target)]
    options = Table("ReshapeOptions", new_shape=target)
    work.insert(operator.index, "RESHAPE", inputs, output, options, behind=True)


def global_pool(work: Work) -> Iterator[ProposedRewrite]:
    """An average pool over the whole image as a MEAN; exact but for the order of the sum."""
    for operator in work.operators:
        if operator.op != "AVERAGE_POOL_2D" or not work.is_float(operator.outputs[0]):
            continue
        options = operator.options
        kernel = options.get("filter_height"), options.get("filter_width")
        if kernel != work.shape(operator.inputs[0])[1:3] or options.get("activation") != "NONE":
            continue
        if work.shape(operator.outputs[0])[1:3] == (1, 1) and options["padding"] == "VALID":
            says = "a MEAN computes its average"
            yield ProposedRewrite("global-pool", operator.index, says, partial(_mean, operator))


def _mean(operator: Operator, work: Work) -> None:
    import numpy as np

    name = work.tensor(operator.outputs[0]).name
    axes = work.constant(f"{name}/axes", np.array(HEIGHT_AND_WIDTH, np.int32))
    work.become(operator.index, "MEAN", Table("ReducerOptions", keep_dims=True))
    work.table(operator.index)["inputs"] = [operator.inputs[0], axes]
