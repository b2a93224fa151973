"""What all tests of this repository share."""

from __future__ import annotations

import importlib.metadata

import pytest
from hypothesis import settings

# Examples are timed by nobody: a deadline would only fail on a busy machine.
settings.register_profile("quick", max_examples=50, derandomize=True, deadline=None)
settings.register_profile("nightly", max_examples=500, deadline=None, print_blob=True)
settings.load_profile("quick")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run where the plugin under test is not installed, or its entry point is stale."""
    points = importlib.metadata.entry_points(group="pytest11", name="sparsity")
    if not points:
        raise pytest.UsageError(
            "pytest-sparsity is not installed; install it with: python -m pip install -e ."
        )
