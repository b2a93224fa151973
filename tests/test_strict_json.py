"""What Python's JSON reader lets pass and nobody should."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_sparsity.baseline import BaselineError
from pytest_sparsity.baseline.files import parse
from pytest_sparsity.strict_json import NotStrict, Twice, loads

FINITE = st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | FINITE | st.text()
VALUES = st.recursive(LEAVES, lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=20)


@given(VALUES)
def test_what_is_within_bounds_is_read_as_python_reads_it(value: object) -> None:
    assert loads(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NaN", "NaN is not a JSON number"),
        ('{"a": [-Infinity]}', "-Infinity is not a JSON number"),
        ("1e999", "1e999 is too large a number"),
        ("9" * 400, "a whole number has 400 digits, more than 20"),
        ("[" * 100_000 + "]" * 100_000, "it is nested too deeply"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "it is nested too deeply"),
    ],
    ids=range(6),
)
def test_what_is_out_of_bounds_is_refused(text: str, said: str) -> None:
    with pytest.raises(NotStrict) as raised:
        loads(text)
    assert str(raised.value) == said
    with pytest.raises(BaselineError, match=r"^f\.json is damaged"):
        parse(text, "f.json")


def test_a_name_that_an_object_has_twice_is_named() -> None:
    with pytest.raises(Twice) as raised:
        loads('{"a": 1, "b": {"c": 1, "c": 2}}')
    assert raised.value.args == ("c",)
