"""Which values XNNPACK moves to channels-first layout: the rewrite that sparse kernels need.

Source: google/XNNPACK src/subgraph.c, `xnn_check_nchw_compatibility` and
`xnn_subgraph_rewrite_for_nchw`, at efa2e754e3 (2026-07-10) and b9d4073a69 (2023-04-09).
The algorithm is followed step by step, including what looks like an oversight: nothing checks that
the last node of a cluster can convert back to channels-last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from pytest_sparsity.xnnpack.releases import Release
    from pytest_sparsity.xnnpack.subgraph import Node, Subgraph

ENTRY = 1
"""Reads channels-last, writes channels-first."""
INNER = 2
"""Reads and writes channels-first."""
EXIT = 4
"""Reads channels-first, writes channels-last."""
BLOCKED = 8
"""Its cluster stays channels-last."""

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
        classes: ENTRY, INNER, EXIT of each node, with BLOCKED where its cluster stays dense.
        reasons: for a node that fits no class, why.
        leader: the node that stands for the cluster of each node.
        weights: zeros and parameters of the 1x1 weights of each cluster, by leader.
        channels_first: the values whose layout was switched.
        blames: why clusters stay dense.
    """

    classes: list[int]
    reasons: list[str]
    leader: list[int] = field(default_factory=list)
    weights: dict[int, tuple[int, int]] = field(default_factory=dict)
    channels_first: set[int] = field(default_factory=set)
    blames: list[Blame] = field(default_factory=list)

    def profitable(self, node: int) -> bool:
        """More than two thirds of the pooled 1x1 weights of the node's cluster are zero."""
        zeros, parameters = self.weights.get(self.leader[node], (0, 0))
        return zeros * 3 > parameters * 2

    def blocked(self, node: int) -> bool:
        """The node's cluster stays channels-last because of its shape."""
        return bool(self.classes[self.leader[node]] & BLOCKED)


def rewrite(graph: Subgraph, release: Release) -> Rewrite:
    """Decide which values become channels-first.

    Args:
        graph: after `simplify`; its `sparse_hint` is not looked at here.
        release: of the runtime.
    """
    fits = [node_class(node, graph, release) for node in graph.nodes]
    result = Rewrite([c for c, _ in fits], [why for _, why in fits])
    result.leader = list(range(len(fits)))
    if not _merge(graph, result, EXIT):
        return result
    while _merge(graph, result, INNER | EXIT):
        pass
    for position, leader in enumerate(result.leader):
        result.classes[leader] |= result.classes[position] & BLOCKED
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
        own = result.classes[position]
        if not own & classes or (classes & INNER and own & BLOCKED):
            continue
        for index in dynamic_inputs(graph, node):
            changed |= _join(graph, result, position, index, writers)
    return changed


def _join(
    graph: Subgraph, result: Rewrite, position: int, index: int, writers: dict[int, int]
) -> bool:
    value = graph.values[index]
    if value.external_input or value.external_output:
        code = "graph-input" if value.external_input else "graph-output"
        _block(result, position, Blame(position, code, writers.get(index)))
        return False
    writer = writers[index]
    fits = result.classes[writer]
    if not fits & (ENTRY | INNER) or fits & BLOCKED:
        _block(result, position, Blame(position, "producer", writer))
        return False
    result.classes[writer] &= ~EXIT
    leader = max(result.leader[writer], result.leader[position])
    if result.leader[writer] == result.leader[position]:
        return False
    result.leader[writer] = result.leader[position] = leader
    return True


def _block(result: Rewrite, position: int, blame: Blame) -> None:
    result.classes[position] |= BLOCKED
    if blame not in result.blames:
        result.blames.append(blame)


