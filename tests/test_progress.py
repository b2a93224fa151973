"""One rewritten line on a terminal, and nothing anywhere else."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_sparsity import progress
from terminals import PROCESS, on_a_terminal, steps

DATA = Path(__file__).parent / "data"
FILES = [str(DATA / "cnn_dense.tflite"), str(DATA / "cnn_sparse.tflite")]


def test_steps_are_told_with_what_they_are_part_of() -> None:
    told: list[str] = []
    with progress.shown(told.append):
        with progress.step("a network"):
            with progress.step("building"):
                pass
            with pytest.raises(ZeroDivisionError), progress.step("training"):
                raise ZeroDivisionError
        assert told == [
            "a network", "a network: building", "a network",
            "a network: training", "a network", "",
        ]  # fmt: skip
    with progress.step("unseen"):
        pass
    assert len(told) == 6


@pytest.mark.parametrize(
    ("columns", "column", "text", "shown"),
    [
        (80, 0, "racing", "racing"),
        (80, 12, "racing", " racing"),
        (40, 0, "x" * 50, "x" * 35 + "..."),
        (40, 10, "x" * 50, " " + "x" * 25 + "..."),
        (40, 30, "x" * 50, ""),
        (80, 12, "", ""),
        (80, 0, "a\x1b[2J\nb", "a\\x1b[2J\\nb"),
    ],
)
def test_a_line_fits_and_leaves_the_cursor_where_it_was(
    monkeypatch: pytest.MonkeyPatch, columns: int, column: int, text: str, shown: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = io.StringIO()
    progress.ProgressLine(stream, lambda: column)(text)
    assert stream.getvalue() == f"\x1b7{shown}\x1b[K\x1b8"
    assert column + len(shown) < columns


def test_what_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    assert progress.is_terminal(Terminal())
    assert not progress.is_terminal(io.StringIO())
    assert not progress.is_terminal(None)
    monkeypatch.setenv("TERM", "dumb")
    assert not progress.is_terminal(Terminal())


RACE = [
    sys.executable, "-m", "pytest_sparsity", "race", *FILES, "--target=litert", "--budget=3",
]  # fmt: skip


def test_a_race_on_a_terminal_tells_its_processes(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    written = on_a_terminal(RACE, tmp_path)
    told = steps(written)
    assert "checking the outputs of cnn_sparse.tflite on litert" in told
    assert any(re.fullmatch(f"control: {PROCESS}", text) for text in told)
    assert any(re.fullmatch(PROCESS, text) for text in told) or "cannot measure" in written
    assert told[-1] == "", "nothing is left of it"


@pytest.mark.parametrize("arguments", [["--json"], []])
def test_nothing_is_told_without_a_terminal_or_with_json(
    tmp_path: Path, arguments: list[str]
) -> None:
    pytest.importorskip("ai_edge_litert")
    if arguments:
        assert "\x1b" not in on_a_terminal([*RACE, *arguments], tmp_path)
    else:
        # A busy machine may not be able to measure: that is told in one line, with status 3.
        done = subprocess.run(RACE, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 3)
        assert "left at most" not in done.stdout + done.stderr
        assert "\x1b" not in done.stdout + done.stderr
