"""TFMOT and the converter held to their promises, and the properties to finding where they fail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pruner import Pruner
from pytest_sparsity import properties, strategies, zoo
from pytest_sparsity.model import Layer, Model
from pytest_sparsity.strategies import Schedule, SingleLayer
from pytest_sparsity.variants import Variants, build_variants, networks

Floats = NDArray[np.float32]

SHAPES = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 8)),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 20), st.integers(1, 6)),
)
"""Of kernels in Keras' layout, the outputs last."""


@pytest.fixture(scope="session")
def tfmot() -> Pruner:
    return Pruner(networks.import_tfmot().sparsity.keras)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toolchain")


def distinct(shape: tuple[int, ...], seed: int) -> Floats:
    """Weights, and blocks of them, of different magnitudes: TFMOT keeps all that tie."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    magnitudes = rng.permutation(np.geomspace(0.1, 1, size)) * rng.choice([-1, 1], size)
    weights: Floats = magnitudes.astype(np.float32).reshape(shape)
    return weights


def stored(folder: Path, kernel: Floats, name: str = "model") -> Model:
    """A file of one layer with a kernel in Keras' layout."""
    op: Any = "FULLY_CONNECTED" if kernel.ndim == 2 else "CONV_2D"
    order = (1, 0) if kernel.ndim == 2 else (3, 0, 1, 2)
    network = SingleLayer(op, np.ascontiguousarray(kernel.transpose(order))).build()
    return Model(network.write(folder / f"{name}.tflite"))


def every(_layer: object) -> bool:
    return True


# ------------------------------------------------------------------------------------ masks


@given(shape=SHAPES, sparsity=st.floats(0, 0.99), seed=st.integers(0, 100))
def test_masks_have_the_zeros_asked_for_and_keep_the_largest(
    tfmot: Pruner, folder: Path, shape: tuple[int, ...], sparsity: float, seed: int
) -> None:
    before = distinct(shape, seed)
    [after] = tfmot.prune(before, Schedule(sparsity))
    properties.zeros_as_asked(stored(folder, after), sparsity, layers=every)
    properties.keeps_the_largest({"kernel": before}, {"kernel": after})


@given(schedule=strategies.schedules(steps=30), seed=st.integers(0, 100))
def test_masks_only_grow_under_a_schedule(
    tfmot: Pruner, folder: Path, schedule: Schedule, seed: int
) -> None:
    updates = schedule.updates(31)[:6]
    before = distinct((9, 7), seed)
    after = tfmot.prune(before, schedule, updates)
    properties.masks_only_grow([{"kernel": kernel} for kernel in (before, *after)])
    last = schedule.sparsity_at(updates[-1])
    properties.zeros_as_asked(stored(folder, after[-1]), last)


def test_weights_that_are_equal_are_not_pruned(tfmot: Pruner, folder: Path) -> None:
    """TFMOT 0.8.1 keeps every weight as large as the smallest one that it keeps."""
    [after] = tfmot.prune(np.ones((8, 8), np.float32), Schedule(0.8))
    with pytest.raises(AssertionError, match="has 0 zeros in 64 weights"):
        properties.zeros_as_asked(stored(folder, after), 0.8)


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "3:8"])
@given(shape=SHAPES, seed=st.integers(0, 100))
def test_m_of_n_holds_on_every_row(
    tfmot: Pruner, folder: Path, pattern: str, shape: tuple[int, ...], seed: int
) -> None:
    m, n = map(int, pattern.split(":"))
    before = distinct(shape, seed)
    [after] = tfmot.prune(before, Schedule(0.5), sparsity_m_by_n=(m, n))
    model = stored(folder, after)
    properties.pattern_holds(model, pattern, layers=every)
    dense = stored(folder, before, "dense")
    properties.keeps_the_largest(dense, model, pattern=pattern)


@pytest.mark.parametrize("block", [4, 16])
@given(blocks=st.integers(1, 4), out=st.integers(2, 8), seed=st.integers(0, 100))
def test_blocks_hold_on_every_row(
    tfmot: Pruner, folder: Path, block: int, blocks: int, out: int, seed: int
) -> None:
    """Keras' `block_size=(4, 1)` is what TFLite calls 1x4: its kernels are transposed."""
    before = distinct((block * blocks + block, out), seed)
    [after] = tfmot.prune(before, Schedule(0.5), block_size=(block, 1))
    model, pattern = stored(folder, after), f"1x{block}"
    properties.pattern_holds(model, pattern)
    properties.zeros_as_asked(model, 0.5, within=block)


