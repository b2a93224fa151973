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
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

GUARD = Path(__file__).with_name("guard.py")
PREFIX = "pytest-sparsity-"
# In the folder of a process; locked as long as the process lives.
_LOCK = "lock"


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


@cache
def _folder(pid: int) -> Path:
    """Return the folder of this process; a forked child gets its own."""
    sweep(Path(tempfile.gettempdir()))
    # Made under another name: a sweeper takes a folder whose lock nobody holds for abandoned.
    made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))
    lock = _locked(made)
    assert lock is not None, "nobody else knows this folder"
    final = made.with_name(made.name[1:])
    made.rename(final)

    def remove() -> None:
        if os.getpid() == pid:
            shutil.rmtree(final, ignore_errors=True)
            lock.close()

    atexit.register(remove)
    return final


def sweep(temporary: Path) -> None:
    """Remove the folders of this user's processes that were killed."""
    for folder in temporary.glob(f"{PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            if not (folder / _LOCK).is_file():
                continue
            lock = _locked(folder)
        except OSError:
            continue  # Somebody else has just removed it.
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            lock.close()


def _locked(folder: Path) -> IO[bytes] | None:
    """Lock a folder and return its lock file, or None if another process holds the lock."""
    import fcntl

    lock = (folder / _LOCK).open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock
