"""docs/findings.md, made of the catalogue: `python -m pytest_sparsity.diagnosis.page FILE`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.findings import GROUPS, TAKES, Kind
from pytest_sparsity.xnnpack.changes import CHANGES
from pytest_sparsity.xnnpack.node_rules import NODES
from pytest_sparsity.xnnpack.operator_rules import OPERATORS
from pytest_sparsity.xnnpack.releases import RELEASES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_sparsity.xnnpack.rules import Rule

MADE = "<!-- Made by `python -m pytest_sparsity.diagnosis.page docs/findings.md`. -->"
BEGINNING = """\
# Findings

A diagnosis lists its findings, the most important first. Each has a code, which does not change,
one sentence with the figures of your model, and a remedy with what it takes in brackets. This page
says what each code means, in the same order. `pytest-sparsity explain MODEL --target TARGET` prints
them; `--json` has them under `findings`. Those that compare with a dense counterpart
(`different-network`, `weights-changed`, `weights-lost`, `channels-removed`) come with a failed race
and with `diagnose(model, dense=...)`.

"Sparse chain" below is what XNNPACK looks for: a 3x3 entry convolution, then only layers that it
can compute channels-first, up to a global average pool or depth-to-space. Within it 1x1
convolutions run sparse if more than two thirds of their weights, pooled over the chain, are zero.

What a remedy takes:
"""
RULES = """
## What breaks a sparse chain

`wrong-layout`, `incompatible-layer` and `entry` name the rule that a layer breaks. XNNPACK's are in
`src/subgraph.c`. Where the remedy takes the file, `pytest-sparsity repair` has an exact rewrite,
and the text below is what else helps, or what is left if the rewrite does not apply to a graph.
"""
REFUSED = """
## What XNNPACK's delegate does not take

`not-delegated` names why an operator is left to TFLite's own kernels.
"""
VERSIONS = """
## What changed in XNNPACK

The rules of a release are those of its sources. Of a version that is not listed the nearest
release's are applied, and `rules-unverified` says so.
"""


def page() -> str:
    """The whole page."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield f"{MADE}\n"
    yield BEGINNING
    yield from _table(("in brackets", "what that is"), ((k or "none", v) for k, v in TAKES.items()))
    for heading, kinds in GROUPS:
        yield f"\n## {heading}"
        for kind in kinds:
            yield from _section(kind)
    yield RULES
    yield from _rules(NODES)
    yield REFUSED
    yield from _rules(OPERATORS)
    yield VERSIONS
    changes = [
        (f"`{c.name}`", c.where, c.date[:10], c.commit or "seen", c.what, _first(c.name))
        for c in CHANGES.values()
    ]
    columns = ("change", "of", "date", "commit", "since then", "first release in the table")
    yield from _table(columns, changes)
    yield ""
    releases = [(str(r), r.xnnpack, r.xnnpack_date[:10], r.tflite_date[:10]) for r in RELEASES]
    yield from _table(("release", "XNNPACK", "of", "delegate of"), releases)
    yield ""


def _section(kind: Kind) -> Iterator[str]:
    takes = f" [{kind.remedy.takes}]" if kind.remedy.takes else ""
    yield f"\n### `{kind.code}`\n"
    yield kind.about.strip()
    yield f"\nRemedy{takes}: {kind.remedy.text.format_map(_Names())}."


class _Names(dict[str, str]):
    """Shows the names of figures where there are none."""

    def __missing__(self, name: str) -> str:
        return name.upper()


def _rules(rules: tuple[Rule, ...]) -> Iterator[str]:
    rows = [
        (f"`{rule.name}`", rule.clause, rule.remedy.text, rule.takes, f"`{rule.upstream}`")
        for rule in rules
    ]
    yield from _table(("rule", "said as", "remedy", "takes", "follows"), rows)


def _first(name: str) -> str:
    """The first release of each runtime that has a change."""
    firsts: dict[str, str] = {}
    for release in RELEASES:
        if release.has(name):
            firsts.setdefault(release.runtime, str(release))
    return ", ".join(firsts.values())


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(heading)} |"
    yield f"|{' --- |' * len(heading)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
