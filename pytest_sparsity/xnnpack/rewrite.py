"""Which values XNNPACK moves to channels-first layout: the rewrite that sparse kernels need.

Source: google/XNNPACK src/subgraph.c, `xnn_check_nchw_compatibility` and
`xnn_subgraph_rewrite_for_nchw`, at efa2e754e3 (2026-07-10) and b9d4073a69 (2023-04-09).
The algorithm is followed step by step, including what looks like an oversight: nothing checks that
the last node of a cluster can convert back to channels-last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_sparsity.xnnpack.misfits import Misfit

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from pytest_sparsity.xnnpack.releases import Release
    from pytest_sparsity.xnnpack.subgraph import Node, Subgraph

# XNN_LAYOUT_FLAG_...: what the kernels of a node read and write.
NHWC2NCHW = 1
"""COMPATIBLE_NHWC2NCHW: reads channels-last, writes channels-first. The entry of a chain."""
NCHW = 2
"""COMPATIBLE_NCHW: reads and writes channels-first."""
NCHW2NHWC = 4
"""COMPATIBLE_NCHW2NHWC: reads channels-first, writes channels-last. The exit of a chain."""
INCOMPATIBLE_CLUSTER = 8
"""INCOMPATIBLE_CLUSTER: its cluster stays channels-last."""

OLD_UNARY = frozenset(
    {
        "abs", "round", "ceil", "clamp", "elu", "floor", "hard_swish", "leaky_relu", "neg",
        "logistic", "square",
    }
)  # fmt: skip
"""The unary operators that qualified before 2e439340e6 (2024-10-28); since then all do."""


@dataclass(frozen=True)
class Blame:
    """Why a cluster stays dense.

    Attributes:
        node: position in `Subgraph.nodes` of the node where the chain breaks.
        code: "graph-input", "graph-output", "producer" or "consumer".
        other: position of the node that does not fit, if there is one.
    """

    node: int
    code: str
    other: int | None = None


@dataclass
class Rewrite:
    """The outcome of the rewrite of one subgraph.

    Attributes:
        layout_flags: of each node, with INCOMPATIBLE_CLUSTER where its cluster stays dense.
        misfits: for a node without flags, the rule that it breaks.
        cluster_leader: the node that stands for the cluster of each node.
        weights: zeros and parameters of the 1x1 weights of each cluster, by leader.
        channels_first: the values whose layout was switched.
        blames: why clusters stay dense.
    """

    layout_flags: list[int]
    misfits: list[Misfit | None]
    cluster_leader: list[int] = field(default_factory=list)
    weights: dict[int, tuple[int, int]] = field(default_factory=dict)
    channels_first: set[int] = field(default_factory=set)
    blames: list[Blame] = field(default_factory=list)

    def profitable(self, node: int) -> bool:
        """More than two thirds of the pooled 1x1 weights of the node's cluster are zero."""
        zeros, parameters = self.weights.get(self.cluster_leader[node], (0, 0))
        return zeros * 3 > parameters * 2

    def blocked(self, node: int) -> bool:
        """The node's cluster stays channels-last because of its shape."""
        return bool(self.layout_flags[self.cluster_leader[node]] & INCOMPATIBLE_CLUSTER)


def rewrite(graph: Subgraph, release: Release) -> Rewrite:
    """Decide which values become channels-first.

    Args:
        graph: after `simplify`; its `sparse_hint` is not looked at here.
        release: of the runtime.
    """
    fits = [check_nchw_compatibility(node, graph, release) for node in graph.nodes]
    result = Rewrite([flags for flags, _ in fits], [misfit for _, misfit in fits])
    result.cluster_leader = list(range(len(fits)))
    if not _merge(graph, result, NCHW2NHWC):
        return result
    while _merge(graph, result, NCHW | NCHW2NHWC):
        pass
    for position, leader in enumerate(result.cluster_leader):
        result.layout_flags[leader] |= result.layout_flags[position] & INCOMPATIBLE_CLUSTER
    repeated = not release.has("repeated-input-counts-once")
    _check_consumers(graph, result, graph.consumers(repeated=repeated))
    _pool_weights(graph, result)
    for position, node in _surviving(graph, result):
        if result.profitable(position):
            result.channels_first.update(dynamic_inputs(graph, node))
    return result


def dynamic_inputs(graph: Subgraph, node: Node) -> list[int]:
    """The node's inputs that are not constants."""
    return [index for index in node.inputs if not graph.values[index].static]


