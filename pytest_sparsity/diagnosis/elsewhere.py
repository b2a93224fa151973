"""What a file does where XNNPACK has sparse kernels, asked on a machine that has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity import xnnpack
from pytest_sparsity.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_sparsity.model import Model
    from pytest_sparsity.xnnpack import Analysis

PLACES = (("litert", "aarch64", "litert on ARM"), ("litert-js", "wasm32", "litert-js"))
"""Runtimes with sparse kernels on every CPU of an architecture, and how to call them."""


def analyses(model: Model) -> list[tuple[str, Analysis]]:
    """The rules for runtimes and CPUs with sparse kernels, in the versions verified."""
    versions = {build.runtime: build.version for build in xnnpack.BUILDS}
    return [
        (name, xnnpack.analyse(model, runtime, versions[runtime], arch, frozenset()))
        for runtime, arch, name in PLACES
    ]


def wrong_elsewhere(here: Analysis, verdict: str) -> Iterator[Finding]:
    """Wrong answers that this target hides because it has no sparse kernels."""
    if not here.closed or verdict in {"fails", "miscomputes"}:
        return
    wrong = {}
    for name, there in analyses(here.model):
        result = xnnpack.verdict(there)
        if result in {"fails", "miscomputes"}:
            wrong[name] = there
    if not wrong:
        return
    analysis = next(iter(wrong.values()))
    codes = {"wrong-layout", "set-up-fails", "permuted-shape"}
    causes = [f for f in xnnpack.findings(analysis) if f.code in codes]
    cause = f": {causes[0].message}" if causes else ""
    yield Finding(
        "wrong-elsewhere",
        f"right here, but wrong or unusable where there are sparse kernels ({', '.join(wrong)})"
        f"{cause}",
        causes[0].layer if causes else None,
        causes[0].remedy if causes else "run `pytest-sparsity explain` with --target litert-js",
    )
