"""Installed folders are run as they were installed, or not at all."""

from __future__ import annotations

import compileall
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.targets import sealed, setting_up


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    final = tmp_path / "installed"
    setting_up.publish(final, fill)
    return final


def fill(aside: Path) -> None:
    (aside / "lib").mkdir()
    (aside / "lib" / "code.py").write_text("print('as installed')")
    (aside / "code").symlink_to("lib/code.py")


def truncate(folder: Path) -> Path:
    path = folder / "lib" / "code.py"
    path.write_bytes(path.read_bytes()[:-1])
    return path


def change(folder: Path) -> Path:
    path = folder / "lib" / "code.py"
    path.write_bytes(path.read_bytes().replace(b"as", b"AS"))
    return path


def remove(folder: Path) -> Path:
    path = folder / "lib" / "code.py"
    path.unlink()
    return path


def add(folder: Path) -> Path:
    path = folder / "lib" / "sitecustomize.py"
    path.touch()
    return path


def lead_elsewhere(folder: Path) -> Path:
    path = folder / "code"
    path.unlink()
    path.symlink_to("/etc/passwd")
    return path


def let_everybody_write(folder: Path) -> Path:
    path = folder / "lib"
    path.chmod(0o777)
    return path


def break_the_seal(folder: Path) -> Path:
    path = folder / sealed.SEAL
    path.write_text('{"schema": 1, "schema": 1}')
    return path


FAULTS: dict[Callable[[Path], Path], str] = {
    truncate: "has changed",
    change: "has changed",
    remove: "is missing",
    add: "was not installed",
    lead_elsewhere: "has changed",
    let_everybody_write: "can be written by everybody",
    break_the_seal: "is damaged",
}


@pytest.mark.parametrize("damage", FAULTS, ids=lambda damage: damage.__name__)
def test_what_is_not_as_it_was_installed_is_told_and_replaced(
    damage: Callable[[Path], Path], folder: Path
) -> None:
    assert sealed.fault(folder) == ""
    path = damage(folder)
    sealed.forget()
    assert sealed.fault(folder) == f"{path} {FAULTS[damage]}"
    setting_up.publish(folder, fill)
    assert sealed.fault(folder) == ""
    assert (folder / "code").read_text() == "print('as installed')"
    assert sorted(path.name for path in folder.parent.iterdir()) == [".lock", "installed"]


def test_another_user_s_files_are_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = os.getuid() + 1
    sealed.forget()
    monkeypatch.setattr(os, "getuid", lambda: theirs)
    owner = folder.stat().st_uid
    said = sealed.fault(folder)
    assert said == ("" if owner == 0 else f"{folder} belongs to another user ({owner})")
    if owner == 0:  # root may own what others run
        os.chown(folder / "lib", 12345, -1)
        sealed.forget()
        assert sealed.fault(folder) == f"{folder / 'lib'} belongs to another user (12345)"


def test_a_change_that_keeps_size_and_time_is_found_when_everything_is_looked_at(
    folder: Path,
) -> None:
    path = folder / "lib" / "code.py"
    before = path.stat()
    change(folder)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    sealed.forget()
    assert sealed.fault(folder) == ""
    assert sealed.fault(folder, thoroughly=True) == f"{path} has changed"


def test_a_copy_with_other_times_is_as_good(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", folder, copy], check=True)
    assert sealed.fault(copy) == ""
    assert sealed.fault(copy, thoroughly=True) == ""


def test_what_python_compiles_there_is_no_fault(folder: Path) -> None:
    compileall.compile_dir(folder / "lib", quiet=1)
    assert list(folder.glob("lib/__pycache__/*.pyc"))
    sealed.forget()
    assert sealed.fault(folder) == ""


def test_a_folder_of_a_careless_umask_is_closed_when_it_is_sealed(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        setting_up.publish(tmp_path / "open", fill)
    finally:
        os.umask(before)
    assert sealed.fault(tmp_path / "open") == ""
    assert not (tmp_path / "open" / "lib").stat().st_mode & 0o002


def test_a_folder_without_a_seal_is_not_complete(tmp_path: Path) -> None:
    assert sealed.fault(tmp_path / "none") == f"{tmp_path / 'none'} is not there"
    fill(tmp_path)
    assert sealed.fault(tmp_path) == f"{tmp_path} is not complete"
    (tmp_path / sealed.SEAL).write_text(json.dumps({"schema": 2, "files": {}}))
    assert sealed.fault(tmp_path) == f"{tmp_path / sealed.SEAL} is damaged"


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    final = tmp_path / "file" / "installed"
    with pytest.raises(Unsupported, match=r"cannot be set up: .*: set XDG_CACHE_HOME to a folder"):
        setting_up.publish(final, fill)
