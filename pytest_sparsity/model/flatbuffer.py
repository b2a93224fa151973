"""A model's flatbuffer as values that can be changed: read whole, written whole, nothing lost.

    flatbuffer = read(data)
    flatbuffer.root["subgraphs"][0]["tensors"][3]["name"] = b"kernel"
    replace_file(path, pieces(flatbuffer))

Vectors of numbers are views of the file, so reading copies no weights. What flatbuffers are is told
in their "Internals" (flatbuffers.dev): a table begins with the distance to its vtable, which tells
where in the table each field is; all but numbers are elsewhere, an unsigned distance ahead.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import ModelError
from pytest_sparsity.model import schema

if TYPE_CHECKING:
    import mmap


MAX_TABLES = 1_000_000  # the limit of flatbuffers' own verifier (verifier.h, Options::max_tables)
ALIGNMENT = 16  # of what lies behind the flatbuffer, and of buffers (force_align in the schema)
CUT_OFF = "the file is cut off or damaged: it points behind its end"

OUTSIDE = {
    "Buffer": ("data", "offset", "size"),
    "Operator": ("custom_options", "large_custom_options_offset", "large_custom_options_size"),
}
"""Vectors that may lie behind the flatbuffer, so that files can exceed 2 GB, and the fields that
say where: an offset from the start of the file, which counts if it is over 1, and the bytes."""


class Table:
    """A table of the schema: its fields by name, those that are absent left out.

    Numbers are Python's; texts are bytes; vectors of numbers are arrays; tables are Tables, and
    several of them a list. Indexing gives the schema's default for what is absent: None for a
    table, nothing for a vector or a text.

    Attributes:
        kind: name of the table in the schema.
        fields: what is present. `table[name] = value` also takes the name of an enum's value, and
            for a union sets its type.
        unknown: numbers in slots that this schema does not know, as bytes.
    """

    __slots__ = ("fields", "kind", "unknown")

    def __init__(self, kind: str, /, **fields: Any) -> None:
        self.kind = kind
        self.fields: dict[str, Any] = {}
        self.unknown: dict[int, bytes] = {}
        for name, value in fields.items():
            self[name] = value

    def __getitem__(self, name: str) -> Any:
        if name in self.fields:
            return self.fields[name]
        return _absent(schema.field(self.kind, name))

    def __setitem__(self, name: str, value: Any) -> None:
        described = schema.field(self.kind, name)
        if described.shape == "union":
            self.fields[f"{name}_type"] = schema.numbers(described.of)[value.kind]
        self.fields[name] = (
            schema.numbers(described.enum)[value] if isinstance(value, str) else value
        )

    def __delitem__(self, name: str) -> None:
        if schema.field(self.kind, name).shape == "union":
            self.fields.pop(f"{name}_type", None)
        self.fields.pop(name, None)

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def __repr__(self) -> str:
        return f"Table({self.kind!r}, {', '.join(self.fields)})"


def _absent(described: schema.Field) -> Any:
    if described.shape == "scalar":
        return described.default
    if described.shape == "string":
        return b""
    if described.shape == "vector":
        import numpy as np

        return np.zeros(0, schema.DTYPES[described.of])
    return () if described.shape == "tables" else None


@dataclass(eq=False)
class Flatbuffer:
    """The content of a model file.

    Attributes:
        root: the table "Model".
        tail: what stands behind the flatbuffer, such as a zip archive with labels.
        end: where in the file the tail starts.
        stranger: what keeps the file from being written again without loss, or "".
    """

    root: Table
    tail: memoryview = field(default_factory=lambda: memoryview(b""))
    end: int = 0
    stranger: str = ""


def read(data: bytes | mmap.mmap) -> Flatbuffer:
    """Read a file's content.

    Raises:
        ModelError, struct.error, ValueError: its offsets or lengths are damaged.
    """
    reader = _Reader(data)
    (start,) = struct.unpack_from("<I", data, 0)
    root = reader.table("Model", start)
    reader.fetch_outside(root)
    end = max(stop for _, stop in reader.claims)
    tail = memoryview(data)[end:]
    if len(tail) < ALIGNMENT and not any(tail):
        tail = tail[:0]
    return Flatbuffer(root, tail, end, reader.stranger())


class _Reader:
    def __init__(self, data: bytes | mmap.mmap) -> None:
        import numpy as np

        self.np = np
        self.data = data
        self.count = 0
        self.claims: list[tuple[int, int]] = [(0, 8)]
        self.leaves: dict[tuple[int, str], Any] = {}
        self.strangers: list[tuple[str, int]] = []  # unknown fields that may be an offset

    def table(self, kind: str, position: int) -> Table:
        self.count += 1
        if self.count > MAX_TABLES:
            raise ValueError(f"more than {MAX_TABLES} tables")
        offsets, size = self.vtable(position)
        self.claims.append((position, position + size))
        table, described = Table(kind), schema.fields(kind)
        found = table.fields
        for this, offset in zip(described, offsets, strict=False):
            if offset:
                value = self.value(this, position + offset, found)
                if value is not None:
                    found[this.name] = value
        if len(offsets) > len(described):
            self.keep_unknown(table, position, offsets, size)
        return table

    def vtable(self, position: int) -> tuple[tuple[int, ...], int]:
        """Where in its table each field is, and how large the table is."""
        (distance,) = struct.unpack_from("<i", self.data, position)
        start = position - distance
        if start < 0:
            raise ValueError(f"a vtable at {start}")
        length, size = struct.unpack_from("<HH", self.data, start)
        if length < 4 or length % 2 or start + length > len(self.data):
            raise ValueError(f"a vtable of {length} bytes at {start}")
        offsets = struct.unpack_from(f"<{length // 2 - 2}H", self.data, start + 4)
        if position + size > len(self.data) or max(offsets, default=0) >= max(size, 4):
            raise ValueError(f"a table of {size} bytes at {position}")
        self.claims.append((start, start + length))
        return offsets, size

    def value(self, this: schema.Field, position: int, found: dict[str, Any]) -> Any:
        if this.shape == "scalar":
            return struct.unpack_from(f"<{this.of}", self.data, position)[0]
        target = position + struct.unpack_from("<I", self.data, position)[0]
        if this.shape == "table":
            return self.table(this.of, target)
        if this.shape == "union":
            return self.union(this, found.get(f"{this.name}_type", 0), target)
        if this.shape == "tables":
            (count,) = struct.unpack_from("<I", self.data, target)
            places = struct.unpack_from(f"<{count}I", self.data, target + 4)
            self.claims.append((target, target + 4 + 4 * count))
            start = target + 4
            return [self.table(this.of, start + 4 * i + n) for i, n in enumerate(places)]
        key = target, this.of
        if key not in self.leaves:
            self.leaves[key] = self.leaf(this, target)
        return self.leaves[key]

    def leaf(self, this: schema.Field, start: int) -> Any:
        """A text or a vector of numbers."""
        (count,) = struct.unpack_from("<I", self.data, start)
        width = schema.SIZES[this.of] if this.of else 1
        stop = start + 4 + width * count
        if stop > len(self.data):
            raise ModelError(CUT_OFF)
        self.claims.append((start, stop + (not this.of)))
        if not this.of:
            return bytes(self.data[start + 4 : stop])
        return self.np.frombuffer(self.data, schema.DTYPES[this.of], count, start + 4)

    def union(self, this: schema.Field, number: int, position: int) -> Table | None:
        kind = schema.names(this.of).get(number)
        if kind is None:
            self.strangers.append((f"a {this.of} of kind {number}", position))
        return None if kind in {None, "NONE"} else self.table(str(kind), position)

    def keep_unknown(
        self, table: Table, position: int, offsets: tuple[int, ...], size: int
    ) -> None:
        bounds = sorted({*offsets, size})
        for slot in range(len(schema.fields(table.kind)), len(offsets)):
            offset = offsets[slot]
            if not offset:
                continue
            width = bounds[bisect_right(bounds, offset)] - offset
            table.unknown[slot] = bytes(self.data[position + offset :][: min(width, 8)])
            if width >= 4:
                (ahead,) = struct.unpack_from("<I", self.data, position + offset)
                what = f"a field {slot} in a table {table.kind}"
                self.strangers.append((what, position + offset + ahead))

    def fetch_outside(self, root: Table) -> None:
        """Give tables the vectors that they have behind the flatbuffer."""
        operators = (o for graph in root["subgraphs"] for o in graph["operators"])
        for table in (*root["buffers"], *operators):
            name, offset, size = OUTSIDE[table.kind]
            start, count = table[offset], table[size]
            if start > 1:
                if start + count > len(self.data):
                    raise ModelError(CUT_OFF)
                key = start, f"outside {count}"
                if key not in self.leaves:
                    self.leaves[key] = self.np.frombuffer(self.data, "u1", count, start)
                table.fields[name] = self.leaves[key]
                self.claims.append((start, start + count))

    def stranger(self) -> str:
        """What of the file is not understood; an unknown number points to what is known or out."""
        if not self.strangers:
            return ""
        claims = sorted({*self.claims, (len(self.data), 1 << 33)})
        for what, target in self.strangers:
            _, stop = claims[bisect_right(claims, (target, 1 << 34)) - 1]
            if stop <= target:
                return what
        return ""
