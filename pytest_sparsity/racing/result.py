"""What a race has measured, and the comparisons that may ask it to measure further."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.estimate import (
    Claim,
    Estimate,
    Series,
    holds,
    resolvable,
    seconds_to_resolve,
)
from pytest_sparsity.machine import this_machine
from pytest_sparsity.racing import conditions
from pytest_sparsity.racing.entrants import remarks
from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.racing.measurement import Measurement
    from pytest_sparsity.targets import Target


@dataclass(frozen=True)
class Timing:
    """What one inference takes, in the unit of the race.

    Attributes:
        median: over all pairs.
        low: a twentieth of the pairs is below.
        high: a twentieth of the pairs is above.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Timing:
        """Return the summary of one value per pair."""
        import numpy as np

        low, middle, high = np.quantile(values, (0.05, 0.5, 0.95)) if values else (math.nan,) * 3
        return cls(float(middle), float(low), float(high))

    def as_json(self) -> dict[str, float | None]:
        """Return the three values; None for what is not known."""
        return {name: _finite(value) for name, value in vars(self).items()}


@dataclass(eq=False, repr=False)
class Race:
    """One interleaved measurement of two models on a target.

    Comparing `speedup`, `instruction_ratio` or `ratio` with a number may measure further while the
    budget lasts; everything else only reports what was measured so far.

    Attributes:
        target: where it ran.
        threads: threads of the runtime.
    """

    target: Target
    threads: int
    _measurement: Measurement
    _series: Series
    _doubt: str = ""

    def __repr__(self) -> str:
        return f"Race({self.target}, {self.ratio}, {counted(self.trials, 'process', 'processes')})"

    def _compare(self, _: object) -> NoReturn:
        quantity = "speedup" if self.target.unit == "seconds" else "instruction_ratio"
        raise TypeError(f"a Race is not compared itself: compare race(...).{quantity}")

    __lt__ = __le__ = __gt__ = __ge__ = _compare

    @property
    def unit(self) -> str:
        """`"seconds"` or `"instructions"`."""
        return self.target.unit

    @property
    def clock(self) -> str:
        """`"cpu"`, `"wall"` or `"instructions"`; empty before a process has shown which."""
        return self._measurement.clock

    @property
    def ratio(self) -> Estimate:
        """What the dense model costs divided by what the sparse one costs, at the latest look."""
        return self._series.latest()

    @property
    def speedup(self) -> Estimate:
        """How many times faster the sparse model is.

        Raises:
            Unsupported: the target counts instructions.
        """
        if self.unit == "seconds":
            return self.ratio
        raise Unsupported(
            f"{self.target} has no time: an emulated CPU counts instructions",
            "claim race(...).instruction_ratio, or race on a machine that has this CPU",
            self.target.name,
        )

    @property
    def instruction_ratio(self) -> Estimate:
        """How many times fewer instructions the sparse model takes.

        Raises:
            Unsupported: the target measures time.
        """
        if self.unit == "instructions":
            return self.ratio
        raise Unsupported(
            f"{self.target} does not count instructions",
            "claim race(...).speedup, or race on an emulated target",
            self.target.name,
        )

    @property
    def dense(self) -> Timing:
        """One inference of the dense model."""
        return Timing.of(self.samples[0])

    @property
    def sparse(self) -> Timing:
        """One inference of the sparse model."""
        return Timing.of(self.samples[1])

    @property
    def samples(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """What one inference took, of dense and of sparse.

        One value per pair, or per process where several threads work and its fastest blocks tell.
        """
        values = list(self._measurement.samples())
        return tuple(dense for dense, _ in values), tuple(sparse for _, sparse in values)

    @property
    def trials(self) -> int:
        """The number of complete processes."""
        return len(self._measurement.processes)

    @property
    def pairs(self) -> int:
        """The number of pairs in them."""
        return sum(1 for _ in self._measurement.pairs())

    @property
    def wall_seconds(self) -> float:
        """What the race has taken so far."""
        return self._series.budget.spent

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The comparisons made so far, in order."""
        return tuple(self._series.claims)

    @property
    def verdict(self) -> str:
        """`"faster"`, `"slower"` or `"inconclusive"`: the sparse model against the dense one.

        On a target that counts instructions `"fewer"`, `"more"` or `"equal"`.
        """
        ratio = self.ratio
        words = ("faster", "slower", "inconclusive")
        if self.unit == "instructions":
            words = ("fewer", "more", "equal")
        if holds(">", ratio.low, ratio.high, 1.0):
            return words[0]
        return words[1] if holds("<", ratio.low, ratio.high, 1.0) else words[2]

    @property
    def inputs(self) -> str:
        """Names and shapes of the inputs, and those of the sparse model if they are others."""
        dense, sparse = str(self._measurement.dense), str(self._measurement.sparse)
        return dense if dense == sparse else f"{dense} against {sparse}"

    @property
    def metadata(self) -> dict[str, object]:
        """How it was measured, for reports: plain values by name, None for what is not known."""
        plan, hello = self._measurement.plan, self._measurement.hello
        facts: dict[str, object] = {
            "processes": self.trials,
            "pairs": self.pairs,
            "seconds": self.wall_seconds,
            "remarks": list(self.remarks),
            "machine": (self.target.machine or this_machine()).brand,
            **{
                name: hello[name]
                for name in ("runtime", "version", "cpu", "engine")
                if name in hello
            },
        }
        if plan:
            facts |= {
                "rounds": plan.rounds,
                "invocations": plan.invocations,
                "warm_up": plan.warm_up,
                "clock": self.clock,
                "clock_reason": self._measurement.clock_reason,
                "preempted_share": _finite(self._measurement.preempted_share()),
                "wall_over_cpu": _finite(self._measurement.wall_over_cpu()),
                "process_spread": _finite(self._measurement.spread()),
            }
        facts["inputs"] = self.inputs
        if self._measurement.conditions:
            facts["conditions"] = conditions.summary(self._measurement.conditions)
        return facts

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader of the ratio should know of the models, such as "not sparse-encoded"."""
        found = remarks(self._measurement.dense.model, self._measurement.sparse.model)
        noisy = conditions.doubts(self._measurement.conditions)
        return (*found, *noisy, *filter(None, (self._doubt,)))

    def resolution(self, budget: float) -> str:
        """Say, of a control, which effect a budget resolves on its target."""
        spread, plan = self._measurement.spread(), self._measurement.plan
        if plan is None or math.isnan(spread):
            return f"{self.target}: the control did not fit into the budget"
        confidence, cost = self._series.confidence, self._measurement.budget.expected
        effect = math.expm1(resolvable(spread, cost, budget, confidence))
        tell = seconds_to_resolve(math.log(1.10 / 1.05), spread, cost, confidence)
        telling = (
            f"telling 1.10 from 1.05 takes about {tell:.0f} s"
            if math.isfinite(tell)
            else "1.10 and 1.05 cannot be told apart"
        )
        if math.isinf(effect):
            return f"{self.target}: {budget:g} s are too short for a look; {telling}"
        return f"{self.target}: {budget:g} s tell ratios {100 * effect:.1f} % apart; {telling}"

    def as_json(self) -> dict[str, object]:
        """Return the object that `pytest-sparsity race --json` prints; unknown values are None."""
        ratio = self.ratio
        bounds = {name: _finite(getattr(ratio, name)) for name in ("value", "low", "high")}
        return {
            "target": self.target.name,
            "unit": self.unit,
            "threads": self.threads,
            "trials": self.trials,
            "wall_seconds": self.wall_seconds,
            "dense": self.dense.as_json(),
            "sparse": self.sparse.as_json(),
            "ratio": {**bounds, "confidence": ratio.confidence},
            "verdict": self.verdict,
            "inputs": self.inputs,
            "remarks": list(self.remarks),
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
