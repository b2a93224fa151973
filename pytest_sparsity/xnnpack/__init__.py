"""XNNPACK's rules of sparse inference, applied to a model without running it."""

from __future__ import annotations

from pytest_sparsity.xnnpack.chains import why_dense, why_wrong
from pytest_sparsity.xnnpack.prediction import (
    WRONG,
    Analysis,
    analyse,
    kernels,
    sparse_nodes,
    verdict,
)
from pytest_sparsity.xnnpack.prunable import prunable_layers
from pytest_sparsity.xnnpack.reasons import findings
from pytest_sparsity.xnnpack.releases import RELEASES, Release, newest, release_of

__all__ = [
    "RELEASES",
    "WRONG",
    "Analysis",
    "Release",
    "analyse",
    "findings",
    "kernels",
    "newest",
    "prunable_layers",
    "release_of",
    "sparse_nodes",
    "verdict",
    "why_dense",
    "why_wrong",
]
