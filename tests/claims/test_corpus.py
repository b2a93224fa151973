"""The rules of sparse inference against what real targets do, over whole networks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from claims.observing import observing, rules
from corpus import CASES, Recipe
from pytest_sparsity import xnnpack
from pytest_sparsity.diagnosis import Observer, diagnose
from pytest_sparsity.diagnosis.contradictions import agree
from pytest_sparsity.model import Model
from pytest_sparsity.targets import all_targets
from pytest_sparsity.transform import repair
from pytest_sparsity.writer.grammar import ENDS, ENTRIES, MIDDLES
from pytest_sparsity.xnnpack import WRONG

USUAL_MIDDLES = [
    "pointwise",
    "pointwise 60",
    "fused relu6",
    "relu",
    "hard swish",
    "depthwise same",
    "depthwise padded",
    "depthwise stride 2 padded",
    "depthwise 5x5",
    "residual",
    "squeeze and excite",
    "sum of two branches",
]
"""Parts of networks that run sparse: of random ones nearly none would."""
USUAL_ENDS = ["average", "linear head", "keep dims", "depth to space", "softmax head"]


# Emulated targets take ten seconds each, on a machine that has the emulators.
EVERYWHERE = [
    pytest.param(target.name, marks=pytest.mark.slow if target.host else ())
    for target in all_targets()
]


@pytest.fixture(scope="module", params=EVERYWHERE)
def observer(request: pytest.FixtureRequest) -> Iterator[Observer]:
    with observing(request.param) as observer:
        yield observer


def test_rules_equal_observation(observer: Observer, tmp_path: Path) -> None:
    disagreements = []
    for case in CASES:
        ruled = rules(Model(case.write(tmp_path)), observer.target)
        seen = observer.observe(ruled.model, profile=False)
        if not agree(ruled, seen):
            disagreements.append(f"{case.name}: {xnnpack.verdict(ruled)}, observed {seen}")
    assert not disagreements


def test_every_verdict_occurs(observer: Observer, tmp_path: Path) -> None:
    """A corpus on which nothing happens would agree with anything."""
    ruled = [rules(Model(case.write(tmp_path)), observer.target) for case in CASES]
    counts = Counter(map(xnnpack.verdict, ruled))
    if ruled[0].closed:
        assert {"sparse", "dense"} <= set(counts)
    else:
        assert min(counts["sparse"], counts["dense"], counts["miscomputes"]) >= 30


def test_repaired_networks_are_right(observer: Observer, tmp_path: Path) -> None:
    """What computes wrong outputs is right after the repair, as the target itself shows."""
    target, verdicts = observer.target, Counter[str]()
    left = []
    for case in CASES:
        model = Model(case.write(tmp_path))
        if xnnpack.verdict(rules(model, target)) not in WRONG:
            continue
        done = repair(model, tmp_path / "repaired.tflite", target=target)
        ruled = rules(done.model, target)
        seen = observer.observe(done.model, profile=False)
        verdicts[xnnpack.verdict(ruled)] += 1
        if xnnpack.verdict(ruled) in WRONG or not agree(ruled, seen):
            left.append(f"{case.name}: {xnnpack.verdict(ruled)}, observed {seen}")
    assert len(left) <= 1, left
    if verdicts.total() > 30:
        # tflite-runtime 2.14's rules allow less. The others are right and dense.
        assert verdicts["sparse"] >= 12, verdicts


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Networks from the grammar, about half of them of parts that are known to run sparse."""
    usual = draw(st.booleans())
    middles = st.sampled_from(USUAL_MIDDLES if usual else sorted(MIDDLES))
    ends = st.sampled_from(USUAL_ENDS if usual else sorted(ENDS))
    chosen: list[str] = draw(st.lists(middles, max_size=5))
    branches: bool = draw(st.booleans())
    side = None
    if chosen and branches:
        side = (draw(st.integers(0, len(chosen) - 1)), draw(ends))
    return Recipe(
        entry="entry" if usual else draw(st.sampled_from(sorted(ENTRIES))),
        middles=tuple(chosen),
        end=draw(ends),
        side=side,
        size=draw(st.sampled_from([(16, 16), (12, 20), (32, 32), (24, 16)])),
        batch=draw(st.sampled_from([1, 1, 2])),
        zeros=draw(st.sampled_from([0.5, 0.66, 0.68, 0.8, 0.9])),
        dtype=draw(st.sampled_from(["float32", "float32", "float16"])),
        seed=draw(st.integers(0, 1000)),
    )


@pytest.mark.slow
# 200 examples by default, 2000 with `--hypothesis-profile=nightly`.
@settings(
    max_examples=4 * settings().max_examples,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(recipe=recipes())
def test_random_networks_agree(observer: Observer, tmp_path: Path, recipe: Recipe) -> None:
    try:
        path = recipe.case().write(tmp_path)
    except ValueError:
        assume(False)  # A layer does not fit the size that is left.
    ruled = rules(Model(path), observer.target)
    seen = observer.observe(ruled.model, profile=False)
    assert agree(ruled, seen), f"rules {xnnpack.verdict(ruled)}, observed {seen}"


def test_every_layer_agrees_with_the_profile(observer: Observer, tmp_path: Path) -> None:
    """Where the runtime names the kernels that ran, layer by layer."""
    profiled = 0
    for case in CASES[::8]:
        model = Model(case.write(tmp_path))
        diagnosis = diagnose(model, observer.target, observer=observer)
        codes = {finding.code for finding in diagnosis.findings}
        assert not codes & {"rules-disagree", "probe-disagrees"}, case.name
        seen = observer.profile(model) if diagnosis.verdict != "fails" else None
        profiled += seen is not None
    if observer.target.runtime == "litert":
        assert profiled > 15


def test_diagnoses_are_complete(observer: Observer, tmp_path: Path) -> None:
    """Whatever is not sparse has a reason with a remedy, and no layer is left out."""
    for case in CASES[::10]:
        diagnosis = diagnose(case.write(tmp_path), observer.target, observer=observer)
        assert diagnosis.evidence == "observed"
        assert len(diagnosis.kernels) == len(diagnosis.model.layers)
        if diagnosis.verdict != "sparse":
            assert diagnosis.findings, case.name
        assert all(finding.remedy for finding in diagnosis.findings)
