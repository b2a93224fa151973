"""From TFLite operators to the XNNPACK nodes that the delegate defines for them.

Source: LiteRT tflite/delegates/xnnpack/xnnpack_delegate.cc (`Visit...Node`) at c3390e34c
(2026-07-16); XNNPACK src/subgraph/convolution-2d.c at efa2e754e3 (2026-07-10) for the padding.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pytest_sparsity.xnnpack.delegate import BINARY, OTHER, REDUCE, UNARY, WEIGHTED, two_options
from pytest_sparsity.xnnpack.subgraph import FLATTENING, Node, Subgraph, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_sparsity.model import Graph, Operator
    from pytest_sparsity.xnnpack.delegate import Constant, Delegation
    from pytest_sparsity.xnnpack.releases import Release


class Lowering:
    """Makes the XNNPACK subgraph of one partition."""

    def __init__(
        self,
        graph: Graph,
        delegation: Delegation,
        partition: list[int],
        constant: Constant,
        zeros: Mapping[int, tuple[int, int]],
        release: Release,
    ) -> None:
        """Prepare.

        Args:
            graph: the file's main graph.
            delegation: of the graph.
            partition: indices of operators.
            constant: reads the values of a constant tensor.
            zeros: zeros and parameters of the weights by operator.
            release: of the runtime.
        """
        self.graph = graph
        self.delegation = delegation
        self.partition = partition
        self.constant = constant
        self.zeros = zeros
        self.release = release
        self.subgraph = Subgraph([], self._values())

    def lower(self) -> Subgraph:
        """The subgraph, before XNNPACK's own rewrites."""
        for index in self.partition:
            operator = self.graph.operators[index]
            reads_sparse = any(i in self.delegation.sparse_weights for i in operator.inputs)
            self.subgraph.sparse_hint |= reads_sparse
            if index not in self.delegation.unpackers.values():
                self._visit(operator)
        return self.subgraph

    def _values(self) -> dict[int, Value]:
        inside = set(self.partition)
        made = {o for i in inside for o in self.graph.operators[i].outputs}
        read_outside = set(self.graph.outputs)
        for operator in self.graph.operators:
            if operator.index not in inside:
                read_outside |= set(operator.inputs)
        values = {}
        for tensor in self.graph.tensors:
            static = tensor.constant or tensor.index in self.delegation.unpacked
            values[tensor.index] = Value(
                tensor.shape,
                fp=tensor.dtype in {"float32", "float16"},
                static=static,
                external_input=not static and tensor.index not in made,
                external_output=not static and tensor.index in made & read_outside,
            )
        return values

    def _visit(self, operator: Operator) -> None:
        name, inputs = operator.op, operator.inputs
        if name in UNARY:
            self._add(operator, "unary", (inputs[0],), name=UNARY[name])
        elif name in BINARY:
            self._binary(operator)
        elif name in REDUCE:
            axes = tuple(int(axis) for axis in self.constant(inputs[1]).ravel())
            keep = bool(operator.options.get("keep_dims", False))
            self._add(
                operator, "reduce", (inputs[0],), name=REDUCE[name], axes=axes, keep_dims=keep
            )
        elif name in {"CONV_2D", "DEPTHWISE_CONV_2D"}:
            self._convolution(operator)
        elif name == "FULLY_CONNECTED":
            self._fully_connected(operator)
        elif name == "PAD":
            self._pad(operator)
        else:
            self._other(operator)

    def _add(
        self, operator: Operator, kind: str, inputs: tuple[int, ...], **fields: object
    ) -> None:
        # Axes, paddings and the like are parameters of a node, not values that it reads.
        weights = operator.inputs[1:] if operator.op in WEIGHTED else ()
        operands = [*inputs, *weights, operator.outputs[0]]
        fp = all(self.subgraph.values[index].fp for index in operands if index >= 0)
        fields = {"fp": fp, "output": operator.outputs[0]} | fields
        self.subgraph.nodes.append(
            Node(kind=kind, operator=operator.index, inputs=inputs, **fields)  # type: ignore[arg-type]
        )

    def _binary(self, operator: Operator) -> None:
        inputs, output = operator.inputs[:2], operator.outputs[0]
        if operator.options.get("activation", "NONE") == "NONE":
            self._add(operator, "binary", inputs, name=BINARY[operator.op])
            return
        value = self.subgraph.values[output]
        unclamped = self.subgraph.add_value(value.shape, fp=value.fp)
        self._add(operator, "binary", inputs, name=BINARY[operator.op], output=unclamped)
        self._add(operator, "unary", (unclamped,), name="clamp")

    def _convolution(self, operator: Operator) -> None:
        source, weights = (self.graph.tensors[index] for index in operator.inputs[:2])
        out_channels, height, width, channels = weights.shape
        stride = two_options(operator, "stride_h", "stride_w")
        dilation = two_options(operator, "dilation_h", "dilation_w")
        same = operator.options.get("padding") == "SAME"
        padding = (0, 0, 0, 0)
        if same and stride == (1, 1):
            same, padding = False, _explicit_padding((height, width), dilation)
        depthwise = operator.op == "DEPTHWISE_CONV_2D"
        groups = 1 if depthwise else source.shape[3] // channels
        multiplier = int(str(operator.options.get("depth_multiplier", 1))) if depthwise else 1
        plain = groups == 1 and (height, width, *stride) == (1, 1, 1, 1) and not depthwise
        kind = "depthwise" if depthwise else "convolution"
        # One channel to one stays a convolution (convolution-2d.c: "the vmulcaddc path"), which is
        # channels-first like the fully connected node that others become.
        if plain and channels + out_channels > 2 and self.release.has("fc-in-rewrite"):
            kind = "fully-connected"
        self._add(
            operator,
            kind,
            (source.index,),
            kernel=(height, width),
            stride=stride,
            dilation=dilation,
            padding=padding,
            same=same,
            channels=channels,
            groups=groups,
            multiplier=multiplier,
            weights=self.zeros.get(operator.index, (0, 0)),
        )

    def _fully_connected(self, operator: Operator) -> None:
        source, weights = (self.graph.tensors[index] for index in operator.inputs[:2])
        read, name = source.index, ""
        flattens = not operator.options.get("keep_num_dims", False)
        if flattens and self.release.has("fc-behind-reshape"):
            rows = prod(source.shape) // max(weights.shape[-1], 1)
            read = self.subgraph.add_value((rows, weights.shape[-1]))
            self._add(operator, "reshape", (source.index,), output=read)
        elif flattens:
            name = FLATTENING
        zeros = self.zeros.get(operator.index, (0, 0))
        self._add(operator, "fully-connected", (read,), weights=zeros, name=name)

    def _pad(self, operator: Operator) -> None:
        sizes = [(int(before), int(after)) for before, after in self.constant(operator.inputs[1])]
        spatial = len(sizes) == 4 and sizes[0] == sizes[3] == (0, 0)
        padding = (sizes[1][0], sizes[2][1], sizes[1][1], sizes[2][0]) if spatial else (0, 0, 0, 0)
        name = "spatial" if spatial else ""
        self._add(operator, "pad", (operator.inputs[0],), name=name, padding=padding)

    def _other(self, operator: Operator) -> None:
        kind = OTHER[operator.op]
        inputs: tuple[int, ...] = (operator.inputs[0],)
        axes: tuple[int, ...] = ()
        window = two_options(operator, "filter_height", "filter_width")
        if kind.endswith("-pooling") and window == (1, 1):
            clamps = operator.options.get("activation", "NONE") != "NONE"
            self._add(operator, "unary", inputs, name="clamp" if clamps else "unbounded clamp")
            return
        if kind == "concatenation":
            inputs, axes = operator.inputs, (int(str(operator.options.get("axis", 0))),)
        elif kind == "split":
            inputs = (operator.inputs[1],)
        elif kind == "deconvolution":
            inputs = (operator.inputs[2],)
        elif kind == "batch matrix multiplication":
            inputs = operator.inputs
        for output in operator.outputs:
            self._add(operator, kind, inputs, output=output, axes=axes)


def _explicit_padding(
    kernel: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    # xnn_define_convolution_2d; where the odd row goes decides nothing, as no even kernel fits.
    height, width = (dilation[i] * (kernel[i] - 1) for i in (0, 1))
    return height // 2, width - width // 2, height - height // 2, width // 2
