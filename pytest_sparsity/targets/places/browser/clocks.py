"""The CPU time of another process: a browser's renderer has no such clock of its own."""

from __future__ import annotations

import ctypes
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.targets.places.browser.keeper import children

if TYPE_CHECKING:
    from collections.abc import Callable

_PREEMPTED = re.compile(r"^nonvoluntary_ctxt_switches:\s*(\d+)", re.MULTILINE)
# Of the CPU time that all processes take while the page computes, what the renderer must take, and
# how many ns at least: on a machine with other work a page that computes for 0.1 s gets little.
SHARE = 0.5
LEAST_NS = 3_000_000
# Of what the renderer took then, what it may take as long while the page does nothing.
RESTING = 0.25


@dataclass(frozen=True)
class CpuClock:
    """The CPU time of all threads of a process, those that have ended among them.

    Attributes:
        pid: the process.
        number: the system's number of its clock.
    """

    pid: int
    number: int

    @classmethod
    def of(cls, pid: int) -> CpuClock | None:
        """Return the clock of a process, None if the system has none (clock_getcpuclockid(3))."""
        library = ctypes.CDLL(None)
        if not hasattr(library, "clock_getcpuclockid"):
            return None
        number = ctypes.c_int()
        if library.clock_getcpuclockid(ctypes.c_int(pid), ctypes.byref(number)):
            return None
        return cls(pid, number.value)

    def ns(self) -> int:
        """Return the CPU time so far, ns; `OSError` if the process has ended."""
        return time.clock_gettime_ns(self.number)

    def preempted(self) -> int:
        """Return how often its main thread, which computes, was interrupted so far."""
        found = _PREEMPTED.search(Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8"))
        return int(found[1]) if found else 0


def busiest(keeper: int, act: Callable[[], None], tries: int = 2) -> CpuClock | None:
    """Return the clock of the process that does what is asked for, found by its CPU time.

    Which of a browser's processes runs a page is written nowhere that holds for all browsers; and
    a clock that has seen the page compute is proven to be the right one. While a browser starts,
    others may be as busy, so it must be the same process twice in a row, and at rest between.

    Args:
        keeper: the process below which the browser's are.
        act: lets the page compute.
        tries: how often that is done at most.

    Returns:
        None if no process took most of the time, or there are no such clocks.
    """
    last: CpuClock | None = None
    for _ in range(tries):
        found = _busiest(keeper, act)
        if found is not None and found == last:
            return found
        last = found
    return None


def _busiest(keeper: int, act: Callable[[], None]) -> CpuClock | None:
    clocks = [clock for pid in _below(keeper) if (clock := CpuClock.of(pid))]
    begun = time.monotonic()
    used = _used(clocks, act)
    took = time.monotonic() - begun
    most = max(used, default=0)
    if most < max(LEAST_NS, SHARE * sum(used)):
        return None
    found = used.index(most)
    resting = _used(clocks, lambda: time.sleep(took))[found]
    return clocks[found] if resting < RESTING * most else None


def _used(clocks: list[CpuClock], act: Callable[[], None]) -> list[int]:
    before = [_read(clock) for clock in clocks]
    act()
    return [_read(clock) - at for clock, at in zip(clocks, before, strict=True)]


def _read(clock: CpuClock) -> int:
    try:
        return clock.ns()
    except OSError:  # it has ended
        return 0


def _below(process: int) -> list[int]:
    """Return all processes that have come of a process."""
    found = children(process)
    return found + [each for child in found for each in _below(child)]
