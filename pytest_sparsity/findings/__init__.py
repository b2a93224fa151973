"""A finding: one reason why a claim about a model holds or fails, and what to do about it.

The sentences stand in one table, `CATALOGUE`, by code; what finds something has only figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_sparsity.findings import beside, dense, evidence, wrong
from pytest_sparsity.findings.kinds import TAKES, Kind, Remedy

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "CATALOGUE",
    "CODES",
    "GROUPS",
    "TAKES",
    "Finding",
    "Kind",
    "Remedy",
    "finding",
    "ranked",
]

GROUPS: tuple[tuple[str, tuple[Kind, ...]], ...] = (
    ("The evidence contradicts itself", evidence.CONTRADICTIONS),
    ("The file is not what it is taken for", evidence.CONTENT),
    ("Wrong outputs, here or elsewhere", wrong.KINDS),
    ("Why the kernels stay dense", dense.KINDS),
    ("Size", beside.SIZE),
    ("Speed and memory beside the kernels", beside.COSTS),
    ("Good to know", beside.NOTES),
)
"""All kinds of findings under their headings, the most important first."""
CATALOGUE = {kind.code: kind for _, kinds in GROUPS for kind in kinds}
CODES = tuple(CATALOGUE)


@dataclass(frozen=True)
class Finding:
    """One reason, for people and for programs.

    Attributes:
        code: stable identifier, e.g. `"x86-avx"`; part of the command line's JSON contract.
        message: one sentence that says what is the case.
        layer: index of the layer in `Model.layers`, or None if the finding is about the whole file.
        remedy: what to do about it, imperative; empty if nothing can be done.
        takes: what the remedy takes: "file", "conversion", "training", "runtime", or "" where only
            the claim is to change.
    """

    code: str
    message: str
    layer: int | None = None
    remedy: str = ""
    takes: str = ""


def finding(
    code: str, layer: int | None = None, *, remedy: Remedy | None = None, **figures: object
) -> Finding:
    """A finding in the words of the catalogue.

    Args:
        code: which one.
        layer: index of the layer in `Model.layers`.
        remedy: where it depends on what was found, instead of the catalogue's.
        figures: for the sentence and the remedy, by name.

    Raises:
        KeyError: there is no such code, or a figure is missing.
    """
    kind = CATALOGUE[code]
    cure = remedy or kind.remedy
    message, advice = kind.sentence.format(**figures), cure.text.format(**figures)
    return Finding(code, message, layer, advice, cure.takes)


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings without repetitions, the most important first, in the order of the layers."""
    return tuple(
        sorted(
            dict.fromkeys(findings),
            key=lambda f: (CODES.index(f.code), -1 if f.layer is None else f.layer),
        )
    )
