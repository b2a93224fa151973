"""Performance claims about pruned TFLite models, as tests that say why they fail.

Everything works without pytest too: `race("dense.tflite", "sparse.tflite", target="litert-js")`.
"""

from __future__ import annotations

from pytest_sparsity.errors import Inconclusive, ModelError, SparsityWarning, Unsupported
from pytest_sparsity.estimate import Estimate
from pytest_sparsity.findings import Finding
from pytest_sparsity.model import Layer, Model
from pytest_sparsity.race import Race, race
from pytest_sparsity.targets import Target
from pytest_sparsity.variants import Variants, build_variants

__version__ = "0.1.0"

__all__ = [
    "Estimate",
    "Finding",
    "Inconclusive",
    "Layer",
    "Model",
    "ModelError",
    "Race",
    "SparsityWarning",
    "Target",
    "Unsupported",
    "Variants",
    "__version__",
    "build_variants",
    "race",
]
