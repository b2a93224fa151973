"""A board with another CPU: claims from end to end, over ssh, on an emulated ARM Linux.

All but the speed is the board's: its architecture, its runtime, its kernels, its Python. What its
emulated CPU takes for an instruction is no CPU's time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import boards
from boards import CPU, RUNTIMES_THERE, Board, missing
from claims.tutorial import Session, told
from hosts import reached
from killing import until
from pytest_sparsity import Target, Unsupported, diagnose
from pytest_sparsity.diagnosis import skips_zeros
from pytest_sparsity.machine import this_machine

ROOT = Path(__file__).parents[2]
# tflite-runtime has them only for CPUs with arithmetic in half precision, which this one lacks.
KERNELS = {"litert": "sparse", "tflite-runtime": "dense"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    lacking = missing()
    if lacking is not None:
        raise lacking
    with closing(Board(tmp_path_factory.mktemp("board"))) as made:
        yield made


@pytest.fixture(params=RUNTIMES_THERE)
def target(request: pytest.FixtureRequest, board: Board) -> Iterator[Target]:
    with reached(board, board.python(request.param)):
        yield Target.of(f"{request.param}@ssh:board")


def test_kernels_and_rules_are_those_of_the_boards_cpu(target: Target, tmp_path: Path) -> None:
    """This machine has another architecture; LiteRT has sparse kernels for every ARM CPU."""
    assert target.arch == "aarch64"
    assert this_machine().arch != "aarch64"
    model = ROOT / "tests" / "data" / "cnn_sparse.tflite"
    ruled, seen = (diagnose(model, target, observe=observe) for observe in (False, True))
    assert seen.evidence == "observed"
    assert ruled.verdict == seen.verdict == KERNELS[target.runtime]
    assert skips_zeros(target) is (target.runtime == "litert")


def test_outputs_are_those_of_the_emulated_cpu(target: Target) -> None:
    """The same files on the same CPU, without the distance, give the same bits."""
    x = np.random.default_rng(0).random((1, 12, 12, 3), np.float32)
    answers = []
    for place in (target, Target.of(f"{target.runtime}@{CPU.host}")):
        with place.open() as worker:
            worker.load("a", ROOT / "tests" / "data" / "cnn_sparse.tflite")
            worker.set_inputs("a", [x])
            answers.append(worker.outputs("a")[0])
    assert np.array_equal(answers[0], answers[1])


def test_a_board_without_sys_is_none(board: Board, tmp_path: Path) -> None:
    """There the runtimes would run without XNNPACK and say nothing, and the rules seem wrong."""
    with (
        closing(Board(tmp_path, sysfs=False)) as bare,
        reached(bare, bare.python("litert")),
        pytest.raises(Unsupported) as caught,
    ):
        Target.of("litert@ssh:board").open()
    assert str(caught.value).startswith("board shows no processors in /sys, without which XNNPACK ")


def test_where_there_can_be_none(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is not root, and whoever's kernel is too old or too strict, is told so."""
    remedy = "run the claim as root on Debian or Ubuntu with Linux 6.7 or later"
    monkeypatch.setattr(boards, "_ENTER", "echo mount: permission denied >&2; exit 32")
    with pytest.raises(Unsupported) as caught:
        Board(tmp_path)
    said = "this kernel permits no board (mount: permission denied)"
    assert str(caught.value) == f"{said}: {remedy}"
    monkeypatch.setattr("os.getuid", lambda: 1000)
    lacking = missing()
    assert lacking is not None
    assert str(lacking) == f"an emulated board has users, which root alone can give it: {remedy}"


def test_the_claims_of_the_tutorial_twice(
    target: Target, board: Board, pytester: pytest.Pytester
) -> None:
    """Size, kernels and findings are asserted; of the speed only that the verdicts are the same.

    What an emulated instruction takes is this machine's affair and says nothing about a Cortex-A53.
    The speed varies more than on hardware, so the baseline leaves it room for a half.
    """
    expected = {"litert": [], "tflite-runtime": ["needs-fp16"]}[target.runtime]
    python, verdict = board.python(target.runtime), KERNELS[target.runtime]
    session = Session.of(pytester, target, board, python, verdict, expected, within=0.5)
    assert session.record().startswith(f"cortex-a53-emulated-by-qemu-neon-{target.runtime}-")
    first, second = session.verdicts(), session.verdicts()
    assert first == second
    assert len(first) == 5
    assert first["test_the_file_is_smaller"] == "PASSED"
    assert first["test_the_kernels_are_those_of_the_boards_cpu"] == "PASSED"
    told(f"{target}: {first}")
    assert until(lambda: not board.workers(), 20), "no process stays there"
