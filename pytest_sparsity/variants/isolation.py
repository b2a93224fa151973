"""Work in a process of its own, made by a fork.

A build function is whatever the test's author wrote: a closure over fixtures, a lambda, a method.
None of these can be sent to a fresh interpreter; a fork has them all. It takes over no threads,
though, so it is for processes in which TensorFlow does not run yet.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import pickle
import signal
import sys
import sysconfig
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pytest_sparsity import children
from pytest_sparsity.children.guard import PR_SET_PDEATHSIG
from pytest_sparsity.variants.last_words import telling_line, without_chatter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__tracebackhide__ = True

T = TypeVar("T")

OURS = str(Path(__file__).parent.parent)


class CrashError(RuntimeError):
    """The work killed its process; the message says how and where."""


class TracebackInTheChild(Exception):  # noqa: N818  (the cause of an error, never raised)
    """Where an error was raised in the other process, as text."""


def in_a_fork(work: Callable[[], T], what: str) -> T:
    """Return what the work returns; it runs in a copy of this process and changes nothing here.

    An error that it raises is raised here. If it comes from somebody else's code, its cause is a
    `TracebackInTheChild` with the lines of that code.

    Args:
        work: its result must be picklable.
        what: the work is, for the message of a crash.

    Raises:
        CrashError: the process ended before it had a result.
    """
    with (
        tempfile.TemporaryFile("w+", errors="replace") as log,
        children.scratch_folder("fork") as temporary,
    ):
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns of threads; those of pytest and of plugins are not needed in there.
            warnings.simplefilter("ignore")
            child = os.fork()
        if not child:
            _run(work, writing, log.fileno(), temporary)  # never returns
        os.close(writing)
        try:
            with os.fdopen(reading, "rb") as pipe:
                answer = pipe.read()
        except BaseException:
            os.kill(child, signal.SIGKILL)
            raise
        finally:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        log.seek(0)
        printed = log.read()
    if not answer:
        raise CrashError(f"{what} crashed its process ({_last_words(status, printed)})")
    sys.stderr.write(without_chatter(printed))
    result, error = pickle.loads(answer)
    if error is not None:
        raise _unpacked(*error)
    value: T = result
    return value


def is_ours(error: BaseException) -> bool:
    """Whether this package raised an error, rather than the code of others that it called."""
    if isinstance(error.__cause__, TracebackInTheChild):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return not frames or frames[-1].filename.startswith(OURS)


def _run(work: Callable[[], object], pipe: int, log: int, temporary: str) -> None:
    """Do the work and end the process, without what this process would do at its end.

    Temporary files among it: TensorFlow's autograph removes its own at exit. They are made where
    somebody else removes them.
    """
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # somebody's time limit for a test
        os.dup2(log, 2)
        tempfile.tempdir = os.environ["TMPDIR"] = temporary
        faulthandler.enable(2, all_threads=False)
        try:
            answer = pickle.dumps((work(), None))
        except BaseException as error:
            answer = _packed(error)
        with os.fdopen(pipe, "wb") as stream:
            stream.write(answer)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)


def _packed(error: BaseException) -> bytes:
    """Return what `_unpacked` takes; an error need not be picklable, only what it holds."""
    kind = type(error)
    name = kind.__module__, kind.__qualname__
    try:
        return pickle.dumps((None, (*name, error.args, vars(error), _theirs(error))))
    except Exception:
        plain = (f"{kind.__name__}: {error}",)
        return pickle.dumps((None, ("builtins", "RuntimeError", plain, {}, _theirs(error))))


def _unpacked(
    module: str, name: str, args: tuple[object, ...], state: dict[str, object], theirs: str
) -> BaseException:
    """Return the error, a RuntimeError if this process does not know its class."""
    kind = next((k for k in _kinds() if (k.__module__, k.__qualname__) == (module, name)), None)
    if kind is None:
        error: BaseException = RuntimeError(f"{name}: {', '.join(map(str, args))}")
    else:
        error = kind.__new__(kind, *args)
        error.args = args
        vars(error).update(state)
    error.__cause__ = TracebackInTheChild(theirs) if theirs else None
    return error


def _kinds(kind: type[BaseException] = BaseException) -> Iterator[type[BaseException]]:
    """Return all classes of errors, also those that no module has by their name."""
    yield kind
    for each in type.__subclasses__(kind):
        yield from _kinds(each)


def _theirs(error: BaseException) -> str:
    """Return the traceback from the first line of somebody else's code on; empty if there is none.

    Errors of our own say in one sentence what is wrong, and a traceback would bury that.
    """
    if is_ours(error):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [n for n, frame in enumerate(frames) if not frame.filename.startswith(OURS)]
    listed = traceback.format_list(frames[theirs[0] :])
    return "\n" + "".join([*listed, *traceback.format_exception_only(type(error), error)])


def _last_words(status: int, log: str) -> str:
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    places = [line.strip() for line in log.splitlines() if line.lstrip().startswith("File ")]
    installed = (OURS, "site-packages", sysconfig.get_paths()["stdlib"])
    theirs = [place for place in places if not any(each in place for each in installed)]
    what = [line for line in (telling_line(log),) if not line.startswith("Fatal Python error")]
    return "; ".join(filter(None, [how, *what, *theirs[:1]]))
