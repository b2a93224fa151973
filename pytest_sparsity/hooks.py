"""The hooks that a `conftest.py` or another plugin may implement."""

from __future__ import annotations

import pytest


@pytest.hookspec(firstresult=True)
def pytest_sparsity_machine(config: pytest.Config) -> str | None:
    """Return the name of the kind of machine that this is, instead of a fingerprint of its CPU.

    Ratios of times are recorded per kind of machine, and by default the CPU's brand, model and
    number of cores tell them apart. A pool of machines that are alike, or one that lies about its
    CPU, is better named; runtime and version are added to the name in any case:

        def pytest_sparsity_machine(config):
            return os.environ.get("RUNNER_POOL")

    The first answer that is not None counts.
    """
