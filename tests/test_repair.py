"""Repaired files: the same outputs by other operators, and what XNNPACK's rules say of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus import CASES, Case
from pytest_sparsity import strategies, xnnpack
from pytest_sparsity.model import Model
from pytest_sparsity.targets import Target
from pytest_sparsity.transform.rewrites import REORDERED, Repair, repair
from pytest_sparsity.writer import Network
from pytest_sparsity.xnnpack.misfits import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from pytest_sparsity.targets import Worker

TARGET = "litert-js"
CORPUS = {case.name: case for case in CASES}
ROUNDED = 1e-6  # of the largest output: float32 sums of up to 300 terms in another order

REPAIRED = {
    "1x1 stride 2": ["strided-pointwise"],
    "add 4-D scalar": ["constant-operand"],
    "add constant": ["constant-operand"],
    "add scalar": ["constant-operand"],
    "average pool": ["average-pool"],
    "batch 2 convolution head": ["kept-dimensions"],
    "batch 3 convolution head": ["kept-dimensions"],
    "convolution head": ["kept-dimensions"],
    "depthwise dilated": ["window"],
    "depthwise stride 2 asymmetric": ["window"],
    "depthwise stride 2 same": ["window"],
    "difference of two branches": ["difference"],
    "entry asymmetric padding": ["mirror", "entry"],
    "entry same padding": ["mirror", "entry"],
    "final average pool": ["global-pool"],
    "keep dims not delegated": ["kept-dimensions"],
    "keep dims prelu": ["kept-dimensions"],
    "keep dims softmax": ["kept-dimensions"],
    "prelu": ["prelu"],
    "pruned convolution head": ["kept-dimensions"],
    "subtract block": ["difference"],
    "subtract scalar": ["difference"],
}
"""What each network of the corpus needs to run sparse, and no more."""

DENSIFIED = ("softmax", "max pool", "depthwise 7x7", "middle output", "concat with itself")
LEFT = ("entry valid", "no pooling", "half", "not encoded", "int8")


@pytest.fixture(scope="module")
def reference() -> Iterator[Worker]:
    pytest.importorskip("ai_edge_litert")
    with Target.of("litert").open() as worker:
        yield worker


def outputs(
    worker: Worker, model: Model, kernels: str = "reference"
) -> list[tuple[NDArray[Any], ...]]:
    signature = worker.load("model", model, kernels=kernels)
    found = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        inputs = [rng.normal(size=spec.shape).astype(spec.dtype) for spec in signature.inputs]
        worker.set_inputs("model", inputs)
        found.append(worker.outputs("model"))
    return found


def assert_same(worker: Worker, one: Model, other: Model, *, exact: bool) -> None:
    for ours, theirs in zip(outputs(worker, one), outputs(worker, other), strict=True):
        assert [array.shape for array in ours] == [array.shape for array in theirs]
        for a, b in zip(ours, theirs, strict=True):
            if exact:
                assert np.array_equal(a, b)
            else:
                assert np.abs(a - b).max() <= ROUNDED * np.abs(a).max()


def repaired(case: Case, folder: Path) -> tuple[Model, Repair]:
    model = Model(case.write(folder))
    return model, repair(model, folder / "repaired.tflite", target=TARGET)


@pytest.mark.parametrize(("name", "rules"), REPAIRED.items(), ids=REPAIRED)
def test_it_runs_sparse_and_computes_the_same(
    name: str, rules: Sequence[str], tmp_path: Path, reference: Worker
) -> None:
    model, result = repaired(CORPUS[name], tmp_path)
    assert result.before.gain < result.after.gain
    assert result.after.verdict == "sparse"
    assert [rewrite.rule for rewrite in result.rewrites] == rules
    assert result.exact == (not REORDERED & set(rules))
    assert_same(reference, model, result.model, exact=result.exact)


@pytest.mark.parametrize("name", DENSIFIED)
def test_a_wrong_file_that_no_rewrite_repairs_is_stored_densely(
    name: str, tmp_path: Path, reference: Worker
) -> None:
    model, result = repaired(CORPUS[name], tmp_path)
    assert (result.before.verdict, result.after.verdict) == ("miscomputes", "dense")
    assert result.densified
    assert not result.rewrites
    assert not result.model.encoded
    assert_same(reference, model, result.model, exact=True)


@pytest.mark.parametrize("name", LEFT)
def test_nothing_is_changed_where_nothing_is_gained(name: str, tmp_path: Path) -> None:
    model, result = repaired(CORPUS[name], tmp_path)
    assert (result.rewrites, result.densified) == ((), False)
    assert bytes(result.model.data) == bytes(model.data)


def test_most_wrong_networks_of_the_corpus_become_right(tmp_path: Path) -> None:
    fates = []
    for number, case in enumerate(CASES):
        folder = tmp_path / str(number)
        folder.mkdir()
        _, result = repaired(case, folder)
        if result.before.verdict == "miscomputes":
            fates.append((result.after.verdict, result.densified))
    assert fates.count(("sparse", False)) >= 15
    assert sum(verdict != "miscomputes" for verdict, _ in fates) >= 30


def test_repairing_again_changes_nothing(tmp_path: Path) -> None:
    _, once = repaired(CORPUS["entry same padding"], tmp_path)
    again = repair(once.model, tmp_path / "again.tflite", target=TARGET)
    assert not again.rewrites


def test_a_needless_rewrite_is_taken_back(tmp_path: Path) -> None:
    """The PRELU behind the average keeps nobody from running sparse."""
    rng = np.random.default_rng(0)
    net = Network((1, 16, 16, 3))
    x = net.conv2d(net.pad(net.input, 1), _weights(rng, 8, 3, 3, 3), stride=2)
    x = net.depthwise(x, _weights(rng, 1, 3, 3, 8), padding="SAME", stride=2)
    x = net.conv2d(x, _sparse(rng, 16, 1, 1, 8), encoding="sparse")
    x = net.reshape(net.mean(x), (1, 1, 1, 16))
    net.output(net.prelu(x, np.full((1, 1, 16), 0.1, np.float32)))
    model = Model(net.write(tmp_path / "model.tflite"))
    result = repair(model, tmp_path / "repaired.tflite", target=TARGET)
    assert [rewrite.rule for rewrite in result.rewrites] == ["window"]


def test_a_padding_with_two_readers_becomes_two(tmp_path: Path, reference: Worker) -> None:
    """XNNPACK folds a PAD into what reads it only if nobody else does."""
    rng = np.random.default_rng(0)
    net = Network((1, 16, 16, 3))
    x = net.conv2d(net.pad(net.input, 1), _weights(rng, 8, 3, 3, 3), stride=2)
    padded = net.pad(x, 1)
    a, b = (net.depthwise(padded, _weights(rng, 1, 3, 3, 8)) for _ in range(2))
    x = net.conv2d(net.add(a, b), _sparse(rng, 16, 1, 1, 8), encoding="sparse")
    net.output(net.mean(x))
    model = Model(net.write(tmp_path / "model.tflite"))
    result = repair(model, tmp_path / "repaired.tflite", target=TARGET)
    assert result.before.verdict != "sparse"
    assert result.after.verdict == "sparse"
    assert {rewrite.rule for rewrite in result.rewrites} == {"window"}
    assert_same(reference, model, result.model, exact=True)


@pytest.mark.parametrize("keep_dims", [False, True])
def test_an_average_behind_a_transposition_moves_before_it(
    keep_dims: bool, tmp_path: Path, reference: Worker
) -> None:
    """What PyTorch's `x.mean((2, 3))` becomes."""
    rng = np.random.default_rng(0)
    net = Network((1, 16, 16, 3))
    x = net.conv2d(net.pad(net.input, 1), _weights(rng, 8, 3, 3, 3), stride=2)
    x = net.conv2d(x, _sparse(rng, 16, 1, 1, 8), encoding="sparse")
    order = net.constant(np.array([0, 3, 1, 2], np.int32))
    x = net.operator("TRANSPOSE", [x, order], (1, 16, 8, 8), "TransposeOptions")
    net.output(net.mean(x, (2, 3), keep_dims=keep_dims))
    model = Model(net.write(tmp_path / "model.tflite"))
    result = repair(model, tmp_path / "repaired.tflite", target=TARGET)
    assert (result.before.verdict, result.after.verdict) == ("dense", "sparse")
    assert [rewrite.rule for rewrite in result.rewrites] == ["transposed-mean"]
    assert "TRANSPOSE" not in {operator.op for operator in result.model.graph.operators}
    assert_same(reference, model, result.model, exact=True)


