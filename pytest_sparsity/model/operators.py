"""What is known of TFLite's operators and types, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

WEIGHT_OPERANDS: Mapping[str, tuple[int, ...]] = {
    "CONV_2D": (1,),
    "DEPTHWISE_CONV_2D": (1,),
    "TRANSPOSE_CONV": (1,),
    "CONV_3D": (1,),
    "FULLY_CONNECTED": (1,),
    "BATCH_MATMUL": (0, 1),
    "GATHER": (0,),  # what an Embedding becomes
    "EMBEDDING_LOOKUP": (1,),
    "SVDF": (1, 2),
    "RNN": (1, 2),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2),
    "LSTM": (*range(1, 9), 16),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (*range(1, 9), 16),
    "BIDIRECTIONAL_SEQUENCE_LSTM": (*range(1, 9), 16, *range(18, 26), 33),
}
"""Operands that are weights, by operator. Source: the comments in TFLite's kernels (2.21)."""

_UNARY = (
    *("ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG"),
    *("LOGISTIC", "NEG", "RELU", "RELU6", "RELU_N1_TO_1", "ROUND", "RSQRT", "SIN", "SQRT"),
    *("SQUARE", "TANH", "QUANTIZE", "DEQUANTIZE", "DENSIFY"),
)
_BINARY = ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "PRELU", "SQUARED_DIFFERENCE")
_REDUCTIONS = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")
_OF_IMAGES = ("AVERAGE_POOL_2D", "MAX_POOL_2D", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH")

OPERANDS: Mapping[str, int] = {
    **dict.fromkeys((*_UNARY, *_OF_IMAGES, "RESHAPE", "SOFTMAX", "CONCATENATION"), 1),
    **dict.fromkeys((*_BINARY, *_REDUCTIONS, "PAD", "RESIZE_BILINEAR", "GATHER"), 2),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"), 2),
    **dict.fromkeys(("EXPAND_DIMS", "SPLIT", "TRANSPOSE"), 2),
    **dict.fromkeys(("TRANSPOSE_CONV", "SLICE"), 3),
    "ASSIGN_VARIABLE": 2,
    "READ_VARIABLE": 1,
    "STRIDED_SLICE": 4,
}
"""How many leading inputs must be there, and with them an output."""

EXACT = frozenset((*_UNARY, *_OF_IMAGES, *_BINARY, *_REDUCTIONS, "PAD", "SOFTMAX", "TRANSPOSE"))
"""Operators that have no more inputs than these (TF_LITE_ENSURE_EQ in their `Prepare`)."""

RANKS: Mapping[str, Mapping[int, int]] = {
    **{op: {0: 4} for op in (*_OF_IMAGES, "RESIZE_BILINEAR")},
    **{op: {0: 4, 1: 4} for op in ("CONV_2D", "DEPTHWISE_CONV_2D")},
    "TRANSPOSE_CONV": {1: 4, 2: 4},
    "FULLY_CONNECTED": {1: 2},
}
"""Dimensions of operands; the outputs of those whose input has 4 have 4 as well."""

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
"""Operators whose operand 1 is weights, none of whose dimensions is 0."""

CHANNELS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
"""The dimension of the weights of which operand 2, a bias, has a number each."""

UNPACKING = ("DENSIFY", "DEQUANTIZE")
"""Operators behind which a constant is the same, stored in another way."""

AXES = _REDUCTIONS
"""Operators whose operand 1, if it is constant, is dimensions of operand 0."""

OPTIONS: Mapping[str, str] = {
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "CALL": "CallOptions",
    "CALL_ONCE": "CallOnceOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "DIV": "DivOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GATHER": "GatherOptions",
    "IF": "IfOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MUL": "MulOptions",
    "RESHAPE": "ReshapeOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SPACE_TO_DEPTH": "SpaceToDepthOptions",
    "SPLIT": "SplitOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "WHILE": "WhileOptions",
    **dict.fromkeys(_REDUCTIONS, "ReducerOptions"),
}
"""Tables of options, of which TFLite takes the defaults where they are absent."""

WINDOWS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "AVERAGE_POOL_2D", "MAX_POOL_2D")
"""Operators that compute nothing without options: a stride of 0 leads nowhere."""

NUMPY = {
    "float32": "<f4",
    "float16": "<f2",
    "float64": "<f8",
    "bfloat16": "<u2",
    "int4": "i1",
    "int8": "i1",
    "int16": "<i2",
    "int32": "<i4",
    "int64": "<i8",
    "uint8": "u1",
    "uint16": "<u2",
    "uint32": "<u4",
    "uint64": "<u8",
    "bool": "?",
}
"""What a type is decoded to: bfloat16 to its bits, int4 (two to a byte) to int8."""


def stored_bytes(count: int, dtype: str) -> int:
    """Bytes of so many elements as they are stored."""
    import numpy as np

    return (count + 1) // 2 if dtype == "int4" else count * np.dtype(NUMPY[dtype]).itemsize
