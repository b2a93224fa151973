"""Networks of depthwise and 1x1 convolutions: MobileNetV1 and V2, DS-CNN."""

from __future__ import annotations

from typing import Any

from pytest_sparsity.zoo.applications import application
from pytest_sparsity.zoo.weights import KerasModel, scale_weights

# MobileNetV1, table 1 of https://arxiv.org/abs/1704.04861: (filters, stride) of each separable
# block.
MOBILENET_V1_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)

# MobileNetV2, table 2 of https://arxiv.org/abs/1801.04381: (expansion, filters, repeats, stride of
# the first).
MOBILENET_V2_BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v1(
    *,
    size: int = 224,
    alpha: float = 1.0,
    xnnpack: bool = True,
    classes: int = 1000,
    seed: int = 0,
) -> KerasModel:
    """Build MobileNetV1, https://arxiv.org/abs/1704.04861.

    Args:
        size: height and width of the image in pixels, at least 32.
        alpha: the factor on the number of filters.
        xnnpack: True for the form that XNNPACK's sparse rules accept: a stride of two comes after
            ZeroPadding2D(1) and without padding of its own, and a Dense layer ends the network.
            False for `tf_keras.applications.MobileNet`, which those rules reject: its strided
            layers pad on one side and its last layer is a 1x1 convolution.
        classes: number of logits.
        seed: of the weights.

    Returns:
        A functional model from float32 [1, size, size, 3] to `classes` logits.
    """
    import tf_keras as keras

    if not xnnpack:
        return application("MobileNet", size=size, classes=classes, seed=seed, alpha=alpha)
    image = keras.Input((size, size, 3), batch_size=1)
    layers = keras.layers
    x = _normalised(layers.ZeroPadding2D(1)(image), _conv(int(32 * alpha), 3, stride=2))
    for filters, stride in MOBILENET_V1_BLOCKS:
        x = _normalised(*_depthwise(x, stride))
        x = _normalised(x, _conv(int(filters * alpha), 1))
    x = layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))
    return scale_weights(keras.Model(image, x, name="mobilenet_v1"), seed)


def mobilenet_v2(
    *,
    size: int = 224,
    alpha: float = 1.0,
    xnnpack: bool = True,
    classes: int = 1000,
    seed: int = 0,
) -> KerasModel:
    """Build MobileNetV2, https://arxiv.org/abs/1801.04381.

    Args:
        size: height and width of the image in pixels, at least 32.
        alpha: the factor on the number of filters, which are rounded to multiples of eight.
        xnnpack: True for the form that XNNPACK's sparse rules accept, see `mobilenet_v1`; False for
            `tf_keras.applications.MobileNetV2`.
        classes: number of logits.
        seed: of the weights.

    Returns:
        A functional model from float32 [1, size, size, 3] to `classes` logits.
    """
    import tf_keras as keras

    if not xnnpack:
        return application("MobileNetV2", size=size, classes=classes, seed=seed, alpha=alpha)
    image = keras.Input((size, size, 3), batch_size=1)
    layers = keras.layers
    first = _multiple_of_eight(32 * alpha)
    x = _normalised(layers.ZeroPadding2D(1)(image), _conv(first, 3, stride=2))
    for expansion, filters, repeats, stride in MOBILENET_V2_BLOCKS:
        for repeat in range(repeats):
            outgoing = _multiple_of_eight(filters * alpha)
            x = _inverted_residual(x, expansion, outgoing, 1 if repeat else stride)
    x = _normalised(x, _conv(_multiple_of_eight(1280 * max(alpha, 1.0)), 1))
    x = layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))
    return scale_weights(keras.Model(image, x, name="mobilenet_v2"), seed)


def _inverted_residual(x: Any, expansion: int, filters: int, stride: int) -> Any:
    import tf_keras as keras

    incoming = x.shape[-1]
    wide = x if expansion == 1 else _normalised(x, _conv(expansion * incoming, 1))
    wide = _normalised(*_depthwise(wide, stride))
    narrow = _normalised(wide, _conv(filters, 1), activate=False)
    if stride == 1 and filters == incoming:
        return keras.layers.Add()([x, narrow])
    return narrow


def _conv(filters: int, kernel: int, *, stride: int = 1) -> Any:
    import tf_keras as keras

    return keras.layers.Conv2D(filters, kernel, strides=stride, use_bias=False)


def _depthwise(x: Any, stride: int) -> tuple[Any, Any]:
    """Return the input, padded if needed, and a 3x3 depthwise layer in the form XNNPACK accepts."""
    import tf_keras as keras

    layers = keras.layers
    if stride == 1:
        return x, layers.DepthwiseConv2D(3, padding="same", use_bias=False)
    return layers.ZeroPadding2D(1)(x), layers.DepthwiseConv2D(3, strides=2, use_bias=False)


def _normalised(x: Any, layer: Any, *, activate: bool = True) -> Any:
    import tf_keras as keras

    x = keras.layers.BatchNormalization()(layer(x))
    return keras.layers.ReLU(6.0)(x) if activate else x


def _multiple_of_eight(filters: float) -> int:
    """Round as the reference implementation does: never more than ten percent down."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded


def ds_cnn(*, filters: int = 276, classes: int = 12, seed: int = 0) -> KerasModel:
    """Build DS-CNN, which spots keywords in a second of sound, https://arxiv.org/abs/1711.07128.

    Its layers pad as in the paper, on one side where the stride is two, which XNNPACK's sparse
    rules reject.

    Args:
        filters: of every layer: 64, 172 and 276 in the sizes S, M and L of the paper.
        classes: number of logits.
        seed: of the weights.

    Returns:
        A functional model from float32 [1, 49, 10, 1], frames times coefficients, to `classes`
        logits.
    """
    import tf_keras as keras

    layers = keras.layers
    sound = keras.Input((49, 10, 1), batch_size=1)
    first = layers.Conv2D(filters, (10, 4), strides=(2, 1), padding="same", use_bias=False)
    x = _normalised(sound, first)
    for stride in ((2, 2), 1, 1, 1, 1):
        depthwise = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)
        x = _normalised(_normalised(x, depthwise), _conv(filters, 1))
    x = layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))
    return scale_weights(keras.Model(sound, x, name="ds_cnn"), seed)
