"""The files that hold baselines: read with the fault named, written atomically.

A file is one JSON object. A line holds one value, under `"TEST::NAME"`; a blank line separates the
tests and the schema number comes last, so a reviewer reads one line per change and two branches
that touch different tests merge without a conflict:

    {
      "test_the_file_has_not_grown::nbytes": 6174140,

      "test_the_win_has_not_shrunk::speedup": {"value": 1.83, "low": 1.79, ...},

      "schema": 1
    }
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity import strict_json
from pytest_sparsity.store import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = 1
SCHEMA_KEY = "schema"
SEPARATOR = "::"
# Significant digits of a recorded float. Today's value is rounded alike before it is compared, so
# a value always holds against its own record.
DIGITS = 6
RATIO_DIGITS = 4


class BaselineError(ValueError):
    """A file of baselines cannot be used; the message names the file, the place and the remedy."""


@dataclass(frozen=True)
class Ratio:
    """A recorded `Estimate`: the ratio, its interval, and the interval's confidence."""

    value: float
    low: float
    high: float
    confidence: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class RecordedFile:
    """A recorded model: its file's name under `models/` (its content's hash) and its size."""

    model: str
    nbytes: int

    def __str__(self) -> str:
        return f"{self.model} ({self.nbytes:,} bytes)"


Scalar = bool | int | float | str
Recordable = Scalar | list[Scalar] | Ratio | RecordedFile


def read(path: Path, shown: str = "") -> dict[str, Recordable]:
    """Return the values in a file by `"TEST::NAME"`; none if there is no such file.

    Args:
        path: of the file.
        shown: what errors call it; its path by default.

    Raises:
        BaselineError: the file is damaged, newer than this program, or broken by hand.
    """
    shown = shown or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise BaselineError(f"{shown} cannot be read: {error}") from None
    return parse(text, shown)


def parse(text: str, source: str) -> dict[str, Recordable]:
    """Return the values in the text of a file; `source` names it in errors."""
    try:
        document = strict_json.loads(text)
    except json.JSONDecodeError as error:
        raise BaselineError(_damage(text, source, error)) from None
    except strict_json.Twice as error:
        raise BaselineError(
            f"{source} is damaged at {_place(error.args[0])}: recorded twice, as happens when "
            "branches are merged; keep one of the two lines"
        ) from None
    except strict_json.NotStrict as error:
        raise BaselineError(
            f"{source} is damaged: {error}; restore it with: git checkout -- {source}"
        ) from None
    if not isinstance(document, dict):
        raise BaselineError(
            f"{source} is damaged at $: expected an object, found {_kind(document)}"
        )
    schema = document.pop(SCHEMA_KEY, None)
    if type(schema) is not int or schema < 1:
        raise BaselineError(
            f"{source} is damaged at $.{SCHEMA_KEY}: expected a schema number, "
            f"found {_kind(schema)}"
        )
    if schema > SCHEMA:
        raise BaselineError(
            f"{source} has schema {schema} and this pytest-sparsity reads up to {SCHEMA}; "
            "upgrade it: python -m pip install --upgrade pytest-sparsity"
        )
    return {key: _value(key, value, source) for key, value in document.items()}


def write(path: Path, values: Mapping[str, Recordable]) -> None:
    """Write a file atomically: a kill at any instant leaves the old file or the new one."""
    replace(path, dump(values).encode())


def dump(values: Mapping[str, Recordable]) -> str:
    """Return the text of a file, sorted by test and name."""
    ordered = sorted(values, key=_split)
    blocks = [
        "\n".join(f"  {json.dumps(key, ensure_ascii=False)}: {_text(values[key])}," for key in keys)
        for _, keys in itertools.groupby(ordered, key=lambda key: _split(key)[0])
    ]
    return "{\n" + "\n\n".join([*blocks, f'  "{SCHEMA_KEY}": {SCHEMA}']) + "\n}\n"


