"""How large a file becomes when its zeros are stored sparsely, and from how many zeros on it pays.

A sparse-encoded tensor stores its non-zero values, one index for each, and one segment for each
row. Its cost per tensor is measured on files of TensorFlow 2.21's converter: a second tensor for
the decoded weights with its name and scales, the DENSIFY operator, and a description of each
dimension.
"""

from __future__ import annotations

import gzip
import math
from bisect import bisect_right
from math import prod
from typing import TYPE_CHECKING

from pytest_sparsity.model import Model
from pytest_sparsity.properties.common import zero_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.model import Graph, Layer
    from pytest_sparsity.properties.common import ModelLike

# Bytes, a least-squares fit to 115 pairs of files (TensorFlow 2.21; perceptrons and CNNs of 1 kB
# to 7 MB, float32, float16, dynamic range and int8, 35 to 99 % zeros), within 1 % of each file.
PER_TENSOR = 151  # and, for each dimension:
PER_DIMENSION = 21.5
PER_INT8_TENSOR = 37.5
PER_BLOCK_TENSOR = 159  # which is decoded by its kernel: no DENSIFY, no second tensor
PER_FILE = 69.5  # the code of DENSIFY, and the conversion metadata that tells of it
PER_FLOAT16_FILE = 61.3  # the converter writes reduced_precision_support a second time
PER_CHANNEL = 12  # a second scale (4 bytes) and zero point (8)
PER_NAME = 8  # the length before a name and what fills it up to a multiple of 4, on average

MIN_SPARSITY = 0.3
"""Share of zeros from which on the converter stores weights sparsely (dense_to_sparse_pass.cc)."""

NAME = 28
"""Characters in the name of a layer's output, where nothing is known of it."""

VALUE_BYTES = {"float32": 4, "float16": 2, "int8": 1}
"""Bytes of a weight, by the types that the converter stores sparsely."""


