"""What a rewritten subgraph computes: which nodes run sparse, fail to be set up, or go wrong.

After the rewrite every operator is created for the layouts of its values. One whose input is
channels-first and whose output is not, and that is no exit, reads the bytes in the wrong order;
only assertions, which releases do not have, look at that. Shapes matter too: a reduction that
reads channels-first announces a permuted shape, on which the operators behind it stumble.
Source: google/XNNPACK src/subgraph/{convolution-2d,fully-connected,binary,unary,static-reduce}.c
at efa2e754e3 (2026-07-10).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from pytest_sparsity.xnnpack.rewrite import dynamic_inputs
from pytest_sparsity.xnnpack.subgraph import FLATTENING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_sparsity.xnnpack.releases import Release
    from pytest_sparsity.xnnpack.rewrite import Rewrite
    from pytest_sparsity.xnnpack.subgraph import Node, Subgraph

Shape = tuple[int, ...]


class _SetUpError(Exception):
    """XNNPACK refuses to set up the node: the model does not load."""


@dataclass
class Execution:
    """What happens when the subgraph runs.

    Attributes:
        sparse: positions of the nodes that run sparse kernels.
        wrong: positions of the nodes that read bytes or shapes that mean something else.
        wrong_values: values whose content is wrong, because of their node or of one before.
        reshaped: values for others than XNNPACK whose announced shape is not the declared one.
        failed: position of the node that cannot be set up, if there is one.
    """

    sparse: set[int] = field(default_factory=set)
    wrong: set[int] = field(default_factory=set)
    wrong_values: set[int] = field(default_factory=set)
    reshaped: dict[int, Shape] = field(default_factory=dict)
    failed: int | None = None


def execute(graph: Subgraph, result: Rewrite, release: Release) -> Execution:
    """Follow shapes and layouts through the subgraph.

    Args:
        graph: after `simplify`.
        result: of `rewrite`.
        release: of the runtime.
    """
    simulation = _Simulation(graph, result.channels_first, release)
    position = 0
    try:
        for position in range(len(graph.nodes)):
            simulation.step(position)
    except _SetUpError:
        simulation.outcome.failed = position
    return simulation.outcome


class _Simulation:
    def __init__(self, graph: Subgraph, channels_first: set[int], release: Release) -> None:
        self.graph = graph
        self.channels_first = channels_first
        self.release = release
        self.shapes = {index: value.shape for index, value in graph.values.items()}
        self.outcome = Execution()

    def step(self, position: int) -> None:
        """Set up and run one node."""
        node = self.graph.nodes[position]
        if node.output in self.channels_first:
            shape, right = self._channels_first(node)
            if node.pointwise:
                self.outcome.sparse.add(position)
        else:
            shape, right = self._channels_last(node)
        self.shapes[node.output] = shape
        if self.graph.values[node.output].external_output and not self._as_declared([node.output]):
            self.outcome.reshaped[node.output] = shape
        inputs_wrong = any(i in self.outcome.wrong_values for i in node.inputs)
        if not right:
            self.outcome.wrong.add(position)
        if inputs_wrong or not right:
            self.outcome.wrong_values.add(node.output)

    def _declared(self, index: int) -> Shape:
        return self.graph.values[index].shape

    def _as_declared(self, indices: Iterable[int]) -> bool:
        return all(self.shapes[index] == self._declared(index) for index in indices)

    def _channels_first(self, node: Node) -> tuple[Shape, bool]:
        """Shape and correctness of a node with a channels-first kernel."""
        declared = self._declared(node.output)
        shape = self.shapes[node.inputs[0]]
        if node.kind in {"convolution", "fully-connected", "depthwise"}:
            return self._convolution(node)
        if node.kind == "unary":
            return shape, prod(shape) >= prod(declared)
        if node.kind == "binary":
            return self._binary(node)
        if node.kind == "reduce":
            return self._reduce(node)
        return declared, self._as_declared(node.inputs)

    def _convolution(self, node: Node) -> tuple[Shape, bool]:
        """A convolution of channels-first kernels, or a fully connected node as such a one."""
        declared, expected = self._declared(node.output), self._declared(node.inputs[0])
        shape = self.shapes[node.inputs[0]]
        # A value that is declared with two dimensions has a width of zero, for any release.
        if len(shape) < 3 and (len(expected) < 3 or self.release.has("reshape-checks-input")):
            raise _SetUpError
        pixel = len(shape) > 3 and shape[:3] == (expected[0], 1, 1)
        right = pixel or (len(shape) > 3 and shape[:3] == expected[:3])
        if node.name == FLATTENING:
            # Set up as the convolution that it stands for, it flattens nothing.
            return (*shape[:-1], declared[-1]), pixel
        return declared, right

    def _channels_last(self, node: Node) -> tuple[Shape, bool]:
        """Shape and correctness of a node with a channels-last kernel, or of an exit."""
        permuted = [i for i in dynamic_inputs(self.graph, node) if i in self.channels_first]
        if permuted and node.kind == "reduce":
            return self._reduce(node)
        if permuted and node.kind == "depth-to-space":
            return self._declared(node.output), self._as_declared(node.inputs)
        readable = all(_order_is_irrelevant(self._declared(index)) for index in permuted)
        shape, right = self._plain(node)
        return shape, right and readable

    def _plain(self, node: Node) -> tuple[Shape, bool]:
        declared = self._declared(node.output)
        if not node.inputs:
            return declared, True
        shape = self.shapes[node.inputs[0]]
        if node.kind == "fully-connected":
            return self._fully_connected(node)
        if node.kind == "reshape":
            if prod(shape) != prod(self._declared(node.inputs[0])):
                raise _SetUpError
            return declared, True
        if node.kind == "unary":
            return shape, prod(shape) >= prod(declared)
        if node.kind == "binary":
            return self._binary(node)
        channels = self._declared(node.inputs[0])[-1]
        convolution = node.kind in {"convolution", "depthwise"}
        if (
            convolution
            and shape[-1:] != (channels,)
            and self.release.has("convolution-checks-channels")
        ):
            raise _SetUpError
        if node.kind == "concatenation":
            self._concatenation(node)
        return declared, self._as_declared(node.inputs)

    def _fully_connected(self, node: Node) -> tuple[Shape, bool]:
        shape, channels = self.shapes[node.inputs[0]], self._declared(node.inputs[0])[-1]
        if shape[-1:] != (channels,) and self.release.has("fc-checks-channels"):
            raise _SetUpError
        if prod(shape) % channels and self.release.has("reshape-checks-input"):
            raise _SetUpError
        right = prod(shape) == prod(self._declared(node.inputs[0]))
        if node.name == FLATTENING:
            return self._declared(node.output), right
        return (*shape[:-1], self._declared(node.output)[-1]), right

    def _binary(self, node: Node) -> tuple[Shape, bool]:
        """Broadcasting, by the shapes at run time."""
        shape: Shape = ()
        for index in node.inputs:
            shape = _broadcast(shape, self.shapes[index])
        declared = self._declared(node.output)
        if prod(shape) != prod(declared):
            return shape, False
        operands = {self.shapes[index] for index in node.inputs if prod(self.shapes[index]) > 1}
        return shape, shape == declared or len(operands) == 1

    def _concatenation(self, node: Node) -> None:
        axis = node.axes[0] % len(self._declared(node.output))
        others = {
            tuple(size for d, size in enumerate(self.shapes[index]) if d != axis)
            for index in node.inputs
        }
        if len(others) > 1:
            raise _SetUpError

    def _reduce(self, node: Node) -> tuple[Shape, bool]:
        """A reduction that reads channels-first."""
        if not self.release.has("static-mean-in-rewrite"):
            return self._declared(node.output), True
        shape = self.shapes[node.inputs[0]]
        axes = {axis % 4 for axis in node.axes}
        first = node.output in self.channels_first
        announced = _announced_shape(shape, axes, keep=node.keep_dims, channels_first=first)
        # Height and width together, or with the channels, or these alone, reduce to the same order
        # of elements in both layouts.
        right = axes in ({1, 2}, {3}, {1, 2, 3}) and self._as_declared(node.inputs)
        return announced, right


def _order_is_irrelevant(shape: Shape) -> bool:
    """One pixel, or one channel: both layouts are the same bytes.

    A value of three dimensions is a reduction's, which `_reduce` has judged.
    """
    return len(shape) == 3 or prod(shape[1:-1]) == 1 or shape[-1] == 1


def _broadcast(one: Shape, other: Shape) -> Shape:
    rank = max(len(one), len(other))
    one, other = (1,) * (rank - len(one)) + one, (1,) * (rank - len(other)) + other
    if any(a != b and 1 not in {a, b} for a, b in zip(one, other, strict=True)):
        raise _SetUpError
    return tuple(b if a == 1 else a for a, b in zip(one, other, strict=True))


_TO_FIRST = (0, 2, 3, 1)
_FROM_FIRST = (0, 3, 2, 1)  # not the inverse of _TO_FIRST: height and width change places


def _announced_shape(shape: Shape, axes: set[int], *, keep: bool, channels_first: bool) -> Shape:
    """The output shape that static-reduce.c computes for a channels-first input."""
    permuted = [shape[_FROM_FIRST[d]] for d in range(4)]
    reduced = {_TO_FIRST[axis] for axis in axes}
    announced = []
    for d in range(4):
        place = _TO_FIRST[_FROM_FIRST[d]] if channels_first else d
        marks = {_TO_FIRST[axis] for axis in reduced} if keep and channels_first else reduced
        if place not in marks:
            announced.append(permuted[d])
        elif keep:
            announced.append(1)
    return tuple(announced)
