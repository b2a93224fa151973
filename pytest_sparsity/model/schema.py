"""TFLite's schema: tables, their fields and slots, enums and unions.

The data is `schema.json`, which `tools/schema.py` makes from the official schema.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3

Shape: TypeAlias = Literal["scalar", "string", "vector", "table", "tables", "union"]

SCALARS = {
    "bool": "?",
    "byte": "b",
    "ubyte": "B",
    "ushort": "H",
    "int": "i",
    "int32": "i",
    "uint": "I",
    "long": "q",
    "ulong": "Q",
    "float": "f",
}
"""Types of the schema as `struct` writes them."""

DTYPES = {
    "?": "?",
    "b": "i1",
    "B": "u1",
    "H": "<u2",
    "i": "<i4",
    "I": "<u4",
    "q": "<i8",
    "Q": "<u8",
    "f": "<f4",
}
"""What numpy calls the elements of a vector."""

SIZES = {"?": 1, "b": 1, "B": 1, "H": 2, "i": 4, "I": 4, "q": 8, "Q": 8, "f": 4}


@dataclass(frozen=True)
class Field:
    """A field of a table.

    Attributes:
        name: as in the schema; the type of the union `x` is the field `x_type` before it.
        shape: what is stored: a number, text, a vector of numbers, one or several tables, or one of
            several kinds of tables.
        of: the code of a number or of a vector's elements in `struct`; the name of the table or
            the union.
        size: bytes within the table; all but numbers are an offset there.
        default: of a number that is absent.
        alignment: of a vector's first element.
        enum: that a number belongs to, or "".
    """

    name: str
    shape: Shape
    of: str
    size: int = 4
    default: float = 0
    alignment: int = 4
    enum: str = ""


@cache
def _schema() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(Path(__file__).with_name("schema.json").read_bytes())
    return read


@cache
def numbers(enum: str) -> Mapping[str, int]:
    """Numbers by name of an enum, or of a union, in which NONE is 0."""
    unions = _schema()["unions"]
    if enum in unions:
        return {name: number for number, name in enumerate(("NONE", *unions[enum]))}
    found: dict[str, int] = _schema()["enums"][enum]
    return found


@cache
def names(enum: str) -> Mapping[int, str]:
    """Names by number of an enum or a union."""
    return {number: name for name, number in numbers(enum).items()}


@cache
def fields(table: str) -> tuple[Field, ...]:
    """The fields of a table, in the order of their slots."""
    found: list[Field] = []
    for written in _schema()["tables"][table]:
        name, _, rest = written.partition(":")
        rest, _, alignment = rest.partition("@")
        kind, _, default = rest.partition("=")
        found += _field(name, kind, float(default or 0), int(alignment or 0))
    return tuple(found)


@cache
def field(table: str, name: str) -> Field:
    """The field of a table with this name.

    Raises:
        KeyError: there is none.
    """
    found = {described.name: described for described in fields(table)}
    if name not in found:
        raise KeyError(f"{table} has no field {name!r}, it has {', '.join(found)}")
    return found[name]


def _field(name: str, kind: str, default: float, alignment: int) -> list[Field]:
    schema = _schema()
    if kind in schema["unions"]:
        number = Field(f"{name}_type", "scalar", "B", 1, enum=kind)
        return [number, Field(name, "union", kind)]
    if kind == "string":
        return [Field(name, "string", "")]
    element = kind.strip("[]")
    if element in schema["tables"]:
        return [Field(name, "tables" if kind != element else "table", element)]
    enum = element if element in schema["enums"] else ""
    code = SCALARS[schema["types"].get(element, element)]
    if kind != element:
        return [Field(name, "vector", code, alignment=max(4, SIZES[code], alignment))]
    exact = default if code == "f" else bool(default) if code == "?" else int(default)
    return [Field(name, "scalar", code, SIZES[code], exact, enum=enum)]
