"""What is said about the races of a test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_sparsity.plugin.state import OPTIONS, marked

if TYPE_CHECKING:
    import pytest

    from pytest_sparsity.targets import Target


@dataclass(frozen=True)
class RaceSettings:
    """What a test's marker, or else the options, say about its races.

    Attributes:
        target: where they run.
        threads: of the runtime.
        budget: seconds per race.
        inputs: what the models are run on, None to draw it.
        shapes: of the inputs, None for those of the file.
    """

    target: str | Target
    threads: int
    budget: float
    inputs: Any = field(default=None, repr=False)
    shapes: Any = field(default=None, repr=False)

    @classmethod
    def of(cls, item: pytest.Item, target: str | None = None) -> RaceSettings:
        """Return the settings of a test that runs on `target`, or where its marker says.

        Raises:
            pytest.UsageError: an argument of the marker is none of the valid ones.
        """
        options, given = item.config.stash[OPTIONS], marked(item)
        marked_target, budget = given.get("target"), given.get("budget")
        return cls(
            target=target or marked_target or options.targets[0],
            threads=given.get("threads", 1),
            budget=options.budget if budget is None else budget,
            inputs=given.get("inputs"),
            shapes=given.get("shapes"),
        )


def target_of(item: pytest.Item) -> str:
    """Return the name of the target of a test's races; empty if it uses none of the fixtures."""
    if "_sparsity_settings" not in getattr(item, "fixturenames", ()):
        return ""
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return str(RaceSettings.of(item, parameters.get("_sparsity_settings")).target)
