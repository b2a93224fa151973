"""Networks of Keras 3, which TFMOT does not know: their layers, pruning and export.

TFMOT's schedules say when masks are made and how many zeros they have; the masks are `masks.mask`,
made and applied where TFMOT's wrappers would: right before a training step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity.variants import counting, masks, schedules
from pytest_sparsity.variants.technique import LINEAR, NEGLECTED, ByMagnitude, Obstacle, Pruned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_sparsity.patterns import Pattern
    from pytest_sparsity.variants.schedules import Schedule
    from pytest_sparsity.variants.technique import Finetune

__tracebackhide__ = True

PRUNED = ("Conv1D", "Conv2D", "Conv3D", "Dense")
"""Layers whose kernels are pruned, also those that derive from them; TFMOT prunes these, too."""

SPARED = ("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D")


def is_network(model: object) -> bool:
    """Whether an object is a model of Keras 3."""
    return _is_a(model, "Model") and _module(model).startswith("keras.src.")


def is_layer(layer: object) -> bool:
    """Whether an object is a layer of Keras 3, or derives from one."""
    return any(kind.__module__.startswith("keras.src.layers.layer") for kind in type(layer).__mro__)


def _module(model: object) -> str:
    """The module of the class of Keras that a model is, or derives from."""
    for kind in type(model).__mro__:
        if kind.__module__.startswith(("keras.", "tf_keras.")):
            return kind.__module__
    return ""


def _is_a(it: object, *names: str) -> bool:
    return any(
        kind.__name__ in names and kind.__module__.startswith("keras.src.")
        for kind in type(it).__mro__
    )


def check(model: Any) -> None:
    """Raise ValueError if a model cannot be exported: backend, and whether it has weights yet."""
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ValueError(
            f"Keras 3 computes with {backend}, and only networks of its TensorFlow backend become"
            " .tflite files here: set KERAS_BACKEND=tensorflow before keras is imported"
        )
    if not model.built or not getattr(model, "inputs", None):
        raise ValueError(
            f"{type(model).__name__} has no inputs yet; return a Sequential or functional model, or"
            " wrap it: keras.Model(x := keras.Input((...), batch_size=1), model(x))"
        )


def leaves(model: Any) -> Iterator[Any]:
    """Return the layers of a network, and of models and layers inside it, each once."""
    seen: set[int] = set()
    for layer in model._flatten_layers(include_self=False, recursive=True):  # noqa: SLF001
        inner = list(layer._flatten_layers(include_self=False, recursive=True))  # noqa: SLF001
        if not inner and id(layer) not in seen:
            seen.add(id(layer))
            yield layer


def prunable_weights(layer: Any) -> list[Any]:
    """Return the variables of a layer that are pruned: the kernel."""
    if _is_a(layer, *SPARED) or not _is_a(layer, *PRUNED) or not layer.built:
        return []
    return [layer.kernel]


def pointwise(layer: Any) -> bool:
    """Whether a layer is a 1x1 convolution, for which XNNPACK has sparse kernels."""
    return _is_a(layer, "Conv2D") and not _is_a(layer, *SPARED) and layer.kernel_size == (1, 1)


class Magnitude(ByMagnitude):
    """The smallest weights become zero; a `Technique`."""

    def obstacle(self, model: Any, layer: Any) -> Obstacle | None:  # noqa: ARG002
        """Return why a layer cannot have the pattern, None if it can."""
        for weight in prunable_weights(layer):
            name, shape = weight.path, weight.shape
            if self.pattern.block > 1 and len(shape) != LINEAR:
                return Obstacle(f"{name} has {len(shape)} dimensions, blocks need 2", told=False)
            if self.pattern.width > 1 and shape[-2] % self.pattern.width:
                width = self.pattern.width
                return Obstacle(f"{name} has {shape[-2]} inputs, which is no multiple of {width}")
        return None

    def prune(self, model: Any, layers: Sequence[Any], finetune: Finetune | None) -> Pruned:
        """Prune the layers, in place; see `Technique`."""
        weights = [weight for layer in layers for weight in prunable_weights(layer)]
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

    def __init__(self, weights: Sequence[Any], schedule: Schedule, pattern: Pattern) -> None:
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


def export(model: Any, folder: Path) -> None:
    """Write a SavedModel whose inputs have the batch that the network has.

    Keras' own export leaves every batch open (Keras 3.15), which LiteRT.js does not take.
    """
    import tensorflow as tf
    from keras import tree

    def spec(tensor: Any) -> Any:
        return tf.TensorSpec(tensor.shape, tensor.dtype, name=tensor.name)

    structure = getattr(model, "_inputs_struct", None)
    given = tree.map_structure(spec, model.inputs if structure is None else structure)
    model.export(str(folder), verbose=False, input_signature=[given])
