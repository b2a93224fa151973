"""Residual networks of regular convolutions, for which no runtime has sparse kernels."""

from __future__ import annotations

from typing import Any

from pytest_sparsity.zoo.weights import KerasModel, scale_weights

STAGES = ((1, 1), (2, 2), (4, 2), (8, 2))
"""(width factor, stride of the first block) of each pair of blocks: ResNet-18 in table 1 of
https://arxiv.org/abs/1512.03385."""


def resnet18(*, size: int = 224, width: int = 64, classes: int = 1000, seed: int = 0) -> KerasModel:
    """Build ResNet-18, https://arxiv.org/abs/1512.03385.

    Args:
        size: height and width of the image in pixels, at least 32.
        width: filters of the first convolution; 64 in the paper.
        classes: number of logits.
        seed: of the weights.

    Returns:
        A functional model from float32 [1, size, size, 3] to `classes` logits.
    """
    import tf_keras as keras

    layers = keras.layers
    image = keras.Input((size, size, 3), batch_size=1)
    x = _normalised(layers.ZeroPadding2D(3)(image), layers.Conv2D(width, 7, 2, use_bias=False))
    x = layers.MaxPooling2D(3, 2, padding="same")(layers.ReLU()(x))
    for factor, stride in STAGES:
        x = _block(_block(x, factor * width, stride), factor * width, 1)
    x = layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))
    return scale_weights(keras.Model(image, x, name="resnet18"), seed)


def _block(x: Any, filters: int, stride: int) -> Any:
    """Two 3x3 convolutions around which the input goes as it is, or through a 1x1 convolution."""
    import tf_keras as keras

    layers = keras.layers
    y = _normalised(x, layers.Conv2D(filters, 3, stride, padding="same", use_bias=False))
    y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(layers.ReLU()(y))
    y = layers.BatchNormalization()(y)
    if stride != 1 or x.shape[-1] != filters:
        x = _normalised(x, layers.Conv2D(filters, 1, stride, use_bias=False))
    return layers.ReLU()(layers.Add()([x, y]))


def _normalised(x: Any, layer: Any) -> Any:
    import tf_keras as keras

    return keras.layers.BatchNormalization()(layer(x))
