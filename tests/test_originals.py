"""Copies of a worker that has loaded nothing: as good as a new one, and gone with it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from conformance import working
from killing import SIGNALS, leftovers, until
from pytest_sparsity.errors import TargetError, Unsupported
from pytest_sparsity.racing import start
from pytest_sparsity.racing.originals import ORIGINALS, Originals
from pytest_sparsity.targets import Target, Worker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills orphans")
LITERT = Target.of("litert")
if LITERT.missing() is not None:
    pytest.skip(str(LITERT.missing()), allow_module_level=True)


@pytest.fixture
def worker() -> Iterator[Worker]:
    with LITERT.open() as opened:
        yield opened


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_a_copy_computes_what_its_original_would(worker: Worker, tmp_path: Path) -> None:
    model, found, pids = working(tmp_path), [], []
    for _ in range(3):
        with worker.copy():
            pids.append(worker._child.answering)
            worker.load("a", model)
            found.append(worker.outputs("a")[0].tobytes())
            assert worker.run([("a", 5)]).wall_ns
        assert worker._child.answering == worker.pid
        with pytest.raises(KeyError):
            worker.outputs("a")
    worker.load("a", model)
    assert {*found, worker.outputs("a")[0].tobytes()} == {found[0]}
    assert len({*pids, worker.pid}) == 4
    assert until(lambda: all(map(gone, pids)))


def test_what_has_loaded_a_model_is_not_copied(worker: Worker, tmp_path: Path) -> None:
    worker.load("a", working(tmp_path))
    with pytest.raises(Unsupported, match="litert: no copies"), worker.copy():
        pass
    assert worker.outputs("a")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_the_crash_of_a_copy_is_that_of_the_worker(
    worker: Worker, tmp_path: Path, number: signal.Signals
) -> None:
    with pytest.raises(TargetError) as caught, worker.copy():  # noqa: PT012  (a block must fail)
        worker.load("a", working(tmp_path))
        os.kill(worker._child.answering, number)
        worker.run([("a", 5)])
    assert str(caught.value).startswith(f"litert crashed with {number.name} when running working")
    assert worker.ended


def test_a_copy_that_hangs_dies_with_its_original(worker: Worker, tmp_path: Path) -> None:
    pid = 0
    with pytest.raises(TargetError, match="did not answer within"), worker.copy():  # noqa: PT012
        pid = worker._child.answering
        worker.load("a", working(tmp_path))
        os.kill(pid, signal.SIGSTOP)
        worker._child.timeout = 0.3
        worker.run([("a", 5)])
    assert until(lambda: gone(pid))


def test_another_original_after_so_many_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    originals, pids = Originals(), []
    monkeypatch.setattr(sys.modules["pytest_sparsity.racing.originals"], "COPIES", 2)
    for _ in range(5):
        with originals.process(LITERT, 1) as (worker, _):
            pids.append(worker.pid)
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 1]
    with originals.process(LITERT, 2) as (worker, _):
        assert worker.pid not in pids
        assert worker.threads == 2
    assert all(map(gone, pids))
    originals.close()
    assert worker.ended


def test_an_original_that_died_is_replaced() -> None:
    originals = Originals()
    with originals.process(LITERT, 1) as (first, _):
        pass
    os.kill(first.pid, signal.SIGKILL)
    assert until(lambda: not first.alive)
    with originals.process(LITERT, 1) as (second, _):
        assert second.pid != first.pid
    originals.close()


def test_a_race_runs_in_copies(tmp_path: Path) -> None:
    model = working(tmp_path)
    result = start(model, model, LITERT, 1, 60.0)
    assert result.trials == 3
    assert ORIGINALS._worker is not None
    assert not ORIGINALS._worker._models
    assert np.isfinite(result.ratio.value)


COMPUTING = """
import sys
from pytest_sparsity.targets import Target
with Target.of("litert").open() as worker, worker.copy():
    worker.load("a", sys.argv[1])
    worker.run([("a", 10**12)])
"""


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_copy_that_computes_dies_with_whoever_asked(
    number: signal.Signals, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-c", COMPUTING, str(working(tmp_path).path)]
    seen = []

    def ready(line: Sequence[str]) -> bool:
        # The original and its copy, seen for half a second or more.
        seen.append(any(Path(part).parts[-2:] == ("targets", "worker") for part in line))
        return sum(seen) > 40

    assert leftovers(command, temporary, number, ready) == ([], [])
