"""What a failed claim prints: what was claimed, what was measured, on what, and why."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from pytest_sparsity.baseline.recorded import text
from pytest_sparsity.diagnosis import explanation as everything
from pytest_sparsity.diagnosis import lines
from pytest_sparsity.errors import printable
from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.baseline import BaselineComparison
    from pytest_sparsity.diagnosis import Diagnosis
    from pytest_sparsity.estimate import Estimate
    from pytest_sparsity.racing import Race, Timing
    from pytest_sparsity.variants import Variants

# What pytest (8.4 to 9.2) prints of an explanation before it cuts it: `_pytest.assertion.truncate`.
LINES, CHARACTERS = 8, 640


def refuted(claim: str, estimate: Estimate, race: Race | None) -> list[str]:
    """Return the explanation of a comparison that is False, without the reasons."""
    said = [f"{claim} is refuted", f"measured  {_measured(estimate.latest(), race)}"]
    if race is not None:
        dense, sparse = (timing(value, race.unit) for value in (race.dense, race.sparse))
        said.append(f"dense     {dense}    sparse  {sparse} per inference")
        said.append(f"on        {where(race)}")
    return said


def baseline(comparison: BaselineComparison, race: Race | None) -> list[str]:
    """Return the explanation of a comparison with a baseline that is False, without the reasons."""
    today, name = text(comparison.today), repr(comparison.name)
    if race is None:
        said = [f"{today} {comparison}"]
    else:
        recorded = f"{comparison.operator} {text(comparison.recorded)}"
        said = [
            f"{name} {recorded}, as recorded, within {100 * comparison.within:g} % is refuted",
            f"measured  {today}",
            f"recorded  in {comparison.file}",
            f"on        {where(race)}",
        ]
    if comparison.change is not None:
        said.append(f"{name} moved by {_percent(comparison.change)}{_difference(comparison)}")
    return said + _elements(comparison)


def _percent(change: float) -> str:
    """Return a relative change with two digits, never as a power of ten."""
    return f"{Decimal(f'{100 * change:.2g}'):+,f} %"


def _difference(comparison: BaselineComparison) -> str:
    today, recorded = comparison.today, comparison.recorded
    if isinstance(today, int) and isinstance(recorded, int):
        return f" ({today - recorded:+,})"
    return ""


def _elements(comparison: BaselineComparison) -> list[str]:
    """Say which elements of two lists differ."""
    today, recorded = comparison.today, comparison.recorded
    if not isinstance(today, list) or not isinstance(recorded, list):
        return []
    if len(today) != len(recorded):
        return [
            f"{counted(len(recorded), 'element was', 'elements were')} recorded, today {len(today)}"
        ]
    differing = [i for i, (a, b) in enumerate(zip(today, recorded, strict=True)) if a != b]
    shown = [f"[{i}] {text(recorded[i])} -> {text(today[i])}" for i in differing[:4]]
    more = f", {len(differing) - 4} more" if len(differing) > 4 else ""
    return [f"differing: {', '.join(shown)}{more}"]


def reasons(diagnosis: Diagnosis, *, limit: int, characters: int) -> list[str]:
    """Return the headline and as many findings with their remedies as fit, the first ones first."""
    said: list[str] = []
    for number in range(max(limit, 1), 0, -1):
        said = lines(diagnosis, number)
        if sum(map(len, said)) <= characters:
            break
    return [f"because   {said[0]}", *said[1:]]


def explanation(claim: list[str], diagnosis: Diagnosis | str | None, remedy: str = "") -> list[str]:
    """Return a claim's lines, the reasons, as far as pytest does not cut them off, and a remedy."""
    last = [remedy] if remedy else []
    why: list[str] = []
    if isinstance(diagnosis, str):
        why = [diagnosis]
    elif diagnosis is not None:
        room = LINES - len(claim) - len(last), CHARACTERS - sum(map(len, claim + last))
        why = reasons(diagnosis, limit=room[0], characters=room[1])
    return [printable(line) for line in (*claim, *why, *last)]


def section(diagnosis: Diagnosis | str) -> str:
    """Return all findings and the layers with news, for the section below a failure."""
    said = [diagnosis] if isinstance(diagnosis, str) else everything(diagnosis, news=True)
    return "\n".join(map(printable, said))


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of padded columns; a column that is empty throughout is left out."""
    kept = [index for index in range(len(heading)) if any(row[index] for row in rows)]
    cells = [[row[index] for index in kept] for row in [heading, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def sizes(variants: Variants) -> str:
    """Return the sizes of a network's three files."""
    files = {"dense": variants.dense, "pruned": variants.pruned, "sparse": variants.sparse}
    rows = [
        (name, f"{model.nbytes:,}", f"{model.sparsity:.1%}", str(model.path))
        for name, model in files.items()
    ]
    return "\n".join(map(printable, table(("file", "bytes", "zeros", "path"), rows)))


def timing(value: Timing, unit: str) -> str:
    """Return one inference: `3.41 ms`, or `117,000,000 instructions`."""
    if unit == "instructions":
        return f"{value.median:,.0f} instructions"
    seconds = value.median
    for scale, name in ((1, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {name}"
    return f"{seconds / 1e-9:.3g} ns"


def where(race: Race) -> str:
    """Return what a race was true of: target, version, threads, machine."""
    facts = race.metadata
    version = " ".join(str(facts[name]) for name in ("version", "engine") if name in facts)
    threads = counted(race.threads, "thread")
    machine = race.target.host or facts.get("machine", "")
    inputs = f", inputs {race.inputs}"
    notes = "".join(f"; {remark}" for remark in race.remarks)
    return f"{race.target} {version}, {threads}, {machine}{inputs}{notes}"


def _measured(estimate: Estimate, race: Race | None) -> str:
    if race is None:
        return str(estimate)
    clock = {"cpu": "CPU time", "wall": "wall time"}.get(race.clock, race.clock)
    return f"{estimate}; {effort(race)}, {race.wall_seconds:.1f} s, {clock}"


def effort(race: Race) -> str:
    """Return how many processes and pairs a race took."""
    return f"{counted(race.trials, 'process', 'processes')}, {counted(race.pairs, 'pair')}"
