"""The layers that mobile networks are made of, with seeded weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_sparsity.writer import Network, Operand

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_sparsity.writer import DType, Encoding

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
        channels: int | None = None,
    ) -> None:
        """Prepare.

        Args:
            encoding: how pruned weights are stored.
            shape: of the input.
            seed: of the weights.
            zeros: share of zeros in the pruned layers, unless they say otherwise.
            dtype: of the stored weights.
            channels: of all layers, unless they say otherwise; by default 8 of an entry and 16 of
                a pointwise layer.
        """
        self.net = Network(shape)
        self.channels = channels
        self.encoding: Encoding = encoding
        self.zeros = zeros
        self.dtype: DType = dtype
        self.rng = np.random.Generator(np.random.PCG64(seed))

    def random(
        self, shape: tuple[int, ...], fan_in: int, zeros: float = 0.0
    ) -> NDArray[np.float32]:
        """Weights of which exactly the rounded share is zero.

        One weight of each output is positive, as far as the zeros allow: behind a ReLU an output
        without any is dead, and dead networks give the same outputs whatever the kernels do.
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
        x: Operand,
        channels: int,
        kernel: int | tuple[int, int] = 3,
        *,
        zeros: float = 0.0,
        pad: int | Sides = 0,
        encoding: Encoding | None = None,
        **options: Any,
    ) -> Operand:
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

    def entry(self, x: Operand, channels: int | None = None, **options: Any) -> Operand:
        """The first layer that sparse inference needs."""
        merged: dict[str, Any] = {"pad": 1, "stride": 2, "activation": "RELU"} | options
        return self.conv(x, channels or self.channels or 8, merged.pop("kernel", 3), **merged)

    def pointwise(self, x: Operand, channels: int | None = None, **options: Any) -> Operand:
        """A pruned 1x1 convolution."""
        merged: dict[str, Any] = {"zeros": self.zeros, "activation": "RELU"} | options
        return self.conv(x, channels or self.channels or 16, merged.pop("kernel", 1), **merged)

    def depthwise(self, x: Operand, kernel: int = 3, **options: Any) -> Operand:
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

    def linear(self, x: Operand, units: int, **options: Any) -> Operand:
        """A fully connected layer."""
        zeros = options.pop("zeros", 0.0)
        width = options.pop("width", x.shape[-1])
        chosen = options.pop("encoding", None) or ("dense" if zeros == 0.0 else self.encoding)
        options.setdefault("dtype", self.dtype)
        weights = self.random((units, width), width, zeros)
        bias = self.random((units,), 100)
        return self.net.fully_connected(x, weights, bias, encoding=chosen, **options)

    def squeeze_excite(self, x: Operand, gate: str = "LOGISTIC") -> Operand:
        """Squeeze-and-excite with 1x1 convolutions."""
        squeezed = self.net.mean(x, keep_dims=True)
        squeezed = self.pointwise(squeezed, 8)
        squeezed = self.pointwise(squeezed, x.shape[3], activation="NONE")
        return self.net.mul(x, self.net.unary(squeezed, gate))

    def block(self, x: Operand, channels: int | None = None, **options: Any) -> Operand:
        """A depthwise and a pointwise convolution."""
        return self.pointwise(self.depthwise(x), channels, **options)

    def finish(self, x: Operand) -> None:
        """The usual end: a global average pool."""
        self.net.output(self.net.mean(x))


def linear(
    width: int,
    *,
    units: int = 4,
    zeros: float = 0.75,
    dtype: DType = "float32",
    encoding: Encoding = "block 1x4",
    per_channel: bool = True,
    version: int | None = None,
    int8: bool = False,
    batch: int = 1,
) -> Network:
    """Return a network of one fully connected layer.

    Args:
        width: of the input.
        units: of the output.
        zeros: share of its blocks, or else of its weights, that are zero.
        dtype: of the stored weights.
        encoding: how they are stored.
        per_channel: whether int8 weights have a scale for each unit.
        version: of the operator, which then has no bias and is of dynamic range; None for a layer
            with a bias, of the version that it needs.
        int8: whether the input is quantized first.
        batch: rows of the input.
    """
    parts = Parts("sparse", (batch, width))
    net, block = parts.net, {"block 1x4": 4, "block 1x16": 16}.get(encoding, 1)
    values = parts.random((units, width // block), 1, zeros).repeat(block, axis=1)
    channels = 0 if per_channel else None
    weights = net.weights(values, encoding=encoding, dtype=dtype, channels=channels)
    x = net.quantize(net.input, 1 / 127) if int8 else net.input
    if version is None:
        y = net.fully_connected(x, weights, np.zeros(units, np.float32), scale=0.1)
    else:
        y = net.operator(
            "FULLY_CONNECTED",
            [x, weights, None],
            (batch, units),
            "FullyConnectedOptions",
            {"asymmetric_quantize_inputs": True},
            version=version,
        )
    net.output(y)
    return net
