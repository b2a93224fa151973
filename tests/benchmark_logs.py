"""Writes what `benchmark_model` prints, in the forms that it had from 2019 to 2026.

By the grammar that its sources have; no log of anybody's is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Row = tuple[str, str, float]  # type, name, ms
LOGCAT = "07-14 13:14:52.097 22838 22838 I tflite  : "
OLD_LOGCAT = "I/tflite  ( 1234): "


@dataclass(frozen=True)
class Form:
    """What one build prints differently from another.

    Attributes:
        prefix: of every message.
        quantiles: p5, median and p95 are printed.
        summary: the words of the last line, "old" or "new".
        memory: the words about memory, "peak", "delta" or "".
        start: tables have a column for the start.
        csv: tables are CSV.
        titled: profiles have a title.
        fixed: columns have a fixed width instead of tabulators.
        ends: the end of a line.
    """

    prefix: str = ""
    quantiles: bool = False
    summary: str = "new"
    memory: str = "delta"
    start: bool = False
    csv: bool = False
    titled: bool = True
    fixed: bool = False
    ends: str = "\n"


FORMS = {
    "2019": Form(summary="old", memory="", start=True, titled=False),
    "2020": Form(memory="peak", start=True),
    "2020 on a phone of then": Form(prefix=OLD_LOGCAT, memory="peak", start=True),
    "2021": Form(start=True),
    "2021 csv": Form(start=True, csv=True),
    "2022 logcat": Form(prefix=LOGCAT),
    "2023 csv": Form(prefix="INFO: ", csv=True),
    "2024": Form(prefix="INFO: "),
    "2025": Form(prefix="INFO: ", quantiles=True),
    "2025 logcat, lines end twice": Form(prefix=LOGCAT, quantiles=True, ends="\r\n"),
    "2026 litert": Form(prefix="INFO: ", quantiles=True, fixed=True),
}


def number(value: float) -> str:
    """As C++ prints a double: six significant digits."""
    return f"{value:.6g}"


def statistics(values: Sequence[int], form: Form) -> str:
    """As stats_calculator prints whole microseconds."""
    count = len(values)
    if not count:
        return "count=0"
    ordered = sorted(values)
    if count == 1:
        text = f"count=1 curr={values[0]}"
    elif ordered[0] == ordered[-1]:
        text = f"count={count} curr={values[-1]}(all same)"
    else:
        text = (
            f"count={count} first={values[0]} curr={values[-1]} min={ordered[0]} "
            f"max={ordered[-1]} avg={number(mean(values))} std={deviation(values)}"
        )
    if form.quantiles:
        p5, median, p95 = (ordered[min(int(q * count), count - 1)] for q in (0.05, 0.5, 0.95))
        text += f" p5={p5} median={median} p95={p95}"
    return text


def mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)


def deviation(values: Sequence[int]) -> int:
    centre = mean(values)
    return int((sum((value - centre) ** 2 for value in values) / len(values)) ** 0.5)


def table(rows: Sequence[Row], form: Form) -> str:
    """The profile's table in the order of execution, and those that follow it."""
    head = ["node type", *(["start"] if form.start else []), "first", "avg_ms", "%", "cdf%"]
    head += ["mem KB", "times called", "name"]
    lines = [",".join(head) if form.csv else "".join(f"\t [{word}]" for word in head)]
    if not form.csv or not form.start:
        lines.insert(0, f"{'=' * 30} Run Order {'=' * 30}")
    for kind, name, ms in rows:
        values = [*([0.123] if form.start else []), ms * 1.04, ms]
        if form.csv:
            cells = [kind, *(number(value) for value in values), "3.8%", "3.8%", "0", "1"]
            lines.append(",".join([*cells, name.replace(",", "\t")]))
        elif form.fixed:
            cells = [f"{value:>12.3f}" for value in values]
            lines.append(
                f"{kind:<60}{''.join(cells)}      3.783%      3.783%   0.000      1 {name}"
            )
        else:
            cells = [f"\t{value:9.3f}" for value in values]
            rest = "\t  3.783%\t  3.783%\t     0.000\t        1\t"
            lines.append(f"\t {kind:>24}{''.join(cells)}{rest}{name}")
    if not form.csv:
        top = f"{'=' * 30} Top by Computation Time {'=' * 30}"
        lines += ["", top, *lines[1:], "", "Number of nodes executed: 1"]
        lines.append(f"{'=' * 30} Summary by node type {'=' * 30}")
        lines.append(
            "\t  SOFTMAX\t        1\t     0.041\t     0.553%\t     0.553%\t     0.000\t        1"
        )
    lines += [
        "",
        "Timings (microseconds): count=50 first=7426 curr=7352 min=7347 max=7426 avg=7372 std=10",
        "Memory (bytes): count=0",
    ]
    return "\n".join(lines)


def log(
    form: Form,
    runs: Sequence[int],
    warm_up: Sequence[int] = (4100, 3900),
    rows: Sequence[Row] = (),
    model: str = "net.tflite",
    more: Sequence[str] = (),
) -> str:
    """What one run prints."""
    messages = [
        "STARTING!",
        "Log parameter values verbosely: [0]",
        f"Graph: [/data/local/tmp/{model}]",
        f"Loaded model /data/local/tmp/{model}",
        *more,
        (
            "Replacing 29 out of 31 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 3 "
            "partitions."
        ),
        "The input model file size (MB): 4.2",
        "Initialized session in 9.5ms.",
        (
            "Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if "
            "exceeding 150 seconds."
        ),
        statistics(warm_up, form) + "\n",
        (
            "Running benchmark for at least 50 iterations and at least 1 seconds but terminate if "
            "exceeding 150 seconds."
        ),
        statistics(runs, form) + "\n",
    ]
    warm = number(mean(warm_up)) if warm_up else "0"
    if form.summary == "old":
        messages.append(
            f"Average inference timings in us: Warmup: {warm}, Init: 9500, no stats: "
            f"{number(mean(runs))}"
        )
    else:
        messages.append(
            f"Inference timings in us: Init: 9500, First inference: {(warm_up or runs)[0]}, "
            f"Warmup (avg): {warm}, Inference (avg): {number(mean(runs))}"
        )
    if form.memory == "peak":
        messages.append("Peak memory footprint (MB): init=6.3 overall=109.8")
    elif form.memory:
        messages.append(
            "Memory footprint delta from the start of the tool (MB): init=6.3 overall=109.8"
        )
    if rows:
        if form.titled:
            start = table([("ModifyGraphWithDelegate", "ModifyGraphWithDelegate/0", 9.9)], form)
            messages.append(f"Profiling Info for Benchmark Initialization:\n{start}\n")
            title = "Operator-wise Profiling Info for Regular Benchmark Runs:\n"
        else:
            title = ""
        messages.append(f"{title}{table(rows, form)}\n")
    return "".join(f"{form.prefix}{message}\n" for message in messages).replace("\n", form.ends)
