"""A model rewritten: the same network with its weights stored in another way.

The file is not taken apart and put together again. Its bytes are copied, a few numbers in them are
changed, and what needs more room is appended, so that everything else stays as it was: names,
order, metadata, signatures. Two rules of flatbuffers shape this: an offset to a vector or table
only points forward, so what is appended can be pointed to but cannot point back; and tables share
their vtables, so one is never changed but copied.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pytest_sparsity.errors import ModelError
from pytest_sparsity.model import Model, replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest_sparsity.encoding import Array
    from pytest_sparsity.model import Graph, Operator, Tensor

ALIGNMENT = 16  # of buffers: FORCE_ALIGN in schema.fbs
SPARSE_FULLY_CONNECTED = 8  # version of FULLY_CONNECTED with sparse weights (op_version.cc)

# Byte offsets of fields within a vtable: 4 + 2 * their position in schema.fbs, fixed for ever.
_MODEL_OPERATOR_CODES = 6
_MODEL_SUBGRAPHS = 8
_MODEL_BUFFERS = 12
_GRAPH_TENSORS = 4
_GRAPH_OUTPUTS = 8
_GRAPH_OPERATORS = 10
_OPERATOR_CODE_INDEX = 4
_OPERATOR_INPUTS = 6
_TENSOR_SPARSITY = 16
_CODE_VERSION = 8


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
    patch = _Patch(model)
    for buffer, values in _decoded_buffers(model).items():
        patch.replace_buffer(buffer, values)
    for g, graph in enumerate(model.graphs):
        sparse = {t.index for t in graph.tensors if t.sparsity is not None}
        for tensor in sorted(sparse):
            patch.remove_field(patch.tensor(g, tensor), _TENSOR_SPARSITY)
        _remove_densify(patch, g, graph, sparse)
    _lower_fully_connected(patch, model)
    return patch.write(path)


def flushed(model: Model, path: Path) -> Model:
    """The model with every subnormal float32 constant set to zero, keeping its sign.

    float16 constants stay: as float32, in which they are used, they are not subnormal.

    Raises:
        ModelError: values to be changed are shared with a tensor of another type.
    """
    import numpy as np

    patch = _Patch(model)
    for sharers in _sharers(model).values():
        if all(tensor.dtype != "float32" for tensor in sharers):
            continue
        stored = model.stored(sharers[0].buffer)
        bits = stored[: stored.size // 4 * 4].view("<u4")
        magnitude = bits & 0x7FFFFFFF
        subnormal = (magnitude > 0) & (magnitude < 0x00800000)
        if not subnormal.any():
            continue
        if any(tensor.dtype != "float32" for tensor in sharers):
            raise ModelError(f"{model.path}: {_names(sharers)} of different types share values")
        start, _ = model.span(sharers[0].buffer)
        patch.overwrite(start, np.where(subnormal, bits & 0x80000000, bits).tobytes())
    return patch.write(path)


def replace_weights(
    model: Model, weights: Mapping[int | tuple[int, int], Array], path: Path
) -> Model:
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
    patch = _Patch(model)
    for start, sharers in _sharers_with_keys(model).items():
        wanted = {new[key].tobytes() if key in new else None for key, _ in sharers}
        if wanted == {None}:
            continue
        if len(wanted) > 1:
            names = _names([tensor for _, tensor in sharers])
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


def _sharers_with_keys(model: Model) -> dict[int, list[tuple[tuple[int, int], Tensor]]]:
    """The constants that store values, with (graph, tensor), by where in the file they are."""
    by_start: dict[int, list[tuple[tuple[int, int], Tensor]]] = {}
    for g, graph in enumerate(model.graphs):
        for tensor in graph.tensors:
            start, length = model.span(tensor.buffer)
            if length:
                by_start.setdefault(start, []).append(((g, tensor.index), tensor))
    return by_start


def _sharers(model: Model) -> dict[int, list[Tensor]]:
    return {
        start: [tensor for _, tensor in entries]
        for start, entries in _sharers_with_keys(model).items()
    }


def _names(tensors: list[Tensor]) -> str:
    return "the tensors " + ", ".join(repr(tensor.name) for tensor in tensors)


def _decoded_buffers(model: Model) -> dict[int, bytes]:
    """Dense values by buffer, for the buffers of sparse-encoded tensors."""
    decoded: dict[int, bytes] = {}
    users: dict[int, list[Tensor]] = {}
    for g, graph in enumerate(model.graphs):
        for tensor in graph.tensors:
            users.setdefault(tensor.buffer, []).append(tensor)
            if tensor.sparsity is None:
                continue
            values = model.weights(tensor.index, g).tobytes()
            if decoded.setdefault(tensor.buffer, values) != values:
                raise ModelError(f"{model.path}: {_names(users[tensor.buffer])} share one buffer")
    for buffer in decoded:
        if any(tensor.sparsity is None for tensor in users[buffer]):
            raise ModelError(f"{model.path}: {_names(users[buffer])} share one buffer")
    return decoded


def _remove_densify(patch: _Patch, g: int, graph: Graph, sparse: set[int]) -> None:
    """Drop the DENSIFY of sparse-encoded tensors and give their consumers the tensors instead."""
    removed = [o for o in graph.operators if o.op == "DENSIFY" and o.inputs[0] in sparse]
    instead = {o.outputs[0]: o.inputs[0] for o in removed}
    for operator in graph.operators:
        patch.replace_numbers(patch.operator(g, operator.index), _OPERATOR_INPUTS, instead)
    patch.replace_numbers(patch.graph(g), _GRAPH_OUTPUTS, instead)
    patch.remove_elements(patch.graph(g), _GRAPH_OPERATORS, {o.index for o in removed})


def _lower_fully_connected(patch: _Patch, model: Model) -> None:
    """Give FULLY_CONNECTED the version that dense weights need.

    All uses of an operator share one code, with the version of the most demanding one. At the
    version for sparse weights XNNPACK refuses them all (xnnpack_delegate.cc, TensorFlow 2.21).
    """
    needed: dict[int, int] = {}
    for g, graph in enumerate(model.graphs):
        for operator in graph.operators:
            if operator.op == "FULLY_CONNECTED" and operator.version == SPARSE_FULLY_CONNECTED:
                code = patch.scalar(patch.operator(g, operator.index), _OPERATOR_CODE_INDEX)
                version = dense_fully_connected_version(graph, operator)
                needed[code] = max(version, needed.get(code, 1))
    for code, version in needed.items():
        table = patch.element(patch.root, _MODEL_OPERATOR_CODES, code)
        patch.overwrite(patch.field(table, _CODE_VERSION), struct.pack("<i", version))


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


class _Patch:
    """A copy of a model's bytes, its tables found by position; `Model` has verified them."""

    def __init__(self, model: Model) -> None:
        self.data = bytearray(model.data)
        (self.root,) = struct.unpack_from("<I", self.data, 0)
        self.vtables: dict[tuple[int, int], int] = {}

    def write(self, path: Path) -> Model:
        replace_file(path, self.data)
        return Model(path)

    # -------------------------------------------------------------------------------- finding

    def vtable(self, table: int) -> int:
        (distance,) = struct.unpack_from("<i", self.data, table)
        return table - int(distance)

    def field(self, table: int, slot: int) -> int:
        """Position of a field, 0 if the table does not have it."""
        vtable = self.vtable(table)
        (length,) = struct.unpack_from("<H", self.data, vtable)
        (offset,) = struct.unpack_from("<H", self.data, vtable + slot) if slot < length else (0,)
        return table + int(offset) if offset else 0

    def scalar(self, table: int, slot: int) -> int:
        """An unsigned 32-bit number, 0 if absent."""
        field = self.field(table, slot)
        return int(struct.unpack_from("<I", self.data, field)[0]) if field else 0

    def vector(self, table: int, slot: int) -> tuple[int, int]:
        """Position of the first element, and how many there are."""
        field = self.field(table, slot)
        if not field:
            return 0, 0
        start = self.target(field)
        return start + 4, struct.unpack_from("<I", self.data, start)[0]

    def target(self, position: int) -> int:
        """What the offset at a position points to."""
        return position + int(struct.unpack_from("<I", self.data, position)[0])

    def element(self, table: int, slot: int, index: int) -> int:
        """A table in a vector of tables."""
        return self.target(self.vector(table, slot)[0] + 4 * index)

    def graph(self, graph: int) -> int:
        return self.element(self.root, _MODEL_SUBGRAPHS, graph)

    def tensor(self, graph: int, tensor: int) -> int:
        return self.element(self.graph(graph), _GRAPH_TENSORS, tensor)

    def operator(self, graph: int, operator: int) -> int:
        return self.element(self.graph(graph), _GRAPH_OPERATORS, operator)

    # ------------------------------------------------------------------------------- changing

    def overwrite(self, position: int, data: bytes) -> None:
        self.data[position : position + len(data)] = data

    def point(self, position: int, target: int) -> None:
        self.overwrite(position, struct.pack("<I", target - position))

    def append(self, data: bytes, alignment: int, before: int = 0) -> int:
        """Position of the appended data, whose byte number `before` is aligned."""
        self.data.extend(bytes(-(len(self.data) + before) % alignment))
        position = len(self.data)
        self.data.extend(data)
        return position

    def replace_buffer(self, buffer: int, values: bytes) -> None:
        """Put a new table with new values in the place of a buffer."""
        # vtable (6 bytes long, table of 8, data at 4), 2 bytes of padding, then the table: the
        # distance back to its vtable and the offset to the values.
        table = self.append(struct.pack("<HHHxxiI", 6, 8, 4, 8, 0), 4) + 8
        length = struct.pack("<I", len(values))
        self.point(table + 4, self.append(length + values, ALIGNMENT, before=len(length)))
        entries, _ = self.vector(self.root, _MODEL_BUFFERS)
        self.point(entries + 4 * buffer, table)

    def remove_field(self, table: int, slot: int) -> None:
        """Give the table a vtable without the field."""
        if not self.field(table, slot):
            return
        old = self.vtable(table)
        if (old, slot) not in self.vtables:
            (length,) = struct.unpack_from("<H", self.data, old)
            vtable = self.data[old : old + length]
            struct.pack_into("<H", vtable, slot, 0)
            self.vtables[old, slot] = self.append(bytes(vtable), 2)
        self.overwrite(table, struct.pack("<i", table - self.vtables[old, slot]))

    def replace_numbers(self, table: int, slot: int, instead: Mapping[int, int]) -> None:
        """In a vector of int32, write other numbers instead of some."""
        start, count = self.vector(table, slot)
        for position in range(start, start + 4 * count, 4):
            (number,) = struct.unpack_from("<i", self.data, position)
            self.overwrite(position, struct.pack("<i", instead.get(number, number)))

    def remove_elements(self, table: int, slot: int, removed: set[int]) -> None:
        """Close up a vector of tables in place; the offsets only grow, so they stay valid."""
        start, count = self.vector(table, slot)
        kept = [t for i, t in enumerate(self._tables(start, count)) if i not in removed]
        for i, target in enumerate(kept):
            self.point(start + 4 * i, target)
        self.overwrite(start - 4, struct.pack("<I", len(kept)))

    def _tables(self, start: int, count: int) -> Iterator[int]:
        return (self.target(start + 4 * i) for i in range(count))
