"""Baselines whose test does not exist any more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_sparsity.baseline.files import SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_sparsity.baseline.store import Store


@dataclass(frozen=True)
class Known:
    """What a run knows of a test module.

    Attributes:
        module: the module itself, None if its file does not exist any more.
        tests: the tests that were collected, with their parameters.
        complete: whether the run was not told to leave any test of the module out.
    """

    module: object = None
    tests: set[str] = field(default_factory=set)
    complete: bool = True

    def has(self, test: str) -> bool:
        """Return whether a test exists, or may exist as far as is known."""
        if self.complete or test in self.tests:
            return test in self.tests
        found = self.module
        for name in test.partition("[")[0].split(SEPARATOR):
            found = getattr(found, name, None)
        return found is not None


def unused(store: Store, root: Path, known: Mapping[str, Known]) -> list[str]:
    """Return `FILE  TEST` for every test that has values and does not exist.

    Nothing is said about the tests of a module that exists and that the run did not look at.

    Args:
        store: the folder of baselines.
        root: the folder that the test modules' paths are relative to.
        known: by test module, its path without the suffix.
    """
    found = []
    for file, module, test in store.entries():
        if module in known:
            gone = not known[module].has(test)
        else:
            there = root / module
            gone = not any(there.parent.glob(f"{there.name}.*"))
        if gone:
            found.append(f"{store.shown(file)}  {test}")
    return found
