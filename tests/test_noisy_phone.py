"""How often races on a phone are decided, and wrongly, as the documentation tells it."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PHONE = runpy.run_path(str(ROOT / "benchmarks" / "noisy_phone.py"), run_name="noisy_phone")
# Beyond that so many intervals of 300 are with a probability of 0.06 %.
MOST = 29
QUICK = PHONE["Protocol"]()


@pytest.mark.slow
def test_the_table_of_the_documentation() -> None:
    """No false verdict of a true difference but where every run varies as a whole."""
    text = (ROOT / "docs" / "how-to" / "phone.md").read_text("utf-8")
    for row in PHONE["table"]():
        assert row in text, "write the rows of: python benchmarks/noisy_phone.py --table"


@pytest.mark.parametrize("noise", PHONE["noises"](0.55), ids=lambda noise: noise.name)
def test_false_verdicts_are_no_more_than_the_confidence_allows(noise: object) -> None:
    """Those against the truth, and all of equal models; the races are the same every time."""
    _, wrong, apart = PHONE["row"](noise, 300, 0, QUICK)
    assert wrong < MOST
    assert apart < MOST
