"""Processes drawn on demand, and the looks taken at them."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_sparsity.errors import Inconclusive
from pytest_sparsity.estimate.budget import Stop
from pytest_sparsity.estimate.estimates import Claim, Estimate, no_difference
from pytest_sparsity.estimate.forecasts import seconds_to_decide
from pytest_sparsity.estimate.intervals import LOOKS, holds, interval, look_confidence
from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from pytest_sparsity.estimate.budget import Budget


@dataclass(frozen=True, eq=False, repr=False)
class _Look(Estimate):
    """The estimate at one look; a comparison that it leaves open takes the next ones."""

    _series: Series

    def latest(self) -> Estimate:
        return self._series.latest()

    def _decide(self, sign: str, threshold: float) -> bool:
        return self._series.compare(sign, threshold)


class Series:
    """Processes drawn on demand, the looks taken at them, and the claims decided by them.

    Args:
        draw: runs one fresh process and returns its centre, a log ratio; raises `Stop` if there is
            no room for it in the budget.
        name: what is estimated, for messages.
        budget: for all processes.
        confidence: of all looks together, between 0 and 1.
        exact: whether one process gives the ratio itself (not its logarithm), without any spread.
        turn: entered around the processes of a look; what it waits for costs nothing.
    """

    def __init__(
        self,
        draw: Callable[[], float],
        *,
        name: str,
        budget: Budget,
        confidence: float,
        exact: bool = False,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._draw = draw
        self._looks_at = (1,) if exact else LOOKS
        self._turn = turn
        self._estimates: list[Estimate] = []
        self._stopped = ""
        self._unknown = _Look(math.nan, 0.0, math.inf, confidence, self)
        self.name = name
        self.budget = budget
        self.confidence = confidence
        self.centres: list[float] = []
        self.claims: list[Claim] = []

    def latest(self) -> Estimate:
        """Return the estimate at the latest look, or one without bounds before the first."""
        return self._estimates[-1] if self._estimates else self._unknown

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
        for estimate in self._looks():
            verdict = holds(sign, estimate.low, estimate.high, threshold)
            if verdict is not None:
                word = "holds" if verdict else "refuted"
                self.claims.append(Claim(self.name, sign, threshold, word, estimate))
                return verdict
        claim = self._inconclusive(sign, threshold)
        self.claims.append(claim)
        budget = None
        if claim.reason == "budget":
            budget = math.ceil(self.budget.spent + 1.1 * claim.seconds)
        raise Inconclusive(self._explain(claim), claim, budget)

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
                with self.budget.process():
                    self.centres.append(self._draw())

    def _demand_room(self) -> None:
        """Stop unless the processes of the first look, or at least one, fit into the budget."""
        self.budget.demand_processes(max(self._looks_at[0] - len(self.centres), 1))

    def _estimate(self, look: int) -> Estimate:
        if len(self.centres) == 1:
            (ratio,) = self.centres
            return _Look(ratio, ratio, ratio, 1.0, self)
        bounds = interval(self.centres, look_confidence(self.confidence, look))
        value, low, high = (math.exp(bound) for bound in bounds)
        return _Look(value, low, high, self.confidence, self)

    def _inconclusive(self, sign: str, threshold: float) -> Claim:
        seconds = seconds_to_decide(
            self.centres, threshold, self.budget.process_seconds, self.confidence
        )
        reason = self._stopped
        if reason == "budget" and math.isinf(seconds):
            reason = "near threshold"
        estimate = self.latest()
        return Claim(self.name, sign, threshold, "inconclusive", estimate, reason, seconds)

    def _explain(self, claim: Claim) -> str:
        spent, ran = self.budget.spent, len(self.centres)
        processes = f"{counted(ran, 'process', 'processes')} in {spent:.1f} s"
        measured = f"measured {claim.estimate}, {processes}"
        if not self._estimates:
            wanted = self._looks_at[0]
            measured = f"an interval takes {counted(wanted, 'process', 'processes')}, and the"
            measured += f" budget had room for {processes}" if ran else " budget has room for none"
        parts = [f"{claim} is inconclusive: {measured}"]
        difference = self.latest().difference
        if difference is not None:
            parts.append(no_difference(difference))
        if claim.reason == "noisy clock":
            parts.append(
                "most blocks were preempted and only wall time counts here: "
                "free the machine, or claim it with threads=1, which counts CPU time"
            )
        elif claim.reason == "budget":
            parts.append(f"about {claim.seconds:.1f} s more would probably decide")
        else:
            parts.append(
                f"the truth is too near for {LOOKS[-1]} processes to tell: "
                "claim a threshold further away"
            )
        return "; ".join(parts)
