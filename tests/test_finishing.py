"""Clustering and quantization-aware training after pruning: the zeros stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from naming import without_addresses
from pytest_sparsity import variants
from pytest_sparsity.model import Model
from pytest_sparsity.properties import gzip_nbytes
from pytest_sparsity.variants import Variants, build_variants, finishing, networks
from pytest_sparsity.variants.converter import LocalConverter

Finetune = Callable[[Any, list[Any]], object]


@pytest.fixture(scope="session")
def tfmot() -> Any:
    return networks.import_tfmot()


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch, tfmot: Any) -> Iterator[None]:
    monkeypatch.setattr(variants, "threads_run", lambda: True)
    monkeypatch.setattr(variants, "Converter", LocalConverter)
    with networks.quiet():
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finishing")


def network() -> Any:
    """Return a network of a normalized 1x1 convolution and two dense layers."""
    import tf_keras

    layers = tf_keras.layers
    return tf_keras.Sequential(
        [
            layers.InputLayer((4, 4, 8), batch_size=1),
            layers.Conv2D(16, 1, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10),
        ]
    )


def recurrent() -> Any:
    import tf_keras

    layers = tf_keras.layers
    return tf_keras.Sequential(
        [layers.InputLayer((3, 8), batch_size=1), layers.LSTM(8), layers.Dense(4)]
    )


def train(model: Any, callbacks: list[Any], *, steps: int = 4) -> None:
    """Train so fast that no weight stays what it was."""
    import tf_keras

    rng = np.random.default_rng(0)
    model.compile(tf_keras.optimizers.legacy.SGD(0.05), "mse")
    x = rng.standard_normal([steps, *model.input_shape[1:]], np.float32)
    y = rng.standard_normal([steps, *model.output_shape[1:]], np.float32)
    with networks.quiet():
        model.fit(x, y, batch_size=1, verbose=0, callbacks=callbacks)


def train_pruning_only(model: Any, callbacks: list[Any]) -> None:
    if callbacks:
        train(model, callbacks)


def built(store: Path, **options: Any) -> Variants:
    return build_variants(network, policy="all", sparsity=0.75, cache=store, **options)


def kernels(model: Model) -> list[NDArray[Any]]:
    """Return the pruned weights of the network's file, in order."""
    return [model.weights(layer.tensor) for layer in model.layers if layer.op != "MUL"]


def zeros(model: Model) -> list[float]:
    return [float((kernel == 0).mean()) for kernel in kernels(model)]


def test_quantization_aware_training_keeps_the_zeros(store: Path) -> None:
    files = built(store, quantize="qat", finetune=train)
    for model in (files.dense, files.pruned, files.sparse):
        assert {layer.dtype for layer in model.layers} == {"int8"}
    assert len(files.weights) == len(zeros(files.pruned)) == 3
    assert all(share >= 0.75 for share in zeros(files.pruned))
    assert all(share < 0.2 for share in zeros(files.dense))
    for ours, theirs in zip(kernels(files.pruned), kernels(files.sparse), strict=True):
        assert np.array_equal(ours, theirs)


def test_plain_quantization_aware_training_loses_zeros_and_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tfmot: Any
) -> None:
    """https://github.com/tensorflow/model-optimization/issues/568."""
    plain = tfmot.quantization.keras.default_8bit.Default8BitQuantizeScheme
    monkeypatch.setattr(finishing, "_scheme", lambda *_recipe, **_options: plain())
    with pytest.raises(ValueError, match=r"'qat' left \d+ of the \d+ zeros that pruning made in"):
        built(tmp_path, quantize="qat", finetune=train)


