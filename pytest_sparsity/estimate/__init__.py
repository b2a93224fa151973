"""The decision: from processes drawn one after another to a ratio with an interval, and verdicts.

The unit of evidence is the fresh process, because two interpreters of the same file differ for
their lifetime and no number of repetitions inside one of them shows it. A process contributes the
Hodges-Lehmann centre of the log ratios of its pairs; the estimate is the mean over processes and
its interval Student's t over processes (Kalibera and Jones 2013, the top level of repetition). The
interval is looked at after 3, 5, 8 and 14 processes, or at what the budget affords instead of the
next of these, and the error is shared out among the looks, so that by the union bound all of them
cover the truth together with the stated confidence. Hence a comparison may ask for the next look
without bias. `docs/procedure.md` gives formulas and sources.

`intervals` computes, `estimates` compares, `forecasts` tells what more processes would tell,
`budget` counts the seconds, and `series` takes the looks. Nothing here knows models, targets or
clocks: what draws a process and what tells the time is handed in, so simulations with known truth
and scripted clocks run the same code.
"""

from __future__ import annotations

from pytest_sparsity.estimate.budget import Budget, Stop
from pytest_sparsity.estimate.estimates import Claim, Estimate, no_difference
from pytest_sparsity.estimate.forecasts import LIKELY, resolvable, seconds_to_resolve
from pytest_sparsity.estimate.intervals import LOOKS, hodges_lehmann, holds
from pytest_sparsity.estimate.series import Series

__all__ = [
    "LIKELY",
    "LOOKS",
    "Budget",
    "Claim",
    "Estimate",
    "Series",
    "Stop",
    "hodges_lehmann",
    "holds",
    "no_difference",
    "resolvable",
    "seconds_to_resolve",
]