def test_blocks_need_more_than_one_output(tfmot: Pruner) -> None:
    """TFMOT 0.8.1 squeezes the weights before it pools them, and then misses a dimension."""
    with pytest.raises(ValueError, match="tensors of rank 2 only"):
        tfmot.prune(distinct((16, 1), seed=0), Schedule(0.5), block_size=(4, 1))


# ------------------------------------------------------------------------ training, stripping


@dataclass(frozen=True)
class Trained:
    """A small network after a pruning training, its wrappers on and off."""

    wrapped: Any
    stripped: Any
    checkpoints: list[dict[str, Floats]]


def train(tfmot: Pruner, schedule: Schedule, epochs: int, *, rate: float = 0.1) -> Trained:
    import tf_keras as keras

    checkpoints: list[dict[str, Floats]] = []
    rng = np.random.default_rng(0)
    samples = rng.random((320, 24), np.float32)
    labels = (samples @ rng.standard_normal((24, 5), np.float32)).argmax(axis=1)

    def checkpoint(_epoch: int, _logs: object) -> None:
        checkpoints.append({w.layer.name: w.layer.kernel.numpy() for w in wrapped.layers})

    with networks.quiet():
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        dense = keras.layers.Dense
        network = keras.Sequential(
            [keras.Input((24,)), dense(64, activation="relu", name="hidden"), dense(5, name="out")]
        )
        wrapped = tfmot.keras.prune_low_magnitude(network, pruning_schedule=schedule.build())
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        wrapped.compile(keras.optimizers.SGD(rate), loss)
        taken = keras.callbacks.LambdaCallback(on_epoch_end=checkpoint)
        callbacks = [tfmot.keras.UpdatePruningStep(), taken]
        wrapped.fit(samples, labels, 32, epochs, verbose=0, callbacks=callbacks)
        return Trained(wrapped, tfmot.keras.strip_pruning(wrapped), checkpoints)


@pytest.fixture(scope="module")
def trained(tfmot: Pruner) -> Trained:
    return train(tfmot, Schedule(0.75, 0.25, begin=0, end=30, frequency=2), epochs=4)


def test_masks_only_grow_in_a_training_with_a_decay(trained: Trained) -> None:
    properties.masks_only_grow(trained.checkpoints)
    last = trained.checkpoints[-1]
    assert {name: np.mean(kernel == 0) for name, kernel in last.items()} == {
        "hidden": 0.75,
        "out": 0.75,
    }


def test_a_constant_sparsity_without_an_end_brings_weights_back(tfmot: Pruner) -> None:
    """TFMOT 0.8.1 chooses again at every update, and the steps between train removed weights."""
    endless = train(tfmot, Schedule(0.75), epochs=10, rate=0.5)
    with pytest.raises(AssertionError, match=r"zero in checkpoint \d+ and not in .* an end_step"):
        properties.masks_only_grow(endless.checkpoints)
    ended = train(tfmot, Schedule(0.75, end=20), epochs=10, rate=0.5)
    properties.masks_only_grow(ended.checkpoints[2:])


def test_stripping_leaves_no_wrapper_and_the_same_function(trained: Trained) -> None:
    inputs = np.random.default_rng(1).random((4, 24), np.float32)
    properties.strips_to_the_same_function(trained.wrapped, trained.stripped, inputs)
    with pytest.raises(AssertionError, match="prune_low_magnitude_hidden, prune_low_magnitude_out"):
        properties.is_stripped(trained.wrapped)


def test_a_wrapper_in_a_model_inside_is_found(trained: Trained) -> None:
    import tf_keras as keras

    outer = keras.Sequential([keras.Input((24,)), trained.wrapped], name="outer")
    with pytest.raises(AssertionError, match="outer still has the pruning wrappers"):
        properties.is_stripped(outer)


