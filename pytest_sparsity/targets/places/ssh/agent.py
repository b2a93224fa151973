"""Runs on a board, between the line and the worker: sent as text, executed by the board's Python.

Needs Linux and Python 3.9 alone, and is one file, since its text is sent there. Behind it come from
`relay.py` lines of JSON, some with bytes behind them; each gets one back:

    have     name -> have
    put      name, sha256, size, and so many bytes: a file for the cache
    start    runtime, code: a folder of the cache -> the worker's hello, and `board`
    (else)   a request to the worker: what `load` calls `path` is a name in the cache; behind
             `inputs` come `size` bytes, and behind the answer to `outputs` so many

Empty lines only say that the line is there. Answers carry as `log` what the worker wrote to stderr,
and as `conditions` what the board tells of its clocks and its heat, read between two requests and
never while something is timed. A worker that has ended is answered by `ended`, its exit status.

When nothing is heard for a while, or the line is cut, the worker is killed, also while it computes,
and this ends. What stays is the cache, of models and of the worker's code, which is bounded; inputs
and outputs are never in a file with a name.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import platform
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# What stands before the first line; a login file may have printed before.
MARK = "\x1epytest-sparsity "
# From linux/prctl.h.
PR_SET_PDEATHSIG = 1
# Bytes of the worker's stderr that go with an answer.
LOG = 8192
# Variables that would change what is measured in the worker.
UNWANTED = tuple(
    f"PYTHON{name}" for name in ("DEVMODE", "INSPECT", "MALLOC", "TRACEMALLOC", "WARNINGS")
)

Message = dict[str, Any]


class Gone(Exception):  # noqa: N818  (no error: everything ends)
    """The line is cut, or nothing has been heard for too long."""


class RefusedError(Exception):
    """A request that the board cannot do; nothing is wrong with the line."""


class Line:
    """The line to the relay: descriptors 0 and 1."""

    def __init__(self, silence: float) -> None:
        self._silence = silence
        self._unread = b""
        os.set_blocking(1, False)

    def receive(self) -> Message:
        """Return the next message."""
        while True:
            while b"\n" not in self._unread:
                self.wait()
            line, _, self._unread = self._unread.partition(b"\n")
            if line.strip():
                message: Message = json.loads(line)
                return message

    def bytes_of(self, size: int) -> Iterator[bytes]:
        """Yield the bytes that follow a message."""
        while size:
            if not self._unread:
                self.wait()
            part, self._unread = self._unread[:size], self._unread[size:]
            size -= len(part)
            yield part

    def wait(self, *others: int) -> bool:
        """Wait for one of several descriptors, or hear; return whether it was one of them."""
        ready = select.select([0, *others], [], [], self._silence)[0]
        if not ready:
            raise Gone
        if 0 in ready:
            self._read()
        return any(other in ready for other in others)

    def _read(self) -> None:
        data = os.read(0, 1 << 20)
        if not data:
            raise Gone
        self._unread += data

    def send(self, message: Message, data: bytes = b"", mark: str = "") -> None:
        """Send a message and the bytes that follow it."""
        view = memoryview((mark + json.dumps(message) + "\n").encode() + data)
        while view:
            if not select.select([], [1], [], self._silence)[1]:
                raise Gone
            view = view[os.write(1, view) :]


class Cache:
    """Files by name, which are removed when there is too much of them, the oldest first."""

    def __init__(self, limit: int) -> None:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        self.folder = Path(base).expanduser() / "pytest-sparsity" / "board"
        self._limit = limit
        self._used: set[Path] = set()

    def path(self, name: str) -> Path:
        """Return the path of a file that this session uses."""
        path = self.folder / name
        self._used.add(path)
        return path

    def has(self, name: str) -> bool:
        """Return whether a file is there; it counts as used just now."""
        with contextlib.suppress(OSError):
            os.utime(self.path(name))
            return True
        return False

    def put(self, request: Message, line: Line) -> None:
        """Store the bytes that follow a request; read them whatever goes wrong."""
        blocks = line.bytes_of(int(request["size"]))
        try:
            self._store(self.path(request["name"]), request["sha256"], blocks, request["size"])
        except OSError as error:
            reason = error.strerror or str(error)
            raise RefusedError(f"{reason} in {self.folder}") from error
        finally:
            for _ in blocks:
                pass

    def _store(self, path: Path, sha256: str, blocks: Iterator[bytes], size: int) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep()
        self._make_room(size)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        digest = hashlib.sha256()
        try:
            with part.open("wb") as file:
                for block in blocks:
                    digest.update(block)
                    file.write(block)
            if digest.hexdigest() != sha256:
                raise OSError(f"{path.name} arrived damaged")
            part.replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()

    def _sweep(self) -> None:
        """Remove what sessions that were killed have left of files."""
        for part in self.folder.rglob(".*.part"):
            if not Path("/proc", part.name.split(".")[-2]).exists():
                part.unlink()

    def _make_room(self, size: int) -> None:
        found = [(path.stat(), path) for path in self.folder.rglob("*") if path.is_file()]
        total = size + sum(status.st_size for status, _ in found)
        for status, path in sorted(found, key=lambda each: each[0].st_mtime):
            if total <= self._limit:
                return
            if path not in self._used:
                path.unlink()
                total -= status.st_size


class Ended(Exception):  # noqa: N818
    """The worker has ended."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Child:
    """The worker, and the file without a name that carries its large data."""

    def __init__(self, command: list[str]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (ends with this process)
        self._data = os.memfd_create("data")
        environment = {name: value for name, value in os.environ.items() if name not in UNWANTED}
        environment["TF_CPP_MIN_LOG_LEVEL"] = "2"
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            bufsize=0,
            preexec_fn=die_with_parent,  # noqa: PLW1509  (there is one thread)
        )
        self._unread = b""

    @property
    def file(self) -> str:
        """The path of the file for the worker."""
        return f"/proc/{os.getpid()}/fd/{self._data}"

    def fill(self, blocks: Iterator[bytes]) -> None:
        """Put bytes into the file."""
        os.ftruncate(self._data, 0)
        os.lseek(self._data, 0, os.SEEK_SET)
        for block in blocks:
            view = memoryview(block)
            while view:
                view = view[os.write(self._data, view) :]

    def content(self) -> bytes:
        """Return the bytes in the file."""
        os.lseek(self._data, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._data), "rb") as file:
            return file.read()

    def ask(self, request: Message) -> None:
        """Send a request."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its end is read next
            self._process.stdin.write(json.dumps(request).encode() + b"\n")

    def answer(self, line: Line) -> Message:
        """Wait for a line of the worker, as long as the relay is heard."""
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            if not line.wait(output):
                continue
            data = os.read(output, 1 << 20)
            if not data:
                raise Ended(self._process.wait())
            self._unread += data
        text, _, self._unread = self._unread.partition(b"\n")
        answer: Message = json.loads(text)
        return answer

    def said(self) -> str:
        """Return the end of what the worker has written to stderr since the last time."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - LOG))
        text = self._log.read().decode("utf-8", "replace")
        self._log.seek(0)
        self._log.truncate()
        return text

    def kill(self) -> None:
        """End the worker, whatever it does."""
        self._process.kill()
        self._process.wait()


