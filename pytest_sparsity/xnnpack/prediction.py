"""From the rules to a verdict: what each layer of a model does on a runtime and CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from pytest_sparsity.xnnpack.defects import Defect, defects, unwritten_outputs
from pytest_sparsity.xnnpack.delegate import UNARY, Delegation, delegate, epochs
from pytest_sparsity.xnnpack.layout import Execution, execute
from pytest_sparsity.xnnpack.lowering import Lowering
from pytest_sparsity.xnnpack.releases import Release, dense_with_sme, gate_closed, release_of
from pytest_sparsity.xnnpack.rewrite import Rewrite, rewrite
from pytest_sparsity.xnnpack.subgraph import Subgraph, simplify

if TYPE_CHECKING:
    from pytest_sparsity.model import Graph, Layer, Model

SHAPELESS = frozenset({*UNARY, "RESHAPE", "FULLY_CONNECTED"})
"""Operators that compute the same whatever shape their input has by mistake."""


@dataclass(frozen=True)
class Partition:
    """One subgraph that XNNPACK runs, after its rewrites.

    Attributes:
        operators: indices of the TFLite operators in it.
        graph: the nodes.
        rewrite: the clusters and layouts, None where XNNPACK does not look for them.
        execution: what happens when it runs, None likewise.
    """

    operators: tuple[int, ...]
    graph: Subgraph
    rewrite: Rewrite | None
    execution: Execution | None


@dataclass
class Analysis:
    """All that the rules say about a model on a runtime and CPU.

    Attributes:
        model: the model.
        release: whose rules were applied.
        version: of the runtime; another one than the release's if that is not known.
        closed: code of the reason why sparse kernels are off on the CPU, or "".
        delegation: what XNNPACK takes.
        partitions: what becomes of it.
        order: the TFLite operator behind each operator that is executed, in order.
        defects: of the converter and the runtime that the file runs into.
        sme: dense float32 kernels are those of SME, sparse ones are not.
    """

    model: Model
    release: Release
    version: str
    closed: str
    delegation: Delegation
    partitions: list[Partition]
    order: list[int]
    defects: list[Defect]
    sme: bool = False

    @property
    def lossy(self) -> bool:
        """The encoding lost weights, so that the file is wrong wherever it runs."""
        return any(defect.verdict == "lossy" for defect in self.defects)

    @property
    def rewritten(self) -> bool:
        """XNNPACK moves some values to channels-first, so that bits differ from dense kernels'."""
        return any(p.rewrite is not None and p.rewrite.channels_first for p in self.partitions)


def analyse(
    model: Model,
    runtime: str,
    version: str,
    arch: str,
    features: frozenset[str],
    *,
    lacks: frozenset[str] = frozenset(),
) -> Analysis:
    """Apply the rules.

    Args:
        model: any model; its main graph is looked at.
        runtime: "litert", "litert-js", "tensorflow" or "tflite-runtime".
        version: of the runtime.
        arch: "x86_64", "aarch64", "wasm32", ...
        features: of the CPU as Linux spells them, those that the runtime sees.
        lacks: changes of XNNPACK that the release is taken not to have, to see what they do.

    Raises:
        ValueError: no rules are known for the runtime.
        ModelError: the model's weights are inconsistent.
    """
    release, _ = release_of(runtime, version)
    release = replace(release, lacks=release.lacks | lacks)
    closed = gate_closed(release, arch, features)
    constant = lru_cache(maxsize=None)(model.weights)
    delegation = delegate(model.graph, release, constant)
    zeros = {
        layer.operator: (round(layer.sparsity * layer.parameters), layer.parameters)
        for layer in model.layers
        if layer.graph == 0
    }
    found = []
    order: list[int] = []
    unwritten: list[int] = []
    for mine, operators in epochs(model.graph, delegation):
        if not mine:
            order += operators
            continue
        lowering = Lowering(model.graph, delegation, operators, constant, zeros, release)
        graph = lowering.lower()
        simplify(graph, release)
        unwritten += graph.unwritten()
        active = not closed and graph.sparse_hint
        found.append(_partition(model.graph, operators, graph, release, active=active))
        order += [node.operator for node in graph.nodes]
    faults = defects(model, release, delegation) + unwritten_outputs(model.graph, unwritten)
    sme = dense_with_sme(release, arch, features)
    return Analysis(model, release, version, closed, delegation, found, order, faults, sme)


