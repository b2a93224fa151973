"""What `python benchmarks` tells of a run and of the last one."""

from __future__ import annotations

import runpy
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "benchmarks"
MODULE = runpy.run_path(str(FOLDER / "__main__.py"), run_name="benchmarks")


def test_a_figure_stands_beside_the_last_one() -> None:
    now, then = {"a: ms": 3.0, "b: MB": 2.0}, {"a: ms": 2.0, "c: s": 1.0}
    rows = [row.split() for row in MODULE["rows"](now, then)]
    assert rows == [
        ["a:", "ms", "3", "2", "1.50"],
        ["c:", "s", "-", "1", "-"],
        ["b:", "MB", "2", "-", "-"],
    ]


def test_every_benchmark_of_the_list_has_figures() -> None:
    for name in MODULE["NAMES"]:
        assert "def measure() -> dict[str, float]:" in (FOLDER / f"{name}.py").read_text("utf-8")
