from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naming import without_addresses
from pytest_sparsity import prunable_layers, variants, zoo
from pytest_sparsity.errors import SparsityWarning, Unsupported
from pytest_sparsity.transform import edit
from pytest_sparsity.variants import (
    Variants,
    build_variants,
    building,
    conversion,
    converter,
    keras_state,
    networks,
    pruning,
    recipe,
)
from pytest_sparsity.variants.cache import ROLES
from pytest_sparsity.variants.converter import ConversionError, Converter, LocalConverter
from pytest_sparsity.variants.recipe import Recipe
from recipes import recipe_of

Build = Callable[[], Any]
Finetune = Callable[[Any, list[Any]], object]


@pytest.fixture(scope="session")
def keras() -> Any:
    """`tf_keras`, imported after TFMOT as in a build."""
    networks.import_tfmot()
    import tf_keras

    return tf_keras


@pytest.fixture(scope="session")
def schedules() -> Any:
    return networks.import_tfmot().sparsity.keras


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("variants")


@pytest.fixture(scope="session")
def cnn(store: Path) -> Variants:
    return build_variants(zoo.xnnpack_cnn, sparsity=0.75, cache=store)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests see what a build calls: in a process of its own it would not be seen here."""
    monkeypatch.setattr(variants, "threads_run", lambda: True)


@pytest.fixture
def unconverted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start no converter: what is tested fails before it is needed."""

    class NoConverter:
        def close(self) -> None: ...

    monkeypatch.setattr(variants, "Converter", NoConverter)


def pruned_network(recipe: Recipe) -> pruning.Pruning:
    return pruning.prune(recipe, recipe.build())


def contents(built: Variants) -> dict[str, bytes]:
    return {role: getattr(built, role).path.read_bytes() for role in ROLES}


def perceptron(width: int = 64) -> Any:
    """Return a small network whose only layers are dense ones."""
    import tf_keras

    layers = tf_keras.layers
    return tf_keras.Sequential(
        [
            layers.InputLayer((width,), batch_size=1),
            layers.Dense(32, activation="relu"),
            layers.Dense(10),
        ]
    )


# --------------------------------------------------------------------------------- the files


def test_dense_and_pruned_differ_in_zeros_only(cnn: Variants) -> None:
    dense, pruned = cnn.dense, cnn.pruned
    assert dense.nbytes == pruned.nbytes
    assert [layer.sparsity for layer in dense.layers] == [0.0] * 6
    for before, after in zip(dense.layers, pruned.layers, strict=True):
        kept, new = dense.weights(before.tensor), pruned.weights(after.tensor)
        assert np.array_equal(new[new != 0], kept[new != 0])
        can = after in prunable_layers(pruned)
        assert after.sparsity == (0.75 if can else 0.0)
        largest_dropped = np.abs(kept[new == 0]).max(initial=0)
        assert can or not largest_dropped


def test_pruned_and_sparse_differ_in_storage_only(cnn: Variants) -> None:
    assert not cnn.pruned.encoded
    assert cnn.sparse.nbytes < cnn.pruned.nbytes
    can = prunable_layers(cnn.sparse)
    for stored, encoded in zip(cnn.pruned.layers, cnn.sparse.layers, strict=True):
        ours, theirs = cnn.pruned.weights(stored.tensor), cnn.sparse.weights(encoded.tensor)
        assert ours.tobytes() == theirs.tobytes()
        assert encoded.encoding == ("sparse" if encoded in can else "dense")


def test_the_report_says_what_became_of_each_weight(cnn: Variants) -> None:
    described = [(w.layer, w.shape, w.zeros, w.parameters, w.asked) for w in cnn.weights]
    assert described == [
        ("conv2d_1", (1, 1, 8, 16), 96, 128, 0.75),
        ("conv2d_2", (1, 1, 16, 32), 384, 512, 0.75),
    ]


def test_no_constant_is_negative_zero(cnn: Variants) -> None:
    for model in (cnn.dense, cnn.pruned, cnn.sparse):
        for tensor in model.graph.tensors:
            if tensor.constant and tensor.dtype == "float32":
                values = model.weights(tensor.index)
                assert not (np.signbit(values) & (values == 0)).any()


def test_a_whole_network_at_99_percent(counted: type[Counted], tmp_path: Path) -> None:
    built = build_variants(zoo.mlp, sparsity=0.99, policy="all", cache=tmp_path)
    assert [layer.encoding for layer in built.sparse.layers] == ["block 1x4"] * 3
    for layer in built.sparse.layers:
        assert layer.sparsity == pytest.approx(0.99, abs=1 / layer.parameters)
    assert built.sparse.nbytes < built.dense.nbytes / 10


# ---------------------------------------------- patched files are those of a full conversion


