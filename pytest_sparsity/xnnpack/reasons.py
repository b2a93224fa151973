"""Findings from the rules: why layers do not run sparse, or go wrong, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.findings import Finding
from pytest_sparsity.xnnpack import chains
from pytest_sparsity.xnnpack.names import index_of, layers_by_operator, operator_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_sparsity.model import Layer
    from pytest_sparsity.xnnpack.prediction import Analysis

PRUNED = 0.05
"""Share of zeros in the prunable layers below which a model counts as not pruned."""
CONVERTER_THRESHOLD = 0.30
"""Zeros that a tensor needs for the converter to encode it: kMinSparsityLevel in
dense_to_sparse_pass.cc (TensorFlow 2.21)."""
ELSEWHERE = "claim speed on litert-js, or count instructions on litert@cortex-a53"
NO_SPARSITY = "convert without EXPERIMENTAL_SPARSITY"
PER_TENSOR = "_experimental_disable_per_channel_quantization_for_dense_layers=True"

DEFECTS = {
    "op-version": (
        "needs {0}: the runtime does not load the model",
        "use a newer runtime, or convert with a TensorFlow as old as the runtime",
    ),
    "fp16-blocks": (
        "reads block-encoded float16 weights that nothing unpacks, so its output is garbage",
        f"keep block-pruned Dense layers in float32, or {NO_SPARSITY}",
    ),
    "blocks-delegated": (
        "has blocks of weights but version {0} instead of 8, so XNNPACK misreads their encoding",
        f"{NO_SPARSITY}, or with {PER_TENSOR}",
    ),
    "no-densify": (
        "reads sparse-encoded weights without a DENSIFY, as if they were dense",
        "convert the model again with EXPERIMENTAL_SPARSITY, which inserts DENSIFY",
    ),
    "dynamic-range-sparse": (
        "has sparse-encoded int8 weights and float input, and XNNPACK reads them still encoded",
        f"quantize to float16 instead, or {NO_SPARSITY}",
    ),
    "int8-dense-sparse": (
        "is an int8 Dense layer with sparse-encoded weights, and XNNPACK reads them still encoded",
        f"{NO_SPARSITY}: int8 has no sparse kernels anyway",
    ),
    "never-unpacked": (
        "is not run by XNNPACK, yet the DENSIFY of its float16 weights went there and never runs",
        "keep the weights of this layer in float32, or make it one that XNNPACK runs",
    ),
    "unwritten-output": (
        "pools nothing, so XNNPACK drops it with the activation before it and writes no output",
        "remove the pooling of 1x1 windows",
    ),
    "dropped-columns": (
        "has a width of {0}, no multiple of its block of {1}: the last columns are lost",
        f"make the width a multiple of {{1}}, or {NO_SPARSITY}",
    ),
    "per-channel-blocks": (
        "has 1x16 blocks with one scale per channel, which this runtime's kernel takes for zero",
        f"use a newer runtime, or convert with {PER_TENSOR}",
    ),
    "ledger-overflow": (
        "has {0} blocks per row, more than the 255 that TFLite's int8 kernel can count",
        f"make the layer at most 4080 wide, or {NO_SPARSITY}",
    ),
}
"""What is the case and what to do, by the code of a defect; {0} and {1} are its figures."""


def findings(analysis: Analysis) -> list[Finding]:
    """All findings of the rules, in no particular order."""
    found = [*_runtime(analysis), *_defects(analysis), *_file(analysis)]
    return list(dict.fromkeys([*found, *chains.findings(analysis)]))


def _runtime(analysis: Analysis) -> Iterator[Finding]:
    named = str(analysis.release)
    messages = {
        "x86-avx": "this CPU has AVX, so XNNPACK keeps its dense kernels",
        "no-sparse-build": f"{named} was built without sparse kernels for this CPU",
        "needs-fp16": f"{named} has sparse kernels only for ARM CPUs with FP16 arithmetic",
    }
    convolutions = any(x.prunable and x.op == "CONV_2D" for x in analysis.model.layers)
    if analysis.closed and convolutions:
        yield Finding(analysis.closed, messages[analysis.closed], None, ELSEWHERE)
    if analysis.version != analysis.release.version:
        text = (
            f"no rules are known for {analysis.release.runtime} {analysis.version}: those of "
            f"{named}, the nearest release, are applied"
        )
        yield Finding("rules-unverified", text, None, f"install {named}")
    blocks = any(x.encoding.startswith("block") for x in analysis.model.layers)
    if not blocks and not analysis.delegation.taken - set(analysis.delegation.unpackers.values()):
        text = "XNNPACK takes no operator of the model: TFLite's own kernels run all of it"
        yield Finding("delegate-off", text, None, "give the operators float32 inputs and a bias")


def _defects(analysis: Analysis) -> Iterator[Finding]:
    layers = layers_by_operator(analysis.model)
    for defect in analysis.defects:
        message, remedy = DEFECTS[defect.code]
        layer = layers.get(defect.operator)
        text = message.format(*defect.figures)
        yield Finding(
            defect.code,
            f"{operator_name(analysis.model, defect.operator)} {text}",
            index_of(layer),
            remedy.format(*defect.figures),
        )


def _file(analysis: Analysis) -> Iterator[Finding]:
    prunable = [layer for layer in analysis.model.layers if layer.prunable]
    if not prunable:
        yield Finding(
            "nothing-prunable",
            "no layer is a 1x1 convolution or fully connected, and only those have sparse kernels",
            None,
            "replace regular convolutions by depthwise and 1x1 convolutions",
        )
        return
    parameters = sum(layer.parameters for layer in prunable)
    zeros = sum(round(layer.sparsity * layer.parameters) for layer in prunable)
    if zeros < PRUNED * parameters:
        yield Finding(
            "not-pruned",
            f"{zeros / parameters:.1%} of the weights that sparse kernels could skip are zero",
            None,
            "prune before converting: prune_low_magnitude for at least `frequency` steps, then "
            "strip_pruning",
        )
        return
    yield from _types(prunable)
    yield from _encoding(analysis, prunable)


def _types(prunable: list[Layer]) -> Iterator[Finding]:
    quantized = [
        layer
        for layer in prunable
        if layer.dtype not in {"float32", "float16"} and not layer.encoding.startswith("block")
    ]
    if quantized:
        yield Finding(
            "quantized",
            f"{len(quantized)} of {len(prunable)} prunable layers have {quantized[0].dtype} "
            f"weights, for which XNNPACK has no sparse kernels",
            quantized[0].index,
            "claim size only, or keep these layers in float32 or float16",
        )
    scattered = [
        layer
        for layer in prunable
        if layer.op == "FULLY_CONNECTED"
        and layer.dtype in {"float32", "float16"}
        and layer.sparsity >= PRUNED
        and not layer.encoding.startswith("block")
    ]
    halves = any(layer.dtype == "float16" for layer in scattered)
    if scattered:
        yield Finding(
            "scattered-zeros",
            f"{len(scattered)} of {len(prunable)} Dense layers have zeros that are not in blocks, "
            f"for which there is no sparse kernel",
            scattered[0].index,
            "prune with pattern='1x4' (block_size=(4, 1) of TFMOT) and convert with"
            " EXPERIMENTAL_SPARSITY" + (", without float16" if halves else ""),
        )


def _encoding(analysis: Analysis, prunable: list[Layer]) -> Iterator[Finding]:
    model = analysis.model
    enough = [layer for layer in prunable if layer.sparsity >= CONVERTER_THRESHOLD]
    few = [
        layer
        for layer in prunable
        if PRUNED <= layer.sparsity < CONVERTER_THRESHOLD and layer.encoding == "dense"
    ]
    if not model.encoded and enough:
        yield Finding(
            "not-encoded",
            "the zeros are stored densely: the file is as large as without them and the kernels "
            "stay dense",
            None,
            "convert with tf.lite.Optimize.EXPERIMENTAL_SPARSITY",
        )
    if few:
        yield Finding(
            "below-threshold",
            f"{len(few)} prunable layers are stored densely for having fewer zeros than the 30 % "
            f"that the converter asks for, the first {few[0].sparsity:.1%}",
            few[0].index,
            "prune these layers to 30 % or more, better 70 %",
        )
    convolutions = [layer for layer in enough if layer.op == "CONV_2D"]
    hinted = any(p.graph.sparse_hint for p in analysis.partitions)
    if model.encoded and convolutions and not hinted and not analysis.defects:
        yield Finding(
            "no-hint",
            "no layer that XNNPACK runs has weights behind a DENSIFY, its sign to look for sparse "
            "layers",
            convolutions[0].index,
            "sparse-encode a convolution: one with 30 % zeros or more suffices",
        )
