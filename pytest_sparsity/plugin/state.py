"""What the hooks and the fixtures share, and the marker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_sparsity.baseline import Suite
from pytest_sparsity.baseline.store import Collected
from pytest_sparsity.plugin.evidence import Evidence
from pytest_sparsity.plugin.options import Options, demand, target_named
from pytest_sparsity.race import Controls
from pytest_sparsity.report.replay import ReplayClock

if TYPE_CHECKING:
    from pytest_sparsity.targets import Target

OPTIONS = pytest.StashKey[Options]()
CONTROLS = pytest.StashKey[Controls]()
SUITE = pytest.StashKey[Suite]()
# By test module, its path from the root without the suffix.
COLLECTED = pytest.StashKey[dict[str, Collected]]()
# Of the test that is running.
EVIDENCE = pytest.StashKey[Evidence]()
# Of an item whose races pytest-benchmark is to have.
CLOCK = pytest.StashKey[ReplayClock]()

ARGUMENTS = ("target", "threads", "budget")


@dataclass(frozen=True)
class Settings:
    """What a test's marker, or else the options, say about its races.

    Attributes:
        target: where they run.
        threads: of the runtime.
        budget: seconds per race.
    """

    target: Target
    threads: int
    budget: float

    @classmethod
    def of(cls, item: pytest.Item) -> Settings:
        """Return the settings of a test; of several markers the closest one counts.

        Raises:
            pytest.UsageError: an argument of the marker is none of the valid ones.
        """
        options = item.config.stash[OPTIONS]
        given = marked(item)
        target, budget = given.get("target"), given.get("budget")
        return cls(
            target=target_named(options.targets[0] if target is None else target),
            threads=given.get("threads", 1),
            budget=options.budget if budget is None else budget,
        )

    def at(self, target: Target) -> Settings:
        """Return the same on another target."""
        return replace(self, target=target)


def marked(node: pytest.Item) -> dict[str, Any]:
    """Return the checked arguments of a test's `race` markers, the closest ones first.

    Raises:
        pytest.UsageError: one of them is none of the valid ones.
    """
    given: dict[str, Any] = {}
    for marker in node.iter_markers("race"):
        place = f"{node.nodeid}: marker race"
        if marker.args:
            raise pytest.UsageError(f"{place} takes keyword arguments only: {', '.join(ARGUMENTS)}")
        for name, value in marker.kwargs.items():
            demand(name in ARGUMENTS, f"argument of {place}", name, ", ".join(ARGUMENTS))
            given.setdefault(name, value)
    threads, budget = given.get("threads", 1), given.get("budget")
    place = f"of {node.nodeid}'s marker race"
    demand(type(threads) is int and threads > 0, f"threads {place}", threads, "1 or more")
    positive = budget is None or (isinstance(budget, int | float) and budget > 0)
    demand(positive, f"budget {place}", budget, "seconds, more than 0")
    if given.get("target") is not None:
        target_named(given["target"])
    return given
