"""A model with the same network and its weights stored in another way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.model import Model
from pytest_sparsity.transform.edit import Edit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from os import PathLike
    from pathlib import Path
    from typing import TypeAlias

    from pytest_sparsity.encoding import Array
    from pytest_sparsity.model import Graph, Operator, Tensor

    Key: TypeAlias = tuple[int, int]
    Replacements: TypeAlias = Mapping[int, Array] | Mapping[Key, Array] | Mapping[int | Key, Array]

SMALLEST_NORMAL = 1 << 23  # the bits of the smallest positive normal float32
SPARSE_FULLY_CONNECTED = 8  # version of FULLY_CONNECTED with sparse weights (op_version.cc)


def densify(model: Model | str | PathLike[str], path: Path) -> Model:
    """The model with every sparse-encoded tensor stored densely and without DENSIFY.

    The outputs are the same to the bit wherever the encoded weights are unpacked before they are
    used; a sparse kernel sums in another order. Tensors keep their order; the outputs of the
    removed operators are left out.

    Args:
        model: any model; one without sparse-encoded tensors keeps all that it has.
        path: of the file to write, which is replaced if it exists.

    Raises:
        ModelError: the encoding of a tensor is inconsistent, or its values are shared with a
            tensor that is described otherwise.
    """
    model = Model.of(model)
    edit = Edit(model)
    for sharers in _sparse_by_buffer(model).values():
        for values, tensors in _equal(model, sharers):
            edit.store(tensors, values)
    _lower_fully_connected(edit)
    for g, graph in enumerate(model.graphs):
        sparse = {t.index for t in graph.tensors if t.sparsity is not None}
        for tensor in sparse:
            del edit.tensor(g, tensor)["sparsity"]
        _remove_densify(edit, g, graph, sparse)
    edit.remove_unused_codes()
    return edit.write(path)


def flush(model: Model | str | PathLike[str], path: Path) -> Model:
    """The model with every subnormal float32 constant set to zero, keeping its sign.

    float16 constants stay: as float32, in which they are used, they are not subnormal.
    """
    import numpy as np

    model = Model.of(model)
    edit = Edit(model)
    users: dict[int, list[Key]] = {}
    for g, graph in enumerate(model.graphs):
        for tensor in graph.tensors:
            if tensor.constant and tensor.dtype == "float32":
                users.setdefault(tensor.buffer, []).append((g, tensor.index))
    for buffer, tensors in users.items():
        stored = model.stored(buffer)
        bits = stored[: stored.size // 4 * 4].view("<u4")
        magnitude = bits & 0x7FFFFFFF
        subnormal = (magnitude > 0) & (magnitude < SMALLEST_NORMAL)
        if subnormal.any():
            edit.store(tensors, np.where(subnormal, bits & 0x80000000, bits))
    return edit.write(path)


def widen(model: Model | str | PathLike[str], path: Path) -> Model:
    """The model with float16 constants stored as the float32 that it computes with.

    The outputs are those of before, but for runtimes that compute in float16. A DEQUANTIZE of such
    a constant is gone; sparse-encoded ones stay.
    """
    import numpy as np

    model = Model.of(model)
    edit = Edit(model)
    for g, graph in enumerate(model.graphs):
        halves = {t.index for t in graph.tensors if _is_half(t)}
        unpacking = [o for o in graph.operators if o.op == "DEQUANTIZE" and o.inputs[0] in halves]
        tables = [edit.operator(g, operator.index) for operator in unpacking]
        for operator in unpacking:
            values = model.weights(operator.inputs[0], g).astype(np.float32)
            edit.tensor(g, operator.outputs[0])["buffer"] = edit.add_buffer(values)
        edit.remove_operators(g, tables)
        edit.remove_tensors(g, {operator.inputs[0] for operator in unpacking})
    edit.remove_unused_codes()
    return edit.write(path)


def _is_half(tensor: Tensor) -> bool:
    return tensor.constant and tensor.dtype == "float16" and tensor.sparsity is None


def replace_weights(model: Model | str | PathLike[str], weights: Replacements, path: Path) -> Model:
    """The model with other values in some of its densely stored constants.

    Args:
        model: any model.
        weights: new values by tensor index in the main graph, or by (graph, tensor); each of the
            shape and dtype of the tensor as stored.
        path: of the file to write, which is replaced if it exists.

    Raises:
        ValueError: a tensor is not a constant, is sparse-encoded, or has another shape or dtype.
    """
    import numpy as np

    model = Model.of(model)
    edit = Edit(model)
    for key, values in weights.items():
        g, index = key if isinstance(key, tuple) else (0, key)
        _check_replacement(model.graphs[g].tensors[index], values)
        edit.store([(g, index)], np.ascontiguousarray(values))
    return edit.write(path)


def _check_replacement(tensor: Tensor, values: Array) -> None:
    if not tensor.constant or tensor.sparsity is not None:
        raise ValueError(f"tensor {tensor.name!r} is not a densely stored constant")
    if values.shape != tensor.shape or values.dtype.name != tensor.dtype:
        raise ValueError(
            f"tensor {tensor.name!r} is {tensor.dtype} {tensor.shape}, "
            f"not {values.dtype.name} {values.shape}"
        )


def _sparse_by_buffer(model: Model) -> dict[int, list[Key]]:
    """The sparse-encoded tensors, by (graph, tensor), of each buffer."""
    found: dict[int, list[Key]] = {}
    for g, graph in enumerate(model.graphs):
        for tensor in graph.tensors:
            if tensor.sparsity is not None:
                found.setdefault(tensor.buffer, []).append((g, tensor.index))
    return found


def _equal(model: Model, tensors: Iterable[Key]) -> list[tuple[Array, list[Key]]]:
    """The tensors that have the same decoded values, with these."""
    import numpy as np

    found: list[tuple[Array, list[Key]]] = []
    for g, index in tensors:
        values = model.weights(index, g)
        for known, group in found:
            if known.dtype == values.dtype and np.array_equal(known, values):
                group.append((g, index))
                break
        else:
            found.append((values, [(g, index)]))
    return found


def _remove_densify(edit: Edit, g: int, graph: Graph, sparse: set[int]) -> None:
    """Drop the DENSIFY of sparse-encoded tensors and give their consumers the tensors instead."""
    removed = [o for o in graph.operators if o.op == "DENSIFY" and o.inputs[0] in sparse]
    if removed:
        tables = [edit.operator(g, o.index) for o in removed]
        edit.replace_reads(g, {o.outputs[0]: o.inputs[0] for o in removed})
        edit.remove_operators(g, tables)
        edit.remove_tensors(g, {o.outputs[0] for o in removed})


def _lower_fully_connected(edit: Edit) -> None:
    """Give FULLY_CONNECTED the version that dense weights need.

    All uses of an operator share one code, with the version of the most demanding one. At the
    version for sparse weights XNNPACK refuses them all (xnnpack_delegate.cc, TensorFlow 2.21).
    """
    needed: dict[int, int] = {}
    for g, graph in enumerate(edit.model.graphs):
        for operator in graph.operators:
            if operator.op == "FULLY_CONNECTED" and operator.version == SPARSE_FULLY_CONNECTED:
                code = edit.operator(g, operator.index)["opcode_index"]
                version = dense_fully_connected_version(graph, operator)
                needed[code] = max(version, needed.get(code, 1))
    codes = {code: edit.code("FULLY_CONNECTED", version) for code, version in needed.items()}
    for graph in edit.root["subgraphs"]:
        for operator in graph["operators"]:
            code = operator["opcode_index"]
            operator["opcode_index"] = codes.get(code, code)


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
