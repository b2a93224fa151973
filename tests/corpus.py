"""Small networks that take every branch of the sparse-inference rules, written in milliseconds.

Each is a function from an encoding to a network, so that the same weights can be stored sparsely
and densely. What a network is expected to do is not stated here: the rules are compared with what
is observed on real targets.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_sparsity.writer import Network, Value

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from pytest_sparsity.writer import DType, Encoding

Build = Callable[["Parts", Value], None]
Sides = tuple[tuple[int, int], tuple[int, int]]


class Parts:
    """A network and the layers that mobile networks are made of, with seeded weights."""

    def __init__(
        self,
        encoding: Encoding,
        shape: tuple[int, ...] = (1, 16, 16, 3),
        *,
        seed: int = 0,
        zeros: float = 0.8,
        dtype: DType = "float32",
    ) -> None:
        self.net = Network(shape)
        self.encoding: Encoding = encoding
        self.zeros = zeros
        self.dtype: DType = dtype
        self.rng = np.random.Generator(np.random.PCG64(seed))

    def random(
        self, shape: tuple[int, ...], fan_in: int, zeros: float = 0.0
    ) -> NDArray[np.float32]:
        """Weights of which exactly the rounded share is zero.

        One weight of each output is positive, as far as the zeros allow: behind a ReLU an output
        without any is dead, and dead networks answer the same whatever the kernels do.
        """
        values = self.rng.uniform(0.5, 1.5, shape) * self.rng.choice([-1.0, 1.0], shape)
        flat, width = values.reshape(-1), values.size // shape[0]
        count = round(zeros * values.size)
        alive = self.rng.integers(0, width, shape[0]) + np.arange(shape[0]) * width
        flat[alive] = np.abs(flat[alive])
        others = np.setdiff1d(self.rng.permutation(values.size), alive, assume_unique=True)
        flat[np.concatenate([others, alive])[:count]] = 0.0
        scale = 1.5 / np.sqrt(max(fan_in * (1 - zeros), 1.0))
        scaled: NDArray[np.float32] = (values * scale).astype(np.float32)
        return scaled

    def conv(
        self,
        x: Value,
        channels: int,
        kernel: int | tuple[int, int] = 3,
        *,
        zeros: float = 0.0,
        pad: int | Sides = 0,
        encoding: Encoding | None = None,
        **options: Any,
    ) -> Value:
        """PAD, unless 0, and CONV_2D with a bias."""
        if pad:
            x = self.net.pad(x, pad)
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        fan_in = height * width * x.shape[3]
        weights = self.random((channels, height, width, x.shape[3]), fan_in, zeros)
        options.setdefault("dtype", self.dtype)
        bias = np.abs(self.random((channels,), 100))
        chosen: Encoding = encoding or ("dense" if zeros == 0.0 else self.encoding)
        return self.net.conv2d(x, weights, bias, encoding=chosen, **options)

    def entry(self, x: Value, channels: int = 8, **options: Any) -> Value:
        """The first layer that sparse inference needs."""
        merged: dict[str, Any] = {"pad": 1, "stride": 2, "activation": "RELU"} | options
        return self.conv(x, channels, merged.pop("kernel", 3), **merged)

    def pointwise(self, x: Value, channels: int = 16, **options: Any) -> Value:
        """A pruned 1x1 convolution."""
        merged: dict[str, Any] = {"zeros": self.zeros, "activation": "RELU"} | options
        return self.conv(x, channels, merged.pop("kernel", 1), **merged)

    def depthwise(self, x: Value, kernel: int = 3, **options: Any) -> Value:
        """A depthwise convolution, by default with padding 'SAME' and stride 1."""
        pad = options.pop("pad", 0)
        multiplier = options.pop("multiplier", 1)
        if pad:
            x = self.net.pad(x, pad)
        options = {"padding": "VALID" if pad else "SAME", "activation": "RELU"} | options
        options.setdefault("dtype", self.dtype)
        weights = self.random((1, kernel, kernel, x.shape[3] * multiplier), kernel * kernel)
        bias = np.abs(self.random((x.shape[3] * multiplier,), 100))
        return self.net.depthwise(x, weights, bias, **options)

    def linear(self, x: Value, units: int, **options: Any) -> Value:
        """A fully connected layer."""
        zeros = options.pop("zeros", 0.0)
        width = options.pop("width", x.shape[-1])
        chosen = options.pop("encoding", None) or ("dense" if zeros == 0.0 else self.encoding)
        options.setdefault("dtype", self.dtype)
        weights = self.random((units, width), width, zeros)
        bias = self.random((units,), 100)
        return self.net.fully_connected(x, weights, bias, encoding=chosen, **options)

    def squeeze_excite(self, x: Value, gate: str = "LOGISTIC") -> Value:
        """Squeeze-and-excite with 1x1 convolutions."""
        squeezed = self.net.mean(x, keep_dims=True)
        squeezed = self.pointwise(squeezed, 8)
        squeezed = self.pointwise(squeezed, x.shape[3], activation="NONE")
        return self.net.mul(x, self.net.unary(squeezed, gate))

    def block(self, x: Value, channels: int = 16, **options: Any) -> Value:
        """A depthwise and a pointwise convolution."""
        return self.pointwise(self.depthwise(x), channels, **options)

    def finish(self, x: Value) -> None:
        """The usual end: a global average pool."""
        self.net.output(self.net.mean(x))


@dataclass(frozen=True)
class Case:
    """A network of the corpus.

    Attributes:
        name: what is special about it.
        build: adds the layers to the parts, from the input to the outputs.
        shape: of the input.
        zeros: of the pruned layers unless they say otherwise.
        dtype: of the stored weights.
        encoding: how the pruned weights are stored in the sparse file.
    """

    name: str
    build: Build
    shape: tuple[int, ...] = (1, 16, 16, 3)
    zeros: float = 0.8
    dtype: DType = "float32"
    encoding: Encoding = "sparse"

    def network(self, encoding: Encoding | None = None) -> Network:
        """The network with its pruned weights stored in an encoding."""
        seed = zlib.crc32(self.name.encode())
        parts = Parts(
            encoding or self.encoding, self.shape, seed=seed, zeros=self.zeros, dtype=self.dtype
        )
        self.build(parts, parts.net.input)
        return parts.net

    def write(self, folder: Path, encoding: Encoding | None = None) -> Path:
        """The file of the network."""
        name = f"{self.name.replace(' ', '-').replace('/', '_')}-{encoding or self.encoding}"
        return self.network(encoding).write(folder / f"{name.replace(' ', '')}.tflite")


def _chain(middle: Callable[[Parts, Value], Value]) -> Build:
    """Entry, a pointwise layer, the middle, a pointwise layer, global average pool."""

    def build(p: Parts, x: Value) -> None:
        x = p.pointwise(p.entry(x))
        p.finish(p.pointwise(middle(p, x)))

    return build


def _entry(**options: Any) -> Build:
    def build(p: Parts, x: Value) -> None:
        p.finish(p.pointwise(p.pointwise(p.entry(x, **options))))

    return build


def _ending(end: Callable[[Parts, Value], Value]) -> Build:
    """Entry, two pointwise layers, and an end of its own."""

    def build(p: Parts, x: Value) -> None:
        p.net.output(end(p, p.pointwise(p.pointwise(p.entry(x)))))

    return build


def _zeros(first: float, second: float, third: float | None = None) -> Build:
    def build(p: Parts, x: Value) -> None:
        x = p.pointwise(p.entry(x, 12), 12, zeros=first)
        x = p.pointwise(x, 12, zeros=second)
        if third is not None:
            x = p.pointwise(x, 12, zeros=third)
        p.finish(x)

    return build


def _grouped(p: Parts, x: Value) -> Value:
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


def _squared(p: Parts, x: Value) -> Value:
    x = p.net.unary(x, "TANH")
    return p.net.mul(x, x)


def _swish(p: Parts, x: Value) -> Value:
    return p.net.mul(x, p.net.unary(x, "LOGISTIC"))


def _residual(p: Parts, x: Value, **options: Any) -> Value:
    return p.net.add(x, p.block(x, x.shape[3], activation="NONE"), **options)


def _minimum(bound: float, shape: tuple[int, ...] = ()) -> Callable[[Parts, Value], Value]:
    def build(p: Parts, x: Value) -> Value:
        limit = p.net.constant(np.full(shape, bound, np.float32))
        return p.net.operator("MINIMUM", [x, limit], x.shape, "MaximumMinimumOptions")

    return build


def _global_max(p: Parts, x: Value) -> Value:
    axes = p.net.constant(np.array([1, 2], np.int32))
    shape = (x.shape[0], x.shape[3])
    return p.net.operator("REDUCE_MAX", [x, axes], shape, "ReducerOptions", {"keep_dims": False})


def _sum(p: Parts, x: Value) -> Value:
    axes = p.net.constant(np.array([1, 2], np.int32))
    shape = (x.shape[0], x.shape[3])
    return p.net.operator("SUM", [x, axes], shape, "ReducerOptions", {"keep_dims": False})


def _strided_slice(p: Parts, x: Value) -> Value:
    """Every second row: nothing channels-first reads it."""
    constants = [(0, 0, 0, 0), x.shape, (1, 2, 1, 1)]
    operands = [p.net.constant(np.array(c, np.int32)) for c in constants]
    shape = (x.shape[0], -(-x.shape[1] // 2), *x.shape[2:])
    options = {"begin_mask": 15, "end_mask": 15}
    return p.net.operator("STRIDED_SLICE", [x, *operands], shape, "StridedSliceOptions", options)


def _normalized(p: Parts, x: Value) -> Value:
    """An operator that the delegate does not take."""
    return p.net.operator("L2_NORMALIZATION", [x], x.shape, "L2NormOptions")


def _conv_head(p: Parts, x: Value, zeros: float = 0.0) -> Value:
    x = p.net.mean(x, keep_dims=True)
    x = p.conv(x, 10, 1, zeros=zeros)
    return p.net.softmax(p.net.reshape(x, (x.shape[0], 10)))


def _two_outputs(p: Parts, x: Value) -> None:
    x = p.pointwise(p.entry(x))
    p.net.output(p.net.mean(x), p.net.mean(p.pointwise(x)))


def _middle_output(p: Parts, x: Value) -> None:
    x = p.pointwise(p.entry(x))
    p.net.output(x)
    p.finish(p.pointwise(x))


def _side_branch(end: Callable[[Parts, Value], Value]) -> Build:
    def build(p: Parts, x: Value) -> None:
        x = p.pointwise(p.entry(x))
        side = end(p, p.pointwise(x))
        p.finish(p.pointwise(x))
        p.net.output(side)

    return build


def _flatten(p: Parts, x: Value) -> Value:
    return p.net.reshape(x, (x.shape[0], int(np.prod(x.shape[1:]))))


def _two_entries(first: float, second: float, *, joined: bool) -> Build:
    def build(p: Parts, x: Value) -> None:
        branches = [
            p.pointwise(p.pointwise(p.entry(x), zeros=zeros), zeros=zeros)
            for zeros in (first, second)
        ]
        if joined:
            p.finish(p.net.add(*branches))
        else:
            p.net.output(*(p.net.mean(branch) for branch in branches))

    return build


def _concat_inputs(p: Parts, x: Value) -> None:
    branches = [p.net.mean(p.pointwise(p.pointwise(p.entry(x)))) for _ in range(2)]
    p.net.output(p.net.concat(branches))


def _mobilenet_v2(p: Parts, x: Value) -> None:
    x = p.entry(x, 8, activation="RELU6")
    for stride, channels in ((1, 8), (2, 12), (1, 12)):
        y = p.pointwise(x, 24, activation="RELU6")
        if stride == 2:
            y = p.depthwise(y, pad=1, stride=2, activation="RELU6")
        else:
            y = p.depthwise(y, activation="RELU6")
        y = p.pointwise(y, channels, activation="NONE")
        x = p.net.add(x, y) if stride == 1 and channels == x.shape[3] else y
    x = p.pointwise(x, 32, activation="RELU6")
    p.net.output(p.net.softmax(p.linear(p.net.mean(x), 10)))


def _mobilenet_v3(p: Parts, x: Value) -> None:
    x = p.net.unary(p.entry(x, activation="NONE"), "HARD_SWISH")
    for _ in range(2):
        y = p.net.unary(p.pointwise(x, 24, activation="NONE"), "HARD_SWISH")
        y = p.squeeze_excite(p.depthwise(y, 5, activation="RELU"))
        y = p.pointwise(y, x.shape[3], activation="NONE")
        x = p.net.add(x, y)
    p.net.output(p.net.mean(p.pointwise(x, 24)))


def _mlp(p: Parts, x: Value) -> None:
    x = p.linear(x, 64, zeros=p.zeros, activation="RELU")
    x = p.linear(x, 64, zeros=p.zeros, activation="RELU")
    p.net.output(p.linear(x, 10, zeros=p.zeros))


def _convs_and_blocks(p: Parts, x: Value) -> None:
    """Convolutions stored densely, a fully connected layer in blocks: no DENSIFY anywhere."""
    x = p.pointwise(p.pointwise(p.entry(x), encoding="dense"), encoding="dense")
    p.net.output(p.linear(p.net.mean(x), 16, zeros=0.75, encoding=p.encoding))


def _one_layer_encoded(which: int) -> Build:
    def build(p: Parts, x: Value) -> None:
        encodings: list[Encoding] = ["dense"] * 3
        encodings[which] = p.encoding
        x = p.pointwise(p.entry(x), encoding=encodings[0])
        x = p.pointwise(x, encoding=encodings[1])
        p.net.output(p.linear(p.net.mean(x), 10, zeros=0.8, encoding=encodings[2]))

    return build


def _linear_in_between(keep: bool) -> Callable[[Parts, Value], Value]:
    def build(p: Parts, x: Value) -> Value:
        weights = p.random((16, x.shape[3]), x.shape[3], p.zeros)
        operands = [x, p.net.weights(weights, encoding=p.encoding), None]
        rows = int(np.prod(x.shape[:-1]))
        shape = (*x.shape[:3], 16) if keep else (rows, 16)
        options = {"keep_num_dims": keep}
        y = p.net.operator("FULLY_CONNECTED", operands, shape, "FullyConnectedOptions", options)
        return y if keep else p.net.reshape(y, (*x.shape[:3], 16))

    return build


def _int8(p: Parts, x: Value) -> None:
    x = p.net.quantize(x, 1 / 127)
    x = p.entry(x, scale=0.1)
    x = p.pointwise(p.pointwise(x, scale=0.1), scale=0.1)
    p.net.output(p.net.dequantize(p.net.mean(x)))


def _dynamic_range(p: Parts, x: Value) -> None:
    x = p.pointwise(p.entry(x), dtype="int8")
    p.finish(p.pointwise(x, dtype="int8"))


def _transposed(p: Parts, x: Value) -> Value:
    order = p.net.constant(np.array([0, 2, 1, 3], np.int32))
    shape = tuple(x.shape[i] for i in (0, 2, 1, 3))
    return p.net.operator("TRANSPOSE", [x, order], shape, "TransposeOptions")


def _reshaped_at_run_time(p: Parts, x: Value) -> Value:
    """An average that keeps its dimensions, in a shape that XNNPACK does not know beforehand."""
    average, size = p.net.mean(x, keep_dims=True), (x.shape[0], x.shape[3])
    options = {"out_type": 2}
    shape = p.net.operator("SHAPE", [p.net.mean(x)], (2,), "ShapeOptions", options, dtype="int32")
    return p.net.operator("RESHAPE", [average, shape], size, "ReshapeOptions")


def _resize(p: Parts, x: Value, factor: int = 2) -> Value:
    return p.net.resize_bilinear(x, (x.shape[1] * factor, x.shape[2] * factor))


def _constant(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.full(shape, 1.25, np.float32)


def _second_chain_after_reshape(p: Parts, x: Value) -> None:
    x = p.pointwise(p.entry(x), 3)
    x = p.net.max_pool(x, 2)
    p.finish(p.pointwise(p.pointwise(p.entry(x))))


Middle = Callable[[Parts, Value], Value]

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
    "reshape and back": lambda p, x: p.net.reshape(_flatten(p, x), x.shape),
    "concat with itself": lambda p, x: p.net.concat([x, x]),
    "linear keeps dims": _linear_in_between(keep=True),
    "linear flattens": _linear_in_between(keep=False),
    "not delegated": _normalized,
    # arithmetic
    "residual": _residual,
    "residual relu": partial(_residual, activation="RELU"),
    "add itself": lambda p, x: p.net.add(x, x),
    "multiply itself": lambda p, x: p.net.mul(p.net.unary(x, "TANH"), p.net.unary(x, "TANH")),
    "square by multiplication": _squared,
    "add constant": lambda p, x: p.net.add(x, _constant((1, 1, 1, x.shape[3]))),
    "add scalar": lambda p, x: p.net.add(x, _constant(())),
    "add 4-D scalar": lambda p, x: p.net.add(x, _constant((1, 1, 1, 1))),
    "subtract block": lambda p, x: p.net.sub(x, p.block(x, x.shape[3])),
    "subtract scalar": lambda p, x: p.net.sub(x, _constant(())),
    "divide": lambda p, x: p.net.div(x, _constant(())),
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
    "global max": _global_max,
    "final average pool": lambda p, x: p.net.avg_pool(x, (x.shape[1], x.shape[2])),
    "mean of channels": lambda p, x: p.net.mean(x, (3,)),
    "mean of rows": lambda p, x: p.net.mean(x, (1,)),
    "mean of columns keeping dims": lambda p, x: p.net.mean(x, (2,), keep_dims=True),
    "mean of everything": lambda p, x: p.net.mean(x, (1, 2, 3)),
    "mean of channels keeping dims": lambda p, x: p.net.mean(x, (3,), keep_dims=True),
    "mean of squares": lambda p, x: p.net.mean(_squared(p, x)),
    "no pooling": lambda _, x: x,
    "flatten": _flatten,
    "linear head": lambda p, x: p.linear(p.net.mean(x), 10),
    "pruned linear head": lambda p, x: p.linear(p.net.mean(x), 10, zeros=0.8),
    "two linear": lambda p, x: p.linear(p.linear(p.net.mean(x), 12), 10),
    "softmax head": lambda p, x: p.net.softmax(p.linear(p.net.mean(x), 10)),
    "convolution head": _conv_head,
    "pruned convolution head": partial(_conv_head, zeros=0.8),
    "keep dims softmax": lambda p, x: p.net.softmax(p.net.mean(x, keep_dims=True)),
    "keep dims reshape linear": lambda p, x: p.linear(
        p.net.reshape(p.net.mean(x, keep_dims=True), (x.shape[0], x.shape[3])), 10
    ),
    "keep dims linear": lambda p, x: p.linear(p.net.mean(x, keep_dims=True), 10),
    "keep dims subtract": lambda p, x: p.net.sub(p.net.mean(x, keep_dims=True), _constant(())),
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


@dataclass(frozen=True)
class Recipe:
    """A random network: an entry, middles, an end, and perhaps a second end on the way.

    Attributes:
        entry, middles, end: names in `ENTRIES`, `MIDDLES`, `ENDS`.
        side: a further end, and after how many middles it branches off; or None.
        size: height and width of the input.
        batch: of the input.
        zeros: of the pointwise layers that do not say otherwise.
        dtype: of the weights.
        seed: of the weights.
    """

    entry: str
    middles: tuple[str, ...]
    end: str
    side: tuple[int, str] | None = None
    size: tuple[int, int] = (16, 16)
    batch: int = 1
    zeros: float = 0.8
    dtype: DType = "float32"
    seed: int = 0

    def case(self) -> Case:
        """The network.

        Raises:
            ValueError: when written, if a layer does not fit the size that is left.
        """

        def build(p: Parts, x: Value) -> None:
            x = p.pointwise(p.entry(x, **ENTRIES[self.entry]))
            outputs = []
            for position, name in enumerate(self.middles):
                if self.side is not None and self.side[0] == position:
                    outputs.append(ENDS[self.side[1]](p, x))
                x = MIDDLES[name](p, x)
            p.net.output(ENDS[self.end](p, x), *outputs)

        name = f"recipe {self.seed}"
        return Case(name, build, (self.batch, *self.size, 3), self.zeros, self.dtype)


CASES: tuple[Case, ...] = (
    *(Case(name, _entry(**options)) for name, options in ENTRIES.items()),
    *(Case(name, _chain(middle)) for name, middle in MIDDLES.items()),
    *(Case(name, _ending(end)) for name, end in ENDS.items()),
    # what enters
    Case("entry 1 channel", _entry(), shape=(1, 16, 16, 1)),
    Case("entry 4 channels", _entry(), shape=(1, 16, 16, 4)),
    Case("no entry", lambda p, x: p.finish(p.pointwise(p.pointwise(x)))),
    Case("scaled before entry", lambda p, x: _entry()(p, p.net.mul(x, _constant(())))),
    Case("entry only", lambda p, x: p.finish(p.entry(x))),
    Case("pool 1x1 at the end", _ending(lambda p, x: p.net.max_pool(p.net.unary(x, "RELU"), 1))),
    Case("two pads before entry", lambda p, x: _entry()(p, p.net.pad(x, 1))),
    Case("reshape at run time", _ending(_reshaped_at_run_time)),
    Case(
        "one channel before max pool",
        _chain(lambda p, x: p.net.max_pool(p.pointwise(p.pointwise(x, 1, zeros=0.5)), 2)),
    ),
    Case(
        "3x3 convolution of averages",
        _ending(lambda p, x: p.conv(p.net.mean(x, keep_dims=True), 8, padding="SAME")),
    ),
    # branches and outputs
    Case("two outputs", _two_outputs),
    Case("middle output", _middle_output),
    Case("side branch flatten", _side_branch(_flatten)),
    Case("side branch max", _side_branch(_global_max)),
    Case("side branch depth to space", _side_branch(lambda p, x: p.net.depth_to_space(x, 2))),
    Case("side branch tanh", _side_branch(lambda p, x: p.net.unary(x, "TANH"))),
    Case("concat of averages", _concat_inputs),
    Case("mobilenet v2", _mobilenet_v2, shape=(1, 32, 32, 3)),
    Case("mobilenet v3", _mobilenet_v3, shape=(1, 32, 32, 3)),
    Case("second chain", _second_chain_after_reshape, shape=(1, 32, 32, 3)),
    # clusters and zeros
    Case("two clusters", _two_entries(0.8, 0.8, joined=False)),
    Case("two clusters one dense", _two_entries(0.8, 0.5, joined=False)),
    Case("two clusters joined", _two_entries(0.9, 0.5, joined=True)),
    Case("two clusters joined too few", _two_entries(0.8, 0.5, joined=True)),
    Case("two thirds", _zeros(2 / 3, 2 / 3)),
    Case("two thirds and one", _zeros(2 / 3, 97 / 144)),
    Case("two thirds less one", _zeros(2 / 3, 95 / 144)),
    Case("30 and 90", _zeros(0.3, 0.9, 0.9)),
    Case("95 and 50 and 50", _zeros(0.95, 0.5, 0.5)),
    Case("half", _entry(), zeros=0.5),
    Case("66", _entry(), zeros=0.66),
    Case("68", _entry(), zeros=0.68),
    Case("95", _entry(), zeros=0.95),
    # what is encoded
    Case("not encoded", _entry(), encoding="dense"),
    Case("first encoded", _one_layer_encoded(0)),
    Case("second encoded", _one_layer_encoded(1)),
    Case("linear encoded", _one_layer_encoded(2)),
    Case("blocks only", _convs_and_blocks, encoding="block 1x4"),
    Case("linear layers", _mlp, shape=(1, 64)),
    Case("linear layers in blocks", _mlp, shape=(1, 64), encoding="block 1x4"),
    # types and shapes
    Case("fp16", _entry(), dtype="float16"),
    Case("fp16 depthwise", _chain(lambda p, x: p.depthwise(x)), dtype="float16"),
    Case("fp16 stride 2 same", _chain(lambda p, x: p.depthwise(x, stride=2)), dtype="float16"),
    Case("fp16 half", _entry(), dtype="float16", zeros=0.5),
    Case("int8", _int8, dtype="int8"),
    Case("dynamic range", _dynamic_range),
    Case("batch 3", _chain(_residual), shape=(3, 16, 16, 3)),
    Case("batch 3 keep dims", _ending(lambda p, x: p.net.mean(x, keep_dims=True)), (3, 16, 16, 3)),
    Case("batch 3 convolution head", _ending(_conv_head), shape=(3, 16, 16, 3)),
    Case("square convolution head", _ending(partial(_conv_head, zeros=0.8)), (1, 32, 32, 3)),
    Case("batch 2 convolution head", _ending(partial(_conv_head, zeros=0.8)), (2, 16, 16, 3)),
    Case("batch 3 squeeze", _chain(lambda p, x: p.squeeze_excite(x)), shape=(3, 16, 16, 3)),
    Case("not square", _chain(lambda p, x: p.depthwise(x)), shape=(1, 12, 20, 3)),
    Case("not square squeeze", _chain(lambda p, x: p.squeeze_excite(x)), shape=(1, 12, 20, 3)),
    Case(
        "not square keep dims", _ending(lambda p, x: p.net.mean(x, keep_dims=True)), (1, 12, 20, 3)
    ),
    Case("one pixel", _entry(), shape=(1, 2, 2, 3)),
    Case("one pixel max pool", _chain(lambda p, x: p.net.max_pool(x, 1)), shape=(1, 2, 2, 3)),
    Case(
        "one pixel prelu",
        _chain(lambda p, x: p.net.prelu(x, p.random((1, 1, 16), 9))),
        (1, 2, 2, 3),
    ),
)
