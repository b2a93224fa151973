"""Which outcome an exception is, and where its traceback ends."""

from __future__ import annotations

import linecache
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pytest_sparsity.errors import (
    CannotMeasure,
    CannotTrace,
    Inconclusive,
    NotRecorded,
    Unsupported,
    one_line,
    printable,
)
from pytest_sparsity.plugin.options import SUITE_MODULE, target_named
from pytest_sparsity.plugin.state import OPTIONS, record_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

VERDICTS = frozenset({"sparse", "dense", "miscomputes", "fails"})
"""What `Diagnosis.verdict` may be."""
OWN = "pytest_sparsity"
MACHINERY = ("_pytest", "pluggy", "pytest")


@contextmanager
def outcomes(item: pytest.Item) -> Iterator[None]:
    """Turn what the environment lacks into a skip, and show tracebacks down to the user's line.

    On a target that must run it is an error instead. What our own exceptions have to say is in
    their message; `--full-trace` shows all of it.
    """
    config = item.config
    try:
        yield
    except Exception as error:
        own = type(error).__module__.startswith(OWN)
        if isinstance(error, Inconclusive):
            cause = record_of(config).cause(error)
            error.args = (f"{error}\n  because   {cause}" if cause else str(error),)
        if own:
            error.args = tuple(map(_printed, error.args))
        told = own or _refused(error)
        if (told or isinstance(error, AssertionError)) and not config.getoption("fulltrace"):
            shorten(error.__traceback__)
            if told:
                _forget_internal_causes(error)
        skips = config.stash[OPTIONS].inconclusive == "skip"
        if isinstance(error, Unsupported):
            from pytest_sparsity.plugin.settings import target_of
            from pytest_sparsity.report import records

            error = error.on(target_of(item)).with_traceback(error.__traceback__)
            options = config.stash[OPTIONS]
            required = error.target in options.require
            if error.target in options.named:
                required = required or target_named(error.target).missing() is not None
            # The target runs: what is missing is a value of this machine, or a tool beside it.
            required = required and not isinstance(error, (NotRecorded, CannotTrace))
            record_of(config).not_run = records.of_not_run(error, required=required)
            if required:
                reason = f"{error.target} is required, and this claim cannot run on it: {error}"
                raise pytest.fail.Exception(reason, pytrace=False) from None
        if isinstance(error, (Unsupported, Inconclusive) if skips else Unsupported):
            # pytest reports the place that the traceback ends at.
            raise pytest.skip.Exception(_reason(error)).with_traceback(
                error.__traceback__
            ) from None
        if isinstance(error, CannotMeasure):
            record_of(config).cannot_measure = True
        raise


def _reason(error: BaseException) -> str:
    said = f"inconclusive: {error}" if isinstance(error, Inconclusive) else str(error)
    return one_line(said)


def _printed(argument: object) -> object:
    """Return an argument of an exception; a text line by line as it may be printed."""
    if not isinstance(argument, str):
        return argument
    return "\n".join(map(printable, argument.split("\n")))


def _refused(error: Exception) -> bool:
    """Tell whether a statement of ours raised a built-in error, to say what is wrong with a call.

    What another statement of ours raised is a defect, and keeps its traceback.
    """
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or _package(last) != OWN:
        return False
    line = linecache.getline(last.tb_frame.f_code.co_filename, last.tb_lineno)
    return line.lstrip().startswith("raise ")


def _forget_internal_causes(error: BaseException) -> None:
    """Leave out of a chain of errors those that no line of the user's led to.

    The message has their words.
    """
    first = cause = _led_to(error)
    while cause is not None and _internal(cause):
        cause = _led_to(cause)
    if cause is not first:
        error.__cause__, error.__context__ = None, cause
        error.__suppress_context__ = cause is None


def _led_to(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _internal(error: BaseException) -> bool:
    step = error.__traceback__
    if step is None:
        return False
    while step is not None and _package(step) in (OWN, *MACHINERY, *sys.stdlib_module_names):
        step = step.tb_next
    return step is None


def shorten(traceback: TracebackType | None) -> None:
    """End a traceback at the last line of the user's before the first of ours that it led to."""
    end = None
    while traceback is not None:
        package = _package(traceback)
        if package == OWN and end is not None:
            end.tb_next = None
            return
        if package not in (OWN, *MACHINERY):
            end = traceback
        traceback = traceback.tb_next


def _package(traceback: TracebackType) -> str:
    module = str(traceback.tb_frame.f_globals.get("__name__", ""))
    # The suite for two files stands for tests that somebody wrote.
    return SUITE_MODULE if module.startswith(SUITE_MODULE) else module.partition(".")[0]
