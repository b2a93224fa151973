"""What the command line prints, as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity.baseline.recorded import text
from pytest_sparsity.diagnosis import finding_lines
from pytest_sparsity.estimate import no_difference
from pytest_sparsity.report.failure import effort, table, timing, where
from pytest_sparsity.wording import counted
from pytest_sparsity.xnnpack.changes import CHANGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_sparsity.baseline.history import BaselineChange, RecordedValue
    from pytest_sparsity.bisection import Bisection
    from pytest_sparsity.diagnosis import Diagnosis
    from pytest_sparsity.findings import Finding
    from pytest_sparsity.racing import Race

TARGETS = 3  # columns with names; more have numbers, which the verdicts below explain
NAME = 40  # longest name of a layer; longer ones lose their beginning


def explain(made: Sequence[Diagnosis]) -> list[str]:
    """Return the layers of one model with a column per target, the verdicts, and all findings."""
    model = made[0].model
    numbered = len(made) > TARGETS
    columns = [str(n + 1) if numbered else d.target.name for n, d in enumerate(made)]
    heading = ["layer", "operator", "shape", "zeros", "stored", "bytes"]
    heading += [*columns, "name"]
    rows = [
        [
            str(layer.index),
            layer.op,
            "x".join(map(str, layer.shape)),
            f"{layer.sparsity:.1%}",
            layer.encoding,
            f"{layer.nbytes:,}",
            *(diagnosis.kernels[index] for diagnosis in made),
            layer.name if len(layer.name) <= NAME else f"...{layer.name[3 - NAME :]}",
        ]
        for index, layer in enumerate(model.layers)
    ]
    said = [f"{model.path}: {model.nbytes:,} bytes, {model.sparsity:.1%} zeros", ""]
    said += [*table(heading, rows), ""]
    for column, diagnosis in zip(columns, made, strict=True):
        number = f"{column:>2}  " if numbered else ""
        said.append(f"{number}{diagnosis.headline} ({diagnosis.evidence})")
    for finding, targets in _findings(made).items():
        named = "" if len(targets) == len(made) else f"  [{', '.join(targets)}]"
        first, *rest = finding_lines(finding)
        said += ["", f"{first.strip()}{named}", *rest]
    return said


def _findings(made: Iterable[Diagnosis]) -> dict[Finding, list[str]]:
    """Return each finding once, with the targets that it is about."""
    found: dict[Finding, list[str]] = {}
    for diagnosis in made:
        for finding in diagnosis.findings:
            found.setdefault(finding, []).append(diagnosis.target.name)
    return found


def race(result: Race, dense: str, sparse: str) -> list[str]:
    """Return what was measured, how sure it is, and on what."""
    ratio = "speedup" if result.unit == "seconds" else "ratio"
    clock = {"cpu": "CPU time", "wall": "wall time"}.get(result.clock, result.clock)
    said = table(
        ("", ""),
        [
            ("dense", f"{timing(result.dense, result.unit)}  {dense}"),
            ("sparse", f"{timing(result.sparse, result.unit)}  {sparse}"),
            (ratio, f"{result.ratio}: {_verdict(result)}"),
            ("on", where(result)),
            ("inputs", result.inputs),
            ("by", f"{effort(result)}, {result.wall_seconds:.1f} s, {clock}"),
        ],
    )
    return said[1:]


def _verdict(result: Race) -> str:
    """Return the verdict, and where none is better, how large a difference there may be."""
    largest = result.ratio.difference
    small = result.verdict == "inconclusive" and largest is not None
    return f"{result.verdict}, {no_difference(largest)}" if small and largest else result.verdict


def targets(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the targets with what they can do, and below what the others lack."""
    able = [row for row in rows if row["available"]]
    cells = [
        (
            row["name"],
            row["runtime_version"],
            row["host"] or "this machine",
            row["engine"] or "",
            row["clock"] or "",
            {True: "yes", False: "no", None: "not known"}[row["sparse_kernels"]],
        )
        for row in able
    ]
    said = (
        table(("target", "version", "on", "engine", "counts", "sparse kernels"), cells)
        if able
        else []
    )
    return [*said, *(f"{row['name']}: {row['missing']}" for row in rows if not row["available"])]


def bisection(found: Bisection) -> list[str]:
    """Return where the outcome changed, and what may explain it."""
    count = f"{counted(len(found.releases), 'release')} of {found.target}"
    said = [f"{count}, {len(found.steps)} tried, {found.installed} installed"]
    for turn in found.turns:
        before, after = turn.before, turn.after
        said.append(f"{before.release} -> {after.release}: {before.outcome} -> {after.outcome}")
        if any(turn.sources):
            one, other = (date[:10] or "a date not known" for date in turn.sources)
            said.append(f"    XNNPACK of {one} -> of {other}")
        said += [f"    {name}: {CHANGES[name].what}" for name in turn.changes]
    if not found.turns:
        outcomes = {step.outcome for step in found.steps} - {None}
        said.append(f"the same in the oldest and the newest: {', '.join(map(str, outcomes))}")
    return said


def baselines(values: Sequence[RecordedValue]) -> list[str]:
    """Return all recorded values, one per line."""
    rows = [(entry.file, entry.test, entry.name, text(entry.value)) for entry in values]
    return table(("file", "test", "name", "value"), rows) if rows else ["nothing is recorded"]


def changes(found: Sequence[BaselineChange]) -> list[str]:
    """Return the values that changed, one per line."""
    rows = [
        (
            change.file,
            change.test,
            change.name,
            "added" if change.before is None else text(change.before),
            "removed" if change.after is None else text(change.after),
            "" if change.change is None else f"{100 * change.change:+.2g} %",
        )
        for change in found
    ]
    heading = ("file", "test", "name", "before", "after", "change")
    return table(heading, rows) if rows else ["no recorded value changed"]
