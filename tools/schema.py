"""Make `pytest_sparsity/model/schema.json` from TFLite's schema.

    python tools/schema.py SCHEMA.fbs REVISION

SCHEMA.fbs is `tflite/converter/schema/schema.fbs` of google-ai-edge/LiteRT, REVISION the commit
that it is from. The result holds what a reader and a writer of flatbuffers need and nothing else:
names and numbers of the enums, members of the unions, and for every table its fields in the order
of their slots. A field is `name:type`, with `=DEFAULT` where that is not zero, and `@BYTES` where a
vector is aligned more strictly than its elements; types are written as in the schema.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

DEFINITION = re.compile(
    r"(enum|union|table)\s+(\w+)\s*(?::\s*(\w+))?\s*(?:\(.*?\))?\s*\{(.*?)\}", re.DOTALL
)
FIELD = re.compile(r"(\w+)\s*:\s*(\[?\w+\]?)\s*(?:=\s*([-\w.]+))?\s*(?:\((.*?)\))?$", re.DOTALL)

LATER = {
    "BlockwiseQuantization": ["block_shape: [int]"],
    "FullyConnectedOptions": ["quant_spec: [ubyte]"],
}
"""Fields that a release has and that revision has not: of ai-edge-litert 2.3.0."""


def parse(text: str) -> dict[str, Any]:
    """The definitions of a schema."""
    text = re.sub(r"//[^\n]*", "", text)
    enums: dict[str, dict[str, int]] = {}
    unions: dict[str, list[str]] = {}
    tables: dict[str, list[str]] = {}
    types: dict[str, str] = {}
    for kind, name, base, body in DEFINITION.findall(text):
        separator = ";" if kind == "table" else ","
        members = [part.strip() for part in body.split(separator) if part.strip()]
        if kind == "enum":
            enums[name], types[name] = _numbers(members), base
        elif kind == "union":
            unions[name] = [member.split()[0] for member in members]
        else:
            tables[name] = members
    slots = {name: [_field(f, enums) for f in fields] for name, fields in tables.items()}
    return {"types": types, "enums": enums, "unions": unions, "tables": slots}


def _numbers(members: list[str]) -> dict[str, int]:
    """Values of an enum; one without a number follows the one before."""
    numbers: dict[str, int] = {}
    following = 0
    for member in members:
        name, _, number = re.sub(r"\(.*\)", "", member).partition("=")
        following = int(number) if number.strip() else following
        numbers[name.strip()] = following
        following += 1
    return numbers


def _field(declaration: str, enums: dict[str, dict[str, int]]) -> str:
    found = FIELD.match(declaration)
    if found is None:
        raise SystemExit(f"cannot read the field {declaration!r}")
    name, kind, default, attributes = found.groups()
    words = {"true": 1, "false": 0, **enums.get(kind, {})}
    value = words.get(default, default) if default else 0
    alignment = re.search(r"force_align:\s*(\d+)", attributes or "")
    written = f"{name}:{kind}"
    if value not in (0, "0"):
        written += f"={value}"
    return written + (f"@{alignment.group(1)}" if alignment else "")


def main() -> None:
    source, revision = sys.argv[1:]
    schema = parse(Path(source).read_text())
    for table, fields in LATER.items():
        schema["tables"][table] += [_field(field, {}) for field in fields]
    found = {"source": f"google-ai-edge/LiteRT {revision}", **schema}
    target = Path(__file__).parent.parent / "pytest_sparsity" / "model" / "schema.json"
    target.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
