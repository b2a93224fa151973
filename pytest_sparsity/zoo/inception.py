"""InceptionV3, the largest network of TFMOT's pruning guide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.zoo.applications import application
from pytest_sparsity.zoo.weights import measure_statistics

if TYPE_CHECKING:
    from pytest_sparsity.zoo.weights import KerasModel


def inception_v3(*, size: int = 299, classes: int = 1000, seed: int = 0) -> KerasModel:
    """Build InceptionV3, https://arxiv.org/abs/1512.00567, as Keras has it.

    The statistics of its normalisations are measured, not computed. Its pooling and its regular
    convolutions are what XNNPACK's sparse rules reject.

    Args:
        size: height and width of the image in pixels, at least 75.
        classes: number of logits.
        seed: of the weights.

    Returns:
        A functional model from float32 [1, size, size, 3] to `classes` logits.
    """
    model = application("InceptionV3", size=size, classes=classes, seed=seed)
    return measure_statistics(model, seed)
