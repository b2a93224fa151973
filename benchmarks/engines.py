"""What pruning gains in both builds of LiteRT.js, in Node and in the browsers of this machine.

Run as `python benchmarks/engines.py [SECONDS]`; 60 by default, for each of 24 races: MobileNetV1
and the network of XNNPACK's tutorial with 75 and 90 % of zeros. Prints the table of
docs/how-to/browser.md, dense over sparse with 95 % intervals. Each race goes on until its time is
spent, since here no claim ends it.
"""

from __future__ import annotations

import contextlib
import math
import sys
from typing import TYPE_CHECKING, Any

from pytest_sparsity import build_variants, race, zoo
from pytest_sparsity.errors import Inconclusive
from pytest_sparsity.targets import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_sparsity.variants import Variants

NETWORKS: dict[str, Callable[[], Any]] = {
    "MobileNetV1": zoo.mobilenet_v1,
    "tutorial's network": zoo.xnnpack_cnn,
}
SPARSITIES = (0.75, 0.90)
TARGETS = [
    f"{build}{engine}"
    for build in ("litert-js-compat", "litert-js")
    for engine in ("", "@chromium", "@firefox")
]


def raced(files: Variants, target: str, budget: float) -> str:
    """Race until the budget is spent; return the ratio for the table."""
    result = race(files.dense, files.sparse, target=target, budget=budget)
    known = result.ratio.value
    with contextlib.suppress(Inconclusive):
        bool(result.ratio >= (1.0 if math.isnan(known) else known))
    clock = " (wall clock)" if result.clock == "wall" else ""
    return f"{result.ratio.value:.2f} [{result.ratio.low:.2f}, {result.ratio.high:.2f}]{clock}"


def main(budget: float = 60.0) -> None:
    files = {
        (name, sparsity): build_variants(build, sparsity=sparsity)
        for name, build in NETWORKS.items()
        for sparsity in SPARSITIES
    }
    heads = [f"{name} {sparsity:.0%}" for name, sparsity in files]
    print(f"| target | {' | '.join(heads)} |\n| --- |{' ---: |' * len(heads)}")
    rows: dict[str, list[str]] = {target: [] for target in TARGETS}
    # The engines by turns, so that what the machine does beside is shared by a column.
    for each in files.values():
        for target, row in rows.items():
            row.append(raced(each, target, budget))
            print(target, row[-1], file=sys.stderr)
    for target, row in rows.items():
        print(f"| {target}, {Target.of(target).version()} | {' | '.join(row)} |")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
