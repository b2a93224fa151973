"""Make `pytest_sparsity/model/operator_releases.json` from TFLite's list of versions.

    python tools/operator_releases.py runtime_version.cc REVISION

runtime_version.cc is that of `tflite/converter/tools/versioning` in google-ai-edge/LiteRT, REVISION
the commit that it is from. The result holds, for every builtin operator, the TensorFlow
Lite that brought its version 1, 2, ..., or null for a version that the list does not have.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ENTRY = re.compile(r'\{\{BuiltinOperator_(\w+),\s*(\d+)\},\s*"([\d.]+)"\}')


def parse(text: str) -> dict[str, list[str | None]]:
    """Releases by operator."""
    found: dict[str, dict[int, str]] = {}
    for op, version, release in ENTRY.findall(re.sub(r"//[^\n]*", "", text)):
        found.setdefault(op, {})[int(version)] = release
    return {
        op: [releases.get(version) for version in range(1, max(releases) + 1)]
        for op, releases in sorted(found.items())
    }


def main() -> None:
    """Write the file."""
    source, revision = sys.argv[1:]
    releases = parse(Path(source).read_text(encoding="utf-8"))
    lines = [f"  {json.dumps(op)}: {json.dumps(found)}" for op, found in releases.items()]
    path = Path(__file__).parents[1] / "pytest_sparsity/model/operator_releases.json"
    head = f'{{\n "source": "google-ai-edge/LiteRT {revision}",\n "releases": {{\n'
    path.write_text(head + ",\n".join(lines) + "\n }\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
