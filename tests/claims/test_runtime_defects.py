"""Known defects of the runtimes: announced, and still there.

A test that fails here means one of two things, and says which: a defect appeared where nothing
announces it, or a newer release has fixed one that the rules still announce.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claims.observing import observing, rules
from corpus import Case
from defective import pooled_at_the_end, tanh, undensified
from pytest_sparsity import xnnpack
from pytest_sparsity.diagnosis import Observation, Observer
from pytest_sparsity.model import Model
from pytest_sparsity.targets import Target
from pytest_sparsity.writer import Network
from pytest_sparsity.writer.parts import linear

WRONG = {"fails", "miscomputes"}
TARGETS = ("litert", "tflite-runtime", "tensorflow", "litert-js")

INT8: dict[str, Any] = {"dtype": "int8"}
FILES: dict[str, Case | Network] = {
    "op-version": linear(64, encoding="dense", dtype="int8", version=12),
    "dynamic-range-sparse": linear(64, encoding="sparse", **INT8),
    "int8-dense-sparse": linear(64, encoding="sparse", int8=True, **INT8),
    "fp16-blocks": linear(64, dtype="float16"),
    "blocks-delegated": linear(64, encoding="block 1x16", version=12, **INT8),
    "ledger-overflow": linear(
        4096, encoding="block 1x16", version=8, per_channel=False, zeros=0.0, **INT8
    ),
    "per-channel-blocks": linear(64, encoding="block 1x16", int8=True, **INT8),
    "no-densify": undensified(densify=False),
    "never-unpacked": tanh("float16"),
    "unwritten-output": pooled_at_the_end("relu"),
}
"""A file for each defect that does not depend on the sparse chain; those that do are in
test_corpus.py. All weights are random: wrong outputs cannot look right."""


@pytest.fixture(scope="module", params=TARGETS)
def observer(request: pytest.FixtureRequest) -> Iterator[Observer]:
    with observing(request.param) as observer:
        yield observer


def written(name: str, folder: Path) -> Model:
    network = FILES[name]
    path = network.write(folder) if isinstance(network, Case) else folder / f"{name}.tflite"
    return Model(path if isinstance(network, Case) else network.write(path))


def disagreement(name: str, target: Target, ruled: str, seen: Observation) -> str | None:
    """Say what to do where rules and observation differ in whether a file is right."""
    runtime = f"{target.name} {target.version()}"
    if ruled in WRONG and seen.verdict not in WRONG:
        return (
            f"{runtime} no longer has the defect {name!r}: give the rule in xnnpack/defects.py"
            " the version that fixed it, and say so in docs/findings.md"
        )
    if ruled not in WRONG and seen.verdict in WRONG:
        why = seen.fault or "; ".join(map(str, seen.comparisons))
        return f"{runtime} has the defect {name!r} unannounced: {why}"
    return None


@pytest.mark.parametrize("name", FILES)
def test_a_defect_is_where_it_is_announced_and_nowhere_else(
    name: str, observer: Observer, tmp_path: Path
) -> None:
    model = written(name, tmp_path)
    seen = observer.observe(model, profile=False)
    ruled = xnnpack.verdict(rules(model, observer.target))
    if seen.unrelated and ruled not in WRONG:
        pytest.skip(f"stored densely the model does not load either: {seen.fault}")
    fault = disagreement(name, observer.target, ruled, seen)
    assert fault is None, fault


@pytest.mark.parametrize("name", FILES)
def test_every_defect_is_announced_somewhere(name: str, tmp_path: Path) -> None:
    """Otherwise the test above would compare nothing with nothing."""
    model = written(name, tmp_path)
    targets = [Target.of(each) for each in TARGETS]
    here = [target for target in targets if target.missing() is None]
    analyses = [rules(model, target) for target in here]
    codes = {finding.code for analysis in analyses for finding in xnnpack.findings(analysis)}
    if name not in codes and here != targets:
        pytest.skip("the target that has it may be one of those that are missing here")
    assert name in codes


@pytest.mark.parametrize(
    ("ruled", "seen", "says"),
    [
        ("fails", "dense", "no longer has the defect 'op-version'"),
        ("dense", "fails", "has the defect 'op-version' unannounced: no kernel"),
        ("miscomputes", "fails", None),
        ("sparse", "dense", None),
    ],
)
def test_both_kinds_of_news_are_told(ruled: str, seen: str, says: str | None) -> None:
    observed = Observation(seen, True, fault="no kernel")
    told = disagreement("op-version", Target.of("litert"), ruled, observed)
    assert (says is None) == (told is None)
    assert says is None or says in str(told)
