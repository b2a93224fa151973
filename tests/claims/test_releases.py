"""The rules against earlier releases of the runtimes; test_corpus.py has what is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from claims.observing import observing, rules
from corpus import CASES
from pytest_sparsity import xnnpack
from pytest_sparsity.diagnosis.conclusion import agree
from pytest_sparsity.model import Model

DISTRIBUTIONS = {"litert": "ai-edge-litert", "tensorflow": "tensorflow"}
# The oldest of each runtime that pyproject.toml allows, and those between two changes of the rules.
RELEASES = [
    ("litert", "2.1.0", "litert@nehalem"),
    ("litert", "2.1.4", "litert@nehalem"),
    ("litert", "2.1.6", "litert@nehalem"),
    ("litert", "2.2.0", "litert@nehalem"),
    ("tensorflow", "2.19.0", "tensorflow"),
    ("tensorflow", "2.20.0", "tensorflow"),
]


def installed(distribution: str, version: str, store: Path) -> Path:
    """A folder with one wheel, without what it depends on; from then on it is there."""
    folder = store / f"{distribution}-{version}"
    if not folder.exists():
        unfinished = store / f"unfinished-{distribution}-{version}"
        shutil.rmtree(unfinished, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
        command += ["--only-binary", ":all:", "--target", str(unfinished)]
        done = subprocess.run(
            [*command, f"{distribution}=={version}"], check=False, capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"{distribution} {version} cannot be installed: {done.stderr[-300:]}")
        # The wheel of LiteRT 2.1.2 has an empty package in place of the schema's.
        shutil.rmtree(unfinished / "tflite", ignore_errors=True)
        unfinished.rename(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "version", "target"), RELEASES, ids=[f"{r}-{v}" for r, v, _ in RELEASES]
)
def test_rules_equal_observation(
    runtime: str,
    version: str,
    target: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    store = Path(request.config.cache.mkdir("releases"))
    folder = installed(DISTRIBUTIONS[runtime], version, store)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    disagreements = []
    with observing(target) as observer:
        assert observer.worker.hello["version"] == version
        for case in CASES:
            ruled = rules(Model(case.write(tmp_path)), observer.target)
            assert (ruled.release.version, ruled.version) == (version, version)
            seen = observer.observe(ruled.model, profile=False)
            if not agree(ruled, seen):
                disagreements.append(f"{case.name}: {xnnpack.verdict(ruled)}, observed {seen}")
    assert not disagreements
