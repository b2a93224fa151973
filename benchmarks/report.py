"""How large the report's page of many claims is, and how long a browser takes to open it.

    python benchmarks/report.py [CLAIMS]

Claims are on 20 files of 60 layers each and three targets, every tenth is refuted. Chromium opens
the page five times; "open" is from the request to the event `load`, "sorted" one sort of all rows.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from browser import Browser
from pytest_sparsity.errors import Unsupported
from pytest_sparsity.report import document
from pytest_sparsity.targets.places.browser import find
from test_report import RUN, claim, diagnosis, layer, race, run

FILES, LAYERS, TARGETS, TIMES = 20, 60, ("litert", "litert-js", "litert@cortex-a53"), 5


def made(claims: int) -> Any:
    """Return a document with so many claims."""
    layers = [
        layer(index=n, name=f"model/block_{n}/conv/Conv2D;model/block_{n}/bn/FusedBatchNormV3")
        for n in range(LAYERS)
    ]
    tests = []
    for number in range(claims):
        name = f"network-{number % FILES}"
        file = {"name": f"{name}.tflite", "nbytes": 4_000_000 + number % FILES, "sha256": name * 6}
        target = TARGETS[number % len(TARGETS)]
        known = diagnosis(
            model=file,
            target=target,
            headline=f"{name}.tflite on {target} runs no sparse kernel: this CPU has AVX",
            kernels=["sparse"] * LAYERS,
            nanoseconds=[3000 + n for n in range(LAYERS)],
        )
        verdict = "refuted" if number % 10 == 0 else "holds"
        value = 1 + number % 37 / 10
        bounds = {"value": value, "low": value - 0.1, "high": value + 0.1}
        tests.append(
            run(
                race(claim(verdict, **bounds), target=target, sparse_model=file, diagnosis=known),
                nodeid=f"tests/claims/test_networks.py::test_sparse_beats_dense[{name}-{number}]",
                outcome="failed" if verdict == "refuted" else "passed",
                message="assert speedup >= 1.5 is refuted" if verdict == "refuted" else "",
                models=[
                    {
                        **file,
                        "sparsity": 0.8,
                        "gzip_nbytes": 2_000_000,
                        "fault": "",
                        "layers": layers,
                    }
                ],
            )
        )
    return document.compose(RUN, tests, [], [])


@dataclass(frozen=True)
class Seen:
    """A page as a browser shows it: its megabytes, and seconds."""

    megabytes: float
    written: float
    opened: list[float]
    ordered: list[float]


def see(claims: int) -> Seen:
    """Write a page of so many claims and open it.

    Raises:
        Unsupported: there is no Chromium.
    """
    command = find("chromium")
    if command is None:
        raise Unsupported("Chromium is not installed", "apt-get install chromium")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "report.html")
        begun = time.perf_counter()
        document.write(path, made(claims))
        written = time.perf_counter() - begun
        with Browser(command, Path(name, "profile")) as browser:
            opened, ordered = [], []
            for _ in range(TIMES):
                page = browser.page(path)
                opened.append(page.seconds)
                begun = time.perf_counter()
                page.click('th[data-key="value"] button')
                page.run("new Promise(done => requestAnimationFrame(() => done(1)))")
                ordered.append(time.perf_counter() - begun)
        return Seen(path.stat().st_size / 1e6, written, opened, ordered)


def measure() -> dict[str, float]:
    """Return the figures that are compared with those of other commits."""
    seen = see(1000)
    return {
        "1,000 claims, MB": seen.megabytes,
        "opened, s": statistics.median(seen.opened),
        "sorted, s": statistics.median(seen.ordered),
    }


def main() -> None:
    """Print size and times."""
    claims = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    try:
        seen = see(claims)
    except Unsupported as lacking:
        raise SystemExit(str(lacking)) from None
    print(f"{claims} claims: {seen.megabytes:.2f} MB, written in {seen.written:.1f} s")
    for what, times in (("open", seen.opened), ("sorted", seen.ordered)):
        print(f"{what}: median {statistics.median(times):.2f} s, longest {max(times):.2f} s")


if __name__ == "__main__":
    main()
