"""Findings about one partition: where a chain of sparse layers breaks, or computes wrongly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_sparsity.findings import Finding, Remedy, finding
from pytest_sparsity.xnnpack.misfits import REPAIR, Misfit
from pytest_sparsity.xnnpack.names import (
    PRUNED_FROM,
    index_of,
    layers_by_operator,
    operator_name,
    stay,
)
from pytest_sparsity.xnnpack.prunable import prunable_layers
from pytest_sparsity.xnnpack.rewrite import (
    INCOMPATIBLE_CLUSTER,
    NCHW,
    NCHW2NHWC,
    NHWC2NCHW,
    Blame,
    dynamic_inputs,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_sparsity.model import Layer
    from pytest_sparsity.xnnpack.prediction import Analysis, Partition
    from pytest_sparsity.xnnpack.rewrite import Rewrite
    from pytest_sparsity.xnnpack.subgraph import Node


@dataclass(frozen=True)
class _Cause:
    """Why a layer stays dense; layers with the same cause share one finding."""

    code: str
    cause: str = ""
    remedy: Remedy | None = None
    figures: tuple[tuple[str, object], ...] = ()


def findings(analysis: Analysis) -> Iterator[Finding]:
    """All findings about the partitions in which XNNPACK looked for sparse layers."""
    for chain in _chains(analysis):
        yield from chain.wrong()
        yield from chain.dense()
        yield from chain.exchanged_outputs()


def why_wrong(analysis: Analysis) -> list[Finding]:
    """The findings about wrong outputs alone."""
    return [finding for chain in _chains(analysis) for finding in chain.wrong()]


def why_dense(analysis: Analysis) -> list[Finding]:
    """The findings about layers that stay dense alone."""
    return [finding for chain in _chains(analysis) for finding in chain.dense()]


def _chains(analysis: Analysis) -> Iterator[_Chain]:
    for partition in analysis.partitions:
        if partition.rewrite is not None:
            yield _Chain(analysis, partition, partition.rewrite)


class _Chain:
    def __init__(self, analysis: Analysis, partition: Partition, result: Rewrite) -> None:
        self.model = analysis.model
        self.refused = analysis.delegation.refused
        self.partition = partition
        self.graph = partition.graph
        self.nodes = partition.graph.nodes
        self.result = result
        self.layers = layers_by_operator(analysis.model)
        self.writers = partition.graph.producers()

    # ------------------------------------------------------------------------- wrong outputs

    def wrong(self) -> Iterator[Finding]:
        """Where sparse inference computes something else, or cannot be set up."""
        execution = self.partition.execution
        assert execution is not None
        for position in sorted(execution.wrong):
            node = self.nodes[position]
            layer = self.layers.get(node.operator)
            reads = set(dynamic_inputs(self.graph, node)) & self.result.channels_first
            if reads and node.kind != "reduce":
                yield self._wrong_layout(position, layer)
            else:
                yield self._permuted_shape(position, layer)
        if execution.failed is not None:
            yield self._set_up_fails(execution.failed)

    def exchanged_outputs(self) -> Iterator[Finding]:
        """Outputs of the model that are right but for their shape."""
        execution = self.partition.execution
        assert execution is not None
        for index, shape in execution.reshaped.items():
            if index not in self.model.graph.outputs or index in execution.wrong_values:
                continue
            yield finding(
                "output-shape",
                node=self._name(self.nodes[self.writers[index]]),
                shape=list(shape),
                declared=list(self.graph.values[index].shape),
            )

    def _wrong_layout(self, position: int, layer: Layer | None) -> Finding:
        node = self.nodes[position]
        because, remedy = "its output leaves the sparse chain", None
        reader = self._reader_outside(node)
        if reader is not None:
            misfit = self._misfit(reader)
            because = f"{self._name(self.nodes[reader])} ends the sparse chain: {misfit}"
            remedy = misfit.remedy
        name = self._name(node)
        return finding("wrong-layout", index_of(layer), remedy=remedy, node=name, cause=because)

    def _permuted_shape(self, position: int, layer: Layer | None) -> Finding:
        return finding("permuted-shape", index_of(layer), node=self._name(self.nodes[position]))

    def _set_up_fails(self, position: int) -> Finding:
        node = self.nodes[position]
        layer = self.layers.get(node.operator)
        return finding("set-up-fails", index_of(layer), node=self._name(node))

    def _reader_outside(self, node: Node) -> int | None:
        """The first node that reads this one's output and fits no sparse cluster."""
        for reader, candidate in enumerate(self.nodes):
            inside = self.result.layout_flags[reader] & (NHWC2NCHW | NCHW | NCHW2NHWC)
            if node.output in candidate.inputs and not inside:
                return reader
        return None

    # --------------------------------------------------------------------------- dense layers

    def dense(self) -> Iterator[Finding]:
        """Why the 1x1 convolutions of the partition stay dense: one finding per cause."""
        causes: dict[_Cause, list[Layer]] = {}
        prunable = set(prunable_layers(self.model))
        for position, node in enumerate(self.nodes):
            layer = self.layers.get(node.operator)
            if layer not in prunable or layer.op != "CONV_2D" or not node.fp:
                continue
            if layer.sparsity < PRUNED_FROM:
                continue  # Of a layer without zeros nothing could be gained.
            cause = self._cause(position)
            if cause is not None:
                causes.setdefault(cause, []).append(layer)
        for cause, layers in causes.items():
            figures = {"layers": stay(layers), "cause": cause.cause, **dict(cause.figures)}
            yield finding(cause.code, layers[0].index, remedy=cause.remedy, **figures)

    def _cause(self, position: int) -> _Cause | None:
        result = self.result
        if not result.layout_flags[position] & (NCHW | NHWC2NCHW):
            misfit = self._misfit(position)
            return _Cause("incompatible-layer", str(misfit), misfit.remedy)
        if result.blocked(position):
            blame = self._blame(position)
            return self._blamed(blame) if blame is not None else None
        if result.cluster_leader.count(result.cluster_leader[position]) == 1:
            return _Cause("no-exit", remedy=REPAIRED_EXIT if self._transposed() else None)
        if not result.profitable(position):
            return _too_few_zeros(*result.weights[result.cluster_leader[position]])
        return self._outermost(position)

    def _outermost(self, position: int) -> _Cause | None:
        """A layer that reads channels-first and would write so, were it not the chain's last."""
        execution = self.partition.execution
        if execution is None or position in {*execution.sparse, *execution.wrong}:
            return None
        reader = self._reader_outside(self.nodes[position])
        if reader is None:
            return None
        misfit, name = self._misfit(reader), self._name(self.nodes[reader])
        text = f"the sparse chain ends with it, before {name}: {misfit}"
        return _Cause("incompatible-layer", text, misfit.remedy)

    def _transposed(self) -> bool:
        """Whether an average stands behind a TRANSPOSE, as in files of PyTorch."""
        operators = self.model.graph.operators
        turned = {t for o in operators if o.op == "TRANSPOSE" for t in o.outputs}
        return any(o.op == "MEAN" and o.inputs[0] in turned for o in operators)

    def _blame(self, position: int) -> Blame | None:
        """The first blame of the node's cluster, else the nearest of a node before it."""
        leader = self.result.cluster_leader[position]
        own = [b for b in self.result.blames if self.result.cluster_leader[b.node] == leader]
        return min(own, key=lambda b: b.node, default=None) or self._upstream(position)

    def _upstream(self, position: int) -> Blame | None:
        waiting, seen = [position], {position}
        while waiting:
            current = waiting.pop()
            for blame in self.result.blames:
                if blame.node == current:
                    return blame
            before = {self.writers.get(i, current) for i in self.nodes[current].inputs} - seen
            seen |= before
            waiting += sorted(before)
        return None

    def _blamed(self, blame: Blame) -> _Cause:
        if blame.code == "graph-output":
            return _Cause("value-leaves")
        if blame.code == "graph-input":
            return self._from_outside(self.nodes[blame.node])
        other = blame.other
        if other is None:
            text = f"{self._name(self.nodes[blame.node])} reads the same value twice"
            return _Cause("incompatible-layer", text, SCALE)
        if blame.code == "producer" and self.result.layout_flags[other] & INCOMPATIBLE_CLUSTER:
            deeper = self._upstream(other)
            if deeper is not None and deeper != blame:
                return self._blamed(deeper)
        misfit, name = self._misfit(other), self._name(self.nodes[other])
        if self._begins(other):
            own = misfit.remedy if misfit.remedy.takes == "file" else None
            return _Cause("entry", f"the chain begins with {name}: {misfit}", own)
        text = f"the sparse chain meets {name}: {misfit}"
        return _Cause("incompatible-layer", text, misfit.remedy)

    def _from_outside(self, node: Node) -> _Cause:
        outside = {i for i in node.inputs if self.graph.values[i].external_input}
        operators = self.model.graph.operators
        writer = next((o for o in operators if outside & set(o.outputs)), None)
        if writer is None:
            text = f"{self._name(node)} reads the model's input, and a sparse chain needs an entry"
            return _Cause("entry", text)
        misfit = self.refused.get(writer.index, Misfit("runs-apart"))
        name = operator_name(self.model, writer.index)
        return _Cause("not-delegated", str(misfit), misfit.remedy, (("operator", name),))

    # --------------------------------------------------------------------------------- misfits

    def _name(self, node: Node) -> str:
        return operator_name(self.model, node.operator)

    def _padded_by(self, node: Node) -> Node | None:
        """The padding that a node reads and that stays an operator of its own."""
        writers = (self.nodes[self.writers[i]] for i in node.inputs if i in self.writers)
        return next((writer for writer in writers if writer.kind == "pad"), None)

    def _begins(self, position: int) -> bool:
        """A convolution that reads the model's input."""
        node = self.nodes[position]
        external = any(self.graph.values[i].external_input for i in node.inputs)
        return node.kind == "convolution" and (external or self._padded_by(node) is not None)

    def _misfit(self, position: int) -> Misfit:
        """The rule that a node breaks, as far as the graph around it tells more than the node."""
        misfit, node = self.result.misfits[position], self.nodes[position]
        if misfit is None:
            return Misfit("apart")
        pad = self._padded_by(node)
        if misfit.rule in PADDING and pad is not None:
            readers = sum(pad.output in other.inputs for other in self.nodes)
            if readers > 1:
                return Misfit("shared-padding", (readers,))
        if misfit.rule in ENTRY and not self._begins(position):
            return Misfit("regular")
        if misfit.rule == "operator" and not any(node.kind == "reduce" for node in self.nodes):
            return Misfit("operator-of-a-detector", misfit.figures)
        return misfit


PADDING = frozenset({"entry-padding", "depthwise-padding"})
"""Rules about the padding of a convolution, which a PAD before it may become."""
ENTRY = frozenset({"entry-stride", "entry-padding", "entry-channels"})
"""Rules about the first convolution; further in, no 3x3 convolution fits whatever it has."""
REPAIRED_EXIT = Remedy(
    f"{REPAIR}, which averages before the TRANSPOSE, or use AdaptiveAvgPool2d(1)", "file"
)
SCALE = Remedy("scale the convolution before it instead", "conversion")


def _too_few_zeros(zeros: int, parameters: int) -> _Cause:
    missing = parameters * 2 // 3 + 1 - zeros
    figures = {
        "share": zeros / parameters,
        "zeros": zeros,
        "parameters": parameters,
        "missing": missing,
    }
    return _Cause("too-few-zeros", figures=tuple(figures.items()))