@pytest.mark.parametrize("kind", ["Conv2D", "Dense"])
def test_layers_with_an_activation_layer_behind_them_keep_their_zeros(
    kind: str, store: Path
) -> None:
    """TFMOT 0.8.1 preserves nothing in them; large layers with zeros of their own stand behind."""

    def activated() -> Any:
        import tf_keras

        layers = tf_keras.layers
        pruned = (
            layers.Conv2D(16, 1, name="pruned")
            if kind == "Conv2D"
            else layers.Dense(16, name="pruned")
        )
        shape = (4, 4, 8) if kind == "Conv2D" else (32,)
        ends = [layers.ReLU(), layers.Flatten(), layers.Dense(64)]
        return tf_keras.Sequential([layers.InputLayer(shape, batch_size=1), pruned, *ends])

    options: dict[str, Any] = {"policy": ["pruned"], "sparsity": 0.75, "cache": store}
    files = build_variants(activated, quantize="qat", finetune=train, **options)
    assert zeros(files.pruned)[0] >= 0.75
    with pytest.raises(ValueError, match="not keep the clusters of pruned, which a layer of its"):
        build_variants(activated, quantize="qat", finetune=train, clusters=8, **options)


@pytest.mark.parametrize("finetune", [None, train], ids=["as is", "trained"])
def test_clusters_keep_the_zeros_and_compress(store: Path, finetune: Finetune | None) -> None:
    plain = built(store, finetune=finetune)
    files = built(store, finetune=finetune, clusters=8)
    for model in (files.dense, files.pruned, files.sparse):
        assert all(np.unique(kernel).size <= 8 for kernel in kernels(model)[1:])
        assert gzip_nbytes(model) < gzip_nbytes(getattr(plain, role_of(files, model)))
    for before, after in zip(zeros(plain.pruned), zeros(files.pruned), strict=True):
        assert after >= before >= 0.75
    assert files.pruned.nbytes == plain.pruned.nbytes


def role_of(files: Variants, model: Model) -> str:
    return next(role for role in ("dense", "pruned", "sparse") if getattr(files, role) is model)


def test_clusters_that_do_not_keep_the_zeros_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tensorflow_model_optimization.python.core.clustering.keras.experimental import cluster

    wrap = cluster.cluster_weights

    def careless(layer: Any, clusters: int, *, preserve_sparsity: bool) -> Any:
        assert preserve_sparsity in (True, False)
        return wrap(layer, clusters, preserve_sparsity=False)

    monkeypatch.setattr(cluster, "cluster_weights", careless)
    with pytest.raises(ValueError, match=r"clusters=8 left \d+ of the \d+ zeros that pruning"):
        built(tmp_path, clusters=8, finetune=train)


def test_equal_layers_have_lost_nothing(store: Path) -> None:
    """The converter stores their weights once."""

    def twins() -> Any:
        import tf_keras

        keras: Any = tf_keras
        dense = [
            keras.layers.Dense(16, kernel_initializer=keras.initializers.GlorotUniform(seed=1))
            for _ in range(2)
        ]
        return keras.Sequential([keras.layers.InputLayer((16,), batch_size=1), *dense])

    files = build_variants(twins, policy="all", sparsity=0.75, clusters=8, cache=store)
    assert all(share >= 0.75 for share in zeros(files.pruned))


def test_the_layers_that_are_clustered_are_part_of_what_is_asked(tmp_path: Path) -> None:
    """Where the build function cannot be told, the weights alone decide, and these are equal."""
    opaque = np.random.default_rng(0)

    def two() -> Any:
        import tf_keras

        assert opaque is not None
        layers = tf_keras.layers
        dense = [layers.Dense(16, name=name) for name in "ab"]
        return tf_keras.Sequential([layers.InputLayer((16,), batch_size=1), *dense])

    options: dict[str, Any] = {"sparsity": 0.0, "clusters": 4, "cache": tmp_path}
    one = build_variants(two, policy=["a"], **options)
    both = build_variants(two, policy=["a", "b"], **options)
    assert [np.unique(kernel).size for kernel in kernels(one.dense)] == [4, 256]
    assert [np.unique(kernel).size for kernel in kernels(both.dense)] == [4, 4]


def test_clusters_and_zeros_outlast_quantization_aware_training(store: Path) -> None:
    files = built(store, quantize="qat", finetune=train, clusters=8)
    assert all(share >= 0.75 for share in zeros(files.pruned))
    convolution, *dense = kernels(files.pruned)
    assert all(np.unique(kernel).size <= 8 for kernel in dense)
    # The scale of a convolution's weights is per output, so only each output has few values.
    assert all(np.unique(output).size <= 8 for output in convolution)


