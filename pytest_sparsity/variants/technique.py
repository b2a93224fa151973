"""What the two ways to prune have in common: single weights by magnitude, and whole channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.patterns import Pattern
    from pytest_sparsity.variants.counting import PrunedWeight
    from pytest_sparsity.variants.networks import KerasModel
    from pytest_sparsity.variants.schedules import PruningSchedule

Finetune: TypeAlias = Callable[[Any, list[Any]], object]

LINEAR = 2
"""The rank of a dense layer's kernel."""
NEGLECTED = (
    "finetune(model, callbacks) trained without the callbacks: hand them on, as in"
    " model.fit(x, y, callbacks=callbacks)"
)
"""What is said of a training that no mask was renewed in."""


@dataclass(frozen=True)
class Obstacle:
    """Why a layer cannot be pruned so.

    Attributes:
        reason: one clause.
        told: whether that is news to whoever asked for all layers; else it lies in the pattern.
    """

    reason: str
    told: bool = True


@dataclass(frozen=True)
class Pruned:
    """What became of a network.

    Attributes:
        network: with zeros; the one that was given, or what training made of it.
        smaller: without the outputs that are zero, None if they stay.
        report: what became of the weights.
    """

    network: KerasModel
    smaller: KerasModel | None
    report: tuple[PrunedWeight, ...]


class Technique(Protocol):
    """A way to prune."""

    @property
    def pattern(self) -> Pattern:
        """Of the zeros."""
        ...

    def check(self, model: KerasModel) -> None:
        """Raise ValueError if a network cannot be pruned so at all."""
        ...

    def obstacle(self, model: KerasModel, layer: Any) -> Obstacle | None:
        """Return why a layer of the network cannot be pruned so, None if it can."""
        ...

    def prune(self, model: KerasModel, layers: Sequence[Any], finetune: Finetune | None) -> Pruned:
        """Prune layers without an obstacle, in place, and count their zeros.

        Raises:
            ValueError: that did not do what was asked, or cannot be done; the message says why.
        """
        ...


@dataclass(frozen=True)
class ByMagnitude:
    """What is asked of a technique that makes the smallest weights zero.

    Attributes:
        pattern: of the zeros.
        schedule: of the masks.
        asked: the sparsity that the schedule is to end with.
    """

    pattern: Pattern
    schedule: PruningSchedule
    asked: float

    def check(self, model: Any) -> None:
        """Every network will do."""