def _merge(graph: Subgraph, result: Rewrite, classes: int) -> bool:
    """One pass: give each node of `classes` and the writers of its inputs one common leader."""
    changed = False
    writers = graph.producers()
    for position, node in enumerate(graph.nodes):
        own = result.layout_flags[position]
        # XNNPACK passes over nodes that are marked; visited again they would be marked again.
        if not own & classes or (classes & NCHW and own & INCOMPATIBLE_CLUSTER):
            continue
        for index in dynamic_inputs(graph, node):
            changed |= _join(graph, result, position, index, writers)
    return changed


def _join(
    graph: Subgraph, result: Rewrite, position: int, index: int, writers: dict[int, int]
) -> bool:
    """Give a node and the writer of one of its inputs one leader; whether that changed anything.

    XNNPACK also clears NCHW2NHWC of the writer, which nothing asks for from then on.
    """
    value = graph.values[index]
    if value.external_input or value.external_output:
        code = "graph-input" if value.external_input else "graph-output"
        _block(result, position, Blame(position, code, writers.get(index)))
        return False
    writer = writers[index]
    fits = result.layout_flags[writer]
    # A marked writer: merged, its cluster would be incompatible all the same; so the blame is told.
    if not fits & (NHWC2NCHW | NCHW) or fits & INCOMPATIBLE_CLUSTER:
        _block(result, position, Blame(position, "producer", writer))
        return False
    # Of the two leaders XNNPACK takes the later one; any of them would stand for the same nodes.
    leader = max(result.cluster_leader[writer], result.cluster_leader[position])
    if result.cluster_leader[writer] == result.cluster_leader[position]:
        return False
    result.cluster_leader[writer] = result.cluster_leader[position] = leader
    return True


def _block(result: Rewrite, position: int, blame: Blame) -> None:
    result.layout_flags[position] |= INCOMPATIBLE_CLUSTER
    if blame not in result.blames:
        result.blames.append(blame)


def _surviving(graph: Subgraph, result: Rewrite) -> list[tuple[int, Node]]:
    return [
        (position, node)
        for position, node in enumerate(graph.nodes)
        if not result.blocked(position) and result.layout_flags[position] & (NCHW | NCHW2NHWC)
    ]


def _check_consumers(graph: Subgraph, result: Rewrite, consumers: Counter[int]) -> None:
    """Every value that a cluster reads must be read by clusters only."""
    inside: dict[int, int] = {}
    surviving = _surviving(graph, result)
    for _, node in surviving:
        for index in dynamic_inputs(graph, node):
            inside[index] = inside.get(index, 0) + 1
    for position, node in surviving:
        for index in dynamic_inputs(graph, node):
            if inside[index] == consumers[index]:
                continue
            result.layout_flags[result.cluster_leader[position]] |= INCOMPATIBLE_CLUSTER
            other = next(
                (
                    reader
                    for reader, candidate in enumerate(graph.nodes)
                    if index in candidate.inputs and reader not in {p for p, _ in surviving}
                ),
                None,
            )
            result.blames.append(Blame(position, "consumer", other))


def _pool_weights(graph: Subgraph, result: Rewrite) -> None:
    for position, node in enumerate(graph.nodes):
        if node.pointwise and not result.blocked(position):
            leader = result.cluster_leader[position]
            zeros, parameters = result.weights.get(leader, (0, 0))
            result.weights[leader] = (zeros + node.weights[0], parameters + node.weights[1])


def check_nchw_compatibility(
    node: Node, graph: Subgraph, release: Release
) -> tuple[int, Misfit | None]:
    """The layout flags of a node, or 0 and the rule that it breaks."""
    if not node.fp:
        return _misfit("not-float")
    if node.kind == "fully-connected":
        return (NCHW, None) if release.has("fc-in-rewrite") else _misfit("fully-connected")
    every_unary = release.has("every-unary-in-rewrite")
    any_mean = release.has("static-mean-in-rewrite")
    checks: dict[str, Callable[[Node, Subgraph], tuple[int, Misfit | None]]] = {
        "convolution": _convolution,
        "depthwise": _depthwise,
        "binary": _binary,
        "unary": _unary if every_unary else _old_unary,
        "reduce": _reduce if any_mean else _old_reduce,
        "resize-bilinear": _resize,
        "depth-to-space": lambda _node, _graph: (NCHW2NHWC, None),
    }
    check = checks.get(node.kind)
    if check is None:
        return _misfit(_RULES_OF_KINDS.get(node.kind, "operator"), node.kind)
    return check(node, graph)


