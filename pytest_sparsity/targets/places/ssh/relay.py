"""The child of an ssh target: talks like a worker, and has the work done by one on the host.

    python relay.py SETTINGS

SETTINGS is JSON: `host`, `python` and `package` as in `faults.Asked`, `runtime` and its `arguments`
for the worker, `options` of ssh, `silence`, `limit`.

ssh is the system's, so that the user's configuration, agent and jump hosts count. Its command is
the same for every host and holds nothing of it. Models go to the host once, by their hash; the code
of the worker too. All that is particular to the line is settled here: whoever asks sees a worker.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_sparsity import store
from pytest_sparsity.children import guarded
from pytest_sparsity.targets.places.answering import put
from pytest_sparsity.targets.places.ssh import agent, faults
from pytest_sparsity.targets.runtimes import WORKER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Message = dict[str, Any]

# Quotes that sh, bash, dash, ash, zsh, fish and csh read alike. Unbuffered, or Python would read
# more than the line and what follows it would be lost. `exec`, so that no shell stays in between.
COMMAND = "exec {python} -c 'exec(open(0,\"rb\",0,closefd=False).readline())'"
OPTIONS = (
    *("-T", "-x", "-a"),
    *("-o", "BatchMode=yes"),
    *("-o", "ConnectTimeout=10"),
    *("-o", "ServerAliveInterval=5"),
    *("-o", "ServerAliveCountMax=3"),
    *("-o", "ClearAllForwardings=yes"),
    *("-o", "PermitLocalCommand=no"),
    *("-o", "RemoteCommand=none"),
)
CODE = tuple(sorted(WORKER.glob("[!.]*.py")))
# Seconds for connecting and for the board's Python to start, after which nobody will answer.
PATIENCE = 45.0
# Of lines that are none of ours: a login file prints what it likes.
MOST_BANNER = 1 << 20
# How many times within its silence the agent hears from us.
HEARD = 4
CHUNK = 1 << 20


class CutError(Exception):
    """ssh has ended."""


class Line:
    """ssh, and through it the agent."""

    def __init__(self, command: Iterable[str], silence: float) -> None:
        self._pause = silence / HEARD
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (ends with this process)
        self._process = subprocess.Popen(
            guarded(tuple(command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._unread = b""

    def send(self, data: bytes) -> None:
        """Send bytes."""
        view = memoryview(data)
        while view:
            poll = select.poll()
            poll.register(self._in, select.POLLOUT)
            poll.poll()
            try:
                view = view[os.write(self._in, view[:CHUNK]) :]
            except BrokenPipeError:
                raise CutError from None

    def ask(self, message: Message, blocks: Iterable[bytes] = ()) -> Message:
        """Send a message and what follows it, and return the answer."""
        self.send(json.dumps(message).encode() + b"\n")
        for block in blocks:
            self.send(block)
        return self.receive()

    def receive(self) -> Message:
        """Return the next message."""
        message: Message = json.loads(self.line())
        return message

    def line(self, deadline: float | None = None) -> bytes:
        """Return the next line, saying now and then that somebody waits for it."""
        while b"\n" not in self._unread:
            self._more(deadline)
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def bytes_of(self, size: int) -> Iterator[bytes]:
        """Yield the bytes that follow a message."""
        while size:
            if not self._unread:
                self._more()
            part, self._unread = self._unread[:size], self._unread[size:]
            size -= len(part)
            yield part

    def idle(self) -> None:
        """Return when there is something to be read from whoever asks.

        Raises:
            CutError: the line ended meanwhile.
        """
        while True:
            ready = self._poll(0)
            if self._out in ready:
                self._more()
            if 0 in ready:
                return

    def _more(self, deadline: float | None = None) -> None:
        while self._out not in self._poll():
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError
        data = os.read(self._out, CHUNK)
        if not data:
            raise CutError
        self._unread += data

    def _poll(self, *others: int) -> set[int]:
        """Wait for the host or others, at most until it has to hear from us again."""
        poll = select.poll()
        for descriptor in (self._out, *others):
            poll.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(self._pause * 1000)}
        if not ready:
            self.send(b"\n")
        return ready

    def end(self) -> tuple[int, str]:
        """Wait for ssh to end, or end it; return its exit status and its words."""
        os.close(self._in)
        try:
            status = self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._stderr.seek(0)
        return status, self._stderr.read().decode("utf-8", "replace")


class Relay:
    """Passes requests on, and the files that they name."""

    def __init__(self, settings: Message) -> None:
        self._settings = settings
        self._asked = faults.Asked(
            *(settings[name] for name in ("host", "python", "runtime", "package"))
        )
        remote = COMMAND.format(python=settings["python"])
        command = ("ssh", *settings["options"], *OPTIONS, "--", settings["host"], remote)
        self._line = Line(command, settings["silence"])
        self._sent: set[str] = set()

    def serve(self) -> None:
        """Say hello, then answer until `quit` or the end of input."""
        self._connect()
        hello = self._start()
        try:
            self._answer(hello)
            unread = b""
            while True:
                while b"\n" not in unread:
                    self._line.idle()
                    data = os.read(0, CHUNK)
                    if not data:
                        return
                    unread += data
                text, _, unread = unread.partition(b"\n")
                request = json.loads(text)
                self._answer(self._passed_on(request))
                if request["do"] == "quit":
                    self._line.end()
                    return
        except CutError:
            sentence = faults.of_line(self._asked, *self._line.end())
            self._answer({"id": None, "ok": False, "kind": "machine", "error": sentence})

    def _connect(self) -> None:
        """Have the agent run on the host."""
        names = ("silence", "limit")
        settings = {name: self._settings[name] for name in names}
        text = Path(agent.__file__).read_text(encoding="utf-8")
        check = 'import sys\nif sys.version_info < (3, 9): sys.exit("too old: Python %d.%d" % '
        check += "sys.version_info[:2])\n"
        code = f"{check}exec({f'{text}main({settings!r})'!r})"
        try:
            deadline, read = time.monotonic() + PATIENCE, 0
            self._line.send(f"exec({code!r})\n".encode())
            while read < MOST_BANNER:
                line = self._line.line(deadline)
                if agent.MARK.encode() in line:
                    return
                read += len(line)
        except CutError:
            self._lack(*faults.of_connecting(self._asked, *self._line.end()))
        except TimeoutError:
            pass
        host = self._asked.host
        self._lack(
            f"{host} does not start {self._asked.python} within {PATIENCE:g} s",
            f"try ssh {host} {self._asked.python} --version",
        )

    def _start(self) -> Message:
        """Have the worker run on the host, and return its hello."""
        try:
            code = "-".join(("code", *(store.sha256(path)[:12] for path in CODE)))
            for path in CODE:
                refused = self._bring(path, f"{code}/{path.name}")
                if refused:
                    self._lack(*refused)
            arguments = self._settings["arguments"]
            hello = self._line.ask({"do": "start", "runtime": arguments, "code": code})
        except CutError:
            self._lack(*faults.of_connecting(self._asked, *self._line.end()))
        fault = None
        if "ended" in hello:
            fault = faults.of_starting(self._asked, hello["log"])
        elif "board" in hello:
            fault = faults.of_board(self._asked, hello["board"])
        if fault:
            self._lack(*fault)
        return hello

    def _passed_on(self, request: Message) -> Message:
        """Return the answer to a request; the files that it names are here."""
        blocks: Iterable[bytes] = ()
        do, path = request["do"], str(request.get("path") or request.get("file"))
        try:
            if do == "load":
                sha256 = store.sha256(Path(path))
                request["path"] = f"{sha256}.tflite"
                refused = self._bring(Path(path), request["path"], sha256)
                if refused:
                    return _refusal(request, "machine", ": ".join(refused))
            if do == "inputs":
                request["size"] = Path(path).stat().st_size
                blocks = _exactly(Path(path), request["size"])
        except OSError as error:
            return _refusal(request, "load" if do == "load" else "machine", str(error))
        answer = self._line.ask(request, blocks)
        if "size" in answer:
            with Path(path).open("wb") as file:
                file.writelines(self._line.bytes_of(answer.pop("size")))
        if "pid" in answer:
            # That of a process of the host's is no process of this machine's to be limited.
            answer["pid"] = os.getpid()
        return answer

    def _bring(self, path: Path, name: str, sha256: str = "") -> tuple[str, str] | None:
        """Have a file in the host's cache; return why that cannot be, and what helps."""
        if name in self._sent:
            return None
        if not self._line.ask({"do": "have", "name": name})["have"]:
            sha256 = sha256 or store.sha256(path)
            size = path.stat().st_size
            put = {"do": "put", "name": name, "sha256": sha256, "size": size}
            answer = self._line.ask(put, _exactly(path, size))
            if "refused" in answer:
                reason = f"{path.name} cannot be stored on {self._asked.host}: {answer['refused']}"
                return reason, "free some space there, or set XDG_CACHE_HOME there"
        self._sent.add(name)
        return None

    def _lack(self, fault: str, remedy: str) -> NoReturn:
        """Say that there is no worker to be had, and end."""
        put({"lacks": fault, "remedy": remedy})
        sys.exit(0)

    def _answer(self, answer: Message) -> None:
        """Hand on an answer, after what the worker wrote to stderr."""
        sys.stderr.write(answer.pop("log", ""))
        sys.stderr.flush()
        if "ended" in answer:
            _end_like(answer["ended"])
        put(answer)


def _refusal(request: Message, kind: str, error: str) -> Message:
    return {"id": request["id"], "ok": False, "kind": kind, "error": error}


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(CHUNK), b"")


def _exactly(path: Path, size: int) -> Iterator[bytes]:
    """Yield so many bytes of a file, whatever becomes of it meanwhile; its hash tells after."""
    for block in _blocks(path):
        part = block[:size]
        size -= len(part)
        yield part
    while size:
        part = bytes(min(size, CHUNK))
        size -= len(part)
        yield part


def _end_like(status: int) -> NoReturn:
    """End as the worker has ended, so that it is told like that of a worker on this machine."""
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(-status, signal.SIG_DFL) if -status not in (9, 19) else None
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    Relay(json.loads(sys.argv[1])).serve()
