"""Writes the converted models of this folder with TensorFlow's own converter.

    python tests/data/convert.py FOLDER

They are committed so that the tests of reading, encoding and rewriting meet real files without
TensorFlow (here 2.21.0); a slow test makes them again and holds the same against them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
import tf_keras as keras

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SPARSE = tf.lite.Optimize.EXPERIMENTAL_SPARSITY
QUANTIZED = tf.lite.Optimize.DEFAULT
layers = keras.layers


def zeros(rng: np.random.Generator, shape: tuple[int, ...], sparsity: float) -> NDArray[Any]:
    weights = rng.standard_normal(shape, np.float32)
    return np.where(rng.random(shape) < sparsity, np.float32(0), weights)


def prune(model: Any, seed: int, sparsity: float) -> Any:
    rng = np.random.default_rng(seed)
    model.set_weights([zeros(rng, w.shape, sparsity * (w.ndim > 1)) for w in model.get_weights()])
    return model


def cnn() -> Any:
    """Every kind of convolution; more than 256 channels, so that indices need 16 bits."""
    x = image = keras.Input((12, 12, 3), batch_size=1)
    x = layers.Conv2D(8, 3, strides=2, activation="relu")(layers.ZeroPadding2D(1)(x))
    x = layers.DepthwiseConv2D(3, strides=2)(layers.ZeroPadding2D(1)(x))
    x = layers.Conv2D(260, 1, activation="relu6")(x)
    x = layers.LeakyReLU(0.1)(layers.Conv2D(8, 1)(x))
    x = layers.Flatten()(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Softmax()(layers.Dense(6)(x))
    return prune(keras.Model(image, x), 1, 0.7)


def mlp() -> Any:
    """Blocks, a width that is no multiple of the block, a layer of zeros, one without zeros."""
    x = vector = keras.Input((64,), batch_size=1)
    for units in (48, 6, 40):
        x = layers.Dense(units, activation="relu")(x)
    x = layers.Dense(4)(layers.Add()([layers.Dense(40)(x), x]))
    model = prune(keras.Model(vector, x), 2, 0.5)
    rng = np.random.default_rng(3)
    weights = model.get_weights()
    blocks = np.repeat(rng.random((16, 48)) < 0.25, 4, axis=0)
    weights[0] = np.where(blocks, rng.standard_normal((64, 48), np.float32), np.float32(0))
    weights[4] = np.zeros((6, 40), np.float32)
    weights[4][[1, 3, 5], [0, 20, 30]] = (1, 2, 3)  # the last lies in the columns that get lost
    weights[6] = np.zeros((40, 40), np.float32)
    weights[8] = rng.standard_normal((40, 4), np.float32)
    model.set_weights(weights)
    return model


def gru() -> Any:
    """Weights in a subgraph."""
    sequence = keras.Input((5, 6), batch_size=1)
    x = layers.Dense(4)(layers.GRU(8)(sequence))
    return prune(keras.Model(sequence, x), 4, 0.7)


def ops() -> Any:
    """Operators around the layers."""
    image = keras.Input((8, 8, 3), batch_size=2)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", dilation_rate=2)(image)
    y = layers.Conv2D(8, 1)(layers.Add()([x, layers.DepthwiseConv2D(5, padding="same")(x)]))
    x = layers.Concatenate()([layers.Subtract()([layers.Multiply()([x, y]), y]), y])
    x = layers.AveragePooling2D(2)(layers.MaxPooling2D(3, 1, padding="same")(x))
    x = layers.UpSampling2D(2, interpolation="bilinear")(layers.PReLU(shared_axes=[1, 2])(x))
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same")(tf.nn.depth_to_space(x, 2))
    return prune(keras.Model(image, [layers.ELU()(x), layers.Activation("tanh")(y)]), 5, 0.0)


def wrapped() -> Any:
    """A network that is still in the wrappers of pruning, four fifths of whose masks are zero."""
    import tensorflow_model_optimization as tfmot

    sparsity = tfmot.sparsity.keras
    image = keras.Input((4, 4, 3), batch_size=1)
    x = layers.Conv2D(16, 1, activation="relu")(image)
    x = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
    model: Any = sparsity.prune_low_magnitude(keras.Model(image, x))
    rng = np.random.default_rng(7)
    for layer in model.layers:
        for weight, mask, _ in getattr(layer, "pruning_vars", ()):
            weight.assign(rng.standard_normal(weight.shape))
            mask.assign(
                rng.permutation(np.arange(mask.shape.num_elements()) % 5 == 0).reshape(mask.shape)
            )
    return model


def branches() -> bytes:
    """Weights that are handed to the branches of an IF."""
    rng = np.random.default_rng(8)
    values: list[Any] = [zeros(rng, (16, 8), share) for share in (0.5, 0.75)]
    one, other = map(tf.Variable, values)

    def chosen(x: Any) -> Any:
        return tf.cond(tf.reduce_sum(x) > 0, lambda: x @ one, lambda: x @ other + 1)

    traced: Any = tf.function(chosen)
    function = traced.get_concrete_function(tf.TensorSpec((1, 16), tf.float32))
    content: bytes = tf.lite.TFLiteConverter.from_concrete_functions([function]).convert()
    return content


def convert(model: Any, *optimizations: Any, float16: bool = False) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = list(optimizations)
    if float16:
        converter.target_spec.supported_types = [tf.float16]
    elif QUANTIZED in optimizations:
        converter.representative_dataset = lambda: samples(model)
    content: bytes = converter.convert()
    return content


def samples(model: Any) -> Iterator[list[NDArray[Any]]]:
    rng = np.random.default_rng(6)
    for _ in range(4):
        yield [rng.random(model.input_shape, np.float32)]


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    convolutional = cnn()
    models = {
        "cnn_dense": convert(convolutional),
        "cnn_sparse": convert(convolutional, SPARSE),
        "cnn_float16_dense": convert(convolutional, QUANTIZED, float16=True),
        "cnn_float16_sparse": convert(convolutional, QUANTIZED, SPARSE, float16=True),
        "cnn_int8_dense": convert(convolutional, QUANTIZED),
        "cnn_int8_sparse": convert(convolutional, QUANTIZED, SPARSE),
        "mlp_dense": convert(mlp()),
        "mlp_sparse": convert(mlp(), SPARSE),
        "gru_dense": convert(gru()),
        "gru_sparse": convert(gru(), SPARSE),
        "ops": convert(ops()),
        "wrapped": convert(wrapped()),
        "branches": branches(),
    }
    for name, content in models.items():
        (folder / f"{name}.tflite").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
