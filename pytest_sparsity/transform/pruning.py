"""Zeros by magnitude in a model's file: what there is to gain, before anybody trains for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.model import Model
from pytest_sparsity.patterns import parse, per_cent
from pytest_sparsity.transform.edit import Edit
from pytest_sparsity.wording import counted
from pytest_sparsity.xnnpack import prunable_layers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from pytest_sparsity.encoding import Array
    from pytest_sparsity.model import Layer, Tensor
    from pytest_sparsity.patterns import Pattern

DTYPES = frozenset({"float32", "float16", "int8"})


def prune(
    model: Model | str | PathLike[str],
    path: str | PathLike[str],
    *,
    sparsity: float = 0.8,
    pattern: str = "unstructured",
    layers: str | Sequence[str | int] = "prunable",
) -> Model:
    """The model with the smallest weights of its layers set to zero, stored densely.

    Nothing is trained, so the model computes something else and its accuracy is unknown: sizes and
    times are what this is for. `encode` stores the zeros sparsely.

    Args:
        model: any model whose weights are stored densely.
        path: of the file to write, which is replaced if it exists.
        sparsity: share of zeros in each layer, 0 to 1; of "m:n" it follows from the pattern.
        pattern: "unstructured", blocks "1xn" of which the mean magnitude counts, or "m:n": m zeros
            in every n consecutive inputs.
        layers: "prunable" (those that a sparse kernel exists for, see `prunable_layers`), "all", or
            names and indices of `Model.layers`.

    Raises:
        ValueError: an argument is none of these, no layer is chosen, a chosen layer does not fit
            the pattern, or is sparse-encoded.
    """
    model = Model.of(model)
    wanted = parse(pattern)
    if wanted.channels:
        raise ValueError("pattern='channels' removes outputs, which zeros in a file do not")
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity={sparsity} is not between 0 and 1{per_cent(sparsity)}")
    chosen = _chosen(model, layers, wanted)
    edit = Edit(model)
    for layer in {(layer.graph, layer.tensor): layer for layer in chosen}.values():
        tensor = model.graphs[layer.graph].tensors[layer.tensor]
        pruned = _pruned(model.weights(layer.tensor, layer.graph), tensor, wanted, sparsity)
        edit.store(_sharers(model, layer), pruned)
    return edit.write(Path(path))


def _chosen(model: Model, layers: str | Sequence[str | int], pattern: Pattern) -> list[Layer]:
    named = layers not in ("prunable", "all")
    if named:
        found = [_find(model, which) for which in ([layers] if isinstance(layers, str) else layers)]
    else:
        could = model.layers if layers == "all" else prunable_layers(model)
        found = [x for x in could if x.dtype in DTYPES and x.shape[-1] % pattern.width == 0]
    if not found:
        raise ValueError(
            f"{model.path.name} has no layer to prune so; name some of these: {_listed(model)}"
        )
    for layer in found:
        _check(layer, pattern)
    return found


def _find(model: Model, which: str | int) -> Layer:
    for layer in model.layers:
        if which in {layer.index, layer.name, str(layer.index)}:
            return layer
    raise ValueError(f"{model.path.name} has no layer {which!r}; it has {_listed(model)}")


def _listed(model: Model) -> str:
    return ", ".join(f"{layer.index} {layer.name!r}" for layer in model.layers) or "none"


def _check(layer: Layer, pattern: Pattern) -> None:
    what = f"layer {layer.index} ({layer.op} {layer.name!r})"
    if layer.encoding != "dense":
        raise ValueError(f"{what} is sparse-encoded: densify the file first")
    if layer.dtype not in DTYPES:
        raise ValueError(f"{what} has weights of {layer.dtype}, which are not pruned")
    if layer.shape[-1] % pattern.width:
        raise ValueError(
            f"{what} has {counted(layer.shape[-1], 'input')}, no multiple of {pattern.width},"
            f" which {pattern.name} needs"
        )


def _sharers(model: Model, layer: Layer) -> list[tuple[int, int]]:
    """The tensors with the same values: a layer's weights can be in several graphs."""
    buffer = model.graphs[layer.graph].tensors[layer.tensor].buffer
    return [
        (g, tensor.index)
        for g, graph in enumerate(model.graphs)
        for tensor in graph.tensors
        if tensor.buffer == buffer and tensor.constant
    ]


def _pruned(weights: Array, tensor: Tensor, pattern: Pattern, sparsity: float) -> Array:
    """The weights, the smallest of them at the value that means zero."""
    import numpy as np

    magnitude, zero = _magnitude(weights, tensor)
    groups = magnitude.reshape(-1, pattern.width)
    if pattern.zeros:
        order = np.argsort(groups, axis=1, kind="stable")[:, : pattern.zeros]
        gone = np.zeros(groups.shape, bool)
        np.put_along_axis(gone, order, True, axis=1)
    else:
        means = groups.mean(axis=1)
        count = round(sparsity * means.size)
        chosen = np.zeros(means.size, bool)
        chosen[np.argsort(means, kind="stable")[:count]] = True
        gone = np.repeat(chosen, pattern.width).reshape(groups.shape)
    return np.where(gone.reshape(weights.shape), zero, weights).astype(weights.dtype)


def _magnitude(weights: Array, tensor: Tensor) -> tuple[Array, int]:
    """How far weights are from zero, in units of the network, and which value means zero."""
    import numpy as np

    zero = tensor.zero_points[0] if len(tensor.zero_points) == 1 else 0
    distance = np.abs(weights.astype(np.float32) - zero)
    if len(tensor.scales) > 1:
        shape = [1] * weights.ndim
        shape[tensor.quantized_dimension] = len(tensor.scales)
        distance *= np.array(tensor.scales, np.float32).reshape(shape)
    return distance, zero
