"""Pruning the selected layers with TFMOT, and whether that did what was asked.

TFMOT has traps that leave a network unpruned without a word. After pruning the zeros are counted,
and where they are not as many as asked for, the error says which trap it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_sparsity.patterns import UNSTRUCTURED
from pytest_sparsity.variants.networks import import_tfmot, prunable_weights, quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pytest_sparsity.patterns import Pattern
    from pytest_sparsity.variants.networks import Network

__tracebackhide__ = True

Schedule = Any
"""A TFMOT `PruningSchedule`."""


@dataclass(frozen=True)
class PrunedWeight:
    """What became of one weight tensor that was selected for pruning.

    Attributes:
        layer: name of the Keras layer.
        weight: name of the Keras variable.
        shape: of the variable.
        asked: the sparsity asked for.
        zeros: exact zeros.
        parameters: elements.
        together: elements that the pattern makes zero in one step.
    """

    layer: str
    weight: str
    shape: tuple[int, ...]
    asked: float
    zeros: int
    parameters: int
    together: int = 1

    @property
    def sparsity(self) -> float:
        """Exact zeros / elements."""
        return self.zeros / self.parameters

    @property
    def as_asked(self) -> bool:
        """Whether the zeros are as many as asked for, within one step of the pattern."""
        return abs(self.zeros - self.asked * self.parameters) <= self.together

    def __str__(self) -> str:
        of = f"{self.zeros} of {self.parameters} weights zero"
        return f"{self.weight} has {of} ({self.sparsity:.2%}, asked: {self.asked:.2%})"


def resolve_schedule(schedule: Schedule | None, sparsity: float) -> tuple[Schedule, float]:
    """Return the schedule to use and the sparsity it is to end with.

    Args:
        schedule: a TFMOT PruningSchedule, a function that returns one (so that TFMOT need not be
            imported to ask for it), or None for a constant sparsity, applied at every step.
        sparsity: what is asked for. A schedule brings its own final sparsity, which counts.

    Raises:
        TypeError: `schedule` is something else.
    """
    import inspect

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


def check_schedule(schedule: Schedule, asked: float, layers: Sequence[Any]) -> None:
    """Raise ValueError if no training can bring the asked sparsity, before any is done."""
    last = last_update(schedule)
    if last is None:
        return
    reached = float(schedule(last)[1])
    largest = max(_size(weight) for layer in layers for weight in prunable_weights(layer))
    if abs(reached - asked) * largest > 1:
        raise ValueError(
            f"{_describe(schedule)} ends at a sparsity of {reached:.3f}, not {asked:g}: its last"
            f" update is at step {last}, not at end_step={schedule.end_step}; make end_step -"
            " begin_step a multiple of frequency"
        )


def last_update(schedule: Schedule) -> int | None:
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


def apply_masks(layers: Sequence[Any], schedule: Schedule, pattern: Pattern = UNSTRUCTURED) -> None:
    """Prune the layers' weights in place, as TFMOT does at the schedule's last update.

    TFMOT's own mask code is called directly: the masks are the ones that a training without
    learning would give, in a tenth of the time and without moving a BatchNormalization's
    statistics.

    Raises:
        ValueError: the schedule's last update is unknown.
    """
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl

    last = last_update(schedule)
    if last is None:
        raise ValueError(
            f"{type(schedule).__name__} has no begin_step, end_step and frequency, so only training"
            " can tell what it ends with: pass finetune="
        )
    arguments = pattern.tfmot()
    block, groups = arguments["block_size"], arguments["sparsity_m_by_n"]
    step = 1 if groups else last  # TFMOT makes the masks of m:n at step 1 and never again
    with quiet():
        for layer in layers:
            triples = [
                (weight, tf.Variable(tf.ones_like(weight)), tf.Variable(tf.zeros([], weight.dtype)))
                for weight in prunable_weights(layer)
            ]
            pruning = pruning_impl.Pruning(
                lambda: tf.constant(step, tf.int64), triples, schedule, block, "AVG", groups
            )
            pruning.conditional_mask_update()
            pruning.weight_mask_op()
            _make_zeros_canonical(layer)


def _make_zeros_canonical(layer: Any) -> None:
    """Replace -0.0, which TFMOT leaves for half of the zeros, by 0.0, which compresses."""
    for weight in prunable_weights(layer):
        weight.assign(weight.numpy() + 0.0)


class _Selected:
    """A pruning policy: just these layers, of a network that has been checked already."""

    def __init__(self, layers: Sequence[Any]) -> None:
        self._layers = {id(layer) for layer in layers}

    def allow_pruning(self, layer: Any) -> bool:
        return id(layer) in self._layers

    def ensure_model_supports_pruning(self, model: Network) -> None:
        """Nothing is left to check."""


def train(
    model: Network,
    layers: Sequence[Any],
    schedule: Schedule,
    finetune: Callable[[Network, list[Any]], object],
    pattern: Pattern = UNSTRUCTURED,
) -> tuple[Network, dict[int, Any]]:
    """Wrap the layers, let the user train, and strip the wrappers.

    The wrapped network shares its layers with `model`, whose weights change.

    Returns:
        The stripped network, and TFMOT's wrappers by the identity of the layer in them.

    Raises:
        ValueError: the training left out the callbacks.
    """
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_wrapper

    sparsity = import_tfmot().sparsity.keras
    # The wrappers' variables and the training belong to the strategy that the model was built in.
    with model.distribute_strategy.scope():
        with quiet():
            wrapped = sparsity.prune_low_magnitude(
                model,
                pruning_schedule=schedule,
                pruning_policy=_Selected(layers),
                **pattern.tfmot(),
            )
        _train(wrapped, finetune, sparsity.UpdatePruningStep())
    wrappers = {id(w.layer): w for w in pruning_wrapper.collect_prunable_layers(wrapped)}
    with quiet():
        stripped = sparsity.strip_pruning(wrapped)
    for layer in layers:
        _make_zeros_canonical(layer)
    return stripped, wrappers


def _train(
    wrapped: Network, finetune: Callable[[Network, list[Any]], object], callback: Any
) -> None:
    try:
        finetune(wrapped, [callback])
    except Exception as error:
        if "requires the UpdatePruningStep callback" in str(error):
            raise ValueError(
                "finetune(model, callbacks) trained without the callbacks: hand them on, as in"
                " model.fit(x, y, callbacks=callbacks)"
            ) from error
        raise


def values(layers: Sequence[Any]) -> list[list[NDArray[np.float32]]]:
    """Return the values of each layer's prunable weights."""
    return [[weight.numpy() for weight in prunable_weights(layer)] for layer in layers]


