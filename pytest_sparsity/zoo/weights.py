"""Weights that are random but not degenerate, see `scale_weights`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

KerasModel = Any
"""A `tf_keras.Model`; TensorFlow ships no types."""


@dataclass(frozen=True)
class Moments:
    """Mean and variance of an activation over inputs and positions, float64 [channels]."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


def scale_weights(model: KerasModel, seed: int = 0) -> KerasModel:
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


def measure_statistics(model: KerasModel, seed: int = 0) -> KerasModel:
    """Replace the computed statistics of batch normalisations by those of one random input.

    In a network of many pools and paddings the channels of a position are not independent, and the
    errors of the computation multiply from layer to layer.

    Args:
        model: of one input; its weights are set already.
        seed: of numpy's PCG64.

    Returns:
        The same model. On another CPU the last bits of its statistics may differ.
    """
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(seed))
    normalisations = [each for each in model.layers if type(each).__name__ == "BatchNormalization"]
    momenta = [layer.momentum for layer in normalisations]
    for layer in normalisations:
        layer.momentum = 0.0
    model(rng.random(tuple(model.input_shape), np.float32), training=True)
    for layer, momentum in zip(normalisations, momenta, strict=True):
        layer.momentum = momentum
    return model


def _uniform(channels: int) -> Moments:
    """Return the moments of inputs drawn uniformly from [0, 1)."""
    import numpy as np

    return Moments(np.full(channels, 1 / 2), np.full(channels, 1 / 12))


def _through(layer: Any, moments: list[Moments], rng: np.random.Generator) -> Moments:
    """Set the layer's weights and return the moments of its output."""
    import numpy as np

    kind = type(layer).__name__
    if kind == "Add":
        mean = sum(m.mean for m in moments)
        return Moments(mean, sum(m.variance for m in moments))  # type: ignore[arg-type]
    if kind == "Concatenate":
        mean = np.concatenate([m.mean for m in moments])
        return Moments(mean, np.concatenate([m.variance for m in moments]))
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


def _averaged(layer: Any, x: Moments, _rng: np.random.Generator) -> Moments:
    """Return the moments of the average over a window, its positions taken as independent."""
    return Moments(x.mean, x.variance / math.prod(layer.pool_size))


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


def _embedded(layer: Any, _x: Moments, rng: np.random.Generator) -> Moments:
    import numpy as np

    vectors = _normal(rng, tuple(layer.embeddings.shape), 1.0)
    layer.set_weights([vectors])
    return Moments(np.zeros(layer.output_dim), np.ones(layer.output_dim))


def _recurrent(layer: Any, x: Moments, rng: np.random.Generator) -> Moments:
    """LSTM: gates of order one; its outputs, sigmoid times tanh, are taken to vary by 0.4."""
    import numpy as np

    units = layer.units
    kernel = _normal(rng, (x.mean.size, 4 * units), float(np.sum(x.mean**2 + x.variance)) ** -0.5)
    recurrent = _normal(rng, (units, 4 * units), units**-0.5)
    layer.set_weights([kernel, recurrent, np.zeros(4 * units, np.float32)])
    return Moments(np.zeros(units), np.full(units, 0.4**2))


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
    import numpy as np

    gamma = 1 + _normal(rng, x.mean.shape, 0.1)
    beta = _normal(rng, x.mean.shape, 0.1)
    if layer.scale:
        layer.set_weights([gamma, beta, x.mean, x.variance])
    else:
        layer.set_weights([beta, x.mean, x.variance])
        gamma = np.ones_like(gamma)
    return Moments(beta.astype(x.mean.dtype), gamma.astype(x.mean.dtype) ** 2)


def _normal(
    rng: np.random.Generator, shape: tuple[int, ...], deviation: float
) -> NDArray[np.float32]:
    import numpy as np

    return rng.standard_normal(shape, dtype=np.float32) * np.float32(deviation)


RULES: dict[str, Callable[[Any, Moments, np.random.Generator], Moments]] = {
    "Activation": _unchanged,
    "AveragePooling2D": _averaged,
    "BatchNormalization": _batch_normalised,
    "Conv2D": _affine,
    "Dense": _affine,
    "DepthwiseConv2D": _depthwise_affine,
    "Dropout": _unchanged,
    "Embedding": _embedded,
    "Flatten": _flattened,
    "GlobalAveragePooling2D": _pooled,
    "InputLayer": _unchanged,
    "LSTM": _recurrent,
    "MaxPooling2D": _unchanged,
    "ReLU": _relu,
    "Reshape": _flattened,
    "ZeroPadding2D": _unchanged,
}
"""How the moments pass through each kind of layer, which also gets its weights there."""
