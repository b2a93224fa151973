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

from dataclasses import dataclass, field
from math import prod
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pytest_sparsity import encoding as sparse_encoding
from pytest_sparsity.model import replace_file
from pytest_sparsity.model.schema import IDENTIFIER, SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike

    from pytest_sparsity.encoding import Array, Sparsity

    Activation: TypeAlias = Literal["NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH"]
    Padding: TypeAlias = Literal["SAME", "VALID"]
    Encoding: TypeAlias = Literal["dense", "sparse", "block 1x4", "block 1x16"]
    DType: TypeAlias = Literal["float32", "float16", "int8"]

_BLOCKS = {"sparse": 1, "block 1x4": 4, "block 1x16": 16}

# Versions that the converter writes (tools/versioning/op_version.cc, TensorFlow 2.21): for float32
# and for int8 inputs. Operators that are not listed are at 1 and 2.
_VERSIONS = {
    "CONV_2D": (1, 3),
    "DEPTHWISE_CONV_2D": (1, 3),
    "FULLY_CONNECTED": (1, 4),
    "QUANTIZE": (1, 1),
    "RESHAPE": (1, 1),
    "DENSIFY": (1, 1),
    "RESIZE_BILINEAR": (3, 3),
}
# float32 inputs with int8 weights: one scale, one per channel
_HYBRID = {"CONV_2D": (2, 5), "DEPTHWISE_CONV_2D": (4, 6), "FULLY_CONNECTED": (9, 12)}
_SPARSE_FULLY_CONNECTED = 8
_FIXED_SCALES = {  # TFLite's quantization specification: scale and zero point of int8 outputs
    "LOGISTIC": (1 / 256, -128),
    "SOFTMAX": (1 / 256, -128),
    "TANH": (1 / 128, 0),
}
_DILATED_DEPTHWISE = 2


