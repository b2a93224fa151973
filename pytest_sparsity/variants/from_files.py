"""Three files that differ in one thing each, from files of the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity import patterns
from pytest_sparsity.model import Model, replace_file
from pytest_sparsity.transform import densify, encode, prune, repair
from pytest_sparsity.variants import cache, fingerprint
from pytest_sparsity.variants.counting import PrunedWeight
from pytest_sparsity.variants.recipe import REPAIRED_FOR, SPARSITY, own_code

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike
    from pathlib import Path

    from pytest_sparsity.model import Layer
    from pytest_sparsity.patterns import Pattern

    AnyModel = str | PathLike[str] | Model

NEAR = 0.005
"""Share of zeros by which a file may miss what was asked for."""


def entry_from_files(
    dense: AnyModel,
    pruned: AnyModel | None,
    *,
    sparsity: float | None,
    pattern: str,
    layers: str | Sequence[str | int],
    repaired: bool,
    store: Path,
    rebuild: bool,
) -> cache.Entry:
    """Make the files, or find that done on disk; see `pytest_sparsity.variants.from_files`."""
    parsed = patterns.parse(pattern)
    models = [Model.of(dense), *([] if pruned is None else [Model.of(pruned)])]
    wanted = [sparsity, pattern, layers if isinstance(layers, str) else list(layers), repaired]
    key = fingerprint.digest([m.sha256 for m in models], [m.path.stem for m in models], wanted)
    key = fingerprint.digest(key, list(own_code()))
    with cache.locked(store, key):
        entry = None if rebuild else cache.load(store, key)
        if entry is not None:
            return entry
        with cache.workspace(store) as folder:
            names = {role: f"{models[0].path.stem}-{role}.tflite" for role in cache.ROLES}
            paths = {role: folder / name for role, name in names.items()}
            _stored_densely(models[0], paths["dense"])
            if len(models) > 1:
                chosen, asked = check_pair(models[0], models[1], sparsity), sparsity
                _stored_densely(models[1], paths["pruned"])
            else:
                asked = SPARSITY if sparsity is None else sparsity
                asked = asked if parsed.sparsity is None else parsed.sparsity
                chosen = prune_file(paths["dense"], paths["pruned"], asked, pattern, layers)
            # What its owner stored sparsely stays so; all else is encoded where that pays.
            encode(models[-1] if len(models) > 1 else paths["pruned"], paths["sparse"])
            if repaired:
                repair(paths["sparse"], paths["sparse"], target=REPAIRED_FOR)
            about = about_of(Model(paths["pruned"]), chosen, asked, parsed)
            return cache.publish(store, key, folder, names, about)


def _stored_densely(model: Model, path: Path) -> None:
    if model.encoded:
        densify(model, path)
    else:
        replace_file(path, [model.data])


def prune_file(
    source: Path, path: Path, sparsity: float, pattern: str, layers: str | Sequence[str | int]
) -> list[int]:
    """Write a file with zeros by magnitude; return which of its layers have them."""
    before = Model(source)
    after = prune(before, path, sparsity=sparsity, pattern=pattern, layers=layers)
    pairs = zip(before.layers, after.layers, strict=True)
    return [
        new.index
        for old, new in pairs
        if new.sparsity > old.sparsity or new.sparsity > sparsity - NEAR
    ]


def about_of(
    model: Model, chosen: Sequence[int], asked: float | None, pattern: Pattern
) -> dict[str, Any]:
    """What is kept with the files: what became of the weights of some layers of a pruned file."""
    weights = [vars(_weight(model.layers[index], asked, pattern)) for index in chosen]
    return {"weights": weights, "notes": []}


def _weight(layer: Layer, asked: float | None, pattern: Pattern) -> PrunedWeight:
    zeros = round(layer.sparsity * layer.parameters)
    asked = layer.sparsity if asked is None else asked
    shape = (*layer.shape[1:], layer.shape[0])  # as Keras has it
    slack = pattern.slack(shape)
    return PrunedWeight(layer.name, layer.name, shape, asked, zeros, layer.parameters, slack)


def check_pair(dense: Model, pruned: Model, sparsity: float | None) -> list[int]:
    """Make sure that one file is the other one pruned; return the layers that have more zeros.

    Raises:
        ValueError: they are different networks, or there are fewer zeros than was said.
    """
    shapes = [[(x.op, x.shape) for x in model.layers] for model in (dense, pruned)]
    one, other = dense.path.name, pruned.path.name
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{other} is not {one} pruned: their layers differ; convert both from one network, or "
            "race them as they are"
        )
    pairs = zip(dense.layers, pruned.layers, strict=True)
    found = [new for old, new in pairs if new.sparsity > old.sparsity]
    if not found:
        raise ValueError(f"{other} has no more zeros than {one}: was it converted before pruning?")
    zeros = sum(layer.sparsity * layer.parameters for layer in found)
    share = zeros / sum(layer.parameters for layer in found)
    if sparsity is not None and share < sparsity - NEAR:
        raise ValueError(
            f"of the weights of {other} that were pruned {share:.1%} are zero, not {sparsity:.1%}"
        )
    return [layer.index for layer in found]
