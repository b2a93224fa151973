"""docs/compatibility.md against what the newest releases do today, and the nightly against it."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from claims.observing import observing
from pytest_sparsity.model import Model
from pytest_sparsity.targets import Target, install

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DATA: dict[str, Any] = json.loads((ROOT / "docs/compatibility.json").read_text("utf-8"))
VERSIONS = runpy.run_path(str(ROOT / "benchmarks/versions.py"), run_name="versions")
SERIES = (
    "litert",
    "litert@nehalem",
    "litert@cortex-a53",
    "litert@cortex-a76",
    "litert@sme",
    "litert-js",
    "tensorflow",
    "tflite-runtime",
)
NIGHTLIES = ("litert-nightly", "litert-nightly@nehalem")


def newest(series: str) -> str:
    """The target of the newest release of a runtime and CPU in the table."""
    names: list[str] = [n for n, facts in DATA["targets"].items() if facts["series"] == series]
    return [name for name in names if "nightly" not in name][-1]


def marks(target: str) -> dict[str, str]:
    """What the table says of a target, by network; nothing for what was not run."""
    place = list(DATA["targets"]).index(target)
    return {
        name: letters[place] for name, letters in DATA["marks"].items() if letters[place] != "."
    }


def changed(target: str, row: dict[str, str], scratch: Path) -> list[str]:
    """How a target differs from a row of the table."""
    told = []
    words = VERSIONS["compatibility"].MARKS
    with observing(target) as observer:
        for name, write in VERSIONS["networks"]().items():
            if name in row:
                seen = observer.observe(Model(write(scratch)), profile=False)
                mark = VERSIONS["mark"](seen)
                if mark != row[name]:
                    detail = VERSIONS["detail"](seen)
                    told.append(f"{name}: {words[row[name]]} is now {words[mark]} ({detail})")
    return told


@pytest.mark.parametrize("series", SERIES)
def test_the_newest_row_is_what_is_seen(series: str, tmp_path: Path) -> None:
    target = newest(series)
    install(target, print)
    row = marks(target)
    assert len(row) > 30
    assert not changed(target, row, tmp_path)


@pytest.mark.parametrize("target", NIGHTLIES)
def test_the_nightly_changes_no_verdict(target: str, tmp_path: Path) -> None:
    """The day on which a successor of XNNPACK takes the sparse kernels away fails here."""
    install(target, print)
    released = newest(target.replace("-nightly", ""))
    told = changed(target, marks(released), tmp_path)
    assert not told, f"{Target.of(target).version()} differs from {released}: {told}"


def test_a_change_of_a_verdict_is_told(tmp_path: Path) -> None:
    """The guard itself: a table that says something else than is seen."""
    row = marks(newest("litert"))
    name = next(name for name, mark in row.items() if mark == "d")
    told = changed("litert", {name: "s"}, tmp_path)
    assert told == [f"{name}: sparse is now dense ()"]
