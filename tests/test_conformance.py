"""The conformance of the targets on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import CASES, Case
from pytest_sparsity.targets import Target, Worker

HERE = ("litert", "tflite-runtime", "tensorflow", "litert-js", "litert-js-compat")


@pytest.fixture(scope="module")
def workers() -> Iterator[dict[str, Worker]]:
    """One worker per target, as long as it lives."""
    opened: dict[str, Worker] = {}
    yield opened
    for worker in opened.values():
        worker.close()


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_conformance(
    name: str,
    case: Case,
    workers: dict[str, Worker],
    tmp_path: Path,
) -> None:
    missing = Target.of(name).missing()
    if missing is not None:
        pytest.skip(str(missing))
    if name not in workers or workers[name].ended:
        workers[name] = Target.of(name).open()
    case(workers[name], tmp_path)
