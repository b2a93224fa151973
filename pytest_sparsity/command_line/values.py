"""How the values of arguments are read."""

from __future__ import annotations

import argparse
import contextlib

MOST_THREADS = 1024
MOST_SECONDS = 24 * 3600
MOST_CHANNELS = 65536


def claim(text: str) -> tuple[str, float]:
    """Read a claim: a sign and a number."""
    from pytest_sparsity.estimate.intervals import comparison

    with contextlib.suppress(ValueError):
        return comparison(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a claim like '>= 1.2'")


def threads(text: str) -> int:
    """Read a number of threads."""
    if text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_THREADS:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not from 1 to {MOST_THREADS}")


def multiple(text: str) -> int:
    """Read a number of channels."""
    if text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_CHANNELS:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not from 1 to {MOST_CHANNELS}")


def seconds(text: str) -> float:
    """Read a budget."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= MOST_SECONDS:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not seconds, above 0 and at most {MOST_SECONDS}")


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Read the shape of an input."""
    from pytest_sparsity.inputs import parse_shape

    try:
        return parse_shape(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
