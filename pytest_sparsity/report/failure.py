"""What a failed claim prints: what was claimed, what was measured, on what, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.baseline.recorded import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.baseline import Comparison
    from pytest_sparsity.diagnosis import Diagnosis
    from pytest_sparsity.estimate import Estimate
    from pytest_sparsity.findings import Finding
    from pytest_sparsity.model import Model
    from pytest_sparsity.race import Race, Timing
    from pytest_sparsity.variants import Variants

# What pytest (8.4 to 9.2) prints of an explanation before it cuts it: `_pytest.assertion.truncate`.
LINES, CHARACTERS = 8, 640
# Keras joins the names of all operators that were fused into one.
NAME = 40


def refuted(claim: str, estimate: Estimate, race: Race | None) -> list[str]:
    """Return the explanation of a comparison that is False, without the reasons."""
    lines = [f"{claim} is refuted", f"measured  {_measured(estimate.latest(), race)}"]
    if race is not None:
        dense, sparse = (timing(value, race.unit) for value in (race.dense, race.sparse))
        lines.append(f"dense     {dense}    sparse  {sparse} per inference")
        lines.append(f"on        {where(race)}")
    return lines


def baseline(comparison: Comparison, race: Race | None) -> list[str]:
    """Return the explanation of a comparison with a baseline that is False, without the reasons."""
    today, name = text(comparison.today), repr(comparison.name)
    if race is None:
        lines = [f"{today} {comparison}"]
    else:
        recorded = f"{comparison.operator} {text(comparison.recorded)}"
        lines = [
            f"{name} {recorded}, as recorded, within {100 * comparison.within:g} % is refuted",
            f"measured  {today}",
            f"recorded  in {comparison.file}",
            f"on        {where(race)}",
        ]
    if comparison.change is not None:
        lines.append(f"{name} moved by {100 * comparison.change:+.2g} %{_difference(comparison)}")
    return lines + _elements(comparison)


def _difference(comparison: Comparison) -> str:
    today, recorded = comparison.today, comparison.recorded
    if isinstance(today, int) and isinstance(recorded, int):
        return f" ({today - recorded:+,})"
    return ""


def _elements(comparison: Comparison) -> list[str]:
    """Say which elements of two lists differ."""
    today, recorded = comparison.today, comparison.recorded
    if not isinstance(today, list) or not isinstance(recorded, list):
        return []
    if len(today) != len(recorded):
        return [f"{len(recorded)} elements were recorded, there are {len(today)} today"]
    differing = [i for i, (a, b) in enumerate(zip(today, recorded, strict=True)) if a != b]
    shown = [f"[{i}] {text(recorded[i])} -> {text(today[i])}" for i in differing[:4]]
    more = f", {len(differing) - 4} more" if len(differing) > 4 else ""
    return [f"differing: {', '.join(shown)}{more}"]


def reasons(diagnosis: Diagnosis, *, lines: int, characters: int) -> list[str]:
    """Return the headline and as many findings with their remedies as fit, the first ones first."""
    said = [f"because   {diagnosis.headline}"]
    for finding in diagnosis.findings:
        more = finding_lines(finding)
        room = characters - sum(map(len, said))
        if len(said) + len(more) > lines or sum(map(len, more)) > room:
            break
        said += more
    return said


def finding_lines(finding: Finding) -> list[str]:
    """Return a finding and, below it, what to do."""
    layer = "" if finding.layer is None else f"layer {finding.layer}: "
    remedy = [f"  {finding.remedy}"] if finding.remedy else []
    return [f"- {layer}{finding.message}", *remedy]


def explanation(claim: list[str], diagnosis: Diagnosis | str | None, remedy: str = "") -> list[str]:
    """Return a claim's lines, the reasons, as far as pytest does not cut them off, and a remedy."""
    last = [remedy] if remedy else []
    if diagnosis is None:
        return claim + last
    if isinstance(diagnosis, str):
        return [*claim, diagnosis, *last]
    lines, used = len(claim) + len(last), sum(map(len, claim + last))
    why = reasons(diagnosis, lines=LINES - lines, characters=CHARACTERS - used)
    return [*claim, *why, *last]


def section(diagnosis: Diagnosis | str) -> str:
    """Return all findings and what became of each layer, for the section below a failure."""
    if isinstance(diagnosis, str):
        return diagnosis
    name, target = diagnosis.model.path.name, diagnosis.target
    said = [f"{name} on {target}: {diagnosis.headline} ({diagnosis.evidence})"]
    for finding in diagnosis.findings:
        said += finding_lines(finding)
    return "\n".join([*said, "", *layer_table(diagnosis.model, diagnosis.kernels)])


def layer_table(model: Model, kernels: Sequence[str] = ()) -> list[str]:
    """Return a table of layers: what each is, its zeros, how it is stored and which kernel runs."""
    rows = [
        (
            str(layer.index),
            layer.op,
            "x".join(map(str, layer.shape)),
            f"{layer.sparsity:.1%}",
            layer.encoding,
            f"{layer.nbytes:,}",
            kernels[layer.index] if kernels else "",
            layer.name if len(layer.name) <= NAME else f"{layer.name[: NAME - 3]}...",
        )
        for layer in model.layers
    ]
    return table(("layer", "op", "shape", "zeros", "encoding", "bytes", "kernel", "name"), rows)


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of padded columns; a column that is empty throughout is left out."""
    kept = [index for index in range(len(heading)) if any(row[index] for row in rows)]
    lines = [[row[index] for index in kept] for row in [heading, *rows]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def sizes(variants: Variants, diagnosis: Diagnosis | str) -> str:
    """Return the sizes of a network's three files, and what a diagnosis says of the sparse one."""
    files = {"dense": variants.dense, "pruned": variants.pruned, "sparse": variants.sparse}
    rows = [
        (name, f"{model.nbytes:,}", f"{model.sparsity:.1%}", str(model.path))
        for name, model in files.items()
    ]
    return "\n".join([*table(("file", "bytes", "zeros", "path"), rows), "", section(diagnosis)])


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
    facts = race.evidence
    version = " ".join(str(facts[name]) for name in ("version", "engine") if name in facts)
    threads = f"{race.threads} thread{'s' if race.threads > 1 else ''}"
    machine = race.target.host or facts.get("machine", "")
    return f"{race.target} {version}, {threads}, {machine}"


def _measured(estimate: Estimate, race: Race | None) -> str:
    if race is None:
        return str(estimate)
    clock = {"cpu": "CPU time", "wall": "wall time"}.get(race.clock, race.clock)
    processes = f"{race.trials} process{'es' if race.trials != 1 else ''}"
    pairs = f"{race.pairs} pair{'s' if race.pairs != 1 else ''}"
    return f"{estimate}; {processes}, {pairs}, {race.wall_seconds:.1f} s, {clock}"
