"""Built files on disk: verified when read, published in one step, safe between processes.

An entry is a folder named by its key, with files and a manifest of their SHA-256. It appears by
renaming a finished folder, so it is whole or not there. Whoever builds an entry holds its lock;
readers need none.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import time
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity import children, strict_json
from pytest_sparsity.errors import SparsityWarning
from pytest_sparsity.store import locked as lock_of
from pytest_sparsity.store import sha256

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

ROLES = ("dense", "pruned", "sparse")
MANIFEST = "manifest.json"
SCHEMA = 1
UNUSED_DAYS = 30
"""Entries that nobody has read for so long are removed when another one is published."""


@dataclass(frozen=True)
class Entry:
    """A published entry.

    Attributes:
        folder: where it is.
        files: paths by role.
        about: what else was published with it, plain data.
    """

    folder: Path
    files: Mapping[str, Path]
    about: Any


class _Damaged(Exception):  # noqa: N818  (never leaves this module)
    """Says what is wrong with an entry."""


def load(store: Path, key: str) -> Entry | None:
    """Return the entry, verified, or None.

    A damaged one is none; a SparsityWarning says what is wrong with it.
    """
    folder = store / key
    if not folder.is_dir():
        return None
    try:
        entry = _verified(folder)
    except _Damaged as damage:
        message = f"the cached files in {folder} are damaged ({damage}); they are built again"
        warnings.warn(message, SparsityWarning, stacklevel=2)
        return None
    with suppress(PermissionError):  # a store that may only be read
        os.utime(folder)
    return entry


def locked(store: Path, key: str) -> AbstractContextManager[None]:
    """Hold the right to build an entry; wait for another process that does."""
    return lock_of(store / f"{key}.lock")


@contextmanager
def workspace(store: Path) -> Iterator[Path]:
    """A folder on the store's file system to build in, gone afterwards unless published."""
    store.mkdir(parents=True, exist_ok=True)
    with children.workspace(store, ".building-") as folder:
        yield folder


def publish(store: Path, key: str, folder: Path, files: Mapping[str, str], about: object) -> Entry:
    """Turn a folder into the entry, with its lock held.

    An entry that is there already and has the same files stays, since others may be reading it; a
    different or damaged one is replaced.

    Args:
        store: the folder of all entries.
        key: the entry's name.
        folder: in the same store; nothing else than `files` may be in it.
        files: names in the folder by role.
        about: plain data to be kept with them.
    """
    digests = {
        role: {"name": name, "sha256": sha256(folder / name)} for role, name in files.items()
    }
    manifest = {"schema": SCHEMA, "files": digests, "about": about}
    written = json.dumps(manifest, indent=1, sort_keys=True)
    (folder / MANIFEST).write_text(f"{written}\n")
    for path in folder.iterdir():
        path.chmod(path.stat().st_mode & ~stat.S_IWOTH)  # a careless umask
    final = store / key
    if final.is_dir() and not _holds(final, json.loads(written)):
        discarded = Path(tempfile.mkdtemp(prefix=".discarded-", dir=store))
        final.rename(discarded / key)
        shutil.rmtree(discarded, ignore_errors=True)
    try:
        folder.rename(final)
    except OSError:
        if not final.is_dir():
            raise
    _remove_unused(store)
    return _verified(final)


def _verified(folder: Path) -> Entry:
    try:
        _check_owner(folder)
        manifest = strict_json.loads((folder / MANIFEST).read_bytes())
        files = {role: (folder / f["name"], f["sha256"]) for role, f in manifest["files"].items()}
        schema, about = manifest["schema"], manifest["about"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _Damaged(f"{MANIFEST}: {error}") from error
    if schema != SCHEMA:
        raise _Damaged(f"{MANIFEST} has schema {schema!r}")
    for path, expected in files.values():
        if path.parent != folder:
            raise _Damaged(f"{MANIFEST} names {path.name} elsewhere")
        if not path.is_file():
            raise _Damaged(f"{path.name} is missing")
        if sha256(path) != expected:
            raise _Damaged(f"{path.name} has changed")
    return Entry(folder, {role: path for role, (path, _) in files.items()}, about)


def _check_owner(folder: Path) -> None:
    """Raise _Damaged if others can make of it what they want: its hashes are beside its files."""
    for path in (folder, *folder.iterdir()):
        status = path.lstat()
        if status.st_uid not in {0, os.getuid()}:
            raise _Damaged(f"{path.name} belongs to another user")
        if status.st_mode & stat.S_IWOTH:
            raise _Damaged(f"{path.name} can be written by everybody")


def _holds(folder: Path, manifest: dict[str, Any]) -> bool:
    """Whether an entry is undamaged and has the files of a manifest."""
    try:
        entry = _verified(folder)
    except _Damaged:
        return False
    digests = {role: sha256(path) for role, path in entry.files.items()}
    wanted = {role: file["sha256"] for role, file in manifest["files"].items()}
    return digests == wanted and entry.about == manifest["about"]


def _remove_unused(store: Path) -> None:
    """Remove what has not been read for long, and what a killed process left behind."""
    oldest = time.time() - UNUSED_DAYS * 86400
    for path in store.iterdir():
        try:
            if path.stat().st_mtime >= oldest:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        except FileNotFoundError:  # another process was faster
            continue
