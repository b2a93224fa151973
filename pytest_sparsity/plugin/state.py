"""What the hooks and the fixtures share, and the marker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_sparsity.plugin.options import Options, demand, target_named

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_sparsity.baseline import Suite
    from pytest_sparsity.plugin.record import TestRecord
    from pytest_sparsity.plugin.two_files import TwoFiles
    from pytest_sparsity.racing import Controls
    from pytest_sparsity.report.replay import ReplayClock


class Collected:
    """What is known of a test module.

    Attributes:
        module: the module itself.
        tests: the tests that were collected, with parameters.
    """

    def __init__(self) -> None:
        self.module: object = None
        self.tests: set[str] = set()


OPTIONS: pytest.StashKey[Options] = pytest.StashKey()
CONTROLS: pytest.StashKey[Controls] = pytest.StashKey()
SUITE: pytest.StashKey[Suite] = pytest.StashKey()
# Of `pytest_sparsity.suite`, once a test of it is collected.
TWO_FILES: pytest.StashKey[TwoFiles] = pytest.StashKey()
# By test module, its path from the root without the suffix.
COLLECTED: pytest.StashKey[dict[str, Collected]] = pytest.StashKey()
# Of the test that is running, once it has used one of the fixtures.
RECORD: pytest.StashKey[TestRecord] = pytest.StashKey()
# Of an item whose races pytest-benchmark is to have.
CLOCK: pytest.StashKey[ReplayClock] = pytest.StashKey()

Function = TypeVar("Function", bound="Callable[..., object]")
ARGUMENTS = ("target", "threads", "budget", "inputs", "shapes")


def called(name: str) -> Callable[[Function], Function]:
    """Give a function the name that a fixture has, which a wrong call of it is reported with."""

    def name_it(function: Function) -> Function:
        function.__name__ = function.__qualname__ = name
        return function

    return name_it


def record_of(config: pytest.Config) -> TestRecord:
    """Return what the running test did, to be added to."""
    from pytest_sparsity.plugin.record import TestRecord

    return config.stash.setdefault(RECORD, TestRecord())


def marked(item: pytest.Item) -> dict[str, Any]:
    """Return the checked arguments of a test's `race` markers; of several the closest counts.

    Raises:
        pytest.UsageError: one of them is none of the valid ones.
    """
    given: dict[str, Any] = {}
    place = f"of the marker race of {item.nodeid}"
    for marker in item.iter_markers("race"):
        demand(not marker.args, f"an argument {place}", marker.args, "keywords only")
        for name, value in marker.kwargs.items():
            demand(name in ARGUMENTS, f"an argument {place}", name, ", ".join(ARGUMENTS))
            given.setdefault(name, value)
    threads, budget = given.get("threads", 1), given.get("budget")
    demand(type(threads) is int and threads > 0, f"threads {place}", threads, "1 or more")
    positive = budget is None or (isinstance(budget, int | float) and budget > 0)
    demand(positive, f"budget {place}", budget, "seconds, more than 0")
    if given.get("target") is not None:
        target_named(given["target"])
    return given
