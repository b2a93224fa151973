"""Defects of the converter and of runtimes that a file runs into, found without running it.

Seen with TensorFlow 2.21.0 (converter and runtime), tflite-runtime 2.14.0, ai-edge-litert 2.3.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_sparsity.encoding import whole_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_sparsity.model import Graph, Model, Operator, Tensor
    from pytest_sparsity.xnnpack.delegate import Delegation
    from pytest_sparsity.xnnpack.releases import Release

LEDGER_LIMIT = 255
"""Blocks per row that TFLite's int8 block kernel can count: its ledger is of uint8
(kernels/fully_connected.cc, PopulateLedgerData, whose error is ignored)."""


@dataclass(frozen=True)
class Defect:
    """One defect that one operator of the file triggers.

    Attributes:
        code: of the finding.
        operator: index of the operator.
        verdict: "fails" or "miscomputes" on the target, or "lossy": the file itself is wrong.
        figures: for the message and the remedy, by name.
    """

    code: str
    operator: int
    verdict: str
    figures: Mapping[str, Any] = field(default_factory=dict)


def defects(model: Model, release: Release, delegation: Delegation) -> list[Defect]:
    """All defects that the main graph triggers on a runtime."""
    graph = model.graph
    layers = {layer.operator: layer for layer in model.layers if layer.graph == 0}
    found: list[Defect] = []
    for operator in graph.operators:
        found += _version(operator, release)
        found += _reads_compressed(graph, operator, delegation)
        found += _quantized(graph, operator, release, delegation)
        found += _never_unpacked(graph, operator, delegation)
        if operator.index in layers:
            weights = graph.tensors[layers[operator.index].tensor]
            found += _block_layer(weights, operator, release, delegation)
    return found


def unwritten_outputs(graph: Graph, unwritten: list[int]) -> list[Defect]:
    """Outputs that XNNPACK's rewrites leave without a writer (since e9bc43cef4, 2025-10-29).

    Seen in TensorFlow 2.21.0, ai-edge-litert 2.3.0 and LiteRT.js 2.5.3, also for dense models.
    """
    return [
        Defect("unwritten-output", operator.index, "miscomputes")
        for operator in graph.operators
        if set(operator.outputs) & set(unwritten)
    ]


def _version(operator: Operator, release: Release) -> Iterator[Defect]:
    newest = dict(release.operators).get(operator.op)
    if newest is not None and operator.version > newest:
        figures = {"version": operator.version, "newest": newest}
        yield Defect("op-version", operator.index, "fails", figures)


def _reads_compressed(graph: Graph, operator: Operator, delegation: Delegation) -> Iterator[Defect]:
    """A sparse-encoded constant that something reads as if it were dense."""
    for index in operator.inputs:
        if index < 0 or graph.tensors[index].sparsity is None or operator.op == "DENSIFY":
            continue
        if operator.op == "DEQUANTIZE":
            yield Defect("fp16-blocks", operator.index, "miscomputes")
        elif operator.op != "FULLY_CONNECTED":
            yield Defect("no-densify", operator.index, "miscomputes")
        elif operator.index in delegation.taken:
            figures = {"version": operator.version}
            yield Defect("blocks-delegated", operator.index, "miscomputes", figures)


def _quantized(
    graph: Graph, operator: Operator, release: Release, delegation: Delegation
) -> Iterator[Defect]:
    """int8 weights that XNNPACK takes from the file although only DENSIFY's output has them."""
    if operator.op not in {"CONV_2D", "FULLY_CONNECTED"} or operator.index not in delegation.taken:
        return
    source, weights = (graph.tensors[index] for index in operator.inputs[:2])
    if weights.dtype != "int8" or weights.index not in delegation.sparse_weights:
        return
    if source.dtype == "float32":
        yield Defect("dynamic-range-sparse", operator.index, "fails")
    elif operator.op == "FULLY_CONNECTED" and release.has("int8-fc-reads-file"):
        yield Defect("int8-dense-sparse", operator.index, "fails")


def _never_unpacked(graph: Graph, operator: Operator, delegation: Delegation) -> Iterator[Defect]:
    """Weights behind DENSIFY and DEQUANTIZE of an operator that XNNPACK does not take.

    The delegate gives the DEQUANTIZE back to TFLite but keeps the DENSIFY before it, which then
    nobody runs (xnnpack_delegate.cc, PrepareOpsToDelegate; seen in all four runtimes).
    """
    if operator.op != "DEQUANTIZE" or operator.index in delegation.taken:
        return
    if operator.inputs[0] in delegation.sparse_weights:
        for reader in graph.operators:
            if set(operator.outputs) & set(reader.inputs) and reader.index in delegation.refused:
                yield Defect("never-unpacked", reader.index, "miscomputes")


def _block_layer(
    weights: Tensor, operator: Operator, release: Release, delegation: Delegation
) -> Iterator[Defect]:
    if weights.sparsity is None or not weights.sparsity.block_map:
        return
    width, block = weights.shape[-1], weights.sparsity.blocks[0]
    if not whole_blocks(weights.shape, weights.sparsity):
        figures = {"width": width, "block": block}
        yield Defect("dropped-columns", operator.index, "lossy", figures)
    if weights.dtype != "int8" or operator.index in delegation.taken:
        return
    if len(weights.scales) > 1 and not release.has("per-channel-blocks"):
        yield Defect("per-channel-blocks", operator.index, "miscomputes")
    if width // block > LEDGER_LIMIT:
        blocks = {"blocks": width // block}
        yield Defect("ledger-overflow", operator.index, "miscomputes", blocks)
