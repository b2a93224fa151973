"""A diagnosis in lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.wording import counted
from pytest_sparsity.xnnpack.names import PRUNED_FROM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.diagnosis.diagnosis import Diagnosis
    from pytest_sparsity.findings import Finding
    from pytest_sparsity.model import Layer

ROWS = 20
"""Most layers in the table below a failure."""
NAME = 40
"""Longest name of a layer in the table; longer ones lose their beginning."""


def lines(diagnosis: Diagnosis, limit: int = 12) -> list[str]:
    """The diagnosis in at most `limit` lines, the most important first; the last tells of the rest.

    The first line is the headline; each finding takes a line, and one more for its remedy.
    """
    said = [diagnosis.headline]
    cause = diagnosis.cause
    # Its remedy follows the headline, which has its message.
    findings = sorted(diagnosis.findings, key=lambda each: each != cause)
    while findings:
        entry = finding_lines(findings[0])
        if findings[0] == cause:
            entry = entry[1:]
        rest = len(findings) - 1
        if len(said) + len(entry) + bool(rest) > limit:
            break
        said += entry
        findings.pop(0)
    if findings and len(said) < limit:
        said.append(f"... and {counted(len(findings), 'more finding')}")
    return said[:limit]


def finding_lines(finding: Finding) -> list[str]:
    """One finding: its message, and its remedy below, with what that takes in brackets."""
    takes = f" [{finding.takes}]" if finding.takes else ""
    remedy = [f"    -> {finding.remedy}{takes}"] if finding.remedy else []
    return [f"  {finding.code}: {finding.message}", *remedy]


def layer_table(diagnosis: Diagnosis, *, news: bool = False) -> list[str]:
    """All layers with their kernels, as lines of aligned columns under a header.

    Args:
        diagnosis: of the model.
        news: leave out runs of layers that nothing happened to: hardly any zeros, stored densely,
            run by dense kernels, and not what a finding is about; and of a network of many layers
            all behind the first ones.
    """
    header = ("layer", "operator", "shape", "zeros", "stored", "kernel", "name")
    told = {finding.layer for finding in diagnosis.findings}
    rows: list[tuple[str, ...]] = [header]
    left_out: list[Layer] = []

    def elide() -> None:
        if len(left_out) == 1:
            rows.append(_row(left_out[0], "dense"))
        elif left_out:
            rows.append(("...", f"{len(left_out)} layers without zeros", *[""] * 5))
        left_out.clear()

    for layer, kernel in zip(diagnosis.model.layers, diagnosis.kernels, strict=True):
        plain = layer.sparsity < PRUNED_FROM and layer.encoding == "dense" and kernel == "dense"
        if news and plain and layer.index not in told:
            left_out.append(layer)
            continue
        elide()
        rows.append(_row(layer, kernel))
    elide()
    more = len(rows) - 1 - ROWS
    if news and more > 1:
        model = diagnosis.model.path.name
        said = f"{more} more rows: pytest-sparsity explain {model} --target {diagnosis.target}"
        return [*_aligned(rows[: ROWS + 1]), f"...    {said}"]
    return _aligned(rows)


def _row(layer: Layer, kernel: str) -> tuple[str, ...]:
    name = layer.name if len(layer.name) <= NAME else f"...{layer.name[3 - NAME :]}"
    shape = "x".join(map(str, layer.shape))
    zeros = f"{layer.sparsity:.1%}"
    return (str(layer.index), layer.op, shape, zeros, layer.encoding, kernel, name)


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def explanation(diagnosis: Diagnosis, *, news: bool = False) -> list[str]:
    """Headline, table of layers, all findings; `news` as of `layer_table`."""
    said = [diagnosis.headline, "", *layer_table(diagnosis, news=news)]
    if diagnosis.findings:
        said.append("")
    for finding in diagnosis.findings:
        said += finding_lines(finding)
    return said
