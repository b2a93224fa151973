"""This machine: the Python runtimes in a child of the same Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_sparsity.targets import callgrind
from pytest_sparsity.targets.places import Place
from pytest_sparsity.targets.python import Environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_sparsity.errors import Unsupported
    from pytest_sparsity.targets.child import Launch
    from pytest_sparsity.targets.runtimes import Runtime


@dataclass(frozen=True)
class Native(Place):
    """This machine.

    Attributes:
        environment: where Python finds the runtimes.
    """

    environment: Environment = field(default_factory=Environment)

    def missing(self, runtime: Runtime, /) -> Unsupported | None:
        """Say what the runtime lacks here, or None; imports and starts nothing."""
        return self.environment.missing(runtime)

    def version(self, runtime: Runtime, /) -> str:
        """Return the version of the installed runtime, or "unknown"; does not import it."""
        return self.environment.version(runtime)

    def launch(self, runtime: Runtime, threads: int, /) -> Launch:  # noqa: ARG002  (come with `load`)
        """Return how to start the worker."""
        return self.environment.launch(runtime)

    def functions(self, runtime: Runtime, model: Path, /) -> Mapping[str, int | None]:
        """Return the instructions of one inference by function, counted by valgrind."""
        if not runtime.symbols:
            return super().functions(runtime, model)
        return callgrind.executed(self.named(runtime), self.launch(runtime, 1), model)