def _surviving(graph: Subgraph, result: Rewrite) -> list[tuple[int, Node]]:
    return [
        (position, node)
        for position, node in enumerate(graph.nodes)
        if not result.blocked(position) and result.classes[position] & (INNER | EXIT)
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
            result.classes[result.leader[position]] |= BLOCKED
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
            leader = result.leader[position]
            zeros, parameters = result.weights.get(leader, (0, 0))
            result.weights[leader] = (zeros + node.weights[0], parameters + node.weights[1])


def node_class(node: Node, graph: Subgraph, release: Release) -> tuple[int, str]:
    """The layout class of a node, or 0 and why it has none, as a clause without a full stop."""
    if not node.fp:
        return 0, "sparse kernels exist for float32 and float16 only"
    if node.kind == "fully-connected":
        return (
            (INNER, "")
            if release.has("fc-in-rewrite")
            else (0, "this runtime has no sparse fully connected layers")
        )
    checks: dict[str, Callable[[Node, Subgraph], tuple[int, str]]] = {
        "convolution": _convolution,
        "depthwise": _depthwise,
        "binary": _binary,
        "unary": _unary if release.has("every-unary-in-rewrite") else _old_unary,
        "reduce": _reduce if release.has("static-mean-in-rewrite") else _old_reduce,
        "resize-bilinear": _resize,
        "depth-to-space": lambda _node, _graph: (EXIT, ""),
    }
    check = checks.get(node.kind)
    if check is None:
        return 0, f"no channels-first kernel exists for {node.kind}"
    return check(node, graph)


def _convolution(node: Node, _graph: Subgraph) -> tuple[int, str]:
    if node.groups != 1:
        return 0, f"it has {node.groups} groups"
    if _either(node.dilation) != 1:
        return 0, f"its dilation is {node.dilation[0]}x{node.dilation[1]}, not 1"
    if _either(node.kernel) == 1:
        if any(node.padding):
            return 0, "a 1x1 convolution must not be padded"
        if _either(node.stride) != 1:
            return 0, f"a 1x1 convolution needs stride 1, this has {_text(node.stride)}"
        return INNER, ""
    if node.kernel != (3, 3):
        return 0, f"its kernel is {_text(node.kernel)}; only 1x1 and the 3x3 entry have kernels"
    if _either(node.stride) != 2:
        return 0, f"the 3x3 entry needs stride 2, this has {_text(node.stride)}"
    if node.same or node.padding != (1, 1, 1, 1):
        return 0, f"the 3x3 entry needs padding 1 on each side, this has {_padding(node)}"
    if node.channels != 3:
        return 0, f"the 3x3 entry needs 3 input channels, this has {node.channels}"
    return ENTRY, ""


def _depthwise(node: Node, _graph: Subgraph) -> tuple[int, str]:
    if _either(node.dilation) != 1:
        return 0, f"its dilation is {_text(node.dilation)}, not 1"
    if node.multiplier != 1:
        return 0, f"its depth multiplier is {node.multiplier}, not 1"
    if node.stride[0] != node.stride[1] or node.stride[0] not in {1, 2}:
        return 0, f"its stride is {_text(node.stride)}, neither 1x1 nor 2x2"
    if node.kernel not in {(3, 3), (5, 5)}:
        return 0, f"its kernel is {_text(node.kernel)}, neither 3x3 nor 5x5"
    side = node.kernel[0] // 2
    if node.same or node.padding != (side, side, side, side):
        return 0, f"it needs padding {side} on each side, this has {_padding(node)}"
    return INNER, ""


def _binary(node: Node, graph: Subgraph) -> tuple[int, str]:
    if node.name not in {"add", "multiply"}:
        return 0, f"no channels-first kernel exists for {node.name}"
    operands = [graph.values[index] for index in node.inputs]
    if any(len(operand.shape) != 4 for operand in operands):
        return 0, "an operand is not 4-D"
    # XNNPACK looks at the first operand's shape for a constant on either side.
    if any(operand.static for operand in operands) and sum(s != 1 for s in operands[0].shape) > 1:
        return 0, "it adds or multiplies by a constant"
    return INNER, ""


def _unary(node: Node, graph: Subgraph) -> tuple[int, str]:
    if len(graph.values[node.inputs[0]].shape) != 4:
        return 0, "its input is not 4-D"
    return INNER, ""


def _old_unary(node: Node, graph: Subgraph) -> tuple[int, str]:
    if node.name.removeprefix("unbounded ") not in OLD_UNARY:
        return 0, f"this runtime has no channels-first kernel for {node.name}"
    return _unary(node, graph)


def _reduce(node: Node, graph: Subgraph) -> tuple[int, str]:
    if node.name not in {"mean", "sum", "mean-squared", "sum-squared"}:
        return 0, f"no channels-first kernel exists for {node.name}"
    if len(graph.values[node.inputs[0]].shape) != 4:
        return 0, "its input is not 4-D"
    return INNER | EXIT, ""


def _old_reduce(node: Node, graph: Subgraph) -> tuple[int, str]:
    """Before 813a14bf6e (2024-10-07) only the mean over height and width, as a pooling node."""
    if node.name != "mean" or sorted(node.axes) != [1, 2]:
        return 0, "only the mean over height and width has a kernel in this runtime"
    return _reduce(node, graph)


def _resize(node: Node, graph: Subgraph) -> tuple[int, str]:
    _, height, width, _ = graph.values[node.inputs[0]].shape
    if height > 1 and width > 1:
        return INNER, ""
    return 0, "it resizes an image of height or width 1"


def _either(pair: tuple[int, int]) -> int:
    """XNNPACK's test `(height | width) == n`."""
    return pair[0] | pair[1]


def _text(pair: tuple[int, int]) -> str:
    return f"{pair[0]}x{pair[1]}"


def _padding(node: Node) -> str:
    if node.same:
        return "padding 'same' with a stride, which is left to the kernel"
    return "top {}, right {}, bottom {}, left {}".format(*node.padding)
