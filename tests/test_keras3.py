"""Networks of Keras 3, and what else a build function may return."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from naming import without_addresses
from pruner import Pruner
from pytest_sparsity import Variants, patterns, variants
from pytest_sparsity.errors import Unsupported
from pytest_sparsity.strategies import Schedule
from pytest_sparsity.variants import build_variants, masks, networks, pruning, sources
from recipes import recipe_of

pytest.importorskip("keras", minversion="3")
pytest.importorskip("tensorflow")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "threads_run", lambda: True)


@pytest.fixture(scope="module")
def tfmot() -> Pruner:
    return Pruner(networks.import_tfmot().sparsity.keras)


def mobile() -> Any:
    """Return a small network of Keras 3 whose 1x1 convolutions run sparse."""
    import keras

    layers = keras.layers
    image = keras.Input((16, 16, 3), batch_size=1, name="image")
    x = layers.Conv2D(8, 3, strides=2, activation="relu")(layers.ZeroPadding2D(1)(image))
    x = layers.Conv2D(32, 1, activation="relu", name="one")(x)
    x = layers.Conv2D(16, 1, activation="relu", name="other")(x)
    x = layers.Dense(4, name="head")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, x)


def linear() -> Any:
    import keras

    layers = keras.layers
    return keras.Sequential(
        [keras.Input((32,), batch_size=1), layers.Dense(16, activation="relu"), layers.Dense(8)]
    )


def pruned(build: Any, **options: Any) -> pruning.Pruning:
    with networks.quiet():
        return pruning.prune(recipe_of(build, **options), build())


# -------------------------------------------------------------------------------------- masks


@given(
    shape=st.sampled_from([(8, 5), (1, 1, 16, 6), (3, 3, 4, 8)]),
    sparsity=st.floats(0, 0.99),
    seed=st.integers(0, 100),
    ties=st.booleans(),
)
def test_masks_are_those_of_tfmot(
    tfmot: Pruner, shape: tuple[int, ...], sparsity: float, seed: int, ties: bool
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal(shape, np.float32)
    if ties:
        weights = np.round(weights) + np.float32(0.5)
    [theirs] = tfmot.prune(weights, Schedule(sparsity))
    kept = masks.mask(weights, sparsity, patterns.UNSTRUCTURED)
    assert np.array_equal(np.where(kept, weights, 0), theirs)


@given(seed=st.integers(0, 100), sparsity=st.floats(0, 0.99))
@pytest.mark.parametrize("pattern", ["1x4", "1x16", "2:4", "3:8"])
def test_masks_of_patterns_are_those_of_tfmot(
    tfmot: Pruner, pattern: str, seed: int, sparsity: float
) -> None:
    parsed = patterns.parse(pattern)
    weights = np.random.default_rng(seed).standard_normal((32, 6), np.float32)
    options: dict[str, Any] = {"block_size": (parsed.block, 1)}
    if parsed.zeros:
        options = {"sparsity_m_by_n": (parsed.zeros, parsed.group)}
    [theirs] = tfmot.prune(weights, Schedule(sparsity), **options)
    assert np.array_equal(np.where(masks.mask(weights, sparsity, parsed), weights, 0), theirs)


def train(rate: float = 0.05, epochs: int = 3) -> Any:
    """Return a training that shuffles nothing: eight steps an epoch."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((32, 32), np.float32)
    y = rng.standard_normal((32, 8), np.float32)

    def finetune(model: Any, callbacks: list[Any]) -> None:
        model.compile(optimizer="sgd", loss="mse")
        model.optimizer.learning_rate = rate
        options: dict[str, Any] = {"batch_size": 4, "shuffle": False, "verbose": 0}
        model.fit(x, y, epochs=epochs, callbacks=callbacks, **options)

    return finetune


