"""How a number and its noun are written, in one place."""

from __future__ import annotations


def counted(number: int, one: str, several: str = "") -> str:
    """Return a number with its noun: `1 layer`, `2 layers`, `1,024 channels`.

    Args:
        number: how many.
        one: the noun after 1; a verb that agrees with it belongs to it: `"layer stays"`.
        several: after every other number; the noun with an s by default.
    """
    return f"{number:,} {noun(number, one, several)}"


def noun(number: int, one: str, several: str = "") -> str:
    """Return the noun alone, as it stands after a number; arguments as of `counted`."""
    return one if number == 1 else several or f"{one}s"
