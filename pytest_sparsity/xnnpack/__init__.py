"""XNNPACK's rules of sparse inference, applied to a model without running it."""

from __future__ import annotations

from pytest_sparsity.xnnpack.prediction import Analysis, analyse, kernels, verdict

__all__ = ["Analysis", "analyse", "kernels", "verdict"]
