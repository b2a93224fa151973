"""Answers the requests of the protocol, which the package's docstring has."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import json
import os
import platform
import signal
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from .installed import cpu, import_interpreter, version
from .interpreter import Counter, Loaded, RequestError, time_block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .interpreter import Answer, Request

PROTOCOL = 2
# From linux/prctl.h.
PR_SET_PDEATHSIG = 1


class Joined(Exception):  # noqa: N818  (no error)
    """A copy of this process has ended after answering that it would."""


class Digests:
    """SHA-256 of files by path; a file is read again when it is another or has changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, ...], str]] = {}

    @staticmethod
    def stamp(path: str) -> tuple[int, ...]:
        """Return what is another when the file is replaced or written to."""
        found = Path(path).stat()
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def sha256(self, path: str) -> str:
        """Return the digest of a file's content."""
        stamp = self.stamp(path)
        if self._known.get(path, ((), ""))[0] != stamp:
            digest = hashlib.sha256()
            with Path(path).open("rb") as file:
                for part in iter(lambda: file.read(1 << 20), b""):
                    digest.update(part)
            self._known[path] = stamp, digest.hexdigest()
        return self._known[path][1]


class Server:
    """Answers requests; holds the loaded models by key."""

    def __init__(self, runtime: Request, counter: Counter | None) -> None:
        self._runtime = runtime
        self._module = import_interpreter(runtime)
        self._counter = counter
        self._models: dict[str, Loaded] = {}
        self._digests = Digests()

    def hello(self) -> Answer:
        """Say what runs here."""
        return {
            "protocol": PROTOCOL,
            "runtime": self._runtime["name"],
            "version": version(self._runtime, self._module),
            "cpu": cpu(),
            "clock": "instructions" if self._counter else "cpu",
            "forks": self.forks,
            "engine": f"{platform.python_implementation()} {platform.python_version()}",
        }

    @property
    def forks(self) -> bool:
        """Whether copies can answer: they must die with this process, and nothing else may run."""
        alone = self._counter is None and not self._models
        return alone and sys.platform == "linux"

    def answer(self, request: Request) -> Answer:
        """Do what one request asks."""
        do = request.get("do")
        handler = getattr(self, f"_do_{do}", None)
        if handler is None:
            raise RequestError("error", f"unknown request {do!r}")
        answer: Answer = handler(request)
        return answer

    def _do_load(self, request: Request) -> Answer:
        try:
            before = self._digests.stamp(request["path"])
            model = Loaded(self._module, request)
            # Only what loads is read whole: a file larger than the memory is refused at once.
            digest = self._digests.sha256(request["path"])
            if self._digests.stamp(request["path"]) != before:
                raise RequestError("load", "the file was replaced while it was loaded")
        except (RuntimeError, ValueError, OSError, MemoryError) as error:
            raise RequestError("load", str(error) or type(error).__name__) from error
        self._models[request["key"]] = model
        return dict(model.signature(), sha256=digest)

    def _do_inputs(self, request: Request) -> Answer:
        self._models[request["key"]].set_inputs(Path(request["file"]).read_bytes())
        return {}

    def _do_run(self, request: Request) -> Answer:
        blocks = [(self._models[key], int(n)) for key, n in request["blocks"]]
        warm = int(request["warm"])
        with invoking():
            timed = [time_block(model, n, warm, self._counter) for model, n in blocks]
        columns = ("wall_ns", "cpu_ns", "preempted", "instructions")
        answer: Answer = {name: [row[i] for row in timed] for i, name in enumerate(columns)}
        answer["ran"] = request["blocks"]
        return answer if self._counter else dict(answer, instructions=None)

    def _do_outputs(self, request: Request) -> Answer:
        with invoking():
            arrays = self._models[request["key"]].outputs()
        with Path(request["file"]).open("wb") as file:
            file.writelines(array.tobytes() for array in arrays)
        return {"arrays": [[list(array.shape), array.dtype.name] for array in arrays]}

    def _do_profile(self, request: Request) -> Answer:
        if not self._runtime["profile"]:
            raise RequestError("unsupported", "no operator profile")
        model = self._models[request["key"]]
        from .profile import profile

        inputs, outputs = model.contents()
        invocations = int(request["invocations"])
        return {"operators": profile(model.path, inputs, outputs, invocations, model.threads)}

    def _do_join(self, request: Request) -> Answer:
        del request
        return {}

    def _do_unload(self, request: Request) -> Answer:
        del self._models[request["key"]]
        gc.collect()
        return {}

    def _do_fork(self, request: Request) -> Answer:
        del request
        if not self.forks:
            raise RequestError("unsupported", "no copies")
        parent, pid = os.getpid(), os.fork()
        if pid:
            # The copy has the conversation. If it dies, so does this process, in the same way.
            _, status = os.waitpid(pid, 0)
            if os.WIFSIGNALED(status):
                os.kill(os.getpid(), os.WTERMSIG(status))
            raise SystemExit(os.WEXITSTATUS(status)) if status else Joined
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        return {"pid": os.getpid()}

    def _do_quit(self, request: Request) -> Answer:
        del request
        self._models.clear()
        return {}


@contextlib.contextmanager
def invoking() -> Iterator[None]:
    """Say that it was an invocation that the runtime failed in."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise RequestError("invocation", str(error)) from error


def serve(runtime: Request, counts: Path | None, requests: IO[str], answers: IO[str]) -> None:
    """Import the runtime, say hello, then answer requests until `quit` or the end of input."""
    server = Server(runtime, Counter(counts) if counts else None)
    gc.collect()
    gc.freeze()
    gc.disable()
    _send(answers, server.hello())
    for line in requests:
        request = json.loads(line)
        try:
            answer = dict(server.answer(request), id=request["id"], ok=True)
        except Joined:
            continue
        except RequestError as refused:
            answer = {"ok": False, "kind": refused.kind, "error": str(refused)}
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            answer = {"ok": False, "kind": "error", "error": text}
        _send(answers, dict(answer, id=request["id"]))
        if request["do"] == "join":
            os._exit(0)
        if request["do"] == "quit":
            return


def _send(answers: IO[str], answer: Answer) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
