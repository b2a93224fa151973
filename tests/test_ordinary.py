"""Ordinary networks and trainings are not refused, and where one must be, the reason is true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_sparsity import variants
from pytest_sparsity.errors import SparsityWarning, Unsupported
from pytest_sparsity.variants import build_variants, keras_state, networks, pruning
from pytest_sparsity.variants.converter import LocalConverter
from pytest_sparsity.variants.pruning import Pruning
from recipes import recipe_of


@pytest.fixture(scope="module")
def keras() -> Any:
    """`tf_keras`, imported after TFMOT as in a build."""
    networks.import_tfmot()
    import tf_keras

    return tf_keras


def pruned(build: Callable[[], Any], **options: Any) -> Pruning:
    """Prune without converting, which takes longest."""
    with keras_state.fresh(0), networks.quiet():
        return pruning.prune(recipe_of(build, **options), build())


def dense(*widths: int, **names: str) -> Callable[[], Any]:
    """Return a build function of dense layers: of so many inputs, and each of so many outputs."""

    def build() -> Any:
        import tf_keras

        layers = [tf_keras.layers.Dense(width) for width in widths[1:]]
        return tf_keras.Sequential([tf_keras.layers.InputLayer((widths[0],), 1), *layers])

    return build


def fit(*callbacks: Any, epochs: int = 1, rate: float = 0.1) -> Any:
    def finetune(model: Any, given: list[Any]) -> None:
        import tf_keras

        model.compile(tf_keras.optimizers.legacy.SGD(rate), "mse")
        x = np.random.default_rng(0).random([4, *model.input_shape[1:]], np.float32)
        y = np.ones([4, *model.output_shape[1:]], np.float32)
        model.fit(x, y, batch_size=1, epochs=epochs, verbose=0, callbacks=[*callbacks, *given])

    return finetune


# ------------------------------------------------------------------------------- zeros


def with_ties(tied: int) -> Any:
    """Return a network of 64 x 64 weights, so many of which tie at the threshold of 80 %."""
    model = dense(64, 64)()
    magnitudes = np.arange(1, 4097, dtype=np.float32)
    magnitudes[3277 - tied : 3277] = magnitudes[3277]
    model.layers[0].kernel.assign(magnitudes.reshape(64, 64))
    return model


def test_a_few_weights_that_tie_are_no_fault(keras: Any) -> None:
    [report] = pruned(lambda: with_ties(4), policy="all").report
    assert (report.zeros, report.as_asked) == (3273, True)


def test_many_weights_that_tie_are_one(keras: Any) -> None:
    with pytest.raises(ValueError, match=r"3267 of 4096 .*: 11 weights tie at the magnitude 3278"):
        pruned(lambda: with_ties(10), policy="all")


def test_weights_that_are_all_zero_are_told_as_that(keras: Any) -> None:
    def zero() -> Any:
        model = dense(8, 8)()
        model.layers[0].kernel.assign(np.zeros((8, 8), np.float32))
        return model

    with pytest.raises(ValueError, match=r"all were zero as the build function returned them"):
        pruned(zero, policy="all")


def test_nan_is_told_first_wherever_it_is(keras: Any) -> None:
    def bias() -> Any:
        model = dense(8, 8)()
        model.layers[0].bias.assign([np.nan] * 8)
        return model

    with pytest.raises(ValueError, match=r"the build function returned dense/bias:0 .* NaN; see"):
        pruned(bias)
    diverged = r"finetune left dense/kernel:0 with weights that are NaN; lower the learning rate"
    with pytest.raises(ValueError, match=diverged):
        pruned(dense(8, 8), policy="all", finetune=fit(rate=1e30, epochs=3))


# ------------------------------------------------------------------------------- selection


def test_a_network_that_the_default_policy_rejects_is_pruned_with_one_line(keras: Any) -> None:
    network = pruned(dense(16, 8, 8))
    assert [weight.sparsity > 0.79 for weight in network.report] == [True, True]
    [note] = network.notes
    assert note.startswith("policy='auto' prunes all of 'sequential' that it can, 2 layers, also")
    assert "PruneForLatencyOnXNNPack rejects it: Could not find `Conv2D 3x3`" in note


def test_the_line_is_seen_cold_and_warm_and_not_for_whoever_chose(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "threads_run", lambda: True)
    monkeypatch.setattr(variants, "Converter", LocalConverter)
    for _ in range(2):
        with pytest.warns(
            SparsityWarning, match="policy='auto' prunes all .* that it can, 1 layer, also"
        ) as warned:
            build_variants(dense(16, 8), cache=tmp_path)
        assert [Path(each.filename).name for each in warned] == [Path(__file__).name]
    build_variants(dense(16, 8), policy="all", cache=tmp_path)


def test_layers_that_nothing_can_prune_are_left_out_and_named(keras: Any) -> None:
    def build() -> Any:
        class Mine(keras.layers.Dense):  # type: ignore[misc]
            pass

        return keras.Sequential(
            [keras.layers.InputLayer((16,), 1), Mine(8, name="mine"), keras.layers.Dense(8)]
        )

    network = pruned(build)
    assert [weight.layer for weight in network.report] == ["dense"]
    assert "left out: mine (Mine), which TFMOT cannot prune" in network.notes[0]


@pytest.mark.parametrize(
    ("widths", "reason"),
    [
        ((30, 8), "has 30 inputs, which is no multiple of 4"),
        ((4, 8), "has inputs for one block of 4 only"),
        ((8, 1), "has one output"),
    ],
)
def test_blocks_leave_out_what_cannot_have_them_and_name_it(
    widths: tuple[int, int], reason: str, keras: Any
) -> None:
    def build() -> Any:
        x = keras.Input((16,), batch_size=1)
        y = keras.layers.Dense(widths[0], name="can")(x)
        return keras.Model(x, keras.layers.Dense(widths[1], name="cannot")(y))

    network = pruned(build, pattern="1x4", policy="all")
    assert [weight.layer for weight in network.report] == ["can"]
    assert network.notes == (
        f"pattern='1x4' leaves out what cannot have it: cannot/kernel:0 {reason}"
        + (", and TFMOT needs more" if "multiple" not in reason else ""),
    )
    with pytest.raises(ValueError, match=f"'1x4' is impossible: cannot/kernel:0 {reason}"):
        pruned(build, pattern="1x4", policy=["cannot"])


def test_a_name_that_two_layers_have_is_refused(keras: Any) -> None:
    def build() -> Any:
        inner = [
            keras.Sequential([keras.layers.InputLayer((8,)), keras.layers.Dense(8, name="head")])
            for _ in range(2)
        ]
        return keras.Sequential([keras.layers.InputLayer((8,), 1), *inner])

    with pytest.raises(ValueError, match="not the only ones of their name: 2 are called head"):
        pruned(build, policy=["head"])


def test_variables_that_keras_does_not_know_are_named(keras: Any) -> None:
    import tensorflow as tf

    def build() -> Any:
        matrix = tf.Variable(tf.ones((8, 8)), name="matrix")
        layers = keras.layers.Dense(8), keras.layers.Lambda(lambda x: x @ matrix, name="hidden")
        return keras.Sequential([keras.layers.InputLayer((8,), 1), *layers])

    [note] = pruned(build, policy="all").notes
    assert note.startswith("hidden computes with matrix:0, which Keras does not know")


# --------------------------------------------------------------------------- wrapped networks


def test_a_network_that_was_pruned_in_tfmot_s_wrappers_is_taken_bare(keras: Any) -> None:
    sparsity = networks.import_tfmot().sparsity.keras

    def build() -> Any:
        schedule = sparsity.ConstantSparsity(0.5, 0, frequency=1)
        model = sparsity.prune_low_magnitude(dense(16, 8)(), schedule)
        fit(sparsity.UpdatePruningStep(), rate=0.0)(model, [])
        return model

    network = pruned(build, sparsity=0.75)
    assert type(network.model.layers[-1]).__name__ == "Dense"
    assert [weight.sparsity for weight in network.report] == [0.75]
    assert float((network.dense_weights[0] == 0).mean()) == 0.5


def test_a_clustered_network_is_taken_bare(keras: Any) -> None:
    clustering = networks.import_tfmot().clustering.keras

    def build() -> Any:
        options = {
            "number_of_clusters": 8,
            "cluster_centroids_init": clustering.CentroidInitialization.LINEAR,
        }
        return clustering.cluster_weights(dense(16, 8)(), **options)

    network = pruned(build, sparsity=0.0)
    assert type(network.model.layers[-1]).__name__ == "Dense"


def test_a_network_in_quantizers_is_asked_for_bare(keras: Any) -> None:
    quantization = networks.import_tfmot().quantization.keras
    with pytest.raises(TypeError, match=r"in TFMOT's Quantize.*return it as it was before"):
        pruned(lambda: quantization.quantize_model(dense(16, 8)()))


# ------------------------------------------------------------------------------- training


def test_weights_that_a_callback_brings_back_are_masked_again(keras: Any) -> None:
    """It saves them before the masks are applied at the end of an epoch."""
    stop = keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True)
    network = pruned(dense(16, 8), policy="all", finetune=fit(stop, epochs=4, rate=2.0))
    assert all(weight.as_asked for weight in network.report)


def test_weights_of_a_step_before_the_schedule_s_end_are_told(keras: Any) -> None:
    class Back(keras.callbacks.Callback):  # type: ignore[misc]
        """What EarlyStopping(restore_best_weights=True) does after a loss that only rises."""

        def on_epoch_end(self, epoch: int, _logs: Any = None) -> None:
            if epoch == 0:
                self.best = self.model.get_weights()

        def on_train_end(self, _logs: Any = None) -> None:
            self.model.set_weights(self.best)

    decay = networks.import_tfmot().sparsity.keras.PolynomialDecay(0.2, 0.8, 0, 16, frequency=1)
    says = (
        r"after 20 steps the weights of step 4 were brought back, as EarlyStopping\(restore_best_"
        r"weights=True\) does, with the masks of that step; .*start_from_epoch"
    )
    with pytest.raises(ValueError, match=says):
        pruned(dense(16, 8), policy="all", schedule=decay, finetune=fit(Back(), epochs=5))


def test_tfmot_s_summaries_can_be_written(keras: Any, tmp_path: Path) -> None:
    summaries = networks.import_tfmot().sparsity.keras.PruningSummaries(log_dir=str(tmp_path))
    pruned(dense(16, 8), policy="all", finetune=fit(summaries))
    assert list(tmp_path.rglob("events.*"))


def takes_one(model: Any) -> None:
    """Forget the callbacks."""


@pytest.mark.parametrize(
    ("finetune", "says"),
    [
        (takes_one, r"must take two arguments.*not finetune\(model: 'Any'\) -> 'None'"),
        (3, r"finetune must be a function of \(model, callbacks\), not 3"),
    ],
)
def test_a_finetune_that_cannot_be_called_is_refused_at_once(
    finetune: Any, says: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=says):
        build_variants(dense(16, 8), finetune=finetune, cache=tmp_path)


def test_a_subclassed_model_inside_cannot_be_trained_but_pruned(keras: Any) -> None:
    class Inner(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="inner")
            self.first = keras.layers.Dense(8, name="first")

        def call(self, x: Any) -> Any:
            return self.first(x)

    def build() -> Any:
        x = keras.Input((16,), batch_size=1)
        return keras.Model(x, keras.layers.Dense(4, name="last")(Inner()(x)))

    assert [w.layer for w in pruned(build, policy="all").report] == ["first", "last"]
    says = r"finetune needs TFMOT's wrappers around layers of inner, which is a subclassed model"
    with pytest.raises(ValueError, match=says):
        pruned(build, policy="all", finetune=fit())


@pytest.mark.parametrize("package", ["tensorflow", "tf_keras"])
def test_a_build_function_that_needs_what_is_not_there_says_how_to_install_it(
    package: str, tmp_path: Path
) -> None:
    def build() -> None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    with pytest.raises(Unsupported, match=f"needs {package}, which is not installed: python -m p"):
        build_variants(build, cache=tmp_path)
