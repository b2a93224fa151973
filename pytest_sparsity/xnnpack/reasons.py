"""Findings from the rules: why layers do not run sparse, or go wrong, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity import patterns
from pytest_sparsity.findings import Finding, Remedy, finding
from pytest_sparsity.wording import counted
from pytest_sparsity.xnnpack import chains
from pytest_sparsity.xnnpack.names import PRUNED_FROM, index_of, layers_by_operator, operator_name
from pytest_sparsity.xnnpack.prunable import prunable_layers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_sparsity.model import Computed, Layer, Model
    from pytest_sparsity.xnnpack.prediction import Analysis

BLOCKS = patterns.parse("1x4")
"""What TFLite has kernels for with float weights."""
CONVERTER_THRESHOLD = 0.30
"""Zeros that a tensor needs for the converter to encode it: kMinSparsityLevel in
dense_to_sparse_pass.cc (TensorFlow 2.21)."""


def findings(analysis: Analysis) -> list[Finding]:
    """All findings of the rules, in no particular order."""
    found = [*_runtime(analysis), *_defects(analysis), *_file(analysis)]
    return list(dict.fromkeys([*found, *chains.findings(analysis)]))


def _runtime(analysis: Analysis) -> Iterator[Finding]:
    release = analysis.release
    pruned = any(
        layer.op == "CONV_2D" and layer.sparsity >= PRUNED_FROM
        for layer in prunable_layers(analysis.model)
    )
    if analysis.closed and pruned:
        yield finding(analysis.closed, release=release)
    if analysis.version != release.version:
        asked = f"{release.runtime} {analysis.version}"
        yield finding("rules-unverified", version=asked, release=release)
    blocks = any(x.encoding.startswith("block") for x in analysis.model.layers)
    if not blocks and not analysis.delegation.taken - set(analysis.delegation.unpackers.values()):
        cause = "XNNPACK takes no operator of the model: TFLite's own kernels run all of it"
        yield finding("delegate-off", cause=cause)


def _defects(analysis: Analysis) -> Iterator[Finding]:
    layers = layers_by_operator(analysis.model)
    for defect in analysis.defects:
        name = operator_name(analysis.model, defect.operator)
        layer = index_of(layers.get(defect.operator))
        yield finding(defect.code, layer, operator=name, **defect.figures)


def _file(analysis: Analysis) -> Iterator[Finding]:
    computed = list(_computed(analysis.model))
    yield from computed
    prunable = prunable_layers(analysis.model)
    if not prunable:
        if not computed:
            yield finding("nothing-prunable")
        return
    parameters = sum(layer.parameters for layer in prunable)
    zeros = sum(round(layer.sparsity * layer.parameters) for layer in prunable)
    if zeros < PRUNED_FROM * parameters:
        yield finding("not-pruned", share=zeros / parameters)
        return
    yield from _types(analysis.model, prunable)
    yield from _encoding(analysis, prunable)


def _computed(model: Model) -> Iterator[Finding]:
    """Layers without stored weights, those with masks of pruning apart."""
    wrapped: list[Computed] = []
    others: list[Computed] = []
    values = zeros = 0
    for found in model.computed_weights:
        masks = [model.weights(index, found.graph) for index in found.masks]
        masks = [mask for mask in masks if mask.size > 1 and ((mask == 0) | (mask == 1)).all()]
        (wrapped if masks else others).append(found)
        values += sum(mask.size for mask in masks)
        zeros += sum(int((mask == 0).sum()) for mask in masks)
    if wrapped:
        first = f"{wrapped[0].operator.op} with {wrapped[0].name!r}"
        yield finding(
            "not-stripped",
            layers=counted(len(wrapped), "layer"),
            first=first,
            share=zeros / values,
        )
    if others:
        first = f"{others[0].operator.op} with {others[0].name!r}"
        yield finding("computed-weights", layers=counted(len(others), "layer"), first=first)


def _types(model: Model, prunable: tuple[Layer, ...]) -> Iterator[Finding]:
    layers = counted(len(prunable), "prunable layer")
    quantized = [
        layer
        for layer in prunable
        if layer.dtype not in {"float32", "float16"}
        and layer.sparsity >= PRUNED_FROM
        and not layer.encoding.startswith("block")
    ]
    if quantized:
        first = quantized[0]
        yield finding(
            "quantized", first.index, dtype=first.dtype, count=len(quantized), layers=layers
        )
    scattered = [
        layer
        for layer in prunable
        if layer.op == "FULLY_CONNECTED"
        and layer.dtype in {"float32", "float16"}
        and layer.sparsity >= PRUNED_FROM
        and not layer.encoding.startswith("block")
        and not _in_blocks(model, layer)
    ]
    if scattered:
        halves = any(layer.dtype == "float16" for layer in scattered)
        remedy = WITHOUT_FLOAT16 if halves else None
        yield finding(
            "scattered-zeros",
            scattered[0].index,
            remedy=remedy,
            count=len(scattered),
            layers=layers,
        )


WITHOUT_FLOAT16 = Remedy(
    "prune with pattern='1x4' (block_size=(4, 1) of TFMOT) and convert with EXPERIMENTAL_SPARSITY, "
    "without float16",
    "training",
)


def _in_blocks(model: Model, layer: Layer) -> bool:
    """Whether the zeros of a dense layer are whole blocks, however they are stored."""
    weights = model.weights(layer.tensor, layer.graph)
    return weights.shape[-1] % 4 == 0 and not BLOCKS.breaches(weights != 0)[1].any()


def _encoding(analysis: Analysis, prunable: tuple[Layer, ...]) -> Iterator[Finding]:
    model = analysis.model
    enough = [layer for layer in prunable if layer.sparsity >= CONVERTER_THRESHOLD]
    few = [
        layer
        for layer in prunable
        if PRUNED_FROM <= layer.sparsity < CONVERTER_THRESHOLD and layer.encoding == "dense"
    ]
    if not model.encoded and enough:
        yield finding("not-encoded")
    if few:
        yield finding(
            "below-threshold",
            few[0].index,
            layers=counted(len(few), "prunable layer"),
            share=few[0].sparsity,
        )
    convolutions = [layer for layer in enough if layer.op == "CONV_2D"]
    hinted = any(p.graph.sparse_hint for p in analysis.partitions)
    if model.encoded and convolutions and not hinted and not analysis.defects:
        yield finding("no-hint", convolutions[0].index)
