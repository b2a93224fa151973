"""What pruning does to real networks, on every target that this machine can run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from claims.networks import CONVOLUTIONAL, FULLY_CONNECTED, Network, Row
from pytest_sparsity import Estimate, Model, Race, Target, Variants, diagnose, prunable_layers

NATIVE = ("litert", "tflite-runtime", "tensorflow")
BROWSER = "litert-js"
REASONS = {"litert": "x86-avx", "tflite-runtime": "no-sparse-build", "tensorflow": "x86-avx"}

Build = Callable[..., Variants]
RaceFixture = Callable[..., Race]


def build(variants: Build, network: Network) -> Variants:
    return variants(network.build, sparsity=network.sparsity, policy=network.policy)


@pytest.fixture(params=CONVOLUTIONAL, ids=str)
def network(request: pytest.FixtureRequest) -> Network:
    chosen: Network = request.param
    return chosen


@pytest.fixture
def files(network: Network, variants: Build) -> Variants:
    return build(variants, network)


@pytest.fixture(params=FULLY_CONNECTED, ids=str)
def perceptron(request: pytest.FixtureRequest) -> Network:
    chosen: Network = request.param
    return chosen


def runnable(name: str) -> Target:
    target = Target.of(name)
    missing = target.missing()
    if missing is not None:
        raise missing
    return target


def outputs(model: Model, target: Target) -> npt.NDArray[np.float32]:
    from pytest_sparsity.targets import seeded_inputs

    with target.open() as worker:
        signature = worker.load("model", model.path)
        worker.set_inputs("model", seeded_inputs(signature, seed=0))
        return np.concatenate([values.ravel() for values in worker.outputs("model")])


def decide(estimate: Estimate, threshold: float, record: Callable[[str, str], None]) -> bool:
    """Compare, and record what was measured whatever comes out."""
    verdict = "inconclusive"
    try:
        holds = estimate >= threshold
        verdict = f"{'holds' if holds else 'refuted'}: >= {threshold}"
    finally:
        record(str(estimate.latest()), verdict)
    return holds


def test_sparse_file_is_no_larger_than_dense(files: Variants) -> None:
    assert files.sparse.nbytes <= files.dense.nbytes


def test_every_prunable_layer_has_the_zeros_asked_for(network: Network, files: Variants) -> None:
    prunable = prunable_layers(files.sparse)
    assert prunable
    for layer in prunable:
        assert layer.sparsity == pytest.approx(network.sparsity, abs=1 / layer.parameters), layer


@pytest.mark.parametrize("target", [*NATIVE, BROWSER])
def test_sparse_answers_equal_pruned_answers(files: Variants, target: str) -> None:
    sparse, pruned = (outputs(model, runnable(target)) for model in (files.sparse, files.pruned))
    assert np.ptp(pruned) > 0
    assert np.abs(sparse - pruned).max() <= 1e-5 * np.abs(pruned).max()


# Node compiles hot code while it runs, so a process is dear: 3 to 6 s for MobileNet.
@pytest.mark.race(target=BROWSER, budget=60)
def test_sparse_beats_dense_in_webassembly(
    network: Network, files: Variants, race: RaceFixture, row: Row
) -> None:
    result = race(files.dense, files.sparse)
    assert decide(
        result.speedup,
        network.browser_speedup,
        lambda speedup, verdict: row(network, BROWSER, files, speedup, verdict),
    )


# Rules `x86-avx` and `no-sparse-build`: both files run the same dense kernels, so the truth is 1.
@pytest.mark.parametrize("target", NATIVE)
def test_x86_with_avx_refutes_a_claim_of_speed(
    network: Network, files: Variants, race: RaceFixture, row: Row, target: str
) -> None:
    if "avx" not in runnable(target).features:
        pytest.skip("needs a CPU with AVX: without it the sparse kernels run natively")
    result = race(files.dense, files.sparse, target=target)
    assert not decide(
        result.speedup,
        1.2,
        lambda speedup, verdict: row(network, target, files, speedup, verdict),
    )
    diagnosis = diagnose(files.sparse, target=target)
    assert diagnosis.verdict == "dense"
    assert REASONS[target] in [finding.code for finding in diagnosis.findings]


# The kernel reads, and multiplies with, a hundredth of the weights.
@pytest.mark.parametrize("target", NATIVE)
def test_block_kernels_beat_dense_on_every_native_runtime(
    perceptron: Network, variants: Build, race: RaceFixture, row: Row, target: str
) -> None:
    runnable(target)
    files = build(variants, perceptron)
    assert files.sparse.nbytes <= files.dense.nbytes
    result = race(files.dense, files.sparse, target=target)
    assert decide(
        result.speedup,
        2.0,
        lambda speedup, verdict: row(perceptron, target, files, speedup, verdict),
    )
