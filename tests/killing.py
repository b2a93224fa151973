"""Killing a process and seeing what it leaves behind: processes and files."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from pytest_sparsity import children

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
PATIENCE = 60.0
MARK = "SPARSITY_TEST_MARK"


def marked(value: str) -> list[int]:
    """The processes whose environment carries a mark, which they inherit.

    A guest's Python inherits its temporary folder alone.
    """
    wanted = {f"{name}={value}".encode() for name in (MARK, "TMPDIR")}
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                carries = wanted & {*(folder / "environ").read_bytes().split(b"\0")}
                dead = ") Z " in (folder / "stat").read_text()
            except OSError:
                continue
            if carries and not dead:
                found.append(int(folder.name))
    return found


def until(condition: Callable[[], object], seconds: float | None = None) -> bool:
    end = time.monotonic() + (PATIENCE if seconds is None else seconds)
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def leftovers(
    command: Sequence[str],
    folder: Path,
    number: signal.Signals,
    ready: Callable[[Sequence[str]], bool],
    environment: Mapping[str, str] = os.environ,
    delay: float = 0.0,
) -> tuple[list[int], list[str]]:
    """Kill a command once it has such a child, and return the processes and files it leaves.

    Args:
        command: program and arguments.
        folder: its temporary folder, empty.
        number: the signal.
        ready: whether a child of this command line is what is waited for.
        environment: of the command.
        delay: seconds that it is given once there is such a child.
    """
    mark = f"{folder}"
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command,
            env={**environment, MARK: mark, "TMPDIR": str(folder)},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        alive = _left(process, said, number, ready, delay, mark)
    swept(folder, children.PREFIX)
    return alive, sorted(path.name for path in folder.iterdir())


def swept(folder: Path, prefix: str) -> None:
    """Sweep a folder as the next process would, once those that were killed are quite dead.

    A process that ends holds its locks a little longer than its environment can be read.
    """
    end = time.monotonic() + 10
    while any(folder.glob(f"{prefix}*")) and time.monotonic() < end:
        children.sweep(folder, prefix)
        time.sleep(0.02)


def _left(
    process: subprocess.Popen[bytes],
    said: IO[bytes],
    number: signal.Signals,
    ready: Callable[[Sequence[str]], bool],
    delay: float,
    mark: str,
) -> list[int]:
    try:
        begun = until(lambda: process.poll() is not None or any(map(ready, _lines(mark))))
        time.sleep(delay)
        if not begun or process.poll() is not None:
            said.seek(0)
            fault = "it ended by itself" if begun else "it did not begin"
            raise AssertionError(f"{fault}: {said.read().decode()}")
        process.send_signal(number)
        process.wait(PATIENCE)
        until(lambda: not marked(mark))
        return marked(mark)
    finally:
        process.kill()
        process.wait()
        for pid in marked(mark):
            os.kill(pid, signal.SIGKILL)


def _lines(mark: str) -> Iterator[Sequence[str]]:
    for pid in marked(mark):
        with suppress(OSError):  # It has just ended.
            yield Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
