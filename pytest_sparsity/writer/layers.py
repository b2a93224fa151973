"""Shapes, options, versions and quantization of the layers, as the converter would choose them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity.writer.values import Operand, Quantization

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_sparsity.encoding import Array
    from pytest_sparsity.writer.values import Activation, Padding

BLOCKS = {"sparse": 1, "block 1x4": 4, "block 1x16": 16}

# Versions that the converter writes (tools/versioning/op_version.cc, TensorFlow 2.21): for float32
# and for int8 inputs. Operators that are not listed are at 1 and 2.
_VERSIONS = {
    "CONV_2D": (1, 3),
    "DEPTHWISE_CONV_2D": (1, 3),
    "FULLY_CONNECTED": (1, 4),
    "QUANTIZE": (1, 1),
    "RESHAPE": (1, 1),
    "DENSIFY": (1, 1),
}
# float32 inputs with int8 weights: one scale, one per channel
_HYBRID = {"CONV_2D": (2, 5), "DEPTHWISE_CONV_2D": (4, 6), "FULLY_CONNECTED": (9, 12)}
_SPARSE_FULLY_CONNECTED = 8
FIXED_SCALES = {  # TFLite's quantization specification: scale and zero point of int8 outputs
    "LOGISTIC": (1 / 256, -128),
    "SOFTMAX": (1 / 256, -128),
    "TANH": (1 / 128, 0),
}
_DILATED_DEPTHWISE = 2


def version_of(op: str, x: Operand) -> int:
    """The version of an operator with this first input, if nothing else matters."""
    return _VERSIONS.get(op, (1, 2))[x.dtype == "int8"]


def layer_version(op: str, x: Operand, weights: Operand, *, dilated: bool = False) -> int:
    """The version of a layer; the questions are asked in the order of op_version.cc."""
    scales = weights.quantization.scales if weights.quantization else ()
    if is_hybrid(x, weights) and len(scales) > 1:
        return _HYBRID[op][1]
    if weights.encoding.startswith("block"):
        return _SPARSE_FULLY_CONNECTED
    if is_hybrid(x, weights):
        return _HYBRID[op][0]
    if dilated and x.dtype == "float32" and op == "DEPTHWISE_CONV_2D":
        return _DILATED_DEPTHWISE
    return version_of(op, x)


def height_and_width(both: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of one number or two."""
    return (both, both) if isinstance(both, int) else both


def convolution_options(
    stride: int | tuple[int, int],
    padding: Padding,
    dilation: int | tuple[int, int],
    activation: Activation,
) -> dict[str, Any]:
    """Those that Conv2DOptions and DepthwiseConv2DOptions have in common."""
    stride_h, stride_w = height_and_width(stride)
    dilation_h, dilation_w = height_and_width(dilation)
    return {
        "padding": padding,
        "stride_h": stride_h,
        "stride_w": stride_w,
        "dilation_h_factor": dilation_h,
        "dilation_w_factor": dilation_w,
        "fused_activation_function": activation,
    }


def extent(
    size: Sequence[int], kernel: Sequence[int], options: Mapping[str, Any]
) -> tuple[int, int]:
    """Height and width after a convolution or pool."""
    valid = options["padding"] == "VALID"
    sizes = []
    for n, k, letter in zip(size, kernel, "hw", strict=True):
        stride = options[f"stride_{letter}"]
        dilation = options.get(f"dilation_{letter}_factor", 1)
        covered = n - (k - 1) * dilation if valid else n
        if covered < 1:
            raise ValueError(f"a kernel of {k} does not fit a size of {n}")
        sizes.append(-(-covered // stride))
    return sizes[0], sizes[1]


def is_hybrid(x: Operand, weights: Operand) -> bool:
    """Whether float32 inputs meet int8 weights: dynamic-range quantization."""
    return x.dtype == "float32" and weights.dtype == "int8"


def output_quantization(x: Operand, scale: float, zero_point: int) -> Quantization | None:
    """That of a layer with the input `x`: it has one if the input is int8."""
    return Quantization((scale,), (zero_point,)) if x.dtype == "int8" else None


def quantize_weights(weights: Array, channels: int | None) -> tuple[Array, Quantization]:
    """Symmetric int8 in -127 to 127, as TFLite's quantization specification has it."""
    import numpy as np

    others = tuple(d for d in range(weights.ndim) if d != channels)
    largest = np.abs(weights).max(axis=others, keepdims=True)
    scales = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(127)
    quantized = np.rint(weights / scales).astype(np.int8)
    flat = tuple(scales.reshape(-1).tolist())
    return quantized, Quantization(flat, (0,) * len(flat), channels or 0)