def test_a_weight_that_changed_after_stripping_is_found(trained: Trained) -> None:
    import tf_keras as keras

    inputs = np.random.default_rng(1).random((4, 24), np.float32)
    other = keras.models.clone_model(trained.stripped)
    kernels = trained.stripped.get_weights()
    kernels[-1] = kernels[-1] + np.float32(1e-3)
    other.set_weights(kernels)
    with pytest.raises(AssertionError, match=r"outputs of shape \(4, 5\) and \(4, 5\) differ"):
        properties.strips_to_the_same_function(trained.wrapped, other, inputs)


# ------------------------------------------------------------------------------- conversion


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Variants:
    store = tmp_path_factory.mktemp("variants")
    return build_variants(zoo.xnnpack_cnn, sparsity=0.75, cache=store)


def test_a_converted_network_has_all_properties(cnn: Variants) -> None:
    held = properties.check(cnn, sparsity=0.75)
    assert len(held) == 13
    properties.runs_since(cnn.sparse, "2.14.0")


def test_conversion_keeps_the_network_s_function(cnn: Variants) -> None:
    with networks.quiet():
        network = zoo.xnnpack_cnn()
        properties.same_outputs(lambda x: network(x, training=False), cnn.dense)
    with pytest.raises(AssertionError, match=r"pruned\.tflite differs from"):
        properties.same_outputs(lambda x: network(x, training=False), cnn.pruned)


def test_sizes_fall_from_one_sparsity_to_the_next(
    cnn: Variants, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = tmp_path_factory.mktemp("variants")
    more = build_variants(zoo.xnnpack_cnn, sparsity=0.95, cache=store)
    properties.size_falls_with_sparsity([more.sparse, cnn.sparse])
    properties.size_as_predicted(more.pruned, more.sparse)
    properties.check(more, sparsity=0.95)


def perceptron() -> Any:
    import tf_keras

    keras: Any = tf_keras
    layers = keras.layers
    return keras.Sequential(
        [
            layers.InputLayer((128,), batch_size=1),
            layers.Dense(96, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ],
        name="perceptron",
    )


def samples() -> list[list[Floats]]:
    return list(np.random.default_rng(0).random((4, 1, 1, 128), np.float32))


def linear(layer: Layer) -> bool:
    return layer.op == "FULLY_CONNECTED"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("variants")


REFUSED = r"- runs: .* it does with the runtime's own kernels"
DEFECTS: dict[tuple[str, str | None], str] = {
    # LiteRT 2.3.0's XNNPACK delegate reads int8 weights from the file although DENSIFY precedes.
    ("unstructured", "dynamic"): REFUSED,
    ("unstructured", "int8"): REFUSED,
    ("2:4", "dynamic"): REFUSED,
    ("2:4", "int8"): REFUSED,
    ("1x4", "dynamic"): REFUSED,
    ("1x4", "int8"): REFUSED,
    # It takes a FULLY_CONNECTED of version 12 for a dense one and reads beyond its weights.
    ("1x16", "dynamic"): "- same_outputs: ",
    # TensorFlow 2.21's converter leaves out DENSIFY.
    ("1x4", "float16"): "cannot be built",
    ("1x16", "float16"): "cannot be built",
}


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "1x4", "1x16", "channels"])
@pytest.mark.parametrize("quantize", [None, "float16", "dynamic", "int8"])
def test_every_technique_has_all_properties_or_a_known_defect(
    store: Path, pattern: str, quantize: str | None
) -> None:
    asked = 0.5 if pattern == "2:4" else 0.8
    options: dict[str, Any] = {"representative": samples} if quantize == "int8" else {}
    options |= {"sparsity": asked, "pattern": pattern, "policy": "all", "quantize": quantize}
    defect = DEFECTS.get((pattern, quantize), "")
    if defect == "cannot be built":
        with pytest.raises(ValueError, match="is broken"):
            build_variants(perceptron, cache=store, **options)
        return
    files = build_variants(perceptron, cache=store, **options)
    if defect:
        with pytest.raises(AssertionError, match=defect):
            properties.check(files, sparsity=asked, pattern=pattern, layers=linear)
    else:
        properties.check(files, sparsity=asked, pattern=pattern, layers=linear)
