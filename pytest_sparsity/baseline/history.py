"""How recorded values moved: between two revisions of git, and over all of its history."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pytest_sparsity.baseline.files import SEPARATOR, BaselineError, Recordable, parse
from pytest_sparsity.baseline.recorded import relative_change
from pytest_sparsity.baseline.store import is_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pytest_sparsity.baseline.store import Store

Snapshot = dict[tuple[str, str, str], Recordable]  # by file, test and name
# Commits that a trend goes back at most.
COMMITS = 100


@dataclass(frozen=True)
class RecordedValue:
    """One recorded value.

    Attributes:
        file: relative to the folder of baselines.
        test: the test within its module.
        name: of the value.
        value: as it is recorded.
    """

    file: str
    test: str
    name: str
    value: Recordable


@dataclass(frozen=True)
class BaselineChange:
    """One value at two revisions; None where it is not recorded.

    Attributes:
        file: relative to the folder of baselines.
        test: the test within its module.
        name: of the value.
        before: at the first revision.
        after: at the second.
        change: of numbers, relative; else None.
    """

    file: str
    test: str
    name: str
    before: Recordable | None
    after: Recordable | None
    change: float | None


@dataclass(frozen=True)
class Point:
    """A value at a commit.

    Attributes:
        commit: its hash, empty for what is not committed.
        date: ISO 8601, empty for what is not committed.
        value: as it was recorded.
    """

    commit: str
    date: str
    value: Recordable


@dataclass(frozen=True)
class Trend:
    """A value over the commits at which it changed, oldest first."""

    file: str
    test: str
    name: str
    points: tuple[Point, ...]


def recorded(store: Store) -> list[RecordedValue]:
    """Return all values that are recorded now.

    Raises:
        ValueError: there is no such folder.
        BaselineError: a file cannot be used.
    """
    return [RecordedValue(*place, value) for place, value in _on_disk(store).items()]


def changes(store: Store, since: str, until: str | None = None) -> list[BaselineChange]:
    """Return the values that differ between two revisions, or between one and the files on disk.

    Raises:
        ValueError: the folder is in no git repository, or there is no such revision.
        BaselineError: a file cannot be used.
    """
    before = _at(store.folder, since)
    after = _on_disk(store) if until is None else _at(store.folder, until)
    return [
        BaselineChange(*place, old, new, relative_change(new, old))
        for place in sorted({*before, *after})
        if (old := before.get(place)) != (new := after.get(place))
    ]


def head(folder: Path) -> tuple[str, bool]:
    """Return the commit that is checked out in a folder, and whether files of it are changed.

    The commit is empty where there is none, or no git.
    """
    try:
        commit = _git(folder, "rev-parse", "--verify", "HEAD").strip()
        return commit, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except ValueError:
        return "", False


def trends(store: Store) -> list[Trend]:
    """Return how each value that is recorded now moved; empty if git does not know.

    What was committed and cannot be read today is passed over.

    Raises:
        BaselineError: a file on disk cannot be used.
    """
    now, folder = _on_disk(store), store.folder
    try:
        log = _git(folder, "log", f"-{COMMITS}", "--format=%H %cI", "--", ".").splitlines()
        prefix = _git(folder, "rev-parse", "--show-prefix").strip()
    except ValueError:
        return []
    points: dict[tuple[str, str, str], list[Point]] = {place: [] for place in now}
    known: dict[str, Snapshot] = {}
    for commit, date in (line.split(" ", 1) for line in reversed(log)):
        then = _of_blobs(folder, _blobs(folder, prefix, commit), known, lenient=True)
        _extend(points, then, commit, date)
    _extend(points, now, "", "")
    return [Trend(*place, tuple(found)) for place, found in points.items()]


def _extend(
    points: Mapping[tuple[str, str, str], list[Point]], then: Snapshot, commit: str, date: str
) -> None:
    for place, found in points.items():
        value = then.get(place)
        if value is not None and (not found or found[-1].value != value):
            found.append(Point(commit, date, value))


def _on_disk(store: Store) -> Snapshot:
    if not store.folder.is_dir():
        raise ValueError(f"there is no folder {store.folder}")
    return _sorted({file: store.values(file) for file in store.files()})


def _at(folder: Path, revision: str) -> Snapshot:
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    prefix = _git(folder, "rev-parse", "--show-prefix").strip()
    try:
        commit = _git(folder, "rev-parse", "--verify", f"{revision}^{{commit}}").strip()
    except ValueError:
        raise ValueError(
            f"there is no revision {revision!r} in the repository of {folder}"
        ) from None
    return _of_blobs(folder, _blobs(folder, prefix, commit), {}, lenient=False)


def _blobs(folder: Path, prefix: str, commit: str) -> dict[PurePosixPath, str]:
    """Return the hash of each file of values at a commit."""
    listed = _git(folder, "ls-tree", "-r", "-z", "--full-name", commit, "--", ".")
    found = {}
    for line in filter(None, listed.split("\0")):
        facts, _, name = line.partition("\t")
        file = PurePosixPath(name.removeprefix(prefix))
        if is_values(file):
            found[file] = facts.split()[2]
    return found


def _of_blobs(
    folder: Path, blobs: Mapping[PurePosixPath, str], known: dict[str, Snapshot], *, lenient: bool
) -> Snapshot:
    """Return the values in files; `known` remembers what was read, by hash and file."""
    snapshot: Snapshot = {}
    for file, blob in blobs.items():
        if f"{blob} {file}" not in known:
            try:
                values = parse(_git(folder, "cat-file", "blob", blob), f"{file} ({blob[:10]})")
            except BaselineError:
                if not lenient:
                    raise
                values = {}
            known[f"{blob} {file}"] = _sorted({file: values})
        snapshot |= known[f"{blob} {file}"]
    return snapshot


def _sorted(files: Mapping[PurePosixPath, Mapping[str, Recordable]]) -> Snapshot:
    return {
        (str(file), test, name): value
        for file, values in sorted(files.items())
        for (test, name), value in sorted(_split(values.items()))
    }


def _split(
    values: Iterable[tuple[str, Recordable]],
) -> Iterable[tuple[tuple[str, str], Recordable]]:
    for key, value in values:
        test, _, name = key.rpartition(SEPARATOR)
        yield (test, name), value


def _git(folder: Path, *arguments: str) -> str:
    """Return what git prints.

    Raises:
        ValueError: git refuses; with its reason.
    """
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ValueError("git is not installed") from None
    if done.returncode:
        raise ValueError(f"git {arguments[0]}: {done.stderr.strip().removeprefix('fatal: ')}")
    return done.stdout
