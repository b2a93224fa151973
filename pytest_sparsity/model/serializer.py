"""From a flatbuffer's values to the bytes of its file.

Tables and small vectors come first, parents before their children, then the buffers, each aligned,
then what lies behind the flatbuffer, then the tail. Weights are not copied: the file is a list of
pieces, most of which are views of where they came from.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import ModelError
from pytest_sparsity.model import schema
from pytest_sparsity.model.flatbuffer import ALIGNMENT, OUTSIDE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_sparsity.model.flatbuffer import Flatbuffer, Table

SMALL = 256  # bytes of a vector that others may equal
LARGEST = 2**31 - 1  # bytes of a flatbuffer: flatbuffers' own limit (base.h)


def pieces(flatbuffer: Flatbuffer) -> list[Any]:
    """The file's content, as objects like bytes to be written one after the other.

    Raises:
        ModelError: it was read from a file that is not understood whole, or it is too large.
    """
    if flatbuffer.stranger:
        raise ModelError(
            f"the file has {flatbuffer.stranger}, which this version of pytest-sparsity does not "
            "know and would lose: use a newer version"
        )
    return _Serializer().file(flatbuffer)


class _Serializer:
    """Collects the tables in `out`, and aside what comes behind them.

    An offset only points ahead, so vectors and texts come behind all tables. Equal small ones are
    written once, and so is a large one that is one object in several places, as it was read.
    """

    def __init__(self) -> None:
        self.out = bytearray(struct.pack("<I4s", 0, schema.IDENTIFIER))
        self.vtables: dict[bytes, int] = {}
        self.vectors: dict[object, tuple[schema.Field, Any, list[int]]] = {}
        self.outside: list[tuple[int, schema.Field, Any, int, int]] = []

    def file(self, flatbuffer: Flatbuffer) -> list[Any]:
        self.point(0, self.table(flatbuffer.root))
        found: list[Any] = [self.out]
        end = len(self.out)
        for this, values, places in sorted(self.vectors.values(), key=lambda v: v[0].alignment):
            data = _as_bytes(this, values)
            start = end + -(end + 4) % _alignment(this, data.nbytes)
            for place in places:
                self.point(place, start)
            found.append(bytes(start - end) + struct.pack("<I", data.nbytes // _width(this)))
            found.append(data if this.shape == "vector" else bytes(data) + b"\0")
            end = start + 4 + len(found[-1])
        if end > LARGEST:
            raise ModelError(f"the file would hold {end} bytes, a flatbuffer {LARGEST} at most")
        placed: dict[int, tuple[int, int]] = {}
        for _, this, values, offset, size in sorted(self.outside, key=lambda entry: entry[0]):
            if id(values) not in placed:
                data = _as_bytes(this, values)
                start = end + -end % ALIGNMENT
                found += [bytes(start - end), data]
                placed[id(values)], end = (start, data.nbytes), start + data.nbytes
            struct.pack_into("<Q", self.out, offset, placed[id(values)][0])
            struct.pack_into("<Q", self.out, size, placed[id(values)][1])
        return [*found, moved(flatbuffer.tail, flatbuffer.end, end)]

    def align(self, alignment: int, before: int = 0) -> int:
        """Pad until what comes `before` bytes from the end is aligned; where the padding ends."""
        self.out.extend(bytes(-(len(self.out) + before) % alignment))
        return len(self.out)

    def point(self, place: int, target: int) -> None:
        struct.pack_into("<I", self.out, place, target - place)

    def table(self, table: Table) -> int:
        """Write a table and what it refers to; its position."""
        vector, *where = OUTSIDE.get(table.kind, ("", "", ""))
        away = bool(vector) and table[where[0]] > 1
        # A size of 0 may be left out where it is read, but is written over here.
        present = (set(table.fields) - {vector}) | set(where) if away else set(table.fields)
        described = {
            slot: this
            for slot, this in enumerate(schema.fields(table.kind))
            if this.name in present
        }
        unknown = {slot: _widened(number) for slot, number in table.unknown.items()}
        sizes = {slot: this.size for slot, this in described.items()}
        offsets, end = _layout(sizes | {slot: len(number) for slot, number in unknown.items()})
        vtable = self.vtable(offsets, end)
        start = self.align(8, 4) if 8 in sizes.values() or unknown else self.align(4)
        self.out += bytes(end)
        struct.pack_into("<i", self.out, start, start - vtable)
        for slot, number in unknown.items():
            struct.pack_into(f"{len(number)}s", self.out, start + offsets[slot], number)
        for slot, this in described.items():
            self.value(start + offsets[slot], this, table[this.name])
        if away:
            places = {this.name: start + offsets[slot] for slot, this in described.items()}
            offset, size = (places[name] for name in where)
            field = schema.field(table.kind, vector)
            self.outside.append((table[where[0]], field, table.fields[vector], offset, size))
        return start

    def vtable(self, offsets: Mapping[int, int], end: int) -> int:
        """Position of the vtable of a table with fields at these offsets by slot."""
        count = max(offsets, default=-1) + 1
        fields = (offsets.get(slot, 0) for slot in range(count))
        vtable = struct.pack(f"<{2 + count}H", 4 + 2 * count, end, *fields)
        if vtable not in self.vtables:
            self.vtables[vtable] = self.align(2)
            self.out += vtable
        return self.vtables[vtable]

    def value(self, place: int, this: schema.Field, value: Any) -> None:
        """Write a field's number, or what it refers to and the distance to it."""
        if this.shape == "scalar":
            struct.pack_into(f"<{this.of}", self.out, place, value)
        elif this.shape in {"table", "union"}:
            self.point(place, self.table(value))
        elif this.shape == "tables":
            self.point(place, self.tables(value))
        else:
            data = _as_bytes(this, value)
            small = this.alignment < ALIGNMENT and data.nbytes < SMALL
            key = (this.of, bytes(data)) if small else id(value)
            self.vectors.setdefault(key, (this, value, []))[2].append(place)

    def tables(self, tables: list[Table]) -> int:
        start = self.align(4)
        self.out += struct.pack("<I", len(tables)) + bytes(4 * len(tables))
        for i, table in enumerate(tables):
            self.point(start + 4 + 4 * i, self.table(table))
        return start


