"""In which release of a runtime the fate of a model changed.

Releases are halved as in `git bisect`: the oldest and the newest one are tried, then the middle one
between any two that differ. What is not there is installed into the user's cache and stays, so that
an interrupted search goes on where it was.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity import defaults, xnnpack
from pytest_sparsity.children import scratch_folder
from pytest_sparsity.diagnosis import Observer
from pytest_sparsity.diagnosis.outputs import GIVE_INPUTS
from pytest_sparsity.errors import (
    Inconclusive,
    NeedsInputs,
    TargetError,
    Unsupported,
    WrongOutputs,
    one_line,
)
from pytest_sparsity.estimate.intervals import COMPARISONS, comparison
from pytest_sparsity.racing import race
from pytest_sparsity.targets import LoadError, Target, install
from pytest_sparsity.transform import densify
from pytest_sparsity.xnnpack.changes import CHANGES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_sparsity.inputs import InputsLike, Shapes
    from pytest_sparsity.model import Model

HOLDS, DOES_NOT, INCONCLUSIVE = "holds", "does not hold", "inconclusive"
VERDICTS = ("sparse", "dense", *sorted(xnnpack.WRONG))
RATIOS = ("speedup", "instruction_ratio")


@dataclass(frozen=True)
class Criterion:
    """What is asked of each release.

    Attributes:
        subject: "verdict", "outputs", "speedup" or "instruction_ratio", the latter two of the model
            against a densely stored copy of itself.
        sign: of the comparison; "" where the verdict itself is asked for.
        value: what is compared with.
    """

    subject: str
    sign: str = ""
    value: str | float = ""

    @classmethod
    def of(cls, text: str) -> Criterion:
        """Return the claim of a text such as `"verdict == sparse"`.

        Raises:
            ValueError: it is none; the message lists what there is.
        """
        words = " ".join(text.split())
        if words == "verdict":
            return cls("verdict")
        if words == "outputs match":
            return cls("outputs")
        found = re.fullmatch(r"verdict ?(==|!=) ?(\w+)", words)
        if found and found[2] in VERDICTS:
            return cls("verdict", found[1], found[2])
        found = re.fullmatch(r"(\w+)(.+)", words)
        with contextlib.suppress(ValueError):
            if found and found[1] in RATIOS:
                return cls(found[1], *comparison(found[2]))
        raise ValueError(
            f"{text!r} is not a claim; use 'verdict', 'verdict == sparse' (or !=, or"
            f" {', '.join(VERDICTS[1:])}), 'outputs match', 'speedup >= 1.2' and"
            " 'instruction_ratio >= 1.2'"
        )


@dataclass(frozen=True)
class Step:
    """What a release does.

    Attributes:
        release: e.g. `"2.1.6"`.
        outcome: a verdict, or whether the claim holds; None if the release does not run here.
        detail: why it does not, or what the runtime says.
    """

    release: str
    outcome: str | None
    detail: str = ""


@dataclass(frozen=True)
class Turn:
    """Two neighbouring releases that differ.

    Attributes:
        before, after: the releases.
        sources: dates of the XNNPACK in both, UTC; "" where they are not known.
        changes: names of `xnnpack.changes.CHANGES` without any of which the rules give the later
            release the verdict of the earlier one; empty if none explains it, or the outcomes are
            no verdicts.
    """

    before: Step
    after: Step
    sources: tuple[str, str] = ("", "")
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bisection:
    """What a search found.

    Attributes:
        target: the target without a release.
        releases: all that were to choose from, the oldest first.
        steps: those that were tried, in their order of release.
        turns: where the outcome changed. Two releases of the same outcome are taken to have none
            that differs between them.
        installed: how many releases had to be installed.
    """

    target: str
    releases: tuple[str, ...]
    steps: tuple[Step, ...]
    turns: tuple[Turn, ...]
    installed: int

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "target": self.target,
            "releases": list(self.releases),
            "steps": [vars(step) for step in self.steps],
            "turns": [
                {
                    "before": turn.before.release,
                    "after": turn.after.release,
                    "outcomes": [turn.before.outcome, turn.after.outcome],
                    "xnnpack": list(turn.sources),
                    "changes": list(turn.changes),
                }
                for turn in self.turns
            ],
            "installed": self.installed,
        }


def differing(count: int, outcome: Callable[[int], str | None]) -> list[tuple[int, int]]:
    """Find neighbours that differ, by halving.

    Args:
        count: of the positions, from 0.
        outcome: of a position; None if it has none, so that it is passed over.

    Returns:
        Pairs of positions, in order; between the two of a pair there is at most what was passed
        over. With one change among n positions that all have an outcome, at most
        2 + ceil(log2(n - 1)) are asked.
    """
    first = next((i for i in range(count) if outcome(i) is not None), None)
    if first is None:
        return []
    last = next(i for i in reversed(range(count)) if outcome(i) is not None)
    return _between(first, last, outcome)


def _between(low: int, high: int, outcome: Callable[[int], str | None]) -> list[tuple[int, int]]:
    if outcome(low) == outcome(high):
        return []
    middle = (low + high) // 2
    nearest = sorted(range(low + 1, high), key=lambda i: abs(i - middle))
    chosen = next((i for i in nearest if outcome(i) is not None), None)
    if chosen is None:
        return [(low, high)]
    return _between(low, chosen, outcome) + _between(chosen, high, outcome)


@dataclass(frozen=True)
class Question:
    """What each release is asked.

    Attributes:
        model: the model.
        claim: about it.
        budget: seconds of one race, for a claim of a ratio.
        inputs: what to run it on, see `inputs.feed`; by default drawn.
        shapes: of the inputs.
    """

    model: Model
    claim: Criterion
    budget: float = defaults.BUDGET
    inputs: InputsLike | None = None
    shapes: Shapes | None = None

    def answer(self, target: Target) -> tuple[str, str]:
        """Return the outcome on a target and what is to be said of it.

        Raises:
            NeedsInputs: the model does not take inputs that are made up.
            Unsupported: the target cannot run here.
            TargetError: its worker does not start.
        """
        if self.claim.subject in RATIOS:
            return self._raced(target)
        with Observer(target) as observer:
            seen = observer.observe(
                self.model, profile=False, inputs=self.inputs, shapes=self.shapes
            )
        if seen.verdict == "unknown":
            raise NeedsInputs(seen.fault, GIVE_INPUTS)
        if self.claim.subject == "outputs":
            return HOLDS if seen.verdict not in xnnpack.WRONG else DOES_NOT, seen.fault
        if not self.claim.sign:
            return seen.verdict, seen.fault
        equal = seen.verdict == self.claim.value
        return HOLDS if equal == (self.claim.sign == "==") else DOES_NOT, seen.verdict

    def _raced(self, target: Target) -> tuple[str, str]:
        with scratch_folder("models") as folder:
            copy = densify(self.model, Path(folder) / f"{self.model.path.stem}-dense.tflite")
            try:
                result = race(
                    copy,
                    self.model,
                    target=target,
                    budget=self.budget,
                    inputs=self.inputs,
                    shapes=self.shapes,
                )
                ratio = getattr(result, self.claim.subject)
                holds = COMPARISONS[self.claim.sign](ratio, self.claim.value)
            except Inconclusive as inconclusive:
                return INCONCLUSIVE, str(inconclusive)
            except LoadError as error:
                return "fails", str(error)
            except WrongOutputs as error:
                return "miscomputes", str(error)
        return HOLDS if holds else DOES_NOT, str(ratio)


def bisect(
    question: Question,
    target: str | Target,
    progress: Callable[[str], None],
    *,
    since: str = "",
    until: str = "",
) -> Bisection:
    """Find the releases of a target's runtime in which the answer changed.

    Args:
        question: what each release is asked.
        target: without a release, e.g. `"litert"` or `"litert@cortex-a53"`.
        progress: gets one line for every step.
        since: the oldest release to look at, by default the oldest that can be had.
        until: the newest one, by default the newest that can be had.

    Raises:
        ValueError: the target names a release itself, or there is no such release.
        Unsupported: the releases cannot be listed, or none of them runs here.
        NeedsInputs: the model does not take inputs that are made up.
    """
    target = Target.of(target)
    if target.place.release:
        raise ValueError(f"{target} is one release: name the target without it")
    releases = _chosen(target.place.published(target.record), since, until, target)
    steps: dict[int, Step] = {}
    installed: set[str] = set()

    def outcome(position: int) -> str | None:
        if position not in steps:
            release = releases[position]
            where = target.at(release)
            new = where.missing() is not None
            steps[position] = step = _step(question, where, release, progress)
            if new and where.missing() is None:
                installed.add(release)
            said = step.outcome or "does not run here"
            progress(f"{where}: {said}, {step.detail}" if step.detail else f"{where}: {said}")
        return steps[position].outcome

    found = differing(len(releases), outcome)
    if all(step.outcome is None for step in steps.values()):
        raise Unsupported(
            f"no release of {target} runs here: {steps[0].detail}", "see `pytest-sparsity targets`"
        )
    turns = tuple(_turn(question, target, steps[low], steps[high]) for low, high in found)
    tried = tuple(steps[position] for position in sorted(steps))
    return Bisection(target.name, releases, tried, turns, len(installed))


def _step(
    question: Question, target: Target, release: str, progress: Callable[[str], None]
) -> Step:
    """Try one release, after installing it if it is not there."""
    try:
        if target.missing() is not None:
            install(target, progress)
        return Step(release, *question.answer(target))
    except NeedsInputs:
        raise
    except (Unsupported, TargetError) as error:
        return Step(release, None, one_line(error))


def _chosen(published: Sequence[str], since: str, until: str, target: Target) -> tuple[str, ...]:
    for end in filter(None, (since, until)):
        if end not in published:
            raise ValueError(
                f"{target.runtime} has no release {end} that runs here;"
                f" there are {', '.join(published)}"
            )
    low = published.index(since) if since else 0
    high = published.index(until) if until else len(published) - 1
    if low > high:
        raise ValueError(f"{since} is newer than {until}")
    return tuple(published[low : high + 1])


def _turn(question: Question, target: Target, before: Step, after: Step) -> Turn:
    rules = target.record.rules
    if not rules:
        return Turn(before, after)
    dates = []
    for step in (before, after):
        release, exact = xnnpack.release_of(rules, step.release)
        dates.append(release.xnnpack_date if exact else "")
    changes: tuple[str, ...] = ()
    if question.claim == Criterion("verdict"):
        changes = _explaining(question.model, target, before, after)
    return Turn(before, after, (dates[0], dates[1]), changes)


def _explaining(model: Model, target: Target, before: Step, after: Step) -> tuple[str, ...]:
    """Return the changes without which the rules give the later release the earlier verdict."""
    there = target.at(after.release)
    facts = (after.release, there.arch, there.features)

    def ruled(lacks: frozenset[str]) -> str:
        return xnnpack.verdict(xnnpack.analyse(model, target.record.rules, *facts, lacks=lacks))

    if ruled(frozenset()) != after.outcome:
        return ()
    later, _ = xnnpack.release_of(target.record.rules, after.release)
    earlier, exact = xnnpack.release_of(target.record.rules, before.release)
    new = [name for name in CHANGES if later.has(name) and not (exact and earlier.has(name))]
    return tuple(name for name in new if ruled(frozenset({name})) == before.outcome)
