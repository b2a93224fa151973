"""A child process that answers lines of JSON before a deadline.

Whatever goes wrong in the child (it crashes, hangs, prints rubbish, does not start) becomes one
`TargetError` with one sentence, and the child is gone by then. No threads: deadlines come from
polling the pipes. The child's stderr goes to a nameless file, so that it can never block the child
and its last words can be shown.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_sparsity import strict_json
from pytest_sparsity.children import guarded, limit_memory
from pytest_sparsity.errors import TargetError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Seconds that a child may take to end by itself after `quit`; then it is killed.
_PATIENCE = 2.0
# Bytes of the child's stderr that are looked at, and characters of them that a message shows.
_TAIL = 8192
_LAST_WORDS = 300
_RUBBISH = 60
# Bytes of a line that cannot be an answer.
_LONGEST_LINE = 1 << 26
# Bytes of private memory for a child itself: Node takes 0.2 GB, TensorFlow's interpreter 0.4 GB.
MEMORY = 2**31


class EndedError(TargetError):
    """The child crashed or hung over a request, which is the file's fault rather than its own."""


@dataclass(frozen=True)
class Launch:
    """How to start the child of a target.

    Attributes:
        command: program and arguments.
        environment: the child's whole environment.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]


class LateError(TargetError):
    """Nobody waits for the answer any more, see `answers_until`; the child has been ended."""


_LIMIT: ContextVar[float] = ContextVar("limit", default=math.inf)


@contextmanager
def answers_until(deadline: float) -> Iterator[None]:
    """Wait for no answer of any child beyond a point in time, on the monotonic clock.

    What is asked within raises `LateError` then.
    """
    token = _LIMIT.set(deadline)
    try:
        yield
    finally:
        _LIMIT.reset(token)


def limit() -> float:
    """Return when no answer is waited for any more; infinite if there is no such point."""
    return _LIMIT.get()


class Child:
    """One child process and its pipes.

    Attributes:
        target: the target's name, the subject of every message.
        timeout: seconds that any one answer may take.
        answering: id of the process that answers, the child's or that of a copy of it.
    """

    def __init__(self, target: str, launch: Launch, timeout: float) -> None:
        """Start the child.

        Raises:
            TargetError: the program cannot be executed.
        """
        self.target = target
        self.timeout = timeout
        self._unread = b""
        self._said = 0
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed by _end)
        try:
            # In a session of its own, so that Ctrl-C in a terminal ends a debugger's command and
            # not the child too.
            self._process = subprocess.Popen(
                guarded(launch.command, MEMORY),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=dict(launch.environment),
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            self._stderr.close()
            raise TargetError(f"{target} does not start: {error}") from error
        self.answering = self._process.pid
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin = self._process.stdin
        self._stdout = self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the child is gone."""
        return self._stderr.closed

    @property
    def alive(self) -> bool:
        """Whether the child runs; also tells when it has ended between two requests."""
        return not self.ended and self._process.poll() is None

    def exchange(
        self, doing: str, request: Mapping[str, object] | None, seconds: float = 0.0
    ) -> dict[str, Any]:
        """Send a request, if any, and return the next line of the child.

        Args:
            doing: what this is, for messages, e.g. `"loading net.tflite"`.
            request: the request, or None to read only.
            seconds: that the answer may take beyond the time for any answer.

        Raises:
            TargetError: there was no answer; the child has been ended. An `EndedError` if it had
                started, so that what it was asked to do is at fault; a `LateError` if nobody waits
                any more.
        """
        if self.ended:
            raise TargetError(f"{self.target} had ended before {doing}; open it again")
        self._said = self._stderr.seek(0, os.SEEK_END)
        ended = TargetError if request is None else EndedError
        deadline = min(time.monotonic() + self.timeout + seconds, limit())
        try:
            line = self._converse(request, deadline)
        except TimeoutError:
            if deadline == limit():
                self.fail(f"was too late when {doing}, and was killed", LateError)
            patience = f"{self.timeout + seconds:.3g}"
            self.fail(f"did not answer within {patience} s when {doing}, and was killed", ended)
        except (EOFError, OSError):
            self.fail(f"{self._how_it_ended()} when {doing}", ended)
        except BaseException:
            # An interrupt leaves half a conversation behind, after which nothing may be asked.
            self._end()
            raise
        return self._decoded(line, doing)

    def fail(self, fault: str, kind: type[Exception] = TargetError) -> NoReturn:
        """End the child and raise the error: target, fault and the child's last words."""
        words = self.last_words()
        self._end()
        said = f": {words}" if words else ""
        raise kind(f"{self.target} {fault}{said}") from None

    def last_words(self) -> str:
        """Return the last line that the child wrote to stderr since the last request, or ""."""
        return last_line(self._log())[-_LAST_WORDS:]

    def errors(self) -> str:
        """Return what the runtime has logged as errors since the last request, or "".

        TFLite and LiteRT write `ERROR: ` before them, and only before them (minimal_logging.cc).
        """
        mark = "ERROR: "
        found = [line for line in self._log().splitlines() if line.startswith(mark)]
        return all_lines("\n".join(line.removeprefix(mark) for line in found))[:_LAST_WORDS]

    def _log(self) -> str:
        """Return the end of what the child has written to stderr since the last request."""
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(self._said, size - _TAIL))
        return self._stderr.read().decode("utf-8", "replace")

    def limit_memory(self, nbytes: int) -> None:
        """Let the child have so many bytes of private memory."""
        # One that has just ended says so at the next request.
        with suppress(ProcessLookupError):
            if not self.ended:
                limit_memory(self.answering, nbytes)

    def close(self) -> None:
        """Ask the child to quit, and kill it if it does not. May be called again."""
        if self.ended:
            return
        try:
            deadline = min(time.monotonic() + _PATIENCE, limit())
            self._send({"id": 0, "do": "quit"}, deadline)
            self._stdin.close()
            self._process.wait(max(deadline - time.monotonic(), 0.0))
        except (OSError, subprocess.TimeoutExpired):
            pass  # Killed next, which is all that is wanted.
        finally:
            self._end()

    def _converse(self, request: Mapping[str, object] | None, deadline: float) -> bytes:
        if request is not None:
            # What a child says before it ends by itself is read next, if it says anything.
            with suppress(BrokenPipeError):
                self._send(request, deadline)
        return self._read_line(deadline)

    def _send(self, request: Mapping[str, object], deadline: float) -> None:
        data = memoryview(json.dumps(request).encode() + b"\n")
        while data:
            _wait(self._stdin.fileno(), select.POLLOUT, deadline)
            data = data[os.write(self._stdin.fileno(), data) :]

    def _read_line(self, deadline: float) -> bytes:
        parts, length = [self._unread], len(self._unread)
        while b"\n" not in parts[-1] and length < _LONGEST_LINE:
            _wait(self._stdout.fileno(), select.POLLIN, deadline)
            parts.append(os.read(self._stdout.fileno(), 1 << 20))
            length += len(parts[-1])
            if not parts[-1]:
                raise EOFError
        line, _, self._unread = b"".join(parts).partition(b"\n")
        return line

    def _decoded(self, line: bytes, doing: str) -> dict[str, Any]:
        try:
            answer = strict_json.loads(line)
        except ValueError:  # UnicodeDecodeError among them
            answer = None
        if not isinstance(answer, dict):
            said = line[:_RUBBISH].decode("utf-8", "replace")
            self.fail(f"answered outside the protocol, {said!r}, when {doing}")
        return answer

    def _how_it_ended(self) -> str:
        """Say how the child ended, for a child that has closed its side of the pipe."""
        try:
            status = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            return "closed its output"
        if status >= 0:
            return f"ended with exit status {status}"
        return f"crashed with {_signal_name(-status)}"

    def _end(self) -> None:
        """Kill the child if it lives, reap it and close the files."""
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self._stdout.close()
        self._stderr.close()


def last_line(text: str) -> str:
    """Return the last line that is neither blank nor TFLite's mere information, or ""."""
    return next(reversed(_telling(text)), "")


def all_lines(text: str) -> str:
    """Return the lines that are neither blank nor TFLite's mere information, as one."""
    return "; ".join(dict.fromkeys(line.rstrip(".") for line in _telling(text)))


def _telling(text: str) -> list[str]:
    lines = [printable(line.strip()) for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("INFO:")]


def _wait(descriptor: int, event: int, deadline: float) -> None:
    """Wait until the descriptor is ready or at its end; `TimeoutError` at the deadline."""
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
