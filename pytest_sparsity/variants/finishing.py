"""What can follow pruning before conversion: clustering and quantization-aware training.

Both keep the zeros, and follow each other in TFMOT's order: "Collaborative optimization",
https://www.tensorflow.org/model_optimization/guide/combine/collaborative_optimization.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity.variants.selection import import_tfmot, leaves, prunable_weights, quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pytest_sparsity.variants.recipe import Recipe
    from pytest_sparsity.variants.selection import Network


def is_asked(recipe: Recipe) -> bool:
    """Whether anything follows pruning."""
    return recipe.clusters is not None or recipe.quantize == "qat"


def finish(model: Network, recipe: Recipe, names: Collection[str], *, pruned: bool) -> Network:
    """Return a copy of the network with clustered weights, simulated quantization, or both.

    Args:
        model: Sequential or functional; stays as it is.
        recipe: says what is to be done, and holds the training.
        names: of the layers whose weights are clustered.
        pruned: whether the network's zeros are to be kept.

    Raises:
        ValueError: TFMOT cannot do that to a layer, or the training did not train.
    """
    if recipe.clusters is not None:
        model = _cluster(model, recipe.clusters, names, recipe.finetune, pruned=pruned)
    if recipe.quantize == "qat":
        model = _train_quantized(model, recipe, pruned=pruned)
    return model


def _copy(model: Network) -> Network:
    """Return the network with layers of its own, which TFMOT's wrappers change."""
    import tf_keras

    copy: Any = tf_keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _cluster(
    model: Network,
    clusters: int,
    names: Collection[str],
    finetune: Callable[[Network, list[Any]], object] | None,
    *,
    pruned: bool,
) -> Network:
    import tf_keras
    from tensorflow_model_optimization.python.core.clustering.keras.experimental import cluster

    def wrapped(layer: Any) -> Any:
        if isinstance(layer, tf_keras.Model):
            return tf_keras.models.clone_model(layer, clone_function=wrapped)
        if layer.name not in names or _most_values(layer) <= clusters:
            return layer
        return cluster.cluster_weights(layer, clusters, preserve_sparsity=pruned)

    with model.distribute_strategy.scope():
        with quiet():
            try:
                network: Any = tf_keras.models.clone_model(_copy(model), clone_function=wrapped)
            except ValueError as error:
                raise ValueError(
                    f"clusters={clusters}: TFMOT cannot cluster a layer: {_line(error)}; leave it"
                    " out with policy=[names of the layers to prune]"
                ) from error
        if finetune is not None:
            finetune(network, [])
    with quiet():
        clustered: Network = import_tfmot().clustering.keras.strip_clustering(network)
    _check_clusters(clustered, clusters, names)
    return clustered


def _most_values(layer: Any) -> int:
    """Return how many different values a weight tensor of the layer has at most."""
    import numpy as np

    return max(int(np.unique(weight.numpy()).size) for weight in prunable_weights(layer))


def _check_clusters(model: Network, clusters: int, names: Collection[str]) -> None:
    for layer in leaves(model):
        if layer.name in names and _most_values(layer) > clusters:
            raise ValueError(
                f"clusters={clusters}: TFMOT left {_most_values(layer)} different weights in"
                f" {layer.name}; leave it out with policy=[names of the layers to prune]"
            )


def _train_quantized(model: Network, recipe: Recipe, *, pruned: bool) -> Network:
    import numpy as np

    assert recipe.finetune is not None
    keras = import_tfmot().quantization.keras
    with model.distribute_strategy.scope():
        with quiet():
            try:
                annotated = keras.quantize_annotate_model(_copy(model))
                network = keras.quantize_apply(annotated, _scheme(recipe, pruned=pruned))
            except (RuntimeError, ValueError) as error:
                raise ValueError(
                    f"quantize='qat': TFMOT cannot train the network quantized: {_line(error)}; use"
                    " quantize='int8', which needs no training"
                ) from error
        before = network.get_weights()
        recipe.finetune(network, [])
    if all(map(np.array_equal, before, network.get_weights())):
        raise ValueError(
            "quantize='qat': finetune(model, callbacks) did not train the network, so its"
            " activations have no ranges yet; train it, or use quantize='int8'"
        )
    return network


def _scheme(recipe: Recipe, *, pruned: bool) -> Any:
    """Return TFMOT's scheme that keeps what was done to the weights before."""
    tfmot = import_tfmot()
    if recipe.clusters is not None:
        combine = tfmot.experimental.combine
        return _of_each_layer(
            combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=pruned)
        )
    if pruned:
        return tfmot.quantization.keras.collab_opts.Default8BitPrunePreserveQuantizeScheme()
    return tfmot.quantization.keras.default_8bit.Default8BitQuantizeScheme()


def _of_each_layer(scheme: Any) -> Any:
    """Make a scheme give every layer a quantizer of its own.

    TFMOT 0.8.1's cluster-preserving scheme shares one among all layers of a kind, and the first of
    these without a zero turns the keeping of zeros off for the others
    (cluster_preserve_quantize_registry.py, _build_clusters).
    """
    shared = scheme.get_quantize_registry

    def registry() -> Any:
        made = shared()
        made.get_quantize_config = lambda layer: shared().get_quantize_config(layer)
        return made

    scheme.get_quantize_registry = registry
    return scheme


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
