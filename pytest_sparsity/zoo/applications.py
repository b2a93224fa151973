"""Networks as `tf_keras.applications` has them."""

from __future__ import annotations

from typing import Any

from pytest_sparsity.zoo.weights import KerasModel, scale_weights


def application(name: str, *, size: int, classes: int, seed: int, **options: Any) -> KerasModel:
    """Build a network of `tf_keras.applications` for one image, with random weights.

    Args:
        name: of the function there.
        size: height and width of the image in pixels.
        classes: number of logits.
        seed: of the weights.
        options: of the function.

    Returns:
        A functional model from float32 [1, size, size, 3] to `classes` logits.
    """
    import tf_keras as keras

    build = getattr(keras.applications, name)
    image = keras.Input((size, size, 3), batch_size=1)
    model = build(
        input_tensor=image, weights=None, classes=classes, classifier_activation=None, **options
    )
    return scale_weights(model, seed)
