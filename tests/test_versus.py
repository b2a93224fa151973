"""Two targets in one race: each model runs on its own, in the order that the race asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.racing import race
from pytest_sparsity.targets import Blocks, Target, Worker, seeded_inputs
from pytest_sparsity.targets.versus import Versus

MODEL = Path(__file__).parent / "data" / "cnn_dense.tflite"


class Scripted(Worker):
    """Writes down what it is asked; a block takes its first number and counts up."""

    def __init__(self, start: int, log: list[str], version: str) -> None:
        self.threads = 1
        self.hello = {"runtime": "litert", "version": version}
        self._start, self._log = start, log
        self.closed = False

    def run(self, blocks, warm=1):  # type: ignore[no-untyped-def]  # noqa: ARG002
        self._log += [f"{self._start} {key}" for key, _ in blocks]
        times = tuple(range(self._start, self._start + len(blocks)))
        return Blocks(times, times, times)

    def close(self) -> None:
        self.closed = True


def pair(monkeypatch: pytest.MonkeyPatch, second: Worker | Exception) -> tuple[Worker, list[str]]:
    log: list[str] = []
    first = Scripted(100, log, "1")
    answers = iter([first, second])

    def opened(*_: object, **__: object) -> Worker:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    where = Target.of(("litert", "litert"))
    monkeypatch.setattr(Target, "open", opened)
    try:
        return where.open(), log
    except Unsupported:
        assert first.closed
        raise


def test_blocks_run_where_their_model_is_and_keep_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log: list[str] = []
    worker, first_log = pair(monkeypatch, Scripted(200, log, "2"))
    keys = ["dense 0", "sparse 0", "sparse 0", "dense 0"]
    blocks = worker.run([(key, 5) for key in keys])
    assert blocks.wall_ns == (100, 200, 201, 100)
    assert blocks.instructions is None
    assert (first_log, log) == (["100 dense 0"] * 2, ["200 sparse 0"] * 2)
    assert worker.hello == {"runtime": "litert", "version": "1 vs 2"}
    worker.close()


def test_a_second_worker_that_does_not_start_ends_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Unsupported, match="no room"):
        pair(monkeypatch, Unsupported("no room"))


def test_names_sides_and_control() -> None:
    where = Target.of(("litert==2.1.6", "litert"))
    assert (where.name, where.runtime, where.unit) == (
        "litert==2.1.6 vs litert",
        "litert",
        "seconds",
    )
    assert [side.name for side in where.sides] == ["litert==2.1.6", "litert"]
    assert where.control.name == "litert==2.1.6 vs litert==2.1.6"
    assert Target.of("litert").control == Target.of("litert")
    with pytest.raises(ValueError, match="litert counts seconds and litert@nehalem instructions"):
        Target.of(("litert", "litert@nehalem"))
    with pytest.raises(ValueError, match="no target is called 'onnx'"):
        Target.of(("litert", "onnx"))


def test_what_one_of_them_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if not Target.of("litert").available:
        pytest.skip(str(Target.of("litert").missing()))
    with pytest.raises(
        Unsupported, match=r"litert==2\.1\.6 is not installed: .*--install litert=="
    ):
        race(MODEL, MODEL, target=("litert", "litert==2.1.6"))


def test_two_real_workers() -> None:
    missing = Target.of("litert").missing()
    if missing is not None:
        pytest.skip(str(missing))
    with Versus.between(Target.of("litert"), Target.of("litert")).open() as worker:
        outputs = []
        for key in ("dense 0", "sparse 0"):
            signature = worker.load(key, MODEL)
            worker.set_inputs(key, seeded_inputs(signature, 0))
            outputs.append(worker.outputs(key))
        assert np.array_equal(outputs[0][0], outputs[1][0])
        blocks = worker.run([("dense 0", 3), ("sparse 0", 3)])
        assert min(blocks.wall_ns) > 0
        worker.unload("dense 0")
        assert not worker.ended
    assert worker.ended


def test_two_cpus_are_counted_against_each_other() -> None:
    where = Target.of(("litert@nehalem", "litert@nehalem"))
    missing = where.missing() or where.cannot_count()
    if missing is not None:
        pytest.skip(str(missing))
    assert float(race(MODEL, MODEL, target=where).instruction_ratio.value) == 1.0
