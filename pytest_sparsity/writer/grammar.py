"""What small networks may be made of: entries, what stands between pointwise layers, and ends.

One grammar for all networks that are drawn: by `strategies`, and by this repository's corpus. What
runs sparse of them is said by neither, but by the rules and by observation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_sparsity.writer import Operand
from pytest_sparsity.writer.parts import Parts

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _grouped(p: Parts, x: Operand) -> Operand:
    """A 1x1 convolution in as many groups as channels."""
    weights = p.net.weights(p.random((x.shape[3], 1, 1, 1), 1, 0.5), encoding=p.encoding)
    bias = p.net.constant(p.random((x.shape[3],), 100))
    options = {
        "padding": 1,
        "stride_h": 1,
        "stride_w": 1,
        "dilation_h_factor": 1,
        "dilation_w_factor": 1,
    }
    return p.net.operator("CONV_2D", [x, weights, bias], x.shape, "Conv2DOptions", options)


def _squared(p: Parts, x: Operand) -> Operand:
    x = p.net.unary(x, "TANH")
    return p.net.mul(x, x)


def _swish(p: Parts, x: Operand) -> Operand:
    return p.net.mul(x, p.net.unary(x, "LOGISTIC"))


def residual(p: Parts, x: Operand, **options: Any) -> Operand:
    """A block added to what it reads."""
    return p.net.add(x, p.block(x, x.shape[3], activation="NONE"), **options)


def _minimum(bound: float, shape: tuple[int, ...] = ()) -> Callable[[Parts, Operand], Operand]:
    def build(p: Parts, x: Operand) -> Operand:
        limit = p.net.constant(np.full(shape, bound, np.float32))
        return p.net.operator("MINIMUM", [x, limit], x.shape, "MaximumMinimumOptions")

    return build


def global_max(p: Parts, x: Operand) -> Operand:
    """The maximum over height and width."""
    axes = p.net.constant(np.array([1, 2], np.int32))
    shape = (x.shape[0], x.shape[3])
    return p.net.operator("REDUCE_MAX", [x, axes], shape, "ReducerOptions", {"keep_dims": False})


def _sum(p: Parts, x: Operand) -> Operand:
    axes = p.net.constant(np.array([1, 2], np.int32))
    shape = (x.shape[0], x.shape[3])
    return p.net.operator("SUM", [x, axes], shape, "ReducerOptions", {"keep_dims": False})


def _strided_slice(p: Parts, x: Operand) -> Operand:
    """Every second row: nothing channels-first reads it."""
    constants = [(0, 0, 0, 0), x.shape, (1, 2, 1, 1)]
    operands = [p.net.constant(np.array(c, np.int32)) for c in constants]
    shape = (x.shape[0], -(-x.shape[1] // 2), *x.shape[2:])
    options = {"begin_mask": 15, "end_mask": 15}
    return p.net.operator("STRIDED_SLICE", [x, *operands], shape, "StridedSliceOptions", options)


def _normalized(p: Parts, x: Operand) -> Operand:
    """An operator that the delegate does not take."""
    return p.net.operator("L2_NORMALIZATION", [x], x.shape, "L2NormOptions")


def conv_head(p: Parts, x: Operand, zeros: float = 0.0) -> Operand:
    """A classifier: average, 1x1 convolution and softmax."""
    x = p.net.mean(x, keep_dims=True)
    x = p.conv(x, 10, 1, zeros=zeros)
    return p.net.softmax(p.net.reshape(x, (x.shape[0], 10)))


def flatten(p: Parts, x: Operand) -> Operand:
    """All of an image in one row."""
    return p.net.reshape(x, (x.shape[0], int(np.prod(x.shape[1:]))))


def _linear_in_between(keep: bool) -> Callable[[Parts, Operand], Operand]:
    def build(p: Parts, x: Operand) -> Operand:
        weights = p.random((16, x.shape[3]), x.shape[3], p.zeros)
        operands = [x, p.net.weights(weights, encoding=p.encoding), None]
        rows = int(np.prod(x.shape[:-1]))
        shape = (*x.shape[:3], 16) if keep else (rows, 16)
        options = {"keep_num_dims": keep}
        y = p.net.operator("FULLY_CONNECTED", operands, shape, "FullyConnectedOptions", options)
        return y if keep else p.net.reshape(y, (*x.shape[:3], 16))

    return build


def _transposed(p: Parts, x: Operand) -> Operand:
    order = p.net.constant(np.array([0, 2, 1, 3], np.int32))
    shape = tuple(x.shape[i] for i in (0, 2, 1, 3))
    return p.net.operator("TRANSPOSE", [x, order], shape, "TransposeOptions")


def _resize(p: Parts, x: Operand, factor: int = 2) -> Operand:
    return p.net.resize_bilinear(x, (x.shape[1] * factor, x.shape[2] * factor))


def constant(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An operand, the same everywhere."""
    return np.full(shape, 1.25, np.float32)


