"""Layers and operators in words, for messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.model import Layer, Model


def layers_by_operator(model: Model) -> dict[int, Layer]:
    """The first layer of each operator of the main graph."""
    found: dict[int, Layer] = {}
    for layer in model.layers:
        if layer.graph == 0:
            found.setdefault(layer.operator, layer)
    return found


def operator_name(model: Model, operator: int) -> str:
    """An operator's type, with its layer's name or else its place in the file."""
    layer = layers_by_operator(model).get(operator)
    op = model.graph.operators[operator].op
    return f"{op} {layer.name!r}" if layer is not None else f"{op} #{operator}"


def layer_name(layer: Layer) -> str:
    """A layer's operator and name."""
    return f"{layer.op} {layer.name!r}"


def stay(layers: Sequence[Layer]) -> str:
    """A clause that says which layers stay dense."""
    if len(layers) == 1:
        return f"{layer_name(layers[0])} stays dense"
    return f"{len(layers)} layers from {layer_name(layers[0])} on stay dense"


def index_of(layer: Layer | None) -> int | None:
    """A layer's place in `Model.layers`, or None for none."""
    return None if layer is None else layer.index
