"""What the XNNPACK delegate takes from a graph, and in which order the graph runs.

Source: LiteRT tflite/delegates/xnnpack/xnnpack_delegate.cc (`PrepareOpsToDelegate`, `VisitNode`,
`Subgraph::Create`) at c3390e34c (2026-07-16), and TFLite's graph_info.cc for the partitions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_sparsity.xnnpack.misfits import Misfit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_sparsity.encoding import Array
    from pytest_sparsity.model import Graph, Operator, Tensor
    from pytest_sparsity.xnnpack.releases import Release

    Constant = Callable[[int], Array]

UNARY = {
    "ABS": "abs", "CEIL": "ceil", "COS": "cos", "ELU": "elu", "EXP": "exp", "FLOOR": "floor",
    "GELU": "gelu", "HARD_SWISH": "hard_swish", "LEAKY_RELU": "leaky_relu", "LOG": "log",
    "LOGISTIC": "logistic", "NEG": "neg", "RELU": "clamp", "RELU6": "clamp",
    "RELU_N1_TO_1": "clamp", "ROUND": "round", "RSQRT": "rsqrt", "SIN": "sin", "SQRT": "sqrt",
    "SQUARE": "square", "TANH": "tanh", "QUANTIZE": "convert", "DEQUANTIZE": "convert",
}  # fmt: skip
BINARY = {
    "ADD": "add", "DIV": "divide", "MAXIMUM": "maximum", "MINIMUM": "minimum", "MUL": "multiply",
    "PRELU": "prelu", "SQUARED_DIFFERENCE": "squared difference", "SUB": "subtract",
}  # fmt: skip
REDUCE = {"MEAN": "mean", "SUM": "sum", "REDUCE_MAX": "maximum", "REDUCE_MIN": "minimum"}
OTHER = {
    "AVERAGE_POOL_2D": "average-pooling", "BATCH_MATMUL": "batch matrix multiplication",
    "CONCATENATION": "concatenation", "CONV_2D": "convolution", "DEPTHWISE_CONV_2D": "depthwise",
    "DEPTH_TO_SPACE": "depth-to-space", "FULLY_CONNECTED": "fully-connected",
    "MAX_POOL_2D": "max-pooling", "PAD": "pad",
    "RESHAPE": "reshape", "RESIZE_BILINEAR": "resize-bilinear", "SLICE": "slice",
    "SOFTMAX": "softmax", "SPACE_TO_DEPTH": "space-to-depth", "SPLIT": "split",
    "STRIDED_SLICE": "slice", "TRANSPOSE": "transpose", "TRANSPOSE_CONV": "deconvolution",
}  # fmt: skip
TAKEN_SINCE = {
    "BATCH_MATMUL": "delegates-2024-operators", "COS": "delegates-sin-cos", "EXP": "delegates-exp",
    "GELU": "delegates-2024-operators", "LOG": "delegates-log", "REDUCE_MAX": "delegates-extremes",
    "REDUCE_MIN": "delegates-extremes", "RSQRT": "delegates-2024-operators",
    "SIN": "delegates-sin-cos",
}  # fmt: skip
"""The change with which the delegate began to take an operator, where one did."""

ACTIVATIONS = frozenset({"NONE", "RELU", "RELU6", "RELU_N1_TO_1"})
WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})


@dataclass
class Delegation:
    """What the delegate takes.

    Attributes:
        taken: indices of operators, those that only unpack constants included.
        refused: the rule by which the others are left to TFLite's own kernels.
        unpacked: tensors that DENSIFY or DEQUANTIZE unpack once, when the model is loaded.
        sparse_weights: those of them that a DENSIFY unpacks, directly or before a DEQUANTIZE.
        narrow: float32 tensors whose float16 source is used instead.
        unpackers: indices of the operators that unpack.
    """

    taken: set[int] = field(default_factory=set)
    refused: dict[int, Misfit] = field(default_factory=dict)
    unpacked: set[int] = field(default_factory=set)
    sparse_weights: set[int] = field(default_factory=set)
    narrow: set[int] = field(default_factory=set)
    unpackers: dict[int, int] = field(default_factory=dict)


def delegate(graph: Graph, release: Release, constant: Constant) -> Delegation:
    """Find the operators that XNNPACK takes, as the delegate does when a model is loaded.

    Args:
        graph: the file's main graph.
        release: of the runtime.
        constant: reads the values of a constant tensor.
    """
    result = Delegation()
    for operator in graph.operators:
        if _unpack(graph, operator, release, result):
            continue
        misfit = _refusal(graph, operator, release, result)
        misfit = misfit or _refused_parameters(graph, operator, release, constant)
        if misfit:
            result.refused[operator.index] = misfit
            for index in operator.inputs:
                result.taken.discard(result.unpackers.get(index, -1))
        else:
            result.taken.add(operator.index)
    return result


def _unpack(graph: Graph, operator: Operator, release: Release, result: Delegation) -> bool:
    if operator.op not in {"DENSIFY", "DEQUANTIZE"} or len(operator.inputs) != 1:
        return False
    source, target = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
    if operator.op == "DENSIFY":
        fits = source.sparsity is not None and source.dtype in {"float32", "float16", "int8"}
        if not (fits and source.constant and source.dtype == target.dtype):
            return False
        result.sparse_weights.add(target.index)
    else:
        known = source.constant or source.index in result.unpacked
        narrow = source.dtype == "float16" or (source.dtype == "int8" and source.quantized)
        if source.sparsity is not None or not (known and narrow and target.dtype == "float32"):
            return False
        if source.index in result.sparse_weights:
            result.sparse_weights.add(target.index)
        if (
            release.has("fp16-weights-direct")
            and source.dtype == "float16"
            and _feeds_weights(graph, target.index)
        ):
            result.narrow.add(target.index)
    result.unpacked.add(target.index)
    result.unpackers[target.index] = operator.index
    result.taken.add(operator.index)
    return True


def _feeds_weights(graph: Graph, index: int) -> bool:
    readers = [operator for operator in graph.operators if index in operator.inputs]
    return all(reader.op in WEIGHTED and reader.inputs[0] != index for reader in readers)


def _refusal(
    graph: Graph, operator: Operator, release: Release, result: Delegation
) -> Misfit | None:
    """Why the delegate leaves an operator to TFLite's kernels; None if it takes it."""
    name = operator.op
    tables = (UNARY, BINARY, REDUCE, OTHER)
    if not any(name in table for table in tables):
        return Misfit("not-taken", (name,))
    if name in TAKEN_SINCE and not release.has(TAKEN_SINCE[name]):
        return Misfit("not-yet-taken", (name,))
    activation = operator.options.get("activation", "NONE")
    if activation not in ACTIVATIONS:
        return Misfit("activation", (activation,))
    tensors = [graph.tensors[i] for i in (*operator.inputs, *operator.outputs) if i >= 0]
    if _unranked(graph, operator):
        return Misfit("unranked")
    data = graph.tensors[operator.outputs[0]].dtype
    int8 = data in {"int8", "uint8"} and release.has("delegates-int8")
    if data not in {"float32", "float16"} and not int8:
        return Misfit("output-type", (data,))
    check = _CHECKS.get(name)
    return check(operator, tensors, release, result) if check else None


