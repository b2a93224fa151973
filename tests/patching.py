"""Changing single numbers in a model's file, so that it becomes a damaged one.

The bytes are copied, a few numbers in them are changed, and what needs more room is appended. Two
rules of flatbuffers shape this: an offset to a vector or table only points forward, so what is
appended can be pointed to but cannot point back; and tables share their vtables, so one is never
changed but copied.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pytest_sparsity.model import Model, replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ALIGNMENT = 16  # of buffers: FORCE_ALIGN in schema.fbs

# Byte offsets of fields within a vtable: 4 + 2 * their position in schema.fbs, fixed for ever.
MODEL_OPERATOR_CODES = 6
MODEL_SUBGRAPHS = 8
MODEL_BUFFERS = 12
GRAPH_TENSORS = 4
GRAPH_OUTPUTS = 8
GRAPH_OPERATORS = 10
OPERATOR_CODE_INDEX = 4
OPERATOR_INPUTS = 6
TENSOR_SPARSITY = 16
CODE_VERSION = 8


class Patch:
    """A copy of a model's bytes, its tables found by position; `Model` has verified them."""

    def __init__(self, model: Model) -> None:
        self.data = bytearray(model.data)
        (self.root,) = struct.unpack_from("<I", self.data, 0)
        self.vtables: dict[tuple[int, int], int] = {}

    def write(self, path: Path) -> Model:
        """Write the file and read it, which verifies it."""
        replace_file(path, self.data)
        return Model(path)

    # -------------------------------------------------------------------------------- finding

    def vtable(self, table: int) -> int:
        """Position of the vtable."""
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
        """A subgraph."""
        return self.element(self.root, MODEL_SUBGRAPHS, graph)

    def tensor(self, graph: int, tensor: int) -> int:
        """A tensor."""
        return self.element(self.graph(graph), GRAPH_TENSORS, tensor)

    def operator(self, graph: int, operator: int) -> int:
        """An operator."""
        return self.element(self.graph(graph), GRAPH_OPERATORS, operator)

    # ------------------------------------------------------------------------------- changing

    def overwrite(self, position: int, data: bytes) -> None:
        """Write over what is there."""
        self.data[position : position + len(data)] = data

    def point(self, position: int, target: int) -> None:
        """Make the offset at a position point further ahead."""
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
        entries, _ = self.vector(self.root, MODEL_BUFFERS)
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
        kept = [self.target(start + 4 * i) for i in range(count) if i not in removed]
        for i, target in enumerate(kept):
            self.point(start + 4 * i, target)
        self.overwrite(start - 4, struct.pack("<I", len(kept)))
