"""A phone for tests: the device's side of adb's protocol, so that the real client sees a phone.

    python phones.py PORT FOLDER [--no-shell-v2] [--crlf]

Speaks CNXN, OPEN, OKAY, WRTE and CLSE without authentication (protocol.txt of Android's adb), on
loopback. `shell` runs a command in a folder that stands for the phone, with its own programs first;
`sync` takes files. `benchmark_model` there replays logs, see `Phone`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from pytest_sparsity.errors import Unsupported

HEADER = "<6I"
LARGEST = 1 << 16
STDOUT, STDERR, EXIT = 1, 2, 3


def missing() -> Unsupported | None:
    """Say what tests with a phone lack."""
    if shutil.which("adb") is None:
        return Unsupported("adb is not installed", "apt-get install adb")
    return None


class Stream:
    """One service that the client has opened."""

    def __init__(self, connection: Connection, ours: int, theirs: int) -> None:
        self._connection, self._ours, self._theirs = connection, ours, theirs
        self._unread = b""
        self._changed = threading.Condition()
        self._taken = threading.Semaphore(0)
        self._closed = False

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), LARGEST - 4096):
            part = data[start : start + LARGEST - 4096]
            self._connection.send(b"WRTE", self._ours, self._theirs, part)
            self._taken.acquire()

    def read(self, size: int) -> bytes:
        with self._changed:
            while len(self._unread) < size and not self._closed:
                self._changed.wait()
            if len(self._unread) < size:
                raise EOFError
            data, self._unread = self._unread[:size], self._unread[size:]
        return data

    def close(self) -> None:
        self._connection.send(b"CLSE", self._ours, self._theirs)

    def arrived(self, data: bytes) -> None:
        with self._changed:
            self._unread += data
            self._changed.notify_all()

    def taken(self) -> None:
        self._taken.release()

    def closed(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._taken.release()


class Connection:
    """One client's connection."""

    def __init__(self, line: socket.socket, root: Path, features: str, *, crlf: bool) -> None:
        self._line, self._root, self._features, self._crlf = line, root, features, crlf
        self._lock = threading.Lock()
        self._streams: dict[int, Stream] = {}

    def serve(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._take(*self._message())

    def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        number = int.from_bytes(command, "little")
        total = sum(data) & 0xFFFFFFFF
        head = struct.pack(HEADER, number, first, second, len(data), total, number ^ 0xFFFFFFFF)
        with self._lock:
            self._line.sendall(head + data)

    def _message(self) -> tuple[bytes, int, int, bytes]:
        number, first, second, size, _, _ = struct.unpack(HEADER, self._exactly(24))
        return number.to_bytes(4, "little"), first, second, self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._line.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def _take(self, command: bytes, first: int, second: int, data: bytes) -> None:
        if command == b"CNXN":
            facts = "ro.product.name=p;ro.product.model=P;ro.product.device=p"
            banner = f"device::{facts};features={self._features}"
            self.send(b"CNXN", 0x01000000, LARGEST, banner.encode())
        elif command == b"OPEN":
            ours = len(self._streams) + 1
            stream = self._streams[ours] = Stream(self, ours, first)
            self.send(b"OKAY", ours, first)
            self._open(stream, data.rstrip(b"\0").decode())
        elif command == b"OKAY":
            self._streams[second].taken()
        elif command == b"WRTE":
            self._streams[second].arrived(data)
            self.send(b"OKAY", second, first)
        elif command == b"CLSE" and second in self._streams:
            self._streams[second].closed()

    def _open(self, stream: Stream, service: str) -> None:
        kind, _, rest = service.partition(":")
        if kind.startswith("shell"):
            run, arguments = self._shell, (stream, rest, ",v2" in kind)
        elif kind == "sync":
            run, arguments = self._sync, (stream,)  # type: ignore[assignment]
        else:
            stream.close()
            return
        threading.Thread(target=run, args=arguments, daemon=True).start()

    def _shell(self, stream: Stream, command: str, packets: bool) -> None:
        """Run a command; without packets stderr is among stdout and nobody tells the status."""
        ended = subprocess.run(
            ("sh", "-c", command.replace("/data/local/tmp", str(self._root))),
            cwd=self._root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if packets else subprocess.STDOUT,
            env={"PATH": f"{self._root}/bin:/usr/bin:/bin"},
            check=False,
        )
        said = [(STDOUT, ended.stdout), (STDERR, ended.stderr or b"")]
        if self._crlf:
            said = [(kind, data.replace(b"\n", b"\r\n")) for kind, data in said]
        for kind, data in said:
            for start in range(0, len(data), 8192):
                part = data[start : start + 8192]
                stream.write(struct.pack("<BI", kind, len(part)) + part if packets else part)
        if packets:
            stream.write(struct.pack("<BIB", EXIT, 1, ended.returncode & 255))
        stream.close()

    def _sync(self, stream: Stream) -> None:
        with contextlib.suppress(EOFError):
            while True:
                request, size = struct.unpack("<4sI", stream.read(8))
                argument = stream.read(size).decode()
                if request == b"QUIT":
                    break
                if request == b"SEND":
                    self._receive(stream, argument)
                else:
                    self._stat(stream, request, argument)
        stream.close()

    def _local(self, path: str) -> Path:
        return Path(path.replace("/data/local/tmp", str(self._root)))

    def _stat(self, stream: Stream, request: bytes, path: str) -> None:
        try:
            found = self._local(path).stat()
        except OSError as error:
            numbers = (0, 0, 0, error.errno or 0)
        else:
            numbers = (found.st_mode, found.st_size, int(found.st_mtime), 0)
        mode, size, when, fault = numbers
        if request == b"STAT":
            stream.write(b"STAT" + struct.pack("<III", mode, size, when))
        else:
            facts = (fault, 0, 0, mode, 1, 0, 0, size, when, when, when)
            stream.write(request + struct.pack("<IQQIIIIQqqq", *facts))

    def _receive(self, stream: Stream, argument: str) -> None:
        path, _, mode = argument.rpartition(",")
        file, fault = self._local(path), ""
        full = (self._root / "full").exists()
        data = b""
        while True:
            word, size = struct.unpack("<4sI", stream.read(8))
            if word == b"DONE":
                break
            data += stream.read(size)
        if full and not file.name.startswith("benchmark_model"):
            fault = "No space left on device"
        else:
            file.write_bytes(data)
            file.chmod(int(mode) & 0o777)
        if fault:
            stream.write(b"FAIL" + struct.pack("<I", len(fault)) + fault.encode())
        else:
            stream.write(b"OKAY" + struct.pack("<I", 0))


# What stands for the tool on the phone: it notes its arguments and prints the log of the model that
# it is given, see `Phone.replays`. `fault` beside it says how it is to fail.
TOOL = """#!/bin/sh
here="{root}"
printf '%s\\n' "$*" >> "$here/commands"
test -f "$here/fault" && . "$here/fault"
for word; do
  case "$word" in
    --graph=*) model=${{word#--graph=}} ;;
    --num_runs=*) runs=${{word#--num_runs=}} ;;
    --enable_op_profiling=true) profile=-profile ;;
  esac
done
test -f "$model" || {{ echo "ERROR: Could not open '$model'." >&2; exit 1; }}
exec {python} {writer} "$here/logs" "$model" "$runs" "$profile"
"""
WRITER = """
import json, pathlib, random, sys
sys.path.insert(0, {tests!r})
from benchmark_logs import FORMS, log
folder, model, runs, profile = sys.argv[1:]
said = json.loads((pathlib.Path(folder) / "said.json").read_text())
mine = said["models"][pathlib.Path(model).stem]
state = pathlib.Path(folder) / "count"
number = int(state.read_text()) if state.exists() else 0
state.write_text(str(number + 1))
rng = random.Random(number)
times = [max(1, round(mine["us"] * rng.lognormvariate(0, said["noise"]))) for _ in range(int(runs))]
rows = [tuple(row) for row in mine["rows"]] if profile else []
sys.stdout.write(log(FORMS[said["form"]], times, rows=rows))
"""


class Phone:
    """A phone in a process of its own.

    Attributes:
        root: the folder that stands for `/data/local/tmp` on it.
        serial: what the client calls it.
    """

    def __init__(self, folder: Path, *flags: str) -> None:
        self.root = folder / "phone"
        (self.root / "logs").mkdir(parents=True)
        programs = self.root / "bin"
        programs.mkdir()
        self._program("getprop", 'case "$1" in *release) echo 14;; *product.model) echo P 7;; esac')
        self._program("dumpsys", f'cat "{self.root}/thermal" 2>/dev/null')
        self._program("taskset", f'echo "taskset $1" >> "{self.root}/commands"; shift; exec "$@"')
        self.tool = folder / "benchmark_model"
        writer = folder / "writer.py"
        writer.write_text(WRITER.format(tests=str(Path(__file__).parent)))
        self.tool.write_text(TOOL.format(root=self.root, python=sys.executable, writer=writer))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.serial = f"127.0.0.1:{self.port}"
        command = (sys.executable, __file__, str(self.port), str(self.root), *flags)
        self._process = subprocess.Popen(command, start_new_session=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not self._listens():
            time.sleep(0.05)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    def _program(self, name: str, body: str) -> None:
        file = self.root / "bin" / name
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)

    @property
    def commands(self) -> list[str]:
        """The arguments of every run of the tool."""
        file = self.root / "commands"
        return file.read_text().splitlines() if file.exists() else []

    def stop(self) -> None:
        """Be gone."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


class Client:
    """The real client with a server of its own, which sees only the phones of a test."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        home = folder / "adb-home"
        home.mkdir()
        self.variables = {
            "ANDROID_ADB_SERVER_PORT": str(port),
            "HOME": str(home),
            "ADB_MDNS": "0",
            "TMPDIR": str(home),
        }

    def __call__(self, *arguments: str) -> str:
        ended = subprocess.run(
            ("adb", *arguments),
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return ended.stdout + ended.stderr


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("root", type=Path)
    parser.add_argument("--no-shell-v2", action="store_true")
    parser.add_argument("--crlf", action="store_true")
    options = parser.parse_args()
    features = "cmd" if options.no_shell_v2 else "shell_v2,cmd,stat_v2"
    server = socket.create_server(("127.0.0.1", options.port))
    while True:
        line, _ = server.accept()
        connection = Connection(line, options.root, features, crlf=options.crlf)
        threading.Thread(target=connection.serve, daemon=True).start()


if __name__ == "__main__":
    main()