@pytest.mark.parametrize("pattern", ["unstructured", "1x4", "2:4"])
def test_training_ends_with_the_weights_of_tfmot_s(pattern: str) -> None:
    """The same network in both Kerases, trained alike: every weight, step by step the same."""
    import tf_keras

    keras2 = networks.import_tfmot().sparsity.keras
    first = linear().get_weights()

    def older() -> Any:
        layers = tf_keras.layers
        return tf_keras.Sequential(
            [
                layers.InputLayer((32,), batch_size=1),
                layers.Dense(16, activation="relu"),
                layers.Dense(8),
            ]
        )

    def with_weights(build: Any) -> Any:
        def built() -> Any:
            model = build()
            model.set_weights(first)
            return model

        return built

    def schedule() -> Any:
        return keras2.PolynomialDecay(0.2, 0.75, begin_step=3, end_step=19, frequency=4)

    asked = None if pattern == "2:4" else schedule
    options: dict[str, Any] = {"policy": "all", "pattern": pattern, "finetune": train()}
    options |= {"schedule": asked, "sparsity": 0.5 if pattern == "2:4" else 0.8}
    ours = pruned(with_weights(linear), **options)
    theirs = pruned(with_weights(older), **options)
    for mine, other, start in zip(ours.pruned_weights, theirs.pruned_weights, first, strict=True):
        assert np.array_equal(mine == 0, other == 0)
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)
        assert not np.array_equal(mine, start)
    zeros = [weight.sparsity for weight in ours.report]
    assert zeros == [weight.sparsity for weight in theirs.report]
    assert min(zeros) >= 0.5


# -------------------------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Variants:
    return build_variants(mobile, sparsity=0.9, cache=tmp_path_factory.mktemp("variants"))


def test_a_network_of_keras_3_has_variants(files: Variants) -> None:
    pointwise = [x for x in files.sparse.layers if x.shape[1:3] == (1, 1)]
    assert [x.encoding for x in pointwise] == ["sparse", "sparse"]
    assert [weight.weight for weight in files.weights] == ["one/kernel", "other/kernel"]
    assert [round(x.sparsity, 1) for x in pointwise] == [0.9, 0.9]
    assert files.dense.sparsity == 0
    (image,) = files.sparse.graph.inputs
    assert files.sparse.graph.tensors[image].shape == (1, 16, 16, 3)
    assert not files.sparse.graph.tensors[image].open_dimensions
    assert "image" in files.sparse.graph.tensors[image].name


def test_dense_and_pruned_differ_in_zeros_only(files: Variants) -> None:
    for before, after in zip(files.dense.layers, files.pruned.layers, strict=True):
        kept, new = files.dense.weights(before.tensor), files.pruned.weights(after.tensor)
        assert np.array_equal(new[new != 0], kept[new != 0])


def test_what_it_computes(files: Variants, tmp_path: Path) -> None:
    """The dense file against Keras itself."""
    from pytest_sparsity.inference import outputs
    from pytest_sparsity.variants import keras_state

    image = np.random.default_rng(0).standard_normal((1, 16, 16, 3)).astype(np.float32)
    with keras_state.fresh(0):
        expected = mobile()(image).numpy()
    np.testing.assert_allclose(outputs(files.dense, image)[0], expected, rtol=1e-4, atol=1e-5)


def test_two_inputs_of_keras_3(tmp_path: Path) -> None:
    def build() -> Any:
        import keras

        zeta = keras.Input((32,), batch_size=1, name="zeta")
        alpha = keras.Input((16,), batch_size=1, name="alpha")
        both = keras.layers.Concatenate()([zeta, alpha])
        return keras.Model([zeta, alpha], keras.layers.Dense(24)(both))

    with pytest.warns(UserWarning, match="since no 1x1 convolution can have"):
        made = build_variants(build, cache=tmp_path)
    shapes = {made.dense.graph.tensors[i].shape for i in made.dense.graph.inputs}
    assert shapes == {(1, 32), (1, 16)}
    assert made.pruned.layers[0].sparsity == pytest.approx(0.8, abs=0.01)


def test_the_other_encoder_and_repair(tmp_path: Path) -> None:
    def same() -> Any:
        import keras

        layers = keras.layers
        image = keras.Input((16, 16, 3), batch_size=1)
        x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(image)
        x = layers.Conv2D(32, 1, activation="relu")(x)
        return keras.Model(image, layers.GlobalAveragePooling2D()(x))

    theirs = build_variants(same, cache=tmp_path)
    ours = build_variants(same, encoder="own", repair=True, cache=tmp_path)
    assert ours.pruned.sha256 == theirs.pruned.sha256
    ops = [{o.op for o in each.sparse.graph.operators} for each in (theirs, ours)]
    assert "REVERSE_V2" in ops[1] - ops[0]


# ------------------------------------------------------------------------------------ refusals


def forgetful(model: Any, callbacks: list[Any]) -> None:
    """Train nothing."""


