"""The decision: from processes drawn one after another to a ratio with an interval, and verdicts.

The unit of evidence is the fresh process, because two interpreters of the same file differ for
their lifetime and no number of repetitions inside one of them shows it. A process contributes the
Hodges-Lehmann centre of the log ratios of its pairs; the estimate is the mean over processes and
its interval Student's t over processes (Kalibera and Jones 2013, the top level of repetition). The
interval is looked at after 3, 5, 8 and 14 processes, or at what the budget affords instead of the
next of these, and the error is shared out among the looks, so that by the union bound all of them
cover the truth together with the stated confidence. Hence a comparison may ask for the next look
without bias. `docs/procedure.md` gives formulas and sources.

Nothing here knows models, targets or clocks: what draws a process and what tells the time is handed
in, so simulations with known truth and scripted clocks run the same code.
"""

from __future__ import annotations

import math
import operator
from bisect import bisect_left
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from numbers import Real
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_sparsity.errors import Inconclusive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

# Processes at each look, and the share of the error 1 - confidence that the look may spend. Fewer
# than 3 processes give no usable interval; a look after every process would need shares so small
# that it decides later, not earlier.
LOOKS = (3, 5, 8, 14)
SHARES = (0.1, 0.2, 0.3, 0.4)
# Smallest standard deviation between processes that is believed. A block lasts at least 1000 ticks
# of its clock, so centres of processes that agree further than this agree by rounding.
RESOLUTION = 1e-4
# A projection says "would probably decide" where the interval does so in about 4 of 5 cases: the
# distance to the threshold exceeds the half-width by this many standard errors.
LIKELY = 0.84

COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}


class Stop(Exception):  # noqa: N818  (the end of a series, not an error)
    """No further process can be drawn.

    Attributes:
        reason: `"budget"` or `"noisy clock"`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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
    In between it takes further looks, while there are any and the budget lasts, and then raises.

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
    _series: Series | None = field(default=None, compare=False)

    def latest(self) -> Estimate:
        """Return the estimate at the latest look taken so far; takes none."""
        return self._series.latest() if self._series else self

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
            raise TypeError("two Estimates are not compared: race the two models with each other")
        if not isinstance(other, Real) or isinstance(other, bool):
            answer: bool = NotImplemented
            return answer
        series = self._series or Series.of(self)
        return series.compare(sign, float(other))

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError(
            "an Estimate equals no number; compare it with >=, >, <= or <: `assert speedup >= 1.1`"
        )

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "an Estimate has no truth value; compare it: `assert speedup >= 1.1`, with a number"
        )

    __hash__ = None  # type: ignore[assignment]  # nothing equals an Estimate

    def __repr__(self) -> str:
        return f"Estimate({self})"

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "unknown"
        if self.low == self.high:
            return f"{self.value:.6g} exactly"
        percent = f"{100 * self.confidence:g} %"
        return f"{self.value:.4g}, {percent} interval [{self.low:.4g}, {self.high:.4g}]"


def hodges_lehmann(values: ArrayLike) -> NDArray[np.float64]:
    """Return the median of all pairwise means, i <= j, along the last axis.

    Keeps 95 % of the mean's efficiency on normal values and is not moved by the few interpreters
    with a bad layout (Hodges and Lehmann 1963).
    """
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    first, second = np.triu_indices(array.shape[-1])
    centres: NDArray[np.float64] = np.median((array[..., first] + array[..., second]) / 2, axis=-1)
    return centres


@cache
def t_quantile(probability: float, freedom: int) -> float:
    """Return Student's t quantile; scipy's where it is installed, else our own, equal to 1e-9."""
    try:
        from scipy.special import stdtrit
    except ModuleNotFoundError:
        return _t_quantile(probability, freedom)
    return float(stdtrit(freedom, probability))


def _t_quantile(probability: float, freedom: int) -> float:
    """Return the quantile by bisection on the angle atan(t / sqrt(freedom))."""
    target = abs(2 * probability - 1)
    low, high = 0.0, math.pi / 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _two_sided(middle, freedom) < target else (low, middle)
    return math.copysign(math.sqrt(freedom) * math.tan(low), probability - 0.5)


def _two_sided(angle: float, freedom: int) -> float:
    """Return P(|T| <= sqrt(freedom) tan(angle)); Abramowitz and Stegun 26.7.3 and 26.7.4."""
    cosine = math.cos(angle)
    start = freedom % 2
    term = cosine if start else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + start, freedom, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    share = math.sin(angle) * total
    return 2 / math.pi * (angle + share) if start else share


def interval(
    centres: ArrayLike, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean, low and high of Student's t interval over processes, along the last axis.

    Args:
        centres: the processes' centres (log ratios), at least two along the last axis.
        confidence: of this one interval.
    """
    import numpy as np

    array = np.asarray(centres, dtype=np.float64)
    processes = array.shape[-1]
    mean = array.mean(axis=-1)
    spread = np.maximum(array.std(axis=-1, ddof=1), RESOLUTION)
    half = t_quantile(0.5 + confidence / 2, processes - 1) * spread / math.sqrt(processes)
    return mean, mean - half, mean + half


