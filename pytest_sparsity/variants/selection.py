"""Which layers of a Keras network TFMOT is to prune.

This module, `pruning` and `variants` are what touches TensorFlow in the user's process.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import Unsupported, one_line
from pytest_sparsity.variants import channels, patterns
from pytest_sparsity.variants.patterns import UNSTRUCTURED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_sparsity.variants.patterns import Pattern

Network = Any
"""A `tf_keras.Model`; TensorFlow and TFMOT ship no types."""

UNSTOCK = {"Lambda", "TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "RNN"}
"""Layers of Keras' own with somebody else's code in them."""

INSTALL = "python -m pip install 'pytest-sparsity[build]'"


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
            reason = f"building variants needs {error.name}, which is not installed"
            raise Unsupported(reason, INSTALL) from error
    del tf, tf_keras
    return tfmot


@contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings of TensorFlow's own code out of the user's run, where they may be errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_network(model: object) -> None:
    """Raise TypeError, with the remedy, if TFMOT cannot prune this kind of object."""
    import tf_keras

    if isinstance(model, tf_keras.Sequential) or getattr(model, "_is_graph_network", False):
        return
    if isinstance(model, tf_keras.Model):
        raise TypeError(
            f"the build function returned a subclassed model ({type(model).__name__}); TFMOT prunes"
            " Sequential and functional models only"
        )
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    if kind.startswith("keras."):
        raise TypeError(
            f"the build function returned a Keras 3 model ({kind}), which TFMOT cannot prune: build"
            " it with `import tf_keras as keras`, or set TF_USE_LEGACY_KERAS=1 before anything"
            " imports tensorflow"
        )
    raise TypeError(f"the build function must return a tf_keras model; it returned {kind}")


def select_layers(model: Network, policy: object, pattern: Pattern = UNSTRUCTURED) -> list[Any]:
    """Return the layers to prune, in the network's order.

    Args:
        model: a Sequential or functional model; models inside it are looked into.
        policy: `"xnnpack"` for TFMOT's PruneForLatencyOnXNNPack, `"all"` for every layer that
            TFMOT can prune, a TFMOT PruningPolicy, or names of layers.
        pattern: of the zeros. Layers that cannot have it are left out unless they are named.

    Raises:
        ValueError: the policy rejects the network, a name is unknown, a layer cannot be pruned, or
            nothing is left to prune; the message says which and why.
    """
    layers = list(leaves(model))
    if policy == "all":
        selected = layers
    elif isinstance(policy, (list, tuple)):
        selected = _named(layers, policy)
    else:
        chosen = _policy(policy)
        _check_policy(model, chosen)
        selected = [layer for layer in layers if chosen.allow_pruning(layer)]
    unable = [layer for layer in selected if _has_kernel(layer) and not _supported(layer)]
    if unable:
        names = ", ".join(f"{layer.name} ({type(layer).__name__})" for layer in unable)
        raise ValueError(
            f"TFMOT cannot prune {names}: make it a tfmot.sparsity.keras.PrunableLayer, or leave it"
            " out with policy=[names of the layers to prune]"
        )
    prunable = [layer for layer in selected if _supported(layer) and prunable_weights(layer)]
    return _with_pattern(model, prunable, policy, pattern)


def _with_pattern(model: Network, layers: list[Any], policy: object, pattern: Pattern) -> list[Any]:
    if pattern.channels:
        channels.check_graph(model)
    obstacles = {layer.name: _obstacle(model, layer, pattern) for layer in layers}
    reasons = [reason for reason in obstacles.values() if reason is not None]
    if reasons and isinstance(policy, (list, tuple)):
        raise ValueError(f"pattern={pattern.name!r} is impossible: {'; '.join(reasons)}")
    able = [layer for layer in layers if obstacles[layer.name] is None]
    if not able:
        why = f": {'; '.join(reasons[:3])}" if reasons else ""
        raise ValueError(
            f"policy={policy!r} selects no layer with weights that TFMOT prunes to"
            f" pattern={pattern.name!r}{why}"
        )
    weights = [(each.name, tuple(each.shape)) for layer in able for each in prunable_weights(layer)]
    patterns.check_widths(weights, pattern)
    return able


def _obstacle(model: Network, layer: Any, pattern: Pattern) -> str | None:
    """Return why a layer cannot have a pattern, None if it can."""
    if pattern.channels:
        return channels.obstacle(model, layer)
    for weight in prunable_weights(layer):
        if not pattern.fits(weight.shape):
            ranks = " or ".join(map(str, pattern.ranks))
            return f"{weight.name} has {len(weight.shape)} dimensions, TFMOT needs {ranks}"
    return None


def leaves(model: Network) -> Iterator[Any]:
    """Return the layers of a network, and of models inside it, each once."""
    import tf_keras

    seen: set[int] = set()
    for layer in model.layers:
        inner = leaves(layer) if isinstance(layer, tf_keras.Model) else [layer]
        for leaf in inner:
            if id(leaf) not in seen:
                seen.add(id(leaf))
                yield leaf


def _named(layers: Sequence[Any], names: Sequence[str]) -> list[Any]:
    known = {layer.name: layer for layer in layers}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"policy names layers that do not exist: {unknown}; there are {list(known)}"
        )
    selected = [known[name] for name in names]
    without = [
        layer.name for layer in selected if _supported(layer) and not prunable_weights(layer)
    ]
    if without:
        raise ValueError(f"policy names layers in which TFMOT prunes no weights: {without}")
    return [layer for layer in layers if layer.name in names]


def _policy(policy: object) -> Any:
    keras = import_tfmot().sparsity.keras
    if policy == "xnnpack":
        return keras.PruneForLatencyOnXNNPack()
    if isinstance(policy, keras.PruningPolicy):
        return policy
    raise ValueError(
        f"policy={policy!r} is unknown: use 'xnnpack', 'all', a TFMOT PruningPolicy or a list of"
        " layer names"
    )


def _check_policy(model: Network, policy: Any) -> None:
    try:
        policy.ensure_model_supports_pruning(model)
    except ValueError as error:
        raise ValueError(
            f"{type(policy).__name__} rejects the network {model.name!r}: {one_line(error)}; change"
            " the network, or prune it with policy='all'"
        ) from error


def _has_kernel(layer: Any) -> bool:
    return any(len(weight.shape) >= 2 for weight in layer.trainable_weights)


def _supported(layer: Any) -> bool:
    from tensorflow_model_optimization.python.core.sparsity.keras import prune_registry

    return hasattr(layer, "get_prunable_weights") or prune_registry.PruneRegistry.supports(layer)


def prunable_weights(layer: Any) -> list[Any]:
    """Return the variables of a layer that TFMOT prunes."""
    from tensorflow_model_optimization.python.core.sparsity.keras import prune_registry

    if not hasattr(layer, "get_prunable_weights"):
        prune_registry.PruneRegistry.make_prunable(layer)
    return list(layer.get_prunable_weights())


def is_stock(layer: Any) -> bool:
    """Whether all code of a layer is Keras' own."""
    kind = type(layer)
    return kind.__module__.startswith("tf_keras.") and kind.__name__ not in UNSTOCK
