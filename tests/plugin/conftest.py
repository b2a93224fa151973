"""A project under test: two models, scripted targets, and whatever test files are written."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

# What runs inside this process import is forgotten after each, and imported again by the next:
# slow for all, and numpy refuses it. So all of it is imported here.
for name in (
    "jinja2",
    "numpy",
    "pytest_sparsity.baseline.unused",
    "pytest_sparsity.plugin.record",
    "pytest_sparsity.report.document",
    "scipy.special",
    "scripted",
    "pytest_sparsity.model.schema",
):
    importlib.import_module(name)

TESTS = Path(__file__).parent.parent
FASTER = {"dense.tflite": [2e-3], "sparse.tflite": [1e-3, 1.01e-3, 0.99e-3]}

# Tests run in the order in which they are written, unless that is what is tested.
COMMON = "-ra", "-p", "no:randomly"

RACE = """
    def test_sparse_beats_dense(race):
        assert race("dense.tflite", "sparse.tflite").speedup >= 1.5
"""


class Project:
    """A folder with a script for its targets."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.script: dict[str, Any] = {"seconds": dict(FASTER)}
        pytester.makeconftest((TESTS / "scripted.py").read_text())
        for kind in ("dense", "sparse"):
            shutil.copy(TESTS / "data" / f"cnn_{kind}.tflite", self.path / f"{kind}.tflite")

    def copy(self, name: str, other: str) -> None:
        """Copy a model; what it costs too."""
        shutil.copy(self.path / name, self.path / other)
        self.script["seconds"][other] = self.script["seconds"][name]

    def test_file(self, text: str = RACE, name: str = "test_claims") -> None:
        self.pytester.makepyfile(**{name: text})

    def run(self, *arguments: str) -> pytest.RunResult:
        self._write()
        return self.pytester.runpytest(*COMMON, "-p", "no:cacheprovider", *arguments)

    def run_apart(self, *arguments: str) -> pytest.RunResult:
        """Run in a process of its own."""
        self._write()
        return self.pytester.runpytest_subprocess(*COMMON, *arguments)

    def _write(self) -> None:
        (self.path / "script.json").write_text(json.dumps(self.script))

    def recorded_name(self, name: str) -> str:
        """Return the name that a model has once it is recorded."""
        digest = hashlib.sha256((self.path / name).read_bytes()).hexdigest()
        return f"{digest[:16]}.tflite"

    def read(self, name: str) -> Any:
        return json.loads((self.path / name).read_text())


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pytest inside a worker of xdist is none itself."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    # pytest shortens explanations unless it thinks that it runs in CI.
    for name in ("CI", "BUILD_NUMBER", "GITHUB_ACTIONS", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    return Project(pytester)