def look_confidence(confidence: float, look: int) -> float:
    """Return the confidence of the interval at one look, so that all looks have `confidence`."""
    return 1 - (1 - confidence) * SHARES[look]


def holds(sign: str, low: float, high: float, threshold: float) -> bool | None:
    """Return whether the comparison holds on the whole interval, or None if only on a part."""
    at_low, at_high = COMPARISONS[sign](low, threshold), COMPARISONS[sign](high, threshold)
    return at_low if at_low == at_high else None


class Series:
    """Processes drawn on demand, the looks taken at them, and the claims decided by them.

    Args:
        draw: runs one fresh process and returns its centre, a log ratio; raises `Stop` if there is
            no room for it in the seconds that are left.
        name: what is estimated, for messages.
        budget: seconds for all processes; what passes between the looks does not count.
        confidence: of all looks together, between 0 and 1.
        clock: monotonic seconds.
        exact: whether one process gives the ratio itself (not its logarithm), without any spread.
        forecast: what a process will cost, seconds, once that is known; else 0. The first process
            does not tell, since it plans for the others.
        turn: entered around the processes of a look; what it waits for costs nothing.
    """

    def __init__(
        self,
        draw: Callable[[], float],
        *,
        name: str,
        budget: float,
        confidence: float,
        clock: Callable[[], float],
        exact: bool = False,
        forecast: Callable[[], float] = lambda: 0.0,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._draw = draw
        self._looks_at = (1,) if exact else LOOKS
        self._clock = clock
        self._forecast = forecast
        self._turn = turn
        self._costs: list[float] = []
        self._estimates: list[Estimate] = []
        self._stopped = ""
        self._unknown = Estimate(math.nan, 0.0, math.inf, confidence, self)
        self.name = name
        self.budget = budget
        self.confidence = confidence
        self.spent = 0.0
        self.centres: list[float] = []
        self.claims: list[Claim] = []

    @classmethod
    def of(cls, estimate: Estimate, name: str = "ratio") -> Series:
        """Return the series of a value that is known already, and is looked at once."""
        series = cls(
            _nothing, name=name, budget=0, confidence=estimate.confidence, clock=lambda: 0.0
        )
        known = Estimate(estimate.value, estimate.low, estimate.high, estimate.confidence, series)
        series._estimates.append(known)
        series._stopped = "near threshold"
        return series

    def latest(self) -> Estimate:
        """Return the estimate at the latest look, or one without bounds before the first."""
        return self._estimates[-1] if self._estimates else self._unknown

    def left(self) -> float:
        """Return the seconds that are left of the budget."""
        return self.budget - self.spent

    def look(self) -> bool:
        """Take the next look; return False if there is none or the budget has no room for it.

        Where the budget has room for some of its processes only, it is taken at these. That depends
        on what processes cost, not on what they say, so the interval keeps its confidence.
        """
        taken, before = len(self._estimates), len(self.centres)
        if not self._stopped and taken == len(self._looks_at):
            self._stopped = "near threshold"
        if not self._stopped:
            try:
                self._draw_until(self._looks_at[taken])
            except Stop as stop:
                self._stopped = stop.reason
        if len(self.centres) < self._looks_at[0] or len(self.centres) == before:
            return False
        self._estimates.append(self._estimate(taken))
        return True

    def compare(self, sign: str, threshold: float) -> bool:
        """Return the verdict of the first look that decides; raise `Inconclusive` if none does.

        The looks taken before are asked in order, so a verdict does not depend on what else was
        compared earlier.
        """
        if math.isnan(threshold):
            raise ValueError("an Estimate is not compared with NaN")
        for estimate in self._looks():
            verdict = holds(sign, estimate.low, estimate.high, threshold)
            if verdict is not None:
                word = "holds" if verdict else "refuted"
                self.claims.append(Claim(self.name, sign, threshold, word, estimate))
                return verdict
        claim = self._undecided(sign, threshold)
        self.claims.append(claim)
        raise Inconclusive(self._explain(claim), claim)

    def _looks(self) -> Iterator[Estimate]:
        number = 0
        while number < len(self._estimates) or self.look():
            yield self._estimates[number]
            number += 1

    def _draw_until(self, processes: int) -> None:
        """Draw processes in one turn until there are so many."""
        self._demand_room()  # for a turn that would not be used is not waited
        with self._turn():
            while len(self.centres) < processes:
                self._demand_room()
                self._draw_one()

    def _demand_room(self) -> None:
        """Stop unless the processes of the first look, or at least one, fit into the budget."""
        needed = max(self._looks_at[0] - len(self.centres), 1)
        if self._process_seconds() * needed > self.left():
            raise Stop("budget")

    def _draw_one(self) -> None:
        begun = self._clock()
        try:
            self.centres.append(self._draw())
        finally:
            self._costs.append(self._clock() - begun)
            self.spent += self._costs[-1]

    def _process_seconds(self) -> float:
        """Forecast one process: the dearest so far, or what the first one foretold."""
        return max(self._costs[1:], default=0) or self._forecast() or sum(self._costs)

    def _estimate(self, look: int) -> Estimate:
        if len(self.centres) == 1:
            (ratio,) = self.centres
            return Estimate(ratio, ratio, ratio, 1.0, self)
        bounds = interval(self.centres, look_confidence(self.confidence, look))
        value, low, high = (math.exp(bound) for bound in bounds)
        return Estimate(value, low, high, self.confidence, self)

    def _undecided(self, sign: str, threshold: float) -> Claim:
        seconds = self.seconds_to_decide(threshold)
        reason = self._stopped
        if reason == "budget" and math.isinf(seconds):
            reason = "near threshold"
        estimate = self.latest()
        return Claim(self.name, sign, threshold, "inconclusive", estimate, reason, seconds)

    def seconds_to_decide(self, threshold: float) -> float:
        """Return the seconds after which a look would probably exclude the threshold.

        Projected from the spread between the processes so far and their dearest cost; infinite if
        even the last look would probably not.
        """
        import numpy as np

        cost = self._process_seconds()
        processes = len(self.centres)
        if processes < 2 or threshold <= 0:
            return cost * (LOOKS[0] - processes) if processes < LOOKS[0] else math.inf
        mean, _, _ = interval(self.centres, self.confidence)
        gap = abs(float(mean) - math.log(threshold))
        spread = float(np.std(self.centres, ddof=1))
        for look, wanted in enumerate(LOOKS):
            if wanted > processes and _reach(spread, look, wanted, self.confidence) < gap:
                return cost * (wanted - processes)
        return math.inf

    def _explain(self, claim: Claim) -> str:
        measured = f"measured {claim.estimate}" if self._estimates else "there is no look yet"
        if self.centres:
            measured += f", {len(self.centres)} processes in {self.spent:.1f} s"
        parts = [f"{claim} is undecided: {measured}"]
        if claim.reason == "noisy clock":
            parts.append(
                "most blocks were preempted and only wall time counts here: "
                "free the machine, or claim it with threads=1, which counts CPU time"
            )
        elif claim.reason == "budget":
            total = math.ceil(self.spent + 1.1 * claim.seconds)
            parts.append(
                f"about {claim.seconds:.1f} s more would probably decide: "
                f"set --sparsity-budget={total} (or budget={total})"
            )
        else:
            parts.append(
                f"the truth is too near for {LOOKS[-1]} processes to tell: "
                "claim a threshold further away"
            )
        return "; ".join(parts)


def _nothing() -> float:
    raise Stop("near threshold")


def _reach(spread: float, look: int, processes: int, confidence: float) -> float:
    """Return the distance (log ratio) that the interval of a look probably excludes."""
    quantile = t_quantile(0.5 + look_confidence(confidence, look) / 2, processes - 1)
    return (quantile + LIKELY) * max(spread, RESOLUTION) / math.sqrt(processes)


def resolvable(
    spread: float, process_seconds: float, budget: float, confidence: float = 0.95
) -> float:
    """Return the smallest log ratio that a budget probably tells from 0; infinite if none.

    Args:
        spread: standard deviation between processes (log ratio).
        process_seconds: what one process costs.
        budget: seconds.
        confidence: of all looks together.
    """
    affordable = int(min(budget / process_seconds, LOOKS[-1]))
    if affordable < LOOKS[0]:
        return math.inf
    last = bisect_left(LOOKS, affordable)
    sizes = (*LOOKS[:last], affordable)
    return min(_reach(spread, look, size, confidence) for look, size in enumerate(sizes))


def seconds_to_resolve(
    effect: float, spread: float, process_seconds: float, confidence: float = 0.95
) -> float:
    """Return the seconds that probably tell a log ratio of `effect` from 0; infinite if none do."""
    for look, processes in enumerate(LOOKS):
        if _reach(spread, look, processes, confidence) <= effect:
            return processes * process_seconds
    return math.inf
