"""What docs/upstream/ reports is still so: each script writes a file that shows the defect."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from claims.observing import observing
from corpus import CASES
from pytest_sparsity.model import Model

UPSTREAM = Path(__file__).parents[2] / "docs" / "upstream"
SCRIPTS = {path.parent.name: path for path in sorted(UPSTREAM.glob("*/write.py"))}
SHOWN = [
    pytest.param(name, target, verdict, marks=pytest.mark.slow if "@" in target else ())
    for name, script in SCRIPTS.items()
    for target, verdict in runpy.run_path(str(script))["SHOWS"].items()
]
LARGEST = 10_000


def written(name: str, folder: Path) -> Path:
    """The file of a report, as its reader would write it."""
    path = folder / "model.tflite"
    subprocess.run([sys.executable, str(SCRIPTS[name]), str(path)], check=True, timeout=300)
    return path


def compared(path: Path) -> subprocess.CompletedProcess[str]:
    """What the script says that needs nothing of ours."""
    command = [sys.executable, str(UPSTREAM / "compare.py"), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize(("name", "target", "verdict"), SHOWN)
def test_the_defect_shows_where_it_is_said_to(
    name: str, target: str, verdict: str, tmp_path: Path
) -> None:
    path = written(name, tmp_path)
    assert path.stat().st_size < LARGEST
    with observing(target) as observer:
        seen = observer.observe(Model(path), profile=False)
    assert seen.verdict == verdict, f"fixed, or changed: {seen}"


def test_the_script_without_us_tells_right_from_wrong(tmp_path: Path) -> None:
    with observing("litert"):
        wrong = compared(written("blocks-version-12", tmp_path))
        right = compared(next(case for case in CASES if case.name == "average").write(tmp_path))
    assert (wrong.returncode, right.returncode) == (1, 0), wrong.stderr + right.stderr
    assert "largest difference" in wrong.stdout
