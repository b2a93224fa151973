"""TFMOT's pruning schedules: which one is meant, and whether it can bring what is asked for."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pytest_sparsity.variants.networks import import_tfmot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.patterns import Pattern

PruningSchedule = Any
"""A TFMOT `PruningSchedule`."""


def resolve(schedule: PruningSchedule | None, sparsity: float) -> tuple[PruningSchedule, float]:
    """Return the schedule to use and the sparsity it is to end with.

    Args:
        schedule: a TFMOT PruningSchedule, a function that returns one (so that TFMOT need not be
            imported to ask for it), or None for a constant sparsity, applied at every step.
        sparsity: what is asked for. A schedule brings its own final sparsity, which counts.

    Raises:
        TypeError: `schedule` is something else.
    """
    keras = import_tfmot().sparsity.keras
    if inspect.isroutine(schedule):
        schedule = schedule()
    if schedule is None:
        return keras.ConstantSparsity(sparsity, begin_step=0, frequency=1), sparsity
    if not isinstance(schedule, keras.PruningSchedule):
        raise TypeError(
            "schedule must be a TFMOT PruningSchedule such as ConstantSparsity or PolynomialDecay,"
            f" or a function that returns one; it is {schedule!r}"
        )
    for name in ("target_sparsity", "final_sparsity"):
        sparsity = getattr(schedule, name, sparsity)
    return schedule, sparsity


def check(
    schedule: PruningSchedule, asked: float, pattern: Pattern, shapes: Sequence[Sequence[int]]
) -> None:
    """Raise ValueError if no training can bring the asked sparsity, before any is done."""
    last = last_update(schedule)
    if last is None:
        return
    reached = float(schedule(last)[1])
    if any(misses(reached, asked, pattern, shape) for shape in shapes):
        raise ValueError(
            f"{describe(schedule)} ends at a sparsity of {reached:.3f}, not {asked:g}: its last"
            f" update is at step {last}, not at end_step={schedule.end_step}; make end_step -"
            " begin_step a multiple of frequency"
        )


def misses(sparsity: float, asked: float, pattern: Pattern, shape: Sequence[int]) -> bool:
    """Whether a tensor of the shape would have too few or too many zeros."""
    size = 1
    for each in shape:
        size *= each
    return abs(sparsity - asked) * size > pattern.slack(shape)


def last_update(schedule: PruningSchedule) -> int | None:
    """Return the last step at which a schedule updates masks, None if it does not tell.

    One without an end asks for the same sparsity at every update, so its first one will do.
    """
    begin, end = getattr(schedule, "begin_step", None), getattr(schedule, "end_step", None)
    frequency = getattr(schedule, "frequency", None)
    if begin is None or end is None or frequency is None:
        return None
    if end < begin:
        return int(begin)
    return int(begin + (end - begin) // frequency * frequency)


def final_update(schedule: PruningSchedule) -> int:
    """Return the last step at which a schedule updates masks.

    Raises:
        ValueError: it does not tell; the remedy is to train.
    """
    last = last_update(schedule)
    if last is None:
        raise ValueError(
            f"{type(schedule).__name__} has no begin_step, end_step and frequency, so only training"
            " can tell what it ends with: pass finetune="
        )
    return last


def why_short(
    schedule: PruningSchedule, asked: float, steps: int, pattern: Pattern, shape: Sequence[int]
) -> str:
    """Return why masks are not as asked after so many steps; empty if that is not why.

    Args:
        schedule: of the training.
        asked: the sparsity asked for.
        steps: of training that the weights have seen.
        pattern: of the zeros.
        shape: of the weights.
    """
    end, trained = last_update(schedule), f"training ended at step {steps}"
    if end is None:
        return f"{trained}, and {type(schedule).__name__} had not reached its end"
    first = schedule.begin_step or schedule.frequency  # steps are counted from one
    if steps < first:
        return (
            f"{describe(schedule)} never pruned: {trained}, and its first update is at step"
            f" {first}; train longer, or give it a smaller begin_step and frequency"
        )
    latest = first + (steps - first) // schedule.frequency * schedule.frequency
    latest = latest if schedule.end_step < 0 else min(latest, end)
    given = float(schedule(latest)[1])
    if misses(given, asked, pattern, shape):
        return (
            f"{trained}, and {describe(schedule)} asks for {given:.3f} at its last update before"
            f" that, step {latest}; train for {end} steps at least"
        )
    return ""


def describe(schedule: PruningSchedule) -> str:
    """Return a schedule as its user wrote it."""
    settings = schedule.get_config()["config"]
    listed = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    return f"{type(schedule).__name__}({listed})"
