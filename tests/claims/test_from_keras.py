"""Networks of kinds that people have, from Keras to a verdict, with no options but shapes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_sparsity import Variants, diagnose, race
from pytest_sparsity.errors import Unsupported
from pytest_sparsity.inference import outputs
from pytest_sparsity.targets import Target
from pytest_sparsity.variants import build_variants

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")


def text_classifier() -> Any:
    import tf_keras as keras

    ids = keras.Input((None,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(1000, 64)(ids)
    x = keras.layers.GlobalAveragePooling1D()(x)
    x = keras.layers.Dense(256, activation="relu")(x)
    return keras.Model(ids, keras.layers.Dense(4, activation="softmax")(x))


def two_inputs() -> Any:
    """Keras' order, the signature's and the file's need not be the same."""
    import tf_keras as keras

    zeta, alpha = keras.Input((32,), name="zeta"), keras.Input((32,), name="alpha")
    branches = [keras.layers.Dense(64, activation="relu")(x) for x in (zeta, alpha)]
    x = keras.layers.Dense(128, activation="relu")(keras.layers.Concatenate()(branches))
    return keras.Model([zeta, alpha], [keras.layers.Dense(8)(x), keras.layers.Dense(4)(x)])


def fully_convolutional() -> Any:
    import tf_keras as keras

    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    x = keras.layers.Conv2D(32, 1, activation="relu")(x)
    return keras.Model(image, keras.layers.Conv2D(3, 1)(x))


def efficientnet() -> Any:
    import tf_keras as keras

    options: dict[str, Any] = {"weights": None, "classifier_activation": None}
    model = keras.applications.EfficientNetB0(**options)
    # Untrained, with statistics of nothing, it answers the same to all inputs, which is a finding.
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(255 * np.random.default_rng(0).random((4, 224, 224, 3), np.float32), training=True)
    return model


@dataclass(frozen=True)
class Case:
    """A network, and what has to be said beyond it."""

    build: Callable[[], Any]
    policy: str = "all"
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.build.__name__


CASES = [
    Case(text_classifier, shapes={"tokens": (1, 64)}),
    Case(two_inputs),
    Case(fully_convolutional, shapes={"image": (1, 64, 48, 3)}),
    pytest.param(Case(efficientnet), marks=pytest.mark.slow),
]


def built(case: Case, folder: Path) -> Variants:
    pytest.importorskip("tf_keras")
    return build_variants(case.build, sparsity=0.8, policy=case.policy, cache=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("variants")


@pytest.mark.parametrize("target", ["litert", "litert-js"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_verdict(case: Case, target: str, folder: Path) -> None:
    missing = Target.of(target).missing()
    if missing is not None:
        pytest.skip(str(missing))
    variants = built(case, folder)
    if (case.build, target) == (fully_convolutional, "litert-js"):
        with pytest.raises(Unsupported, match="cannot size the output"):
            diagnose(variants.sparse, target, shapes=case.shapes)
        return
    diagnosis = diagnose(variants.sparse, target, shapes=case.shapes)
    codes = {finding.code for finding in diagnosis.findings}
    assert diagnosis.verdict in {"sparse", "dense"}
    assert diagnosis.evidence == "observed"
    assert diagnosis.outputs_match is True
    assert not codes & {"rules-disagree", "constant-output", "needs-inputs", "outputs-differ"}
    result = race(variants.dense, variants.sparse, target=target, shapes=case.shapes, controls={})
    assert result.trials or result.wall_seconds <= 10
    for name, shape in case.shapes.items():
        assert f"{name} {'x'.join(map(str, shape))}" in result.inputs


def test_open_sizes_are_refused_by_name(folder: Path) -> None:
    variants = built(Case(fully_convolutional), folder)
    with pytest.raises(ValueError, match="leaves sizes of its input 'image' open"):
        race(variants.dense, variants.sparse)


@pytest.mark.parametrize("swapped", [False, True])
def test_inputs_are_keras_own(folder: Path, swapped: bool) -> None:
    """Arrays by name give what Keras gives, in its order of outputs; swapped they do not."""
    variants = built(Case(two_inputs), folder)
    rng = np.random.default_rng(0)
    zeta, alpha = rng.random((2, 5, 32), np.float32)
    given = {"zeta": alpha, "alpha": zeta} if swapped else {"zeta": zeta, "alpha": alpha}
    eight, four = outputs(variants.dense, given)
    assert (eight.shape, four.shape) == ((5, 8), (5, 4))
    right, _ = outputs(variants.dense, {"alpha": alpha, "zeta": zeta})
    assert np.allclose(eight, right) is not swapped