def _unranked(graph: Graph, operator: Operator) -> bool:
    """Whether a tensor without dimensions is no scalar: its shape is known only at run time."""
    kind = OTHER.get(operator.op, "")
    inputs, outputs = (
        [graph.tensors[index].shape for index in indices if index >= 0]
        for indices in (operator.inputs[:1], operator.outputs)
    )
    if operator.op in {*UNARY, *BINARY}:
        operands = [graph.tensors[index].shape for index in operator.inputs]
        return () in outputs and any(operands)
    if kind in {"slice", "reshape"} or operator.op in REDUCE:
        return kind != "reshape" and () in inputs
    return () in outputs or (kind != "split" and () in inputs)


def _check_weighted(
    operator: Operator, tensors: list[Tensor], release: Release, result: Delegation
) -> Misfit | None:
    if operator.op == "FULLY_CONNECTED" and operator.version == 8:
        return Misfit("block-weights")
    required = 2 if operator.op == "FULLY_CONNECTED" else 3
    if len([index for index in operator.inputs if index >= 0]) < required:
        return Misfit("no-bias")
    weights = tensors[1]
    constant = weights.constant or weights.index in result.unpacked
    if not constant and operator.op != "FULLY_CONNECTED":
        return Misfit("variable-weights")
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        one, other = (_stored_type(tensor, result) for tensor in tensors[1:3])
        if one != other and one in {"float16", "float32"}:
            return Misfit("bias-type", (one, other))
    dynamic = tensors[0].dtype == "float32" and weights.dtype == "int8"
    if dynamic and (
        operator.op == "DEPTHWISE_CONV_2D" or not release.has("delegates-dynamic-range")
    ):
        return Misfit("dynamic-range")
    return None