_RULES_OF_KINDS = {
    "average-pooling": "pooling",
    "max-pooling": "pooling",
    "pad": "pad",
    "concatenation": "concatenation",
    "softmax": "head",
    "reshape": "head",
}
"""Kinds of nodes that never fit, and for which there is better advice than for the rest."""


def _misfit(rule: str, *figures: object) -> tuple[int, Misfit | None]:
    return 0, Misfit(rule, figures)


def _convolution(node: Node, _graph: Subgraph) -> tuple[int, Misfit | None]:
    if node.groups != 1:
        return _misfit("groups", node.groups)
    if _either(node.dilation) != 1:
        return _misfit("dilation", _text(node.dilation))
    if _either(node.kernel) == 1:
        if any(node.padding):
            return _misfit("pointwise-padding")
        if _either(node.stride) != 1:
            return _misfit("pointwise-stride", _text(node.stride))
        return NCHW, None
    if node.kernel != (3, 3):
        return _misfit("kernel", _text(node.kernel))
    if _either(node.stride) != 2:
        return _misfit("entry-stride", _text(node.stride))
    if node.same or node.padding != (1, 1, 1, 1):
        return _misfit("entry-padding", 1, _padding(node))
    if node.channels != 3:
        return _misfit("entry-channels", node.channels)
    return NHWC2NCHW, None


def _depthwise(node: Node, _graph: Subgraph) -> tuple[int, Misfit | None]:
    if _either(node.dilation) != 1:
        return _misfit("dilation", _text(node.dilation))
    if node.multiplier != 1:
        return _misfit("depth-multiplier", node.multiplier)
    if node.stride[0] != node.stride[1] or node.stride[0] not in {1, 2}:
        return _misfit("depthwise-stride", _text(node.stride))
    if node.kernel not in {(3, 3), (5, 5)}:
        return _misfit("depthwise-kernel", _text(node.kernel))
    side = node.kernel[0] // 2
    if node.same or node.padding != (side, side, side, side):
        return _misfit("depthwise-padding", side, _padding(node))
    return NCHW, None


def _binary(node: Node, graph: Subgraph) -> tuple[int, Misfit | None]:
    if node.name not in {"add", "multiply"}:
        return _misfit(node.name if node.name in {"subtract", "prelu"} else "operator", node.name)
    operands = [graph.values[index] for index in node.inputs]
    if any(len(operand.shape) != 4 for operand in operands):
        return _misfit("operand-rank")
    # XNNPACK looks at the first operand's shape for a constant on either side.
    if any(operand.static for operand in operands) and sum(s != 1 for s in operands[0].shape) > 1:
        return _misfit("constant-operand")
    return NCHW, None


def _unary(node: Node, graph: Subgraph) -> tuple[int, Misfit | None]:
    if len(graph.values[node.inputs[0]].shape) != 4:
        return _misfit("rank")
    return NCHW, None


def _old_unary(node: Node, graph: Subgraph) -> tuple[int, Misfit | None]:
    if node.name.removeprefix("unbounded ") not in OLD_UNARY:
        return _misfit("old-unary", node.name)
    return _unary(node, graph)


def _reduce(node: Node, graph: Subgraph) -> tuple[int, Misfit | None]:
    if node.name not in {"mean", "sum", "mean-squared", "sum-squared"}:
        return _misfit("operator", node.name)
    if len(graph.values[node.inputs[0]].shape) != 4:
        return _misfit("rank")
    return NCHW | NCHW2NHWC, None


def _old_reduce(node: Node, graph: Subgraph) -> tuple[int, Misfit | None]:
    """Before static-mean-in-rewrite only the mean over height and width, as a pooling node."""
    if node.name != "mean" or sorted(node.axes) != [1, 2]:
        return _misfit("old-mean")
    return _reduce(node, graph)


def _resize(node: Node, graph: Subgraph) -> tuple[int, Misfit | None]:
    _, height, width, _ = graph.values[node.inputs[0]].shape
    return (NCHW, None) if height > 1 and width > 1 else _misfit("resize")


def _either(pair: tuple[int, int]) -> int:
    """XNNPACK's test `(height | width) == n`."""
    return pair[0] | pair[1]


def _text(pair: tuple[int, int]) -> str:
    return f"{pair[0]}x{pair[1]}"


def _padding(node: Node) -> str:
    if node.same:
        return "padding 'same' with a stride, which is left to the kernel"
    return "top {}, right {}, bottom {}, left {}".format(*node.padding)
