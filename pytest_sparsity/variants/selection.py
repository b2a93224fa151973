"""Which layers of a Keras network TFMOT is to prune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity import patterns
from pytest_sparsity.errors import one_line
from pytest_sparsity.patterns import UNSTRUCTURED
from pytest_sparsity.variants import channels
from pytest_sparsity.variants.networks import (
    has_kernel,
    import_tfmot,
    is_supported,
    leaves,
    prunable_weights,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.patterns import Pattern
    from pytest_sparsity.variants.networks import Network


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
    unable = [layer for layer in selected if has_kernel(layer) and not is_supported(layer)]
    if unable:
        names = ", ".join(f"{layer.name} ({type(layer).__name__})" for layer in unable)
        raise ValueError(
            f"TFMOT cannot prune {names}: make it a tfmot.sparsity.keras.PrunableLayer, or leave it"
            " out with policy=[names of the layers to prune]"
        )
    prunable = [layer for layer in selected if is_supported(layer) and prunable_weights(layer)]
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


def _named(layers: Sequence[Any], names: Sequence[str]) -> list[Any]:
    known = {layer.name: layer for layer in layers}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"policy names layers that do not exist: {unknown}; there are {list(known)}"
        )
    selected = [known[name] for name in names]
    without = [
        layer.name for layer in selected if is_supported(layer) and not prunable_weights(layer)
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
