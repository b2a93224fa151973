"""Schedules of pruning, as TFMOT takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn


@dataclass(frozen=True)
class Schedule:
    """Parameters of a TFMOT schedule, as its users write them.

    Attributes:
        final: the sparsity it ends with.
        initial: where a `PolynomialDecay` starts; None makes it a `ConstantSparsity`.
        begin: the first step at which masks are updated.
        end: the last possible one; -1 for a constant sparsity without end.
        frequency: steps from one update to the next.
        power: of the polynomial.
    """

    final: float
    initial: float | None = None
    begin: int = 0
    end: int = -1
    frequency: int = 1
    power: int = 3

    def build(self) -> Any:
        """The TFMOT object; needs `pytest-sparsity[build]`."""
        import tensorflow_model_optimization as tfmot

        steps = {"begin_step": self.begin, "end_step": self.end, "frequency": self.frequency}
        if self.initial is None:
            return tfmot.sparsity.keras.ConstantSparsity(self.final, **steps)
        polynomial = tfmot.sparsity.keras.PolynomialDecay
        return polynomial(self.initial, self.final, power=self.power, **steps)

    def updates(self, steps: int) -> tuple[int, ...]:
        """The steps, of so many from 0 on, at which masks are updated."""
        last = steps - 1 if self.end < 0 else min(self.end, steps - 1)
        return tuple(range(self.begin, last + 1, self.frequency))

    def sparsity_at(self, step: int) -> float:
        """The sparsity asked for at a step (pruning_schedule.py, TFMOT 0.8.1)."""
        if self.initial is None:
            return self.final
        done = (step - self.begin) / (self.end - self.begin)
        left = 1 - min(max(done, 0.0), 1.0)
        return self.final + (self.initial - self.final) * left**self.power


@st.composite
def schedules(draw: DrawFn, *, steps: int = 100) -> Schedule:  # noqa: D417
    """Schedules that TFMOT accepts, not all of which reach their final sparsity in time.

    Args:
        steps: no polynomial ends later.
    """
    sparsity = st.sampled_from([0.0, 0.5, 0.75, 0.8, 0.9, 0.95, 0.99])
    begin = draw(st.integers(0, steps - 1))
    frequency = draw(st.sampled_from([1, 2, 10, 100]))
    if draw(st.booleans()):
        low, high = sorted([draw(sparsity), draw(sparsity)])
        end, power = draw(st.integers(begin + 1, steps)), draw(st.sampled_from([3, 1]))
        return Schedule(high, low, begin, end, frequency, power)
    return Schedule(draw(sparsity), begin=begin, frequency=frequency)