def test_layers_without_zeros_before_pruned_ones_do_no_harm(store: Path) -> None:
    """With the shared quantizers of TFMOT 0.8.1 the second convolution would lose its zeros."""

    def two_convolutions() -> Any:
        import tf_keras

        layers = tf_keras.layers
        first, second = layers.Conv2D(16, 1), layers.Conv2D(16, 1, name="second")
        return tf_keras.Sequential([layers.InputLayer((4, 4, 8), batch_size=1), first, second])

    options: dict[str, Any] = {"policy": ["second"], "quantize": "qat", "clusters": 8}
    files = build_variants(two_convolutions, finetune=train, cache=store, **options)
    [second] = [kernel for kernel in kernels(files.pruned) if kernel.shape[-1] == 16]
    assert (second == 0).mean() >= 0.8


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"quantize": "qat"}, "quantize='qat' trains the network quantized and needs finetune"),
        ({"clusters": 2}, "clusters=2 must be 3 or more"),
        ({"clusters": "8"}, "clusters='8' must be 3 or more"),
        ({"clusters": 8, "pattern": "channels"}, "would go on with two networks"),
        (
            {"quantize": "qat", "finetune": train_pruning_only},
            r"quantize='qat': finetune\(model, callbacks\) did not train the network",
        ),
    ],
    ids=without_addresses,
)
def test_what_cannot_follow_pruning_says_why(
    options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=says):
        built(tmp_path, **options)


def test_layers_that_tfmot_cannot_cluster_are_named(tfmot: Any, tmp_path: Path) -> None:
    import tf_keras

    keras: Any = tf_keras

    class Mine(keras.layers.Dense, tfmot.sparsity.keras.PrunableLayer):  # type: ignore[misc]
        def get_prunable_weights(self) -> list[Any]:
            return [self.kernel]

    def build() -> Any:
        return keras.Sequential([keras.layers.InputLayer((8,), batch_size=1), Mine(8)])

    with pytest.raises(ValueError, match=r"clusters=4: TFMOT cannot cluster a layer: .*Mine"):
        build_variants(build, policy="all", clusters=4, cache=tmp_path)


def test_layers_that_are_not_clustered_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As if TFMOT had left a layer alone without a word."""
    from tensorflow_model_optimization.python.core.clustering.keras.experimental import cluster

    monkeypatch.setattr(cluster, "cluster_weights", lambda layer, *_, **__: layer)
    with pytest.raises(ValueError, match="clusters=8: TFMOT left 128 different weights in conv2d"):
        built(tmp_path, clusters=8)


def test_layers_that_tfmot_cannot_quantize_are_named(tmp_path: Path) -> None:
    build = partial(build_variants, recurrent, policy=["dense"], cache=tmp_path)
    with pytest.raises(ValueError, match=r"quantize='qat': TFMOT cannot .*lstm.*use quantize='in"):
        build(quantize="qat", finetune=train)


def test_a_sum_of_tensors_is_to_be_a_layer_for_tfmot(tmp_path: Path) -> None:
    """Its own message is that a list has no dtype."""

    def build() -> Any:
        import tf_keras as keras

        x = keras.Input((8,), batch_size=1)
        y = keras.layers.LayerNormalization()(keras.layers.Dense(8)(x) + x)
        return keras.Model(x, keras.layers.Dense(8)(y))

    said = r"write tf\.__operators__\.add as a layer, .*Add\(\)\(\[a, b\]\) for a \+ b, or use"
    with pytest.raises(ValueError, match=said):
        build_variants(build, policy="all", quantize="qat", finetune=train, cache=tmp_path)


def test_training_after_pruning_is_part_of_what_is_asked(tmp_path: Path) -> None:
    """The pruned weights alone do not tell the files: these differ in the last training only."""

    opaque = np.random.default_rng(0)
    steps = iter([2, 1, 1, 2, 6, 6])

    def finetune(model: Any, callbacks: list[Any]) -> None:
        assert opaque is not None
        train(model, callbacks, steps=next(steps))

    once, twice = (built(tmp_path, quantize="qat", finetune=finetune) for _ in range(2))
    assert once.pruned.sha256 != twice.pruned.sha256
