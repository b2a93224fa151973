"""Many races in one session: what they leave behind.

Run as `python benchmarks/many_races.py [NUMBER] [TARGET]`; 1,000 races on LiteRT by default.
Prints descriptors, children, memory and files before and after, and fails if they have grown.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from pathlib import Path

from pytest_sparsity.errors import Inconclusive
from pytest_sparsity.racing import Controls, race

DATA = Path(__file__).parent.parent / "tests" / "data"
BUDGET = 1.0
# Races before the first count: what is loaded once is loaded by then.
FIRST = 3
# Growth of memory that is none: kilobytes that the allocator keeps.
ALLOWED_KB = 20_000


def counts() -> dict[str, int]:
    """Return what this process holds now."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    children = Path("/proc/self/task")
    return {
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "children": sum(len((t / "children").read_text().split()) for t in children.iterdir()),
        "threads": int(fields["Threads"]),
        "memory, kB": int(fields["VmRSS"].split()[0]),
        "temporary files": sum(
            1 for path in Path(tempfile.gettempdir()).rglob("*") if "pytest-of" not in str(path)
        ),
    }


def main(number: int = 1000, target: str = "litert") -> int:
    """Run the races and compare."""
    models = DATA / "cnn_dense.tflite", DATA / "cnn_sparse.tflite"
    verdicts: dict[str, int] = {}
    before: dict[str, int] = {}
    controls: Controls = {}
    begun = time.monotonic()
    for done in range(number + FIRST):
        if done == FIRST:
            before = counts()
        try:
            result = race(*models, target=target, budget=BUDGET, controls=controls)
            verdict = result.verdict
        except Inconclusive:
            verdict = "inconclusive"
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
        if done % 50 == 0:
            print(f"{done} races, {time.monotonic() - begun:.0f} s", file=sys.stderr)
    after = counts()
    print(f"{number} races on {target}, {time.monotonic() - begun:.0f} s: {verdicts}")
    print(f"{'':16}{'before':>10}{'after':>10}")
    for name, value in before.items():
        print(f"{name:16}{value:10}{after[name]:10}")
    slack = {"memory, kB": ALLOWED_KB}
    grown = [name for name in before if after[name] > before[name] + slack.get(name, 0)]
    print(f"grown: {', '.join(grown)}" if grown else "nothing has grown")
    return bool(grown)


if __name__ == "__main__":
    given = sys.argv[1:]
    raise SystemExit(main(int(given[0]) if given else 1000, *given[1:2]))
