"""Runs the benchmarks that take less than a minute; compares with the last run that is committed.

    python benchmarks [--record] [NAMES]

Prints each figure beside the one that `results.json` has of a machine like this one. Times of
different machines are not compared, and those of one machine differ with what else it does: look at
what has grown by half, and run both commits in turns before you believe it. `--record` puts this
run in the place of the machine's last one.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.machine import this_machine

if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES = ("startup", "harness_overhead", "model_reading", "mutations", "report")
RESULTS = Path(__file__).with_name("results.json")


def machine() -> str:
    """Return what has to be the same for times to be compared."""
    here = this_machine()
    return f"{here.brand} ({here.isa}), {here.model}, {here.cores} cores"


def commit() -> str:
    """Return the commit that is checked out, with a + if files differ from it."""
    command = ("git", "describe", "--always", "--dirty=+")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def rows(now: dict[str, float], then: dict[str, float]) -> list[str]:
    """Return a line per figure; one that only one of the runs has is told as well."""
    found = []
    for name in {**then, **now}:
        values = [f"{run[name]:10.3g}" if name in run else f"{'-':>10}" for run in (now, then)]
        both = name in now and then.get(name)
        ratio = f"{now[name] / then[name]:8.2f}" if both else f"{'-':>8}"
        found.append(f"{name:48}{''.join(values)}{ratio}")
    return found


def measured(names: Iterable[str]) -> dict[str, float]:
    """Return the figures of the benchmarks that can run here; say what the others lack."""
    found: dict[str, float] = {}
    for name in names:
        try:
            figures = importlib.import_module(name).measure()
        except Unsupported as lacking:
            print(f"{name}: not run: {lacking}")
            continue
        found |= {f"{name}: {figure}": value for figure, value in figures.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--record", action="store_true", help="keep this run in results.json")
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], help="all if none is named")
    options = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    last = results.get(machine(), {"commit": "none of this machine", "figures": {}})
    names = options.names or NAMES
    figures = measured(names)
    then = {key: each for key, each in last["figures"].items() if key.split(":")[0] in names}
    print(f"{machine()}: {commit()} beside {last['commit']}")
    print("\n".join(rows(figures, then)))
    if options.record:
        kept = {**last["figures"], **{key: float(f"{v:.3g}") for key, v in figures.items()}}
        results[machine()] = {"commit": commit(), "figures": kept}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
