"""Defects of the converter and of runtimes that a file runs into, found without running it.

Seen with TensorFlow 2.21.0 (converter and runtime), tflite-runtime 2.14.0, ai-edge-litert 2.3.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_sparsity.model import Graph, Layer, Model, Operator, Tensor
    from pytest_sparsity.xnnpack.builds import Build
    from pytest_sparsity.xnnpack.delegate import Delegation

LEDGER_LIMIT = 255
"""Blocks per row that TFLite's int8 block kernel can count: its ledger is of uint8
(kernels/fully_connected.cc, PopulateLedgerData, whose error is ignored)."""


@dataclass(frozen=True)
class Defect:
    """One defect that one operator of the file triggers.

    Attributes:
        code: of the finding.
        operator: index of the operator.
        verdict: "fails" or "miscomputes".
        detail: figures for the message.
    """

    code: str
    operator: int
    verdict: str
    detail: str = ""


def defects(model: Model, build: Build, delegation: Delegation) -> list[Defect]:
    """All defects that the main graph triggers on a runtime."""
    graph = model.graph
    layers = {layer.operator: layer for layer in model.layers if layer.graph == 0}
    found: list[Defect] = []
    for operator in graph.operators:
        found += _version(operator, build)
        found += _reads_compressed(graph, operator, delegation)
        found += _quantized(graph, operator, build, delegation)
        if operator.index in layers:
            layer = layers[operator.index]
            found += _block_layer(graph.tensors[layer.tensor], layer, operator, build, delegation)
    return found


def _version(operator: Operator, build: Build) -> Iterator[Defect]:
    newest = dict(build.versions).get(operator.op)
    if newest is not None and operator.version > newest:
        detail = f"{operator.op} version {operator.version}, the newest known is {newest}"
        yield Defect("op-version", operator.index, "fails", detail)


def _reads_compressed(graph: Graph, operator: Operator, delegation: Delegation) -> Iterator[Defect]:
    """A sparse-encoded constant that something reads as if it were dense."""
    for index in operator.inputs:
        if index < 0 or graph.tensors[index].sparsity is None or operator.op == "DENSIFY":
            continue
        if operator.op == "DEQUANTIZE":
            yield Defect("fp16-blocks", operator.index, "miscomputes")
        elif operator.op != "FULLY_CONNECTED":
            yield Defect("no-densify", operator.index, "miscomputes", operator.op)
        elif operator.index in delegation.taken:
            yield Defect("blocks-delegated", operator.index, "miscomputes", f"{operator.version}")


def _quantized(
    graph: Graph, operator: Operator, build: Build, delegation: Delegation
) -> Iterator[Defect]:
    """int8 weights that XNNPACK takes from the file although only DENSIFY's output has them."""
    if operator.op not in {"CONV_2D", "FULLY_CONNECTED"} or operator.index not in delegation.taken:
        return
    source, weights = (graph.tensors[index] for index in operator.inputs[:2])
    if weights.dtype != "int8" or weights.index not in delegation.sparse_weights:
        return
    if source.dtype == "float32":
        yield Defect("dynamic-range-sparse", operator.index, "fails")
    elif operator.op == "FULLY_CONNECTED" and build.int8_reads_file:
        yield Defect("int8-dense-sparse", operator.index, "fails")


def _block_layer(
    weights: Tensor, layer: Layer, operator: Operator, build: Build, delegation: Delegation
) -> Iterator[Defect]:
    if weights.sparsity is None or not weights.sparsity.block_map:
        return
    width, block = weights.shape[-1], weights.sparsity.blocks[0]
    if width % block:
        yield Defect("dropped-columns", operator.index, "miscomputes", f"{width} {block}")
    if weights.dtype != "int8" or operator.index in delegation.taken:
        return
    if len(weights.scales) > 1 and not build.per_channel_blocks:
        yield Defect("per-channel-blocks", operator.index, "miscomputes")
    if width // block > LEDGER_LIMIT:
        yield Defect("ledger-overflow", operator.index, "miscomputes", f"{width // block}")
    del layer
