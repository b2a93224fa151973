"""Which outcome an exception is, and where its traceback ends."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pytest_sparsity.baseline import BaselineError
from pytest_sparsity.errors import (
    CannotMeasure,
    Inconclusive,
    ModelError,
    TargetError,
    Unsupported,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from pytest_sparsity.plugin.evidence import Evidence

# Their message says it all: the traceback is shown down to the user's own line.
EXPLAINED = (
    AssertionError,
    BaselineError,
    CannotMeasure,
    ModelError,
    TargetError,
    Unsupported,
)
OWN = "pytest_sparsity"
MACHINERY = ("_pytest", "pluggy", "pytest")


@contextmanager
def outcomes(evidence: Evidence, *, skip_inconclusive: bool, full_trace: bool) -> Iterator[None]:
    """Turn what the environment lacks into a skip, and shorten tracebacks.

    Args:
        evidence: of the test, told if the machine cannot measure.
        skip_inconclusive: whether an undecided claim skips.
        full_trace: whether tracebacks are left alone.
    """
    try:
        yield
    except EXPLAINED as error:
        if not full_trace:
            shorten(error.__traceback__)
        skips = (Unsupported, Inconclusive) if skip_inconclusive else (Unsupported,)
        if isinstance(error, skips):
            # pytest reports the place that the traceback ends at.
            raise pytest.skip.Exception(_reason(error)).with_traceback(
                error.__traceback__
            ) from None
        evidence.cannot_measure = isinstance(error, CannotMeasure)
        raise


def _reason(error: BaseException) -> str:
    return f"inconclusive: {error}" if isinstance(error, Inconclusive) else str(error)


def shorten(traceback: TracebackType | None) -> None:
    """End a traceback at the last line of the user's before the first of ours that it led to."""
    end = None
    while traceback is not None:
        package = str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if package == OWN and end is not None:
            end.tb_next = None
            return
        if package not in (OWN, *MACHINERY):
            end = traceback
        traceback = traceback.tb_next
