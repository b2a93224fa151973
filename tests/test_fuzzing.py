"""What fuzzing began with and what it found, replayed; and that it would find something."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fuzzing
from pytest_sparsity import encoding, model
from pytest_sparsity.baseline import files
from pytest_sparsity.model import validation
from pytest_sparsity.xnnpack import prediction

CASES = fuzzing.cases()
# Bytes: a seed is there to be read by people, too.
LARGEST = 10_000


@pytest.mark.parametrize(
    ("subject", "path"), CASES, ids=[f"{subject}-{path.name}" for subject, path in CASES]
)
def test_replay(subject: str, path: Path) -> None:
    assert path.stat().st_size <= LARGEST
    fuzzing.SUBJECTS[subject](path.read_bytes())


def test_every_kind_has_seeds() -> None:
    for subject in fuzzing.SUBJECTS:
        seeds, _ = fuzzing.folders(subject)
        assert list(seeds.iterdir())


REAL_ENCODE = encoding.encode


def _nothing(*_: Any) -> None: ...


def _forgets(*_: Any) -> None:
    raise IndexError


def _odd_finding(*_: Any) -> list[None]:
    return [None]


def _first_lost(dense: Any, block: int) -> Any:
    lossy = np.array(dense)
    lossy.reshape(-1)[np.flatnonzero(lossy)[:1]] = 0
    return REAL_ENCODE(lossy, block)


def _unchecked(value: dict[str, Any]) -> Any:
    return files.Ratio(**value)


PLANTED: list[tuple[str, Any, str, Callable[..., Any]]] = [
    ("reader", validation, "check", _nothing),
    ("reader", model, "find_layers", _forgets),
    ("rules", prediction, "unwritten_outputs", _odd_finding),
    ("rewriting", encoding, "encode", _first_lost),
    ("encoding", encoding, "_check_levels", _nothing),
    ("baselines", files, "_ratio", _unchecked),
]


@pytest.mark.parametrize(("subject", "where", "name", "fault"), PLANTED)
def test_a_planted_fault_is_found(
    subject: str, where: Any, name: str, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somewhere among the committed files and 2,000 changes of them."""
    monkeypatch.setattr(where, name, fault)
    with pytest.raises((AssertionError, AttributeError, LookupError, TypeError, ValueError)):
        search(subject)


def search(subject: str) -> None:
    rng = random.Random(0)
    committed = [path.read_bytes() for kind, path in CASES if kind == subject]
    for data in committed:
        fuzzing.SUBJECTS[subject](data)
    for _ in range(2000):
        fuzzing.SUBJECTS[subject](changed(rng.choice(committed), subject, rng))


def changed(data: bytes, subject: str, rng: random.Random) -> bytes:
    structured = fuzzing.mutated(data, rng) if fuzzing.KINDS[subject] == "models" else None
    if structured is not None:
        return structured
    content = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)
