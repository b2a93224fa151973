"""Networks of Keras 3: what they are, their layers and their export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__tracebackhide__ = True

WITH_KERNEL = ("Conv1D", "Conv2D", "Conv3D", "Dense")
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
    if _is_a(layer, *SPARED) or not _is_a(layer, *WITH_KERNEL) or not layer.built:
        return []
    return [layer.kernel]


def pointwise(layer: Any) -> bool:
    """Whether a layer is a 1x1 convolution, for which XNNPACK has sparse kernels."""
    return _is_a(layer, "Conv2D") and not _is_a(layer, *SPARED) and layer.kernel_size == (1, 1)


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
