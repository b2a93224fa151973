"""What stripping promises of a Keras network that was pruned with TFMOT's wrappers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike

    KerasModel = Any

WRAPPER = "PruneLowMagnitude"
"""The class of TFMOT's pruning wrappers (0.8.1)."""


def is_stripped(network: KerasModel) -> None:
    """No layer of a Keras network is wrapped for pruning any more, nor in a model inside it.

    Raises:
        AssertionError: a layer is.
    """
    wrapped = [layer.name for layer in _layers(network) if type(layer).__name__ == WRAPPER]
    if wrapped:
        raise AssertionError(
            f"{network.name} still has the pruning wrappers {', '.join(wrapped)}, whose masks make"
            " it larger and slower; convert tfmot.sparsity.keras.strip_pruning(network)"
        )


def strips_to_the_same_function(
    wrapped: KerasModel, stripped: KerasModel, inputs: ArrayLike
) -> None:
    """Stripping leaves no wrapper and changes no bit of the outputs.

    Args:
        wrapped: a Keras network with TFMOT's pruning wrappers and one output.
        stripped: what `strip_pruning` made of it.
        inputs: of the networks, with their batch.

    Raises:
        AssertionError: a wrapper is left, or an output differs.
    """
    import numpy as np

    is_stripped(stripped)
    before, after = (np.asarray(model(inputs, training=False)) for model in (wrapped, stripped))
    if before.shape != after.shape or before.tobytes() != after.tobytes():
        raise AssertionError(
            f"{stripped.name} computes another function than with its pruning wrappers: outputs"
            f" of shape {after.shape} and {before.shape} differ; strip it after the last epoch has"
            " ended, and change no weight in between"
        )


def _layers(network: KerasModel) -> Iterator[Any]:
    for layer in network.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)