def _refused_parameters(
    graph: Graph, operator: Operator, release: Release, constant: Constant
) -> Misfit | None:
    """What the delegate dislikes about constant operands."""
    if operator.op == "STRIDED_SLICE" and (constant(operator.inputs[3]) != 1).any():
        return Misfit("slice-stride")
    any_axes = {"MEAN": "means-any-axes", "SUM": "sums-any-axes"}.get(operator.op)
    if any_axes and not release.has(any_axes):
        axes = tuple(sorted(int(axis) for axis in constant(operator.inputs[1]).ravel()))
        rank = len(graph.tensors[operator.inputs[0]].shape)
        # As seen in LiteRT 1.0.1 (SUM) and tflite-runtime 2.14.0.
        if (rank, axes) not in {(4, (1, 2)), (4, (2,))}:
            return Misfit("reduced-axes")
    return None


def _stored_type(tensor: Tensor, result: Delegation) -> str:
    return "float16" if tensor.index in result.narrow else tensor.dtype


def _check_pooling(operator: Operator, *_: object) -> Misfit | None:
    height, width = two_options(operator, "filter_height", "filter_width")
    rows, columns = two_options(operator, "stride_h", "stride_w")
    if rows > height or columns > width:
        return Misfit("pooling-stride")
    return None


def _check_concatenation(operator: Operator, *_: object) -> Misfit | None:
    if not 2 <= len(operator.inputs) <= 5:
        return Misfit("concatenated", (len(operator.inputs),))
    return None


def _check_constant_operand(
    _operator: Operator, tensors: list[Tensor], *_: object
) -> Misfit | None:
    return None if all(t.constant for t in tensors[1:-1]) else Misfit("variable-operand")


def _check_softmax(operator: Operator, *_: object) -> Misfit | None:
    return None if operator.options.get("beta", 1.0) == 1.0 else Misfit("softmax-beta")


def _check_gelu(
    operator: Operator, _tensors: list[Tensor], release: Release, _result: Delegation
) -> Misfit | None:
    approximate = bool(operator.options.get("approximate", False))
    if approximate and not release.has("delegates-approximate-gelu"):
        return Misfit("not-yet-taken", ("an approximate GELU",))
    return None


def _check_leaky_relu(operator: Operator, *_: object) -> Misfit | None:
    return None if operator.options.get("alpha", 0.0) else Misfit("leaky-slope")


_CHECKS: Mapping[str, Callable[[Operator, list[Tensor], Release, Delegation], Misfit | None]] = {
    **dict.fromkeys(WEIGHTED, _check_weighted),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), _check_pooling),
    **dict.fromkeys(
        (*REDUCE, "PAD", "RESIZE_BILINEAR", "SLICE", "STRIDED_SLICE"), _check_constant_operand
    ),
    "CONCATENATION": _check_concatenation,
    "GELU": _check_gelu,
    "LEAKY_RELU": _check_leaky_relu,
    "SOFTMAX": _check_softmax,
}


def epochs(graph: Graph, delegation: Delegation) -> list[tuple[bool, list[int]]]:
    """The order of execution: runs of operators, each XNNPACK's or not, greedily as TFLite does."""
    ready = {t.index for t in graph.tensors if t.constant or t.variable} | set(graph.inputs) | {-1}
    waiting = [operator.index for operator in graph.operators]
    found: list[tuple[bool, list[int]]] = []
    while waiting:
        kind, chosen = _epoch(graph, delegation, waiting, ready)
        if not chosen:
            break
        waiting = [index for index in waiting if index not in chosen]
        found.append((kind, sorted(chosen)))
    return found


def _epoch(
    graph: Graph, delegation: Delegation, waiting: list[int], ready: set[int]
) -> tuple[bool, set[int]]:
    """All waiting operators of one kind that can run next; their outputs become ready."""
    kind: bool | None = None
    chosen: set[int] = set()
    changed = True
    while changed:
        changed = False
        for index in waiting:
            operator, mine = graph.operators[index], index in delegation.taken
            if index in chosen or kind not in {None, mine} or not set(operator.inputs) <= ready:
                continue
            kind, changed = mine, True
            chosen.add(index)
            ready |= set(operator.outputs)
    return bool(kind), chosen


def two_options(operator: Operator, first: str, second: str) -> tuple[int, int]:
    """Two numeric options of an operator, 1 where it has none."""
    return int(str(operator.options.get(first, 1))), int(str(operator.options.get(second, 1)))