Middle = Callable[[Parts, Operand], Operand]

ENTRIES: dict[str, dict[str, Any]] = {
    "entry": {},
    "entry same padding": {"pad": 0, "padding": "SAME"},
    "entry asymmetric padding": {"pad": ((0, 1), (0, 1))},
    "entry valid": {"pad": 0},
    "entry stride 1": {"stride": 1},
    "entry stride 2x1": {"stride": (2, 1)},
    "entry 5x5": {"kernel": 5, "pad": 2},
    "entry dilated": {"pad": 2, "stride": 1, "dilation": 2},
    "entry relu6": {"activation": "RELU6"},
    "entry sparse too": {"zeros": 0.5},
}
"""Options of `Parts.entry`."""

MIDDLES: dict[str, Middle] = {
    # pointwise layers and activations
    "pointwise": lambda p, x: p.pointwise(x),
    "pointwise 60": lambda p, x: p.pointwise(x, 16, zeros=0.6),
    "pointwise 95": lambda p, x: p.pointwise(x, 12, zeros=0.95),
    "pointwise to 3 channels": lambda p, x: p.pointwise(x, 3, zeros=0.7, activation="NONE"),
    "fused none": lambda p, x: p.pointwise(x, activation="NONE"),
    "fused relu6": lambda p, x: p.pointwise(x, activation="RELU6"),
    "fused relu n1": lambda p, x: p.pointwise(x, activation="RELU_N1_TO_1"),
    "fused tanh": lambda p, x: p.pointwise(x, activation="TANH"),
    "relu": lambda p, x: p.net.unary(p.pointwise(x, activation="NONE"), "RELU"),
    "relu6 of a relu": lambda p, x: p.net.unary(x, "RELU6"),
    "leaky relu": lambda p, x: p.net.leaky_relu(x, 0.1),
    "elu": lambda p, x: p.net.unary(x, "ELU"),
    "logistic": lambda p, x: p.net.unary(x, "LOGISTIC"),
    "tanh": lambda p, x: p.net.unary(x, "TANH"),
    "hard swish": lambda p, x: p.net.unary(x, "HARD_SWISH"),
    "gelu": lambda p, x: p.net.operator("GELU", [x], x.shape, "GeluOptions"),
    "abs": lambda p, x: p.net.unary(x, "ABS"),
    "exp": lambda p, x: p.net.unary(p.net.unary(x, "TANH"), "EXP"),
    "negative": lambda p, x: p.net.unary(x, "NEG"),
    "square": lambda p, x: p.net.unary(p.net.unary(x, "TANH"), "SQUARE"),
    "swish": _swish,
    "prelu": lambda p, x: p.net.prelu(x, p.random((1, 1, x.shape[3]), 9)),
    "minimum": _minimum(0.5),
    "minimum of rank 4": _minimum(0.5, (1, 1, 1, 1)),
    "softmax": lambda p, x: p.net.softmax(x),
    # depthwise layers
    "depthwise same": lambda p, x: p.depthwise(x),
    "depthwise padded": lambda p, x: p.depthwise(x, pad=1),
    "depthwise stride 2 padded": lambda p, x: p.depthwise(x, pad=1, stride=2),
    "depthwise stride 2 same": lambda p, x: p.depthwise(x, stride=2),
    "depthwise stride 2 asymmetric": lambda p, x: p.depthwise(x, pad=((0, 1), (0, 1)), stride=2),
    "depthwise valid": lambda p, x: p.depthwise(x, padding="VALID"),
    "depthwise stride 2 valid": lambda p, x: p.depthwise(x, padding="VALID", stride=2),
    "depthwise 5x5": lambda p, x: p.depthwise(x, 5),
    "depthwise 5x5 stride 2": lambda p, x: p.depthwise(x, 5, pad=2, stride=2),
    "depthwise 7x7": lambda p, x: p.depthwise(x, 7),
    "depthwise dilated": lambda p, x: p.depthwise(x, dilation=2),
    "depthwise multiplier": lambda p, x: p.depthwise(x, multiplier=2),
    "depthwise stride 3": lambda p, x: p.depthwise(x, pad=1, stride=3),
    "depthwise padded twice": lambda p, x: p.depthwise(p.net.pad(x, 1), pad=1),
    # other layers
    "max pool": lambda p, x: p.net.max_pool(x, 2),
    "average pool": lambda p, x: p.net.avg_pool(x, 2),
    "max pool same": lambda p, x: p.net.max_pool(x, 2, 1, "SAME"),
    "max pool 1x1": lambda p, x: p.net.max_pool(x, 1),
    "max pool with gaps": lambda p, x: p.net.max_pool(x, 2, 3),
    "regular 3x3": lambda p, x: p.conv(x, 8, padding="SAME"),
    "regular 3x3 pruned": lambda p, x: p.conv(x, 8, zeros=0.8, padding="SAME"),
    "second entry": lambda p, x: p.entry(x),
    "1x1 stride 2": lambda p, x: p.pointwise(x, stride=2),
    "1x1 same": lambda p, x: p.pointwise(x, padding="SAME"),
    "1x1 padded": lambda p, x: p.pointwise(x, pad=1),
    "1x1 in groups": _grouped,
    "1x3 kernel": lambda p, x: p.pointwise(x, kernel=(1, 3), padding="SAME"),
    "pad": lambda p, x: p.net.pad(x, 1),
    "transpose": _transposed,
    "strided slice": _strided_slice,
    "resize": _resize,
    "reshape and back": lambda p, x: p.net.reshape(flatten(p, x), x.shape),
    "concat with itself": lambda p, x: p.net.concat([x, x]),
    "linear keeps dims": _linear_in_between(keep=True),
    "linear flattens": _linear_in_between(keep=False),
    "not delegated": _normalized,
    # arithmetic
    "residual": residual,
    "residual relu": partial(residual, activation="RELU"),
    "add itself": lambda p, x: p.net.add(x, x),
    "multiply itself": lambda p, x: p.net.mul(p.net.unary(x, "TANH"), p.net.unary(x, "TANH")),
    "square by multiplication": _squared,
    "add constant": lambda p, x: p.net.add(x, constant((1, 1, 1, x.shape[3]))),
    "add scalar": lambda p, x: p.net.add(x, constant(())),
    "add 4-D scalar": lambda p, x: p.net.add(x, constant((1, 1, 1, 1))),
    "subtract block": lambda p, x: p.net.sub(x, p.block(x, x.shape[3])),
    "subtract scalar": lambda p, x: p.net.sub(x, constant(())),
    "divide": lambda p, x: p.net.div(x, constant(())),
    "squeeze and excite": lambda p, x: p.squeeze_excite(x),
    "squeeze and excite tanh": lambda p, x: p.squeeze_excite(x, "TANH"),
    "multiply by own average": lambda p, x: p.net.mul(x, p.net.mean(x, keep_dims=True)),
    "difference of two branches": lambda p, x: p.net.sub(p.pointwise(x), p.pointwise(x)),
    "sum of two branches": lambda p, x: p.net.add(p.pointwise(x), p.block(x)),
}
"""What may stand between pointwise layers."""

