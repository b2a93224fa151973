"""Trainings and networks of the questions that people ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_sparsity import Model, zoo
from pytest_sparsity.variants.networks import quiet
from pytest_sparsity.writer import Network as Writer

STEPS = 8


def half_to_four_fifths() -> Any:
    """The schedule of the question, for a training of eight steps."""
    import tensorflow_model_optimization as tfmot

    return tfmot.sparsity.keras.PolynomialDecay(0.5, 0.8, begin_step=0, end_step=STEPS, frequency=1)


def fit_noise(network: Any, callbacks: list[Any]) -> None:
    """Train for eight steps on noise: enough for the schedule, and nothing is claimed of accuracy.

    The networks have a fixed batch of one.
    """
    import tf_keras as keras

    rng = np.random.default_rng(0)
    images = rng.random((STEPS, *network.input_shape[1:]), np.float32)
    labels = rng.integers(0, network.output_shape[-1], STEPS)
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(images, labels, batch_size=1, verbose=0, callbacks=callbacks)


def residual() -> Any:
    """A ResNet-18 of half the width for images of 64x64: 2.8 million weights."""
    return zoo.resnet18(size=64, width=32, classes=100)


def residual_images() -> Any:
    """Inputs of four inferences to calibrate int8 with."""

    return list(np.random.default_rng(0).random((4, 1, 64, 64, 3), np.float32))


def functional() -> Any:
    """The network of `zoo.mnist_cnn` as a functional model, with the same weights."""
    import tf_keras as keras

    layers = keras.layers
    image = keras.Input((28, 28, 1), batch_size=1)
    x = layers.Flatten()(layers.Conv2D(32, 3, activation="relu")(image))
    return zoo.scale_weights(keras.Model(image, layers.Dense(10)(x), name="mnist_cnn"))


def on_one_device() -> Any:
    """The network of `zoo.mnist_cnn` under the simplest of TensorFlow's strategies."""
    import tensorflow as tf

    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        return zoo.mnist_cnn()


def on_one_mirrored_worker() -> Any:
    """The network of `zoo.mnist_cnn` mirrored on the only worker."""
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        return zoo.mnist_cnn()


def fit_noise_eagerly(network: Any, callbacks: list[Any]) -> None:
    """Do as `fit_noise`, every operation on its own and not as a graph."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        with quiet():  # TensorFlow warns that its data pipeline stays a graph
            fit_noise(network, callbacks)
    finally:
        tf.config.run_functions_eagerly(False)


def convolutions(folder: Path, channels: int, scale: float = 1.0) -> Model:
    """Three 3x3 convolutions, all with so many channels, of an image of 28x28x16; ten outputs."""
    rng, net = np.random.default_rng(0), Writer((1, 28, 28, 16))

    def weights(*shape: int) -> npt.NDArray[np.float32]:
        values = rng.standard_normal(shape, np.float32)
        return values * np.float32(scale * (2 / np.prod(shape[1:])) ** 0.5)

    x = net.input
    for before in (16, channels, channels):
        x = net.conv2d(x, weights(channels, 3, 3, before), activation="RELU")
    net.output(net.fully_connected(net.mean(x), weights(10, channels)))
    return Model(net.write(folder / f"convolutions-{channels}-{scale:g}.tflite"))


def blocks(folder: Path, scale: float = 1.0) -> Model:
    """Three layers of 1024 units, seven tenths of their blocks of 1x4 zero."""
    rng, net = np.random.default_rng(0), Writer((1, 1024))
    x = net.input
    for _ in range(3):
        weights = rng.standard_normal((1024, 1024), np.float32) / np.float32(32)
        weights *= np.repeat(rng.random((1024, 256)) < 0.3, 4, axis=1)
        x = net.fully_connected(x, weights * np.float32(scale), encoding="block 1x4")
    net.output(x)
    return Model(net.write(folder / f"blocks-{scale:g}.tflite"))
