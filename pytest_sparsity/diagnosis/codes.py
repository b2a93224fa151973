"""The codes of all findings, the most important first. `docs/findings.md` explains them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_sparsity.findings import Finding

CODES = (
    # The evidence contradicts itself.
    "rules-disagree",
    "probe-disagrees",
    # The file is not what it is taken for.
    "different-network",
    "weights-changed",
    "weights-lost",
    # Wrong answers, here or elsewhere.
    "does-not-load",
    "crashes",
    "outputs-differ",
    "op-version",
    "dynamic-range-sparse",
    "int8-dense-sparse",
    "fp16-blocks",
    "blocks-delegated",
    "dropped-columns",
    "ledger-overflow",
    "per-channel-blocks",
    "no-densify",
    "never-unpacked",
    "unwritten-output",
    "wrong-layout",
    "set-up-fails",
    "permuted-shape",
    "wrong-elsewhere",
    # Why the kernels stay dense: the file, the target, the graph.
    "channels-removed",
    "nothing-prunable",
    "not-pruned",
    "not-encoded",
    "quantized",
    "scattered-zeros",
    "x86-avx",
    "no-sparse-build",
    "needs-fp16",
    "delegate-off",
    "too-few-zeros",
    "entry",
    "no-exit",
    "not-delegated",
    "incompatible-layer",
    "value-leaves",
    "no-hint",
    "below-threshold",
    "no-rules",
    # Size.
    "file-larger",
    "encoding-larger",
    # Speed and memory beside the kernels.
    "other-layers",
    "subnormal-weights",
    "threads",
    "memory",
    "unaligned-channels",
    # Good to know.
    "needs-inputs",
    "constant-output",
    "not-compared",
    "output-shape",
    "keeps-state",
    "rules-unverified",
)


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings without repetitions, the most important first, in the order of the layers."""
    return tuple(
        sorted(
            dict.fromkeys(findings),
            key=lambda f: (CODES.index(f.code), -1 if f.layer is None else f.layer),
        )
    )
