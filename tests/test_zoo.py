from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_sparsity import zoo
from pytest_sparsity.variants.networks import import_tfmot, quiet

Build = Callable[[], Any]

WORDS = 40
SMALL: dict[str, Build] = {
    "xnnpack_cnn": zoo.xnnpack_cnn,
    "xnnpack_cnn keepdims": lambda: zoo.xnnpack_cnn(keepdims=True),
    "mlp": zoo.mlp,
    "mobilenet_v1": lambda: zoo.mobilenet_v1(size=32, alpha=0.25),
    "mobilenet_v2": lambda: zoo.mobilenet_v2(size=32, alpha=0.35),
    "traffic_signs": zoo.traffic_signs,
    "mnist_cnn": zoo.mnist_cnn,
    "ds_cnn": lambda: zoo.ds_cnn(filters=64),
    "resnet18": lambda: zoo.resnet18(size=32, width=16),
    "translator": lambda: zoo.translator(words=WORDS, units=16, length=6),
    "mobilenet_v1 of Keras": lambda: zoo.mobilenet_v1(size=32, alpha=0.25, xnnpack=False),
    "mobilenet_v2 of Keras": lambda: zoo.mobilenet_v2(size=32, alpha=0.35, xnnpack=False),
}
LARGE: dict[str, Build] = {
    "mobilenet_v1": zoo.mobilenet_v1,
    "mobilenet_v2": zoo.mobilenet_v2,
    "mobilenet_v1 of Keras": lambda: zoo.mobilenet_v1(xnnpack=False),
    "mobilenet_v2 of Keras": lambda: zoo.mobilenet_v2(xnnpack=False),
    "ds_cnn": zoo.ds_cnn,
    "resnet18": zoo.resnet18,
    "inception_v3": zoo.inception_v3,
    "translator": lambda: zoo.translator(words=WORDS),
}
TWO_FORMS = ("mobilenet_v1", "mobilenet_v2")


@pytest.fixture(scope="module", autouse=True)
def tfmot() -> Any:
    return import_tfmot()


@cache
def small(name: str) -> Any:
    return SMALL[name]()


def outputs(model: Any, inputs: int = 5) -> NDArray[np.float32]:
    """Return the outputs for inputs drawn from [0, 1), or from all words, [inputs, outputs]."""
    import tensorflow as tf

    rng = np.random.default_rng(7)
    shape = [1, *model.inputs[0].shape[1:]]
    span = np.float32(WORDS if model.name == "translator" else 1)
    with quiet():
        run = tf.function(model)
        answers = [run(tf.constant(span * rng.random(shape, np.float32))) for _ in range(inputs)]
    return np.concatenate([np.asarray(answer) for answer in answers])


def check_spread(answers: NDArray[np.float32]) -> None:
    assert np.isfinite(answers).all()
    assert 0.05 < answers.std() < 20
    assert answers.std(axis=0).mean() > 0.02, "the outputs hardly depend on the input"


@pytest.mark.parametrize("name", SMALL)
def test_outputs_are_of_order_one_and_depend_on_the_input(name: str) -> None:
    check_spread(outputs(small(name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_outputs_of_large_networks_are_of_order_one(name: str) -> None:
    check_spread(outputs(LARGE[name]()))


def test_the_check_fails_for_keras_own_initial_weights() -> None:
    import tf_keras

    applications: Any = tf_keras.applications
    model = applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, weights=None, classifier_activation=None
    )
    answers = outputs(model)
    assert 0 < answers.std() < 1e-6
    with pytest.raises(AssertionError):
        check_spread(answers)


@pytest.mark.parametrize("name", TWO_FORMS)
def test_xnnpack_s_policy_accepts_the_one_form_and_rejects_the_other(name: str, tfmot: Any) -> None:
    policy = tfmot.sparsity.keras.PruneForLatencyOnXNNPack()
    policy.ensure_model_supports_pruning(small(name))
    with pytest.raises(ValueError, match="Could not find"):
        policy.ensure_model_supports_pruning(small(f"{name} of Keras"))


@pytest.mark.parametrize("name", TWO_FORMS)
def test_both_forms_have_the_same_parameters(name: str) -> None:
    assert small(name).count_params() == small(f"{name} of Keras").count_params()


def test_resnet18_has_the_parameters_that_torchvision_counts() -> None:
    assert sum(weight.numpy().size for weight in zoo.resnet18().trainable_weights) == 11_689_512


def test_the_same_seed_gives_the_same_weights() -> None:
    def weights(seed: int) -> list[bytes]:
        return [array.tobytes() for array in zoo.xnnpack_cnn(seed=seed).get_weights()]

    assert weights(0) == weights(0)
    assert weights(0) != weights(1)


@pytest.mark.parametrize("name", SMALL)
def test_the_batch_is_one(name: str) -> None:
    assert small(name).inputs[0].shape[0] == 1


def test_a_layer_without_a_rule_is_refused() -> None:
    import tf_keras as keras

    layers = [keras.layers.InputLayer((4,), batch_size=1), keras.layers.GaussianNoise(1.0)]
    with pytest.raises(TypeError, match="no rule for the moments of GaussianNoise"):
        zoo.scale_weights(keras.Sequential(layers))
