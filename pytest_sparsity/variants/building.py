"""The building of the three files: what is asked for is pruned, converted and published."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_sparsity import patterns
from pytest_sparsity.model import Model
from pytest_sparsity.progress import step
from pytest_sparsity.variants import cache, fingerprint, finishing, keras_state, networks, sources
from pytest_sparsity.variants.conversion import Conversion, canonical, store_sparsely
from pytest_sparsity.variants.from_files import about_of, prune_file
from pytest_sparsity.variants.pruning import prune
from pytest_sparsity.variants.recipe import builder, content_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_sparsity.variants.converter import Converts
    from pytest_sparsity.variants.pruning import Pruning
    from pytest_sparsity.variants.recipe import Recipe

__tracebackhide__ = True


def build_entry(
    recipe: Recipe,
    store: Path,
    start: Callable[[], Converts],
    *,
    rebuild: bool,
    key: str | None = None,
) -> cache.Entry:
    """Build the files and publish them.

    Args:
        recipe: what is asked for.
        store: the folder of all entries.
        start: makes what converts.
        rebuild: whether to build even if the files are there.
        key: of the entry; None if only the network can tell it.
    """
    with closing(start()) as converter, keras_state.seeded(recipe.seed):
        with step("building"), networks.needing_builders():
            built = sources.loaded(recipe.build())
        if isinstance(built, sources.Source):
            return _convert_source(recipe, built, converter, store, key)
        network = prune(recipe, built)
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
        fingerprint.Untellable: the architecture has code in it that cannot be told, or training
            is to follow.
    """
    if finishing.is_asked(recipe) and recipe.finetune is not None:
        raise fingerprint.Untellable("training follows pruning")
    try:
        yield network.model.to_json()
    except (NotImplementedError, TypeError) as error:
        raise fingerprint.Untellable(f"the architecture: {error}") from error
    yield from (
        _code(layer) for layer in networks.leaves(network.model) if not networks.is_stock(layer)
    )
    yield recipe.name, recipe.pattern, recipe.quantize, recipe.clusters
    yield recipe.encoder, recipe.repair
    yield [asdict(weight) for weight in network.report]
    yield network.notes
    for weights in (network.dense_weights, network.pruned_weights):
        yield from (array.tobytes() for array in weights)
    yield network.samples
    yield network.settings
    yield from builder()


def _code(layer: Any) -> object:
    """Return what a layer runs that its configuration does not hold."""
    return getattr(layer, "function", type(layer))


def _convert(
    recipe: Recipe, network: Pruning, converter: Converts, store: Path, key: str | None
) -> cache.Entry:
    """Convert and publish; without a key, under one that follows from the files."""
    with cache.workspace(store) as scratch, cache.workspace(store) as folder:
        names = {role: f"{recipe.name}-{role}.tflite" for role in cache.ROLES}
        paths = {role: folder / name for role, name in names.items()}
        Conversion(recipe, network, converter, scratch).write(paths)
        if key is None:
            key = fingerprint.digest([content_of(path) for path in paths.values()])
        weights = [asdict(weight) for weight in network.report]
        about = {"weights": weights, "notes": network.notes}
        return cache.publish(store, key, folder, names, about)


def _convert_source(
    recipe: Recipe, source: sources.Source, converter: Converts, store: Path, key: str | None
) -> cache.Entry:
    """Convert what is no network of Keras, prune it in the file, and publish the files."""
    pattern = patterns.parse(recipe.pattern)
    for name in ("schedule", "finetune", "clusters", "representative"):
        if getattr(recipe, name) is not None:
            raise ValueError(
                f"{source.kind} is converted first and pruned in its file, which nothing trains:"
                f" leave {name} out, or do that yourself and give the files: variants.from_files"
            )
    asked = recipe.sparsity if pattern.sparsity is None else pattern.sparsity
    with cache.workspace(store) as scratch, cache.workspace(store) as folder:
        names = {role: f"{recipe.name}-{role}.tflite" for role in cache.ROLES}
        paths = {role: folder / name for role, name in names.items()}
        raw = scratch / names["dense"]
        source.convert(converter, scratch, raw, recipe.quantize)
        canonical(raw, paths["dense"])
        layers = _layers_of_a_file(recipe.policy)
        chosen = prune_file(paths["dense"], paths["pruned"], asked, recipe.pattern, layers)
        store_sparsely(recipe, None, paths)
        if key is None:
            key = fingerprint.digest([content_of(path) for path in paths.values()])
        about = about_of(Model(paths["pruned"]), chosen, asked, pattern)
        return cache.publish(store, key, folder, names, about)


def _layers_of_a_file(policy: object) -> str | list[str]:
    """What `transform.prune` calls the layers of a policy."""
    if policy == "all":
        return "all"
    if policy in ("auto", "xnnpack"):
        return "prunable"
    if isinstance(policy, (list, tuple)):
        return list(policy)
    raise ValueError(
        f"policy={policy!r} is for networks of Keras; layers of a file are chosen by 'auto', 'all',"
        " or the names that `pytest-sparsity explain` lists"
    )