ENDS: dict[str, Middle] = {
    "average": lambda p, x: p.net.mean(x),
    "keep dims": lambda p, x: p.net.mean(x, keep_dims=True),
    "sum": _sum,
    "global max": global_max,
    "final average pool": lambda p, x: p.net.avg_pool(x, (x.shape[1], x.shape[2])),
    "mean of channels": lambda p, x: p.net.mean(x, (3,)),
    "mean of rows": lambda p, x: p.net.mean(x, (1,)),
    "mean of columns keeping dims": lambda p, x: p.net.mean(x, (2,), keep_dims=True),
    "mean of everything": lambda p, x: p.net.mean(x, (1, 2, 3)),
    "mean of channels keeping dims": lambda p, x: p.net.mean(x, (3,), keep_dims=True),
    "mean of squares": lambda p, x: p.net.mean(_squared(p, x)),
    "no pooling": lambda _, x: x,
    "flatten": flatten,
    "linear head": lambda p, x: p.linear(p.net.mean(x), 10),
    "pruned linear head": lambda p, x: p.linear(p.net.mean(x), 10, zeros=0.8),
    "two linear": lambda p, x: p.linear(p.linear(p.net.mean(x), 12), 10),
    "softmax head": lambda p, x: p.net.softmax(p.linear(p.net.mean(x), 10)),
    "convolution head": conv_head,
    "pruned convolution head": partial(conv_head, zeros=0.8),
    "keep dims softmax": lambda p, x: p.net.softmax(p.net.mean(x, keep_dims=True)),
    "keep dims reshape linear": lambda p, x: p.linear(
        p.net.reshape(p.net.mean(x, keep_dims=True), (x.shape[0], x.shape[3])), 10
    ),
    "keep dims linear": lambda p, x: p.linear(p.net.mean(x, keep_dims=True), 10),
    "keep dims subtract": lambda p, x: p.net.sub(p.net.mean(x, keep_dims=True), constant(())),
    "keep dims prelu": lambda p, x: p.net.prelu(
        p.net.mean(x, keep_dims=True), p.random((1, 1, x.shape[3]), 9)
    ),
    "keep dims not delegated": lambda p, x: _normalized(p, p.net.mean(x, keep_dims=True)),
    "average not delegated": lambda p, x: _normalized(p, p.net.mean(x)),
    "average tanh": lambda p, x: p.net.unary(p.net.mean(x), "TANH"),
    "depth to space": lambda p, x: (
        p.net.depth_to_space(x, 2) if x.shape[3] % 4 == 0 else p.net.mean(x)
    ),
    "resize at the end": _resize,
    "tanh at the end": lambda p, x: p.net.unary(x, "TANH"),
}
"""How a network may end; each makes one output."""