@dataclass(frozen=True)
class Quantization:
    """Scales and zero points: one, or one per channel of a dimension."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    dimension: int = 0


@dataclass(frozen=True)
class Value:
    """A tensor of a network being built."""

    index: int
    shape: tuple[int, ...]
    dtype: str = "float32"
    quantization: Quantization | None = None
    encoding: str = "dense"


@dataclass
class _Tensor:
    name: str
    value: Value
    data: bytes | None = None
    sparsity: Sparsity | None = None


@dataclass
class _Operator:
    op: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kind: str
    options: Mapping[str, object]


@dataclass(init=False)
class Network:
    """Builds one graph, operator by operator; every method returns the new operator's output.

    Attributes:
        input: the first input.
    """

    input: Value
    _tensors: list[_Tensor] = field(repr=False)
    _operators: list[_Operator] = field(repr=False)
    _inputs: list[Value] = field(repr=False)
    _outputs: list[Value] = field(repr=False)

    def __init__(self, input_shape: Sequence[int], dtype: DType = "float32") -> None:
        self._tensors, self._operators, self._inputs, self._outputs = [], [], [], []
        self.input = self.add_input(input_shape, dtype)

    def add_input(self, shape: Sequence[int], dtype: DType = "float32") -> Value:
        """A further input."""
        value = self._tensor(f"input_{len(self._inputs)}", shape, dtype)
        self._inputs.append(value)
        return value

    def output(self, *values: Value) -> None:
        """Declare outputs of the network, in this order."""
        self._outputs += values

    # ------------------------------------------------------------------ constants and weights

    def constant(
        self,
        values: Array,
        name: str = "",
        *,
        shape: Sequence[int] | None = None,
        sparsity: Sparsity | None = None,
        quantization: Quantization | None = None,
    ) -> Value:
        """A constant as it is stored: the values of any dtype, and what is said about them.

        Args:
            values: as stored; with a `sparsity`, those of its encoding.
            name: of the tensor.
            shape: of the decoded tensor if that is not the values' own.
            sparsity: the encoding of the values.
            quantization: their meaning.
        """
        import numpy as np

        index = len(self._tensors)
        value = Value(
            index,
            tuple(values.shape if shape is None else shape),
            values.dtype.name,
            quantization,
            sparse_encoding.label(sparsity),
        )
        data = np.ascontiguousarray(values).tobytes()
        self._tensors.append(_Tensor(name or f"constant_{index}", value, data, sparsity))
        return value

    def weights(
        self,
        weights: Array,
        name: str = "",
        *,
        encoding: Encoding = "dense",
        dtype: DType = "float32",
        channels: int | None = 0,
    ) -> Value:
        """Weights ready to be an operand, which several layers may share.

        Sparse-encoded ones pass through DENSIFY, float16 ones through DEQUANTIZE. Block-encoded
        ones have no DENSIFY, also not with float16, where the converter's own files are wrong for
        the lack of it.

        Args:
            weights: float values in TFLite's layout.
            name: of the stored tensor.
            encoding: how they are stored.
            dtype: as what they are stored; int8 is quantized here, symmetrically.
            channels: for int8, the dimension with one scale each, or None for a single scale.
        """
        import numpy as np

        quantization = None
        stored = np.asarray(weights).astype(dtype) if dtype != "int8" else np.asarray(weights)
        if dtype == "int8":
            stored, quantization = _quantize_weights(stored, channels)
        sparsity = None
        shape = stored.shape
        if encoding != "dense":
            stored, sparsity = sparse_encoding.encode(stored, _BLOCKS[encoding])
        value = self.constant(
            stored, name, shape=shape, sparsity=sparsity, quantization=quantization
        )
        if encoding == "sparse":
            value = self.densify(value)
        return self.dequantize(value) if dtype == "float16" else value

    # ------------------------------------------------------------------------------- layers

    def conv2d(
        self,
        x: Value,
        weights: Array | Value,
        bias: Array | Value | None = None,
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
    ) -> Value:
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
        options = _convolution(stride, padding, dilation, activation)
        shape = (x.shape[0], *_extent(x.shape[1:3], w.shape[1:3], options), w.shape[0])
        version = self._layer_version("CONV_2D", x, w)
        out = _output_quantization(x, scale, zero_point)
        return self.operator(
            "CONV_2D", [x, w, b], shape, "Conv2DOptions", options, version=version, quantization=out
        )

    def depthwise(
        self,
        x: Value,
        weights: Array | Value,
        bias: Array | Value | None = None,
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
    ) -> Value:
        """DEPTHWISE_CONV_2D; weights (1, height, width, in * multiplier); else as `conv2d`."""
        channels = 3 if per_channel else None
        w, b = self._operands(x, weights, bias, encoding, dtype, channels, 3, name)
        multiplier, rest = divmod(w.shape[3], x.shape[3])
        if rest:
            raise ValueError(f"weights {w.shape} do not fit the input {x.shape}")
        options = _convolution(stride, padding, dilation, activation)
        shape = (x.shape[0], *_extent(x.shape[1:3], w.shape[1:3], options), w.shape[3])
        version = self._layer_version("DEPTHWISE_CONV_2D", x, w)
        if _pair(dilation) != (1, 1):
            version = max(version, _DILATED_DEPTHWISE)
        return self.operator(
            "DEPTHWISE_CONV_2D",
            [x, w, b],
            shape,
            "DepthwiseConv2DOptions",
            {**options, "DepthMultiplier": multiplier},
            version=version,
            quantization=_output_quantization(x, scale, zero_point),
        )

    def fully_connected(
        self,
        x: Value,
        weights: Array | Value,
        bias: Array | Value | None = None,
        *,
        activation: Activation = "NONE",
        encoding: Encoding = "dense",
        dtype: DType = "float32",
        per_channel: bool = True,
        scale: float = 1.0,
        zero_point: int = 0,
        name: str = "",
    ) -> Value:
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
                "FusedActivationFunction": _number("ActivationFunctionType", activation),
                "AsymmetricQuantizeInputs": _is_hybrid(x, w),
            },
            version=self._layer_version("FULLY_CONNECTED", x, w),
            quantization=_output_quantization(x, scale, zero_point),
        )

    # ------------------------------------------------------------------- everything around it

    def pad(self, x: Value, amount: int | Sequence[Sequence[int]]) -> Value:
        """PAD with zeros: one amount, or ((top, bottom), (left, right))."""
        import numpy as np

        sides = ((amount, amount), (amount, amount)) if isinstance(amount, int) else amount
        paddings = np.array([(0, 0), *sides, (0, 0)], np.int32)
        shape = [n + before + after for n, (before, after) in zip(x.shape, paddings, strict=True)]
        return self.operator("PAD", [x, self.constant(paddings)], shape, "PadOptions")

    def mean(self, x: Value, axes: Sequence[int] = (1, 2), *, keep_dims: bool = False) -> Value:
        """MEAN; by default the global average pool."""
        import numpy as np

        kept = [1 if d in axes else n for d, n in enumerate(x.shape)]
        shape = kept if keep_dims else [n for d, n in enumerate(x.shape) if d not in axes]
        operands = [x, self.constant(np.array(axes, np.int32))]
        return self.operator("MEAN", operands, shape, "ReducerOptions", {"KeepDims": keep_dims})

    def add(self, a: Value, b: Value | Array, *, activation: Activation = "NONE") -> Value:
        """ADD."""
        return self._arithmetic("ADD", "AddOptions", a, b, activation)

    def sub(self, a: Value, b: Value | Array, *, activation: Activation = "NONE") -> Value:
        """SUB."""
        return self._arithmetic("SUB", "SubOptions", a, b, activation)

    def mul(self, a: Value, b: Value | Array, *, activation: Activation = "NONE") -> Value:
        """MUL."""
        return self._arithmetic("MUL", "MulOptions", a, b, activation)

    def div(self, a: Value, b: Value | Array, *, activation: Activation = "NONE") -> Value:
        """DIV."""
        return self._arithmetic("DIV", "DivOptions", a, b, activation)

    def concat(self, values: Sequence[Value], axis: int = -1) -> Value:
        """CONCATENATION."""
        shape = list(values[0].shape)
        axis %= len(shape)
        shape[axis] = sum(value.shape[axis] for value in values)
        return self.operator("CONCATENATION", values, shape, "ConcatenationOptions", {"Axis": axis})

    def max_pool(
        self,
        x: Value,
        size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: Padding = "VALID",
    ) -> Value:
        """MAX_POOL_2D; the stride is the size unless given."""
        return self._pool("MAX_POOL_2D", x, size, stride, padding)

    def avg_pool(
        self,
        x: Value,
        size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: Padding = "VALID",
    ) -> Value:
        """AVERAGE_POOL_2D; the stride is the size unless given."""
        return self._pool("AVERAGE_POOL_2D", x, size, stride, padding)

    def unary(self, x: Value, op: str) -> Value:
        """An element-wise operator without options: "RELU", "LOGISTIC", "TANH", "ABS", ..."""
        return self.operator(op, [x], x.shape)

    def leaky_relu(self, x: Value, alpha: float) -> Value:
        """LEAKY_RELU."""
        return self.operator("LEAKY_RELU", [x], x.shape, "LeakyReluOptions", {"Alpha": alpha})

    def prelu(self, x: Value, alpha: Array) -> Value:
        """PRELU; alpha broadcasts against (height, width, channels)."""
        return self.operator("PRELU", [x, self.constant(alpha)], x.shape)

    def softmax(self, x: Value, beta: float = 1.0) -> Value:
        """SOFTMAX over the last dimension."""
        return self.operator("SOFTMAX", [x], x.shape, "SoftmaxOptions", {"Beta": beta})

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """RESHAPE."""
        import numpy as np

        if prod(shape) != prod(x.shape):
            raise ValueError(f"{x.shape} cannot become {tuple(shape)}")
        return self.operator("RESHAPE", [x, self.constant(np.array(shape, np.int32))], shape)

    def resize_bilinear(
        self,
        x: Value,
        size: tuple[int, int],
        *,
        align_corners: bool = False,
        half_pixel_centers: bool = True,
    ) -> Value:
        """RESIZE_BILINEAR to (height, width)."""
        import numpy as np

        return self.operator(
            "RESIZE_BILINEAR",
            [x, self.constant(np.array(size, np.int32))],
            (x.shape[0], *size, x.shape[3]),
            "ResizeBilinearOptions",
            {"AlignCorners": align_corners, "HalfPixelCenters": half_pixel_centers},
        )

    def depth_to_space(self, x: Value, block: int) -> Value:
        """DEPTH_TO_SPACE."""
        n, height, width, channels = x.shape
        shape = (n, height * block, width * block, channels // block**2)
        options = {"BlockSize": block}
        return self.operator("DEPTH_TO_SPACE", [x], shape, "DepthToSpaceOptions", options)

    def densify(self, x: Value) -> Value:
        """DENSIFY."""
        return self.operator("DENSIFY", [x], x.shape, dtype=x.dtype, quantization=x.quantization)

    def quantize(self, x: Value, scale: float, zero_point: int = 0) -> Value:
        """QUANTIZE float32 to int8."""
        quantization = Quantization((scale,), (zero_point,))
        return self.operator("QUANTIZE", [x], x.shape, dtype="int8", quantization=quantization)

    def dequantize(self, x: Value) -> Value:
        """DEQUANTIZE float16 or int8 to float32."""
        version = {"float16": 3, "int8": 2}[x.dtype]
        return self.operator("DEQUANTIZE", [x], x.shape, dtype="float32", version=version)

    def operator(
        self,
        op: str,
        inputs: Sequence[Value | None],
        shape: Sequence[int],
        kind: str = "",
        options: Mapping[str, object] | None = None,
        *,
        dtype: str | None = None,
        version: int | None = None,
        quantization: Quantization | None = None,
    ) -> Value:
        """Any operator with one output.

        Args:
            op: its name in the schema's `BuiltinOperator`.
            inputs: None for one that is absent.
            shape: of the output.
            kind: name of the schema's table of options.
            options: by the schema's names in CamelCase, enums as numbers.
            dtype: of the output; that of the first input unless given.
            version: what the converter writes unless given.
            quantization: of the output; unless given what the specification fixes for the operator,
                else that of the first input if it has its type.
        """
        first = next(x for x in inputs if x is not None)
        dtype = dtype or first.dtype
        if quantization is None and dtype == "int8" and op in _FIXED_SCALES:
            scale, zero_point = _FIXED_SCALES[op]
            quantization = Quantization((scale,), (zero_point,))
        elif quantization is None and dtype == first.dtype:
            quantization = first.quantization
        if version is None:
            version = _VERSIONS.get(op, (1, 2))[first.dtype == "int8"]
        name = f"{op.lower()}_{len(self._operators)}"
        value = self._tensor(name, shape, dtype, quantization)
        indices = tuple(-1 if x is None else x.index for x in inputs)
        self._operators.append(
            _Operator(op, version, indices, (value.index,), kind, dict(options or {}))
        )
        return value

    # --------------------------------------------------------------------------------- output

    def to_bytes(self) -> bytes:
        """The file."""
        if not self._outputs:
            raise ValueError("the network has no output: call output(value)")
        return _Serializer().model(self)

    def write(self, path: str | PathLike[str]) -> Path:
        """Write the file; returns its path."""
        path = Path(fspath(path))
        replace_file(path, self.to_bytes())
        return path

    # -------------------------------------------------------------------------------- helpers

    def _tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        quantization: Quantization | None = None,
    ) -> Value:
        value = Value(len(self._tensors), tuple(map(int, shape)), dtype, quantization)
        self._tensors.append(_Tensor(name, value))
        return value

    def _operands(
        self,
        x: Value,
        weights: Array | Value,
        bias: Array | Value | None,
        encoding: Encoding,
        dtype: DType,
        channels: int | None,
        zeros: int | None,
        name: str,
    ) -> tuple[Value, Value | None]:
        """Weights and bias as operands; `zeros` is the dimension a missing bias runs along."""
        import numpy as np

        if x.dtype == "int8":
            dtype = "int8"
        if not isinstance(weights, Value):
            weights = self.weights(weights, name, encoding=encoding, dtype=dtype, channels=channels)
        if bias is None and zeros is not None:
            bias = np.zeros(weights.shape[zeros], np.float32)
        if bias is None or isinstance(bias, Value):
            return weights, bias
        if x.dtype == "int8":
            return weights, self._quantized_bias(x, weights, bias)
        return weights, self.weights(bias, dtype="float16" if dtype == "float16" else "float32")

    def _quantized_bias(self, x: Value, weights: Value, bias: Array) -> Value:
        import numpy as np

        if x.quantization is None or weights.quantization is None:
            raise ValueError("an int8 layer needs a quantized input and quantized weights")
        scales = np.array(weights.quantization.scales) * x.quantization.scales[0]
        quantization = Quantization(tuple(scales.tolist()), (0,) * scales.size)
        return self.constant(np.rint(bias / scales).astype(np.int32), quantization=quantization)

    def _layer_version(self, op: str, x: Value, weights: Value) -> int:
        scales = weights.quantization.scales if weights.quantization else ()
        if _is_hybrid(x, weights) and len(scales) > 1:
            return _HYBRID[op][1]
        if weights.encoding.startswith("block"):
            return _SPARSE_FULLY_CONNECTED
        if _is_hybrid(x, weights):
            return _HYBRID[op][0]
        return _VERSIONS[op][x.dtype == "int8"]

    def _arithmetic(
        self, op: str, kind: str, a: Value, b: Value | Array, activation: Activation
    ) -> Value:
        import numpy as np

        if not isinstance(b, Value):
            b = self.constant(b)
        shape = np.broadcast_shapes(a.shape, b.shape)
        options = {"FusedActivationFunction": _number("ActivationFunctionType", activation)}
        return self.operator(op, [a, b], shape, kind, options)

    def _pool(
        self,
        op: str,
        x: Value,
        size: int | tuple[int, int],
        stride: int | tuple[int, int] | None,
        padding: Padding,
    ) -> Value:
        height, width = _pair(size)
        stride_h, stride_w = _pair(size if stride is None else stride)
        options = {
            "Padding": _number("Padding", padding),
            "StrideH": stride_h,
            "StrideW": stride_w,
            "FilterHeight": height,
            "FilterWidth": width,
        }
        shape = (x.shape[0], *_extent(x.shape[1:3], (height, width), options), x.shape[3])
        return self.operator(op, [x], shape, "Pool2DOptions", options)


def _pair(both: int | tuple[int, int]) -> tuple[int, int]:
    return (both, both) if isinstance(both, int) else both


def _number(enum: str, name: str) -> int:
    import tflite

    number: int = getattr(getattr(tflite, enum), name)
    return number


def _convolution(
    stride: int | tuple[int, int],
    padding: Padding,
    dilation: int | tuple[int, int],
    activation: Activation,
) -> dict[str, int]:
    stride_h, stride_w = _pair(stride)
    dilation_h, dilation_w = _pair(dilation)
    return {
        "Padding": _number("Padding", padding),
        "StrideH": stride_h,
        "StrideW": stride_w,
        "DilationHFactor": dilation_h,
        "DilationWFactor": dilation_w,
        "FusedActivationFunction": _number("ActivationFunctionType", activation),
    }


def _extent(
    size: Sequence[int], kernel: Sequence[int], options: Mapping[str, int]
) -> tuple[int, int]:
    """Height and width after a convolution or pool."""
    valid = options["Padding"] == _number("Padding", "VALID")
    extent = []
    for n, k, letter in zip(size, kernel, "HW", strict=True):
        stride, dilation = options[f"Stride{letter}"], options.get(f"Dilation{letter}Factor", 1)
        covered = n - (k - 1) * dilation if valid else n
        if covered < 1:
            raise ValueError(f"a kernel of {k} does not fit a size of {n}")
        extent.append(-(-covered // stride))
    return extent[0], extent[1]


def _is_hybrid(x: Value, weights: Value) -> bool:
    return x.dtype == "float32" and weights.dtype == "int8"


def _output_quantization(x: Value, scale: float, zero_point: int) -> Quantization | None:
    return Quantization((scale,), (zero_point,)) if x.dtype == "int8" else None


def _quantize_weights(weights: Array, channels: int | None) -> tuple[Array, Quantization]:
    """Symmetric int8 in -127 to 127, as TFLite's quantization specification has it."""
    import numpy as np

    others = tuple(d for d in range(weights.ndim) if d != channels)
    largest = np.abs(weights).max(axis=others, keepdims=True)
    scales = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(127)
    quantized = np.rint(weights / scales).astype(np.int8)
    flat = tuple(scales.reshape(-1).tolist())
    return quantized, Quantization(flat, (0,) * len(flat), channels or 0)


