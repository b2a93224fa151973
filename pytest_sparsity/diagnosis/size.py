"""Findings about what the encoding does to the file, and about the file against its counterpart."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pytest_sparsity.findings import Finding
from pytest_sparsity.xnnpack.names import layer_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_sparsity.model import Layer, Model

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
TENSOR_OVERHEAD = 200
"""Bytes of metadata and of the DENSIFY that encoding one tensor adds (seen, TensorFlow 2.21)."""
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


def dense_bytes(layer: Layer) -> int | None:
    """Bytes of the layer's weights stored densely; None for types without sparse encoding."""
    size = ITEM_BYTES.get(layer.dtype)
    return None if size is None else layer.parameters * size


def encoded_bytes(layer: Layer, zeros: int) -> int:
    """Bytes of the layer's weights sparse-encoded without blocks, with that many zeros.

    Per nonzero a value and an index, per row a segment; the converter picks the narrowest integers
    (flatbuffer_export.cc, BuildSparsityParameters, TensorFlow 2.21).
    """
    nonzeros = layer.parameters - zeros
    rows = prod(layer.shape[:-1])
    index, segment = _width(layer.shape[-1] - 1), _width(nonzeros)
    return nonzeros * (ITEM_BYTES[layer.dtype] + index) + (rows + 1) * segment + TENSOR_OVERHEAD


def break_even(layer: Layer) -> float | None:
    """The share of zeros from which encoding makes the layer smaller; None if none does."""
    stored = dense_bytes(layer)
    if stored is None or encoded_bytes(layer, layer.parameters) >= stored:
        return None
    low, high = 0, layer.parameters
    while low < high:
        middle = (low + high) // 2
        if encoded_bytes(layer, middle) < stored:
            high = middle
        else:
            low = middle + 1
    return low / layer.parameters


def _width(largest: int) -> int:
    return 1 if largest <= 0xFF else 2 if largest <= 0xFFFF else 4


def _growth(layer: Layer) -> int:
    """Bytes by which the encoding makes a layer larger, negative where it makes it smaller."""
    stored = dense_bytes(layer)
    if stored is None or layer.encoding == "dense":
        return 0
    return layer.nbytes + TENSOR_OVERHEAD - stored


def _layers(model: Model) -> Iterator[Finding]:
    for layer in model.layers:
        grown = _growth(layer)
        if grown <= WORTH_A_WORD * model.nbytes:
            continue
        share = break_even(layer)
        needs, remedy = "no share of zeros makes it smaller", "leave this layer unpruned"
        if share is not None:
            needs, remedy = (
                f"it shrinks from {share:.0%} zeros on",
                f"prune it to {share:.0%} or more",
            )
        yield Finding(
            "encoding-larger",
            f"encoding makes {layer_name(layer)} {grown} bytes larger ({layer.dtype}, "
            f"{layer.sparsity:.0%} zeros): {needs}",
            layer.index,
            f"{remedy}, or convert without EXPERIMENTAL_SPARSITY",
        )


def _file(model: Model, dense: Model | None) -> Iterator[Finding]:
    grown = sum(_growth(layer) for layer in model.layers)
    if dense is not None and model.encoded:
        grown = model.nbytes - dense.nbytes
    if grown <= 0 or not model.encoded:
        return
    before = model.nbytes - grown
    yield Finding(
        "file-larger",
        f"the sparse encoding makes the file {grown} bytes larger ({grown / before:.1%}): "
        f"{model.nbytes} instead of {before}",
        None,
        "convert without EXPERIMENTAL_SPARSITY and compress the file, or prune more",
    )


def _content(model: Model, dense: Model) -> Iterator[Finding]:
    ours, theirs = ([x for x in m.layers if x.graph == 0] for m in (model, dense))
    shapes, others = ([(x.op, x.shape) for x in layers] for layers in (ours, theirs))
    if shapes != others:
        yield Finding(
            "different-network",
            f"{model.path.name} is not the network of {dense.path.name}: "
            f"{_difference(shapes, others)}",
            None,
            "compare files that were converted from one network",
        )
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
    if lost:
        yield Finding(
            "weights-lost",
            f"{lost} of {layer.parameters} weights of {layer_name(layer)} are zero here and "
            f"not in {dense.path.name}",
            layer.index,
            "make the width a multiple of the block (4, int8: 16), or convert without "
            "EXPERIMENTAL_SPARSITY",
        )
    if changed:
        yield Finding(
            "weights-changed",
            f"{changed} of {layer.parameters} weights of {layer_name(layer)} have other values "
            f"than in {dense.path.name}",
            layer.index,
            "convert both files from one trained network",
        )


def _difference(
    ours: list[tuple[str, tuple[int, ...]]], theirs: list[tuple[str, tuple[int, ...]]]
) -> str:
    if len(ours) != len(theirs):
        return f"{len(ours)} layers instead of {len(theirs)}"
    place = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    (op, shape), (other, other_shape) = ours[place], theirs[place]
    return f"layer {place} is {op} {list(shape)} instead of {other} {list(other_shape)}"
