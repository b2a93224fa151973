"""Keras networks and TFMOT as the rooms of `variants` use them.

What touches TensorFlow in the process that builds starts here.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.variants import keras3

if TYPE_CHECKING:
    from collections.abc import Iterator

KerasModel = Any
"""A `tf_keras.Model` or a `keras.Model` of Keras 3; TensorFlow and TFMOT ship no types."""

UNSTOCK = {"Lambda", "TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "RNN"}
"""Layers of Keras' own with somebody else's code in them."""

LEGACY = "TF_USE_LEGACY_KERAS"
"""Makes `tf.keras` be `tf_keras`, read when `tf.keras` is first touched."""

INSTALL = "python -m pip install 'pytest-sparsity[build]'"
BUILDERS = frozenset({"keras", "tensorflow", "tensorflow_model_optimization", "tf_keras"})
"""What that brings."""


def import_tfmot() -> Any:
    """Import TFMOT, before the network is built, and return it.

    TFMOT 0.8.1 sets TF_USE_LEGACY_KERAS when imported, so `tf.keras` is `tf_keras` in a build
    function that uses it.

    Raises:
        Unsupported: TensorFlow, tf-keras or TFMOT is not installed.
    """
    with quiet():
        try:
            import tensorflow as tf
            import tensorflow_model_optimization as tfmot
            import tf_keras
        except ModuleNotFoundError as error:
            raise _not_installed(error) from error
    del tf, tf_keras
    return tfmot


@contextmanager
def needing_builders() -> Iterator[None]:
    """Say how to install what a build function imports, if it is of the extra `build`.

    Raises:
        Unsupported: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in BUILDERS:
            raise
        raise _not_installed(error) from error


def _not_installed(error: ModuleNotFoundError) -> Unsupported:
    return Unsupported(f"building variants needs {error.name}, which is not installed", INSTALL)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings of TensorFlow's own code out of the user's run, where they may be errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def bare(model: Any) -> KerasModel:
    """Return a network without TFMOT's wrappers around its layers, checked.

    Raises:
        TypeError: TFMOT cannot prune this kind of object; the message has the remedy.
    """
    if keras3.is_network(model):
        keras3.check(model)
        return model
    keras = import_tfmot()
    check_network(model)
    wrappers = {type(layer).__name__ for layer in leaves(model)}
    with quiet():
        if "PruneLowMagnitude" in wrappers:
            model = keras.sparsity.keras.strip_pruning(model)
        if wrappers & {"ClusterWeights", "ClusterWeightsMHA"}:
            model = keras.clustering.keras.strip_clustering(model)
    quantized = sorted(each for each in wrappers if each.startswith("Quantize"))
    if quantized:
        raise TypeError(
            f"the build function returned a network in TFMOT's {quantized[0]}; return it as it was"
            " before quantize_apply, quantize='qat' and finetune do that"
        )
    return model


def check_network(model: object) -> None:
    """Raise TypeError, with the remedy, if TFMOT cannot prune this kind of object."""
    import tf_keras

    if is_functional(model):
        return
    if isinstance(model, tf_keras.Model):
        raise TypeError(
            f"the build function returned a subclassed model ({type(model).__name__}); TFMOT prunes"
            " Sequential and functional models only"
        )
    kind = type(model)
    said = "nothing" if model is None else f"{kind.__module__}.{kind.__qualname__}"
    raise TypeError(
        "the build function must return a model of tf_keras or Keras 3, the path of a saved one, or"
        f" what else `variants` takes; it returned {said}"
    )


def is_functional(model: object) -> bool:
    """Whether a model is Sequential or functional, so that its layers can be replaced."""
    import tf_keras

    return isinstance(model, tf_keras.Sequential) or getattr(model, "_is_graph_network", False)


def inner_models(model: KerasModel) -> Iterator[KerasModel]:
    """Return the models inside a network, and inside them."""
    import tf_keras

    for layer in model.layers:
        if isinstance(layer, tf_keras.Model):
            yield layer
            yield from inner_models(layer)


def leaves(model: KerasModel) -> Iterator[Any]:
    """Return the layers of a network, and of models inside it, each once."""
    if keras3.is_network(model):
        yield from keras3.leaves(model)
        return
    import tf_keras

    seen: set[int] = set()
    for layer in model.layers:
        inner = leaves(layer) if isinstance(layer, tf_keras.Model) else [layer]
        for leaf in inner:
            if id(leaf) not in seen:
                seen.add(id(leaf))
                yield leaf


def has_kernel(layer: Any) -> bool:
    """Whether a layer has a weight that is no bias."""
    return any(len(weight.shape) >= 2 for weight in layer.trainable_weights)


def is_supported(layer: Any) -> bool:
    """Whether it is known which weights of a layer to prune: by TFMOT, or by us of Keras 3."""
    if keras3.is_layer(layer):
        return bool(keras3.prunable_weights(layer))
    from tensorflow_model_optimization.python.core.sparsity.keras import prune_registry

    return hasattr(layer, "get_prunable_weights") or prune_registry.PruneRegistry.supports(layer)


def prunable_weights(layer: Any) -> list[Any]:
    """Return the variables of a layer that are pruned."""
    if keras3.is_layer(layer):
        return keras3.prunable_weights(layer)
    from tensorflow_model_optimization.python.core.sparsity.keras import prune_registry

    if not hasattr(layer, "get_prunable_weights"):
        prune_registry.PruneRegistry.make_prunable(layer)
    return list(layer.get_prunable_weights())


def is_stock(layer: Any) -> bool:
    """Whether all code of a layer is Keras' own."""
    kind = type(layer)
    return kind.__module__.startswith(("tf_keras.", "keras.src.")) and kind.__name__ not in UNSTOCK


def unseen_variables(layer: Any) -> list[str]:
    """Return the names of variables that a Lambda computes with and Keras does not know."""
    import tensorflow as tf

    cells = getattr(getattr(layer, "function", None), "__closure__", None) or ()
    held = [cell.cell_contents for cell in cells]
    known = {id(weight) for weight in layer.weights}
    found = [each for each in held if isinstance(each, tf.Variable) and id(each) not in known]
    for each in held:
        found += getattr(each, "trainable_variables", None) or []
    return [variable.name for variable in found]
