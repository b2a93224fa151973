"""XNNPACK's view of a delegated partition, and the rewrites that run before sparse inference.

Source: google/XNNPACK src/subgraph.c (`xnn_subgraph_optimize`, `xnn_subgraph_fusion`,
`xnn_subgraph_optimize_common_subgraphs`) at efa2e754e3 (2026-07-10).
Only what decides the layout of values is modelled; lookup tables, fp16 and packing are not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_sparsity.xnnpack.releases import Release

CLAMPING = frozenset(
    {
        "average-pooling",
        "convolution",
        "deconvolution",
        "depthwise",
        "fully-connected",
        "max-pooling",
    }
)
"""Node kinds whose operator applies a clamp itself (subgraph.c: has_clamp)."""

FLATTENING = "flattening"
"""The name of a fully connected node that flattens its input itself: it was defined with
XNN_FLAG_TENSORFLOW_RESHAPE_2D, which XNNPACK dropped (7cbe65b228, 2025-06-11)."""


@dataclass(frozen=True)
class Value:
    """A tensor of the subgraph.

    Attributes:
        shape: as declared in the file, NHWC.
        fp: its type is float32 or float16.
        static: it holds constant data.
        external_input: it is computed outside the partition.
        external_output: something outside the partition reads it.
    """

    shape: tuple[int, ...]
    fp: bool = True
    static: bool = False
    external_input: bool = False
    external_output: bool = False


@dataclass(frozen=True)
class Node:
    """An XNNPACK node.

    Attributes:
        kind: "convolution", "fully-connected", "depthwise", "unary", "binary", "reduce", ...
        operator: index of the TFLite operator it comes from.
        inputs: the values it reads, without weights and biases.
        output: the value it writes; an operator with several outputs is several nodes here.
        fp: all its values, weights included, are float32 or float16.
        name: which unary, binary or reduction; of a fully connected node FLATTENING or "".
        kernel, stride, dilation: height and width.
        padding: top, right, bottom, left.
        same: the padding is left to the kernel (XNN_FLAG_TENSORFLOW_SAME_PADDING).
        channels: input channels of one group.
        groups, multiplier: of a convolution, of a depthwise convolution.
        weights: zeros and parameters of the weights.
        axes, keep_dims: of a reduction.
    """

    kind: str
    operator: int
    inputs: tuple[int, ...]
    output: int
    fp: bool = True
    name: str = ""
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    same: bool = False
    channels: int = 0
    groups: int = 1
    multiplier: int = 1
    weights: tuple[int, int] = (0, 0)
    axes: tuple[int, ...] = ()
    keep_dims: bool = False

    @property
    def pointwise(self) -> bool:
        """Whether it counts as a 1x1 convolution: these alone have sparse kernels."""
        is_1x1 = self.kind == "convolution" and self.kernel == (1, 1)
        return is_1x1 or self.kind == "fully-connected"


@dataclass
class Subgraph:
    """One delegated partition: nodes in execution order, values by tensor index.

    Attributes:
        nodes: in execution order.
        values: by tensor index; values that XNNPACK adds have indices above the file's.
        sparse_hint: some node reads a weight that a DENSIFY unpacks.
    """

    nodes: list[Node]
    values: dict[int, Value]
    sparse_hint: bool = False

    def add_value(self, shape: tuple[int, ...], *, fp: bool = True) -> int:
        """Add an internal value; returns its index."""
        index = max(self.values, default=-1) + 1
        self.values[index] = Value(shape, fp)
        return index

    def consumers(self, *, repeated: bool = False) -> Counter[int]:
        """How many nodes read each value; an external output counts as one more reader.

        Args:
            repeated: count a node once per operand.
        """
        counts: Counter[int] = Counter()
        for node in self.nodes:
            counts.update(node.inputs if repeated else set(node.inputs))
        counts.update(index for index, value in self.values.items() if value.external_output)
        return counts

    def unwritten(self) -> list[int]:
        """External outputs that no node writes (any more)."""
        written = {node.output for node in self.nodes}
        outputs = (index for index, value in self.values.items() if value.external_output)
        return [index for index in outputs if index not in written]

    def producers(self) -> dict[int, int]:
        """The position in `nodes` of the node that writes each value."""
        return {node.output: position for position, node in enumerate(self.nodes)}


def simplify(graph: Subgraph, release: Release) -> None:
    """Run the rewrites that XNNPACK runs before it looks for sparse clusters.

    Args:
        graph: changed in place.
        release: of the runtime.
    """
    _drop_unread(graph)
    _fuse_padding(graph)
    if release.has("squares-in-reduce"):
        graph.nodes = [_as_square(node) for node in graph.nodes]
        _fuse_squares(graph)
    if release.has("scalar-minmax-is-clamp"):
        broadcasts = not release.has("broadcast-minmax-stays")
        graph.nodes = [_as_clamp(graph, node, broadcasts=broadcasts) for node in graph.nodes]
    _drop_unread(graph)
    # Binary operators applied a clamp themselves until they became one kind of node.
    clamping = CLAMPING if release.has("every-unary-in-rewrite") else CLAMPING | {"binary"}
    while _Clamps(graph, clamping, elide=release.has("spurious-clamp-elided")).run():
        _drop_unread(graph)


def _drop_unread(graph: Subgraph) -> None:
    while True:
        read = graph.consumers()
        kept = [node for node in graph.nodes if read[node.output]]
        if len(kept) == len(graph.nodes):
            return
        graph.nodes = kept


def _fuse_padding(graph: Subgraph) -> None:
    """A zero PAD of height and width moves into the convolution that alone reads it.

    Values are visited by rising index and once, so of two PADs in a row only the second is fused.
    """
    for index in sorted(graph.values):
        readers = [i for i, node in enumerate(graph.nodes) if index in node.inputs]
        if len(readers) != 1 or graph.values[index].external_output:
            continue
        writer = next((i for i, node in enumerate(graph.nodes) if node.output == index), None)
        conv = graph.nodes[readers[0]]
        if writer is None or conv.kind not in {"convolution", "depthwise"} or conv.same:
            continue
        pad = graph.nodes[writer]
        if pad.kind != "pad" or pad.name != "spatial":
            continue
        sides = (conv.padding[side] + pad.padding[side] for side in range(4))
        top, right, bottom, left = sides
        fused = replace(conv, inputs=pad.inputs, padding=(top, right, bottom, left))
        graph.nodes[readers[0]] = fused
        del graph.nodes[writer]


def _as_square(node: Node) -> Node:
    if node.kind == "binary" and node.name == "multiply" and node.inputs[0] == node.inputs[1]:
        return replace(node, kind="unary", name="square", inputs=node.inputs[:1])
    return node


def _as_clamp(graph: Subgraph, node: Node, *, broadcasts: bool) -> Node:
    if node.kind != "binary" or node.name not in {"maximum", "minimum"}:
        return node
    first, second = (graph.values[index] for index in node.inputs)
    if _is_scalar(first) and not _is_scalar(second):
        operand, bound, kept = second, first, node.inputs[1]
    elif _is_scalar(second):
        operand, bound, kept = first, second, node.inputs[0]
    else:
        return node
    if len(bound.shape) > len(operand.shape) and not broadcasts:
        return node
    return replace(node, kind="unary", name="clamp", inputs=(kept,))


def _is_scalar(value: Value) -> bool:
    elements = 1
    for size in value.shape:
        elements *= size
    return value.static and elements == 1


def _fuse_squares(graph: Subgraph) -> None:
    """A mean or sum of squares reads what is squared."""
    producers = graph.producers()
    for position, node in enumerate(graph.nodes):
        if node.kind != "reduce" or node.name not in {"mean", "sum"}:
            continue
        source = producers.get(node.inputs[0])
        if source is None or not node.fp:
            continue
        square = graph.nodes[source]
        if square.kind == "unary" and square.name == "square":
            graph.nodes[position] = replace(node, inputs=square.inputs, name=f"{node.name}-squared")


class _Clamps:
    """One pass over the clamps, with writers and readers as they were before it.

    That these are not brought up to date within a pass is XNNPACK's: where one clamp has merged
    into the node before it and the next, without bounds, writes an output of the subgraph, the next
    is elided against a node that is gone, and nothing writes the output.
    """

    def __init__(self, graph: Subgraph, clamping: frozenset[str], *, elide: bool) -> None:
        self.graph = graph
        self.clamping = clamping
        self.elide = elide
        self.nodes: list[Node | None] = list(graph.nodes)
        self.writers = graph.producers()
        self.readers = graph.consumers()

    def run(self) -> bool:
        """Whether anything changed."""
        for position in range(len(self.nodes)):
            node = self.nodes[position]
            if node is None or not node.name.endswith("clamp"):
                continue
            if not self._merge(position, node) and self.elide and node.name != "clamp":
                self._elide(position, node)
        kept = [node for node in self.nodes if node is not None]
        changed = kept != self.graph.nodes
        self.graph.nodes = kept
        return changed

    def _merge(self, position: int, node: Node) -> bool:
        """A clamp disappears into the node before it if that clamps and nothing else reads it."""
        source = self.writers.get(node.inputs[0])
        before = None if source is None else self.nodes[source]
        if source is None or before is None or self.readers[node.inputs[0]] > 1:
            return False
        if before.kind not in self.clamping and before.name != "clamp":
            return False
        self.nodes[source] = replace(before, output=node.output)
        self.nodes[position] = None
        return True

    def _elide(self, position: int, node: Node) -> None:
        """A clamp without bounds disappears; between two external values it becomes a copy."""
        read, written = node.inputs[0], node.output
        source = self.writers.get(read)
        if not self.graph.values[written].external_output:
            self._redirect(written, read)
        elif source is None or self.graph.values[read].external_output:
            self.nodes[position] = replace(node, kind="copy", name="")
            return
        else:
            before = self.nodes[source]
            if before is not None:
                self.nodes[source] = replace(before, output=written)
            self._redirect(read, written)
        self.nodes[position] = None

    def _redirect(self, old: int, new: int) -> None:
        for position, node in enumerate(self.nodes):
            if node is not None and old in node.inputs:
                inputs = tuple(new if index == old else index for index in node.inputs)
                self.nodes[position] = replace(node, inputs=inputs)