def of_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pattern": "channels"}, "TFMOT does not know Keras 3"),
        ({"clusters": 8}, "TFMOT does not know Keras 3"),
        ({"policy": ["one"], "pattern": "1x4"}, "one/kernel has 4 dimensions, blocks need 2"),
        ({"policy": ["head", "two"]}, r"layers that do not exist: \['two'\]"),
        ({"finetune": forgetful}, "trained without the callbacks"),
        ({"policy": "xnnpack", "pattern": "1x16"}, "selects no layer"),
    ],
    ids=without_addresses,
)
def test_what_keras_3_cannot_have(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        pruned(mobile, **options)


def test_another_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    of_jax(monkeypatch)
    with pytest.raises(ValueError, match=r"computes with jax.*KERAS_BACKEND=tensorflow"):
        pruned(mobile)


def test_a_model_without_inputs_is_refused() -> None:
    import keras

    with pytest.raises(ValueError, match="Sequential has no inputs yet"):
        pruned(lambda: keras.Sequential([keras.layers.Dense(2)]))


# ------------------------------------------------------------------------------- other sources


@pytest.mark.parametrize("kind", ["keras 3", "tf_keras", "tf_keras h5"])
def test_saved_models_are_loaded_by_who_wrote_them(kind: str, tmp_path: Path) -> None:
    import tf_keras

    if kind == "keras 3":
        path = tmp_path / "model.keras"
        with networks.quiet():  # Keras 3 of today warns about numpy 2
            linear().save(path)
    else:
        path = tmp_path / ("model.h5" if kind.endswith("h5") else "model.keras")
        with networks.quiet():
            layers = [tf_keras.layers.InputLayer((32,), batch_size=1), tf_keras.layers.Dense(16)]
            tf_keras.Sequential(layers).save(path)
    with networks.quiet():
        loaded = sources.loaded(path)
    module = type(loaded).__module__
    assert module.startswith("keras." if kind == "keras 3" else "tf_keras.")
    with networks.quiet():
        made = build_variants(
            lambda: str(path), policy="all", depends=[path], cache=tmp_path / "cache"
        )
    assert made.pruned.layers[0].sparsity == pytest.approx(0.8, abs=0.01)


def test_a_saved_model_is_pruned_in_its_file(tmp_path: Path) -> None:
    from pytest_sparsity.variants import keras3

    with networks.quiet():
        keras3.export(mobile(), tmp_path / "saved")
        made = build_variants(
            lambda: tmp_path / "saved", sparsity=0.9, key="1", cache=tmp_path / "cache"
        )
    assert [round(x.sparsity, 1) for x in made.pruned.layers] == [0.0, 0.9, 0.9, 0.0]
    assert "sparse" in {x.encoding for x in made.sparse.layers}
    assert len(made.weights) == 2
    assert all(weight.as_asked for weight in made.weights)
    with networks.quiet(), pytest.raises(ValueError, match="a SavedModel is converted first"):
        build_variants(
            lambda: tmp_path / "saved", finetune=train(), key="2", cache=tmp_path / "cache"
        )


def test_concrete_functions(tmp_path: Path) -> None:
    import tensorflow as tf

    drawn: Any = np.random.default_rng(0).standard_normal((32, 16), np.float32)
    weights = tf.Variable(drawn)

    def build() -> Any:
        spec = tf.TensorSpec((1, 32), tf.float32, name="x")
        function = tf.function(lambda x: {"y": tf.nn.relu(x @ weights)}, input_signature=[spec])
        return [function.get_concrete_function()]

    with networks.quiet():
        made = build_variants(build, key="1", cache=tmp_path)
    (layer,) = made.pruned.layers
    assert layer.sparsity == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("model.txt", b"", "neither a .keras or .h5 file nor the folder of a SavedModel"),
        ("model.keras", b"zip?", "is not a model that Keras saved"),
        ("model.h5", b"hdf?", "is not a model that Keras saved"),
        ("missing.keras", None, "neither a .keras or .h5 file nor the folder of a SavedModel"),
    ],
)
def test_paths_that_lead_nowhere(
    name: str, content: bytes | None, says: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=says):
        sources.loaded(tmp_path / name)


class FakeTorch:
    """What `sys.modules["torch"]` needs to have."""

    class nn:  # noqa: N801
        class Module:
            def eval(self) -> Any:
                return self


def test_a_module_of_pytorch_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", FakeTorch)
    monkeypatch.setitem(__import__("sys").modules, "litert_torch", None)
    module = FakeTorch.nn.Module()
    with pytest.raises(ValueError, match=r"return \(module, example_inputs\)"):
        sources.loaded(module)
    with pytest.raises(Unsupported, match="litert-torch, and litert_torch is not installed"):
        sources.loaded((module, np.zeros(3)))
    module.example_input_array = np.zeros(3)  # type: ignore[attr-defined]
    with pytest.raises(Unsupported, match="python -m pip install litert-torch"):
        sources.loaded(module)
