"""Trainings and networks of the questions that people ask."""

from __future__ import annotations

from typing import Any

STEPS = 8


def half_to_four_fifths() -> Any:
    """The schedule of the question, for a training of eight steps."""
    import tensorflow_model_optimization as tfmot

    return tfmot.sparsity.keras.PolynomialDecay(0.5, 0.8, begin_step=0, end_step=STEPS, frequency=1)


def fit_noise(network: Any, callbacks: list[Any]) -> None:
    """Train for eight steps on noise: enough for the schedule, and nothing is claimed of accuracy.

    The networks have a fixed batch of one.
    """
    import numpy as np
    import tf_keras as keras

    rng = np.random.default_rng(0)
    images = rng.random((STEPS, *network.input_shape[1:]), np.float32)
    labels = rng.integers(0, network.output_shape[-1], STEPS)
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(images, labels, batch_size=1, verbose=0, callbacks=callbacks)
