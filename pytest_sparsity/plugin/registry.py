"""The targets that plugins and `conftest.py` files add."""

from __future__ import annotations

from functools import partial

import pytest

from pytest_sparsity import targets


def register(config: pytest.Config) -> None:
    """Register the targets of the hook `pytest_sparsity_targets` for as long as the run lasts.

    Raises:
        pytest.UsageError: one of them is not a target, or has the name of another.
    """
    for made in config.hook.pytest_sparsity_targets(config=config):
        try:
            added = targets.register(made)
        except (TypeError, ValueError) as error:
            raise pytest.UsageError(f"pytest_sparsity_targets: {error}") from error
        config.add_cleanup(partial(targets.unregister, added))
