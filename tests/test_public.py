"""What is public: said in one place, documented, and enough for what users are shown."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_sparsity
from pytest_sparsity import PUBLIC_MODULES

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference" / "api.md"
SHOWN = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "docs" / "examples").rglob("*.py")),
]
INTERNAL = {
    "BrowserError": "ends the relay of a browser, with a line",
    "CutError": "ends the relay of a host, with a line",
    "Ended": "of a worker on a host, crosses the line",
    "Gone": "ends what ran on a host",
    "GoneError": "ends the driver of a phone, with a line",
    "Joined": "ends a copy of a worker",
    "LacksError": "becomes Unsupported",
    "LateError": "the race has spent its budget",
    "LogError": "is a line of the command that reads logs",
    "NotStrict": "becomes an error of whoever reads the file",
    "RefusedError": "crosses the protocol as a line",
    "RequestError": "crosses the protocol as a line",
    "Stop": "ends a series of processes",
    "TracebackInTheChild": "the cause of a CrashError",
    "Twice": "a NotStrict",
    "Untellable": "the fingerprint then looks at the result instead",
}
"""Exceptions that nobody meets."""

IMPORTED = re.compile(
    r"^\s*(?:from (pytest_sparsity[\w.]*) import (.+)|import (pytest_sparsity\S*))"
)


def defined() -> Iterator[type]:
    """The classes of the package."""
    for info in pkgutil.walk_packages(pytest_sparsity.__path__, "pytest_sparsity."):
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == info.name:
                yield value


def test_errors_that_users_meet_can_be_imported() -> None:
    errors = {
        c.__name__ for c in defined() if issubclass(c, BaseException) and c.__name__[0] != "_"
    }
    assert errors - set(pytest_sparsity.__all__) == set(INTERNAL)


def test_public_names_are_in_order_and_in_the_reference() -> None:
    names = [name for name in pytest_sparsity.__all__ if name != "PUBLIC_MODULES"]
    assert names == sorted(names)
    entry = re.compile(r"auto(?:function|class|exception):: (\w+)$", re.MULTILINE)
    own, _, _ = REFERENCE.read_text().partition("py:module:: pytest_sparsity.")
    documented = entry.findall(own)
    assert sorted(documented) == names


def test_public_modules_are_named_in_the_reference() -> None:
    sentence = REFERENCE.read_text().partition("All else is private")[0]
    named = re.findall(r"`(?:pytest_sparsity\.)?([a-z]+)`", sentence)
    assert sorted(set(named) - {"pytest_sparsity"}) == sorted(PUBLIC_MODULES)
    for name in PUBLIC_MODULES:
        importlib.import_module(f"pytest_sparsity.{name}")


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_users_are_shown_imports_what_is_public(path: Path) -> None:
    allowed = {f"pytest_sparsity.{name}" for name in PUBLIC_MODULES}
    for line in path.read_text().splitlines():
        found = IMPORTED.match(line)
        if not found:
            continue
        module, names, whole = found.groups()
        if module == "pytest_sparsity":
            words = set(re.findall(r"\w+", names.partition(" as ")[0]))
            assert words <= {*pytest_sparsity.__all__, *PUBLIC_MODULES}, line
        else:
            assert (whole or module) in {*allowed, "pytest_sparsity"}, line
