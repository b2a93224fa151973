"""What a file does where XNNPACK has sparse kernels, asked on a machine that has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity import xnnpack
from pytest_sparsity.findings import Finding, Remedy, finding
from pytest_sparsity.targets.runtimes import RUNTIMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_sparsity.model import Model
    from pytest_sparsity.xnnpack import Analysis

CALLED = {"aarch64": "{} on ARM"}
"""How a runtime on an architecture is called, if not by the runtime's name alone."""


def analyses(model: Model) -> list[tuple[str, Analysis]]:
    """The rules for runtimes and CPUs with sparse kernels, in their newest releases."""
    found = []
    for runtime in RUNTIMES.values():
        if runtime.sparse_arch:
            name = CALLED.get(runtime.sparse_arch, "{}").format(runtime.name)
            version = xnnpack.newest(runtime.rules).version
            where = runtime.rules, version, runtime.sparse_arch, frozenset[str]()
            found.append((name, xnnpack.analyse(model, *where)))
    return found


def findings(here: Analysis, verdict: str) -> list[Finding]:
    """What this target hides because it has no sparse kernels.

    Args:
        here: the rules for the target.
        verdict: on the target.
    """
    if not here.closed or verdict in xnnpack.WRONG:
        return []
    there = analyses(here.model)
    return [*_wrong(there), *xnnpack.why_dense(there[0][1])]


def _wrong(there: list[tuple[str, Analysis]]) -> Iterator[Finding]:
    """Wrong outputs on CPUs with sparse kernels."""
    wrong = {
        name: analysis for name, analysis in there if xnnpack.verdict(analysis) in xnnpack.WRONG
    }
    if not wrong:
        return
    causes = xnnpack.why_wrong(next(iter(wrong.values())))
    cause = f": {causes[0].message}" if causes else ""
    yield finding(
        "wrong-elsewhere",
        causes[0].layer if causes else None,
        remedy=Remedy(causes[0].remedy, causes[0].takes) if causes else None,
        places=", ".join(wrong),
        cause=cause,
    )
