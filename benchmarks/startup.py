"""What the plugin costs a pytest session that does not use it.

    python benchmarks/startup.py [--pairs 60] [--limit 0.03]

Runs an empty session with and without the plugin (`-p no:sparsity`), in pairs whose order is
random, and prints the median of the paired differences with its exact 95 % interval. Modules are
compiled beforehand, as they are for every user. The limit is on CPU time: on a busy machine wall
time measures the neighbours.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def session(folder: str, *arguments: str) -> tuple[float, float]:
    """Return the wall and CPU seconds of one pytest session that collects nothing."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, folder]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    outcome = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=environment
    )
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if outcome.returncode != 5:  # "no tests were collected"
        raise SystemExit(f"pytest failed:\n{outcome.stdout}{outcome.stderr}")
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the order statistics that enclose the median with at least 95 %."""
    ordered, n = sorted(values), len(values)
    below, rank = 0.5**n, 0
    while below + math.comb(n, rank + 1) * 0.5**n <= 0.025:
        rank += 1
        below += math.comb(n, rank) * 0.5**n
    return ordered[rank], ordered[n - 1 - rank]


def differences(pairs: int) -> dict[str, tuple[float, float, float, float]]:
    """Return, of wall and CPU time: what the plugin adds, its interval, and the time without it."""
    kinds = {"with": (), "without": ("-p", "no:sparsity")}
    rows: list[dict[str, tuple[float, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        session(folder)  # compiles everything
        for _ in range(pairs):
            order = random.sample(sorted(kinds), len(kinds))
            rows.append({kind: session(folder, *kinds[kind]) for kind in order})
    found = {}
    for index, clock in enumerate(("wall", "CPU")):
        values = [row["with"][index] - row["without"][index] for row in rows]
        total = statistics.median(row["without"][index] for row in rows)
        found[clock] = (statistics.median(values), *interval(values), total)
    return found


def measure() -> dict[str, float]:
    """Return the figures that are compared with those of other commits."""
    return {"added CPU ms": 1000 * differences(20)["CPU"][0]}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--limit", type=float, default=0.03, help="seconds")
    options = parser.parse_args()
    found = differences(options.pairs)
    for clock, (median, low, high, total) in found.items():
        print(
            f"{clock} time: {1000 * median:+.1f} ms, 95 % interval "
            f"[{1000 * low:.1f}, {1000 * high:.1f}], on top of {1000 * total:.0f} ms "
            f"({options.pairs} pairs)"
        )
    return int(found["CPU"][0] > options.limit)


if __name__ == "__main__":
    raise SystemExit(main())