def test_squeeze_and_excite_keeps_its_dimensions(tmp_path: Path, reference: Worker) -> None:
    """As in MobileNetV3: an average inside the chain, which a product brings back into it."""
    rng = np.random.default_rng(0)
    net = Network((1, 16, 16, 3))
    x = net.conv2d(net.input, _weights(rng, 8, 3, 3, 3), stride=2, padding="SAME")
    x = net.conv2d(x, _sparse(rng, 16, 1, 1, 8), encoding="sparse")
    squeezed = net.mean(x, (1, 2), keep_dims=True)
    scale = net.conv2d(squeezed, _sparse(rng, 16, 1, 1, 16), activation="RELU6")
    x = net.conv2d(net.mul(x, scale), _sparse(rng, 16, 1, 1, 16), encoding="sparse")
    net.output(net.mean(x))
    model = Model(net.write(tmp_path / "model.tflite"))
    result = repair(model, tmp_path / "repaired.tflite", target=TARGET)
    assert result.before.verdict == "dense"
    assert str(result.after) == "sparse, 3 of 3 prunable layers sparse"
    assert [rewrite.rule for rewrite in result.rewrites] == ["mirror", "entry"]
    assert_same(reference, model, result.model, exact=False)


@pytest.mark.parametrize("size", [(16, 16), (18, 14), (17, 16), (15, 13)])
def test_windows_of_any_image_are_computed_the_same(
    size: tuple[int, int], tmp_path: Path, reference: Worker
) -> None:
    rng = np.random.default_rng(0)
    net = Network((1, 2 * size[0], 2 * size[1], 3))
    x = net.conv2d(net.input, _weights(rng, 8, 3, 3, 3), stride=2, padding="SAME")
    x = net.depthwise(x, _weights(rng, 1, 3, 3, 8), padding="SAME", stride=2)
    x = net.depthwise(x, _weights(rng, 1, 2, 2, 8), padding="SAME")
    x = net.conv2d(x, _sparse(rng, 16, 1, 1, 8), encoding="sparse")
    net.output(net.mean(x))
    model = Model(net.write(tmp_path / "model.tflite"))
    result = repair(model, tmp_path / "repaired.tflite", target=TARGET)
    assert result.after.verdict == "sparse"
    assert_same(reference, model, result.model, exact=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(accepted=st.booleans(), data=st.data())
def test_outputs_of_drawn_networks_never_change(
    accepted: bool, data: st.DataObject, tmp_path: Path, reference: Worker
) -> None:
    chain = data.draw(strategies.networks(accepted=accepted))
    model = Model(chain.build().write(tmp_path / "model.tflite"))
    result = repair(model, tmp_path / "repaired.tflite", target=TARGET)
    assert result.after.gain >= result.before.gain
    assert_same(reference, model, result.model, exact=result.exact)


def test_a_target_without_rules_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(CORPUS["pointwise"].write(tmp_path))
    with pytest.raises(ValueError, match="no target is called 'abacus'"):
        repair(model, tmp_path / "repaired.tflite", target="abacus")


def _weights(rng: np.random.Generator, *shape: int) -> NDArray[Any]:
    return rng.standard_normal(shape, np.float32)


def _sparse(rng: np.random.Generator, *shape: int) -> NDArray[Any]:
    values = _weights(rng, *shape)
    return np.where(np.abs(values) < np.quantile(np.abs(values), 0.8), np.float32(0), values)


def broken_rules(model: Model) -> set[str]:
    """The rules that a network breaks for which repair is said to have a rewrite."""
    target = Target.of(TARGET)
    rules = target.record.rules
    assert rules
    facts = (rules, target.version(), target.arch, target.features)
    return {
        misfit.rule
        for partition in xnnpack.analyse(model, *facts).partitions
        if partition.rewrite is not None
        for misfit in partition.rewrite.misfits
        if misfit is not None and misfit.remedy.takes == "file"
    }


def test_every_rule_that_takes_the_file_has_a_rewrite(tmp_path: Path) -> None:
    """The remedy is checked where it is given: on the networks of the corpus that it repairs."""
    fixed = set()
    for name in REPAIRED:
        model, result = repaired(CORPUS[name], tmp_path)
        fixed |= broken_rules(model) - broken_rules(result.model)
    promised = {name for name, rule in RULES.items() if rule.repaired}
    elsewhere = {"shared-padding": "a padding with two readers", "depthwise-kernel": "windows"}
    assert promised - fixed == set(elsewhere)
