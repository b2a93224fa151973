"""The folder that holds baselines, and what a run finds in it and puts there.

baselines/
  tests/test_claims.json                          true everywhere: bytes, zeros, kernels
  amd-epyc-avx512f-litert-2.3.0-a3183d/
    machine.json                                  the facts behind the folder's name
    tests/test_claims.json                        true of this kind of machine: ratios of time
  models/3f9c1a5d2b7e4f60.tflite                  recorded models, by content
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pytest_sparsity.baseline.files import (
    SEPARATOR,
    BaselineError,
    Recordable,
    RecordedFile,
    read,
    write,
)
from pytest_sparsity.store import locked, replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MODELS = "models"
MACHINE_FILE = "machine.json"
# Git merges a file of baselines by keeping the lines of both sides: a line is one value. Where both
# sides recorded the same value differently, reading the file says so.
GIT_ATTRIBUTES = "*.json merge=union\n*.tflite binary\n"
HASH_DIGITS = 16


@dataclass(frozen=True)
class Location:
    """Where a value is kept.

    Attributes:
        file: relative to the folder of baselines.
        machine: the folder of the machine, empty for a value that is true everywhere.
        facts: what `machine.json` says of the machine.
    """

    file: PurePosixPath
    machine: str = ""
    facts: Mapping[str, str | int] = field(default_factory=dict, compare=False)

    @classmethod
    def of(
        cls, module: str, machine: str = "", facts: Mapping[str, str | int] | None = None
    ) -> Location:
        """Return the place of the values of a test module, given by its path from the root."""
        parts = [part.replace("..", "_") for part in PurePosixPath(module).parts if part != "/"]
        return cls(PurePosixPath(machine, *parts).with_suffix(".json"), machine, facts or {})


class Store:
    """A folder of baselines; files are read once and written only by `save`.

    Args:
        folder: need not exist.
        shown: how messages call it, e.g. `"baselines"`.
    """

    def __init__(self, folder: Path, shown: str = "") -> None:
        self.folder = folder
        self._shown = shown or str(folder)
        self._read: dict[PurePosixPath, dict[str, Recordable]] = {}

    def shown(self, file: PurePosixPath) -> str:
        """Return a file's name for messages."""
        return f"{self._shown}/{file}"

    def values(self, file: PurePosixPath) -> dict[str, Recordable]:
        """Return the values in a file by `"TEST::NAME"`; none if there is no such file."""
        if file not in self._read:
            self._read[file] = read(self.folder / file, self.shown(file))
        return self._read[file]

    def knows(self, machine: str) -> bool:
        """Return whether anything was ever recorded for a machine."""
        return (self.folder / machine / MACHINE_FILE).is_file()

    def save(self, place: Location, values: Mapping[str, Recordable]) -> None:
        """Add or change values in a file; all others stay as they are on disk."""
        path = self.folder / place.file
        with self._writing(place.file):
            found = read(path, self.shown(place.file))
            if {**found, **values} != found:
                self._prepare(place)
                write(path, {**found, **values})
        self._read[place.file] = {**found, **values}

    @contextmanager
    def _writing(self, file: PurePosixPath) -> Iterator[None]:
        """Hold the folder's lock, and say of what goes wrong which file it is about."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked(self.folder):
                yield
        except OSError as error:
            raise BaselineError(
                f"{self.shown(file)} cannot be written: {error.strerror or error}"
            ) from None

    def _prepare(self, place: Location) -> None:
        attributes = self.folder / ".gitattributes"
        if not attributes.exists():
            replace(attributes, GIT_ATTRIBUTES.encode())
        if place.machine and not self.knows(place.machine):
            text = json.dumps(dict(place.facts), indent=2, sort_keys=True, ensure_ascii=False)
            replace(self.folder / place.machine / MACHINE_FILE, f"{text}\n".encode())

    def save_model(self, path: Path) -> RecordedFile:
        """Copy a model under its content's hash; one that is there already is not written again."""
        content = path.read_bytes()
        name = f"{_digest(content)}{path.suffix}"
        with self._writing(PurePosixPath(MODELS, name)):
            if not (self.folder / MODELS / name).exists():
                self._prepare(Location(PurePosixPath(MODELS)))
                replace(self.folder / MODELS / name, content)
        return RecordedFile(name, len(content))

    def model(self, recorded: RecordedFile) -> Path:
        """Return the path of a recorded model.

        Raises:
            BaselineError: the file is missing, not fetched from Git LFS, or not what was recorded.
        """
        file = PurePosixPath(MODELS, recorded.model)
        path, shown = self.folder / file, self.shown(file)
        if not path.is_file():
            raise BaselineError(f"{shown} is missing; restore it with: git checkout -- {shown}")
        content = path.read_bytes()
        if content.startswith(b"version https://git-lfs"):
            raise BaselineError(f"{shown} is a Git LFS pointer; fetch it with: git lfs pull")
        if not recorded.model.startswith(_digest(content)):
            raise BaselineError(
                f"{shown} is not the model that was recorded: its content does not have its name's "
                f"hash; restore it with: git checkout -- {shown}"
            )
        return path

    def files(self) -> Iterator[PurePosixPath]:
        """Yield the files that hold values, sorted."""
        for path in sorted(self.folder.rglob("*.json")):
            if is_values(file := PurePosixPath(path.relative_to(self.folder).as_posix())):
                yield file

    def machines(self) -> set[str]:
        """Return the folders that belong to machines."""
        return {path.parent.name for path in self.folder.glob(f"*/{MACHINE_FILE}")}

    def entries(self) -> Iterator[tuple[PurePosixPath, str, str]]:
        """Yield file, test module without its suffix, and test of all values, each test once."""
        machines = self.machines()
        for file in self.files():
            bound = file.parts[0] in machines
            module = PurePosixPath(*file.parts[bound:]).with_suffix("")
            for test in dict.fromkeys(key.rpartition(SEPARATOR)[0] for key in self.values(file)):
                yield file, str(module), test


def is_values(file: PurePosixPath) -> bool:
    """Return whether a file below the folder of baselines holds values."""
    return (
        file.suffix == ".json"
        and not file.name.startswith(".")
        and not (file.name == MACHINE_FILE and len(file.parts) == 2)
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:HASH_DIGITS]
