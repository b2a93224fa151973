"""Turns: of all races of time on this machine, in whatever process and session, one runs at a time.

Two races at once would measure each other. Whoever finds another one running waits, and says so
once; counted races need no turn. The lock is one file for all users of the machine, so it is not
where `TMPDIR` says, which differs between users and sessions.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pytest_sparsity import store
from pytest_sparsity.errors import CannotMeasure

if TYPE_CHECKING:
    from collections.abc import Iterator

    Wait = contextlib.AbstractContextManager[object]


class Waiting(Protocol):
    """Told the sentence that says what is waited for, returns what is entered meanwhile."""

    def __call__(self, sentence: str, /) -> Wait:
        """Return a context manager that is left when the turn has come."""
        ...


_told: set[str] = set()


def _say(sentence: str) -> Wait:
    """Say it on stderr, the first time in this process."""
    if not _told:
        _told.add(sentence)
        sys.stderr.write(f"pytest-sparsity: {sentence}\n")
        sys.stderr.flush()
    return contextlib.nullcontext()


WAITING: ContextVar[Waiting] = ContextVar("waiting", default=_say)


def place() -> Path:
    """Return the file that the machine's lock is on."""
    shared = Path("/tmp")
    folder = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return folder / "pytest-sparsity.lock"


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """Have the machine for a race of time, after waiting for all others that have it.

    Raises:
        CannotMeasure: the lock's file cannot be used.
    """
    file = place()
    with contextlib.ExitStack() as held, contextlib.ExitStack() as waits:
        waited = False

        def wait(holder: int) -> None:
            nonlocal waited
            if not waited:
                waited = True
                by = f"process {holder}" if holder else "another process"
                sentence = f"waiting for its turn to race: {by} is racing on this machine ({file})"
                waits.enter_context(WAITING.get()(sentence))

        try:
            held.enter_context(store.locked(file, wait))
        except OSError as error:
            raise CannotMeasure(
                f"races of time take turns by {file}, which cannot be used: "
                f"{error.strerror or error}; remove it, or have its owner remove it"
            ) from None
        waits.close()
        yield
