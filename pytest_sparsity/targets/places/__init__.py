"""The places that models run at, one module each; none knows of another's existence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.machine import Machine, this_machine
from pytest_sparsity.targets.runtimes import named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_sparsity.targets.child import Launch
    from pytest_sparsity.targets.runtimes import Runtime


def this_arch() -> str:
    """Return this machine's architecture in Linux' spelling."""
    spelt = {"AMD64": "x86_64", "arm64": "aarch64"}
    return spelt.get(this_machine().arch, this_machine().arch)


class Place:
    """What a target runs on. A subclass says how its worker is started, and overrides what differs.

    Attributes:
        host: the name after the `@` of its targets, None for this machine.
        release: the release of the runtime that its targets name, "" for what is installed.
        unit: what a race counts there, `"seconds"` or `"instructions"`.
        timeout: seconds that any one answer of a worker may take.
        shows_outputs: a worker there shows what a model computes.
        takes_inputs: a worker there runs models on what it is given.
    """

    host: str | None = None
    release: str = ""
    unit: str = "seconds"
    timeout: float = 60.0
    shows_outputs: bool = True
    takes_inputs: bool = True

    def launch(self, runtime: Runtime, threads: int, /) -> Launch:
        """Return how to start the worker, after preparing what that needs.

        Args:
            runtime: the runtime.
            threads: of the models that it is to load.

        Raises:
            Unsupported: the runtime cannot be started thus; with a remedy.
        """
        raise NotImplementedError

    def missing(self, runtime: Runtime, /) -> Unsupported | None:  # noqa: ARG002
        """Say what is missing and the command that installs it; starts nothing."""
        return None

    def version(self, runtime: Runtime, /) -> str:  # noqa: ARG002
        """Return the runtime's version without importing it, "unknown" if it cannot be told."""
        return "unknown"

    def arch(self, runtime: Runtime, /) -> str:  # noqa: ARG002
        """Return the architecture that the runtime's code is for, in Linux' spelling."""
        return this_arch()

    def features(self, runtime: Runtime, /) -> frozenset[str]:  # noqa: ARG002
        """Return the CPU features that the runtime sees, as Linux spells them."""
        return this_machine().features

    def machine(self, runtime: Runtime, /) -> Machine | None:  # noqa: ARG002
        """Return the kind of machine that a worker runs on, None for this one."""
        return None

    def turn(self, runtime: Runtime, /) -> str:  # noqa: ARG002
        """Return the name of the machine that races of time there take turns on; "" is this one."""
        return ""

    def heard(self, runtime: Runtime, said: Mapping[str, Any] | Unsupported, /) -> None:
        """Take note of the hello of a worker that has started, or of why none has."""

    def install(self, runtime: Runtime, progress: Callable[[str], None], /) -> None:
        """Bring what `missing` names, as far as that needs no root.

        Args:
            runtime: the runtime.
            progress: gets one line before every step.

        Raises:
            Unsupported: something is missing that only the user can bring; with the command.
        """

    def published(self, runtime: Runtime, /) -> tuple[str, ...]:
        """Return the releases of a runtime that could be had there, the oldest first.

        Raises:
            Unsupported: there are none, or they cannot be listed.
        """
        raise Unsupported(f"{self.named(runtime)} has no releases that can be installed one by one")

    def at(self, release: str, /) -> Place:
        """Return the place for another release of a runtime, "" for what is installed.

        Raises:
            Unsupported: no release can be had there.
        """
        raise Unsupported(f"no release {release} can be installed there")

    def discard(self, runtime: Runtime, /) -> bool:  # noqa: ARG002
        """Remove what `install` brought, so that it begins again; False if it brings nothing."""
        return False

    def cannot_count(self) -> Unsupported | None:
        """Say why instructions cannot be counted although the target runs, or None."""
        return None

    def functions(self, runtime: Runtime, model: Path, /) -> Mapping[str, int | None]:  # noqa: ARG002
        """Return the functions of the runtime that run in one inference, by name.

        Returns:
            How many of its instructions an inference executes; None where it is only known that
            it was reached.

        Raises:
            Unsupported: they cannot be had there.
        """
        raise Unsupported(f"the library of {self.named(runtime)} does not name its microkernels")

    def named(self, runtime: Runtime) -> str:
        """Return the name of the target of this place and a runtime."""
        return named(runtime.name, self.release, self.host)
