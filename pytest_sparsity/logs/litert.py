"""What LiteRT's `litert-benchmark` prints, and the JSON that it writes: milliseconds to two digits.

By ai_edge_litert/tools/benchmark_litert_model.py of LiteRT 2.3.0.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from pytest_sparsity.logs import Log, LogError, Statistics

TOOL = "litert-benchmark"
# Two digits of a millisecond.
STEP_US = 10.0
_VALUE = re.compile(
    r"(?P<what>Model initialization|Warmup|Inference)(?: \((?P<kind>\w+)\))?:\s+(?P<ms>[\d.]+) ms"
    r"(?: \((?P<runs>\d+) runs\))?"
)
_KINDS = ("avg", "std", "min", "max", "p5", "median", "p95")


def printed(text: str) -> tuple[Log, ...]:
    """Return the runs in a text."""
    found = []
    for part in text.split("BENCHMARK RESULTS")[1:]:
        values = {(v["what"], v["kind"] or ""): v for v in _VALUE.finditer(part)}
        runs = {
            kind: 1000 * float(value["ms"])
            for (what, kind), value in values.items()
            if what == "Inference" and kind in _KINDS
        }
        average = values.get(("Inference", "avg"))
        if average is None:
            continue
        init = values.get(("Model initialization", ""))
        found.append(
            Log(
                Statistics(int(average["runs"] or 0), **runs),
                tool=TOOL,
                init_us=1000 * float(init["ms"]) if init else None,
                step_us=STEP_US,
            )
        )
    return tuple(found)


def results(value: Any) -> tuple[Log, ...]:
    """Return the runs in the JSON of one or of several.

    Raises:
        LogError: it is something else.
    """
    return tuple(_result(each) for each in (value if isinstance(value, list) else [value]))


def _result(value: Any) -> Log:
    latency = value.get("latency") if isinstance(value, dict) else None
    if not isinstance(latency, dict) or not isinstance(latency.get("avg_ms"), int | float):
        raise LogError("it is JSON, but not that of litert-benchmark: there is no latency.avg_ms")
    runs = {
        kind: 1000 * float(latency[f"{kind}_ms"])
        for kind in _KINDS
        if isinstance(latency.get(f"{kind}_ms"), int | float)
    }
    threads, init = value.get("num_threads"), latency.get("init_ms")
    return Log(
        Statistics(int(latency.get("num_runs", 0)), **runs),
        tool=TOOL,
        model=PurePosixPath(str(value.get("model", ""))).name,
        threads=threads if isinstance(threads, int) else None,
        init_us=1000 * float(init) if isinstance(init, int | float) else None,
        step_us=STEP_US,
    )
