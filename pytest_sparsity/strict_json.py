"""JSON as its standard has it, within bounds: what others wrote is checked where it enters.

Python's own reader also takes NaN, Infinity, 1e999 and a name that an object has twice, and says
nothing of the last; it gives integers of any length, which break whoever makes a float of them.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable

# Digits of an integer: enough for 64 bits and its sign.
DIGITS = 20


class NotStrict(ValueError):  # noqa: N818  (becomes an error of whoever reads)
    """The text is JSON for Python and not for others."""


class Twice(NotStrict):
    """An object has a name twice; `args[0]` is the name."""


def loads(text: str | bytes) -> Any:
    """Return the value that a text stands for.

    Raises:
        NotStrict: a number is not finite or has too many digits, an object has a name twice
            (`Twice`), or the text is nested too deeply.
        json.JSONDecodeError: the text is not JSON.
        UnicodeDecodeError: the bytes are not UTF-8, 16 or 32.
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_distinct,
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except RecursionError:
        raise NotStrict("it is nested too deeply") from None


def _refuse(word: str) -> NoReturn:
    raise NotStrict(f"{word} is not a JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise NotStrict(f"{digits[:DIGITS]} is too large a number")
    return value


def _bounded(digits: str) -> int:
    if len(digits) > DIGITS:
        raise NotStrict(f"a whole number has {len(digits)} digits, more than {DIGITS}")
    return int(digits)


def _distinct(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Twice(key)
        found[key] = value
    return found
