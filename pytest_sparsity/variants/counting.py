"""Whether pruning did what was asked: the zeros are counted, and a miss is explained.

TFMOT has traps that leave a network unpruned without a word. The error says which one it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_sparsity.patterns import UNSTRUCTURED, Pattern
from pytest_sparsity.variants import schedules
from pytest_sparsity.variants.networks import leaves, prunable_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pytest_sparsity.variants.networks import KerasModel
    from pytest_sparsity.variants.schedules import PruningSchedule

    Values = Sequence[Sequence[NDArray[np.float32]]]


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
        slack: by how many the zeros may differ from what was asked for: elements that the pattern
            makes zero in one step, or that may be equal in magnitude.
    """

    layer: str
    weight: str
    shape: tuple[int, ...]
    asked: float
    zeros: int
    parameters: int
    slack: float = 1.0

    @property
    def sparsity(self) -> float:
        """Exact zeros / elements."""
        return self.zeros / self.parameters

    @property
    def as_asked(self) -> bool:
        """Whether the zeros are as many as asked for, within the slack."""
        return self.is_near(self.zeros)

    def is_near(self, zeros: int) -> bool:
        """Whether so many zeros are as many as asked for, within the slack."""
        return abs(zeros - self.asked * self.parameters) <= self.slack

    def __str__(self) -> str:
        of = f"{self.zeros} of {self.parameters} weights zero"
        return f"{self.weight} has {of} ({self.sparsity:.2%}, asked: {self.asked:.2%})"


@dataclass(frozen=True)
class Training:
    """How a network was trained under TFMOT's wrappers.

    Attributes:
        schedule: that its masks were made by.
        wrappers: by the identity of the layer in them.
        steps: that our callback has seen.
    """

    schedule: PruningSchedule
    wrappers: dict[int, Any]
    steps: int


def values(layers: Sequence[Any]) -> list[list[NDArray[np.float32]]]:
    """Return the values of each layer's prunable weights."""
    return [[weight.numpy() for weight in prunable_weights(layer)] for layer in layers]


def check_finite(model: KerasModel, *, trained: bool = False) -> None:
    """Raise ValueError if a weight of the network is NaN or infinite."""
    import numpy as np

    for layer in leaves(model):
        for weight in layer.weights:
            data = weight.numpy()
            if data.dtype.kind == "f" and not np.isfinite(data).all():
                kind = "NaN" if np.isnan(data).any() else "infinite"
                when = "finetune left" if trained else "the build function returned"
                remedy = "lower the learning rate" if trained else "see how they were trained"
                raise ValueError(f"{when} {weight.name} with weights that are {kind}; {remedy}")


def check_zeros(
    layers: Sequence[Any],
    asked: float,
    before: Values,
    training: Training | None = None,
    pattern: Pattern = UNSTRUCTURED,
) -> tuple[PrunedWeight, ...]:
    """Count the zeros of the layers' weights after pruning.

    Args:
        layers: the selected ones, pruned.
        asked: the sparsity asked for.
        before: what `values` returned before pruning.
        training: None if there was none.
        pattern: of the zeros.

    Raises:
        ValueError: a weight differs from what was asked by more than its slack, and why.
    """
    counted, faults = [], []
    for layer, originals in zip(layers, before, strict=True):
        for position, weight in enumerate(prunable_weights(layer)):
            pruned = _count(layer, weight, asked, pattern)
            counted.append(pruned)
            if pruned.as_asked:
                continue
            if training is not None and id(layer) in training.wrappers:
                why = _why_training(pruned, training, id(layer), position, pattern)
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
    slack = pattern.slack(data.shape)
    name = getattr(weight, "path", weight.name)  # Keras 3 calls every kernel "kernel"
    return PrunedWeight(layer.name, name, data.shape, asked, zeros, data.size, slack)


def _why_masks(pruned: PrunedWeight, before: NDArray[np.float32]) -> str:
    import numpy as np

    magnitudes = np.sort(np.abs(before), axis=None)
    zeros = int(np.searchsorted(magnitudes, 0, side="right"))
    if zeros == pruned.parameters:
        return (
            "all were zero as the build function returned them; train or load them, or leave the"
            " layer out with policy=[names of the layers to prune]"
        )
    if zeros > pruned.asked * pruned.parameters:
        share = np.ceil(1e4 * zeros / pruned.parameters) / 1e4
        ask = f"ask for sparsity={share:g} or more, or " if share < 1 else ""
        return f"{zeros} were zero before pruning; {ask}leave the layer out of the policy"
    threshold = magnitudes[pruned.zeros]
    tied = int(np.count_nonzero(magnitudes == threshold))
    return (
        f"{tied} weights tie at the magnitude {threshold:g}, and TFMOT keeps all that equal its"
        " threshold; break the ties, for example by training"
    )


def _why_training(
    pruned: PrunedWeight, training: Training, layer: int, position: int, pattern: Pattern
) -> str:
    import numpy as np

    wrapper = training.wrappers[layer]
    steps = int(wrapper.pruning_step.numpy())
    if max(steps, training.steps) <= 0:
        return "finetune ended without a step of training"
    _weight, mask, _threshold = wrapper.pruning_vars[position]
    if pruned.is_near(int(np.count_nonzero(mask.numpy() == 0))):
        return "weights that were to be kept are zero"
    why = schedules.why_short(training.schedule, pruned.asked, steps, pattern, pruned.shape)
    if why and steps < training.steps:
        return (
            f"after {training.steps} steps the weights of step {steps} were brought back, as"
            " EarlyStopping(restore_best_weights=True) does, with the masks of that step; let it"
            f" begin when the schedule has ended (start_from_epoch): {why}"
        )
    return why or (
        "TFMOT keeps all weights that equal its threshold, so many of them are equal (clustered or"
        " quantized weights); break the ties before pruning"
    )
