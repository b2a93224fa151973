"""Files that others read and write too: replaced in one step, and locked.

The lock is the system's own (`flock`): it ends with its process, however that is, and waiting for
it does not poll, as `filelock` does, so that whoever waits takes nothing from a race that is timed.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Content = bytes | bytearray | Iterable[bytes | bytearray | memoryview]

# Seconds after which a part of a file is one that a killed process left behind.
_LEFT_BEHIND = 3600.0


def sha256(path: Path) -> str:
    """Return the hash of a file's content, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def replace(path: Path, content: Content, *, sync: bool = True) -> None:
    """Put `content` at `path` by writing a file beside it and renaming that.

    A kill at any instant leaves the old file or the new one. Folders that are not there are made;
    where a link is, the file that it leads to is replaced; a file's mode stays.

    Args:
        path: of the file.
        content: all of it, in one piece or several.
        sync: flush the content before and the folder after, so that the order of events survives a
            power cut too; not for what is only for this process.

    Raises:
        OSError: the file cannot be written; the old one is as it was.
    """
    final = Path(os.path.realpath(path))
    final.parent.mkdir(parents=True, exist_ok=True)
    _sweep(final)
    part = final.with_name(f".{_stem(final)}.{os.getpid()}-{os.urandom(4).hex()}.part")
    try:
        with part.open("xb") as file:
            with contextlib.suppress(FileNotFoundError):
                part.chmod(final.stat().st_mode & 0o777)
            file.writelines((content,) if isinstance(content, bytes | bytearray) else content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        part.replace(final)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno:  # says at most how the part is called
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from None
        raise
    if sync:
        _sync_folder(final.parent)


def check_writable(path: Path) -> None:
    """Check that a file can be written in its place, without touching it.

    Raises:
        OSError: it cannot, or a folder is in its place.
    """
    final = Path(os.path.realpath(path))
    if final.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    folder = next(parent for parent in final.parents if parent.exists())
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"?")


def _stem(final: Path) -> str:
    """Return as much of a name as leaves room for more: 255 bytes are the most for all of it."""
    return final.name[:40]


def _sweep(final: Path) -> None:
    """Remove what killed processes left of this file."""
    for part in final.parent.glob(f".{glob.escape(_stem(final))}.*.part"):
        with contextlib.suppress(FileNotFoundError, PermissionError):  # another's to remove
            if part.stat().st_mtime < time.time() - _LEFT_BEHIND:
                part.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot; the file is there
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[int], None] = lambda _: None) -> Iterator[None]:
    """Hold the lock of a folder, or of a file that is made for it and stays.

    Args:
        path: of a folder that is there, or of a file, which then holds the number of the process
            that has the lock; processes of all users may wait for each other.
        waiting: called with that number (0 if it is not known) before this process has to wait.

    Raises:
        OSError: it cannot be made or opened, or its file system has no locks.
    """
    import fcntl

    folder = path.is_dir()
    descriptor = os.open(path, os.O_RDONLY) if folder else _open(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting(0 if folder else _holder(descriptor))
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not folder:
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """Open a lock's file, made so that every user may open it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with contextlib.suppress(FileNotFoundError):
            # Without O_CREAT: Linux refuses that for another user's file in a folder like /tmp.
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            os.fchmod(descriptor, 0o666)
            return descriptor


def _holder(descriptor: int) -> int:
    said = os.pread(descriptor, 20, 0)
    return int(said) if said.isdigit() else 0
