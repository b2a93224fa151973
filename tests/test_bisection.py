from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import CASES
from pytest_sparsity import bisection, xnnpack
from pytest_sparsity.bisection import DOES_NOT, HOLDS, Criterion, Question, Step, bisect, differing
from pytest_sparsity.errors import NeedsInputs, Unsupported
from pytest_sparsity.model import Model
from pytest_sparsity.report import tables
from pytest_sparsity.targets import Place, Target, npm, releases, setting_up
from pytest_sparsity.targets.places import emulated
from pytest_sparsity.targets.runtimes import RUNTIMES, Runtime

OUTCOMES = st.lists(st.sampled_from(["sparse", "dense", "fails", None]), max_size=20)


@given(OUTCOMES)
def test_neighbours_differ_and_only_what_is_passed_over_is_between(
    outcomes: list[str | None],
) -> None:
    found = differing(len(outcomes), lambda position: outcomes[position])
    for low, high in found:
        assert outcomes[low] != outcomes[high]
        assert None not in (outcomes[low], outcomes[high])
        assert set(outcomes[low + 1 : high]) <= {None}
    assert found == sorted(found)
    ends = [outcome for outcome in outcomes if outcome is not None]
    assert bool(found) == bool(ends and ends[0] != ends[-1])


@given(st.integers(2, 200), st.data())
def test_one_change_takes_as_few_tries_as_halving_needs(count: int, data: st.DataObject) -> None:
    change = data.draw(st.integers(1, count - 1))
    asked = set()

    def outcome(position: int) -> str:
        asked.add(position)
        return "sparse" if position < change else "dense"

    assert differing(count, outcome) == [(change - 1, change)]
    assert len(asked) <= 2 + math.ceil(math.log2(count - 1))


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("verdict", Criterion("verdict")),
        (" outputs  match", Criterion("outputs")),
        ("verdict == sparse", Criterion("verdict", "==", "sparse")),
        ("verdict!=fails", Criterion("verdict", "!=", "fails")),
        ("speedup >= 1.2", Criterion("speedup", ">=", 1.2)),
        ("instruction_ratio<2", Criterion("instruction_ratio", "<", 2.0)),
    ],
)
def test_a_claim_is_read(text: str, claim: Criterion) -> None:
    assert Criterion.of(text) == claim


@pytest.mark.parametrize(
    "text", ["", "verdict == quick", "speedup", "speedup >= nan", "size >= 1", "outputs differ"]
)
def test_what_is_no_claim_says_what_there_is(text: str) -> None:
    with pytest.raises(ValueError, match="is not a claim; use 'verdict', 'verdict == sparse'"):
        Criterion.of(text)


@dataclass(frozen=True)
class Shelf(Place):
    """A place with some releases, all of them there."""

    release: str = ""

    def published(self, runtime: Runtime, /) -> tuple[str, ...]:
        del runtime
        return ("2.1.3", "2.1.4", "2.1.5", "2.1.6", "2.2.0")

    def at(self, release: str, /) -> Shelf:
        return Shelf(release)


SHELF = Target("litert", RUNTIMES["litert"], Shelf())


@pytest.fixture
def question(tmp_path: Path) -> Question:
    case = next(case for case in CASES if case.name == "pruned convolution head")
    return Question(Model(case.write(tmp_path)), Criterion("verdict"))


Answers = Callable[[dict[str, str | Exception]], None]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    def script(by_release: dict[str, str | Exception]) -> None:
        def answer(self: Question, target: Target) -> tuple[str, str]:
            del self
            said = by_release[target.place.release]
            if isinstance(said, Exception):
                raise said
            return said, ""

        monkeypatch.setattr(Question, "answer", answer)

    return script


WRONG, FAILS = "miscomputes", "fails"


def test_the_releases_are_told_with_the_sources_of_both(
    question: Question, answers: Answers
) -> None:
    answers({"2.1.3": WRONG, "2.1.4": WRONG, "2.1.5": FAILS, "2.1.6": FAILS, "2.2.0": FAILS})
    said: list[str] = []
    found = bisect(question, SHELF, said.append)
    assert [step.release for step in found.steps] == ["2.1.3", "2.1.4", "2.1.5", "2.2.0"]
    assert said[0] == "litert==2.1.3: miscomputes"
    (turn,) = found.turns
    assert (turn.before.release, turn.after.release) == ("2.1.4", "2.1.5")
    assert turn.sources == ("2026-03-13T18:55Z", "2026-04-27T22:35Z")
    assert tables.bisection(found)[:3] == [
        "5 releases of litert, 4 tried, 0 installed",
        "2.1.4 -> 2.1.5: miscomputes -> fails",
        "    XNNPACK of 2026-03-13 -> of 2026-04-27",
    ]
    assert json.loads(json.dumps(found.as_json()))["turns"][0]["outcomes"] == [WRONG, FAILS]


def test_a_change_explains_a_turn_if_the_rules_without_it_say_what_was_seen(
    question: Question,
) -> None:
    nehalem = Target("litert@nehalem", RUNTIMES["litert"], emulated.at("nehalem"))
    explained = bisection._explaining(
        question.model, nehalem, Step("2.1.4", WRONG), Step("2.1.5", FAILS)
    )
    assert explained == ("reshape-checks-input",)
    other = Step("2.1.4", "dense"), Step("2.1.5", FAILS)
    assert bisection._explaining(question.model, nehalem, *other) == ()
    unruled = Step("2.1.4", WRONG), Step("2.1.5", "sparse")
    assert bisection._explaining(question.model, nehalem, *unruled) == ()


