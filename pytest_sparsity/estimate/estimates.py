"""An estimate: a ratio with an interval, and what comes of comparing it with a number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Number, Real
from typing import ClassVar, NoReturn

from pytest_sparsity.errors import Inconclusive
from pytest_sparsity.estimate.intervals import holds

SMALL = 0.05
"""A difference up to which two models are said to be equally fast."""


@dataclass(frozen=True)
class Claim:
    """One comparison of an estimate with a number, and what came of it.

    Attributes:
        name: what was estimated, e.g. `"speedup"`.
        operator: `"<"`, `"<="`, `">"` or `">="`.
        threshold: the number on the right.
        verdict: `"holds"`, `"refuted"` or `"inconclusive"`.
        estimate: the look that decided, or the last one.
        reason: why it is inconclusive, one of `"near threshold"`, `"budget"`, `"noisy clock"`; else
            empty.
        seconds: what would probably decide an inconclusive claim, on top of what was spent;
            infinite if no look would.
    """

    name: str
    operator: str
    threshold: float
    verdict: str
    estimate: Estimate
    reason: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.name} {self.operator} {self.threshold:g}"


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """A ratio with an interval; compared with a number it is True, False or raises `Inconclusive`.

    A comparison holds if it holds on the whole interval and is refuted if it holds nowhere on it.
    In between, the estimate of a race takes further looks, while there are any and the budget
    lasts, and then raises.

    It equals itself alone, so it can stand in a list or a set; comparing it by `==` or `!=` with a
    number is a `TypeError`, and so is its truth value.

    Attributes:
        value: the estimated ratio; NaN before the first look.
        low: lower end of the interval.
        high: upper end of the interval.
        confidence: the probability, at least, with which the intervals of all looks together cover
            the true ratio.
    """

    value: float
    low: float
    high: float
    confidence: float

    _instead_of_comparing_two: ClassVar[str] = (
        "two Estimates are not compared: race the two models with each other"
    )

    @property
    def difference(self) -> float | None:
        """The largest difference from 1 that the interval leaves, if it is small; else None.

        0.002 says that neither is more than 0.2 % faster: that is a result, too, where whether one
        of them is faster at all stays open.
        """
        largest = max(self.high, 1 / self.low if self.low > 0 else math.inf) - 1
        return largest if self.low <= 1 <= self.high and largest <= SMALL else None

    def latest(self) -> Estimate:
        """Return the estimate at the latest look taken so far; takes none."""
        return self

    def __ge__(self, other: object) -> bool:
        return self._compare(">=", other)

    def __gt__(self, other: object) -> bool:
        return self._compare(">", other)

    def __le__(self, other: object) -> bool:
        return self._compare("<=", other)

    def __lt__(self, other: object) -> bool:
        return self._compare("<", other)

    def _compare(self, sign: str, other: object) -> bool:
        if isinstance(other, Estimate):
            raise TypeError(self._instead_of_comparing_two)
        if not isinstance(other, Real) or isinstance(other, bool):
            answer: bool = NotImplemented
            return answer
        threshold = float(other)
        if math.isnan(threshold):
            raise ValueError("an Estimate is not compared with NaN")
        return self._decide(sign, threshold)

    def _decide(self, sign: str, threshold: float) -> bool:
        verdict = holds(sign, self.low, self.high, threshold)
        if verdict is None:
            raise self._inconclusive(sign, threshold)
        return verdict

    def _inconclusive(self, sign: str, threshold: float) -> Inconclusive:
        claim = Claim("ratio", sign, threshold, "inconclusive", self, "near threshold")
        return Inconclusive(
            f"{claim} is inconclusive: measured {self}; claim a threshold further away", claim
        )

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Number):
            raise TypeError(
                "an Estimate equals no number; compare it with >=, >, <= or <: "
                "`assert speedup >= 1.1`"
            )
        answer: bool = NotImplemented  # then only the object itself is equal
        return answer

    __hash__ = object.__hash__

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "an Estimate has no truth value; compare it: `assert speedup >= 1.1`, with a number"
        )

    def __repr__(self) -> str:
        return f"Estimate({self})"

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "unknown"
        if self.low == self.high:
            return f"{self.value:.6g} exactly"
        percent = f"{100 * self.confidence:g} %"
        return f"{self.value:.4g}, {percent} interval [{self.low:.4g}, {self.high:.4g}]"


def no_difference(largest: float) -> str:
    """Say that two models cost the same but for so much: `no difference larger than 0.2 %`."""
    return f"no difference larger than {100 * largest:.2g} %"
