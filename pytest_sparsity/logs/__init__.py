"""Logs of others' benchmarks: `benchmark_model` of TFLite and LiteRT, and `litert-benchmark`.

A log is a mean and a deviation of one process, printed with few digits. It is evidence with limits,
which go with it; a race is more.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

__all__ = [
    "Log",
    "LogError",
    "Operator",
    "Statistics",
    "compared",
    "is_sparse",
    "parse",
    "read",
]

SPARSE = "SPMM"
"""How XNNPACK calls its sparse kernels, a multiplication of a sparse matrix by a dense one: a word
of `xnn_microkernel_type_to_string`, which `xnn_get_runtime_profiling_info` appends to the
operator's name (XNNPACK src/runtime.c)."""
# A delegate that is a row of its own says nothing of the kernels inside it (before TF 2.9.1).
OPAQUE = "TfLiteXNNPackDelegate"


def is_sparse(kernel: str) -> bool:
    """Return whether this is XNNPACK's name of a sparse kernel."""
    return SPARSE in kernel.split()


class LogError(ValueError):
    """There is nothing to be read in a file; the message names it and says what is missing."""


@dataclass(frozen=True)
class Statistics:
    """What a tool prints of a series of invocations, in microseconds; None for what it does not.

    Attributes:
        count: of invocations.
        avg: their mean; printed with six significant digits, so large ones are rounded.
        std: their standard deviation, of the population.
        first: the first of them.
        curr: the last.
        min: the smallest.
        max: the largest.
        p5: a twentieth of them is below.
        median: of them.
        p95: a twentieth of them is above.
    """

    count: int
    avg: float | None = None
    std: float | None = None
    first: float | None = None
    curr: float | None = None
    min: float | None = None
    max: float | None = None
    p5: float | None = None
    median: float | None = None
    p95: float | None = None


@dataclass(frozen=True)
class Operator:
    """A row of the profile of the runs.

    Attributes:
        type: e.g. `"Convolution (NCHW, F32) SPMM"`; the kernel, where XNNPACK tells.
        name: of the node.
        avg_ms: its time per inference, ms.
        times: how often it is called in one.
    """

    type: str
    name: str
    avg_ms: float
    times: int


@dataclass(frozen=True)
class Log:
    """What one run of a benchmark says.

    Attributes:
        runs: the timed invocations.
        warm_up: those before; None if they are not told.
        model: the file's name as the log has it, "" if it has none.
        tool: `"benchmark_model"` or `"litert-benchmark"`.
        threads: None if it is not told.
        init_us: what loading took, us; None if it is not told.
        peak_mb: the largest memory that is told, MB.
        replaced: nodes that a delegate executes, of how many, and its name.
        operators: the profile of the runs, in the order of execution; empty without one.
        step_us: what times are rounded to, us.
        errors: lines that the runtime has marked as errors.
    """

    runs: Statistics
    warm_up: Statistics | None = None
    model: str = ""
    tool: str = "benchmark_model"
    threads: int | None = None
    init_us: float | None = None
    peak_mb: float | None = None
    replaced: tuple[int, int, str] | None = None
    operators: tuple[Operator, ...] = ()
    step_us: float = 1.0
    errors: tuple[str, ...] = ()

    @property
    def sparse_kernels(self) -> bool | None:
        """Whether the profile shows sparse kernels; None where nothing shows which ones ran."""
        types = [operator.type for operator in self.operators]
        if any(map(is_sparse, types)):
            return True
        return None if not types or any(OPAQUE in each for each in types) else False

    @property
    def centre_us(self) -> float:
        """The median of the runs, or their mean where no median is told, us."""
        centre = self.runs.avg if self.runs.median is None else self.runs.median
        return math.nan if centre is None else centre

    @property
    def limits(self) -> tuple[str, ...]:
        """What a reader of the numbers should know, one clause each."""
        found = []
        runs = self.runs
        if runs.count < FEW:
            found.append(
                f"{counted(runs.count, 'invocation is', 'invocations are')} too few for a deviation"
            )
        if runs.avg and self.step_us > COARSE * runs.avg:
            found.append(
                f"times are in steps of {self.step_us:g} us, which is "
                f"{100 * self.step_us / runs.avg:.0f} % of one inference"
            )
        if runs.avg and runs.std is not None and runs.std > NOISY * runs.avg:
            found.append(f"noisy: the deviation is {100 * runs.std / runs.avg:.0f} % of the mean")
        if runs.median is None:
            found.append("a mean without a median: one slow invocation moves it")
        if self.sparse_kernels is None:
            why = (
                "the delegate is one row of the profile"
                if self.operators
                else "there is no profile; run with --enable_op_profiling=true"
            )
            found.append(f"nothing shows which kernels ran: {why}")
        return (*found, *(f"the runtime logged an error: {error}" for error in self.errors))

    def as_json(self) -> dict[str, Any]:
        """Return plain values by name."""
        return {
            "tool": self.tool,
            "model": self.model,
            "threads": self.threads,
            "runs": vars(self.runs),
            "warm_up": self.warm_up and vars(self.warm_up),
            "init_us": self.init_us,
            "peak_mb": self.peak_mb,
            "replaced": self.replaced and list(self.replaced),
            "sparse_kernels": self.sparse_kernels,
            "operators": [vars(operator) for operator in self.operators],
            "limits": list(self.limits),
        }


