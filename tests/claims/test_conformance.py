"""The conformance of the targets that emulate a CPU, and of those in browsers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from conformance import CASES, Case, Workers
from pytest_sparsity.targets.target import all_targets

ELSEWHERE = tuple(target.name for target in all_targets() if target.host)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with closing(Workers()) as opened:
        yield opened


@pytest.mark.filterwarnings("ignore:Chromium runs without its sandbox")
@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_conformance(name: str, case: Case, workers: Workers, tmp_path: Path) -> None:
    case(workers.on(name), tmp_path)