def _as_bytes(this: schema.Field, values: Any) -> memoryview:
    import numpy as np

    if this.shape == "string":
        return memoryview(values)
    as_they_are = this.alignment == ALIGNMENT  # bytes of a buffer, whatever they mean
    dtype = None if as_they_are else schema.DTYPES[this.of]
    return np.ascontiguousarray(values, dtype).reshape(-1).view(np.uint8).data


def _width(this: schema.Field) -> int:
    return schema.SIZES[this.of] if this.shape == "vector" else 1


def _alignment(this: schema.Field, nbytes: int) -> int:
    """A vector that is smaller than its alignment asks for no more than its size."""
    return max(min(this.alignment, 1 << max(nbytes - 1, 0).bit_length()), 4)


def _widened(number: bytes) -> bytes:
    """A number of a width that can be aligned; only padding comes in between."""
    return number + bytes((1 << (len(number) - 1).bit_length()) - len(number))


def _layout(sizes: Mapping[int, int]) -> tuple[dict[int, int], int]:
    """Offsets by slot within a table, the widest fields first, and where the table ends."""
    offsets, end = {}, 4
    for slot in sorted(sizes, key=lambda slot: (-sizes[slot], slot)):
        offsets[slot] = end
        end += sizes[slot]
    return offsets, end


_ARCHIVE_END = b"PK\5\6"
_ENTRY = b"PK\1\2"


def moved(tail: Any, old: int, new: int) -> bytes:
    """What stands behind the flatbuffer, at another place.

    A zip archive there (labels, licences) says where its entries are from the start of the file,
    if it was appended by Python's zipfile as MediaPipe and TFLite's metadata do, and those numbers
    must change. Source: APPNOTE.TXT of PKWARE, 4.3.12 and 4.3.16.
    """
    data = bytearray(tail)
    end = data.rfind(_ARCHIVE_END)
    if end < 0 or len(data) < end + 22:
        return bytes(data)
    entries, size, directory = struct.unpack_from("<HII", data, end + 10)
    first = end - size
    if directory != old + first:
        return bytes(data)  # counted from the archive's own start, or not an archive at all
    struct.pack_into("<I", data, end + 16, directory + new - old)
    for _ in range(entries):
        if data[first : first + 4] != _ENTRY:
            raise ModelError("the zip archive behind the model is damaged")
        lengths = struct.unpack_from("<HHH", data, first + 28)
        (header,) = struct.unpack_from("<I", data, first + 42)
        struct.pack_into("<I", data, first + 42, header + new - old)
        first += 46 + sum(lengths)
    return bytes(data)
