"""Known defects of the converter and of TFMOT: still there.

A test that fails here says which one a newer release has fixed. That none goes unannounced is
what tests/test_variants.py and tests/test_finishing.py are for.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pruner import Pruner
from pytest_sparsity import properties
from pytest_sparsity.strategies import Schedule
from pytest_sparsity.targets import Target
from pytest_sparsity.variants import build_variants, networks
from pytest_sparsity.variants.conversion import check_encoding
from pytest_sparsity.variants.converter import ConversionError, Converter
from pytest_sparsity.writer import Network
from pytest_sparsity.writer.parts import linear

pytestmark = pytest.mark.slow  # imports TensorFlow

# ------------------------------------------------------------------------------ of the converter


@pytest.fixture(scope="module")
def converter() -> Iterator[Converter]:
    converter = Converter()
    yield converter
    converter.close()


def still(defect: bool, what: str, package: str) -> None:
    """Fail with what to do if a release has fixed a defect."""
    assert defect, (
        f"{package} {version(package)} no longer {what}: take what guards against it out of"
        " pytest_sparsity, and its mention out of docs/"
    )


def test_a_defect_that_is_gone_is_told() -> None:
    with pytest.raises(AssertionError, match=r"numpy \d.* no longer divides by zero: take what"):
        still(False, "divides by zero", "numpy")


def sparsified(converter: Converter, network: Network, folder: Path) -> tuple[Path, Path]:
    dense = network.write(folder / "dense.tflite")
    sparse = folder / "sparse.tflite"
    converter.sparsify(dense, sparse)
    return dense, sparse


def blocks(width: int, *, dtype: Any = "float32") -> Network:
    """A dense layer in which 9 of 10 blocks of four inputs are zero, stored densely."""
    rng = np.random.default_rng(0)
    kept = np.repeat(rng.random((64, -(-width // 4))) >= 0.9, 4, axis=1)[:, :width]
    weights = np.where(kept, rng.uniform(0.5, 1, (64, width)), 0).astype(np.float32)
    weights[:, -1] = 1
    network = Network((1, width))
    network.output(network.fully_connected(network.input, weights, dtype=dtype))
    return network


def test_columns_after_the_last_whole_block_are_dropped(
    converter: Converter, tmp_path: Path
) -> None:
    check_encoding(*sparsified(converter, blocks(64), tmp_path))
    with pytest.raises(ConversionError) as refused:
        check_encoding(*sparsified(converter, blocks(65), tmp_path))
    lost = "lost weights when it stored them sparsely" in str(refused.value)
    still(lost, "drops what is left over of blocks", "tensorflow")


def test_blocks_of_float16_have_no_densify(converter: Converter, tmp_path: Path) -> None:
    with pytest.raises(ConversionError) as refused:
        check_encoding(*sparsified(converter, blocks(64, dtype="float16"), tmp_path))
    missing = "without a DENSIFY" in str(refused.value)
    still(missing, "leaves out the DENSIFY of float16 blocks", "tensorflow")


def test_int8_weights_with_60_percent_zeros_grow(converter: Converter, tmp_path: Path) -> None:
    """The converter encodes from 30 % zeros on, and asks neither dtype nor width."""
    network = linear(784, units=64, zeros=0.6, encoding="dense", dtype="int8")
    dense, sparse = sparsified(converter, network, tmp_path)
    grown = sparse.stat().st_size / dense.stat().st_size
    still(grown > 1.1, "stores weights sparsely where that takes more bytes", "tensorflow")


def test_int8_conversion_of_a_gru_crashes(tmp_path: Path) -> None:
    def gru() -> Any:
        import tf_keras

        layers = tf_keras.layers
        return tf_keras.Sequential(
            [layers.InputLayer((8, 32), batch_size=1), layers.GRU(32), layers.Dense(8)]
        )

    def samples() -> Any:
        return list(np.random.default_rng(0).random((4, 1, 8, 32), np.float32))

    with pytest.raises(ConversionError) as refused:
        build_variants(
            gru, policy=["dense"], quantize="int8", representative=samples, cache=tmp_path
        )
    crashed = "the converter crashed (SIGSEGV)" in str(refused.value)
    still(crashed, "crashes when it quantizes a GRU to int8", "tensorflow")


# ----------------------------------------------------------------------------------- of TFMOT

TFMOT = "tensorflow-model-optimization"


@pytest.fixture(scope="module")
def sparsity() -> Any:
    return networks.import_tfmot().sparsity.keras


@pytest.fixture
def pruner(sparsity: Any) -> Pruner:
    return Pruner(sparsity)


def layers() -> Any:
    import tf_keras

    return tf_keras.layers


def test_half_of_the_zeros_are_negative(pruner: Pruner) -> None:
    weights = np.random.default_rng(0).standard_normal((64, 64), np.float32)
    [after] = pruner.prune(weights, Schedule(0.8))
    negative = float(np.signbit(after[after == 0]).mean())
    still(negative > 0.4, "leaves half of its zeros as -0.0", TFMOT)


def test_the_default_frequency_prunes_nothing_in_99_steps(sparsity: Any) -> None:
    schedule = sparsity.ConstantSparsity(0.5, begin_step=0)
    updates = [step for step in range(1, 100) if bool(schedule(step)[0])]
    still(not updates, "waits a hundred steps before it prunes", TFMOT)


def test_a_decay_between_two_updates_ends_short(sparsity: Any) -> None:
    decay = sparsity.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=150)
    last = max(step for step in range(1, 200) if bool(decay(step)[0]))
    reached = float(decay(last)[1])
    still(reached < 0.79, "ends a decay short of its final sparsity", TFMOT)


def test_m_by_n_is_lost_when_a_wrapper_is_copied(sparsity: Any) -> None:
    wrapped = sparsity.prune_low_magnitude(layers().Dense(4), sparsity_m_by_n=(2, 4))
    still("sparsity_m_by_n" not in wrapped.get_config(), "forgets m:n in get_config", TFMOT)


def test_m_by_n_leaves_a_remainder_unpruned(pruner: Pruner) -> None:
    weights = np.random.default_rng(0).standard_normal((3, 3, 3, 8)).astype(np.float32)
    [after] = pruner.prune(weights, Schedule(0.5), sparsity_m_by_n=(2, 4))
    zeros = float((after == 0).mean())
    still(zeros < 0.4, "prunes three inputs to a third when asked for 2:4", TFMOT)


def test_layers_that_should_be_prunable_are_not() -> None:
    from tensorflow_model_optimization.python.core.sparsity.keras import prune_registry

    supports = prune_registry.PruneRegistry.supports
    rescaling = layers().Rescaling(1 / 255)
    bidirectional = layers().Bidirectional(layers().LSTM(4))
    still(not supports(rescaling), "rejects Rescaling, which has no weights", TFMOT)
    still(not supports(bidirectional), "rejects Bidirectional", TFMOT)


def test_a_policy_for_a_single_layer_is_ignored(sparsity: Any) -> None:
    class Nothing(sparsity.PruningPolicy):  # type: ignore[misc]
        def allow_pruning(self, *_layer: Any) -> bool:
            return False

        def ensure_model_supports_pruning(self, *_model: Any) -> None:
            """Any model will do."""

    wrapped = sparsity.prune_low_magnitude(layers().Dense(4), pruning_policy=Nothing())
    ignored = type(wrapped).__name__ == "PruneLowMagnitude"
    still(ignored, "ignores pruning_policy for a layer", TFMOT)


def difference(x: Any) -> Any:
    import tensorflow as tf

    return tf.math.subtract(layers().Conv2D(8, 1)(x), x)


def softplus(x: Any) -> Any:
    return layers().Conv2D(8, 1, activation="softplus")(x)


def clipped(x: Any) -> Any:
    return layers().ReLU(max_value=4.0)(layers().Conv2D(8, 1)(x))


def test_layers_share_one_cluster_preserving_quantizer() -> None:
    """So that one without zeros stops the others from keeping theirs."""
    scheme = networks.import_tfmot().experimental.combine.Default8BitClusterPreserveQuantizeScheme
    registry = scheme(preserve_sparsity=True).get_quantize_registry()
    convolutions = [layers().Conv2D(4, 1) for _ in range(2)]
    for layer in convolutions:
        layer.build((1, 4, 4, 3))
    one, other = map(registry.get_quantize_config, convolutions)
    still(one.weight_quantizer is other.weight_quantizer, "shares quantizers of clusters", TFMOT)


def test_nothing_is_preserved_in_a_layer_that_a_relu_follows() -> None:
    import tf_keras

    keras: Any = networks.import_tfmot().quantization.keras
    network = tf_keras.Sequential(
        [layers().InputLayer((8,), batch_size=1), layers().Dense(4), layers().ReLU()]
    )
    scheme = keras.collab_opts.Default8BitPrunePreserveQuantizeScheme()
    quantized = keras.quantize_apply(keras.quantize_annotate_model(network), scheme)
    kinds = [type(getattr(each, "quantize_config", None)).__name__ for each in quantized.layers]
    still("NoOpQuantizeConfig" in kinds, "forgets zeros before an activation layer", TFMOT)


@pytest.mark.parametrize("middle", [difference, softplus, clipped])
def test_the_policy_accepts_what_xnnpack_does_not(sparsity: Any, middle: Any) -> None:
    """The first stays dense everywhere, the others miscompute where there are sparse kernels."""
    import tf_keras

    keras: Any = tf_keras
    image = keras.Input((8, 8, 3), batch_size=1)
    x = layers().ZeroPadding2D(1)(image)
    x = middle(layers().Conv2D(8, 3, strides=2)(x))
    x = layers().Dense(4)(layers().GlobalAveragePooling2D()(x))
    network, accepted = keras.Model(image, x), True
    try:
        sparsity.PruneForLatencyOnXNNPack().ensure_model_supports_pruning(network)
    except ValueError:
        accepted = False
    still(accepted, f"lets a {middle.__name__} pass in PruneForLatencyOnXNNPack", TFMOT)


# ------------------------------------------------------------------------- of several at once


def test_tensorflow_before_tflite_runtime_breaks_it(tmp_path: Path) -> None:
    """Why every runtime has a process of its own."""
    if Target.of("tflite-runtime").missing() is not None:
        pytest.skip("tflite-runtime is not installed")
    path = blocks(64).write(tmp_path / "model.tflite")
    script = (
        "import sys\n"
        "if sys.argv[2] == 'first': import tensorflow\n"
        "from tflite_runtime.interpreter import Interpreter\n"
        "Interpreter(sys.argv[1]).allocate_tensors()\n"
    )

    def status(order: str) -> int:
        command = [sys.executable, "-c", script, str(path), order]
        return subprocess.run(command, capture_output=True, check=False, timeout=300).returncode

    assert status("never") == 0
    still(status("first") != 0, "breaks a tflite-runtime imported after it", "tensorflow")


def test_a_fused_lstm_keeps_its_state(tmp_path: Path) -> None:
    def lstm() -> Any:
        import tf_keras

        return tf_keras.Sequential(
            [layers().InputLayer((4, 8), batch_size=1), layers().LSTM(8), layers().Dense(4)]
        )

    files = build_variants(lstm, policy=["dense"], cache=tmp_path)
    with pytest.raises(AssertionError, match="it keeps a state, as a fused LSTM"):
        properties.repeatable(files.dense)


def two_step(*, below: bool) -> Any:
    """An encoder that hands its state to a decoder, with or without another LSTM below it."""
    import tf_keras

    keras: Any = tf_keras
    sentence, translation = (keras.Input((6, 8), batch_size=1) for _ in range(2))
    encoded = layers().LSTM(16, return_sequences=True)(sentence) if below else sentence
    _, *state = layers().LSTM(16, return_state=True)(encoded)
    decoded = layers().LSTM(16)(translation, initial_state=state)
    network = keras.Model([sentence, translation], layers().Dense(4, name="out")(decoded))
    rng = np.random.default_rng(0)
    network.set_weights(
        [rng.normal(0, 0.5, weight.shape).astype(np.float32) for weight in network.get_weights()]
    )
    return network


def converted_error(build: Any, store: Path) -> float:
    """How far the first answer of the dense file is from the network's own."""
    path = build_variants(build, policy=["out"], sparsity=0.5, cache=store).dense.path
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal((1, 6, 8), np.float32) for _ in range(2)]
    with Target.of("litert").open() as worker:
        worker.load("dense", path)
        worker.set_inputs("dense", inputs)
        [ours] = worker.outputs("dense")
    theirs = build()(inputs).numpy()
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def test_an_lstm_below_one_that_returns_its_state_answers_otherwise(tmp_path: Path) -> None:
    """Without any pruning, in the dense file; what is wrong in it is not known."""
    assert converted_error(partial(two_step, below=False), tmp_path) < 1e-5
    wrong = converted_error(partial(two_step, below=True), tmp_path)
    still(wrong > 1e-3, "converts an LSTM below another with state wrongly", "tensorflow")


@pytest.fixture(autouse=True)
def quiet_tensorflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """TensorFlow's own code warns, and warnings are errors here."""
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    with networks.quiet():
        yield
