"""InceptionV3, the largest network of TFMOT's pruning guide."""

from __future__ import annotations

from typing import Any

from pytest_sparsity.zoo.weights import Network, scale_weights


def inception_v3(*, size: int = 299, classes: int = 1000, seed: int = 0) -> Network:
    """Build InceptionV3, https://arxiv.org/abs/1512.00567, as Keras has it.

    Its pooling and regular convolutions are what XNNPACK's sparse rules reject.

    Args:
        size: height and width of the image in pixels, at least 75.
        classes: number of logits.
        seed: of the weights.

    Returns:
        A functional model from float32 [1, size, size, 3] to `classes` logits.
    """
    import tf_keras as keras

    applications: Any = keras.applications
    model = applications.InceptionV3(
        input_tensor=keras.Input((size, size, 3), batch_size=1),
        weights=None,
        classes=classes,
        classifier_activation=None,
    )
    return scale_weights(model, seed)
