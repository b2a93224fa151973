"""Which layers pruning can make faster: those that a sparse kernel exists for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.model import Model

if TYPE_CHECKING:
    from os import PathLike

    from pytest_sparsity.model import Layer


def prunable_layers(model: Model | str | PathLike[str]) -> tuple[Layer, ...]:
    """Return the layers that a sparse kernel exists for, in the order of `Model.layers`.

    They are the 1x1 convolutions, and in a file without any the fully connected layers, which then
    may run TFLite's kernels for blocks. XNNPACK's `xnn_check_nchw_compatibility` and TFMOT's policy
    for XNNPACK say so; whether a sparse kernel really runs depends on the other layers and on the
    target, which `diagnose` tells.

    Args:
        model: a model or the path of its file.

    Raises:
        ModelError: the file is not a model, or its weights are inconsistent.
    """
    layers = Model.of(model).layers
    pointwise = tuple(x for x in layers if x.op == "CONV_2D" and x.shape[1:3] == (1, 1))
    return pointwise or tuple(x for x in layers if x.op == "FULLY_CONNECTED")
