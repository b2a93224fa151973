"""The hooks that a `conftest.py` or another plugin may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_sparsity.targets import Target


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


@pytest.hookspec
def pytest_sparsity_targets(config: pytest.Config) -> Iterable[Target]:  # type: ignore[empty-body]
    """Return targets of your own, which then can be named like those of pytest-sparsity.

    A target is a runtime at a place. A runtime in Python is a record: the module whose
    `Interpreter` has the interface of TFLite's, and the packages whose version is its version. A
    place says how its worker is started. `rules` names the runtime whose rules of sparse inference
    apply; without them what is observed decides alone.

        def pytest_sparsity_targets(config):
            runtime = Runtime("my-tflite", module="my_tflite.interpreter", packages=("my-tflite",))
            return [Target("my-tflite", runtime, Native())]

    All implementations count, those of plugins and of the `conftest.py` files that pytest reads at
    its start: that of the root folder and those of the folders named on the command line.
    """
