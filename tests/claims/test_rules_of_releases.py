"""The rules against earlier releases of the runtimes; test_corpus.py has what is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from claims.observing import observing, rules
from corpus import CASES
from pytest_sparsity import xnnpack
from pytest_sparsity.diagnosis.contradictions import agree
from pytest_sparsity.model import Model
from pytest_sparsity.targets import install

# The oldest of each runtime that pyproject.toml allows, and those between two changes of the rules.
RELEASES = [
    "litert==2.1.0@nehalem",
    "litert==2.1.4@nehalem",
    "litert==2.1.6@nehalem",
    "litert==2.2.0@nehalem",
    "tensorflow==2.19.0",
    "tensorflow==2.20.0",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", RELEASES)
def test_rules_equal_observation(name: str, tmp_path: Path) -> None:
    install(name, print)
    disagreements = []
    with observing(name) as observer:
        for case in CASES:
            ruled = rules(Model(case.write(tmp_path)), observer.target)
            assert ruled.release.version == ruled.version, "a release of the table"
            seen = observer.observe(ruled.model, profile=False)
            if not agree(ruled, seen):
                disagreements.append(f"{case.name}: {xnnpack.verdict(ruled)}, observed {seen}")
    assert not disagreements
