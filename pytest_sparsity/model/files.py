"""Model files: mapping one, replacing one, and what can be wrong with one."""

from __future__ import annotations

import mmap
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_sparsity import store
from pytest_sparsity.errors import ModelError
from pytest_sparsity.model.schema import IDENTIFIER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import Any

LFS_POINTER = b"version https://git-lfs."
"""How a file begins that Git LFS has not replaced yet."""

MAPPED = 1 << 20
"""Bytes from which on a file is mapped. A mapping keeps a descriptor, and a property test may hold
more small files than a process may have descriptors (1,024 by default on Linux)."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in a ModelError, and turn what the operating system says into one."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error.__cause__
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error


def read_file(path: Path) -> tuple[bytes | mmap.mmap, os.stat_result]:
    """The content of a model file, mapped if it is large, and its status when it was opened."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ModelError("not a file")
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not status.st_size:
            raise ModelError("the file is empty")
        data: bytes | mmap.mmap
        if status.st_size < MAPPED:
            data = file.read()
        else:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if data[: len(LFS_POINTER)] == LFS_POINTER:
        raise ModelError(
            "a pointer of Git LFS instead of the file that it stands for; run `git lfs pull`"
        )
    if data[4:8] != IDENTIFIER:
        raise ModelError(
            f"not a .tflite file: bytes 4 to 8 are {data[4:8]!r}, a model has {IDENTIFIER!r} there"
        )
    return data, status


def stamp(status: os.stat_result) -> tuple[int, ...]:
    """What changes when the file does."""
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def replace_file(path: Path, data: bytes | bytearray | Iterable[Any]) -> None:
    """Write a file in one step; its content may come in pieces.

    A model's file may be mapped; writing into it would change the numbers under its reader, and
    making it shorter would kill the process (SIGBUS).
    """
    store.replace(path, data, sync=False)
