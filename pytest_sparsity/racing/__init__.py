"""A race: two models measured against each other on one target, interleaved, in fresh processes.

How a process measures is in `trials`; what is made of the processes, and how many there are, is
decided in `estimate`. `docs/procedure.md` explains it with formulas and sources.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from pytest_sparsity import defaults
from pytest_sparsity.errors import CannotMeasure, Unsupported
from pytest_sparsity.estimate import (
    LOOKS,
    Budget,
    Claim,
    Estimate,
    Series,
    holds,
    resolvable,
    seconds_to_resolve,
)
from pytest_sparsity.inputs import Feed, feed
from pytest_sparsity.machine import this_machine
from pytest_sparsity.model import Model
from pytest_sparsity.progress import step
from pytest_sparsity.racing.entrants import remarks
from pytest_sparsity.racing.trials import Trials
from pytest_sparsity.targets import Target, Where
from pytest_sparsity.turns import turn

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from pytest_sparsity.inputs import InputsLike, Shapes

    Raced = str | os.PathLike[str] | Model | Feed

# More threads than CPUs only wait for each other, and many more exhaust the machine.
THREADS_PER_CPU = 4
# Seconds, a day.
LONGEST = 86400.0
# A control is off if its interval shows a ratio further from 1 than this.
CONTROL_MARGIN = 0.02


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
    _trials: Trials
    _series: Series
    _doubt: str = ""

    def __repr__(self) -> str:
        return f"Race({self.target}, {self.ratio}, {self.trials} processes)"

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
        return self._trials.clock

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
        """What one inference took, of dense and of sparse, one value per pair."""
        plan = self._trials.plan
        if plan is None:
            return (), ()
        pairs = self._trials.pairs()
        values = [pair.per_inference(self.clock, plan.invocations) for pair in pairs]
        return tuple(dense for dense, _ in values), tuple(sparse for _, sparse in values)

    @property
    def trials(self) -> int:
        """The number of complete processes."""
        return len(self._trials.processes)

    @property
    def pairs(self) -> int:
        """The number of pairs in them."""
        return sum(1 for _ in self._trials.pairs())

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
        dense, sparse = str(self._trials.dense), str(self._trials.sparse)
        return dense if dense == sparse else f"{dense} against {sparse}"

    @property
    def evidence(self) -> dict[str, object]:
        """How it was measured, for reports: plain values by name, None for what is not known."""
        plan, hello = self._trials.plan, self._trials.hello
        facts: dict[str, object] = {
            "processes": self.trials,
            "pairs": self.pairs,
            "seconds": self.wall_seconds,
            "remarks": list(self.remarks),
            "machine": this_machine().brand,
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
                "clock_reason": self._trials.clock_reason,
                "preempted_share": _finite(self._trials.preempted_share()),
                "wall_over_cpu": _finite(self._trials.wall_over_cpu()),
                "process_spread": _finite(self._trials.spread()),
            }
        facts["inputs"] = self.inputs
        return facts

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader of the ratio should know of the models, such as "not sparse-encoded"."""
        found = remarks(self._trials.dense.model, self._trials.sparse.model)
        return (*found, self._doubt) if self._doubt else found

    def resolution(self, budget: float) -> str:
        """Say, of a control, which effect a budget resolves on its target."""
        spread, plan = self._trials.spread(), self._trials.plan
        if plan is None or math.isnan(spread):
            return f"{self.target}: the control did not fit into the budget"
        confidence, cost = self._series.confidence, self._trials.budget.expected
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


def _fed(raced: Raced) -> Feed:
    return raced if isinstance(raced, Feed) else feed(Model.of(raced))


Controls = dict[tuple[str, int], Race]
_CONTROLS: Controls = {}


