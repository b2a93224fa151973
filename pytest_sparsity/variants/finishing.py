"""What can follow pruning before conversion: clustering and quantization-aware training.

Both keep the zeros, and follow each other in TFMOT's order: "Collaborative optimization",
https://www.tensorflow.org/model_optimization/guide/combine/collaborative_optimization.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import one_line
from pytest_sparsity.progress import step
from pytest_sparsity.variants.networks import import_tfmot, leaves, prunable_weights, quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pytest_sparsity.variants.networks import KerasModel
    from pytest_sparsity.variants.recipe import Recipe


__tracebackhide__ = True

PLAIN = {"TFOpLambda", "SlicingOpLambda"}
"""What Keras makes of `a + b` and of `a[:, 1]`."""


def is_asked(recipe: Recipe) -> bool:
    """Whether anything follows pruning."""
    return recipe.clusters is not None or recipe.quantize == "qat"


def finish(
    model: KerasModel, recipe: Recipe, names: Collection[str], *, pruned: bool
) -> KerasModel:
    """Return a copy of the network with clustered weights, simulated quantization, or both.

    Args:
        model: Sequential or functional; stays as it is.
        recipe: says what is to be done, and holds the training.
        names: of the layers whose weights are clustered.
        pruned: whether the network's zeros are to be kept.

    Raises:
        ValueError: TFMOT cannot do that to a layer, the training did not train, or zeros were lost.
    """
    kernels = _kernels(model, names)
    if recipe.clusters is not None:
        before = _zeros(model, kernels)
        model = _cluster(model, recipe.clusters, names, recipe.finetune, pruned=pruned)
        if pruned:
            check_zeros(before, _zeros(model, kernels), f"clusters={recipe.clusters}")
    if recipe.quantize == "qat":
        before = _zeros(model, kernels)
        model = _train_quantized(model, recipe, names, pruned=pruned)
        if pruned:
            check_zeros(before, _zeros(model, kernels), "quantize='qat'")
    return model


def _kernels(model: KerasModel, names: Collection[str]) -> dict[str, list[str]]:
    """Return the names of the prunable weights of each of the layers."""
    return {
        layer.name: [_own_name(weight) for weight in prunable_weights(layer)]
        for layer in leaves(model)
        if layer.name in names
    }


def _own_name(variable: Any) -> str:
    return str(variable.name.rpartition("/")[2])


def _zeros(model: KerasModel, kernels: dict[str, list[str]]) -> dict[str, int]:
    """Return the zeros in these weights of each layer, which may be in one of TFMOT's wrappers."""
    import numpy as np

    return {
        layer.name: sum(
            int(np.count_nonzero(weight.numpy() == 0))
            for weight in wrapper.weights
            if _own_name(weight) in kernels[layer.name]
        )
        for wrapper, layer in ((each, getattr(each, "layer", each)) for each in leaves(model))
        if layer.name in kernels
    }


def check_zeros(before: dict[str, int], after: dict[str, int], step: str) -> None:
    """Raise ValueError if a layer has fewer zeros after a step than it had before."""
    for name, zeros in before.items():
        if after[name] < zeros:
            raise ValueError(
                f"{step} left {after[name]} of the {zeros} zeros that pruning made in {name}; leave"
                " the layer out with policy=[names of the layers to prune]"
            )


def _copy(model: KerasModel) -> KerasModel:
    """Return the network with layers of its own, which TFMOT's wrappers change."""
    import tf_keras

    copy: Any = tf_keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _cluster(
    model: KerasModel,
    clusters: int,
    names: Collection[str],
    finetune: Callable[[KerasModel, list[Any]], object] | None,
    *,
    pruned: bool,
) -> KerasModel:
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
            except (NotImplementedError, TypeError, ValueError) as error:
                raise ValueError(
                    f"clusters={clusters}: TFMOT cannot cluster a layer: {one_line(error)}; leave"
                    " it out with policy=[names of the layers to prune]"
                ) from error
        if finetune is not None:
            with step("training"):
                finetune(network, [])
    with quiet():
        clustered: KerasModel = import_tfmot().clustering.keras.strip_clustering(network)
    _check_clusters(clustered, clusters, names)
    return clustered


def _most_values(layer: Any) -> int:
    """Return how many different values a weight tensor of the layer has at most."""
    import numpy as np

    sizes = (int(np.unique(weight.numpy()).size) for weight in prunable_weights(layer))
    return max(sizes, default=0)


def _check_clusters(model: KerasModel, clusters: int, names: Collection[str]) -> None:
    for layer in leaves(model):
        if layer.name in names and _most_values(layer) > clusters:
            raise ValueError(
                f"clusters={clusters}: TFMOT left {_most_values(layer)} different weights in"
                f" {layer.name}; leave it out with policy=[names of the layers to prune]"
            )


def _train_quantized(
    model: KerasModel, recipe: Recipe, names: Collection[str], *, pruned: bool
) -> KerasModel:
    import numpy as np

    assert recipe.finetune is not None
    keras = import_tfmot().quantization.keras
    with model.distribute_strategy.scope():
        with quiet():
            try:
                annotated = keras.quantize_annotate_model(_copy(model))
                network = keras.quantize_apply(annotated, _scheme(recipe, pruned=pruned))
            except Exception as error:  # TFMOT's own mistakes among them
                raise ValueError(
                    f"quantize='qat': TFMOT cannot train the network quantized: {one_line(error)};"
                    f" {_instead_of_training(model)}"
                ) from error
        if pruned:
            _keep_unquantized(network, names, clusters=recipe.clusters)
        before = network.get_weights()
        with step("training"):
            recipe.finetune(network, [])
    if all(map(np.array_equal, before, network.get_weights())):
        raise ValueError(
            "quantize='qat': finetune(model, callbacks) did not train the network, so its"
            " activations have no ranges yet; train it, or use quantize='int8'"
        )
    return network


def _instead_of_training(model: KerasModel) -> str:
    """What to do about a network that TFMOT 0.8.1 cannot quantize.

    It hands the operands of `a + b` to the layer that Keras makes of it as a list, which fails.
    """
    plain = [layer.name for layer in leaves(model) if type(layer).__name__ in PLAIN]
    unquantized = "use quantize='int8', which needs no training"
    if not plain:
        return unquantized
    return (
        f"write {', '.join(plain)} as a layer, such as keras.layers.Add()([a, b]) for a + b, or"
        f" {unquantized}"
    )


def _keep_unquantized(network: KerasModel, names: Collection[str], clusters: int | None) -> None:
    """Keep the zeros of layers that an activation layer follows.

    TFMOT 0.8.1 quantizes such a pair behind the activation, and gives the layer a configuration
    that does not preserve anything (default_8bit_transforms.py, LayerReLUQuantize).
    """
    for wrapper in network.layers:
        layer = getattr(wrapper, "layer", None)
        if layer is None or layer.name not in names:
            continue
        if type(wrapper.quantize_config).__name__ != "NoOpQuantizeConfig":
            continue
        if clusters is not None:
            raise ValueError(
                f"clusters={clusters} with quantize='qat': TFMOT does not keep the clusters of"
                f" {layer.name}, which a layer of its own activates; give {layer.name} the"
                " activation= instead"
            )
        for weight in prunable_weights(layer):
            weight._constraint = _Mask(weight)  # noqa: SLF001  (Keras has no setter for it)


class _Mask:
    """A constraint that keeps the zeros that a variable has now."""

    def __init__(self, variable: Any) -> None:
        self._kept = (variable.numpy() != 0).astype(variable.dtype.as_numpy_dtype)

    def __call__(self, values: Any) -> Any:
        return values * self._kept


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