def die_with_parent() -> None:
    """Tie the worker to this process."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def conditions(root: Path) -> Message:
    """Return what a board tells of its clocks and its heat; a file that is not there says nothing.

    Names of files are those of Linux' sysfs (Documentation/admin-guide/pm/cpufreq.rst,
    driver-api/thermal/sysfs-api.rst, ABI/testing/sysfs-devices-system-cpu, hwmon's
    raspberrypi-hwmon.rst).

    Returns:
        `khz`, `cap_khz`, `max_khz`: of every CPU; `governors`: their names; `celsius`: of the
        hottest zone, or None; `cooling`: by how many steps clocks are lowered for the heat's sake;
        `throttles`: how often the CPU did so itself, since it was started; `undervoltage`.
    """
    cpus = root / "sys/devices/system/cpu"
    clocks = sorted(cpus.glob("cpu[0-9]*/cpufreq"))
    zones = _numbers(sorted((root / "sys/class/thermal").glob("thermal_zone*/temp")))
    heat = [value / 1000 for value in zones if 0 < value < 200_000]
    cooling = [
        path / "cur_state"
        for path in sorted((root / "sys/class/thermal").glob("cooling_device*"))
        if "cpufreq" in _text(path / "type")
    ]
    alarms = [
        path / "in0_lcrit_alarm"
        for path in sorted((root / "sys/class/hwmon").glob("hwmon*"))
        if _text(path / "name") == "rpi_volt"
    ]
    return {
        "khz": _numbers([path / "scaling_cur_freq" for path in clocks]),
        "cap_khz": _numbers([path / "scaling_max_freq" for path in clocks]),
        "max_khz": _numbers([path / "cpuinfo_max_freq" for path in clocks]),
        "governors": sorted({_text(path / "scaling_governor") for path in clocks} - {""}),
        "celsius": max(heat, default=None),
        "cooling": sum(_numbers(cooling)),
        "throttles": sum(
            _numbers(sorted(cpus.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")))
        ),
        "undervoltage": any(_numbers(alarms)),
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip().strip("\0")
    except OSError:
        return ""


def _numbers(paths: list[Path]) -> list[int]:
    return [int(text) for text in map(_text, paths) if text.lstrip("-").isdigit()]


def board(root: Path) -> Message:
    """Return what identifies a board, and what it runs now."""
    return {
        "cpuinfo": _text(root / "proc/cpuinfo"),
        "arch": platform.machine(),
        "boot": _text(root / "proc/sys/kernel/random/boot_id"),
        "processors": _text(root / "sys/devices/system/cpu/possible"),
    }


class Agent:
    """Answers the relay."""

    def __init__(self, settings: Message) -> None:
        self._line = Line(float(settings["silence"]))
        self._cache = Cache(int(settings["limit"]))
        self._root = Path(os.environ.get("PYTEST_SPARSITY_SYSROOT") or "/")
        self._worker: Child | None = None

    def serve(self) -> None:
        """Answer until the end."""
        self._line.send({"python": list(sys.version_info[:3])}, mark=MARK)
        try:
            while True:
                request = self._line.receive()
                self._answer(request)
                if request["do"] == "quit":
                    return
        except Ended as ended:
            assert self._worker is not None
            self._line.send({"ended": ended.status, "log": self._worker.said()})
        finally:
            if self._worker is not None:
                self._worker.kill()

    def _answer(self, request: Message) -> None:
        handler = getattr(self, f"_do_{request['do']}", self._pass_on)
        try:
            handler(request)
        except RefusedError as refused:
            self._line.send({"id": request.get("id"), "ok": False, "refused": str(refused)})

    def _do_have(self, request: Message) -> None:
        self._line.send({"have": self._cache.has(request["name"])})

    def _do_put(self, request: Message) -> None:
        self._cache.put(request, self._line)
        self._line.send({"ok": True})

    def _do_start(self, request: Message) -> None:
        code = str(self._cache.path(request["code"]))
        self._worker = Child([sys.executable, "-B", code, request["runtime"]])
        hello = self._worker.answer(self._line)
        self._line.send({**hello, "board": board(self._root), **self._around()})

    def _pass_on(self, request: Message) -> None:
        worker, do, data = self._worker, request["do"], b""
        assert worker is not None
        if do == "load":
            request["path"] = str(self._cache.path(request["path"]))
        if do == "inputs":
            worker.fill(self._line.bytes_of(int(request["size"])))
        if "file" in request:
            request["file"] = worker.file
        worker.ask(request)
        answer = worker.answer(self._line)
        if do == "outputs" and answer.get("ok"):
            data = worker.content()
            answer["size"] = len(data)
        self._line.send({**answer, **self._around()}, data)

    def _around(self) -> Message:
        assert self._worker is not None
        return {"log": self._worker.said(), "conditions": conditions(self._root)}


def main(settings: Message) -> None:
    """Serve until the line ends, which is no fault of anybody's here."""
    with contextlib.suppress(Gone, BrokenPipeError):
        Agent(settings).serve()
