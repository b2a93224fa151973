"""Processes that we start, and the files that we leave to them: none outlives this process.

A child is killed by the kernel when this process dies, however that happens, also while it computes
in native code. It may take so much memory and no more, and leaves no core file. Files for children
are in one folder, which goes with this process; that of a process that was killed is removed by the
next one that needs a folder.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GUARD = Path(__file__).with_name("guard.py")
PREFIX = "pytest-sparsity-"
_LOCK = ".lock"


def guarded(command: Sequence[str], memory: int | None = None) -> tuple[str, ...]:
    """Return a command that runs another as a child that dies with this process.

    The kernel kills it when the thread that started it ends. Only Linux does that; elsewhere a
    child ends when it next reads from this process.

    Args:
        command: program and arguments.
        memory: bytes of private memory that it may have; None for no limit.
    """
    limit = "" if memory is None else str(memory)
    guard = (sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), limit)
    return (*guard, *command)


def most_memory() -> int:
    """Return the bytes that a child may have of which nobody knows what it needs.

    Three quarters of the machine's, so that the child fails before everything else does.
    """
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4


def limit_memory(pid: int, nbytes: int) -> None:
    """Let a child that `guarded` started have so many bytes of private memory from now on.

    Does nothing where the system has no such limit for another process (all but Linux).
    """
    import resource

    if not hasattr(resource, "prlimit"):
        return
    _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
    soft = nbytes if hard == resource.RLIM_INFINITY else min(nbytes, hard)
    resource.prlimit(pid, resource.RLIMIT_DATA, (soft, hard))


def scratch_folder(kind: str) -> tempfile.TemporaryDirectory[str]:
    """Return a new folder as a context manager, which removes it; `kind` begins its name."""
    return tempfile.TemporaryDirectory(prefix=f"{kind}-", dir=_folder(os.getpid()))


def scratch_file(kind: str) -> Path:
    """Return a new empty file of this process; `kind` begins its name."""
    handle, name = tempfile.mkstemp(prefix=f"{kind}-", dir=_folder(os.getpid()))
    os.close(handle)
    return Path(name)


@contextmanager
def workspace(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder to work in; it is gone afterwards, unless it was given another name.

    Those of this user's processes that were killed are removed first.
    """
    sweep(parent, prefix)
    folder, lock = _claim(parent, prefix)
    try:
        yield folder
    finally:
        _remove(folder, lock)


@cache
def _folder(pid: int) -> Path:
    """Return the folder of this process; a forked child gets its own."""
    temporary = Path(tempfile.gettempdir())
    sweep(temporary, PREFIX)
    folder, lock = _claim(temporary, PREFIX)

    def remove() -> None:
        if os.getpid() == pid:
            _remove(folder, lock)

    atexit.register(remove)
    return folder


def sweep(parent: Path, prefix: str) -> None:
    """Remove the folders that this user's processes left when they were killed.

    A process locks a file beside its folder, and the lock ends with the process.
    """
    for file in parent.glob(f"{prefix}*{_LOCK}"):
        # Somebody else may just remove it.
        with suppress(OSError):
            _remove_if_left(file)


def _remove_if_left(file: Path) -> None:
    if file.stat().st_uid != os.getuid():
        return
    lock = file.open("r+b")
    if _locked(lock):
        _remove(file.with_suffix(""), lock)
    lock.close()


def _claim(parent: Path, prefix: str) -> tuple[Path, IO[bytes]]:
    """Make a folder and the locked file beside it."""
    while True:
        handle, name = tempfile.mkstemp(_LOCK, prefix, parent)
        lock = os.fdopen(handle, "r+b")
        # A sweeper may have been faster, and taken it for one that was left.
        if _locked(lock) and Path(name).exists():
            folder = Path(name).with_suffix("")
            folder.mkdir(mode=0o700)
            return folder, lock
        lock.close()


def _remove(folder: Path, lock: IO[bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(_LOCK).unlink(missing_ok=True)
    lock.close()


def _locked(file: IO[bytes]) -> bool:
    """Lock a file; return False if another process has locked it."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
