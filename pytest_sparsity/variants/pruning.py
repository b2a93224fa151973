"""The pruning of a network of Keras in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_sparsity import patterns
from pytest_sparsity.progress import step
from pytest_sparsity.variants import (
    counting,
    finishing,
    keras3,
    keras3_magnitude,
    keras_state,
    networks,
    schedules,
)
from pytest_sparsity.variants.calibration import checked_samples
from pytest_sparsity.variants.channels import ChannelPruning
from pytest_sparsity.variants.magnitude import Magnitude
from pytest_sparsity.variants.recipe import SPARSITY
from pytest_sparsity.variants.selection import select

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytest_sparsity.variants.calibration import Samples
    from pytest_sparsity.variants.counting import PrunedWeight
    from pytest_sparsity.variants.networks import KerasModel
    from pytest_sparsity.variants.recipe import Recipe
    from pytest_sparsity.variants.technique import Technique

    Weights = list[NDArray[np.float32]]

__tracebackhide__ = True


@dataclass(frozen=True)
class Pruning:
    """A network pruned in this process, not converted yet.

    Attributes:
        model: as built; its weights are the dense ones or the pruned ones.
        pruned: the same object, or what training made of it.
        smaller: the pruned network without the outputs that are zero, if these can be removed.
        dense_weights: of `model`, in the order of its `get_weights`.
        pruned_weights: of `pruned`, in the order of its `get_weights`.
        layers: the pruned ones of `model`.
        report: what became of their weights.
        notes: what whoever asked should know.
        samples: to calibrate with; for each inference its inputs.
        settings: of Keras, that the build has changed.
    """

    model: KerasModel
    pruned: KerasModel
    smaller: KerasModel | None
    dense_weights: Weights
    pruned_weights: Weights
    layers: list[Any]
    report: tuple[PrunedWeight, ...]
    notes: tuple[str, ...]
    samples: Samples | None
    settings: list[object]


def prune(recipe: Recipe, built: object) -> Pruning:
    """Prune a network of Keras, checked; the generators are to be seeded."""
    model = networks.bare(built)
    counting.check_finite(model)
    technique = _technique(recipe, model)
    selection = select(model, recipe.policy, technique)
    dense_weights = model.get_weights()
    with step("pruning"):
        pruned = technique.prune(model, selection.layers, recipe.finetune)
    samples = None
    if recipe.representative is not None:
        samples = checked_samples(recipe.representative(), model.inputs)
    return Pruning(
        model,
        pruned.network,
        pruned.smaller,
        dense_weights,
        pruned.network.get_weights(),
        selection.layers,
        pruned.report,
        selection.notes,
        samples,
        keras_state.settings(),
    )


def _technique(recipe: Recipe, model: KerasModel) -> Technique:
    pattern = patterns.parse(recipe.pattern)
    newer = keras3.is_network(model)
    if newer and (pattern.channels or finishing.is_asked(recipe)):
        raise ValueError(
            "pattern='channels', clusters and quantize='qat' are TFMOT's or need its layers, and"
            " TFMOT does not know Keras 3: build the network with `import tf_keras as keras`"
        )
    sparsity = recipe.sparsity if pattern.sparsity is None else pattern.sparsity
    if pattern.channels:
        return ChannelPruning(pattern, sparsity)
    schedule, asked = schedules.resolve(recipe.schedule, sparsity)
    if asked != sparsity != SPARSITY:
        raise ValueError(
            f"sparsity={sparsity:g} contradicts the schedule, which ends at {asked:g}; leave"
            " sparsity out"
        )
    kind = keras3_magnitude.Keras3Magnitude if newer else Magnitude
    return kind(pattern, schedule, asked)
