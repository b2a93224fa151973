"""Which outcome an exception is, and where its traceback ends."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pytest_sparsity.errors import CannotMeasure, Inconclusive, Unsupported
from pytest_sparsity.plugin.state import OPTIONS, evidence_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

OWN = "pytest_sparsity"
MACHINERY = ("_pytest", "pluggy", "pytest")


@contextmanager
def outcomes(config: pytest.Config) -> Iterator[None]:
    """Turn what the environment lacks into a skip, and show tracebacks down to the user's line.

    What our own exceptions have to say is in their message; `--full-trace` shows all of it.
    """
    try:
        yield
    except Exception as error:
        ours = isinstance(error, AssertionError) or type(error).__module__.startswith(OWN)
        if ours and not config.getoption("fulltrace"):
            shorten(error.__traceback__)
        skips = config.stash[OPTIONS].inconclusive == "skip"
        if isinstance(error, (Unsupported, Inconclusive) if skips else Unsupported):
            # pytest reports the place that the traceback ends at.
            raise pytest.skip.Exception(_reason(error)).with_traceback(
                error.__traceback__
            ) from None
        if isinstance(error, CannotMeasure):
            evidence_of(config).cannot_measure = True
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
