"""Files replaced in one step, and locks that end with their process."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pytest_sparsity import store

CHILD = """
import sys, time
from pathlib import Path
from pytest_sparsity import store
with store.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_file_is_replaced_whole_with_its_mode_and_through_links(tmp_path: Path) -> None:
    file, link = tmp_path / "made" / "value.json", tmp_path / "link.json"
    store.replace(file, b"one")
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask()
    file.chmod(0o640)
    link.symlink_to(file)
    store.replace(link, b"two", sync=False)
    assert file.read_bytes() == b"two"
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert names(file.parent) == ["value.json"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "value.json"
    store.replace(file, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.replace(file, b"new")
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["value.json"]


def test_what_a_killed_process_left_is_swept_after_an_hour(tmp_path: Path) -> None:
    old, fresh = tmp_path / ".v[1].json.1-a.part", tmp_path / ".v[1].json.2-b.part"
    other = tmp_path / ".v1.json.1-a.part"
    for part in (old, fresh, other):
        part.write_bytes(b"half")
    for part in (old, other):
        os.utime(part, (0, 0))
    store.replace(tmp_path / "v[1].json", b"whole")
    assert names(tmp_path) == sorted([fresh.name, other.name, "v[1].json"])


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    store.replace(tmp_path / f"{'ä' * 125}.json", b"x")


def test_a_lock_excludes_names_its_holder_and_ends_with_its_process(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(lock)], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        told: list[int] = []
        threading.Timer(0.3, child.send_signal, (signal.SIGKILL,)).start()
        begun = time.monotonic()
        with store.locked(lock, told.append):
            assert time.monotonic() - begun > 0.2
            assert told == [child.pid]
            assert lock.read_text() == str(os.getpid())


def test_a_lock_that_is_free_is_not_waited_for(tmp_path: Path) -> None:
    told: list[int] = []
    for _ in range(2):
        with store.locked(tmp_path / "x.lock", told.append):
            pass
        with store.locked(tmp_path, told.append):
            pass
    assert told == []


def test_a_folder_is_locked_without_a_trace(tmp_path: Path) -> None:
    told: list[int] = []
    held = threading.Event()

    def hold() -> None:
        with store.locked(tmp_path):
            held.set()
            time.sleep(0.2)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with store.locked(tmp_path, told.append):
        assert told == [0]
    thread.join()
    assert names(tmp_path) == []


def test_a_lock_is_for_all_users_and_follows_no_link(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    with store.locked(lock):
        assert stat.S_IMODE(lock.stat().st_mode) == 0o666
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), store.locked(lock):
        pass


def test_many_take_turns(tmp_path: Path) -> None:
    counter, lock = tmp_path / "counter", tmp_path / "x.lock"
    counter.write_text("0")

    def add() -> None:
        for _ in range(50):
            with store.locked(lock):
                value = int(counter.read_text())
                time.sleep(0.0002)
                counter.write_text(str(value + 1))

    threads = [threading.Thread(target=add) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.read_text() == "300"
