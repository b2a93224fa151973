"""Real releases beside the installed one; what they need is fetched, or they skip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from claims.networks import CONVOLUTIONAL, FULLY_CONNECTED, Network
from corpus import CASES
from pytest_sparsity import Race, Variants
from pytest_sparsity.bisection import Criterion, Question, bisect
from pytest_sparsity.diagnosis import diagnose
from pytest_sparsity.model import Model
from pytest_sparsity.targets import Target, install

pytestmark = pytest.mark.slow

EARLIER, LATER = "litert==2.1.6", "litert==2.3.0"
RACED = (CONVOLUTIONAL[0], CONVOLUTIONAL[1], FULLY_CONNECTED[0])


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("litert==1.0.1@nehalem", "sparse"),
        ("litert==2.1.6@nehalem", "sparse"),
        ("litert-js==2.5.2", "sparse"),
    ],
)
def test_a_release_runs_what_it_ran(name: str, verdict: str, tmp_path: Path) -> None:
    install(name, print)
    target = Target.of(name)
    with target.open() as worker:
        assert worker.hello["version"] == name.partition("==")[2].partition("@")[0]
    case = next(case for case in CASES if case.name == "average")
    diagnosis = diagnose(case.write(tmp_path), target)
    assert (diagnosis.verdict, diagnosis.outputs_match) == (verdict, True)


def test_bisection_finds_the_release_and_the_change_of_xnnpack(tmp_path: Path) -> None:
    """Eight releases: the ends, and three tries between them."""
    case = next(case for case in CASES if case.name == "pruned convolution head")
    question = Question(Model(case.write(tmp_path)), Criterion("verdict"))
    found = bisect(question, "litert@nehalem", print, since="2.1.0", until="2.2.0")
    (turn,) = found.turns
    assert (turn.before.release, turn.after.release) == ("2.1.4", "2.1.5")
    assert (turn.before.outcome, turn.after.outcome) == ("miscomputes", "fails")
    assert turn.changes == ("reshape-checks-input",)
    assert len(found.steps) <= 5


@pytest.mark.race(budget=300)
@pytest.mark.parametrize("network", RACED, ids=str)
def test_a_release_is_not_a_quarter_slower_than_an_earlier_one(
    network: Network, variants: Callable[..., Variants], race: Callable[..., Race]
) -> None:
    """The same file on both sides; docs/how-to/releases.md has what was measured."""
    for name in (EARLIER, LATER):
        install(name, print)
    files = variants(network.build, sparsity=network.sparsity, policy=network.policy)
    result = race(files.sparse, files.sparse, target=(EARLIER, LATER))
    assert result.speedup >= 0.8
