"""One race of time at a time on the machine, and who waits says so."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_sparsity import progress, store, turns
from pytest_sparsity.errors import CannotMeasure


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(turns, "place", lambda: tmp_path / "turns.lock")
    monkeypatch.setattr(progress, "_told", set())
    return tmp_path / "turns.lock"


@contextmanager
def another_race(lock: Path, seconds: float = 0.2) -> Iterator[None]:
    """Somebody else holds the turn for a while."""
    held = threading.Event()

    def race() -> None:
        with store.locked(lock):
            held.set()
            time.sleep(seconds)

    thread = threading.Thread(target=race)
    thread.start()
    held.wait()
    yield
    thread.join()


def test_waiting_is_said_once_with_the_process_that_is_waited_for(
    lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = progress.WAITING.set(progress._say)  # instead of this run's own
    try:
        for _ in range(2):
            with another_race(lock), turns.turn():
                pass
    finally:
        progress.WAITING.reset(before)
    assert capsys.readouterr().err == (
        f"pytest-sparsity: waiting for its turn to race: process {os.getpid()} is racing on this "
        f"machine ({lock})\n"
    )


def test_who_listens_is_told_when_waiting_begins_and_ends(lock: Path) -> None:
    events: list[str] = []

    @contextmanager
    def listen(_: str) -> Iterator[None]:
        events.append("waits")
        yield
        events.append("goes on")

    before = progress.WAITING.set(listen)
    try:
        with turns.turn():
            events.append("races")
        with another_race(lock), turns.turn():
            events.append("races")
    finally:
        progress.WAITING.reset(before)
    assert events == ["races", "waits", "goes on", "races"]


def test_a_lock_that_cannot_be_used_is_one_sentence(lock: Path) -> None:
    lock.symlink_to("elsewhere")
    with (
        pytest.raises(
            CannotMeasure,
            match=r"lock file .*turns\.lock, which cannot be used: Too many",
        ),
        turns.turn(),
    ):
        pass


def test_what_goes_wrong_in_a_race_is_not_taken_for_the_lock(lock: Path) -> None:
    with pytest.raises(FileNotFoundError), turns.turn():
        raise FileNotFoundError


def test_all_users_and_sessions_have_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    known = turns.place()
    monkeypatch.setenv("TMPDIR", "elsewhere")
    assert turns.place() == known
    assert known.parent.is_dir()
