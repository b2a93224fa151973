"""The building of the three files: network, masks, conversion, publication."""

from __future__ import annotations

import io
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pytest_sparsity.model import Model
from pytest_sparsity.twin import replace_weights
from pytest_sparsity.variants import cache, fingerprint, location, pruning, selection
from pytest_sparsity.variants.converter import Converter
from pytest_sparsity.variants.recipe import SPARSITY, builder, content_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from pytest_sparsity.variants.location import Replacements
    from pytest_sparsity.variants.pruning import PrunedWeight
    from pytest_sparsity.variants.recipe import Recipe
    from pytest_sparsity.variants.selection import Network

    Weights = list[NDArray[np.float32]]

ROLES = ("dense", "pruned", "sparse")


@dataclass(frozen=True)
class Pruning:
    """A network pruned in this process, not converted yet.

    Attributes:
        model: as built; its weights are the dense ones or the pruned ones.
        pruned: the same object, or what training made of it.
        dense_weights: of `model`, in the order of its `get_weights`.
        pruned_weights: of `pruned`, in the order of its `get_weights`.
        layers: the pruned ones of `model`.
        report: what became of their weights.
    """

    model: Network
    pruned: Network
    dense_weights: Weights
    pruned_weights: Weights
    layers: list[Any]
    report: tuple[PrunedWeight, ...]


def build_entry(
    recipe: Recipe, store: Path, *, rebuild: bool, key: str | None = None
) -> cache.Entry:
    """Build the files and publish them; `key` is None if only the network can tell it."""
    with closing(Converter()) as converter, seeded(recipe.seed):
        network = prune(recipe)
        if key is not None:
            return _convert(recipe, network, converter, store, key)
        try:
            key = fingerprint.digest(*_built(recipe, network))
        except fingerprint.Untellable:
            return _convert(recipe, network, converter, store, None)
        with cache.locked(store, key):
            entry = None if rebuild else cache.load(store, key)
            return entry or _convert(recipe, network, converter, store, key)


def _built(recipe: Recipe, network: Pruning) -> Iterator[object]:
    """Return all that decides about the files, once the network has been pruned.

    Raises:
        fingerprint.Untellable: the architecture has code in it that cannot be told.
    """
    try:
        yield network.model.to_json()
    except (NotImplementedError, TypeError) as error:
        raise fingerprint.Untellable(f"the architecture: {error}") from error
    yield from (
        _code(layer) for layer in selection.leaves(network.model) if not selection.is_stock(layer)
    )
    yield recipe.name
    for weights in (network.dense_weights, network.pruned_weights):
        yield from (array.tobytes() for array in weights)
    yield from builder()


def _code(layer: Any) -> object:
    """Return what a layer runs that its configuration does not hold."""
    return getattr(layer, "function", type(layer))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Start Keras afresh and seed all generators; put Python's and numpy's back afterwards."""
    import random

    selection.import_tfmot()
    import numpy as np
    import tf_keras

    states = random.getstate(), np.random.get_state()
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def prune(recipe: Recipe) -> Pruning:
    """Build the network and prune it, checked; the generators are to be seeded."""
    model = recipe.build()
    selection.check_network(model)
    layers = selection.select_layers(model, recipe.policy)
    schedule, asked = pruning.resolve_schedule(recipe.schedule, recipe.sparsity)
    if asked != recipe.sparsity != SPARSITY:
        raise ValueError(
            f"sparsity={recipe.sparsity:g} contradicts the schedule, which ends at {asked:g}; leave"
            " sparsity out"
        )
    pruning.check_schedule(schedule, asked, layers)
    dense_weights, before = model.get_weights(), pruning.values(layers)
    pruned = model
    wrappers: dict[int, Any] = {}
    if recipe.finetune is None:
        pruning.apply_masks(layers, schedule)
    else:
        pruned, wrappers = pruning.train(model, layers, schedule, recipe.finetune)
    report = pruning.check_zeros(layers, asked, before, schedule, wrappers)
    return Pruning(model, pruned, dense_weights, pruned.get_weights(), layers, report)


def _convert(
    recipe: Recipe, network: Pruning, converter: Converter, store: Path, key: str | None
) -> cache.Entry:
    """Convert and publish; without a key, under one that follows from the cache."""
    with cache.workspace(store) as scratch, cache.workspace(store) as folder:
        names = {role: f"{recipe.name}-{role}.tflite" for role in ROLES}
        dense, pruned, sparse = (folder / names[role] for role in ROLES)
        network.model.set_weights(network.dense_weights)
        converter.convert(export(network.model, scratch / "dense"), scratch / "dense.tflite")
        model = canonical(scratch / "dense.tflite", dense)
        located = _locate(network, model)
        if located is None:
            network.pruned.set_weights(network.pruned_weights)
            converter.convert(export(network.pruned, scratch / "pruned"), scratch / "p.tflite")
            canonical(scratch / "p.tflite", pruned)
        else:
            replace_weights(model, located, pruned)
        converter.sparsify(pruned, sparse)
        if key is None:
            key = fingerprint.digest([content_of(path) for path in (dense, pruned, sparse)])
        return cache.publish(store, key, folder, names, [asdict(w) for w in network.report])


def export(model: Network, folder: Path) -> Path:
    """Write a SavedModel; Keras prints its signature, which nobody asked for."""
    with selection.quiet(), redirect_stdout(io.StringIO()):
        model.export(str(folder))
    return folder


def canonical(source: Path, path: Path) -> Model:
    """Write a file with 0.0 for every -0.0 among its constants."""
    import numpy as np

    model = Model(source)
    replaced: Replacements = {}
    for g, graph in enumerate(model.graphs):
        for tensor in graph.tensors:
            if tensor.constant and tensor.dtype in ("float32", "float16"):
                values = model.weights(tensor.index, g)
                if (np.signbit(values) & (values == 0)).any():
                    replaced[g, tensor.index] = values + values.dtype.type(0)
    return replace_weights(model, replaced, path)


def _locate(network: Pruning, model: Model) -> Replacements | None:
    """Return the pruned constants of the dense file, None if full conversion is needed."""
    if network.pruned is not network.model:  # training changes all weights
        return None
    if not all(selection.is_stock(layer) for layer in selection.leaves(network.model)):
        return None
    if not all(_is_located(layer) for layer in network.layers):
        return None
    values = zip(network.model.weights, network.dense_weights, network.pruned_weights, strict=True)
    by_variable = {variable.ref(): (dense, pruned) for variable, dense, pruned in values}
    kernels = [
        location.Kernel(
            type(layer).__name__,
            *by_variable[layer.kernel.ref()],
            bias=_bias(layer),
        )
        for layer in network.layers
    ]
    normalizations = [
        _normalization(layer)
        for layer in selection.leaves(network.model)
        if type(layer).__name__ == "BatchNormalization"
    ]
    return location.locate(model, kernels, normalizations)


def _is_located(layer: Any) -> bool:
    return type(layer).__name__ in location.OPERATORS and getattr(layer, "groups", 1) == 1


def _bias(layer: Any) -> NDArray[np.float32]:
    import numpy as np

    return layer.bias.numpy() if layer.use_bias else np.zeros(layer.kernel.shape[-1], np.float32)


def _normalization(layer: Any) -> location.Normalization:
    import numpy as np

    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    gamma = layer.gamma.numpy() if layer.scale else np.ones_like(mean)
    beta = layer.beta.numpy() if layer.center else np.zeros_like(mean)
    return location.Normalization(gamma / np.sqrt(variance + layer.epsilon), mean, beta)
