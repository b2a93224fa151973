"""Turns: of all races of time on a machine, in whatever process and session, one runs at a time.

Two races at once would measure each other. Whoever finds another one running waits, and says so
once; counted races need no turn. The lock is one file for all users of the machine, so it is not
where `TMPDIR` says, which differs between users and sessions. Of a machine that is reached from
here there is a file too: races on two machines run at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity import progress, store
from pytest_sparsity.errors import CannotMeasure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def place() -> Path:
    """Return the file that the machine's lock is on."""
    shared = Path("/tmp")
    folder = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return folder / "pytest-sparsity.lock"


def _place_of(machine: str) -> Path:
    """Return the file for a machine by its name, "" for this one."""
    here = place()
    if not machine or machine == _boot():
        return here
    digest = hashlib.sha256(machine.encode()).hexdigest()[:12]
    return here.with_name(f"{here.stem}-{digest}.lock")


def _boot() -> str:
    """Return Linux' name of this machine until it is started again, which containers share."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


@contextlib.contextmanager
def turn(machines: Iterable[str] = ("",)) -> Iterator[None]:
    """Have machines for a race of time, after waiting for all others that have them.

    Args:
        machines: their names, "" for this one; another is known by the name that Linux gives it
            when it starts (`/proc/sys/kernel/random/boot_id`).

    Raises:
        CannotMeasure: a lock's file cannot be used.
    """
    with contextlib.ExitStack() as held:
        # In one order, or two races on the same two machines could wait for each other.
        for file in sorted({_place_of(machine) for machine in machines}):
            held.enter_context(_turn(file))
        yield


@contextlib.contextmanager
def _turn(file: Path) -> Iterator[None]:
    with contextlib.ExitStack() as held, contextlib.ExitStack() as waits:
        waited = False

        def wait(holder: int) -> None:
            nonlocal waited
            if not waited:
                waited = True
                by = f"process {holder}" if holder else "another process"
                where = "this machine" if file == place() else "that machine"
                sentence = f"waiting for its turn to race: {by} is racing on {where} ({file})"
                waits.enter_context(progress.WAITING.get()(sentence))

        try:
            held.enter_context(store.locked(file, wait))
        except OSError as error:
            raise CannotMeasure(
                f"timed races take turns with the lock file {file}, which cannot be used: "
                f"{error.strerror or error}; remove it, or have its owner remove it"
            ) from None
        waits.close()
        yield
