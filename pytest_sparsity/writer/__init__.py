"""Small `.tflite` files, written in milliseconds without TensorFlow.

    net = Network((1, 8, 8, 3))
    x = net.pad(net.input, 1)
    x = net.conv2d(x, kernel, stride=2, activation="RELU", encoding="sparse")
    net.output(net.mean(x))
    model = Model(net.write(path))

Weights are in TFLite's layout: convolution (out, height, width, in), depthwise (1, height, width,
channels), fully connected (out, in). Operators, versions and encodings are those that TensorFlow's
converter (2.21) writes for such a layer.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pytest_sparsity.writer.builder import Builder
from pytest_sparsity.writer.layers import (
    convolution_options,
    extent,
    height_and_width,
    is_hybrid,
    layer_version,
    output_quantization,
)
from pytest_sparsity.writer.values import (
    Activation,
    DType,
    Encoding,
    Operand,
    Padding,
    Quantization,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.encoding import Array

__all__ = [
    "Activation",
    "DType",
    "Encoding",
    "Network",
    "Operand",
    "Padding",
    "Quantization",
]


class Network(Builder):
    """Builds one graph, operator by operator; every method returns the new operator's output."""

    def conv2d(
        self,
        x: Operand,
        weights: Array | Operand,
        bias: Array | Operand | None = None,
        *,
        stride: int | tuple[int, int] = 1,
        padding: Padding = "VALID",
        dilation: int | tuple[int, int] = 1,
        activation: Activation = "NONE",
        encoding: Encoding = "dense",
        dtype: DType = "float32",
        per_channel: bool = True,
        scale: float = 1.0,
        zero_point: int = 0,
        name: str = "",
    ) -> Operand:
        """CONV_2D; weights (out, height, width, in), bias (out,), zero if absent.

        Args:
            x: (batch, height, width, in), float32 or int8. With int8 the weights are int8 too;
                with float32 and `dtype="int8"` the layer is a dynamic-range one.
            weights: float values, or operands made by `weights`.
            bias: likewise.
            stride: one or (height, width).
            padding: as in TFLite.
            dilation: one or (height, width).
            activation: fused.
            encoding: of the weights.
            dtype: of the stored weights.
            per_channel: whether int8 weights have one scale per output channel.
            scale: of an int8 output.
            zero_point: of an int8 output.
            name: of the stored weights.
        """
        channels = 0 if per_channel else None
        w, b = self._operands(x, weights, bias, encoding, dtype, channels, 0, name)
        if w.shape[3] != x.shape[3]:
            raise ValueError(f"weights {w.shape} do not fit the input {x.shape}")
        options = convolution_options(stride, padding, dilation, activation)
        shape = (x.shape[0], *extent(x.shape[1:3], w.shape[1:3], options), w.shape[0])
        version = layer_version("CONV_2D", x, w)
        out = output_quantization(x, scale, zero_point)
        return self.operator(
            "CONV_2D", [x, w, b], shape, "Conv2DOptions", options, version=version, quantization=out
        )

    def depthwise(
        self,
        x: Operand,
        weights: Array | Operand,
        bias: Array | Operand | None = None,
        *,
        stride: int | tuple[int, int] = 1,
        padding: Padding = "VALID",
        dilation: int | tuple[int, int] = 1,
        activation: Activation = "NONE",
        encoding: Encoding = "dense",
        dtype: DType = "float32",
        per_channel: bool = True,
        scale: float = 1.0,
        zero_point: int = 0,
        name: str = "",
    ) -> Operand:
        """DEPTHWISE_CONV_2D; weights (1, height, width, in * multiplier); else as `conv2d`."""
        channels = 3 if per_channel else None
        w, b = self._operands(x, weights, bias, encoding, dtype, channels, 3, name)
        multiplier, rest = divmod(w.shape[3], x.shape[3])
        if rest:
            raise ValueError(f"weights {w.shape} do not fit the input {x.shape}")
        options = convolution_options(stride, padding, dilation, activation)
        shape = (x.shape[0], *extent(x.shape[1:3], w.shape[1:3], options), w.shape[3])
        dilated = height_and_width(dilation) != (1, 1)
        return self.operator(
            "DEPTHWISE_CONV_2D",
            [x, w, b],
            shape,
            "DepthwiseConv2DOptions",
            {**options, "depth_multiplier": multiplier},
            version=layer_version("DEPTHWISE_CONV_2D", x, w, dilated=dilated),
            quantization=output_quantization(x, scale, zero_point),
        )

    def fully_connected(
        self,
        x: Operand,
        weights: Array | Operand,
        bias: Array | Operand | None = None,
        *,
        activation: Activation = "NONE",
        encoding: Encoding = "dense",
        dtype: DType = "float32",
        per_channel: bool = True,
        scale: float = 1.0,
        zero_point: int = 0,
        name: str = "",
    ) -> Operand:
        """FULLY_CONNECTED; weights (out, in), bias (out,); no bias if absent; else as `conv2d`.

        The input is flattened to (elements / in, in).
        """
        channels = 0 if per_channel else None
        w, b = self._operands(x, weights, bias, encoding, dtype, channels, None, name)
        rows, rest = divmod(prod(x.shape), w.shape[1])
        if rest:
            raise ValueError(f"weights {w.shape} do not fit the input {x.shape}")
        return self.operator(
            "FULLY_CONNECTED",
            [x, w, b],
            (rows, w.shape[0]),
            "FullyConnectedOptions",
            {
                "fused_activation_function": activation,
                "asymmetric_quantize_inputs": is_hybrid(x, w),
            },
            version=layer_version("FULLY_CONNECTED", x, w),
            quantization=output_quantization(x, scale, zero_point),
        )

    # ------------------------------------------------------------------- everything around it

    def pad(self, x: Operand, amount: int | Sequence[Sequence[int]]) -> Operand:
        """PAD with zeros: one amount, or ((top, bottom), (left, right))."""
        import numpy as np

        sides = ((amount, amount), (amount, amount)) if isinstance(amount, int) else amount
        paddings = np.array([(0, 0), *sides, (0, 0)], np.int32)
        shape = [n + before + after for n, (before, after) in zip(x.shape, paddings, strict=True)]
        return self.operator("PAD", [x, self.constant(paddings)], shape, "PadOptions")

    def mean(self, x: Operand, axes: Sequence[int] = (1, 2), *, keep_dims: bool = False) -> Operand:
        """MEAN; by default the global average pool."""
        import numpy as np

        kept = [1 if d in axes else n for d, n in enumerate(x.shape)]
        shape = kept if keep_dims else [n for d, n in enumerate(x.shape) if d not in axes]
        operands = [x, self.constant(np.array(axes, np.int32))]
        return self.operator("MEAN", operands, shape, "ReducerOptions", {"keep_dims": keep_dims})

    def add(self, a: Operand, b: Operand | Array, *, activation: Activation = "NONE") -> Operand:
        """ADD."""
        return self._arithmetic("ADD", "AddOptions", a, b, activation)

    def sub(self, a: Operand, b: Operand | Array, *, activation: Activation = "NONE") -> Operand:
        """SUB."""
        return self._arithmetic("SUB", "SubOptions", a, b, activation)

    def mul(self, a: Operand, b: Operand | Array, *, activation: Activation = "NONE") -> Operand:
        """MUL."""
        return self._arithmetic("MUL", "MulOptions", a, b, activation)

    def div(self, a: Operand, b: Operand | Array, *, activation: Activation = "NONE") -> Operand:
        """DIV."""
        return self._arithmetic("DIV", "DivOptions", a, b, activation)

    def concat(self, values: Sequence[Operand], axis: int = -1) -> Operand:
        """CONCATENATION."""
        shape = list(values[0].shape)
        axis %= len(shape)
        shape[axis] = sum(value.shape[axis] for value in values)
        return self.operator("CONCATENATION", values, shape, "ConcatenationOptions", {"axis": axis})

    def max_pool(
        self,
        x: Operand,
        size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: Padding = "VALID",
    ) -> Operand:
        """MAX_POOL_2D; the stride is the size unless given."""
        return self._pool("MAX_POOL_2D", x, size, stride, padding)

    def avg_pool(
        self,
        x: Operand,
        size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: Padding = "VALID",
    ) -> Operand:
        """AVERAGE_POOL_2D; the stride is the size unless given."""
        return self._pool("AVERAGE_POOL_2D", x, size, stride, padding)

    def unary(self, x: Operand, op: str) -> Operand:
        """An element-wise operator without options: "RELU", "LOGISTIC", "TANH", "ABS", ..."""
        return self.operator(op, [x], x.shape)

    def leaky_relu(self, x: Operand, alpha: float) -> Operand:
        """LEAKY_RELU."""
        return self.operator("LEAKY_RELU", [x], x.shape, "LeakyReluOptions", {"alpha": alpha})

    def prelu(self, x: Operand, alpha: Array) -> Operand:
        """PRELU; alpha broadcasts against (height, width, channels)."""
        return self.operator("PRELU", [x, self.constant(alpha)], x.shape)

    def softmax(self, x: Operand, beta: float = 1.0) -> Operand:
        """SOFTMAX over the last dimension."""
        return self.operator("SOFTMAX", [x], x.shape, "SoftmaxOptions", {"beta": beta})

    def reshape(self, x: Operand, shape: Sequence[int]) -> Operand:
        """RESHAPE."""
        import numpy as np

        if prod(shape) != prod(x.shape):
            raise ValueError(f"{x.shape} cannot become {tuple(shape)}")
        return self.operator("RESHAPE", [x, self.constant(np.array(shape, np.int32))], shape)

    def resize_bilinear(
        self,
        x: Operand,
        size: tuple[int, int],
        *,
        align_corners: bool = False,
        half_pixel_centers: bool = True,
    ) -> Operand:
        """RESIZE_BILINEAR to (height, width)."""
        import numpy as np

        return self.operator(
            "RESIZE_BILINEAR",
            [x, self.constant(np.array(size, np.int32))],
            (x.shape[0], *size, x.shape[3]),
            "ResizeBilinearOptions",
            {"align_corners": align_corners, "half_pixel_centers": half_pixel_centers},
            version=3 if half_pixel_centers else None,
        )

    def depth_to_space(self, x: Operand, block: int) -> Operand:
        """DEPTH_TO_SPACE."""
        n, height, width, channels = x.shape
        shape = (n, height * block, width * block, channels // block**2)
        options = {"block_size": block}
        return self.operator("DEPTH_TO_SPACE", [x], shape, "DepthToSpaceOptions", options)

    def _operands(
        self,
        x: Operand,
        weights: Array | Operand,
        bias: Array | Operand | None,
        encoding: Encoding,
        dtype: DType,
        channels: int | None,
        zeros: int | None,
        name: str,
    ) -> tuple[Operand, Operand | None]:
        """Weights and bias as operands; `zeros` is the dimension a missing bias runs along."""
        import numpy as np

        if x.dtype == "int8":
            dtype = "int8"
        if not isinstance(weights, Operand):
            weights = self.weights(weights, name, encoding=encoding, dtype=dtype, channels=channels)
        if bias is None and zeros is not None:
            bias = np.zeros(weights.shape[zeros], np.float32)
        if bias is None or isinstance(bias, Operand):
            return weights, bias
        if x.dtype == "int8":
            return weights, self._quantized_bias(x, weights, bias)
        return weights, self.weights(bias, dtype="float16" if dtype == "float16" else "float32")

    def _quantized_bias(self, x: Operand, weights: Operand, bias: Array) -> Operand:
        import numpy as np

        if x.quantization is None or weights.quantization is None:
            raise ValueError("an int8 layer needs a quantized input and quantized weights")
        scales = np.array(weights.quantization.scales) * x.quantization.scales[0]
        quantization = Quantization(tuple(scales.tolist()), (0,) * scales.size)
        return self.constant(np.rint(bias / scales).astype(np.int32), quantization=quantization)

    def _arithmetic(
        self,
        op: str,
        kind: str,
        a: Operand,
        b: Operand | Array,
        activation: Activation,
    ) -> Operand:
        import numpy as np

        if not isinstance(b, Operand):
            b = self.constant(b)
        shape = np.broadcast_shapes(a.shape, b.shape)
        options = {"fused_activation_function": activation}
        return self.operator(op, [a, b], shape, kind, options)

    def _pool(
        self,
        op: str,
        x: Operand,
        size: int | tuple[int, int],
        stride: int | tuple[int, int] | None,
        padding: Padding,
    ) -> Operand:
        height, width = height_and_width(size)
        stride_h, stride_w = height_and_width(size if stride is None else stride)
        options = {
            "padding": padding,
            "stride_h": stride_h,
            "stride_w": stride_w,
            "filter_height": height,
            "filter_width": width,
        }
        shape = (x.shape[0], *extent(x.shape[1:3], (height, width), options), x.shape[3])
        return self.operator(op, [x], shape, "Pool2DOptions", options)
