"""This machine: the Python runtimes in a child of the same Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_sparsity.targets import callgrind, releases
from pytest_sparsity.targets.places import Place

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_sparsity.errors import Unsupported
    from pytest_sparsity.targets.child import Launch
    from pytest_sparsity.targets.runtimes import Runtime
    from pytest_sparsity.targets.setting_up import Progress


@dataclass(frozen=True)
class Native(Place):
    """This machine.

    Attributes:
        release: the release that is run, "" for the one that is installed.
    """

    release: str = ""

    def missing(self, runtime: Runtime, /) -> Unsupported | None:
        """Say what the runtime lacks here, or None; imports and starts nothing."""
        return releases.missing(runtime, self.release)

    def version(self, runtime: Runtime, /) -> str:
        """Return the version of the runtime, or "unknown"; does not import it."""
        return releases.version(runtime, self.release)

    def launch(self, runtime: Runtime, threads: int, /) -> Launch:  # noqa: ARG002  (come with `load`)
        """Return how to start the worker."""
        return releases.environment(runtime, self.release).launch(runtime)

    def install(self, runtime: Runtime, progress: Progress, /) -> None:
        """Install the release that is named."""
        if self.release:
            releases.install(runtime, self.release, progress)

    def published(self, runtime: Runtime, /) -> tuple[str, ...]:
        """Return the releases that have a wheel for this Python."""
        return releases.published(runtime)

    def at(self, release: str, /) -> Native:
        """Return this machine with a release."""
        return Native(release)

    def discard(self, runtime: Runtime, /) -> bool:
        """Remove the release that is named; False if none is."""
        return releases.discard(runtime, self.release)

    def functions(self, runtime: Runtime, model: Path, /) -> Mapping[str, int | None]:
        """Return the instructions of one inference by function, counted by valgrind."""
        if not runtime.symbols:
            return super().functions(runtime, model)
        return callgrind.executed(self.named(runtime), self.launch(runtime, 1), model)
