"""Storing zeros sparsely: any file with zeros in its weights, tensor by tensor where it pays.

What TensorFlow's converter does with `Optimize.EXPERIMENTAL_SPARSITY`, without its faults: it
rounds down the number of blocks and loses columns, leaves out DENSIFY where float16 weights come in
blocks, encodes what then is larger, and writes files that runtimes refuse to load
(dense_to_sparse_pass.cc, TensorFlow 2.21).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity import encoding
from pytest_sparsity.model import Model
from pytest_sparsity.model.tables import sparsity_table
from pytest_sparsity.transform.edit import Edit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike
    from typing import TypeAlias

    from pytest_sparsity.encoding import Array, Sparsity
    from pytest_sparsity.model import Graph, Operator, Tensor

    Key: TypeAlias = tuple[int, int]

CONVOLUTIONS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"})
LAYERS = CONVOLUTIONS | {"FULLY_CONNECTED"}
BLOCKS = {"float32": 4, "int8": 16}
"""Weights per block that FULLY_CONNECTED has a kernel for (fully_connected.cc, LiteRT 2.3)."""

MOSTLY_ZERO = 0.9
"""Share of zero blocks from which on that kernel beats dense ones on every runtime: at 90 % it is
1.6 (tflite-runtime 2.14) to 2.6 times (tensorflow 2.21) as fast, at 80 % 0.7 to 1.3 times."""

IN_BLOCKS, IN_BLOCKS_INT8 = 0.9, 0.8
"""Zero blocks per zero weight above which zeros count as blocks (dense_to_sparse_pass.cc)."""

SPARSE_VERSION = 8  # of FULLY_CONNECTED, for weights in blocks (op_version.cc, TensorFlow 2.21)
AROUND = 400  # bytes of tables for an encoded tensor and its DENSIFY; 150 to 350 were seen
FEWEST_ZEROS = 0.2  # no encoding of any type is smaller with fewer
NEEDED_ZEROS = 2 / 3
"""Of all 1x1 convolutions together, more than this must be zero for XNNPACK to run them sparse."""


@dataclass(frozen=True, eq=False)
class Stored:
    """Weights as they are stored when they are sparse-encoded.

    Attributes:
        block: weights per block, 1 for none.
        values: what is stored of them, in order.
        sparsity: where it belongs.
        saved: bytes by which the file becomes smaller.
    """

    block: int
    values: Array
    sparsity: Sparsity
    saved: int


def encode(model: Model | str | PathLike[str], path: str | PathLike[str]) -> Model:
    """The model with its zeros stored sparsely, where that pays.

    A tensor is encoded if that makes the file smaller, in the way that makes it smallest; blocks
    are taken whatever the size if nine of ten are zero, because there TFLite's own kernel is
    faster. One 1x1 convolution is encoded although it grows if more than two thirds of all their
    weights are zero and nothing else tells XNNPACK to run them sparse.

    These stay dense, because a runtime would refuse the file or compute something else: int8
    weights of a layer with float inputs; int8 weights of FULLY_CONNECTED, unless they come in
    blocks and with one scale; weights with a zero point; weights that others than CONV_2D,
    DEPTHWISE_CONV_2D, TRANSPOSE_CONV and FULLY_CONNECTED read. What is sparse-encoded already
    stays as it is.

    Args:
        model: any model.
        path: of the file to write, which is replaced if it exists.

    Raises:
        ModelError: the model cannot be read, or holds what cannot be kept.
    """
    model = Model.of(model)
    edit = Edit(model)
    for tensors, stored in _choices(model):
        edit.store(tensors, stored.values)
        for g, index in tensors:
            _encode_tensor(edit, g, index, stored)
    edit.remove_unused_codes()
    return edit.write(Path(path))


def _encode_tensor(edit: Edit, g: int, index: int, stored: Stored) -> None:
    tensor = edit.tensor(g, index)
    if stored.block > 1:
        code = edit.code("FULLY_CONNECTED", SPARSE_VERSION)
        for operator in edit.graph(g)["operators"]:
            if index in operator["inputs"]:
                operator["opcode_index"] = code
    else:
        name = tensor["name"] + b"/densified"
        dense = edit.add_tensor(g, name, tensor["shape"], tensor["type"])
        if tensor["quantization"] is not None:
            edit.tensor(g, dense)["quantization"] = tensor["quantization"]
        edit.replace_reads(g, {index: dense})
        edit.add_operator(g, 0, "DENSIFY", [index], [dense])
    tensor["sparsity"] = sparsity_table(stored.sparsity)


# ---------------------------------------------------------------------------- what is encoded


def _choices(model: Model) -> list[tuple[list[Key], Stored]]:
    """Tensors that share values, by (graph, tensor), and how these are to be stored."""
    by_buffer: dict[int, list[Key]] = {}
    for g, graph in enumerate(model.graphs):
        for tensor in graph.tensors:
            if tensor.constant:
                by_buffer.setdefault(tensor.buffer, []).append((g, tensor.index))
    readers = [_readers(graph) for graph in model.graphs]
    found: list[tuple[list[Key], Stored]] = []
    growing: list[tuple[list[Key], Stored]] = []
    for tensors in by_buffer.values():
        uses = {_use(model.graphs[g], index, readers[g]) for g, index in tensors}
        described = {_described(model.graphs[g].tensors[index]) for g, index in tensors}
        if len(uses) != 1 or uses == {""} or len(described) != 1:
            continue
        for stored in _ways(model, tensors, uses.pop())[:1]:
            (found if stored.saved > 0 else growing).append((tensors, stored))
    return found + _hint(model, found, growing)


def _described(tensor: Tensor) -> tuple[object, ...]:
    """What an encoding follows from: tensors of other shapes may have the same bytes."""
    return tensor.shape, tensor.dtype, len(tensor.scales)


def _hint(
    model: Model,
    found: Sequence[tuple[list[Key], Stored]],
    growing: Sequence[tuple[list[Key], Stored]],
) -> list[tuple[list[Key], Stored]]:
    """The one to encode although it grows, so that XNNPACK runs sparse kernels at all."""
    pointwise = [
        layer
        for layer in model.layers
        if layer.graph == 0
        and layer.op == "CONV_2D"
        and layer.shape[1:3] == (1, 1)
        and layer.dtype in {"float32", "float16"}
    ]
    zeros = sum(layer.sparsity * layer.parameters for layer in pointwise)
    enough = zeros > NEEDED_ZEROS * sum(layer.parameters for layer in pointwise)
    told = any(
        key[0] == 0 and stored.block == 1 and stored.values.dtype.kind == "f"
        for tensors, stored in found
        for key in tensors
    )
    if told or not enough or any(layer.encoding == "sparse" for layer in model.layers):
        return []
    wanted = {(0, layer.tensor) for layer in pointwise}
    possible = [choice for choice in growing if wanted & set(choice[0])]
    return sorted(possible, key=lambda choice: -choice[1].saved)[:1]


def _readers(graph: Graph) -> dict[int, list[Operator]]:
    found: dict[int, list[Operator]] = {}
    for operator in graph.operators:
        for index in set(operator.inputs):
            found.setdefault(index, []).append(operator)
    return found


def _use(graph: Graph, index: int, readers: Mapping[int, list[Operator]]) -> str:
    """What weights are used for: "convolution", "linear", "mixed"; "" if they must stay dense."""
    tensor, operators = graph.tensors[index], readers.get(index, [])
    encodable = tensor.dtype in {"float32", "float16", "int8"} and len(tensor.shape) in {2, 4}
    if tensor.sparsity is not None or tensor.variable or not encodable or not prod(tensor.shape):
        return ""
    if index in graph.outputs or any(tensor.zero_points):
        return ""
    if tensor.dtype == "float16":
        return _use_of_float16(graph, operators, readers)
    if not all(_reads_weights(graph, operator, index) for operator in operators):
        return ""
    linear = [operator.op == "FULLY_CONNECTED" for operator in operators]
    if not any(linear):
        return "convolution" if operators else ""
    return "linear" if all(linear) else "mixed"


def _use_of_float16(
    graph: Graph, operators: Sequence[Operator], readers: Mapping[int, list[Operator]]
) -> str:
    """float16 weights are unpacked first, so they cannot come in blocks."""
    if not operators or any(operator.op != "DEQUANTIZE" for operator in operators):
        return ""
    wide = {operator.outputs[0] for operator in operators}
    users = [(index, operator) for index in wide for operator in readers.get(index, [])]
    weights = all(_reads_weights(graph, operator, index) for index, operator in users)
    return "mixed" if users and weights and not wide & set(graph.outputs) else ""


def _reads_weights(graph: Graph, operator: Operator, index: int) -> bool:
    """Whether the operator is a layer, with these as its weights and outputs of their kind."""
    if operator.op not in LAYERS or operator.inputs[1] != index or operator.inputs.count(index) > 1:
        return False
    if operator.options.get("weights_format", "DEFAULT") != "DEFAULT":
        return False
    dtypes = graph.tensors[index].dtype, graph.tensors[operator.outputs[0]].dtype
    return dtypes in {("float32", "float32"), ("int8", "int8")}


def _ways(model: Model, tensors: Sequence[Key], use: str) -> list[Stored]:
    """The ways in which weights can be stored sparsely, the best first."""
    import numpy as np

    g, index = tensors[0]
    tensor = model.graphs[g].tensors[index]
    weights = model.weights(index, g)
    if np.count_nonzero(weights) > (1 - FEWEST_ZEROS) * weights.size:
        return []
    ways = [_stored(weights, block) for block in _blocks(tensor, use)]
    ways = [way for way in ways if _fits(way, weights)]
    return sorted(ways, key=lambda way: (not _mostly_zero_blocks(way, weights), -way.saved))


def _blocks(tensor: Tensor, use: str) -> Iterator[int]:
    linear_int8 = tensor.dtype == "int8" and use != "convolution"
    if not linear_int8:
        yield 1
    block = BLOCKS.get(tensor.dtype)
    one_scale = tensor.dtype != "int8" or len(tensor.scales) == 1
    if use == "linear" and block and tensor.shape[-1] % block == 0 and one_scale:
        yield block


def _stored(weights: Array, block: int) -> Stored:
    values, sparsity = encoding.encode(weights, block)
    after = values.nbytes + sparsity.nbytes + AROUND
    return Stored(block, values, sparsity, weights.nbytes - after)


def _fits(way: Stored, weights: Array) -> bool:
    """Whether the zeros come in such blocks; the converter asks the same."""
    import numpy as np

    zeros = weights.size - np.count_nonzero(weights)
    least = IN_BLOCKS if weights.dtype.kind == "f" else IN_BLOCKS_INT8
    return way.block == 1 or bool(weights.size - way.values.size > least * zeros)


def _mostly_zero_blocks(way: Stored, weights: Array) -> bool:
    return way.block > 1 and way.values.size <= (1 - MOSTLY_ZERO) * weights.size
