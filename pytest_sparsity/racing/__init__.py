"""A race: two models measured against each other on one target, interleaved, in fresh processes.

How a process measures is in `measurement`; what is made of the processes, and how many there are,
is decided in `estimate`; `result` tells what has been measured. `docs/procedure.md` explains it
with formulas and sources.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

from pytest_sparsity import defaults
from pytest_sparsity.errors import CannotMeasure, Unsupported
from pytest_sparsity.estimate import LOOKS, Budget, Series
from pytest_sparsity.inputs import Feed, feed
from pytest_sparsity.logs import is_sparse
from pytest_sparsity.machine import this_machine
from pytest_sparsity.model import Model
from pytest_sparsity.progress import step
from pytest_sparsity.racing.measurement import Measurement
from pytest_sparsity.racing.result import Race, Timing
from pytest_sparsity.targets import Target, Where
from pytest_sparsity.turns import turn

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from pytest_sparsity.inputs import InputsLike, Shapes

    Raced = str | os.PathLike[str] | Model | Feed

__all__ = ["Controls", "Race", "Timing", "check_control", "race", "start"]

# More threads than CPUs only wait for each other, and many more exhaust the machine.
THREADS_PER_CPU = 4
# Seconds, a day.
LONGEST = 86400.0
# A control is off if its interval shows a ratio further from 1 than this.
CONTROL_MARGIN = 0.02


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

    Before any timing the sparse model's outputs are checked, and, once per target and number of
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
        WrongOutputs: the sparse model's outputs are wrong on the target.
        CannotMeasure: the dense model raced against itself does not give 1.
    """
    where = Target.of(target)
    missing = where.missing()
    if missing is not None:
        raise missing
    if inputs is not None and not all(side.place.takes_inputs for side in where.sides):
        raise Unsupported(f"{where} fills inputs with numbers of its own", "leave inputs out")
    most = THREADS_PER_CPU * (where.machine or this_machine()).cores
    if not (1 <= threads <= most and 0 < budget <= LONGEST and 0 < confidence < 1):
        raise ValueError(
            f"a race needs 1 to {most} threads, a budget of more than 0 and at most {LONGEST:g} s "
            f"and 0 < confidence < 1, not {threads}, {budget} and {confidence}"
        )
    from pytest_sparsity.diagnosis import check_outputs

    pruned = Model.of(sparse)
    models = feed(Model.of(dense), inputs, shapes), feed(pruned, inputs, shapes)
    first, second = where.sides
    if first != second and first.place.shows_outputs:
        check_outputs(Model.of(dense), first, inputs=inputs, shapes=shapes)
    if second.place.shows_outputs:
        doubt = check_outputs(pruned, second, inputs=inputs, shapes=shapes)
    else:
        doubt = unseen(models[1], second)
    if where.unit == "seconds":
        check_control(
            models[0], where.control, threads, budget, _CONTROLS if controls is None else controls
        )
    return start(*models, where, threads, budget, confidence, seed, doubt=doubt)


def unseen(fed: Feed, target: Target) -> str:
    """Say what is known of a model where nobody sees its outputs: which kernels ran.

    Raises:
        Unsupported: the target cannot run here.
    """
    with target.open() as worker:
        worker.load("model", fed.model, shapes=fed.shapes)
        try:
            kernels = [name for name, _ in worker.profile("model")]
        except Unsupported as error:
            known = f"nothing shows which kernels ran ({error.reason})"
        else:
            sparse = sum(map(is_sparse, kernels))
            known = f"{sparse} of {len(kernels)} operators were sparse kernels"
    return f"its outputs were not seen on {target}: check them elsewhere; {known}"


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
    measurement = Measurement(_fed(dense), _fed(sparse), target, threads, seed, spending)
    seconds = target.unit == "seconds"

    def draw() -> float:
        number = f"process {len(series.centres) + 1} of {LOOKS[-1] if seconds else 1}"
        with step(f"{target}: {number}, {max(spending.left, 0):.0f} s left at most"):
            return measurement.draw() if seconds else measurement.count()

    series = Series(
        draw,
        name="speedup" if seconds else "instruction_ratio",
        budget=spending,
        confidence=confidence,
        exact=not seconds,
        turn=partial(turn, target.turns) if seconds else nullcontext,
    )
    series.look()
    return Race(target, threads, measurement, series, doubt)


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
