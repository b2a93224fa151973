"""Findings about what the encoding does to the file, and about the file against its counterpart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity.findings import Finding, Remedy, finding
from pytest_sparsity.properties import sizes
from pytest_sparsity.wording import counted
from pytest_sparsity.xnnpack.names import PRUNED_FROM, layer_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_sparsity.model import Layer, Model

    Shape = tuple[str, tuple[int, ...]]

CHANNELS_REMOVED = "channels-removed"
WORTH_A_WORD = 0.005
"""Share of the file by which a layer must have grown to be mentioned."""
COUNTERPART = 0.5
"""Share of the model's zeros that a file needs to count as the same weights stored densely. One
that was not pruned has next to none; one whose sparse file lost columns has fewer than that."""


def findings(model: Model, dense: Model | None) -> list[Finding]:
    """All findings about size.

    Args:
        model: the model.
        dense: the same network stored densely, pruned or not.
    """
    return [*_layers(model), *_file(model, dense)]


def content(model: Model, dense: Model | None) -> list[Finding]:
    """All findings about weights that are not those of the counterpart. Arguments as above."""
    return [] if dense is None else list(_content(model, dense))


def _growth(model: Model, layer: Layer) -> int:
    """Bytes by which the encoding makes a layer larger, negative where it makes it smaller."""
    if layer.encoding == "dense" or layer.dtype not in sizes.VALUE_BYTES:
        return 0
    tensor = model.graphs[layer.graph].tensors[layer.tensor]
    return round(sizes.encoding_growth(layer, len(tensor.scales)))


def _layers(model: Model) -> Iterator[Finding]:
    for layer in model.layers:
        grown = _growth(model, layer)
        if grown <= WORTH_A_WORD * model.nbytes:
            continue
        share = sizes.break_even(layer.shape, layer.dtype, sizes.block_of(layer.encoding))
        needs, remedy = "no share of zeros makes it smaller", None
        if share < 1:
            needs, remedy = f"it shrinks from {share:.0%} zeros on", _prune_to(share)
        yield finding(
            "encoding-larger",
            layer.index,
            remedy=remedy,
            layer_name=layer_name(layer),
            grown=grown,
            dtype=layer.dtype,
            sparsity=layer.sparsity,
            needs=needs,
        )


def _prune_to(share: float) -> Remedy:
    return Remedy(
        f"prune it to {share:.0%} or more, or convert without EXPERIMENTAL_SPARSITY", "training"
    )


def _file(model: Model, dense: Model | None) -> Iterator[Finding]:
    grown = sum(_growth(model, layer) for layer in model.layers)
    if dense is not None and model.encoded:
        grown = model.nbytes - dense.nbytes
    if grown <= 0 or not model.encoded:
        return
    before = model.nbytes - grown
    figures: dict[str, Any] = {"grown": grown, "share": grown / before, "before": before}
    yield finding("file-larger", after=model.nbytes, **figures)


def _content(model: Model, dense: Model) -> Iterator[Finding]:
    ours, theirs = ([x for x in m.layers if x.graph == 0] for m in (model, dense))
    shapes, others = ([(x.op, x.shape) for x in layers] for layers in (ours, theirs))
    name, other_name = model.path.name, dense.path.name
    same_ends = _interface(model) == _interface(dense)
    if same_ends and _are_narrower(shapes, others) and model.sparsity < PRUNED_FROM:
        less = sum(x.parameters for x in ours) / sum(x.parameters for x in theirs)
        yield finding(CHANNELS_REMOVED, name=name, dense=other_name, share=less)
        return
    if shapes != others:
        difference = _difference(shapes, others)
        yield finding("different-network", name=name, dense=other_name, difference=difference)
        return
    zeros, other = (m.sparsity for m in (model, dense))
    if other < COUNTERPART * zeros:
        return  # Not pruned: its weights may differ, by training if not by the zeros.
    for layer, counterpart in zip(ours, theirs, strict=True):
        yield from _weights(model, dense, layer, counterpart)


def _weights(model: Model, dense: Model, layer: Layer, other: Layer) -> Iterator[Finding]:
    import numpy as np

    if layer.dtype != other.dtype:
        return
    ours, theirs = model.weights(layer.tensor), dense.weights(other.tensor)
    lost = int(np.count_nonzero((ours == 0) & (theirs != 0)))
    changed = int(np.count_nonzero((ours != theirs) & (ours != 0)))
    found = {"weights-lost": lost, "weights-changed": changed}
    for code, count in found.items():
        if count:
            yield finding(
                code,
                layer.index,
                count=count,
                parameters=layer.parameters,
                layer_name=layer_name(layer),
                dense=dense.path.name,
            )


def _are_narrower(ours: list[Shape], theirs: list[Shape]) -> bool:
    """Whether layers are the others but for outputs and inputs that some of them lack."""
    if ours == theirs or len(ours) != len(theirs):
        return False
    return all(
        (op, len(a), a[1:-1]) == (other, len(b), b[1:-1]) and a[0] <= b[0] and a[-1] <= b[-1]
        for (op, a), (other, b) in zip(ours, theirs, strict=True)
    )


def _interface(model: Model) -> list[tuple[int, ...]]:
    """The shapes of all inputs and outputs."""
    graph = model.graph
    return [graph.tensors[index].shape for index in (*graph.inputs, *graph.outputs)]


def _difference(ours: list[Shape], theirs: list[Shape]) -> str:
    if len(ours) != len(theirs):
        return f"{counted(len(ours), 'layer')} instead of {len(theirs)}"
    place = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    (op, shape), (other, other_shape) = ours[place], theirs[place]
    return f"layer {place} is {op} {list(shape)} instead of {other} {list(other_shape)}"
