"""A network that is trained, pruned while it is trained further, and judged on a target.

The data are scikit-learn's 1797 digits of 8x8 pixels (UCI's Optical Recognition of Handwritten
Digits). A third of them trains, also moved by a pixel each way; the rest, which no training sees,
is enough to tell one percent from none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_sparsity import Variants, properties
from pytest_sparsity.accuracy import Accuracy, accuracy

Build = Callable[..., Variants]
Digits = tuple[NDArray[np.float32], NDArray[np.int64]]

BATCH = 64
STEPS = 47  # per epoch


def digits() -> tuple[Digits, Digits]:
    """Images and labels to train with, and to test with."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    scaled = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = np.split(order, [len(order) // 3])
    return (scaled[train], labels[train]), (scaled[test], labels[test])


def moved(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The images, and the images moved up, down, to the left and to the right."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    return np.concatenate([padded[:, y : y + 8, x : x + 8] for y, x in places])


def fit(network: Any, epochs: int, callbacks: list[Any]) -> None:
    import tf_keras

    keras: Any = tf_keras
    (images, labels), _ = digits()
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * STEPS)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(rate), loss)
    network.fit(moved(images), np.tile(labels, 5), BATCH, epochs, verbose=0, callbacks=callbacks)


def build() -> Any:
    """A trained network of 49,258 weights."""
    import tf_keras as keras

    layers = keras.layers
    network = keras.Sequential(
        [
            layers.InputLayer((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 1, activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ],
        name="digits",
    )
    fit(network, 10, [])
    return network


def decay() -> Any:
    import tensorflow_model_optimization as tfmot

    polynomial = tfmot.sparsity.keras.PolynomialDecay
    return polynomial(0.25, 0.75, begin_step=0, end_step=6 * STEPS, frequency=1)


def finetune(network: Any, callbacks: list[Any]) -> None:
    fit(network, 18, callbacks)


@pytest.fixture
def pruned(variants: Build) -> Variants:
    return variants(build, sparsity=0.75, policy="all", schedule=decay, finetune=finetune)


def measured(model: Any, target: str = "litert") -> Accuracy:
    _, (images, labels) = digits()
    return accuracy(model, images, labels, target=target)


def test_the_network_has_learnt_digits(pruned: Variants) -> None:
    assert measured(pruned.dense) >= 0.97


@pytest.mark.parametrize("target", ["litert", "tflite-runtime", "tensorflow"])
def test_three_quarters_of_zeros_cost_less_than_one_percent(pruned: Variants, target: str) -> None:
    loss = measured(pruned.dense, target) - measured(pruned.sparse, target)
    assert loss.samples == 1198
    assert loss <= 0.01


def test_three_quarters_are_zero_and_the_file_is_sound(pruned: Variants) -> None:
    properties.zeros_as_asked(pruned.sparse, 0.75, layers=lambda _: True)
    properties.check(pruned)
    properties.compresses_to(pruned.sparse, pruned.dense, 0.4)


def test_without_training_on_the_same_claim_is_refuted_at_90_percent(variants: Build) -> None:
    files = variants(build, sparsity=0.9, policy="all")
    loss = measured(files.dense) - measured(files.sparse)
    assert not loss <= 0.01
