"""How many races are decided within 8 s where processes are dear: two threads, and Node.

Run as `python benchmarks/shares.py [RACES] [SECONDS]`: with a load generator on the last CPU, the
small MobileNetV1 of `verdicts.py` is raced against itself and against itself with 10 % more work,
by turns, with the claim of being at most 5 % slower. Prints, for each case, how many races held,
were refuted and stayed open, and what they took. A refuted race of the file with itself, or one
with more work that held, is a false verdict.
"""

from __future__ import annotations

import sys
import tempfile
from itertools import product
from pathlib import Path
from statistics import median

from verdicts import Tally, load, progress, race_verdicts, write_networks

MARGIN, EFFECT = 5, 10
CASES = (("litert", 2), ("litert-js", 1))
# Ten invocations and eleven are 10 % apart; more would make it another model, a long one.
CALLS = 10


def main(races: int = 100, budget: float = 8.0) -> int:
    """Run the races and print the table; return how many verdicts were false."""
    tallies = {case: Tally() for case in product(CASES, (0, EFFECT))}
    with tempfile.TemporaryDirectory() as name, load("loaded"):
        model = write_networks(Path(name))["0.1 ms"]
        for seed in range(races):
            for ((target, threads), effect), tally in tallies.items():
                ((_, verdict, seconds),) = race_verdicts(
                    model, effect, seed, (MARGIN,), target, threads, budget, CALLS
                )
                tally.add(verdict, seconds)
            if seed % 10 == 9:
                progress(f"{seed + 1} races of each")
    false = 0
    print(
        "| target | threads | true ratio | races | holds | refuted | open | s, median | longest |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for ((target, threads), effect), t in tallies.items():
        false += t.holds if effect else t.refuted
        numbers = (threads, 1 + effect / 100, t.total, t.holds, t.refuted, t.inconclusive)
        took = f"{median(t.seconds):.1f} | {max(t.seconds):.1f}"
        print(f"| {target} | {' | '.join(map(str, numbers))} | {took} |")
    return false


if __name__ == "__main__":
    given = sys.argv[1:]
    raise SystemExit(main(int(given[0]) if given else 100, float(given[1]) if given[1:] else 8.0))
