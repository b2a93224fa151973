"""Layers and operators in words, for messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.model import Layer, Model


PRUNED_FROM = 0.05
"""Share of zeros in the prunable layers below which a model counts as not pruned."""
TENSORFLOW_PARTS = {"depthwise", "separable_conv2d", "kernel", "weights", ""}


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
    return layer_name(layer) if layer is not None else f"{op} #{operator}"


def layer_name(layer: Layer) -> str:
    """A layer's operator and the Keras layer's name, as far as the tensor's name tells it."""
    return f"{layer.op} {short(layer.name)!r}"


def short(name: str) -> str:
    """The Keras layer in a tensor's name: "net/relu/Relu6;net/conv_1/Conv2D" is "conv_1".

    The converter joins the names of what it fuses, the convolution last; within one, what
    TensorFlow appends begins with a capital or names the depthwise operator.
    """
    parts = name.rpartition(";")[2].split("/")
    while len(parts) > 1 and (parts[-1][:1].isupper() or parts[-1] in TENSORFLOW_PARTS):
        parts.pop()
    return parts[-1]


def stay(layers: Sequence[Layer]) -> str:
    """A clause that says which layers stay dense."""
    if len(layers) == 1:
        return f"{layer_name(layers[0])} stays dense"
    return f"{len(layers)} layers from {layer_name(layers[0])} on stay dense"


def index_of(layer: Layer | None) -> int | None:
    """A layer's place in `Model.layers`, or None for none."""
    return None if layer is None else layer.index
