"""The budget of a race: the seconds that its processes may take, and those that they took."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Stop(Exception):  # noqa: N818  (the end of a series, not an error)
    """No further process can be drawn.

    Attributes:
        reason: `"budget"` or `"noisy clock"`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Budget:
    """Seconds for processes that are drawn one after another.

    Attributes:
        seconds: for all of them; what passes between two does not count.
        now: monotonic seconds.
        expected: what a process will probably cost, once the first one has planned for the others;
            0 before that.
        costs: of every process so far, the one that failed among them.
        deadline: when the budget ends on that clock, if nothing but the process at hand happens.
    """

    seconds: float
    now: Callable[[], float]
    expected: float = 0.0
    costs: list[float] = field(default_factory=list)
    deadline: float = math.inf

    @property
    def spent(self) -> float:
        """The seconds that processes took."""
        return sum(self.costs)

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self.seconds - self.spent

    @property
    def process_seconds(self) -> float:
        """Forecast of one process: the dearest so far, or what the first one foretold.

        The first does not tell by what it took itself, since it plans for the others.
        """
        return max(self.costs[1:], default=0) or self.expected or sum(self.costs)

    @contextmanager
    def process(self) -> Iterator[None]:
        """Count what happens within as one process."""
        begun = self.now()
        self.deadline = begun + self.left
        try:
            yield
        finally:
            self.costs.append(self.now() - begun)

    def demand_processes(self, number: int) -> None:
        """Raise `Stop` unless so many further processes fit in."""
        if self.process_seconds * number > self.left:
            raise Stop("budget")

    def demand(self, seconds: float) -> None:
        """Raise `Stop` unless the process at hand may take so much more."""
        if self.now() + seconds > self.deadline:
            raise Stop("budget")