def sparse_nbytes(shape: Sequence[int], stored: int, dtype: str = "float32", block: int = 1) -> int:
    """Bytes of sparse-encoded weights: values, indices and segments.

    Source: `BuildSparsityParameters` in flatbuffer_export.cc (TensorFlow 2.21).

    Args:
        shape: of the weights in TFLite's layout, the inputs last.
        stored: how many values are stored: the non-zero ones, or all of the blocks that hold one.
        dtype: of the values.
        block: values per block along the inputs, 1 for none.
    """
    *outer, width = shape
    entries = stored // block
    indices = entries * _index_bytes(width // block - 1)
    segments = (prod(outer) + 1) * _index_bytes(entries)
    return stored * VALUE_BYTES[dtype] + indices + segments


def _index_bytes(largest: int) -> int:
    return 1 if largest < 2**8 else 2 if largest < 2**16 else 4


def break_even(
    shape: Sequence[int], dtype: str = "float32", block: int = 1, *, name: int = NAME
) -> float:
    """The share of zeros from which on storing weights sparsely makes a file no larger.

    It is that of a file with no other sparse-encoded weights; further ones cost a little less.
    Below 0.3 the converter stores weights densely anyway.

    Args:
        shape: of the weights in TFLite's layout, the inputs last.
        dtype: `"float32"`, `"float16"` or `"int8"`.
        block: values per block along the inputs, 1 for none.
        name: characters in the name of the layer's output, after which the converter names the
            weights and their decoded copy.

    Returns:
        Between 0 and 1, or infinity if no number of zeros pays.
    """
    depthwise = len(shape) == 4 and shape[0] == 1
    scales = (shape[-1] if depthwise else shape[0]) if dtype == "int8" else 0
    cost = overhead(len(shape), dtype, block, scales=scales, output=name, weights=name)
    cost += PER_FILE * (block == 1) + PER_FLOAT16_FILE * (dtype == "float16")
    elements = prod(shape)
    room = elements * VALUE_BYTES[dtype] - cost
    blocks = range(elements // block + 1)
    fitting = bisect_right(
        blocks, room, key=lambda n: sparse_nbytes(shape, n * block, dtype, block)
    )
    return math.inf if fitting == 0 else 1 - (fitting - 1) * block / elements


def overhead(
    rank: int,
    dtype: str,
    block: int,
    *,
    scales: int = 0,
    output: int = NAME,
    weights: int = NAME,
) -> float:
    """Bytes that storing one tensor sparsely costs beside its values, indices and segments.

    Args:
        rank: dimensions of the weights.
        dtype: of the values.
        block: values per block along the inputs, 1 for none.
        scales: of quantized weights.
        output: characters in the name of the layer's output, after which the converter names the
            weights and, without blocks, their decoded copy.
        weights: characters in the name that the weights had.
    """
    if block > 1:
        return PER_BLOCK_TENSOR + _names_cost(output, weights, copies=1)
    quantized = PER_INT8_TENSOR * (dtype == "int8") + PER_CHANNEL * scales
    return PER_TENSOR + PER_DIMENSION * rank + quantized + _names_cost(output, weights, copies=2)


def _names_cost(output: int, weights: int, copies: int) -> int:
    """Bytes of the new names, which the converter makes of the output's name, less the old one."""
    return copies * (output + PER_NAME) - (weights + PER_NAME)


def block_of(encoding: str) -> int:
    """Values per block of a `Layer.encoding`."""
    return int(encoding.rpartition("x")[2]) if encoding.startswith("block") else 1


def encoding_growth(layer: Layer, scales: int = 0) -> float:
    """Bytes by which a file has grown, mostly negative, since one layer is stored sparsely.

    Args:
        layer: one that is stored sparsely.
        scales: of its weights, if they are quantized.
    """
    block = block_of(layer.encoding)
    dense = layer.parameters * VALUE_BYTES[layer.dtype]
    return layer.nbytes + overhead(len(layer.shape), layer.dtype, block, scales=scales) - dense


def predicted_nbytes(pruned: ModelLike, sparse: ModelLike) -> int:
    """The size that a file with sparsely stored weights should have.

    Args:
        pruned: the file with the same weights stored densely.
        sparse: the file; only which of its layers are encoded, and how, is looked at.
    """
    pruned, sparse = Model.of(pruned), Model.of(sparse)
    total, encoded = float(pruned.nbytes), set()
    for dense_layer, layer in zip(pruned.layers, sparse.layers, strict=True):
        if layer.encoding != "dense":
            total += _growth(pruned, dense_layer, layer.encoding)
            encoded.add((layer.encoding == "sparse", layer.dtype))
    if encoded:
        total += sum(map(_joined_names, pruned.graphs))
    total += PER_FILE * any(densified for densified, _ in encoded)
    total += PER_FLOAT16_FILE * any(dtype == "float16" for _, dtype in encoded)
    return round(total)


def _growth(pruned: Model, layer: Layer, encoding: str) -> float:
    """Bytes by which a file grows, mostly negative, if a layer is stored in an encoding."""
    import numpy as np

    block = block_of(encoding)
    weights = pruned.weights(layer.tensor, layer.graph)
    width = layer.shape[-1] // block * block
    blocks = weights[..., :width].reshape(-1, block)
    stored = block * int(np.count_nonzero((blocks != zero_of(pruned, layer)).any(axis=1)))
    graph = pruned.graphs[layer.graph]
    tensor = graph.tensors[layer.tensor]
    reader = next(o for o in graph.operators if layer.tensor in o.inputs)
    names = {"output": len(graph.tensors[reader.outputs[0]].name), "weights": len(tensor.name)}
    sparse = sparse_nbytes(layer.shape, stored, layer.dtype, block)
    cost = overhead(len(layer.shape), layer.dtype, block, scales=len(tensor.scales), **names)
    return sparse - layer.nbytes + cost


def _joined_names(graph: Graph) -> int:
    """Bytes by which names grow: the pass names each of several outputs of an operator after all.

    For example `split;split1;split2` and `split;split1;split21`.
    """
    grown = 0
    for operator in graph.operators:
        if len(operator.outputs) > 1:
            lengths = [len(graph.tensors[index].name) for index in operator.outputs]
            grown += len(lengths) * (sum(lengths) + len(lengths)) - sum(lengths)
    return grown


def gzip_nbytes(model: ModelLike, level: int = 9) -> int:
    """Bytes of a file after gzip, the size that is downloaded or shipped in a package."""
    return len(gzip.compress(Model.of(model).data, level, mtime=0))
