"""The lines that a run ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity import defaults
from pytest_sparsity.baseline.recorded import text
from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from pytest_sparsity.report.records import Record

# What a line is about, with the markup of pytest's terminal writer.
COLOURS = {
    "holds": {"green": True},
    "not run": {"yellow": True},
    "recorded": {"cyan": True},
    "refuted": {"red": True},
    "required": {"red": True},
    "inconclusive": {"yellow": True},
    "unused": {"yellow": True},
}
# Lines about values that moved within their tolerance; `-v` shows all.
MOVED_SHOWN = 10
# Seconds of waiting that are worth a line.
WAIT_SHOWN = 1.0
# Findings about a target that has no sparse kernels on its CPU, whatever the model is.
NO_KERNELS = frozenset({"needs-fp16", "no-sparse-build", "x86-avx"})
# What pytest-rerunfailures makes of the outcome of a test that runs again.
RERUN = "rerun"

Line = tuple[str, str]  # (what it is about, text)


def claims(tests: Iterable[Record], verdicts: Collection[str] = ()) -> Iterator[Line]:
    """Yield one line per claim: value, claim, verdict, target, test; races without one too.

    Args:
        tests: the records.
        verdicts: show these only; all by default.
    """
    rows = [
        (race, claim, test["nodeid"])
        for test in tests
        for race in test["races"]
        for claim in race["claims"] or [_NO_CLAIM]
    ]
    cells = [
        (
            ratio(claim if claim is not _NO_CLAIM else race["ratio"], race["unit"]),
            claim["text"],
            claim["verdict"],
            race["target"],
            nodeid,
        )
        for race, claim, nodeid in rows
    ]
    cells = [row for row in cells if not verdicts or row[2] in verdicts]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield row[2], "  ".join(padded).rstrip()


_NO_CLAIM: Record = {"text": "", "verdict": "not claimed"}


def ratio(bounds: Record, unit: str) -> str:
    """Return a ratio with its interval: `1.83x [1.79, 1.88]`."""
    value, low, high = (bounds[name] for name in ("value", "low", "high"))
    counted = " instructions" if unit == "instructions" else ""
    if value is None or low is None or high is None:
        return f"unknown{counted}"
    if low == high:
        return f"{_digits(value, 4)}x{counted}"
    return f"{_digits(value)}x [{_digits(low)}, {_digits(high)}]{counted}"


def _digits(value: float, number: int = 3) -> str:
    return f"{value:#.{number}g}".removesuffix(".")


def recorded(tests: Iterable[Record], *, everything: bool) -> Iterator[Line]:
    """Yield one line per value that was recorded; values that were the same only on demand."""
    for test in tests:
        for entry in test["baselines"]:
            same = entry["recorded"] is not None and not entry["moved"]
            if entry["verdict"] == "recorded" and (everything or not same):
                yield "recorded", _recorded(entry, test)


def _recorded(entry: Record, test: Record) -> str:
    today, before = shown(entry["today"]), shown(entry["recorded"])
    where = f"{entry['file']}  {_test_of(test)}::{entry['name']}"
    if test["outcome"] == "failed":
        return f"not recorded, the test failed: {where} = {today}"
    if entry["recorded"] is None:
        return f"recorded: {where} = {today}"
    if entry["moved"]:
        return f"recorded: {where} = {today} {_aside(f'was {before}', _percent(entry))}"
    return f"unchanged: {where} = {before}"


def moved(tests: Iterable[Record], *, everything: bool) -> Iterator[Line]:
    """Yield one line per value that holds and is not what it was."""
    lines = [
        f"moved: {test['nodeid']}  {entry['name']} {shown(entry['recorded'])} -> "
        f"{shown(entry['today'])} {_aside(_percent(entry), _tolerance(entry))}".rstrip()
        for test in tests
        for entry in test["baselines"]
        if entry["moved"] and entry["verdict"] == "holds"
    ]
    kept = lines if everything else lines[:MOVED_SHOWN]
    yield from (("moved", line) for line in kept)
    if len(lines) > len(kept):
        yield "moved", f"moved: {len(lines) - len(kept)} more (-v shows them)"


def unused(lines: Iterable[str]) -> Iterator[Line]:
    """Yield one line per test that has baselines and does not exist."""
    for line in lines:
        yield "unused", f"unused baseline: {line} (no such test; delete its lines)"


def lacking(tests: Iterable[Record]) -> list[Record]:
    """Return, per target and reason, how many claims did not run and what would help.

    Of several remedies (each test has a command of its own to record a baseline) the first is
    kept.
    """
    found: dict[tuple[bool, str, str], list[str]] = {}
    for test in tests:
        lacks = test["not_run"]
        if lacks:
            key = lacks["required"], lacks["target"], lacks["reason"]
            found.setdefault(key, []).append(lacks["remedy"])
    return [
        {
            "required": required,
            "target": target,
            "reason": reason,
            "remedy": remedies[0],
            "claims": counted(len(remedies), "claim"),
        }
        for (required, target, reason), remedies in sorted(found.items(), reverse=True)
    ]


def not_run(tests: Iterable[Record]) -> Iterator[Line]:
    """Yield one line per target and reason of claims that did not run, with their number."""
    for lacks in lacking(tests):
        about = "required" if lacks["required"] else "not run"
        where = f" on {lacks['target']}" if lacks["target"] else ""
        said = ": ".join(filter(None, (lacks["reason"], lacks["remedy"])))
        must = "required, and " if lacks["required"] else ""
        yield about, f"{must}not run: {lacks['claims']}{where}: {said}"


def resolutions(tests: Iterable[Record]) -> Iterator[Line]:
    """Yield, per target, which effect the budget resolves."""
    found = (race["resolution"] for test in tests for race in test["races"])
    yield from (("resolution", line) for line in dict.fromkeys(found) if line)


def waits(tests: Iterable[Record]) -> Iterator[Line]:
    """Yield how long races waited for others, if they did."""
    seconds = [test["waited"] for test in tests if test["waited"] >= WAIT_SHOWN]
    if seconds:
        yield (
            "waits",
            (
                "one race of time at a time on this machine: "
                f"{counted(len(seconds), 'test')} waited {sum(seconds):.1f} s in all"
            ),
        )


def elsewhere(tests: Iterable[Record]) -> Iterator[Line]:
    """Yield where claims that name no target meet sparse kernels, if they failed without any."""
    for test in tests:
        found = [race["diagnosis"] for race in test["races"]] + test["diagnoses"]
        for diagnosis in filter(None, found):
            codes = {finding["code"] for finding in diagnosis["findings"]}
            if test["outcome"] == "failed" and codes & NO_KERNELS:
                where = f"--sparsity-target={defaults.SPARSE_TARGET}"
                said = f"{diagnosis['target']} has no sparse kernels for this CPU: {where} runs"
                yield "elsewhere", f"{said} tests that name no target where there are some"
                return


def repeats(tests: Sequence[Record]) -> Iterator[Line]:
    """Yield what was claimed by runs of a test that were followed by another one."""
    earlier = [test for test in tests if test["outcome"] == RERUN]
    said = [
        claim["verdict"] for test in earlier for race in test["races"] for claim in race["claims"]
    ]
    if said:
        counted = _counts("races of tests that ran again", said)
        yield "inconclusive", f"{counted}; a claim that is repeated until it holds proves nothing"


def final(tests: Iterable[Record]) -> list[Record]:
    """Return the records without those of tests that ran again."""
    return [test for test in tests if test["outcome"] != RERUN]


def counts(tests: Sequence[Record], unused_tests: Sequence[str]) -> str:
    """Return the last line: `races: 3 hold, 1 inconclusive; ...`; empty if there is nothing."""
    races = [claim for test in tests for race in test["races"] for claim in race["claims"]]
    parts = [
        _counts("races", [claim["verdict"] for claim in races if "baseline" not in claim]),
        _counts(
            "baselines", [_outcome(entry, test) for test in tests for entry in test["baselines"]]
        ),
        _number("not run", sum(test["not_run"] is not None for test in tests)),
        _number("unused baselines", len(unused_tests)),
    ]
    return "; ".join(filter(None, parts))


def shown(value: object) -> str:
    """Return a value of a record for people."""
    if isinstance(value, dict):
        if "model" in value:
            return f"{value['model']} ({value['nbytes']:,} bytes)"
        return f"{value['value']:.4g} [{value['low']:.4g}, {value['high']:.4g}]"
    return text(value)  # type: ignore[arg-type]  # a record holds what a file holds


def _percent(entry: Record) -> str:
    return "" if entry["change"] is None else f"{100 * entry['change']:+.2g} %"


def _tolerance(entry: Record) -> str:
    return f"within {100 * entry['within']:g} %" if entry["within"] else ""


def _aside(*parts: str) -> str:
    said = ", ".join(filter(None, parts))
    return f"({said})" if said else ""


def _test_of(test: Record) -> str:
    return str(test["nodeid"].partition("::")[2])


def _outcome(entry: Record, test: Record) -> str:
    lost = entry["verdict"] == "recorded" and test["outcome"] == "failed"
    return "not recorded" if lost else str(entry["verdict"])


def _counts(about: str, verdicts: Sequence[str]) -> str:
    kinds = ("holds", "refuted", "inconclusive", "recorded", "not recorded")
    counted = [f"{verdicts.count(kind)} {_plural(kind, verdicts.count(kind))}" for kind in kinds]
    return f"{about}: {', '.join(c for c in counted if c[0] != '0')}" if verdicts else ""


def _number(about: str, number: int) -> str:
    return f"{about}: {number}" if number else ""


def _plural(kind: str, number: int) -> str:
    return "hold" if kind == "holds" and number > 1 else kind
