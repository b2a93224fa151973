"""Findings about one partition: where a chain of sparse layers breaks, or computes wrongly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_sparsity.findings import Finding
from pytest_sparsity.xnnpack.names import index_of, layers_by_operator, operator_name, stay
from pytest_sparsity.xnnpack.rewrite import BLOCKED, ENTRY, EXIT, INNER, Blame, dynamic_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_sparsity.model import Layer
    from pytest_sparsity.xnnpack.prediction import Analysis, Partition
    from pytest_sparsity.xnnpack.rewrite import Rewrite
    from pytest_sparsity.xnnpack.subgraph import Node

ENTRY_RECIPE = (
    "begin with ZeroPadding2D(1) and Conv2D(n, 3, strides=2, padding='valid') on 3 channels"
)
EXIT_RECIPE = "end every branch with GlobalAveragePooling2D"
NO_KEEPDIMS = "use GlobalAveragePooling2D(keepdims=False) and Dense layers behind it"

_REMEDIES = (
    ("left to the kernel", "put ZeroPadding2D({pad}) before it and set padding='valid'"),
    ("padding {pad} on each side", "put ZeroPadding2D({pad}) before it and set padding='valid'"),
    ("dilation", "use dilation 1"),
    ("depth multiplier", "use depth_multiplier=1 and a wider 1x1 layer before it"),
    ("neither 3x3 nor 5x5", "use a 3x3 or 5x5 kernel"),
    ("neither 1x1 nor 2x2", "use stride 1 or 2"),
    ("only 1x1", "replace it by a depthwise and a 1x1 convolution"),
    ("regular", "replace it by a depthwise and a 1x1 convolution"),
    ("must not be padded", "drop the padding"),
    ("needs stride 1", "put the stride into a depthwise convolution"),
    ("groups", "use groups=1"),
    ("-pooling", "replace the pooling by a depthwise convolution with stride 2"),
    ("for pad", "pad only the entry and depthwise convolutions, by half their kernel"),
    ("prelu", "use ReLU or LeakyReLU"),
    ("subtract", "negate one branch in its convolution and add"),
    ("concatenation", "add the branches instead of concatenating them"),
    ("by a constant", "fold the constant into the convolution before it"),
    ("not 4-D", "fold it into the convolution before it"),
    ("softmax", EXIT_RECIPE),
    ("reshape", EXIT_RECIPE),
    ("float32 and float16 only", "keep the pruned 1x1 layers in float32 or float16"),
)


@dataclass(frozen=True)
class _Cause:
    """Why a layer stays dense; layers with the same cause share one finding."""

    code: str
    text: str
    remedy: str


def findings(analysis: Analysis) -> Iterator[Finding]:
    """All findings about the partitions in which XNNPACK looked for sparse layers."""
    for chain in _chains(analysis):
        yield from chain.wrong()
        yield from chain.dense()
        yield from chain.exchanged_outputs()


def why_wrong(analysis: Analysis) -> list[Finding]:
    """The findings about wrong answers alone."""
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

    # ------------------------------------------------------------------------- wrong answers

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
            declared = self.graph.values[index].shape
            yield Finding(
                "output-shape",
                f"the output of {self._name(self.nodes[self.writers[index]])} comes with shape "
                f"{list(shape)} instead of {list(declared)} in sparse inference, its values right",
                None,
                "use GlobalAveragePooling2D(keepdims=False), or reshape what the model returns",
            )

    def _wrong_layout(self, position: int, layer: Layer | None) -> Finding:
        node = self.nodes[position]
        because, remedy = "its output leaves the sparse chain", EXIT_RECIPE
        reader = self._misfit(node)
        if reader is not None:
            why = self._why(reader)
            because = f"{self._name(self.nodes[reader])} ends the sparse chain: {why}"
            remedy = self._remedy(reader)
        return Finding(
            "wrong-layout",
            f"XNNPACK reads the input of {self._name(node)} in the wrong order, because {because}",
            index_of(layer),
            remedy,
        )

    def _permuted_shape(self, position: int, layer: Layer | None) -> Finding:
        return Finding(
            "permuted-shape",
            f"sparse inference exchanges the dimensions of what {self._name(self.nodes[position])} "
            f"reads or writes, and its values come out wrong",
            index_of(layer),
            NO_KEEPDIMS,
        )

    def _set_up_fails(self, position: int) -> Finding:
        layer = self.layers.get(self.nodes[position].operator)
        return Finding(
            "set-up-fails",
            f"XNNPACK cannot set up {self._name(self.nodes[position])}: a sparse global average "
            f"pool with keepdims announces its output with the dimensions exchanged",
            index_of(layer),
            NO_KEEPDIMS,
        )

    def _misfit(self, node: Node) -> int | None:
        """The first node that reads this one's output and fits no sparse cluster."""
        for reader, candidate in enumerate(self.nodes):
            inside = self.result.classes[reader] & (ENTRY | INNER | EXIT)
            if node.output in candidate.inputs and not inside:
                return reader
        return None

    # --------------------------------------------------------------------------- dense layers

    def dense(self) -> Iterator[Finding]:
        """Why the 1x1 convolutions of the partition stay dense: one finding per cause."""
        causes: dict[_Cause, list[Layer]] = {}
        for position, node in enumerate(self.nodes):
            layer = self.layers.get(node.operator)
            if layer is None or not layer.prunable or layer.op != "CONV_2D" or not node.fp:
                continue
            cause = self._cause(position)
            if cause is not None:
                causes.setdefault(cause, []).append(layer)
        for cause, layers in causes.items():
            text = f"{stay(layers)}: {cause.text}"
            yield Finding(cause.code, text, layers[0].index, cause.remedy)

    def _cause(self, position: int) -> _Cause | None:
        result = self.result
        if not result.classes[position] & (INNER | ENTRY):
            return _Cause("incompatible-layer", self._why(position), self._remedy(position))
        if result.blocked(position):
            blame = self._blame(position)
            return self._blamed(blame) if blame is not None else None
        if result.leader.count(result.leader[position]) == 1:
            text = "no global average pool or depth-to-space ends the sparse chain"
            return _Cause("no-exit", text, EXIT_RECIPE)
        if not result.profitable(position):
            return _too_few_zeros(*result.weights[result.leader[position]])
        return None

    def _blame(self, position: int) -> Blame | None:
        """The first blame of the node's cluster, else the nearest of a node before it."""
        leader = self.result.leader[position]
        own = [b for b in self.result.blames if self.result.leader[b.node] == leader]
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
            text = (
                "a value inside the sparse chain also leaves it, as an output of the model or to a "
                "layer that XNNPACK does not run"
            )
            return _Cause("value-leaves", text, "output something computed from it instead")
        if blame.code == "graph-input":
            return self._from_outside(self.nodes[blame.node])
        other = blame.other
        if other is None:
            text = f"{self._name(self.nodes[blame.node])} reads the same value twice"
            return _Cause("incompatible-layer", text, "scale the convolution before it instead")
        if blame.code == "producer" and self.result.classes[other] & BLOCKED:
            deeper = self._upstream(other)
            if deeper is not None and deeper != blame:
                return self._blamed(deeper)
        if self._begins(other):
            text = f"the chain begins with {self._name(self.nodes[other])}: {self._why(other)}"
            return _Cause("entry", text, ENTRY_RECIPE)
        text = f"the sparse chain meets {self._name(self.nodes[other])}: {self._why(other)}"
        return _Cause("incompatible-layer", text, self._remedy(other))

    def _from_outside(self, node: Node) -> _Cause:
        outside = {i for i in node.inputs if self.graph.values[i].external_input}
        operators = self.model.graph.operators
        writer = next((o for o in operators if outside & set(o.outputs)), None)
        if writer is None:
            text = f"{self._name(node)} reads the model's input, and a sparse chain needs an entry"
            return _Cause("entry", text, ENTRY_RECIPE)
        why = self.refused.get(writer.index, "it runs apart from this layer")
        text = f"XNNPACK does not run {operator_name(self.model, writer.index)} before it: {why}"
        return _Cause("not-delegated", text, "replace that operator or move it to the end")

    # ----------------------------------------------------------------------------------- words

    def _name(self, node: Node) -> str:
        return operator_name(self.model, node.operator)

    def _begins(self, position: int) -> bool:
        """A convolution that reads the model's input."""
        node = self.nodes[position]
        external = any(self.graph.values[i].external_input for i in node.inputs)
        padded = any(
            self.nodes[self.writers[i]].kind == "pad" for i in node.inputs if i in self.writers
        )
        return node.kind == "convolution" and (external or padded)

    def _why(self, position: int) -> str:
        why = self.result.reasons[position]
        if why.startswith("the 3x3 entry") and not self._begins(position):
            return "regular convolutions have no channels-first kernel"
        return why or "it is not part of the chain"

    def _remedy(self, position: int) -> str:
        why, pad = self._why(position), self.nodes[position].kernel[0] // 2
        for sign, remedy in _REMEDIES:
            if sign.format(pad=pad) in why:
                return remedy.format(pad=pad)
        return "replace it, or move it behind the global average pool"


def _too_few_zeros(zeros: int, parameters: int) -> _Cause:
    missing = parameters * 2 // 3 + 1 - zeros
    text = (
        f"{zeros / parameters:.1%} of the weights in their chain are zero ({zeros} of "
        f"{parameters}), and sparse kernels need more than two thirds"
    )
    return _Cause("too-few-zeros", text, f"zero {missing} more of them at least: aim at 70 %")
