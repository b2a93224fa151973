"""What holds where nobody says otherwise: one owner for functions, options and the command line."""

from __future__ import annotations

TARGET = "litert"
"""Where a model runs."""
SPARSE_TARGET = "litert-js"
"""Where a model runs that is to run sparse kernels: every machine can have it."""
BUDGET: float = 10
"""Seconds that a race may take."""
SUITE_BUDGET: float = 60
"""The same in `pytest_sparsity.suite`, whose user has one race and nobody waiting for others."""
CONFIDENCE = 0.95
"""Of every interval."""
