"""What further processes would probably tell, and what they would cost."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING

from pytest_sparsity import defaults
from pytest_sparsity.estimate.intervals import (
    LOOKS,
    RESOLUTION,
    interval,
    look_confidence,
    t_quantile,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

# A projection says "would probably decide" where the interval does so in about 4 of 5 cases: the
# distance to the threshold exceeds the half-width by this many standard errors.
LIKELY = 0.84


def seconds_to_decide(
    centres: Sequence[float], threshold: float, process_seconds: float, confidence: float
) -> float:
    """Return the seconds after which a look would probably exclude the threshold.

    Projected from the spread between the processes so far; infinite if even the last look would
    probably not.

    Args:
        centres: log ratios of the processes so far.
        threshold: a ratio.
        process_seconds: what one process costs.
        confidence: of all looks together.
    """
    import numpy as np

    processes = len(centres)
    if processes < 2 or threshold <= 0:
        wanted = LOOKS[0] - processes
        return process_seconds * wanted if wanted > 0 else math.inf
    mean, _, _ = interval(centres, confidence)
    gap = abs(float(mean) - math.log(threshold))
    spread = float(np.std(centres, ddof=1))
    for look, wanted in enumerate(LOOKS):
        if wanted > processes and _reach(spread, look, wanted, confidence) < gap:
            return process_seconds * (wanted - processes)
    return math.inf


def resolvable(
    spread: float, process_seconds: float, budget: float, confidence: float = defaults.CONFIDENCE
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
    effect: float, spread: float, process_seconds: float, confidence: float = defaults.CONFIDENCE
) -> float:
    """Return the seconds that probably tell a log ratio of `effect` from 0; infinite if none do."""
    for look, processes in enumerate(LOOKS):
        if _reach(spread, look, processes, confidence) <= effect:
            return processes * process_seconds
    return math.inf


def _reach(spread: float, look: int, processes: int, confidence: float) -> float:
    """Return the distance (log ratio) that the interval of a look probably excludes."""
    quantile = t_quantile(0.5 + look_confidence(confidence, look) / 2, processes - 1)
    return (quantile + LIKELY) * max(spread, RESOLUTION) / math.sqrt(processes)