FEW = 10
COARSE = 0.02
NOISY = 0.1
# Processes of each model below which no interval is given, as for a race.
PROCESSES = 3


@dataclass(frozen=True)
class Compared:
    """Two models by their logs, a process each.

    Attributes:
        first: how the first is called.
        second: how the second is called.
        logs: the number of logs of the first and of the second.
        value: what the first takes divided by what the second takes.
        low: of the interval; 0 if there is none.
        high: of the interval; infinite if there is none.
        confidence: of the interval.
    """

    first: str
    second: str
    logs: tuple[int, int]
    value: float
    low: float
    high: float
    confidence: float

    @property
    def limit(self) -> str:
        """What the numbers do not say."""
        if math.isinf(self.high):
            return (
                "no interval: that takes 3 logs of each; two processes of the same file already "
                "differ by some per cent"
            )
        return "the models did not run side by side: what changed between the logs is in the ratio"


def compared(first: Sequence[Log], second: Sequence[Log], confidence: float = 0.95) -> Compared:
    """Compare two models by their logs; a process is the unit of evidence, not an invocation.

    The interval is Welch's, over the logarithms of the processes' centres.

    Raises:
        ValueError: one of them has no logs, or no times.
    """
    import numpy as np

    from pytest_sparsity.estimate.intervals import RESOLUTION, t_quantile

    sides = [np.log([log.centre_us for log in logs]) for logs in (first, second)]
    if not all(len(side) and np.isfinite(side).all() for side in sides):
        raise ValueError("there are no times to be compared")
    value = float(sides[0].mean() - sides[1].mean())
    counts = len(first), len(second)
    names = first[0].model or "?", second[0].model or "?"
    if min(counts) < PROCESSES:
        return Compared(*names, counts, math.exp(value), 0.0, math.inf, confidence)
    errors = [max(float(side.std(ddof=1)), RESOLUTION) ** 2 / len(side) for side in sides]
    total = sum(errors)
    freedom = total**2 / sum(e**2 / (n - 1) for e, n in zip(errors, counts, strict=True))
    half = t_quantile(0.5 + confidence / 2, max(math.floor(freedom), 1)) * math.sqrt(total)
    low, high = math.exp(value - half), math.exp(value + half)
    return Compared(*names, counts, math.exp(value), low, high, confidence)


def read(path: str | os.PathLike[str]) -> tuple[Log, ...]:
    """Return the runs in a file, in its order.

    Raises:
        LogError: there is none.
        OSError: the file cannot be read.
    """
    file = Path(path)
    try:
        return parse(file.read_text(encoding="utf-8", errors="replace"))
    except LogError as error:
        raise LogError(f"{file}: {error}") from None


def parse(text: str) -> tuple[Log, ...]:
    """Return the runs in a text.

    It is what `benchmark_model` prints, also as logcat keeps it and with a profile as CSV, what
    `litert-benchmark` prints, or the JSON that it writes.

    Raises:
        LogError: there is none.
    """
    from pytest_sparsity.logs import litert, tflite

    if text.lstrip().startswith(("{", "[")):
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if value:
            return litert.results(value)
    found = tflite.runs(text) or litert.printed(text)
    if not found:
        raise LogError(
            "no run of benchmark_model or litert-benchmark is in it, such as a line `count=50 "
            "first=.. avg=..`"
        )
    return found
