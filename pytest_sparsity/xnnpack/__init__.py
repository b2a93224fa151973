"""XNNPACK's rules of sparse inference, applied to a model without running it."""

from __future__ import annotations

from pytest_sparsity.xnnpack.builds import BUILDS, Build, build_of
from pytest_sparsity.xnnpack.chains import why_dense, why_wrong
from pytest_sparsity.xnnpack.prediction import Analysis, analyse, kernels, sparse_nodes, verdict
from pytest_sparsity.xnnpack.reasons import findings

__all__ = [
    "BUILDS",
    "Analysis",
    "Build",
    "analyse",
    "build_of",
    "findings",
    "kernels",
    "sparse_nodes",
    "verdict",
    "why_dense",
    "why_wrong",
]
