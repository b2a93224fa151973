"""The run behind docs/compatibility.json: what is kept, what is run again, and what is told."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from corpus import CASES
from pytest_sparsity.comparison import Comparison
from pytest_sparsity.diagnosis import Observation
from pytest_sparsity.errors import Unsupported
from pytest_sparsity.model import Model

if TYPE_CHECKING:
    from typing_extensions import Self

MODULE = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks/versions.py"), run_name="v")
WHERE: dict[str, Any] = MODULE["observe"].__globals__
CASE = next(case for case in CASES if case.name == "average")
TARGET = "litert==2.1.0@nehalem"


class FakeObserver:
    """Sees the same of every model, and how often it was asked."""

    seen = Observation("sparse", skips_zeros=True)
    asked = 0

    def __init__(self, _: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def observe(self, *_: object, **__: object) -> Observation:
        FakeObserver.asked += 1
        return self.seen


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two networks, an observer that runs nothing, and a folder of the test's own."""
    monkeypatch.setitem(WHERE, "folder", lambda: tmp_path)
    monkeypatch.setitem(WHERE, "networks", lambda: {"a": CASE.write, "b": other})
    monkeypatch.setitem(WHERE, "Observer", FakeObserver)
    monkeypatch.setitem(WHERE, "install", lambda *_: None)
    monkeypatch.setattr(FakeObserver, "asked", 0)


def other(folder: Path) -> Path:
    return CASE.write(folder, "dense")


def ran(*networks: str, again: bool = False) -> tuple[int, str]:
    found: tuple[int, str] = MODULE["run_target"](TARGET, set(networks), again=again)
    return found


def test_what_is_kept_is_not_run_again() -> None:
    assert ran("a")[0] == 1
    assert ran("a", "b")[0] == 1
    assert ran("a", "b")[0] == 0
    assert FakeObserver.asked == 2


def test_another_version_or_network_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ran("a")[0] == 1
    monkeypatch.setitem(WHERE, "networks", lambda: {"a": other})
    assert ran("a")[0] == 1
    assert len(MODULE["kept"](TARGET)) == 2


def test_a_line_that_an_interruption_cut_off_is_run_again(tmp_path: Path) -> None:
    assert ran("a", "b")[0] == 2
    path = tmp_path / f"{TARGET}.jsonl"
    path.write_text(path.read_text("utf-8")[:-40], encoding="utf-8")
    assert len(MODULE["kept"](TARGET)) == 1
    assert ran("a", "b")[0] == 1
    assert len(MODULE["kept"](TARGET)) == 2


def test_a_target_that_does_not_run_is_tried_again_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_wheel(*_: object) -> None:
        raise Unsupported("no such wheel", "ask for another")

    with monkeypatch.context() as broken:
        broken.setitem(WHERE, "observe", no_wheel)
        assert ran("a") == (0, f"{TARGET}: does not run: no such wheel: ask for another")
    assert "did not run earlier: no such wheel" in ran("a")[1]
    assert ran("a", again=True)[0] == 1


@pytest.mark.parametrize(
    ("seen", "mark"),
    [
        (Observation("sparse", skips_zeros=True), "s"),
        (Observation("dense", skips_zeros=True), "d"),
        (Observation("miscomputes", skips_zeros=True), "w"),
        (Observation("fails", skips_zeros=True), "r"),
        (Observation("fails", skips_zeros=True, crashed=True), "c"),
        (Observation("fails", skips_zeros=True, crashed=True, unrelated=True), "u"),
        (Observation("unknown", skips_zeros=True), "?"),
        (
            Observation(
                "dense",
                skips_zeros=True,
                comparisons=(
                    Comparison("", 0.0, identical=True, finite=True, number=0, constant=True),
                ),
            ),
            "=",
        ),
    ],
)
def test_a_letter_tells_what_the_rules_are_compared_with(seen: Observation, mark: str) -> None:
    assert MODULE["mark"](seen) == mark
    back = MODULE["observation"](mark)
    assert (back.verdict, back.crashed or mark == "u", back.unrelated, back.constant) == (
        seen.verdict,
        seen.crashed,
        seen.unrelated,
        seen.constant,
    )


def test_a_change_explains_what_the_rules_say_without_it(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "pruned convolution head")
    places = ("litert==2.1.5@nehalem", "w", "r", "litert==2.1.4@nehalem")
    assert MODULE["explaining"](Model(case.write(tmp_path)), *places) == ("reshape-checks-input",)
    back = ("litert==2.1.5@nehalem", "s", "r", "litert==2.1.4@nehalem")
    assert MODULE["explaining"](Model(case.write(tmp_path)), *back) == ()


def test_a_change_explains_only_what_it_changes(tmp_path: Path) -> None:
    """LiteRT.js does not report that a subgraph cannot be set up: the rules' verdict stays."""
    places = ("litert-js==2.5.2", "w", "c", "litert-js==2.0.0")
    found = [
        MODULE["explaining"](Model(case.write(tmp_path)), *places)
        for case in CASES
        if case.name in {"pruned convolution head", "3x3 convolution of averages"}
    ]
    assert sorted(found) == [(), ("reshape-checks-input",)]


def test_classes_are_kept_until_corpus_or_rules_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WHERE, "CASES", (CASE,))
    assert MODULE["classes"]() == (("average",),)
    (kept,) = tmp_path.glob("classes-*.json")
    kept.write_text('[["kept"]]', encoding="utf-8")
    assert MODULE["classes"]() == (("kept",),)
    corpus = tmp_path / "corpus.py"
    corpus.write_text("another", encoding="utf-8")
    monkeypatch.setitem(WHERE, "CORPUS", corpus)
    assert MODULE["classes"]() == (("average",),)
