"""Pruning by magnitude for networks of Keras 3, which TFMOT does not know.

TFMOT's schedules say when masks are made and how many zeros they have; the masks are `masks.mask`,
made and applied where TFMOT's wrappers would: right before a training step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity.variants import counting, keras3, masks, schedules
from pytest_sparsity.variants.technique import LINEAR, NEGLECTED, ByMagnitude, Obstacle, Pruned
from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.patterns import Pattern
    from pytest_sparsity.variants.schedules import PruningSchedule
    from pytest_sparsity.variants.technique import Finetune

__tracebackhide__ = True


class Keras3Magnitude(ByMagnitude):
    """The smallest weights become zero; a `Technique`."""

    def obstacle(self, model: Any, layer: Any) -> Obstacle | None:  # noqa: ARG002
        """Return why a layer cannot have the pattern, None if it can."""
        for weight in keras3.prunable_weights(layer):
            name, shape = weight.path, weight.shape
            if self.pattern.block > 1 and len(shape) != LINEAR:
                return Obstacle(
                    f"{name} has {counted(len(shape), 'dimension')}, blocks need 2", told=False
                )
            if self.pattern.width > 1 and shape[-2] % self.pattern.width:
                width = self.pattern.width
                return Obstacle(
                    f"{name} has {counted(shape[-2], 'input')}, which is no multiple of {width}"
                )
        return None

    def prune(self, model: Any, layers: Sequence[Any], finetune: Finetune | None) -> Pruned:
        """Prune the layers, in place; see `Technique`."""
        weights = [weight for layer in layers for weight in keras3.prunable_weights(layer)]
        shapes = [tuple(weight.shape) for weight in weights]
        schedules.check(self.schedule, self.asked, self.pattern, shapes)
        before = counting.values(layers)
        masking = Masking(weights, self.schedule, self.pattern)
        if finetune is None:
            masking.renew(schedules.final_update(self.schedule))
            masking.apply()
        else:
            finetune(model, [callback(masking)])
            masking.apply()
            counting.check_finite(model, trained=True)
            if not masking.steps:
                raise ValueError(NEGLECTED)
        try:
            report = counting.check_zeros(layers, self.asked, before, None, self.pattern)
        except ValueError as error:
            why = schedules.why_short(
                self.schedule, self.asked, masking.steps, self.pattern, shapes[0]
            )
            if finetune is None or not why:
                raise
            raise ValueError(f"pruning did not do what was asked: {why}") from error
        return Pruned(model, None, report)


class Masking:
    """The masks of some weights during a training.

    Attributes:
        steps: of training that were seen.
    """

    def __init__(self, weights: Sequence[Any], schedule: PruningSchedule, pattern: Pattern) -> None:
        self._weights, self._schedule, self._pattern = weights, schedule, pattern
        self._masks: list[Any] = [None] * len(weights)
        self.steps = 0

    def step(self) -> None:
        """Prepare the next step of training, as TFMOT's wrappers do when they are called.

        Steps are counted from 1; the masks of m:n are made at step 1 and never again.
        """
        self.steps += 1
        once = bool(self._pattern.zeros)
        if self.steps == 1 if once else bool(self._schedule(self.steps)[0]):
            self.renew(self.steps)
        self.apply()

    def renew(self, step: int) -> None:
        """Make the masks of a step."""
        sparsity = float(self._schedule(step)[1])
        self._masks = [
            masks.mask(weight.numpy(), sparsity, self._pattern) for weight in self._weights
        ]

    def apply(self) -> None:
        """Set what is masked to zero; 0.0, never -0.0, which compresses badly."""
        import numpy as np

        for weight, kept in zip(self._weights, self._masks, strict=True):
            if kept is not None:
                weight.assign(np.where(kept, weight.numpy(), np.float32(0)))


def callback(masking: Masking) -> Any:
    """Return what a training needs: a callback of Keras 3."""
    import keras

    class UpdateMasks(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            masking.step()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            masking.apply()

    return UpdateMasks()
