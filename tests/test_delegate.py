"""What XNNPACK's delegate takes, and small rewrites: each with what just fails to qualify."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pytest_sparsity import xnnpack
from pytest_sparsity.model import Model
from pytest_sparsity.writer import Network
from pytest_sparsity.xnnpack.misfits import RULES, Misfit
from pytest_sparsity.xnnpack.releases import gate_closed
from pytest_sparsity.xnnpack.subgraph import Node, Subgraph, Value, simplify

NEW = xnnpack.newest("litert")


def refused(net: Network, folder: Path) -> list[str]:
    model = Model(net.write(folder / "net.tflite"))
    analysis = xnnpack.analyse(model, "litert", NEW.version, "aarch64", frozenset())
    return [misfit.rule for misfit in analysis.delegation.refused.values()]


@pytest.mark.parametrize(
    ("stride", "rules"), [((2, 2), []), ((3, 1), ["pooling-stride"]), ((1, 3), ["pooling-stride"])]
)
def test_a_pooling_strides_no_further_than_its_window(
    stride: tuple[int, int], rules: list[str], tmp_path: Path
) -> None:
    net = Network((1, 12, 12, 4))
    options = {
        "stride_h": stride[0],
        "stride_w": stride[1],
        "filter_height": 2,
        "filter_width": 2,
        "padding": 1,
    }
    shape = (1, *(10 // s + 1 for s in stride), 4)
    net.output(net.operator("MAX_POOL_2D", [net.input], shape, "Pool2DOptions", options))
    assert refused(net, tmp_path) == rules


@pytest.mark.parametrize(("count", "rules"), [(2, []), (5, []), (6, ["concatenated"])])
def test_up_to_five_tensors_are_concatenated(count: int, rules: list[str], tmp_path: Path) -> None:
    net = Network((1, 4))
    net.output(net.concat([net.add(net.input, net.input) for _ in range(count)], 1))
    assert refused(net, tmp_path) == rules


@pytest.mark.parametrize(("beta", "rules"), [(1.0, []), (0.5, ["softmax-beta"])])
def test_a_softmax_has_no_temperature(beta: float, rules: list[str], tmp_path: Path) -> None:
    net = Network((1, 4))
    net.output(net.softmax(net.input, beta))
    assert refused(net, tmp_path) == rules


@pytest.mark.parametrize(("stride", "rules"), [(1, []), (2, ["slice-stride"])])
def test_slices_have_no_stride(stride: int, rules: list[str], tmp_path: Path) -> None:
    net = Network((1, 8))
    begin, end, strides = (
        net.constant(np.array(values, np.int32)) for values in ([0, 0], [1, 8], [1, stride])
    )
    inputs = [net.input, begin, end, strides]
    net.output(net.operator("STRIDED_SLICE", inputs, (1, 8 // stride), "StridedSliceOptions"))
    assert refused(net, tmp_path) == rules


@pytest.mark.parametrize("feature", ["asimdhp", "fphp"])
def test_either_word_is_fp16_arithmetic(feature: str) -> None:
    old = xnnpack.newest("tflite-runtime")
    assert gate_closed(old, "aarch64", frozenset({"asimd", feature})) == ""


def between(node: Node, shapes: tuple[tuple[int, ...], ...]) -> Subgraph:
    values = {i: Value(shape) for i, shape in enumerate(shapes)}
    values[0] = Value(shapes[0], external_input=True)
    values[1] = Value(shapes[1], external_output=True)
    if len(shapes) > 2:
        values[2] = Value(shapes[2], static=True)
    return Subgraph([node], values)


def test_a_scalar_of_more_dimensions_is_no_clamp() -> None:
    """Since 82367b51bf: the operator broadcasts its operand to the scalar's rank."""
    node = Node("binary", 0, (0, 2), 1, name="maximum")
    before, _ = xnnpack.release_of("litert", "2.1.3")
    for shape, release, name in (
        ((1, 1), NEW, "clamp"),
        ((1, 1, 1, 1), NEW, "maximum"),
        ((1, 1, 1, 1), before, "clamp"),
    ):
        graph = between(node, ((1, 16), (1, 16), shape))
        simplify(graph, release)
        assert [each.name for each in graph.nodes] == [name]


def test_a_mean_of_squares_is_one_node_for_floats_only() -> None:
    square = Node("unary", 0, (0,), 2, name="square")
    mean = Node("reduce", 1, (2,), 1, name="mean", axes=(1, 2))
    for fp, names in ((True, ["mean-squared"]), (False, ["square", "mean"])):
        shape = (1, 4, 4, 8)
        graph = between(replace(square, fp=fp), (shape, (1, 8)))
        graph.values[2] = Value(shape)
        graph.nodes.append(replace(mean, fp=fp))
        simplify(graph, NEW)
        assert [each.name for each in graph.nodes] == names


@pytest.mark.parametrize(("twice", "rules"), [(False, ["bias-type"]), (True, [])])
def test_float16_weights_that_are_an_input_too_are_unpacked(
    twice: bool, rules: list[str], tmp_path: Path
) -> None:
    """Otherwise they are read as they are stored, and then the bias must be float16 as well."""
    net = Network((4, 4))
    weights = net.weights(np.eye(4, dtype=np.float32), dtype="float16")
    bias = net.constant(np.ones(4, np.float32))
    options = "FullyConnectedOptions"
    y = net.operator("FULLY_CONNECTED", [net.input, weights, bias], (4, 4), options)
    if twice:
        other = net.weights(np.eye(4, dtype=np.float32))
        y = net.operator("FULLY_CONNECTED", [weights, other, bias], (4, 4), options)
    net.output(y)
    assert refused(net, tmp_path) == rules


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_its_words(name: str) -> None:
    rule = RULES[name]
    misfit = Misfit(name, (1, "2x2"))
    assert "{" not in f"{misfit}{misfit.remedy.text}"
    assert rule.remedy.text
    assert not str(misfit).endswith(".")
    assert rule.remedy.takes in {"file", "conversion", "training", "runtime"}
    assert ": " in rule.upstream, "a function and what it looks at"
