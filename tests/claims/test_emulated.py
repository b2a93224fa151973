"""What pruning does on CPUs that this machine does not have, counted in instructions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from claims.networks import Network, Row
from corpus import CASES
from pytest_sparsity import Model, Race, Target, Unsupported, Variants, diagnose, microkernels, zoo
from pytest_sparsity.errors import TargetError, WrongOutputs
from pytest_sparsity.targets import Launch, Worker, seeded_inputs
from pytest_sparsity.targets.places import emulated
from pytest_sparsity.targets.places.emulated import guests

LITERT = "2.3.0"
"""The version that the figures are of; on ARM it is pinned, on x86 it is what is installed."""

NETWORKS: dict[str, Callable[[], Any]] = {
    "xnnpack_cnn": zoo.xnnpack_cnn,
    "mobilenet_v1": zoo.mobilenet_v1,
}
# An emulated MobileNet takes some seconds an inference.
SOME_SLOW = ["xnnpack_cnn", pytest.param("mobilenet_v1", marks=pytest.mark.slow)]
SPARSITIES = (0.5, 0.75, 0.9)
CORES = ("cortex-a53", "cortex-a76", "nehalem")
FEWER = {
    ("cortex-a53", "mobilenet_v1"): {0.5: 1.0, 0.75: 2.76, 0.9: 5.44},
    ("cortex-a76", "mobilenet_v1"): {0.5: 1.0, 0.75: 1.69, 0.9: 3.32},
    ("nehalem", "mobilenet_v1"): {0.5: 1.0, 0.75: 3.11, 0.9: 5.66},
    ("cortex-a53", "xnnpack_cnn"): {0.5: 1.0, 0.75: 2.10},
    ("cortex-a76", "xnnpack_cnn"): {0.5: 1.0, 0.75: 1.65},
    ("nehalem", "xnnpack_cnn"): {0.5: 1.0, 0.75: 1.46},
}
"""How many times fewer instructions the sparse model takes, as first measured by a prototype."""

DEFECTS = ("max pool", "regular 3x3", "depthwise 7x7", "depthwise stride 2 same", "middle output")
"""Networks of the corpus of which XNNPACK's rewrite computes something else."""

Build = Callable[..., Variants]
RaceFixture = Callable[..., Race]
Count = Callable[[Model], int]


def counting(name: str) -> Target:
    """Return the target; skip, by `Unsupported`, where it cannot run or not count."""
    target = Target.of(name)
    missing = target.missing() or target.cannot_count()
    if missing is not None:
        raise missing
    return target


