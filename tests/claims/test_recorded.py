"""What was recorded of the networks: a change of any of it is seen in review.

Bytes, zeros and encodings are true everywhere, and so are the verdicts on targets that bring their
own CPU; the speedup is kept per kind of machine, and skips where none was recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from claims import asked
from claims.networks import CONVOLUTIONAL, FULLY_CONNECTED, Network
from pytest_sparsity import Race, Target, Variants, diagnose, prunable_layers
from pytest_sparsity.baseline import Baseline

Build = Callable[..., Variants]

# The converter writes its version into the file.
BYTES = 0.005
PORTABLE = ("litert-js", "litert@cortex-a53", "litert@cortex-a76", "litert@nehalem")


@pytest.fixture(params=(*CONVOLUTIONAL, *FULLY_CONNECTED), ids=str)
def network(request: pytest.FixtureRequest) -> Network:
    chosen: Network = request.param
    return chosen


@pytest.fixture
def files(network: Network, variants: Build) -> Variants:
    return variants(network.build, sparsity=network.sparsity, policy=network.policy)


def test_bytes(files: Variants, baseline: Baseline) -> None:
    assert files.dense.nbytes == baseline("dense bytes", within=BYTES)
    assert files.sparse.nbytes <= baseline("sparse bytes", within=BYTES)


def test_zeros_and_encodings(files: Variants, baseline: Baseline) -> None:
    layers = prunable_layers(files.sparse)
    assert [layer.sparsity for layer in layers] >= baseline("zeros")
    assert [f"{layer.index} {layer.encoding}" for layer in layers] == baseline("encodings")


@pytest.mark.parametrize("target", PORTABLE)
def test_verdict(files: Variants, baseline: Baseline, target: str) -> None:
    missing = Target.of(target).missing()
    if missing is not None:
        raise missing
    diagnosis = diagnose(files.sparse, target, observe=False)
    assert diagnosis.verdict == baseline("verdict")
    kernels = [
        f"{layer.index} {kernel}"
        for layer, kernel in zip(files.sparse.layers, diagnosis.kernels, strict=True)
        if layer in prunable_layers(files.sparse)
    ]
    assert kernels == baseline("kernels")


@pytest.mark.race(target="litert-js", budget=40)
def test_speedup_in_webassembly(
    variants: Build, race: Callable[..., Race], baseline: Baseline
) -> None:
    network = CONVOLUTIONAL[-1]
    files = variants(network.build, sparsity=network.sparsity, policy=network.policy)
    assert race(files.dense, files.sparse).speedup >= baseline("speedup", within=0.25)


@pytest.mark.race(target="litert", budget=40)
def test_what_subnormal_weights_cost_outside_xnnpack(
    tmp_path: Path, race: Callable[..., Race], baseline: Baseline
) -> None:
    """0.73 on an EPYC of 2024, 0.083 on a Xeon: `benchmarks/subnormals.py` shows why."""
    normal, subnormal = (asked.blocks(tmp_path, scale) for scale in (1.0, 1e-40))
    assert race(normal, subnormal).speedup >= baseline("speedup", within=0.25)
