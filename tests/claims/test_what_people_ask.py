"""The cases that people come with, each as the claim that they make and what comes of it.

`docs/what-people-ask.md` tells the stories, with the figures of CPUs that it names. What is claimed
of times here must hold on every CPU, and the reason stands beside it; a ratio that is one CPU's is
in `test_recorded.py`. Native claims are for one thread on a CPU with AVX; without it the sparse
kernels run natively, and they skip.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claims import asked
from pytest_sparsity import Model, Target, Variants, prunable_layers, zoo
from pytest_sparsity.diagnosis.probes import flushes_subnormals
from pytest_sparsity.machine import this_machine
from pytest_sparsity.plugin.protocols import DiagnoseFixture, RaceFixture
from pytest_sparsity.properties import gzip_nbytes
from pytest_sparsity.variants.networks import import_tfmot, quiet

NATIVE = ("litert", "tflite-runtime", "tensorflow")

Build = Callable[..., Variants]


@pytest.fixture
def avx() -> None:
    if "avx" not in Target.of("litert").features:
        pytest.skip("needs a CPU with AVX: without it the sparse kernels run natively")


def codes(diagnose: DiagnoseFixture, model: Model, target: str) -> set[str]:
    return {finding.code for finding in diagnose(model, target=target).findings}


# -------------------------------------------- a traffic-sign CNN, 99 % zeros: "there is no speedup"


@pytest.fixture
def signs(variants: Build) -> Variants:
    return variants(zoo.traffic_signs, sparsity=0.99, policy="all")


def test_99_percent_of_zeros_make_traffic_signs_compressible(signs: Variants) -> None:
    assert signs.pruned.nbytes == signs.dense.nbytes
    assert gzip_nbytes(signs.dense) / gzip_nbytes(signs.pruned) >= 40
    assert signs.dense.nbytes / signs.sparse.nbytes >= 20


# Stored densely the same kernels read as many bytes; stored sparsely only the dense layers have a
# kernel, and for 1.2 they would have to take 20 times as long per multiplication as the rest.
@pytest.mark.race(budget=30)
@pytest.mark.parametrize("role", ["pruned", "sparse"])
def test_99_percent_of_zeros_give_traffic_signs_no_speedup(
    signs: Variants, role: str, race: RaceFixture, avx: None
) -> None:
    assert not race(signs.dense, getattr(signs, role)).speedup >= 1.2


@pytest.mark.parametrize("target", [*NATIVE, "litert-js"])
def test_only_the_dense_layers_of_traffic_signs_have_a_kernel(
    signs: Variants, target: str, diagnose: DiagnoseFixture
) -> None:
    diagnosis = diagnose(signs.sparse, target=target)
    assert diagnosis.outputs_match
    ops = [layer.op for layer in signs.sparse.layers]
    assert set(zip(ops, diagnosis.kernels, strict=True)) == {
        ("CONV_2D", "dense"),
        ("FULLY_CONNECTED", "block"),
    }


def test_the_dense_layers_of_traffic_signs_are_a_hundredth_of_the_work(signs: Variants) -> None:
    outputs = (26 * 26, 22 * 22, 9 * 9, 7 * 7, 1, 1)  # at how many places a weight multiplies
    layers = zip(signs.dense.layers, outputs, strict=True)
    work = [(layer.op, layer.parameters * places) for layer, places in layers]
    dense = sum(multiplications for op, multiplications in work if op == "FULLY_CONNECTED")
    assert dense <= 0.01 * sum(multiplications for _, multiplications in work)


# ------------------------------------------------------------------ the same with 2:4: "no speedup"

# TFMOT cannot make groups of four of the three colours that the first convolution takes.
GROUPED = ["conv2d_1", "conv2d_2", "conv2d_3", "dense", "dense_1"]


@pytest.fixture
def two_of_four(variants: Build) -> Variants:
    return variants(zoo.traffic_signs, pattern="2:4", policy=GROUPED)


# No layer has a kernel for it, so both files run the same ones.
@pytest.mark.race(budget=30)
def test_2_of_4_gives_no_speedup(
    two_of_four: Variants, race: RaceFixture, diagnose: DiagnoseFixture, avx: None
) -> None:
    assert not race(two_of_four.dense, two_of_four.sparse).speedup >= 1.1
    diagnosis = diagnose(two_of_four.sparse)
    assert set(diagnosis.kernels) == {"dense"}
    assert "scattered-zeros" in [finding.code for finding in diagnosis.findings]


def test_2_of_4_makes_the_file_a_quarter_smaller(two_of_four: Variants) -> None:
    assert 0.7 <= two_of_four.sparse.nbytes / two_of_four.dense.nbytes <= 0.8


# ------------------------------------ the network of the tutorial on XNNPACK: "from 17 us to 12 us"


def with_keepdims() -> Any:
    return zoo.xnnpack_cnn(keepdims=True)


@pytest.fixture(params=[False, True], ids=["keepdims=False", "keepdims=True"])
def tutorial(request: pytest.FixtureRequest, variants: Build) -> Variants:
    return variants(with_keepdims if request.param else zoo.xnnpack_cnn, sparsity=0.75)


def test_the_policy_takes_the_tutorials_network_with_and_without_keepdims(
    tutorial: Variants, diagnose: DiagnoseFixture
) -> None:
    pointwise = prunable_layers(tutorial.sparse)
    assert [layer.sparsity for layer in pointwise] == [0.75, 0.75]
    diagnosis = diagnose(tutorial.sparse, target="litert-js")
    assert [diagnosis.kernels[layer.index] for layer in pointwise] == ["sparse", "sparse"]


# Rule `x86-avx`: with AVX both files run the same dense kernels.
@pytest.mark.race(budget=20)
def test_the_tutorials_speedup_is_refuted_here(
    tutorial: Variants, race: RaceFixture, diagnose: DiagnoseFixture, avx: None
) -> None:
    assert not race(tutorial.dense, tutorial.sparse).speedup >= 1.2
    assert codes(diagnose, tutorial.sparse, "litert") == {"x86-avx"}


# That it is 1.2 for keepdims=False is claimed in test_networks, which says why on every CPU.
@pytest.mark.race(target="litert-js", budget=60)
def test_the_tutorials_speedup_holds_in_webassembly(variants: Build, race: RaceFixture) -> None:
    files = variants(with_keepdims, sparsity=0.75)
    assert race(files.dense, files.sparse).speedup >= 1.1


# ------------------------------ Conv2D-Flatten-Dense: "pruned weights are skipped during inference"


@pytest.fixture
def mnist(variants: Build) -> Variants:
    return variants(
        zoo.mnist_cnn, policy="all", schedule=asked.half_to_four_fifths, finetune=asked.fit_noise
    )


def test_polynomial_decay_ends_at_four_fifths(mnist: Variants) -> None:
    assert [weight.asked for weight in mnist.weights] == [0.8, 0.8]
    assert all(weight.as_asked for weight in mnist.weights)
    assert mnist.pruned.nbytes == mnist.dense.nbytes
    assert mnist.sparse.nbytes <= 0.31 * mnist.dense.nbytes


# Scattered zeros of dense layers have no kernel: both files run the same ones.
@pytest.mark.race(budget=30)
def test_four_fifths_of_zeros_are_not_skipped(
    mnist: Variants, race: RaceFixture, diagnose: DiagnoseFixture, avx: None
) -> None:
    assert not race(mnist.dense, mnist.sparse).speedup >= 1.1
    assert "scattered-zeros" in codes(diagnose, mnist.sparse, "litert")


@pytest.mark.slow  # imports TensorFlow
def test_the_wrapper_doubles_the_saved_weights_until_it_is_stripped(tmp_path: Path) -> None:
    sparsity = import_tfmot().sparsity.keras
    with quiet():
        plain = zoo.mnist_cnn()
        wrapped = sparsity.prune_low_magnitude(plain, asked.half_to_four_fifths())
        stripped = sparsity.strip_pruning(wrapped)
        saved = {}
        for name, model in {"plain": plain, "wrapped": wrapped, "stripped": stripped}.items():
            model.save_weights(tmp_path / f"{name}.h5")
            saved[name] = (tmp_path / f"{name}.h5").stat().st_size
    # Of each of three layers the step; of the two with weights a mask and a threshold too.
    assert len(wrapped.non_trainable_weights) == 7
    assert wrapped.count_params() == plain.count_params() + (288 + 216_320) + 2 + 3
    assert wrapped.count_params() > 1.99 * stripped.count_params()
    assert saved["wrapped"] > 1.9 * saved["stripped"]
    assert saved["stripped"] == pytest.approx(saved["plain"], rel=0.01)


@pytest.mark.slow  # imports TensorFlow
def test_tfmot_has_no_linear_decay() -> None:
    schedules = {name for name in dir(import_tfmot().sparsity.keras) if "Decay" in name}
    assert schedules == {"PolynomialDecay"}


# ---------------------------------------------------------- what does make dense layers faster here


# The kernel reads, and multiplies with, a tenth of the weights.
@pytest.mark.race(budget=20)
def test_blocks_at_90_percent_make_a_perceptron_faster_on_this_cpu(
    variants: Build, race: RaceFixture, diagnose: DiagnoseFixture
) -> None:
    files = variants(zoo.mlp, sparsity=0.9, pattern="1x4", policy="all")
    diagnosis = diagnose(files.sparse, target="litert")
    assert set(diagnosis.kernels) == {"block"}
    assert diagnosis.outputs_match
    assert race(files.dense, files.sparse, target="litert").speedup >= 1.5


# --------------------------- a residual network, channels pruned: "worse than quantization alone"


@pytest.fixture
def residual(variants: Build) -> Variants:
    """In int8: whole; half of the inner channels zero; without these."""
    return variants(
        asked.residual,
        sparsity=0.5,
        pattern="channels",
        policy="all",
        quantize="int8",
        representative=asked.residual_images,
    )


# Between half and three quarters of the multiplications are gone: layers get narrower.
@pytest.mark.race(budget=30)
@pytest.mark.parametrize("target", ["litert", "tflite-runtime"])
def test_removing_channels_and_int8_beat_int8_alone(
    residual: Variants, target: str, race: RaceFixture
) -> None:
    assert residual.sparse.nbytes <= 0.55 * residual.dense.nbytes
    assert race(residual.dense, residual.sparse, target=target).speedup >= 1.2


# Densely stored int8 has no kernel that looks for zeros: both files run the same ones.
@pytest.mark.race(budget=30)
def test_channels_that_are_zero_but_still_there_gain_nothing(
    residual: Variants, race: RaceFixture
) -> None:
    # Not a byte is gained but for how the vectors of the file are padded.
    assert abs(residual.pruned.nbytes - residual.dense.nbytes) <= 64
    assert not race(residual.dense, residual.pruned).speedup >= 1.2


# Channels that the dense kernels of XNNPACK (LiteRT 2.3.0) compute at a time. Inferred from times,
# on an EPYC with AVX-512 and on one with AVX2.
STEPS = {"avx512f": 32, "avx2": 16}


# One channel more is 3 or 6 % more arithmetic, but a whole step of it is computed.
@pytest.mark.race(budget=20)
@pytest.mark.parametrize("channels", [32, 64])
def test_a_channel_too_many_costs_more_than_its_arithmetic(
    channels: int, tmp_path: Path, race: RaceFixture, diagnose: DiagnoseFixture
) -> None:
    step = STEPS.get(this_machine().isa, 0)
    if 2 * step < channels:
        pytest.skip(
            f"{channels} channels are many steps of this CPU's kernels, or its step unknown"
        )
    odd, even = (asked.convolutions(tmp_path, each) for each in (channels + 1, channels))
    assert race(odd, even, target="litert").speedup >= 1.2
    assert "unaligned-channels" in codes(diagnose, odd, "litert")
    assert "unaligned-channels" not in codes(diagnose, even, "litert")


@pytest.mark.race(budget=20)
def test_with_avx512_a_step_is_32_channels_and_not_16(tmp_path: Path, race: RaceFixture) -> None:
    if STEPS.get(this_machine().isa) != 32:
        pytest.skip("needs a CPU with AVX-512")
    odd, even = (asked.convolutions(tmp_path, each) for each in (49, 48))
    assert not race(odd, even, target="litert").speedup >= 1.1


# ------------------------------------ "pruned, it is ten times as slow": are subnormal numbers why?


def test_pruning_leaves_no_subnormal_weights(residual: Variants, mnist: Variants) -> None:
    for files in (residual, mnist):
        for model in (files.pruned, files.sparse):
            assert not any(layer.subnormals for layer in model.layers)


@pytest.mark.parametrize("target", NATIVE)
def test_kernels_of_xnnpack_take_subnormal_weights_for_zero(target: str) -> None:
    assert flushes_subnormals(Target.of(target))


# They are zero to its arithmetic (above), and the kernels are the same.
@pytest.mark.race(budget=20)
def test_xnnpack_is_as_fast_with_subnormal_weights(tmp_path: Path, race: RaceFixture) -> None:
    normal, subnormal = (asked.convolutions(tmp_path, 32, scale) for scale in (1.0, 1e-40))
    assert sum(layer.subnormals for layer in subnormal.layers) > 10_000
    assert race(normal, subnormal, target="litert").speedup >= 0.9


# What it costs is the CPU's (`test_recorded.py`): the same instructions on the same bytes, and no
# CPU is faster with subnormal numbers than with normal ones.
@pytest.mark.race(budget=20)
def test_kernels_outside_xnnpack_compute_with_them_and_are_no_faster(
    tmp_path: Path, race: RaceFixture, diagnose: DiagnoseFixture
) -> None:
    normal, subnormal = (asked.blocks(tmp_path, scale) for scale in (1.0, 1e-40))
    assert not race(normal, subnormal, target="litert").speedup >= 1.1
    assert "subnormal-weights" in codes(diagnose, subnormal, "litert")
    assert "subnormal-weights" not in codes(diagnose, normal, "litert")


# ------------------- Sequential or functional, eager or graph, distributed on one worker: the same

WAYS = {
    "functional": (asked.functional, asked.fit_noise),
    "eager": (zoo.mnist_cnn, asked.fit_noise_eagerly),
    "one device": (asked.on_one_device, asked.fit_noise),
    "one mirrored worker": (asked.on_one_mirrored_worker, asked.fit_noise),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_the_same_network_gives_the_same_files(
    way: str, mnist: Variants, variants: Build
) -> None:
    build, finetune = WAYS[way]
    files = variants(build, policy="all", schedule=asked.half_to_four_fifths, finetune=finetune)
    for role in ("dense", "pruned", "sparse"):
        ours, theirs = (getattr(each, role).path.read_bytes() for each in (files, mnist))
        assert ours == theirs, role


# --------------------------------------- compressed files: "up to six times smaller", of the guide


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "sparsity", "holds"),
    [
        (zoo.mobilenet_v1, 0.75, False),
        (zoo.mobilenet_v1, 0.875, False),
        (zoo.mobilenet_v1, 0.9, True),
        (zoo.mobilenet_v2, 0.875, False),
        (zoo.inception_v3, 0.75, False),
        (zoo.inception_v3, 0.875, True),
        (zoo.ds_cnn, 0.8, False),
        (zoo.translator, 0.8, False),
        (zoo.translator, 0.9, True),
    ],
)
def test_six_times_smaller_needs_nearly_nine_tenths_of_zeros(
    build: Callable[[], Any], sparsity: float, holds: bool, variants: Build
) -> None:
    files = variants(build, sparsity=sparsity, policy="all")
    assert (files.dense.nbytes / gzip_nbytes(files.pruned) >= 6) == holds


@pytest.mark.slow
def test_the_converter_encodes_only_the_last_layer_of_a_translator(variants: Build) -> None:
    files = variants(zoo.translator, sparsity=0.9, policy="all")
    encoded = [layer.op for layer in files.sparse.layers if layer.encoding != "dense"]
    assert encoded == ["FULLY_CONNECTED"]
    assert files.sparse.nbytes > 0.7 * files.dense.nbytes


@pytest.mark.slow
def test_inception_has_no_chain_for_sparse_kernels(
    variants: Build, diagnose: DiagnoseFixture
) -> None:
    files = variants(zoo.inception_v3, sparsity=0.875, policy="all")
    diagnosis = diagnose(files.sparse, target="litert-js")
    assert diagnosis.verdict == "dense"
    assert diagnosis.outputs_match
    assert diagnosis.findings[0].code == "no-exit"
