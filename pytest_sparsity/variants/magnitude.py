"""Single weights, blocks or m:n pruned by magnitude, with TFMOT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import one_line
from pytest_sparsity.progress import step
from pytest_sparsity.variants import counting, schedules
from pytest_sparsity.variants.networks import (
    import_tfmot,
    inner_models,
    is_functional,
    prunable_weights,
    quiet,
)
from pytest_sparsity.variants.technique import LINEAR, NEGLECTED, ByMagnitude, Obstacle, Pruned
from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.patterns import Pattern
    from pytest_sparsity.variants.counting import Training
    from pytest_sparsity.variants.networks import KerasModel
    from pytest_sparsity.variants.schedules import PruningSchedule
    from pytest_sparsity.variants.technique import Finetune

__tracebackhide__ = True


class Magnitude(ByMagnitude):
    """The smallest weights become zero, with TFMOT."""

    def obstacle(self, model: KerasModel, layer: Any) -> Obstacle | None:  # noqa: ARG002
        """Return why a layer cannot have the pattern, None if it can."""
        reasons = (_obstacle(self.pattern, w.name, w.shape) for w in prunable_weights(layer))
        return next((reason for reason in reasons if reason is not None), None)

    def prune(self, model: KerasModel, layers: Sequence[Any], finetune: Finetune | None) -> Pruned:
        """Prune the layers, in place; see `Technique`."""
        shapes = [tuple(w.shape) for layer in layers for w in prunable_weights(layer)]
        schedules.check(self.schedule, self.asked, self.pattern, shapes)
        before = counting.values(layers)
        training, network = None, model
        if finetune is None:
            apply_masks(layers, self.schedule, self.pattern)
        else:
            network, training = train(model, layers, self.schedule, finetune, self.pattern)
            counting.check_finite(network, trained=True)
        report = counting.check_zeros(layers, self.asked, before, training, self.pattern)
        return Pruned(network, None, report)


def _obstacle(pattern: Pattern, name: str, shape: Sequence[int]) -> Obstacle | None:
    """Return why TFMOT 0.8.1 does not prune a weight to a pattern, None if it does.

    It prunes less than m:n in what is left over, pools blocks off their places, and, where an axis
    of the pooled weights has length 1, squeezes it away (pruning_impl.py,
    _maybe_update_block_mask); the converter of TensorFlow 2.21 drops what is left over of blocks.
    """
    ranks = (LINEAR,) if pattern.block > 1 else (LINEAR, 4) if pattern.zeros else ()
    if ranks and len(shape) not in ranks:
        listed = " or ".join(map(str, ranks))
        return Obstacle(
            f"{name} has {counted(len(shape), 'dimension')}, TFMOT needs {listed}", told=False
        )
    if pattern.width > 1 and shape[-2] % pattern.width:
        return Obstacle(
            f"{name} has {counted(shape[-2], 'input')}, which is no multiple of {pattern.width}"
        )
    if pattern.block > 1 and 1 in (shape[0] // pattern.block, shape[1]):
        single = "one output" if shape[1] == 1 else f"inputs for one block of {pattern.block} only"
        return Obstacle(f"{name} has {single}, and TFMOT needs more")
    return None


def _tfmot(pattern: Pattern) -> dict[str, Any]:
    """Return the arguments of `prune_low_magnitude`; Keras' order is inputs, outputs."""
    return {
        "block_size": (pattern.block, 1),
        "sparsity_m_by_n": (pattern.zeros, pattern.group) if pattern.zeros else None,
    }


def apply_masks(layers: Sequence[Any], schedule: PruningSchedule, pattern: Pattern) -> None:
    """Prune the layers' weights in place, as TFMOT does at the schedule's last update.

    TFMOT's own mask code is called directly: the masks are the ones that a training without
    learning would give, in a tenth of the time and without moving a BatchNormalization's
    statistics.

    Raises:
        ValueError: the schedule's last update is unknown.
    """
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl

    last = schedules.final_update(schedule)
    arguments = _tfmot(pattern)
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

    def ensure_model_supports_pruning(self, model: KerasModel) -> None:
        """Nothing is left to check."""


def train(
    model: KerasModel,
    layers: Sequence[Any],
    schedule: PruningSchedule,
    finetune: Finetune,
    pattern: Pattern,
) -> tuple[KerasModel, Training]:
    """Wrap the layers, let the user train, apply the masks once more, and strip the wrappers.

    The wrapped network shares its layers with `model`, whose weights change. The masks are applied
    again since a last step moves removed weights, and since a callback may bring older ones back.

    Raises:
        ValueError: TFMOT cannot wrap the network, or the training left out the callbacks.
    """
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_wrapper

    sparsity, callback = import_tfmot().sparsity.keras, _counting_callback()
    subclassed = [each.name for each in inner_models(model) if not is_functional(each)]
    if subclassed:
        raise ValueError(
            f"finetune needs TFMOT's wrappers around layers of {', '.join(subclassed)}, which is a"
            " subclassed model; make it Sequential or functional, or leave finetune out"
        )
    # The wrappers' variables and the training belong to the strategy that the model was built in.
    with model.distribute_strategy.scope():
        with quiet():
            try:
                wrapped = sparsity.prune_low_magnitude(
                    model,
                    pruning_schedule=schedule,
                    pruning_policy=_Selected(layers),
                    **_tfmot(pattern),
                )
            except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
                raise ValueError(
                    f"TFMOT cannot wrap the network for finetune: {one_line(error)}; train it in"
                    " the build function, and leave finetune out"
                ) from error
        _train(wrapped, finetune, callback)
        wrappers = pruning_wrapper.collect_prunable_layers(wrapped)
        for wrapper in wrappers:
            wrapper.pruning_obj.weight_mask_op()
    with quiet():
        stripped = sparsity.strip_pruning(wrapped)
    for layer in layers:
        _make_zeros_canonical(layer)
    by_layer = {id(wrapper.layer): wrapper for wrapper in wrappers}
    return stripped, counting.Training(schedule, by_layer, callback.steps)


def _counting_callback() -> Any:
    """Return TFMOT's callback that counts the steps, whatever brings older weights back."""

    class CountingSteps(import_tfmot().sparsity.keras.UpdatePruningStep):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.steps = 0

        def on_train_batch_end(self, batch: Any, logs: Any = None) -> None:
            super().on_train_batch_end(batch, logs)
            self.steps += 1

    return CountingSteps()


def _train(wrapped: KerasModel, finetune: Finetune, callback: Any) -> None:
    try:
        with step("training"):
            finetune(wrapped, [callback])
    except Exception as error:
        if "requires the UpdatePruningStep callback" in str(error):
            raise ValueError(NEGLECTED) from error
        raise