def check_zeros(
    layers: Sequence[Any],
    asked: float,
    before: Sequence[Sequence[NDArray[np.float32]]],
    schedule: Schedule,
    wrappers: dict[int, Any],
    pattern: Pattern = UNSTRUCTURED,
) -> tuple[PrunedWeight, ...]:
    """Count the zeros of the layers' weights after pruning.

    Args:
        layers: the selected ones, pruned.
        asked: the sparsity asked for.
        before: what `values` returned before pruning.
        schedule: what masks were made by.
        wrappers: what `train` returned; empty if there was no training.
        pattern: of the zeros.

    Raises:
        ValueError: a weight differs from what was asked by more than one zero, and why.
    """
    counted, faults = [], []
    for layer, originals in zip(layers, before, strict=True):
        for position, weight in enumerate(prunable_weights(layer)):
            pruned = _count(layer, weight, asked, pattern)
            counted.append(pruned)
            if pruned.as_asked:
                continue
            if id(layer) in wrappers:
                why = _why_training(pruned, schedule, wrappers[id(layer)], position)
            else:
                why = _why_masks(pruned, originals[position])
            faults.append(f"{pruned}: {why}")
    if faults:
        more = f" (and {len(faults) - 1} more like it)" if len(faults) > 1 else ""
        raise ValueError(f"pruning did not do what was asked: {faults[0]}{more}")
    return tuple(counted)


def _count(layer: Any, weight: Any, asked: float, pattern: Pattern) -> PrunedWeight:
    import numpy as np

    data = weight.numpy()
    zeros = data.size - int(np.count_nonzero(data))
    together = pattern.zeros_together(data.shape)
    return PrunedWeight(layer.name, weight.name, data.shape, asked, zeros, data.size, together)


def _why_masks(pruned: PrunedWeight, before: NDArray[np.float32]) -> str:
    import numpy as np

    magnitudes = np.sort(np.abs(before), axis=None)
    if np.isnan(magnitudes[-1]):
        return "some weights are NaN"
    zeros = int(np.searchsorted(magnitudes, 0, side="right"))
    if zeros > pruned.asked * pruned.parameters:
        return (
            f"{zeros} were zero before pruning; ask for sparsity={zeros / pruned.parameters:.4g} or"
            " more, or leave the layer out of the policy"
        )
    threshold = magnitudes[pruned.zeros]
    tied = int(np.count_nonzero(magnitudes == threshold))
    return (
        f"{tied} weights tie at the magnitude {threshold:g}, and TFMOT keeps all that equal its"
        " threshold; break the ties, for example by training"
    )


def _why_training(pruned: PrunedWeight, schedule: Schedule, wrapper: Any, position: int) -> str:
    import numpy as np

    steps = int(wrapper.pruning_step.numpy())
    if steps <= 0:
        return "finetune ended without a step of training"
    _weight, mask, _threshold = wrapper.pruning_vars[position]
    masked = int(np.count_nonzero(mask.numpy() == 0))
    if abs(masked - pruned.asked * pruned.parameters) <= pruned.together:
        if masked > pruned.zeros:
            return (
                "the masks are right but were not applied after the last step; a training loop of"
                " your own must call callback.on_epoch_end(epoch) for each of the callbacks"
            )
        return f"{pruned.zeros - masked} weights that were to be kept are zero"
    return _why_schedule(pruned, schedule, steps)


def _why_schedule(pruned: PrunedWeight, schedule: Schedule, steps: int) -> str:
    end, trained = last_update(schedule), f"training ended at step {steps}"
    if end is None:
        return f"{trained}, and {type(schedule).__name__} had not reached its end"
    first = schedule.begin_step or schedule.frequency  # steps are counted from one
    if steps < first:
        return (
            f"{_describe(schedule)} never pruned: {trained}, and its first update is at step"
            f" {first}; train longer, or give it a smaller begin_step and frequency"
        )
    latest = first + (steps - first) // schedule.frequency * schedule.frequency
    latest = latest if schedule.end_step < 0 else min(latest, end)
    given = float(schedule(latest)[1])
    if abs(given - pruned.asked) * pruned.parameters > 1:
        return (
            f"{trained}, and {_describe(schedule)} asks for {given:.3f} at its last update before"
            f" that, step {latest}; train for {end} steps at least"
        )
    return (
        "TFMOT keeps all weights that equal its threshold, so many of them are equal (clustered or"
        " quantized weights); break the ties before pruning"
    )


def _size(weight: Any) -> int:
    return math.prod(weight.shape)


def _describe(schedule: Schedule) -> str:
    settings = schedule.get_config()["config"]
    listed = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    return f"{type(schedule).__name__}({listed})"
