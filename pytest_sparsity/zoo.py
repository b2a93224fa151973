"""Reference networks: functions that return a `tf_keras` model, ready for `build_variants`.

All have a fixed batch of one, the batch for which latency is claimed. They end in logits rather
than in a softmax, whose outputs would all be close to one over the number of classes.

The weights are random but not degenerate: drawn from numpy's PCG64 and scaled so that every
activation, and the output, is of order one for inputs drawn uniformly from [0, 1). (Keras'
MobileNetV1 with its own initialisers answers 1e-25, and any comparison of such outputs is vacuous.)
The scaling is computed, not measured, so the same weights come out in any process.

`tf_keras` is imported inside the functions; `pip install 'pytest-sparsity[build]'` brings it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

Network = Any
"""A `tf_keras.Model`; TensorFlow ships no types."""

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


def xnnpack_cnn(*, keepdims: bool = False, seed: int = 0) -> Network:
    """Build the CIFAR-10 shaped network of TensorFlow's tutorial on pruning for XNNPACK.

    Source: "Pruning for on-device inference w/ XNNPACK", tensorflow/model-optimization,
    g3doc/guide/pruning/pruning_for_on_device_inference.ipynb.

    Args:
        keepdims: of the global average pooling. The tutorial says that the policy requires it;
            TFMOT 0.7.0 and later accept both.
        seed: of the weights.

    Returns:
        A Sequential model from float32 [1, 32, 32, 3] to ten logits.
    """
    import tf_keras as keras

    layers = keras.layers
    model = keras.Sequential(
        [
            layers.InputLayer(input_shape=(32, 32, 3), batch_size=1),
            layers.ZeroPadding2D(padding=1),
            layers.Conv2D(filters=8, kernel_size=3, strides=2, padding="valid"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(kernel_size=3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(filters=16, kernel_size=1),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.ZeroPadding2D(padding=1),
            layers.DepthwiseConv2D(kernel_size=3, strides=2, padding="valid"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(filters=32, kernel_size=1),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(keepdims=keepdims),
            layers.Flatten(),
            layers.Dense(10),
        ],
        name="xnnpack_cnn",
    )
    return scale_weights(model, seed)


def mlp(*, seed: int = 0) -> Network:
    """Build a perceptron of 768, 1024, 1024 and 10 units with ReLU between them.

    Its dense layers are large enough to be bound by the reading of weights, which is where blocks
    of zeros pay: at 99 % the converter stores them in 1x4 blocks, for which TFLite has a kernel of
    its own on every CPU.

    Returns:
        A Sequential model from float32 [1, 768] to ten logits.
    """
    import tf_keras as keras

    layers = keras.layers
    model = keras.Sequential(
        [
            layers.InputLayer(input_shape=(768,), batch_size=1),
            layers.Dense(1024, activation="relu"),
            layers.Dense(1024, activation="relu"),
            layers.Dense(10),
        ],
        name="mlp",
    )
    return scale_weights(model, seed)


def mobilenet_v1(
    *,
    size: int = 224,
    alpha: float = 1.0,
    xnnpack: bool = True,
    classes: int = 1000,
    seed: int = 0,
) -> Network:
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

    image = keras.Input((size, size, 3), batch_size=1)
    if not xnnpack:
        applications: Any = keras.applications
        model = applications.MobileNet(
            input_tensor=image,
            alpha=alpha,
            weights=None,
            classes=classes,
            classifier_activation=None,
        )
        return scale_weights(model, seed)
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
) -> Network:
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

    image = keras.Input((size, size, 3), batch_size=1)
    if not xnnpack:
        applications: Any = keras.applications
        model = applications.MobileNetV2(
            input_tensor=image,
            alpha=alpha,
            weights=None,
            classes=classes,
            classifier_activation=None,
        )
        return scale_weights(model, seed)
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


@dataclass(frozen=True)
class Moments:
    """Mean and variance of an activation over inputs and positions, float64 [channels]."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


def scale_weights(model: Network, seed: int = 0) -> Network:
    """Give every layer random weights under which activations are of order one.

    Kernels are He-scaled to the second moment of what they receive. The statistics of batch
    normalisations are those that follow from the weights if channels were independent and normal;
    their gammas and betas vary by a tenth, so that folding them into a convolution changes it.

    Args:
        model: a Sequential or functional `tf_keras` model of the layers used in this module.
        seed: of numpy's PCG64.

    Returns:
        The same model.

    Raises:
        TypeError: the model has a layer whose effect on the moments is not known here.
    """
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(seed))
    known = {id(tensor): _uniform(tensor.shape[-1]) for tensor in model.inputs}
    for layer in model.layers:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        moments = [known[id(tensor)] for tensor in inputs]
        known[id(layer.output)] = _through(layer, moments, rng)
    return model


def _uniform(channels: int) -> Moments:
    """Return the moments of inputs drawn uniformly from [0, 1)."""
    import numpy as np

    return Moments(np.full(channels, 1 / 2), np.full(channels, 1 / 12))


