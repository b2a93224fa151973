"""The grammar of patterns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_sparsity import strategies
from pytest_sparsity.patterns import Pattern, parse

NAMES = st.one_of(
    st.sampled_from(["unstructured", "channels"]),
    st.integers(1, 20).map(lambda block: f"1x{block}"),
    st.integers(2, 20).flatmap(lambda n: st.integers(1, n - 1).map(lambda m: f"{m}:{n}")),
)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("unstructured", Pattern("unstructured")),
        ("1x4", Pattern("1x4", block=4)),
        ("2:4", Pattern("2:4", zeros=2, group=4)),
        ("channels", Pattern("channels", channels=True)),
    ],
)
def test_what_a_name_means(name: str, pattern: Pattern) -> None:
    assert parse(name) == pattern


@pytest.mark.parametrize("name", ["4:2", "4:4", "0:4", "4x1", "1x0", "1x", ":", "fast", "", "1x-4"])
def test_a_name_that_means_nothing(name: str) -> None:
    with pytest.raises(ValueError, match=rf"pattern='{name}'"):
        parse(name)


@given(NAMES, st.data())
def test_masks_of_a_pattern_hold_it(name: str, data: st.DataObject) -> None:
    pattern = parse(name)
    kept = data.draw(strategies.masks(name))
    assert not pattern.breaches(kept)[1].any()
    if pattern.channels:
        rows = kept.reshape(len(kept), -1)
        assert (rows.all(axis=1) | ~rows.any(axis=1)).all()


@pytest.mark.parametrize("name", ["1x4", "2:4"])
def test_one_weight_too_many_breaks_a_pattern(name: str) -> None:
    kept = np.array([[True, False, True, False, False, False, False, False]])
    kept[0, 1] = name == "2:4"
    counts, broken = parse(name).breaches(kept)
    assert counts.tolist() == [[3 if name == "2:4" else 2, 0]]
    assert broken.tolist() == [[True, False]]


def test_half_of_a_block_may_have_been_rounded_to_zero() -> None:
    kept = np.array([[True, False, True, False, True, False, False, False]])
    assert parse("1x4").breaches(kept, rounded=True)[1].tolist() == [[False, True]]


def test_ties_are_a_share_of_the_weights() -> None:
    assert parse("unstructured").slack((64, 32)) == pytest.approx(2.048)
    assert parse("unstructured").slack((8, 8)) == 1
    assert parse("1x4").slack((8, 8)) == 4
    assert parse("channels").slack((3, 3, 8, 16)) == 72
