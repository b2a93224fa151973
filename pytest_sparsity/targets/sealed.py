"""Installed folders, sealed when they are complete and looked at before their files are run.

A seal is a file in the folder with the size, the time and the SHA-256 of every other. What has
another size or time is hashed; what has neither is taken for what it was, unless everything is
looked at. Besides, nobody but this user and root may own or write what is there, since whoever can
write it runs as this user.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity import strict_json
from pytest_sparsity.store import sha256

if TYPE_CHECKING:
    from collections.abc import Iterator

SEAL = ".seal.json"
SCHEMA = 1
# What Python makes beside the files that it imports.
_COMPILED = "__pycache__"
# Folders by what was found when their seal was as it is; kept for this process.
_KNOWN: dict[Path, tuple[tuple[int, int], str]] = {}


def seal(folder: Path) -> None:
    """Seal a folder that nobody else has seen yet, and take it from everybody else's pen."""
    (folder / SEAL).unlink(missing_ok=True)
    entries = {
        str(path.relative_to(folder)): _entry(path, status)
        for path, status in _walk(folder)
        if not stat.S_ISDIR(status.st_mode)
    }
    written = json.dumps({"schema": SCHEMA, "files": entries}, indent=0, sort_keys=True)
    (folder / SEAL).write_text(written, encoding="utf-8")
    for path, status in list(_walk(folder)):
        if _open_to_all(status):
            path.chmod(stat.S_IMODE(status.st_mode) & ~stat.S_IWOTH)


def fault(folder: Path, *, thoroughly: bool = False) -> str:
    """Say why the files of a folder are not to be run, as a clause; "" if they may be.

    Args:
        folder: that was sealed; one that is not there has a fault, too.
        thoroughly: hash every file, and do not believe what this process knows already.
    """
    try:
        status = (folder / SEAL).stat()
    except FileNotFoundError:
        return f"{folder} is not complete" if folder.exists() else f"{folder} is not there"
    except OSError as error:
        return f"{folder} cannot be read: {error.strerror}"
    stamp = status.st_ino, status.st_mtime_ns
    known, said = _KNOWN.get(folder, (None, ""))
    if known != stamp or thoroughly:
        try:
            said = _fault(folder, thoroughly=thoroughly)
        except OSError as error:
            said = f"{error.filename} cannot be read: {error.strerror}"
        _KNOWN[folder] = stamp, said
    return said


def forget() -> None:
    """Look at every folder again."""
    _KNOWN.clear()


def _fault(folder: Path, *, thoroughly: bool) -> str:
    content = _read(folder / SEAL)
    if content is None:
        return f"{folder / SEAL} is damaged"
    missing = dict(content)
    for path, status in _walk(folder):
        if status.st_uid not in {0, os.getuid()}:
            return f"{path} belongs to another user ({status.st_uid})"
        if _open_to_all(status):
            return f"{path} can be written by everybody"
        name = str(path.relative_to(folder))
        if stat.S_ISDIR(status.st_mode) or name == SEAL:
            continue
        expected = missing.pop(name, None)
        if expected is None:
            if _COMPILED not in path.parts:
                return f"{path} was not installed"
        elif not _as_sealed(path, status, expected, thoroughly=thoroughly):
            return f"{path} has changed"
    return f"{folder / min(missing)} is missing" if missing else ""


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = strict_json.loads(path.read_bytes())
        files = content["files"] if content["schema"] == SCHEMA else None
    except (ValueError, LookupError, TypeError):
        return None
    return files if isinstance(files, dict) else None


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the folder and all below it but what is below links, with their own status."""
    yield folder, folder.lstat()
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            yield path, path.lstat()


def _open_to_all(status: os.stat_result) -> bool:
    """Return whether everybody may write it; the mode of a link says nothing."""
    return bool(status.st_mode & stat.S_IWOTH) and not stat.S_ISLNK(status.st_mode)


def _entry(path: Path, status: os.stat_result) -> list[object]:
    """Return size, time and hash of a file, or where a link leads."""
    if stat.S_ISLNK(status.st_mode):
        return ["link", str(path.readlink())]
    return [status.st_size, status.st_mtime_ns, sha256(path)]


def _as_sealed(path: Path, status: os.stat_result, expected: Any, *, thoroughly: bool) -> bool:
    """Return whether a file is what it was, whenever that was written."""
    if not isinstance(expected, list) or len(expected) not in {2, 3}:
        return False
    if stat.S_ISLNK(status.st_mode) or len(expected) == 2:
        return expected == _entry(path, status)
    size, time, digest = expected
    if size != status.st_size:
        return False
    return (time == status.st_mtime_ns and not thoroughly) or digest == sha256(path)