def _partition(
    file: Graph, operators: list[int], graph: Subgraph, release: Release, *, active: bool
) -> Partition:
    if not active:
        return Partition(tuple(operators), graph, None, None)
    result = rewrite(graph, release)
    outcome = execute(graph, result, release)
    writers = graph.producers()
    for operator in file.operators:
        misled = outcome.reshaped.keys() & set(operator.inputs)
        if operator.index in operators or operator.op in SHAPELESS or not misled:
            continue
        outcome.wrong |= {writers[index] for index in misled}
    return Partition(tuple(operators), graph, result, outcome)


def kernels(analysis: Analysis) -> tuple[str, ...]:
    """The kernel of each layer: "sparse", "block", "dense" or "miscomputes"."""
    sparse: set[int] = set()
    wrong: set[int] = {d.operator for d in analysis.defects if d.verdict == "miscomputes"}
    for partition in analysis.partitions:
        if partition.execution is not None:
            nodes = partition.graph.nodes
            sparse |= {nodes[p].operator for p in partition.execution.sparse}
            wrong |= _wrong_layers(partition)
    return tuple(_kernel(layer, analysis, sparse, wrong) for layer in analysis.model.layers)


def sparse_nodes(analysis: Analysis) -> tuple[str, ...]:
    """Per layer "sparse" where XNNPACK runs a sparse kernel, right or wrong, else "dense"."""
    sparse: set[int] = set()
    for partition in analysis.partitions:
        if partition.execution is not None:
            nodes = partition.graph.nodes
            sparse |= {nodes[p].operator for p in partition.execution.sparse}
    return tuple(
        "sparse" if layer.graph == 0 and layer.operator in sparse else "dense"
        for layer in analysis.model.layers
    )


def _kernel(layer: Layer, analysis: Analysis, sparse: set[int], wrong: set[int]) -> str:
    if layer.graph != 0:
        return "dense"
    if layer.operator in wrong:
        return "miscomputes"
    if layer.operator in sparse:
        return "sparse"
    refused = layer.operator in analysis.delegation.refused
    if layer.op == "FULLY_CONNECTED" and layer.encoding.startswith("block") and refused:
        return "block"
    return "dense"


def _wrong_layers(partition: Partition) -> set[int]:
    """Operators with weights at or right before the nodes that go wrong."""
    assert partition.execution is not None
    nodes, writers = partition.graph.nodes, partition.graph.producers()
    found: set[int] = set()
    waiting, seen = list(partition.execution.wrong), set(partition.execution.wrong)
    while waiting:
        node = nodes[waiting.pop()]
        if node.kind in {"convolution", "depthwise", "fully-connected"}:
            found.add(node.operator)
            continue
        for index in node.inputs:
            writer = writers.get(index)
            if writer is not None and writer not in seen:
                seen.add(writer)
                waiting.append(writer)
    return found


WRONG = frozenset({"fails", "miscomputes"})
"""Verdicts about a file that must not be used on the target."""


def verdict(analysis: Analysis) -> str:
    """What the target does with the file: "fails", "miscomputes", "sparse" or "dense".

    Sparse is what XNNPACK itself calls so: it has switched to sparse inference, if only for layers
    without weights; or TFLite's kernels for blocks of weights run.
    """
    executions = [p.execution for p in analysis.partitions if p.execution is not None]
    verdicts = {defect.verdict for defect in analysis.defects}
    if "fails" in verdicts:
        return "fails"
    if any(execution.failed is not None for execution in executions):
        return "fails" if analysis.release.reports_failures else "miscomputes"
    if "miscomputes" in verdicts or any(execution.wrong for execution in executions):
        return "miscomputes"
    return "sparse" if analysis.rewritten or "block" in kernels(analysis) else "dense"
