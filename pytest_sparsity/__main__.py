"""The command line: the same engine for people and for other programs.

Exit status: 0 done; 1 a claim that was asked for does not hold, or is inconclusive; 2 unusable
arguments or file, also one that crashes or hangs the runtime; 3 the target cannot run here. What is
wrong is one line on stderr.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

from pytest_sparsity import progress
from pytest_sparsity.command_line.arguments import parser
from pytest_sparsity.command_line.printing import CANNOT_RUN, DONE, INTERNAL, UNUSABLE, refuse
from pytest_sparsity.errors import (
    CannotMeasure,
    NeedsInputs,
    TargetError,
    Unsupported,
    WrongOutputs,
    one_line,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a locale cannot spell is spelt out
            stream.reconfigure(errors="backslashreplace")
    options = parser().parse_args(arguments)
    try:
        if sys.stdout is None:
            raise ValueError("standard output is closed: there is nowhere to print to")
        with progress.shown(None if options.json else terminal_line()), warnings.catch_warnings():
            warnings.showwarning = tell
            status = options.command(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as with `| head`
        drop_output()
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            drop_output()
        return refuse(*fault(error))
    else:
        return status or DONE
    return DONE


def tell(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning on stderr, one line: where in the code it was raised helps nobody here."""
    sys.stderr.write(f"pytest-sparsity: {one_line(message)}\n")


def drop_output() -> None:
    """Let what is left for standard output go nowhere: the interpreter writes it at its end."""
    assert sys.stdout is not None
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fault(error: Exception) -> tuple[object, int]:
    """Return what to say of an exception, and the exit status."""
    from pytest_sparsity.targets import EndedError, InvocationError, LoadError

    of_the_file = (LoadError, InvocationError, EndedError, WrongOutputs, NeedsInputs)
    if isinstance(error, OSError) and error.strerror:
        named = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str) else ""
        return f"{named}{error.strerror}", UNUSABLE
    if isinstance(error, (ValueError, OSError, *of_the_file)):
        return error, UNUSABLE
    if isinstance(error, (Unsupported, TargetError, CannotMeasure)):
        return error, CANNOT_RUN
    return f"internal error, please report it: {type(error).__name__}: {error}", INTERNAL


def terminal_line() -> progress.ProgressLine | None:
    """Return what shows on stderr what takes long, if that is a terminal."""
    return progress.ProgressLine(sys.stderr) if progress.is_terminal(sys.stderr) else None


if __name__ == "__main__":
    raise SystemExit(main())
