"""Which layers of a Keras network are to be pruned."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import one_line
from pytest_sparsity.variants import keras3
from pytest_sparsity.variants.networks import (
    has_kernel,
    import_tfmot,
    is_supported,
    leaves,
    prunable_weights,
    unseen_variables,
)
from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.variants.networks import KerasModel
    from pytest_sparsity.variants.technique import Technique

AUTO = "auto"
LISTED = "policy=[names of the layers to prune]"


@dataclass(frozen=True)
class Selection:
    """What is to be pruned.

    Attributes:
        layers: in the network's order.
        notes: what whoever asked should know, one sentence each.
    """

    layers: list[Any]
    notes: tuple[str, ...] = ()


def select(model: KerasModel, policy: object, technique: Technique) -> Selection:
    """Return the layers to prune.

    Args:
        model: a Sequential or functional model; models inside it are looked into.
        policy: `"xnnpack"` for TFMOT's PruneForLatencyOnXNNPack, `"all"` for every layer that
            TFMOT can prune, `"auto"` for the first if it accepts the network and else for all that
            can be pruned, a TFMOT PruningPolicy, or names of layers.
        technique: of pruning. Layers that have an obstacle to it are left out unless named.

    Raises:
        ValueError: the policy rejects the network, a name is unknown, a layer cannot be pruned, or
            nothing is left to prune; the message says which and why.
    """
    technique.check(model)
    layers = list(leaves(model))
    notes = [
        f"{layer.name} computes with {', '.join(names)}, which Keras does not know, so nothing"
        " prunes it; make it a layer that calls add_weight"
        for layer in layers
        if (names := unseen_variables(layer))
    ]
    if keras3.is_network(model) and policy in (AUTO, "xnnpack"):
        chosen = _of_keras3(model, layers, str(policy), technique)
    elif policy == AUTO:
        chosen = _automatic(model, layers, technique)
    elif policy == "all":
        chosen = _able(model, _supported(layers), policy, technique)
    elif isinstance(policy, (list, tuple)):
        chosen = _able(model, _supported(_named(layers, policy)), policy, technique)
    else:
        wanted = _policy(policy)
        if why := _rejection(model, wanted):
            raise ValueError(
                f"{type(wanted).__name__} rejects the network {model.name!r}: {why}; change the"
                " network, or prune it with policy='all'"
            )
        allowed = [layer for layer in layers if wanted.allow_pruning(layer)]
        chosen = _able(model, _supported(allowed), policy, technique)
    return Selection(chosen.layers, (*notes, *chosen.notes))


def _of_keras3(
    model: KerasModel, layers: Sequence[Any], policy: str, technique: Technique
) -> Selection:
    """Return the 1x1 convolutions, and for "auto", if there are none, all that can be pruned.

    TFMOT's policy, which looks at the whole network, does not know Keras 3. What runs sparse a
    diagnosis tells.
    """
    fit = [x for x in layers if keras3.pointwise(x) and technique.obstacle(model, x) is None]
    if fit or policy != AUTO:
        return _able(model, fit, policy, technique)
    chosen = _able(model, [x for x in layers if is_supported(x)], policy, technique)
    pruned = counted(len(chosen.layers), "layer")
    note = (
        f"policy='auto' prunes all of {model.name!r} that it can, {pruned}, also"
        " those that no sparse kernel runs, since no 1x1 convolution can have"
        f" pattern={technique.pattern.name!r} (to prune them, write policy='all', or {LISTED})"
    )
    return Selection(chosen.layers, (note, *chosen.notes))


def _automatic(model: KerasModel, layers: Sequence[Any], technique: Technique) -> Selection:
    """Return what sparse kernels may run, and if that is nothing, all that can be pruned."""
    policy = _policy("xnnpack")
    why = _rejection(model, policy)
    if not why:
        fit = [x for x in layers if policy.allow_pruning(x) and is_supported(x)]
        if any(technique.obstacle(model, layer) is None for layer in fit):
            return _able(model, fit, AUTO, technique)
        why = f"none of its layers can have pattern={technique.pattern.name!r}"
    chosen = _able(model, [x for x in layers if is_supported(x)], AUTO, technique)
    unable = _unable(layers)
    left = f"; left out: {', '.join(unable)}, which TFMOT cannot prune" if unable else ""
    pruned = counted(len(chosen.layers), "layer")
    note = (
        f"policy='auto' prunes all of {model.name!r} that it can, {pruned}, also"
        f" those that no sparse kernel runs, since PruneForLatencyOnXNNPack rejects it: {why}{left}"
        f" (to prune them, write policy='all', or {LISTED})"
    )
    return Selection(chosen.layers, (note, *chosen.notes))


def _supported(layers: Sequence[Any]) -> list[Any]:
    unable = _unable(layers)
    if unable:
        raise ValueError(
            f"TFMOT cannot prune {', '.join(unable)}: make it a tfmot.sparsity.keras.PrunableLayer,"
            f" or leave it out with {LISTED}"
        )
    return [layer for layer in layers if is_supported(layer)]


def _unable(layers: Sequence[Any]) -> list[str]:
    return [
        f"{layer.name} ({type(layer).__name__})"
        for layer in layers
        if has_kernel(layer) and not is_supported(layer) and not keras3.is_layer(layer)
    ]


def _able(
    model: KerasModel, layers: Sequence[Any], policy: object, technique: Technique
) -> Selection:
    """Return the layers that have weights and no obstacle to the technique."""
    name = technique.pattern.name
    found = [
        (layer, technique.obstacle(model, layer)) for layer in layers if prunable_weights(layer)
    ]
    reasons = [obstacle.reason for _, obstacle in found if obstacle is not None]
    if reasons and isinstance(policy, (list, tuple)):
        raise ValueError(f"pattern={name!r} is impossible: {'; '.join(reasons)}")
    able = [layer for layer, obstacle in found if obstacle is None]
    if not able:
        why = f": {'; '.join(reasons[:3])}" if reasons else ""
        raise ValueError(
            f"policy={policy!r} selects no layer with weights that TFMOT prunes to"
            f" pattern={name!r}{why}"
        )
    told = [obstacle.reason for _, obstacle in found if obstacle is not None and obstacle.told]
    if not told:
        return Selection(able)
    return Selection(able, (f"pattern={name!r} leaves out what cannot have it: {'; '.join(told)}",))


def _named(layers: Sequence[Any], names: Sequence[str]) -> list[Any]:
    counts = Counter(layer.name for layer in layers)
    unknown = [name for name in names if name not in counts]
    if unknown:
        raise ValueError(
            f"policy names layers that do not exist: {unknown}; there are {list(counts)}"
        )
    repeated = [f"{counts[name]} are called {name}" for name in names if counts[name] > 1]
    if repeated:
        raise ValueError(
            f"policy names layers that are not the only ones of their name: {', '.join(repeated)},"
            " in models inside the network; give them names of their own with name="
        )
    selected = [layer for layer in layers if layer.name in names]
    without = [x.name for x in selected if is_supported(x) and not prunable_weights(x)]
    if without:
        raise ValueError(f"policy names layers in which TFMOT prunes no weights: {without}")
    return selected


def _policy(policy: object) -> Any:
    keras = import_tfmot().sparsity.keras
    if policy == "xnnpack":
        return keras.PruneForLatencyOnXNNPack()
    if isinstance(policy, keras.PruningPolicy):
        return policy
    raise ValueError(
        f"policy={policy!r} is unknown: use 'auto', 'xnnpack', 'all', a TFMOT PruningPolicy or a"
        " list of layer names"
    )


def _rejection(model: KerasModel, policy: Any) -> str:
    """Return why a policy rejects the network, empty if it does not."""
    try:
        policy.ensure_model_supports_pruning(model)
    except ValueError as error:
        return one_line(error)
    return ""