def race(
    dense: str | os.PathLike[str] | Model,
    sparse: str | os.PathLike[str] | Model,
    *,
    target: Where = defaults.TARGET,
    threads: int = 1,
    budget: float = defaults.BUDGET,
    confidence: float = defaults.CONFIDENCE,
    seed: int = 0,
    controls: Controls | None = None,
    inputs: InputsLike | None = None,
    shapes: Shapes | None = None,
) -> Race:
    """Race two models on a target and take the first look.

    Before any timing the sparse model's answers are checked, and, once per target and number of
    threads, the dense model is raced against itself; neither counts towards the budget.

    Args:
        dense: the model to be compared with, or the path of its file.
        sparse: the model that is claimed to be better.
        target: a target or its name; two of them, `("litert==2.1.6", "litert==2.3.0")`, race the
            first model on the one against the second model on the other.
        threads: threads of the runtime.
        budget: seconds of measuring, process starts included. What is not done then is ended and
            left out; what passes between comparisons does not count.
        confidence: of all looks of this race together.
        seed: of the order of blocks, interpreters and padding.
        controls: the controls raced so far, which are reused and added to; by default those of this
            Python process.
        inputs: what both models are run on, see `pytest_sparsity.inputs.feed`; by default drawn.
            The first set is raced.
        shapes: of the inputs: needed where a file leaves sizes other than the batch open.

    Raises:
        ValueError: an argument is out of range, there is no such target, the inputs do not fit, or
            a size is open and not given.
        ModelError: a file is not a model.
        Unsupported: the target cannot run here.
        NeedsInputs: a model does not take the inputs that were drawn for it.
        WrongAnswers: the sparse model's outputs are wrong on the target.
        CannotMeasure: the dense model raced against itself does not give 1.
    """
    most = THREADS_PER_CPU * this_machine().cores
    if not (1 <= threads <= most and 0 < budget <= LONGEST and 0 < confidence < 1):
        raise ValueError(
            f"a race needs 1 to {most} threads, a budget of more than 0 and at most {LONGEST:g} s "
            f"and 0 < confidence < 1, not {threads}, {budget} and {confidence}"
        )
    where = Target.of(target)
    missing = where.missing()
    if missing is not None:
        raise missing
    from pytest_sparsity.diagnosis import check_outputs

    pruned = Model.of(sparse)
    models = feed(Model.of(dense), inputs, shapes), feed(pruned, inputs, shapes)
    first, second = where.sides
    if first != second:
        check_outputs(Model.of(dense), first, inputs=inputs, shapes=shapes)
    doubt = check_outputs(pruned, second, inputs=inputs, shapes=shapes)
    if where.unit == "seconds":
        check_control(
            models[0], where.control, threads, budget, _CONTROLS if controls is None else controls
        )
    return start(*models, where, threads, budget, confidence, seed, doubt=doubt)


def start(
    dense: Raced,
    sparse: Raced,
    target: Target,
    threads: int,
    budget: float,
    confidence: float = defaults.CONFIDENCE,
    seed: int = 0,
    now: Callable[[], float] = time.monotonic,
    doubt: str = "",
) -> Race:
    """Race two models without checking anything, and take the first look.

    `doubt` is what a reader of the ratio should know of the sparse model's outputs.
    """
    spending = Budget(budget, now)
    trials = Trials(_fed(dense), _fed(sparse), target, threads, seed, spending)
    seconds = target.unit == "seconds"

    def draw() -> float:
        number = f"process {len(series.centres) + 1} of {LOOKS[-1] if seconds else 1}"
        with step(f"{target}: {number}, {max(spending.left, 0):.0f} s left at most"):
            return trials.draw() if seconds else trials.count()

    series = Series(
        draw,
        name="speedup" if seconds else "instruction_ratio",
        budget=spending,
        confidence=confidence,
        exact=not seconds,
        turn=turn if seconds else nullcontext,
    )
    series.look()
    return Race(target, threads, trials, series, doubt)


def check_control(
    dense: Raced,
    target: Target,
    threads: int,
    budget: float,
    controls: Controls,
) -> Race:
    """Return the control of a target, racing the dense model against itself if there is none yet.

    It is off if its interval shows a ratio that is more than 2 % from 1. An interval that merely
    excludes 1 would call one good machine in twenty broken.

    Raises:
        CannotMeasure: it is off.
    """
    key = target.name, threads
    if key not in controls:
        with step("control"):
            controls[key] = start(dense, dense, target, threads, budget)
    ratio = controls[key].ratio
    if ratio.low > 1 + CONTROL_MARGIN or ratio.high < 1 / (1 + CONTROL_MARGIN):
        raise CannotMeasure(
            f"{_fed(dense).model.path.name} raced against itself on {target} gave {ratio} "
            "instead of 1: this machine cannot measure now; free it from other work and run again"
        )
    return controls[key]