def fill(model: Any, seed: int = 0) -> Any:
    """Give a network random weights, and its normalizations factors of both signs."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        values = rng.standard_normal(variable.shape, np.float32)
        positive = "variance" in variable.name
        variable.assign(np.abs(values) + 0.5 if positive else values)
    return model


def sequence(*layers: Any, shape: tuple[int, ...] = (8, 8, 4)) -> Any:
    import tf_keras

    return fill(tf_keras.Sequential([tf_keras.layers.InputLayer(shape, batch_size=1), *layers]))


def normalized() -> Any:
    from tf_keras import layers

    return sequence(
        layers.Conv2D(8, 1),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(4, 3, padding="same", use_bias=False),
        layers.BatchNormalization(center=False, scale=False),
        layers.GlobalAveragePooling2D(),
        layers.Dense(6, use_bias=False),
    )


def normalized_before() -> Any:
    """Return a network whose normalization the converter may fold into what comes after it."""
    from tf_keras import layers

    return sequence(
        layers.BatchNormalization(), layers.Conv2D(8, 1), layers.Flatten(), layers.Dense(3)
    )


def rescaled() -> Any:
    from tf_keras import layers

    return sequence(layers.Rescaling(1 / 128, offset=-1), layers.Dense(8), shape=(16,))


def reused() -> Any:
    import tf_keras as keras

    x = keras.Input((16,), batch_size=1)
    layer = keras.layers.Dense(16)
    return fill(keras.Model(x, layer(keras.layers.ReLU()(layer(x)))))


def equal_kernels() -> Any:
    """Return a network with two equal kernels, which the converter stores once."""
    import tf_keras as keras

    x = keras.Input((16,), batch_size=1)
    one, two = keras.layers.Dense(16), keras.layers.Dense(16)
    model = fill(keras.Model(x, two(keras.layers.ReLU()(one(x)))))
    two.set_weights(one.get_weights())
    return model


def single_weights() -> Any:
    """Return a network with kernels of one weight per channel, proportional to any other."""
    from tf_keras import layers

    return sequence(layers.Conv2D(8, 1), layers.Conv2D(1, 1), layers.Conv2D(8, 1), shape=(4, 4, 1))


def empty_channels() -> Any:
    from tf_keras import layers

    model = sequence(layers.Conv2D(8, 1, use_bias=False), layers.BatchNormalization())
    kernel = model.layers[0].kernel
    kernel.assign(kernel.numpy() * (np.arange(8) > 3))
    return model


def along_time() -> Any:
    from tf_keras import layers

    return sequence(layers.Dense(8, activation="relu"), layers.Dense(4), shape=(5, 16))


def grouped() -> Any:
    from tf_keras import layers

    return sequence(layers.Conv2D(8, 1, groups=2), layers.Conv2D(8, 3))


def recurrent() -> Any:
    from tf_keras import layers

    return sequence(layers.LSTM(8), layers.Dense(16), shape=(4, 8))


def with_a_lambda() -> Any:
    from tf_keras import layers

    return sequence(layers.Dense(16), layers.Lambda(lambda x: x * 2.0), shape=(16,))


def nested() -> Any:
    import tf_keras as keras

    inner = keras.Sequential([keras.layers.InputLayer((16,)), keras.layers.Dense(8)])
    return sequence(keras.layers.Dense(16, activation="relu"), inner, shape=(16,))


def without_activation() -> Any:
    """Return a network for which the converter moves the first bias, times a kernel, on."""
    from tf_keras import layers

    return sequence(layers.Dense(16), layers.Dense(8), shape=(16,))


def calibration(shape: tuple[int, ...]) -> Callable[[], Iterator[Any]]:
    def representative() -> Iterator[Any]:
        rng = np.random.default_rng(0)
        for _ in range(4):
            yield [rng.random(shape, np.float32)]

    return representative


@dataclass(frozen=True)
class Case:
    """A network, what is asked of it, and how many conversions that takes (None: one or two)."""

    build: Build
    conversions: int | None
    options: dict[str, Any] = field(default_factory=dict)


INT8: dict[str, Any] = {"quantize": "int8", "representative": calibration((1, 64))}

EQUALITIES = {
    "xnnpack_cnn": Case(zoo.xnnpack_cnn, 1, {"policy": "xnnpack"}),
    "normalized": Case(normalized, 1),
    "normalized_before": Case(normalized_before, None),
    "equal_kernels": Case(equal_kernels, 2),
    "without_activation": Case(without_activation, 2),
    "blocks": Case(perceptron, 1, {"pattern": "1x4"}),
    "int8 in blocks": Case(perceptron, 2, {"pattern": "1x16", **INT8}),
}
MORE_EQUALITIES = {
    "dynamic": Case(perceptron, 2, {"quantize": "dynamic"}),
    "float16": Case(perceptron, 2, {"quantize": "float16"}),
    "nested": Case(nested, 1),
    "single_weights": Case(single_weights, None),
    "reused": Case(reused, 2),
    "rescaled": Case(rescaled, None),
    "empty_channels": Case(empty_channels, None),
    "along_time": Case(along_time, 1),
    "grouped": Case(grouped, 2),
    "with_a_lambda": Case(with_a_lambda, 2),
    "two of four": Case(zoo.xnnpack_cnn, 1, {"policy": "xnnpack", "pattern": "2:4"}),
    "int8": Case(perceptron, 2, INT8),
    "mlp": Case(zoo.mlp, 1),
    "mlp at 99 %": Case(zoo.mlp, 1, {"sparsity": 0.99}),
    "mobilenet_v1 small": Case(lambda: zoo.mobilenet_v1(size=32, alpha=0.25), 1),
    "mobilenet_v1": Case(zoo.mobilenet_v1, 1, {"policy": "xnnpack"}),
    "mobilenet_v1 of Keras": Case(lambda: zoo.mobilenet_v1(xnnpack=False), 1),
    "mobilenet_v2": Case(zoo.mobilenet_v2, 1, {"policy": "xnnpack"}),
    "mobilenet_v2 of Keras": Case(lambda: zoo.mobilenet_v2(xnnpack=False), 1),
}


def test_a_warning_of_the_converter_is_no_error_of_the_tests(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def sparsify(source: Path) -> bytes:
        warnings.warn(f"{source}: see there for details.", UserWarning, stacklevel=1)
        return b"a model"

    monkeypatch.setattr(converter, "sparsify", sparsify)
    warnings.simplefilter("error")  # put back by pytest
    LocalConverter().sparsify(tmp_path, tmp_path / "sparse.tflite")
    assert (tmp_path / "sparse.tflite").read_bytes() == b"a model"


class Counted(LocalConverter):
    conversions = 0

    def convert(
        self,
        saved_model: Path,
        path: Path,
        quantize: str | None = None,
        samples: Path | None = None,
    ) -> None:
        type(self).conversions += 1
        super().convert(saved_model, path, quantize, samples)


def wanted(build: Build, **options: Any) -> Recipe:
    return recipe_of(build, **{"policy": "all", **options})


def fully_converted(asked: Recipe, folder: Path) -> dict[str, bytes]:
    """Return the three files as TFMOT and the converter make them, but for negative zeros."""
    import tensorflow as tf

    files = {}
    with keras_state.fresh(0), networks.quiet():
        network = pruned_network(asked)
        for role in ROLES:
            weights = network.dense_weights if role == "dense" else network.pruned_weights
            network.model.set_weights(weights)
            saved = conversion.export(network.model, folder / role)
            convert: Any = tf.lite.TFLiteConverter.from_saved_model(str(saved))
            convert.optimizations = [tf.lite.Optimize.DEFAULT] if asked.quantize else []
            if asked.quantize == "float16":
                convert.target_spec.supported_types = [tf.float16]
            if asked.representative is not None:
                convert.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
                convert.representative_dataset = asked.representative
            if role == "sparse":
                convert.optimizations += [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
            path = folder / f"{role}.tflite"
            path.write_bytes(convert.convert())
            if role != "sparse":
                conversion.canonical(path, path)
            files[role] = path.read_bytes()
    return files


def check_equality(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "Converter", Counted)
    monkeypatch.setattr(Counted, "conversions", 0)
    options = {"policy": "all", **case.options}
    with networks.quiet():
        built = build_variants(case.build, cache=folder / "store", **options)
    full = fully_converted(wanted(case.build, **options), folder)
    for role, content in contents(built).items():
        assert content == full[role], role
    assert Counted.conversions in ((1, 2) if case.conversions is None else (case.conversions,))


@pytest.mark.parametrize("name", EQUALITIES)
def test_the_files_are_those_of_a_full_conversion(
    name: str, tmp_path: Path, keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_equality(EQUALITIES[name], tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE_EQUALITIES)
def test_the_files_of_more_networks_are_those_of_a_full_conversion(
    name: str, tmp_path: Path, keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_equality(MORE_EQUALITIES[name], tmp_path, monkeypatch)


@pytest.mark.slow
def test_the_state_of_a_recurrent_network_is_numbered_as_in_a_full_conversion(
    tmp_path: Path, keras: Any
) -> None:
    """TensorFlow marks state tensors by a counter of the process, so each build has its own."""
    with networks.quiet():
        built = build_variants(recurrent, policy="all", cache=tmp_path / "store")
    program = """
        import sys
        import tensorflow as tf
        convert = tf.lite.TFLiteConverter.from_saved_model(sys.argv[1])
        convert.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
        sys.stdout.buffer.write(convert.convert())
        """
    with keras_state.fresh(0), networks.quiet():
        saved = conversion.export(pruned_network(wanted(recurrent)).model, tmp_path / "pruned")
    command = [sys.executable, "-c", textwrap.dedent(program), str(saved)]
    assert built.sparse.path.read_bytes() == subprocess.check_output(command)


# ------------------------------------------------------------------------------ determinism


PROGRAM = """
    import hashlib, sys
    from pathlib import Path
    from pytest_sparsity import variants, zoo
    from pytest_sparsity.variants import build_variants
    from pytest_sparsity.variants.cache import ROLES
    builds, fork = [], variants.in_a_fork
    variants.in_a_fork = lambda *work: builds.append(work) or fork(*work)
    built = build_variants(zoo.xnnpack_cnn, sparsity=0.75, cache=Path(sys.argv[1]))
    for role in ROLES:
        print(hashlib.sha256(getattr(built, role).path.read_bytes()).hexdigest())
    print(len(builds), "tensorflow" in sys.modules)
    """


def start(store: Path) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "random",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(store)]
    # Not in the checkout: a child would import the package from there, as code that may change.
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=store)


def test_processes_agree_and_only_one_builds(cnn: Variants, tmp_path: Path) -> None:
    children = [start(tmp_path), start(tmp_path)]
    answers = [child.communicate(timeout=300)[0].split() for child in children]
    ours = [getattr(cnn, role).sha256 for role in ROLES]
    assert [answer[:3] for answer in answers] == [ours, ours]
    assert sorted(answer[3:] for answer in answers) == [["0", "False"], ["1", "False"]]


def test_a_warm_run_never_imports_tensorflow(cnn: Variants, store: Path) -> None:
    answer = start(store).communicate(timeout=60)[0].split()
    assert answer == [*(getattr(cnn, role).sha256 for role in ROLES), "0", "False"]


def test_the_user_s_generators_go_on_as_if_nothing_had_been_built(
    tmp_path: Path, keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "Converter", LocalConverter)
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    with networks.quiet():
        build_variants(perceptron, policy="all", cache=tmp_path)
    assert (random.random(), np.random.random()) == expected


# ---------------------------------------------------------------------------------- the cache


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, keras: Any) -> Iterator[type[Counted]]:
    monkeypatch.setattr(variants, "Converter", Counted)
    monkeypatch.setattr(Counted, "conversions", 0)
    with networks.quiet():
        yield Counted


def test_what_is_asked_decides_about_building(counted: type[Counted], tmp_path: Path) -> None:
    weights = tmp_path / "weights.txt"
    weights.write_text("1")

    def build(**changed: Any) -> None:
        options: dict[str, Any] = {
            "policy": "all",
            "depends": [weights],
            "cache": tmp_path / "store",
        }
        build_variants(perceptron, **{**options, **changed})

    build()
    for changes, conversions in (
        ({}, 1),
        ({"sparsity": 0.5}, 2),
        ({"seed": 1}, 3),
        ({"policy": ["dense"]}, 4),
        ({}, 4),
    ):
        build(**changes)
        assert counted.conversions == conversions, changes
    weights.write_text("2")
    build()
    assert counted.conversions == 5


def test_our_own_code_decides_about_building() -> None:
    described = list(recipe.builder())
    for module in (building, conversion, converter, edit):
        assert recipe.content_of(Path(module.__file__ or "")) in described


def test_rebuild_builds_and_keeps_equal_files(counted: type[Counted], tmp_path: Path) -> None:
    first = build_variants(perceptron, policy="all", cache=tmp_path)
    second = build_variants(perceptron, policy="all", cache=tmp_path, rebuild=True)
    assert counted.conversions == 2
    assert contents(first) == contents(second)
    assert first == second


def test_a_damaged_file_is_built_again(counted: type[Counted], tmp_path: Path) -> None:
    first = build_variants(perceptron, policy="all", cache=tmp_path)
    before, path = contents(first), first.sparse.path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(SparsityWarning, match=r"perceptron-sparse\.tflite has changed"):
        second = build_variants(perceptron, policy="all", cache=tmp_path)
    assert contents(second) == before
    assert counted.conversions == 2


def test_a_build_function_that_cannot_be_told_is_called_but_not_converted_again(
    counted: type[Counted], tmp_path: Path
) -> None:
    opaque = np.random.default_rng(0)
    built: list[float] = []

    def build() -> Any:
        built.append(opaque.random())
        return perceptron(width=int(32 + 32 * (len(built) > 2)))

    for calls, conversions in ((1, 1), (2, 1), (3, 2)):
        build_variants(build, policy="all", cache=tmp_path)
        assert (len(built), counted.conversions) == (calls, conversions)


def test_code_in_a_layer_that_cannot_be_told_is_converted_every_time(
    counted: type[Counted], tmp_path: Path
) -> None:
    from tf_keras import layers

    opaque = np.random.default_rng(0)

    def build() -> Any:
        return sequence(layers.Dense(8), layers.Lambda(lambda x: (opaque, x)[1]), shape=(16,))

    one, two = (build_variants(build, policy="all", cache=tmp_path) for _ in range(2))
    assert counted.conversions == 4
    assert one == two


# ------------------------------------------------------------------------ patterns and types


def test_blocks_are_stored_as_blocks(counted: type[Counted], tmp_path: Path) -> None:
    built = build_variants(perceptron, pattern="1x4", policy="all", sparsity=0.9, cache=tmp_path)
    assert [layer.encoding for layer in built.sparse.layers] == ["block 1x4"] * 2
    for layer in built.pruned.layers:
        blocks = built.pruned.weights(layer.tensor).reshape(-1, 4)
        assert np.isin(np.count_nonzero(blocks, axis=1), (0, 4)).all()
    assert all(w.as_asked and w.slack == 4 for w in built.weights)


@pytest.mark.parametrize(("zeros", "group"), [(2, 4), (1, 4), (5, 8)])
def test_every_group_has_its_zeros(
    zeros: int, group: int, counted: type[Counted], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"pattern": f"{zeros}:{group}", "policy": ["conv2d", "dense"]}

    def build() -> Any:
        from tf_keras import layers

        flat = layers.Conv2D(8, 3), layers.Flatten(), layers.Dense(5)
        return sequence(*flat, shape=(4, 4, 16))

    built = build_variants(build, cache=tmp_path, **options)
    for layer in built.pruned.layers:
        weights = built.pruned.weights(layer.tensor)
        groups = weights.reshape(-1, group)
        assert (np.count_nonzero(groups == 0, axis=1) == zeros).all()
        dense = built.dense.weights(layer.tensor).reshape(-1, group)
        kept = np.where(groups != 0, np.abs(dense), np.inf).min(axis=1)
        dropped = np.where(groups == 0, np.abs(dense), 0).max(axis=1)
        assert (kept >= dropped).all()


@pytest.mark.parametrize("pattern", ["2:4", "1x4"])
def test_training_without_learning_gives_the_same_patterns(
    pattern: str, counted: type[Counted], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"pattern": pattern, "policy": "all", "cache": tmp_path}
    direct = build_variants(perceptron, **options)
    trained = build_variants(perceptron, finetune=fit(2), **options)
    assert contents(trained) == contents(direct)


def test_quantized_weights_keep_their_zeros(counted: type[Counted], tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = [{"quantize": "float16"}, {"quantize": "dynamic"}, INT8]
    for options in asked:
        built = build_variants(perceptron, policy=["dense"], cache=tmp_path, **options)
        dtype = "float16" if options["quantize"] == "float16" else "int8"
        assert built.sparse.layers[0].dtype == dtype
        assert built.sparse.layers[0].encoding == "sparse"
        assert built.sparse.layers[0].sparsity == pytest.approx(0.8, abs=0.01)


@pytest.mark.usefixtures("counted")
def test_quantization_that_quantizes_nothing_is_an_error(tmp_path: Path) -> None:
    def build() -> Any:
        return perceptron(width=8)

    with pytest.raises(ConversionError, match=r"quantized nothing; .* 1024 elements"):
        build_variants(build, policy="all", quantize="dynamic", cache=tmp_path)


@pytest.mark.parametrize(
    ("samples", "says"),
    [([], "no samples"), ([np.zeros(3)], r"sample 0 gives 'input_\d' the shape \(3,\)")],
    ids=["none", "of another shape"],
)
@pytest.mark.usefixtures("unconverted", "keras")
def test_samples_that_cannot_be_calibrated_with(
    samples: list[Any], says: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"quantize": "int8", "representative": lambda: samples}
    with networks.quiet(), pytest.raises(ValueError, match=says):
        build_variants(perceptron, policy="all", cache=tmp_path, **options)


@pytest.mark.usefixtures("counted")
def test_blocks_of_float16_are_an_error(tmp_path: Path) -> None:
    """At 99 % the converter chooses blocks by itself, and leaves out their DENSIFY."""
    options: dict[str, Any] = {"policy": "all", "sparsity": 0.99, "quantize": "float16"}
    with pytest.raises(ConversionError, match=r"without a DENSIFY \(fp16-blocks\)"):
        build_variants(perceptron, cache=tmp_path, **options)


@pytest.mark.usefixtures("counted")
def test_weights_that_the_converter_loses_are_an_error(tmp_path: Path) -> None:
    """At 99 % the converter chooses blocks by itself, and drops what is left over of them."""

    def build() -> Any:
        model = perceptron(width=30)
        kernel = np.full((30, 32), 0.001, np.float32)
        kernel[-1] = 1  # the last of 30 inputs is left over of blocks of four
        model.layers[0].kernel.assign(kernel + np.arange(30 * 32).reshape(30, 32) * 1e-9)
        return model

    with pytest.raises(ConversionError, match=r"lost weights .*32 of them are lost"):
        build_variants(build, policy=["dense"], sparsity=1 - 1 / 30, cache=tmp_path)


# ----------------------------------------------------------------------------------- channels


def with_everything() -> Any:
    """Return a network in which channels pass through every kind of layer that keeps them apart."""
    import tf_keras as keras

    layers = keras.layers
    x = keras.Input((8, 8, 3), batch_size=1)
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, name="stem")(x)))
    y = layers.ZeroPadding2D(1)(y)
    y = layers.DepthwiseConv2D(3, activation="tanh")(y)
    y = layers.BatchNormalization(scale=False)(y)
    y = layers.Conv2D(6, 1, activation="relu", name="point")(layers.MaxPooling2D(2)(y))
    y = layers.Dense(10, activation="elu", name="hidden")(layers.Flatten()(y))
    return fill(keras.Model(x, layers.Dense(4, name="last")(y)))


def residual() -> Any:
    import tf_keras as keras

    layers = keras.layers
    x = keras.Input((4, 4, 3), batch_size=1)
    y = layers.Conv2D(8, 1, name="into_sum")(x)
    z = layers.Conv2D(8, 1, name="free")(y)
    z = layers.Conv2D(8, 1, activation="sigmoid", name="not_zero")(z)
    z = layers.Conv2D(8, 1, name="also_into_sum")(z)
    return fill(keras.Model(x, layers.Conv2D(2, 1, name="last")(layers.Add(name="sum")([y, z]))))


def test_a_network_without_its_zero_channels_answers_the_same(keras: Any) -> None:
    with keras_state.fresh(0), networks.quiet():
        network = pruned_network(wanted(with_everything, pattern="channels", sparsity=0.5))
        x = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
        smaller: Any = network.smaller
        zeroed, without = network.model(x).numpy(), smaller(x).numpy()
        network.model.set_weights(network.dense_weights)
        dense = network.model(x).numpy()
    assert [(w.layer, w.zeros / w.parameters) for w in network.report] == [
        ("stem", 0.5),
        ("point", 0.5),
        ("hidden", 0.5),
    ]
    assert smaller.get_layer("hidden").kernel.shape == (3 * 9, 5)
    np.testing.assert_allclose(without, zeroed, rtol=1e-5)
    assert np.abs(dense - zeroed).max() > 0.01 * np.abs(dense).max()


def test_what_the_smaller_network_learns_goes_into_the_one_with_zeros(keras: Any) -> None:
    asked = {"pattern": "channels", "sparsity": 0.5}
    with keras_state.fresh(0), networks.quiet():
        untrained_network = pruned_network(wanted(with_everything, **asked))
    with keras_state.fresh(0), networks.quiet():
        network = pruned_network(wanted(with_everything, finetune=fit(3, rate=0.05), **asked))
        x = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
        smaller: Any = network.smaller
        zeroed, without = network.model(x).numpy(), smaller(x).numpy()
    assert [w.zeros for w in network.report] == [w.zeros for w in untrained_network.report]
    np.testing.assert_allclose(without, zeroed, rtol=1e-5)
    changed = zip(network.pruned_weights, untrained_network.pruned_weights, strict=True)
    assert not any(np.array_equal(ours, theirs) for ours, theirs in changed)


def test_the_channels_with_the_smallest_norms_go(keras: Any) -> None:
    with keras_state.fresh(0), networks.quiet():
        network = pruned_network(wanted(with_everything, pattern="channels", sparsity=0.25))
    before, after = network.dense_weights[0], network.pruned_weights[0]
    norms, zeros = np.abs(before).sum(axis=(0, 1, 2)), ~after.any(axis=(0, 1, 2))
    assert zeros.sum() == 2
    assert norms[zeros].max() < norms[~zeros].min()


@pytest.mark.usefixtures("unconverted")
def test_a_layer_that_cannot_be_made_again_has_no_channels(keras: Any, tmp_path: Path) -> None:
    class Mine(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, size: int) -> None:
            super().__init__()
            self.size = size

    def build() -> Any:
        return sequence(Mine(3), keras.layers.Dense(8), keras.layers.Dense(4))

    with networks.quiet(), pytest.raises(ValueError, match=r"again from its get_config\(\)"):
        build_variants(build, pattern="channels", policy=["dense"], cache=tmp_path)


def test_channels_leave_a_smaller_file(counted: type[Counted], tmp_path: Path) -> None:
    built = build_variants(with_everything, pattern="channels", policy="all", cache=tmp_path)
    assert built.dense.nbytes == built.pruned.nbytes > built.sparse.nbytes
    shapes = {layer.shape for layer in built.sparse.layers}
    assert (2, 3, 3, 3) in shapes
    assert built.sparse.sparsity < 0.1 < built.pruned.sparsity
    assert counted.conversions == 3


def test_channels_that_others_need_stay(keras: Any) -> None:
    with keras_state.fresh(0), networks.quiet():
        network = pruned_network(wanted(residual, pattern="channels"))
    assert [w.layer for w in network.report] == ["free"]


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ("into_sum", r"sum \(Add\) needs all outputs of into_sum"),
        ("not_zero", "activation of not_zero does not leave zero at zero"),
        ("last", "the network returns the outputs of last"),
    ],
)
@pytest.mark.usefixtures("unconverted", "keras")
def test_a_named_layer_whose_channels_must_stay(layer: str, says: str, tmp_path: Path) -> None:
    with networks.quiet(), pytest.raises(ValueError, match=says):
        build_variants(residual, pattern="channels", policy=[layer], cache=tmp_path)


# --------------------------------------------------------------------------------- finetuning


def fit(steps: int, *, rate: float = 0.0, batches: int = 1) -> Finetune:
    """Return a training of so many steps, in epochs of `batches`."""

    def finetune(model: Any, callbacks: list[Any]) -> None:
        import tf_keras

        model.compile(tf_keras.optimizers.legacy.SGD(rate), "mse")
        shape = [steps // batches, *model.input_shape[1:]]
        x = np.random.default_rng(0).random(shape, np.float32)
        y = np.ones([len(x), *model.output_shape[1:]], np.float32)
        model.fit(x, y, batch_size=1, epochs=batches, verbose=0, callbacks=callbacks)

    return finetune


def test_training_without_learning_gives_the_same_files(
    counted: type[Counted], tmp_path: Path
) -> None:
    direct = build_variants(perceptron, policy="all", cache=tmp_path)
    trained = build_variants(perceptron, policy="all", finetune=fit(2), cache=tmp_path)
    assert contents(trained) == contents(direct)
    assert counted.conversions == 1 + 2  # trained weights are all new: nothing to patch


def test_training_changes_what_is_kept_but_not_the_dense_file(
    counted: type[Counted], tmp_path: Path
) -> None:
    direct = build_variants(perceptron, policy="all", cache=tmp_path)
    trained = build_variants(perceptron, policy="all", finetune=fit(4, rate=0.1), cache=tmp_path)
    assert contents(trained)["dense"] == contents(direct)["dense"]
    assert contents(trained)["pruned"] != contents(direct)["pruned"]
    assert [w.zeros for w in trained.weights] == [w.zeros for w in direct.weights]
    assert [layer.negative_zeros for layer in trained.pruned.layers] == [0, 0]


def test_a_decay_ends_with_its_final_sparsity(
    counted: type[Counted], schedules: Any, tmp_path: Path
) -> None:
    decay = schedules.PolynomialDecay(0.2, 0.6, begin_step=2, end_step=10, frequency=4)
    options: dict[str, Any] = {"policy": "all", "schedule": decay, "cache": tmp_path}
    direct = build_variants(perceptron, **options)
    trained = build_variants(perceptron, finetune=fit(12), **options)
    assert contents(trained) == contents(direct)
    assert direct.weights[0].sparsity == pytest.approx(0.6, abs=1 / 2048)


def test_a_schedule_may_come_from_a_function(
    counted: type[Counted], schedules: Any, tmp_path: Path
) -> None:
    def schedule() -> Any:
        return schedules.ConstantSparsity(0.5, begin_step=0, frequency=1)

    built = build_variants(perceptron, policy="all", schedule=schedule, cache=tmp_path)
    assert built.weights[0].asked == 0.5


# ------------------------------------------------------------------------------------- traps


def own_loop(*, end_epochs: bool) -> Finetune:
    def finetune(model: Any, callbacks: list[Any]) -> None:
        import tensorflow as tf
        import tf_keras

        optimizer = tf_keras.optimizers.legacy.SGD(0.1)
        model.optimizer = optimizer
        [callback] = callbacks
        callback.set_model(model)
        callback.on_train_begin()
        x = np.random.default_rng(0).random((1, 64), np.float32)
        for _ in range(3):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(model(x, training=True) ** 2)
            variables = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        if end_epochs:
            callback.on_epoch_end(0)

    return finetune


def untrained(model: Any, callbacks: list[Any]) -> None:
    """Forget to train."""


def without_callbacks(model: Any, callbacks: list[Any]) -> None:
    fit(2)(model, [])


@pytest.mark.parametrize("end_epochs", [True, False])
def test_a_training_loop_of_one_s_own(
    end_epochs: bool, counted: type[Counted], tmp_path: Path
) -> None:
    loop = own_loop(end_epochs=end_epochs)
    built = build_variants(perceptron, policy="all", finetune=loop, cache=tmp_path)
    assert built.weights[0].as_asked


SCHEDULE_TRAPS: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "too few steps for the default frequency": (
        "ConstantSparsity",
        {"target_sparsity": 0.8, "begin_step": 0},
        50,
        (
            r"/kernel:0 has 0 of 2048 .*never pruned: training ended at step 50, and its first"
            r" update is at step 100"
        ),
    ),
    "begins after the training": (
        "ConstantSparsity",
        {"target_sparsity": 0.8, "begin_step": 2000},
        20,
        r"never pruned: training ended at step 20, and its first update is at step 2000",
    ),
    "training ends before the schedule": (
        "PolynomialDecay",
        {
            "initial_sparsity": 0.2,
            "final_sparsity": 0.8,
            "begin_step": 0,
            "end_step": 40,
            "frequency": 10,
        },
        20,
        (
            r"training ended at step 20, and .* asks for 0\.725 at its last update before that,"
            r" step 20; train for 40 steps at least"
        ),
    ),
    "the end is no multiple of the frequency": (
        "PolynomialDecay",
        {"initial_sparsity": 0.5, "final_sparsity": 0.8, "begin_step": 0, "end_step": 150},
        1,
        (
            r"ends at a sparsity of 0\.789, not 0\.8: its last update is at step 100, not at"
            r" end_step=150"
        ),
    ),
}


@pytest.mark.parametrize("trap", SCHEDULE_TRAPS)
@pytest.mark.usefixtures("unconverted")
def test_a_schedule_that_does_not_do_what_was_asked_says_why(
    trap: str, keras: Any, schedules: Any, tmp_path: Path
) -> None:
    kind, settings, steps, says = SCHEDULE_TRAPS[trap]
    schedule = getattr(schedules, kind)(**settings)
    with networks.quiet(), pytest.raises(ValueError, match=says):
        build_variants(
            perceptron, policy="all", schedule=schedule, finetune=fit(steps), cache=tmp_path
        )


@pytest.mark.parametrize(
    ("finetune", "says"),
    [
        (untrained, "finetune ended without a step of training"),
        (without_callbacks, "trained without the callbacks: hand them on"),
    ],
    ids=["untrained", "without callbacks"],
)
@pytest.mark.usefixtures("unconverted")
def test_a_training_that_prunes_nothing_says_why(
    finetune: Finetune, says: str, keras: Any, tmp_path: Path
) -> None:
    with networks.quiet(), pytest.raises(ValueError, match=says):
        build_variants(perceptron, policy="all", finetune=finetune, cache=tmp_path)


def tied() -> Any:
    model = perceptron()
    model.layers[0].kernel.assign(np.full((64, 32), 0.5, np.float32))
    return model


def mostly_zero() -> Any:
    model = perceptron()
    model.layers[0].kernel.assign(np.eye(64, 32, dtype=np.float32))
    return model


def not_a_number() -> Any:
    model = perceptron()
    model.layers[0].kernel.assign(np.full((64, 32), np.nan, np.float32))
    return model


def rejected() -> Any:
    return zoo.mobilenet_v1(size=32, alpha=0.25, xnnpack=False)


def unprunable() -> Any:
    from tf_keras import layers

    class Custom(layers.Layer):  # type: ignore[misc]
        def build(self, input_shape: Any) -> None:
            self.matrix: Any = self.add_weight("matrix", (input_shape[-1], 4))

        def call(self, inputs: Any) -> Any:
            return inputs @ self.matrix

    return sequence(Custom(name="mine"), shape=(8,))


def subclassed() -> Any:
    import tf_keras

    class Mine(tf_keras.Model):  # type: ignore[misc]
        pass

    return Mine()


class Built:
    """A network of Keras can be called, and so can this."""

    def __call__(self) -> None: ...

    def get_weights(self) -> None: ...


@pytest.mark.parametrize(
    ("build", "options", "says"),
    [
        (tied, {}, "0 of 2048 .*: 2048 weights tie at the magnitude 0.5"),
        (mostly_zero, {}, r"2016 were zero before pruning; ask for sparsity=0\.9844 or more"),
        (not_a_number, {}, "weights that are NaN"),
        (
            rejected,
            {"policy": "xnnpack"},
            "PruneForLatencyOnXNNPack rejects .*Could not find `Conv2D",
        ),
        (perceptron, {"policy": ["dens"]}, r"layers that do not exist: \['dens'\]"),
        (perceptron, {"policy": []}, "selects no layer"),
        (perceptron, {"policy": "fast"}, "policy='fast' is unknown: use 'auto', 'xnnpack', 'all'"),
        (unprunable, {}, r"TFMOT cannot prune mine \(Custom\)"),
        (normalized, {"policy": ["batch_normalization"]}, "TFMOT prunes no weights"),
        (subclassed, {}, "subclassed model"),
        (lambda: 3, {}, "must return a model of tf_keras or Keras 3.*; it returned builtins.int"),
        (lambda: None, {}, "; it returned nothing"),
        ("m.keras", {}, r"variants\(lambda: 'm\.keras', depends=\['m\.keras'\]\)"),
        (Path("m.tflite"), {}, r"variants\.from_files\('m\.tflite', \.\.\.\)"),
        (3, {}, "must be a function that returns it, not int"),
        (Built(), {}, "must be a function that returns it, not Built"),
        (perceptron, {"schedule": 0.5}, "schedule must be a TFMOT PruningSchedule"),
        (perceptron, {"sparsity": 1.0}, r"sparsity=1 must be in \[0, 1\)"),
        (perceptron, {"pattern": "4x1"}, "pattern='4x1' is unknown: use 'unstructured', '1x4'"),
        (perceptron, {"pattern": "1x8"}, "kernels for blocks of 1x4"),
        (perceptron, {"pattern": "4:4"}, "needs 0 < m < n"),
        (perceptron, {"pattern": "2:4", "sparsity": 0.6}, "contradicts pattern='2:4'"),
        (perceptron, {"pattern": "2:4", "schedule": perceptron}, "TFMOT ignores the schedule"),
        (perceptron, {"pattern": "channels", "schedule": perceptron}, "is for TFMOT's patterns"),
        (perceptron, {"quantize": "int4"}, "quantize='int4' is unknown: use None, 'float16'"),
        (perceptron, {"quantize": "int8"}, "quantize='int8' needs representative"),
        (perceptron, {"representative": perceptron}, "nothing else takes it"),
        (perceptron, {"quantize": "float16", "pattern": "1x4"}, r"broken \(fp16-blocks\)"),
        (normalized, {"pattern": "1x4", "policy": ["conv2d"]}, "has 4 dimensions, TFMOT needs 2"),
        (along_time, {"pattern": "1x4", "policy": "xnnpack"}, "PruneForLatencyOnXNNPack rejects"),
        (lambda: perceptron(30), {"pattern": "1x4", "policy": ["dense"]}, "no multiple of 4"),
        (lambda: perceptron(30), {"pattern": "2:4", "policy": ["dense"]}, "no multiple of 4"),
        (reused, {"pattern": "channels"}, "layers that are used once; dense are not"),
        (nested, {"pattern": "channels"}, "a network without models inside; sequential is one"),
    ],
    ids=without_addresses,
)
@pytest.mark.usefixtures("unconverted")
def test_what_cannot_be_pruned_says_why(
    build: Build, options: dict[str, Any], says: str, keras: Any, tmp_path: Path
) -> None:
    with networks.quiet(), pytest.raises((ValueError, TypeError), match=says):
        build_variants(build, **{"policy": "all", **options}, cache=tmp_path)


@pytest.mark.usefixtures("unconverted")
def test_a_schedule_and_a_sparsity_that_contradict_each_other(
    keras: Any, schedules: Any, tmp_path: Path
) -> None:
    schedule = schedules.ConstantSparsity(0.5, begin_step=0)
    with pytest.raises(
        ValueError, match=r"sparsity=0\.9 contradicts the schedule, which ends at 0\.5"
    ):
        build_variants(perceptron, sparsity=0.9, schedule=schedule, policy="all", cache=tmp_path)


@pytest.mark.usefixtures("unconverted")
def test_a_schedule_of_one_s_own_needs_training(keras: Any, schedules: Any, tmp_path: Path) -> None:
    class Own(schedules.PruningSchedule):  # type: ignore[misc]
        def __call__(self, _step: Any) -> tuple[bool, float]:
            return True, 0.8

        def get_config(self) -> dict[str, Any]:
            return {"class_name": "Own", "config": {}}

    with pytest.raises(ValueError, match=r"Own has no begin_step.*pass finetune="):
        build_variants(perceptron, schedule=Own(), policy="all", cache=tmp_path)


@pytest.mark.usefixtures("unconverted")
@pytest.mark.parametrize("missing", ["tensorflow", "tf_keras", "tensorflow_model_optimization"])
def test_without_the_extra_the_remedy_is_named(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        Unsupported, match=rf"needs {missing}.*pip install 'pytest-sparsity\[build\]'"
    ):
        build_variants(perceptron, policy="all", cache=tmp_path)


# ------------------------------------------------------------------------------ the converter


@pytest.fixture
def child() -> Iterator[Converter]:
    converting = Converter(timeout=0.5)
    yield converting
    converting.close()


def test_a_crash_is_one_error(child: Converter, tmp_path: Path) -> None:
    child._child.send_signal(signal.SIGSEGV)
    with pytest.raises(ConversionError, match=r"crashed \(SIGSEGV\): no output"):
        child.convert(tmp_path, tmp_path / "a.tflite")


def test_a_crash_before_the_request_is_one_error(child: Converter, tmp_path: Path) -> None:
    child._child.kill()
    child._child.wait()
    with pytest.raises(ConversionError, match=r"crashed \(SIGKILL\)"):
        child.convert(tmp_path, tmp_path / "a.tflite")


def test_a_hang_is_one_error(child: Converter, tmp_path: Path) -> None:
    child._child.send_signal(signal.SIGSTOP)
    with pytest.raises(ConversionError, match=r"no answer within 0\.5 s"):
        child.convert(tmp_path, tmp_path / "a.tflite")


def test_the_last_line_of_a_crash_is_told(child: Converter, tmp_path: Path) -> None:
    child._child.kill()
    child._child.wait()
    child._log.write_text("first\nI0000 00:00:1 a.cc:1] chatter\nsegment lost\n\n")
    with pytest.raises(ConversionError, match=r"segment lost$"):
        child.convert(tmp_path, tmp_path / "a.tflite")


def test_an_lstm_with_an_open_batch_is_told_to_fix_it(tmp_path: Path, keras: Any) -> None:
    def build(batch: int | None) -> Any:
        layers = keras.layers.LSTM(8), keras.layers.Dense(4)
        return keras.Sequential([keras.Input((4, 8), batch_size=batch), *layers])

    with pytest.raises(ConversionError, match=r"open batch cannot be converted.*batch_size=1"):
        build_variants(partial(build, None), policy="all", cache=tmp_path)
    assert build_variants(partial(build, 1), policy="all", cache=tmp_path).sparse.stateful


def test_a_network_that_the_converter_refuses_is_one_error(tmp_path: Path, keras: Any) -> None:
    def build() -> Any:
        import tensorflow as tf

        svd = keras.layers.Lambda(lambda x: tf.linalg.svd(x, compute_uv=False))
        return sequence(keras.layers.Dense(8), svd, shape=(4, 8))

    with pytest.raises(
        ConversionError, match=r"refused the network: ConverterError: .*'tf\.Svd' op"
    ):
        build_variants(build, policy="all", cache=tmp_path)
