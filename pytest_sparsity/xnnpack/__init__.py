"""XNNPACK's rules of sparse inference, applied to a model without running it."""

from __future__ import annotations

from pytest_sparsity.xnnpack.builds import BUILDS, Build, build_of
from pytest_sparsity.xnnpack.prediction import Analysis, analyse, kernels, verdict
from pytest_sparsity.xnnpack.reasons import findings

__all__ = ["BUILDS", "Analysis", "Build", "analyse", "build_of", "findings", "kernels", "verdict"]