@pytest.fixture(scope="module", params=CORES)
def core(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def litert(core: str) -> Iterator[Worker]:
    target = counting(f"litert@{core}")
    if target.version() != LITERT:
        pytest.skip(f"the figures are of LiteRT {LITERT}, not {target.version()}")
    # MobileNetV1 takes 3 s of CPU time per inference, which on a busy machine is much longer.
    with target.open(timeout=300) as worker:
        yield worker


@pytest.fixture(scope="module")
def count(litert: Worker) -> Count:
    """Return the instructions of one inference of a model; each is counted once."""
    known: dict[str, int] = {}

    def counted(model: Model) -> int:
        if model.sha256 not in known:
            litert.load("model", model.path)
            counts = litert.run([("model", 1)]).instructions
            litert.unload("model")
            assert counts is not None
            known[model.sha256] = counts[0]
        return known[model.sha256]

    return counted


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("name", NETWORKS)
def test_sparse_takes_fewer_instructions(
    core: str, name: str, sparsity: float, count: Count, variants: Build, baseline: Any, row: Row
) -> None:
    files = variants(NETWORKS[name], sparsity=sparsity)
    dense, sparse = count(files.dense), count(files.sparse)
    network = Network(name, NETWORKS[name], sparsity)
    row(network, f"litert@{core}", files, f"{dense / sparse:.3f} times fewer instructions", "exact")
    if sparsity in FEWER[core, name]:
        assert dense / sparse == pytest.approx(FEWER[core, name][sparsity], rel=0.02)
    # XNNPACK goes sparse above two thirds only: below, not one instruction is saved.
    assert (dense == sparse) == (sparsity <= 2 / 3)
    assert dense == baseline("dense instructions")
    assert sparse == baseline("sparse instructions")


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("name", SOME_SLOW)
def test_answers_are_those_of_this_machine(
    litert: Worker, name: str, sparsity: float, variants: Build
) -> None:
    model = variants(NETWORKS[name], sparsity=sparsity).sparse
    here = Target.of("litert")
    with here.open() as native:
        answers = []
        for worker in (litert, native):
            signature = worker.load("model", model.path)
            worker.set_inputs("model", seeded_inputs(signature, seed=0))
            answers.append(worker.outputs("model")[0])
    assert np.ptp(answers[1]) > 0
    assert np.abs(answers[0] - answers[1]).max() <= 1e-5 * np.abs(answers[1]).max()


def test_a_race_counts_instructions(core: str, variants: Build, race: RaceFixture) -> None:
    files = variants(zoo.xnnpack_cnn, sparsity=0.75)
    result = race(files.dense, files.sparse, target=counting(f"litert@{core}"))
    assert result.unit == "instructions"
    assert result.instruction_ratio > 1.4
    assert result.ratio.low == result.ratio.high
    with pytest.raises(Unsupported, match="has no time"):
        _ = result.speedup


# By a prototype, dense to sparse of MobileNetV1; vectors of 256 and of 512 bits.
WITH_SME = {
    ("sme", 0.75): 0.361,
    ("sme", 0.9): 0.713,
    ("sme512", 0.75): 0.209,
    ("sme512", 0.9): 0.413,
}


@pytest.mark.slow
@pytest.mark.parametrize(("core", "sparsity"), WITH_SME)
def test_with_sme_the_sparse_path_takes_more_instructions(
    core: str, sparsity: float, variants: Build, race: RaceFixture
) -> None:
    files = variants(zoo.mobilenet_v1, sparsity=sparsity)
    target = counting(f"litert@{core}")
    ratio = race(files.dense, files.sparse, target=target).instruction_ratio
    assert ratio.value == pytest.approx(WITH_SME[core, sparsity], rel=0.01)
    found = diagnose(files.sparse, target, observe=False).findings
    assert "sme" in {finding.code for finding in found}


def test_tflite_runtime_goes_sparse_only_with_half_precision_arithmetic(variants: Build) -> None:
    files = variants(zoo.xnnpack_cnn, sparsity=0.75)
    fewer = {}
    for core in CORES:
        with counting(f"tflite-runtime@{core}").open() as worker:
            worker.load("dense", files.dense.path)
            worker.load("sparse", files.sparse.path)
            counts = worker.run([("dense", 1), ("sparse", 1)]).instructions
            assert counts is not None
            fewer[core] = counts[0] != counts[1]
    assert fewer == {"cortex-a53": False, "cortex-a76": True, "nehalem": False}


def test_counts_repeat_under_load_and_with_any_hash_seed(
    variants: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = variants(zoo.xnnpack_cnn, sparsity=0.75)
    target = counting("litert@cortex-a53")
    seen = []
    for seed, load in (("0", 0), ("random", 0), ("12345", 2 * (os.cpu_count() or 1))):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(load)]
        try:
            with target.open() as worker:
                worker.load("dense", files.dense.path)
                worker.load("sparse", files.sparse.path, pad=[len(seed) * 1000])
                counts = worker.run([("dense", 1), ("sparse", 3), ("dense", 2)]).instructions
        finally:
            for process in busy:
                process.kill()
                process.wait()
        assert counts is not None
        assert counts[2] == 2 * counts[0]
        assert counts[1] % 3 == 0
        seen.append(counts)
    assert len(set(seen)) == 1


@pytest.mark.parametrize("encoded", [False, True], ids=["dense", "sparse"])
def test_the_microkernels_have_names(core: str, encoded: bool, variants: Build) -> None:
    files = variants(zoo.xnnpack_cnn, sparsity=0.75)
    model = files.sparse if encoded else files.dense
    kernels = microkernels(counting(f"litert@{core}"), model.path)
    assert all(kernel.instructions for kernel in kernels)
    assert any("_spmm_" in kernel.name for kernel in kernels) == encoded
    assert any("_conv_hwc2chw_" in kernel.name for kernel in kernels) == encoded
    assert any("_dwconv2d_chw_" in kernel.name for kernel in kernels) == encoded
    suffix = "sse" if core == "nehalem" else "neon"
    assert all(suffix in kernel.name.partition("__")[2] for kernel in kernels)


def test_the_emulators_log_names_the_same_microkernels(variants: Build) -> None:
    """What is left where the emulator takes no plugins: what was reached, packing included."""
    target = counting("litert@cortex-a53")
    model = variants(zoo.xnnpack_cnn, sparsity=0.75).sparse.path
    executed = {kernel.name for kernel in microkernels(target, model)}
    reached = set(emulated.at("cortex-a53")._reached(target.record, model))
    assert executed <= reached
    beyond = {name for name in reached - executed if "_ukernel_" in name}
    assert all("pack" in name for name in beyond)


@pytest.mark.parametrize("runtime", ["litert", "tflite-runtime"])
def test_callgrind_proves_the_dense_kernels_here(runtime: str, variants: Build) -> None:
    target = Target.of(runtime)
    if "avx" not in target.features:
        pytest.skip("needs a CPU with AVX: without it the sparse kernels run natively")
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed: sudo apt-get install -y valgrind")
    files = variants(zoo.xnnpack_cnn, sparsity=0.75)
    diagnosis = diagnose(files.sparse, target=target, microkernels=True)
    names = [kernel.name for kernel in diagnosis.microkernels]
    assert any(name.startswith("xnn_f32_gemm_minmax_ukernel_") for name in names)
    assert not any("_spmm_" in name for name in names)


@pytest.mark.parametrize("name", DEFECTS)
def test_wrong_answers_are_found(name: str, tmp_path: Path, race: RaceFixture) -> None:
    target = counting("litert@cortex-a53")
    case = next(case for case in CASES if case.name == name)
    sparse, dense = case.write(tmp_path), case.write(tmp_path, "dense")
    assert diagnose(sparse, target=target).verdict == "miscomputes"
    with pytest.raises(WrongOutputs):
        race(dense, sparse, target=target)
    with Target.of("litert").open() as worker:
        worker.load("sparse", sparse)


# ----------------------------------------------------------------------------------- failing guests


def failure(launch: Launch, model: Path | None = None) -> str:
    def start() -> None:
        with Worker("litert@cortex-a53", launch) as worker:
            if model is not None:
                worker.load("model", model)

    with pytest.raises(TargetError) as raised:
        start()
    return str(raised.value)


@pytest.fixture
def launch() -> Launch:
    target = counting("litert@cortex-a53")
    return target.place.launch(target.record, 1)


def with_site(launch: Launch, site: Path) -> Launch:
    return Launch(launch.command, {**launch.environment, "PYTHONPATH": str(site)})


@pytest.fixture
def site(tmp_path: Path, launch: Launch) -> Path:
    """A copy of the guest's packages, in which a test may break something."""
    copy = tmp_path / "site"
    copy.mkdir()
    for entry in Path(launch.environment["PYTHONPATH"]).iterdir():
        (copy / entry.name).symlink_to(entry)
    return copy


def test_an_illegal_instruction(launch: Launch, site: Path) -> None:
    (site / "ai_edge_litert").unlink()
    (site / "ai_edge_litert").mkdir()
    # An instruction that no 64-bit ARM has, in a page that may be executed.
    (site / "ai_edge_litert/interpreter.py").write_text(
        "import ctypes, mmap\n"
        "page = mmap.mmap(-1, 4096, prot=7)\n"
        "page.write(bytes(4))\n"
        "ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()\n",
        "ascii",
    )
    said = failure(with_site(launch, site))
    assert said.startswith("litert@cortex-a53 crashed with SIGILL when starting: ")
    assert "Illegal instruction" in said


def test_a_missing_library(launch: Launch, tmp_path: Path) -> None:
    prefix = Path(launch.command[launch.command.index("-L") + 1])
    broken = tmp_path / "system"
    libraries = Path("usr/lib/aarch64-linux-gnu")
    for folder in (Path("usr"), Path("usr/lib"), libraries):
        (broken / folder).mkdir(parents=True, exist_ok=True)
    for folder in (Path(), Path("usr"), Path("usr/lib"), libraries):
        for entry in (prefix / folder).iterdir():
            if not (broken / folder / entry.name).exists() and "libstdc++" not in entry.name:
                (broken / folder / entry.name).symlink_to(entry.resolve())
    command = [str(broken) if part == str(prefix) else part for part in launch.command]
    said = failure(Launch(tuple(command), launch.environment))
    assert said == (
        "litert@cortex-a53 ended with exit status 1 when starting: OSError: libstdc++.so.6:"
        " cannot open shared object file: No such file or directory"
    )


def test_out_of_memory(launch: Launch, tmp_path: Path) -> None:
    model = tmp_path / "large.tflite"
    model.write_bytes(bytes(4) + b"TFL3")
    os.truncate(model, 1 << 34)
    limited = ("sh", "-c", 'ulimit -v 4000000; exec "$@"', "sh", *launch.command)
    said = failure(Launch(limited, launch.environment), model)
    assert said.startswith("litert@cortex-a53 failed when loading large.tflite: Mmap of ")


def test_a_wheel_for_the_wrong_architecture(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Target.of("litert").available:
        pytest.skip("needs the wheel of this machine")
    guest = guests.find(Target.of("litert").record, "aarch64")
    assert guest is not None
    import ai_edge_litert

    (site / "ai_edge_litert").unlink()
    (site / "ai_edge_litert").mkdir()
    for entry in Path(ai_edge_litert.__path__[0]).iterdir():
        (site / "ai_edge_litert" / entry.name).symlink_to(entry)
    broken = guests.Guest(guest.system, guest.python, site)
    monkeypatch.setattr(guests, "find", lambda *_: broken)
    with pytest.raises(TargetError) as raised:
        Target.of("litert@cortex-a53").open()
    assert str(raised.value).endswith(
        ".so of the guest is not for aarch64;"
        " pytest-sparsity targets --install litert@cortex-a53 sets it up again"
    )
