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

OPERANDS: Mapping[str, int] = {
    **dict.fromkeys(("DENSIFY", "DEQUANTIZE", "QUANTIZE", "RESHAPE", "SOFTMAX"), 1),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "DEPTH_TO_SPACE", "LEAKY_RELU"), 1),
    **dict.fromkeys(("LOGISTIC", "TANH", "RELU", "RELU6", "ELU", "HARD_SWISH", "GELU"), 1),
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM"), 2),
    **dict.fromkeys(("PAD", "MEAN", "SUM", "RESIZE_BILINEAR", "PRELU", "GATHER"), 2),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"), 2),
    "TRANSPOSE_CONV": 3,
}
"""How many leading inputs must be there; whoever reads an Operator may rely on them."""

WEIGHTS_RANK = {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 4, "TRANSPOSE_CONV": 4, "FULLY_CONNECTED": 2}

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
