"""Fresh processes, cheaply: copies of one that has imported numpy and a runtime and done no more.

A copy has its own interpreters, heap and pages, but the addresses of its original's libraries. In
races of a model with itself (LiteRT 2.3.0, 20 originals of 4 copies each) copies of one original
were no more alike than copies of two: F = 0.85, p = 0.64. That they are never all of one original
is made sure of all the same, by another original after so many copies.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_sparsity.targets import Target, Worker

COPIES = 8
"""Copies of an original, at most, so that a race of 14 processes has at least two of them."""


class Originals:
    """The original that is at hand: one at most, since each takes 100 MB.

    Only the thread and the process that opened it use it: the one's end kills it, and a forked
    process would talk into the other's conversation.
    """

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._owner: tuple[object, ...] = ()
        self._copies = 0

    @contextmanager
    def process(
        self, target: Target, threads: int, now: Callable[[], float] = time.monotonic
    ) -> Iterator[tuple[Worker, float]]:
        """Start a fresh process of a target; yield its worker, and when it began.

        Raises:
            Unsupported, TargetError: see `Target.open`.
        """
        worker = self._at_hand(target, threads)
        begun = now()
        if worker is None:
            worker = target.open(threads=threads)
            if worker.hello.get("forks") is not True:
                with worker:
                    yield worker, begun
                return
            begun = now()
            self._keep(worker, target, threads)
        self._copies += 1
        with worker.copy():
            yield worker, begun

    def close(self) -> None:
        """End the original, if there is one of this process."""
        worker, self._worker = self._worker, None
        if worker is not None and self._owner[-1] == os.getpid():
            worker.close()

    def _at_hand(self, target: Target, threads: int) -> Worker | None:
        if self._worker is None or self._owner != _owner(target, threads):
            return None
        if self._copies >= COPIES or not self._worker.alive:
            return None
        return self._worker

    def _keep(self, worker: Worker, target: Target, threads: int) -> None:
        self.close()
        self._worker, self._owner, self._copies = worker, _owner(target, threads), 0


def _owner(target: Target, threads: int) -> tuple[object, ...]:
    return target, target.version(), threads, threading.get_ident(), os.getpid()


ORIGINALS = Originals()
atexit.register(ORIGINALS.close)