def test_a_change_that_a_release_is_taken_not_to_have_is_not_in_its_rules(
    question: Question,
) -> None:
    core = emulated.at("nehalem").core
    facts = ("litert", "2.1.5", core.arch, core.features)
    lacking = frozenset({"reshape-checks-input"})
    assert xnnpack.verdict(xnnpack.analyse(question.model, *facts)) == FAILS
    assert xnnpack.verdict(xnnpack.analyse(question.model, *facts, lacks=lacking)) == WRONG


def test_a_release_that_does_not_run_is_passed_over(question: Question, answers: Answers) -> None:
    gone = Unsupported("litert==2.1.5 has no wheel for this Python")
    answers({"2.1.3": WRONG, "2.1.4": WRONG, "2.1.5": gone, "2.1.6": FAILS, "2.2.0": FAILS})
    said: list[str] = []
    (turn,) = bisect(question, SHELF, said.append).turns
    assert (turn.before.release, turn.after.release) == ("2.1.4", "2.1.6")
    assert f"litert==2.1.5: does not run here, {gone}" in said


def test_where_nothing_differs_that_is_said(question: Question, answers: Answers) -> None:
    answers({"2.1.4": WRONG, "2.1.6": WRONG})
    found = bisect(question, SHELF, lambda _: None, since="2.1.4", until="2.1.6")
    assert found.releases == ("2.1.4", "2.1.5", "2.1.6")
    assert tables.bisection(found)[1:] == ["the same in the oldest and the newest: miscomputes"]


def test_none_of_them_runs(question: Question, answers: Answers) -> None:
    answers(dict.fromkeys(Shelf().published(SHELF.record), Unsupported("no network")))
    with pytest.raises(Unsupported, match=r"no release of litert runs here: no network"):
        bisect(question, SHELF, lambda _: None)


def test_inputs_that_the_model_does_not_take_are_no_outcome(
    question: Question, answers: Answers
) -> None:
    answers(dict.fromkeys(Shelf().published(SHELF.record), NeedsInputs("it needs inputs")))
    with pytest.raises(NeedsInputs):
        bisect(question, SHELF, lambda _: None)


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        ({"since": "9"}, "litert has no release 9 that runs here; there are 2.1.3, 2.1.4"),
        ({"since": "2.2.0", "until": "2.1.4"}, "2.2.0 is newer than 2.1.4"),
    ],
)
def test_ends_that_are_none(question: Question, ends: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        bisect(question, SHELF, lambda _: None, **ends)


def test_a_target_of_one_release_has_none_to_choose_from(question: Question) -> None:
    with pytest.raises(ValueError, match=r"litert==2.1.6 is one release: name the target without"):
        bisect(question, "litert==2.1.6", lambda _: None)


@pytest.mark.parametrize(
    ("claim", "outcome"),
    [
        ("verdict", "dense"),
        ("verdict == dense", HOLDS),
        ("verdict == sparse", DOES_NOT),
        ("verdict != sparse", HOLDS),
        ("outputs match", HOLDS),
    ],
)
def test_what_is_seen_answers(question: Question, claim: str, outcome: str) -> None:
    """On this machine, whose CPU decides whether the head of the corpus is dense."""
    case = next(case for case in CASES if case.name == "regular 3x3 pruned")
    target = Target.of("litert")
    if target.missing() is not None or "avx" not in target.features:
        pytest.skip("needs LiteRT on a CPU with AVX")
    model = Model(case.write(question.model.path.parent))
    assert Question(model, Criterion.of(claim)).answer(target)[0] == outcome


def test_a_ratio_is_of_the_model_and_its_densely_stored_copy(question: Question) -> None:
    """The same dense kernels run both, so that the ratio is 1."""
    target = Target.of("litert")
    if target.missing() is not None or "avx" not in target.features:
        pytest.skip("needs LiteRT on a CPU with AVX")
    case = next(case for case in CASES if case.name == "regular 3x3 pruned")
    model = Model(case.write(question.model.path.parent))
    outcome, detail = Question(model, Criterion.of("speedup >= 3")).answer(target)
    assert outcome == DOES_NOT
    assert "interval" in detail


def test_pip_lists_the_releases_of_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def run(command: list[str], *_: str) -> str:
        asked.extend(command)
        return "ai-edge-litert (2.1.0)\nAvailable versions: 2.1.0, 2.0.3, 1.0.1\n  INSTALLED: 1\n"

    monkeypatch.setattr(setting_up, "run", run)
    found = releases.published(RUNTIMES["litert"], "3.10", ["manylinux2014_aarch64"])
    assert found == ("1.0.1", "2.0.3", "2.1.0")
    assert {"ai-edge-litert", "--python-version=3.10", "--platform=manylinux2014_aarch64"} <= {
        *asked
    }


def test_an_index_that_lists_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setting_up, "run", lambda *_: "nothing")
    with pytest.raises(Unsupported, match="pip does not list the releases of tensorflow-cpu"):
        releases.published(RUNTIMES["tensorflow"])


def test_npm_lists_its_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        subprocess.CompletedProcess((), 1, "", "npm error code SELF_SIGNED_CERT_IN_CHAIN"),
        subprocess.CompletedProcess((), 0, '["2.5.1", "2.5.2-rc.1", "2.5.2"]', ""),
        subprocess.CompletedProcess((), 1, "", "npm error code ECONNREFUSED\nmore"),
    ]
    monkeypatch.setattr(npm, "_npm_does", lambda *_: answers.pop(0))
    assert npm.published("node") == ("2.5.1", "2.5.2")
    with pytest.raises(Unsupported, match=r"cannot be listed, npm says .*ECONNREFUSED"):
        npm.published("node")
