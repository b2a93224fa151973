"""A model rewritten: the same network with its weights stored in another way.

Everything else stays as it was: names, order, metadata, signatures (see `patch`).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pytest_sparsity.errors import ModelError
from pytest_sparsity.twin.patch import (
    CODE_VERSION,
    GRAPH_OPERATORS,
    GRAPH_OUTPUTS,
    MODEL_OPERATOR_CODES,
    OPERATOR_CODE_INDEX,
    OPERATOR_INPUTS,
    TENSOR_SPARSITY,
    Patch,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import TypeAlias

    from pytest_sparsity.encoding import Array
    from pytest_sparsity.model import Graph, Model, Operator, Tensor

    Replacements: TypeAlias = (
        Mapping[int, Array]
        | Mapping[tuple[int, int], Array]
        | Mapping[int | tuple[int, int], Array]
    )

SMALLEST_NORMAL = 1 << 23  # the bits of the smallest positive normal float32
SPARSE_FULLY_CONNECTED = 8  # version of FULLY_CONNECTED with sparse weights (op_version.cc)


def densified(model: Model, path: Path) -> Model:
    """The model with every sparse-encoded tensor stored densely and without DENSIFY.

    Tensors keep their indices; the outputs of the removed operators stay behind, unused. The file
    is larger than what the converter writes for dense weights, since the encoded ones remain in
    it, unreachable.

    Args:
        model: any model; one without sparse-encoded tensors is copied.
        path: of the file to write, which is replaced if it exists.

    Raises:
        ModelError: the encoding of a tensor is inconsistent, or its values are shared with a
            tensor that is described otherwise.
    """
    patch = Patch(model)
    for buffer, values in _decoded_buffers(model):
        patch.replace_buffer(buffer, values)
    _lower_fully_connected(patch, model)
    for g, graph in enumerate(model.graphs):
        sparse = {t.index for t in graph.tensors if t.sparsity is not None}
        for tensor in sorted(sparse):
            patch.remove_field(patch.tensor(g, tensor), TENSOR_SPARSITY)
        _remove_densify(patch, g, graph, sparse)
    return patch.write(path)


def flushed(model: Model, path: Path) -> Model:
    """The model with every subnormal float32 constant set to zero, keeping its sign.

    float16 constants stay: as float32, in which they are used, they are not subnormal.

    Raises:
        ModelError: values to be changed are shared with a tensor of another type.
    """
    import numpy as np

    patch = Patch(model)
    for start, sharers in _sharers(model).items():
        types = {tensor.dtype for tensor in sharers.values()}
        if "float32" not in types:
            continue
        stored = model.stored(next(iter(sharers.values())).buffer)
        bits = stored[: stored.size // 4 * 4].view("<u4")
        magnitude = bits & 0x7FFFFFFF
        subnormal = (magnitude > 0) & (magnitude < SMALLEST_NORMAL)
        if subnormal.any() and len(types) > 1:
            raise ModelError(f"{model.path}: {_names(sharers.values())} share values, not a type")
        patch.overwrite(start, np.where(subnormal, bits & 0x80000000, bits).tobytes())
    return patch.write(path)


def replace_weights(model: Model, weights: Replacements, path: Path) -> Model:
    """The model with other values in some of its densely stored constants.

    Args:
        model: any model.
        weights: new values by tensor index in the main graph, or by (graph, tensor); each of the
            shape and dtype of the tensor as stored.
        path: of the file to write, which is replaced if it exists.

    Raises:
        ValueError: a tensor is not a constant, is sparse-encoded, or has another shape or dtype.
        ModelError: the file stores one copy of values for several tensors, which are not all
            replaced by the same new ones.
    """
    import numpy as np

    new: dict[tuple[int, int], Array] = {}
    for key, values in weights.items():
        g, index = key if isinstance(key, tuple) else (0, key)
        _check_replacement(model.graphs[g].tensors[index], values)
        new[g, index] = np.ascontiguousarray(values)
    patch = Patch(model)
    for start, sharers in _sharers(model).items():
        wanted = {new[key].tobytes() if key in new else None for key in sharers}
        if wanted == {None}:
            continue
        if len(wanted) > 1:
            names = _names(sharers.values())
            raise ModelError(f"{model.path}: {names} share their values and would become different")
        patch.overwrite(start, wanted.pop() or b"")
    return patch.write(path)


def _check_replacement(tensor: Tensor, values: Array) -> None:
    if not tensor.constant or tensor.sparsity is not None:
        raise ValueError(f"tensor {tensor.name!r} is not a densely stored constant")
    if values.shape != tensor.shape or values.dtype.name != tensor.dtype:
        raise ValueError(
            f"tensor {tensor.name!r} is {tensor.dtype} {tensor.shape}, "
            f"not {values.dtype.name} {values.shape}"
        )


def _sharers(model: Model) -> dict[int, dict[tuple[int, int], Tensor]]:
    """The constants that store values, by where in the file those are, then by (graph, tensor)."""
    by_start: dict[int, dict[tuple[int, int], Tensor]] = {}
    for g, graph in enumerate(model.graphs):
        for tensor in graph.tensors:
            start, length = model.span(tensor.buffer)
            if length:
                by_start.setdefault(start, {})[g, tensor.index] = tensor
    return by_start


def _names(tensors: Iterable[Tensor]) -> str:
    return "the tensors " + ", ".join(repr(tensor.name) for tensor in tensors)


def _decoded_buffers(model: Model) -> Iterator[tuple[int, bytes]]:
    """The buffers of sparse-encoded tensors, with the dense values."""
    users: dict[int, dict[tuple[int, int], Tensor]] = {}
    for g, graph in enumerate(model.graphs):
        for tensor in graph.tensors:
            users.setdefault(tensor.buffer, {})[g, tensor.index] = tensor
    for buffer, tensors in users.items():
        sparse = [(key, t) for key, t in tensors.items() if t.sparsity is not None]
        if not sparse:
            continue
        values = {model.weights(index, g).tobytes() for (g, index), _ in sparse}
        if len(values) > 1 or len(sparse) < len(tensors):
            names = _names(tensors.values())
            raise ModelError(f"{model.path}: {names} share stored values but not what they mean")
        yield buffer, values.pop()


def _remove_densify(patch: Patch, g: int, graph: Graph, sparse: set[int]) -> None:
    """Drop the DENSIFY of sparse-encoded tensors and give their consumers the tensors instead."""
    removed = [o for o in graph.operators if o.op == "DENSIFY" and o.inputs[0] in sparse]
    instead = {o.outputs[0]: o.inputs[0] for o in removed}
    for operator in graph.operators:
        patch.replace_numbers(patch.operator(g, operator.index), OPERATOR_INPUTS, instead)
    patch.replace_numbers(patch.graph(g), GRAPH_OUTPUTS, instead)
    patch.remove_elements(patch.graph(g), GRAPH_OPERATORS, {o.index for o in removed})


def _lower_fully_connected(patch: Patch, model: Model) -> None:
    """Give FULLY_CONNECTED the version that dense weights need.

    All uses of an operator share one code, with the version of the most demanding one. At the
    version for sparse weights XNNPACK refuses them all (xnnpack_delegate.cc, TensorFlow 2.21).
    """
    needed: dict[int, int] = {}
    for g, graph in enumerate(model.graphs):
        for operator in graph.operators:
            if operator.op == "FULLY_CONNECTED" and operator.version == SPARSE_FULLY_CONNECTED:
                code = patch.scalar(patch.operator(g, operator.index), OPERATOR_CODE_INDEX)
                version = dense_fully_connected_version(graph, operator)
                needed[code] = max(version, needed.get(code, 1))
    for code, version in needed.items():
        table = patch.element(patch.root, MODEL_OPERATOR_CODES, code)
        patch.overwrite(patch.field(table, CODE_VERSION), struct.pack("<i", version))


def dense_fully_connected_version(graph: Graph, operator: Operator) -> int:
    """The version of FULLY_CONNECTED that dense weights need (op_version.cc, TensorFlow 2.21)."""
    x, weights = (graph.tensors[i].dtype for i in operator.inputs[:2])
    if len(operator.inputs) == 2:
        return 6
    if operator.options.get("keep_num_dims"):
        return 5
    if (x, weights) == ("int8", "int8"):
        return 4
    if (x, weights) == ("float32", "int8"):
        return 9 if operator.options.get("asymmetric_quantize_inputs") else 3
    return 1