class _Serializer:
    """Turns a network into a flatbuffer, children before their parents as the format wants it."""

    def __init__(self) -> None:
        import flatbuffers
        import tflite

        self.builder: Any = flatbuffers.Builder(1024)
        self.schema: Any = tflite

    def table(self, kind: str, /, **fields: object) -> int:
        """A table; fields that are None stay absent."""
        getattr(self.schema, f"{kind}Start")(self.builder)
        for name, value in fields.items():
            if value is not None:
                getattr(self.schema, f"{kind}Add{name}")(self.builder, value)
        end: int = getattr(self.schema, f"{kind}End")(self.builder)
        return end

    def tables(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        end: int = self.builder.EndVector()
        return end

    def numbers(self, values: Sequence[float], dtype: str) -> int:
        import numpy as np

        end: int = self.builder.CreateNumpyVector(np.array(values, dtype))
        return end

    def data(self, data: bytes) -> int:
        """A buffer; XNNPACK and TFLite read the values where they are, so aligned to 16 bytes."""
        builder = self.builder
        builder.StartVector(1, len(data), 16)
        builder.head -= len(data)
        builder.Bytes[builder.head : builder.head + len(data)] = data
        return self.table("Buffer", Data=builder.EndVector())

    def model(self, network: Network) -> bytes:
        tensors, operators = network._tensors, network._operators  # noqa: SLF001
        buffers = [self.table("Buffer")]  # by convention the first is empty
        places = []
        for tensor in tensors:
            places.append(len(buffers) if tensor.data is not None else 0)
            if tensor.data is not None:
                buffers.append(self.data(tensor.data))
        versions: dict[str, int] = {}
        for operator in operators:  # the converter, too, has one code for all uses of an operator
            versions[operator.op] = max(operator.version, versions.get(operator.op, 0))
        codes = list(versions)
        graph = self.table(
            "SubGraph",
            Tensors=self.tables([self.tensor(t, p) for t, p in zip(tensors, places, strict=True)]),
            Inputs=self.numbers([v.index for v in network._inputs], "i4"),  # noqa: SLF001
            Outputs=self.numbers([v.index for v in network._outputs], "i4"),  # noqa: SLF001
            Operators=self.tables([self.operator(o, codes) for o in operators]),
            Name=self.builder.CreateString("main"),
        )
        root = self.table(
            "Model",
            Version=SCHEMA_VERSION,
            OperatorCodes=self.tables([self.code(op, versions[op]) for op in codes]),
            Subgraphs=self.tables([graph]),
            Description=self.builder.CreateString("pytest-sparsity"),
            Buffers=self.tables(buffers),
        )
        self.builder.Finish(root, file_identifier=IDENTIFIER)
        return bytes(self.builder.Output())

    def code(self, op: str, version: int) -> int:
        number = _number("BuiltinOperator", op)
        return self.table(
            "OperatorCode",
            DeprecatedBuiltinCode=min(number, 127),
            BuiltinCode=number,
            Version=version,
        )

    def operator(self, operator: _Operator, codes: Sequence[str]) -> int:
        kind = operator.kind
        return self.table(
            "Operator",
            OpcodeIndex=codes.index(operator.op),
            Inputs=self.numbers(operator.inputs, "i4"),
            Outputs=self.numbers(operator.outputs, "i4"),
            BuiltinOptionsType=_number("BuiltinOptions", kind) if kind else None,
            BuiltinOptions=self.table(kind, **operator.options) if kind else None,
        )

    def tensor(self, tensor: _Tensor, buffer: int) -> int:
        value = tensor.value
        return self.table(
            "Tensor",
            Shape=self.numbers(value.shape, "i4"),
            Type=_number("TensorType", value.dtype.upper()),
            Buffer=buffer,
            Name=self.builder.CreateString(tensor.name),
            Quantization=self.quantization(value.quantization),
            Sparsity=self.sparsity(tensor.sparsity),
        )

    def quantization(self, quantization: Quantization | None) -> int | None:
        if quantization is None:
            return None
        return self.table(
            "QuantizationParameters",
            Scale=self.numbers(quantization.scales, "f4"),
            ZeroPoint=self.numbers(quantization.zero_points, "i8"),
            QuantizedDimension=quantization.dimension,
        )

    def sparsity(self, sparsity: Sparsity | None) -> int | None:
        if sparsity is None:
            return None
        return self.table(
            "SparsityParameters",
            TraversalOrder=self.numbers(sparsity.traversal_order, "i4"),
            BlockMap=self.numbers(sparsity.block_map, "i4") if sparsity.block_map else None,
            DimMetadata=self.tables(
                [self.level(sparsity, i) for i in range(len(sparsity.formats))]
            ),
        )

    def level(self, sparsity: Sparsity, level: int) -> int:
        segments, indices = sparsity.segments[level], sparsity.indices[level]
        if segments is None or indices is None:
            return self.table("DimensionMetadata", Format=0, DenseSize=sparsity.dense_sizes[level])
        segments_kind, segments_vector = self.index_vector(segments)
        indices_kind, indices_vector = self.index_vector(indices)
        return self.table(
            "DimensionMetadata",
            Format=1,
            ArraySegmentsType=segments_kind,
            ArraySegments=segments_vector,
            ArrayIndicesType=indices_kind,
            ArrayIndices=indices_vector,
        )

    def index_vector(self, numbers: Array) -> tuple[int, int]:
        kind = {1: "Uint8Vector", 2: "Uint16Vector", 4: "Int32Vector"}[numbers.dtype.itemsize]
        vector = self.table(kind, Values=self.builder.CreateNumpyVector(numbers))
        return _number("SparseIndexVector", kind), vector