def _through(layer: Any, moments: list[Moments], rng: np.random.Generator) -> Moments:
    """Set the layer's weights and return the moments of its output."""
    kind = type(layer).__name__
    if kind == "Add":
        mean = sum(m.mean for m in moments)
        return Moments(mean, sum(m.variance for m in moments))  # type: ignore[arg-type]
    rule = RULES.get(kind)
    if rule is None:
        raise TypeError(f"layer {layer.name!r}: no rule for the moments of {kind}")
    [incoming] = moments
    outgoing = rule(layer, incoming, rng)
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    return _rectified(outgoing) if activation == "relu" else outgoing


def _unchanged(_layer: Any, x: Moments, _rng: np.random.Generator) -> Moments:
    return x


def _relu(_layer: Any, x: Moments, _rng: np.random.Generator) -> Moments:
    return _rectified(x)


def _rectified(x: Moments) -> Moments:
    """Return the moments of a normal variable after ReLU; a bound of six hardly changes them."""
    import numpy as np

    deviation = np.sqrt(x.variance)
    ratio = x.mean / deviation
    below = np.array([(1 + math.erf(r / math.sqrt(2))) / 2 for r in ratio])
    density = np.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    mean = x.mean * below + deviation * density
    second = (x.mean**2 + x.variance) * below + x.mean * deviation * density
    return Moments(mean, second - mean**2)


def _pooled(layer: Any, x: Moments, _rng: np.random.Generator) -> Moments:
    """Return the moments of the average over positions, taken as independent."""
    _batch, height, width, _channels = layer.input.shape
    return Moments(x.mean, x.variance / (height * width))


def _flattened(layer: Any, x: Moments, _rng: np.random.Generator) -> Moments:
    import numpy as np

    repeats = layer.output.shape[-1] // x.mean.size
    return Moments(np.tile(x.mean, repeats), np.tile(x.variance, repeats))


def _affine(layer: Any, x: Moments, rng: np.random.Generator) -> Moments:
    """Conv2D and Dense: the last axis of the kernel is the output, the one before it the input."""
    import numpy as np

    shape = tuple(layer.kernel.shape)
    positions = math.prod(shape[:-2])
    scale = 1 / math.sqrt(positions * float(np.sum(x.mean**2 + x.variance)))
    kernel = _normal(rng, shape, scale)
    per_input = kernel.reshape(positions, *shape[-2:]).astype(np.float64)
    mean = np.sum(per_input * x.mean[:, None], axis=(0, 1))
    variance = np.sum(per_input**2 * x.variance[:, None], axis=(0, 1))
    return _with_bias(layer, kernel, Moments(mean, variance), rng)


def _depthwise_affine(layer: Any, x: Moments, rng: np.random.Generator) -> Moments:
    import numpy as np

    shape = tuple(layer.depthwise_kernel.shape)
    scale = 1 / math.sqrt(shape[0] * shape[1] * float(np.mean(x.mean**2 + x.variance)))
    kernel = _normal(rng, shape, scale)
    mean = kernel.sum(axis=(0, 1, 3), dtype=np.float64) * x.mean
    variance = np.sum(kernel.astype(np.float64) ** 2, axis=(0, 1, 3)) * x.variance
    return _with_bias(layer, kernel, Moments(mean, variance), rng)


def _with_bias(
    layer: Any, kernel: NDArray[np.float32], x: Moments, rng: np.random.Generator
) -> Moments:
    if not layer.use_bias:
        layer.set_weights([kernel])
        return x
    bias = _normal(rng, x.mean.shape, 0.1)
    layer.set_weights([kernel, bias])
    return Moments(x.mean + bias, x.variance)


def _batch_normalised(layer: Any, x: Moments, rng: np.random.Generator) -> Moments:
    gamma = 1 + _normal(rng, x.mean.shape, 0.1)
    beta = _normal(rng, x.mean.shape, 0.1)
    layer.set_weights([gamma, beta, x.mean, x.variance])
    return Moments(beta.astype(x.mean.dtype), gamma.astype(x.mean.dtype) ** 2)


def _normal(
    rng: np.random.Generator, shape: tuple[int, ...], deviation: float
) -> NDArray[np.float32]:
    import numpy as np

    return rng.standard_normal(shape, dtype=np.float32) * np.float32(deviation)


RULES: dict[str, Callable[[Any, Moments, np.random.Generator], Moments]] = {
    "Activation": _unchanged,
    "BatchNormalization": _batch_normalised,
    "Conv2D": _affine,
    "Dense": _affine,
    "DepthwiseConv2D": _depthwise_affine,
    "Dropout": _unchanged,
    "Flatten": _flattened,
    "GlobalAveragePooling2D": _pooled,
    "InputLayer": _unchanged,
    "ReLU": _relu,
    "Reshape": _flattened,
    "ZeroPadding2D": _unchanged,
}
"""How the moments pass through each kind of layer, which also gets its weights there."""