def join(test: str, name: str) -> str:
    """Return the key of a value in its file.

    Raises:
        ValueError: the name is empty, or cannot be told from the test in the key.
    """
    key = f"{test}{SEPARATOR}{name}"
    if not name or _split(key) != (test, name):
        raise ValueError(
            f"a baseline's name must not be empty, contain {SEPARATOR!r} or begin with ':'; "
            f"this one is {name!r}"
        )
    return key


def _split(key: str) -> tuple[str, str]:
    test, _, name = key.rpartition(SEPARATOR)
    return test, name


def rounded(value: Any, digits: int = DIGITS) -> Any:
    """Return a float, or the floats in a list, with as many significant digits as are recorded."""
    if isinstance(value, list):
        return [rounded(item, digits) for item in value]
    return float(f"{value:.{digits}g}") if type(value) is float else value


def _text(value: Recordable) -> str:
    if isinstance(value, Ratio):
        fields: dict[str, Any] = {
            key: rounded(float(number), RATIO_DIGITS) for key, number in asdict(value).items()
        }
        return json.dumps(fields)
    plain = asdict(value) if isinstance(value, RecordedFile) else rounded(value)
    return json.dumps(plain, ensure_ascii=False, allow_nan=False)


def _value(key: str, value: Any, source: str) -> Recordable:
    if not all(_split(key)):
        raise BaselineError(
            f"{source} is damaged at {_place(key)}: expected a key of the form 'TEST::NAME'"
        )
    try:
        return _decode(value)
    except _FaultError as fault:
        place, expected, found = fault.args
        raise BaselineError(
            f"{source} is damaged at {_place(key)}{place}: expected {expected}, "
            f"found {_kind(found)}"
        ) from None


def _decode(value: Any) -> Recordable:
    if isinstance(value, dict):
        return _recorded_file(value) if "model" in value else _ratio(value)
    if isinstance(value, list):
        for index, item in enumerate(value):
            if not isinstance(item, Scalar):
                raise _FaultError(f"[{index}]", "a number, a name or a truth value", item)
        return value
    if isinstance(value, Scalar):
        return value
    raise _FaultError("", "a value", value)


def _ratio(value: dict[str, Any]) -> Ratio:
    names = ("value", "low", "high", "confidence")
    for name in names:
        number = value.get(name)
        if isinstance(number, bool) or not isinstance(number, int | float) or number <= 0:
            raise _FaultError(f".{name}", "a number above 0", number)
    for name, found in value.items():
        if name not in names:
            raise _FaultError(f".{name}", "nothing of that name", found)
    if value["confidence"] >= 1:
        raise _FaultError(".confidence", "a number from 0 to below 1", value["confidence"])
    ratio = Ratio(**{name: float(value[name]) for name in names})
    if not ratio.low <= ratio.value <= ratio.high:
        raise _FaultError(".value", f"a number from {ratio.low} to {ratio.high}", ratio.value)
    return ratio


def _recorded_file(value: dict[str, Any]) -> RecordedFile:
    model, nbytes = value["model"], value.get("nbytes")
    if not isinstance(model, str) or Path(model).name != model:
        raise _FaultError(".model", "the name of a file in models/", model)
    if type(nbytes) is not int or nbytes < 0:
        raise _FaultError(".nbytes", "a number of bytes", nbytes)
    for name, found in value.items():
        if name not in ("model", "nbytes"):
            raise _FaultError(f".{name}", "nothing of that name", found)
    return RecordedFile(model, nbytes)


class _FaultError(Exception):
    """Place below the key, what was expected there, what was found."""


def _damage(text: str, source: str, error: json.JSONDecodeError) -> str:
    if any(line.startswith("<<<<<<< ") for line in text.splitlines()):
        return f"{source} has conflict markers: keep the lines of both sides, each key once"
    return (
        f"{source} is damaged at line {error.lineno} column {error.colno}: {error.msg}; "
        f"restore it with: git checkout -- {source}"
    )


def _place(key: str) -> str:
    return f"${json.dumps([key], ensure_ascii=False)}"


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value}"
    return json.dumps(value, ensure_ascii=False)
