"""What places on other machines share: all that is known of one is what it said when it started."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import TargetError, Unsupported
from pytest_sparsity.machine import Machine, parse_cpuinfo
from pytest_sparsity.targets.places import Place
from pytest_sparsity.targets.worker_process import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_sparsity.targets.runtimes import Runtime

# What machines said, by host and runtime: a hello, or why there was none, and when that was.
_heard: dict[tuple[str | None, str], tuple[Mapping[str, Any] | Unsupported, float]] = {}
# Seconds for which a machine that could not be worked with is not asked again.
PATIENCE = 60.0


def forget() -> None:
    """Ask all machines again."""
    _heard.clear()


class Remote(Place):
    """Another machine, whose workers say in their hello what it is.

    The hello has `board`: `cpuinfo`, its `/proc/cpuinfo`, `arch`, its `platform.machine()`,
    and `boot`, the name that Linux has given it when it was started.
    """

    def missing(self, runtime: Runtime, /) -> Unsupported | None:
        """Say what is missing as far as that is known; connects to nothing."""
        known = self._known(runtime)
        return known if isinstance(known, Unsupported) else None

    def heard(self, runtime: Runtime, said: Mapping[str, Any] | Unsupported, /) -> None:
        """Keep what a worker said when it started, or why there is none."""
        _heard[self.host, runtime.name] = said, time.monotonic()

    def version(self, runtime: Runtime, /) -> str:
        """Return the version of the runtime on the machine; connects if need be."""
        try:
            return str(self._hello(runtime).get("version", "unknown"))
        except (Unsupported, TargetError):
            return "unknown"

    def arch(self, runtime: Runtime, /) -> str:
        """Return the machine's architecture; connects if need be."""
        return self.machine(runtime).arch

    def features(self, runtime: Runtime, /) -> frozenset[str]:
        """Return the features of the machine's CPU; connects if need be."""
        return self.machine(runtime).features

    def machine(self, runtime: Runtime, /) -> Machine:
        """Return the machine's kind of machine; connects if need be."""
        board = self._hello(runtime)["board"]
        return parse_cpuinfo(board["cpuinfo"], board["arch"])

    def turn(self, runtime: Runtime, /) -> str:
        """Return what tells the machine from others, under whatever name; connects if need be."""
        return str(self._hello(runtime)["board"]["boot"]) or str(self.host)

    def _known(self, runtime: Runtime) -> Mapping[str, Any] | Unsupported | None:
        said, when = _heard.get((self.host, runtime.name), (None, 0.0))
        stale = isinstance(said, Unsupported) and time.monotonic() > when + PATIENCE
        return None if stale else said

    def _hello(self, runtime: Runtime) -> Mapping[str, Any]:
        """Return what the machine said when a worker last started there, or start one."""
        known = self._known(runtime)
        if known is None:
            try:
                with Worker(
                    self.named(runtime), self.launch(runtime, 1), timeout=self.timeout
                ) as worker:
                    known = worker.hello
            except Unsupported as error:
                known = error
            self.heard(runtime, known)
        if isinstance(known, Unsupported):
            raise known
        return known
