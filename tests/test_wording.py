"""Numbers and their nouns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_sparsity.findings import CATALOGUE
from pytest_sparsity.wording import counted

PACKAGE = Path(counted.__code__.co_filename).parent
# An ending by hand: `{'s' if n > 1 else ''}`, `{"" if n == 1 else "es"}`.
BY_HAND = re.compile(r"""(['"])(e?s)?\1 if [^{}\n]* else (['"])(e?s)?\3""")
# A figure with its noun in the plural, whatever the figure is.
PLURAL = re.compile(r"\{(count|all|layers|channels)[^}]*\} (?!of )(prunable )?[A-Za-z]+s\b")


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (0, ("layer",), "0 layers"),
        (1, ("layer",), "1 layer"),
        (2, ("layer",), "2 layers"),
        (1024, ("channel",), "1,024 channels"),
        (1, ("process", "processes"), "1 process"),
        (3, ("process", "processes"), "3 processes"),
        (1, ("value is", "values are"), "1 value is"),
    ],
)
def test_the_noun_agrees_with_the_number(number: int, words: tuple[str, ...], said: str) -> None:
    assert counted(number, *words) == said


def test_nothing_else_in_the_package_makes_endings() -> None:
    files = [x for x in PACKAGE.rglob("*") if x.suffix in {".py", ".html"}]
    by_hand = {x.name for x in files if BY_HAND.search(x.read_text(encoding="utf-8"))}
    assert by_hand == set()


def test_endings_by_hand_are_found() -> None:
    assert BY_HAND.search("thread{'s' if race.threads > 1 else ''}")
    assert BY_HAND.search('process{{ "" if race.trials == 1 else "es" }}')
    assert not BY_HAND.search('"x" if several else "y"')


def test_no_finding_has_a_plural_for_a_figure_that_may_be_one() -> None:
    assert [x.code for x in CATALOGUE.values() if PLURAL.search(x.sentence)] == []
    assert PLURAL.search("{count} layers compute their weights")
    assert PLURAL.search("{count:,} channels of")
    assert not PLURAL.search("{channels} of {layers}, the first {first}")
