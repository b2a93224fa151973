"""Print the score of the last `mutmut run`, by module: `tox run -e mutants`.

A mutant is one line of the package that was broken; it is killed if a test failed because of it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

MUTANTS = Path("mutants")
# mutmut's codes: pytest found a failure, or none; no test reaches the line; it took too long.
FATES = {1: "killed", 3: "killed", 0: "survived", 5: "untested", 33: "untested", 34: "skipped"}
TIMEOUT = {24, 36, 152, 255}


def fate(code: int | None) -> str:
    if code is None:
        return "not run"
    if code in TIMEOUT or code < 0:
        return "killed"  # it ran for ever, or crashed
    return FATES.get(code, "suspicious")


def main() -> None:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for file in sorted(MUTANTS.rglob("*.py.meta")):
        codes = json.loads(file.read_text())["exit_code_by_key"].values()
        module = str(file.relative_to(MUTANTS)).removesuffix(".py.meta")
        found[module].update(fate(code) for code in codes)
    columns = ["killed", "survived", "untested", "suspicious", "skipped", "not run"]
    print(f"{'module':45}", *(f"{column:>10}" for column in columns), "   score")
    total: Counter[str] = Counter()
    for module, fates in found.items():
        if fates:
            total += fates
            print(row(module, fates, columns))
    print(row("all", total, columns))


def row(name: str, fates: Counter[str], columns: list[str]) -> str:
    tested = fates["killed"] + fates["survived"] + fates["untested"]
    score = f"{fates['killed'] / tested:7.0%}" if tested else "      -"
    return " ".join([f"{name:45}", *(f"{fates[column]:>10}" for column in columns), score])


if __name__ == "__main__":
    main()
