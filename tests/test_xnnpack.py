"""The rules of sparse inference, without any runtime. tests/claims runs them against targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from corpus import CASES, Case
from pytest_sparsity import xnnpack
from pytest_sparsity.model import Model
from pytest_sparsity.writer import Network, Operand
from pytest_sparsity.writer.parts import Parts, linear
from pytest_sparsity.xnnpack.changes import CHANGES
from pytest_sparsity.xnnpack.misfits import Misfit
from pytest_sparsity.xnnpack.names import short
from pytest_sparsity.xnnpack.releases import gate_closed
from pytest_sparsity.xnnpack.rewrite import (
    NCHW,
    NCHW2NHWC,
    NHWC2NCHW,
    check_nchw_compatibility,
    rewrite,
)
from pytest_sparsity.xnnpack.subgraph import Node, Subgraph, simplify
from pytest_sparsity.xnnpack.subgraph import Value as XnnValue

JS = ("litert-js", "2.5.3", "wasm32", frozenset[str]())
ARM = ("litert", "2.3.0", "aarch64", frozenset[str]())
OLD_ARM = ("tflite-runtime", "2.14.0", "aarch64", frozenset({"asimdhp"}))
NEW, OLD = xnnpack.newest("litert"), xnnpack.newest("tflite-runtime")
AVX = ("litert", "2.3.0", "x86_64", frozenset({"avx", "avx2"}))

BY_NAME = {case.name: case for case in CASES}
WRITTEN = [case for case in CASES if case.name != "pool 1x1 at the end"]
"""All but the one of which XNNPACK drops every operator."""
IMAGE = (1, 8, 8, 16)


def analysed(
    case: str | Case, folder: Path, where: tuple[str, str, str, frozenset[str]] = JS
) -> xnnpack.Analysis:
    chosen = BY_NAME[case] if isinstance(case, str) else case
    return xnnpack.analyse(Model(chosen.write(folder)), *where)


def verdict(
    case: str | Case, folder: Path, where: tuple[str, str, str, frozenset[str]] = JS
) -> str:
    return xnnpack.verdict(analysed(case, folder, where))


# ------------------------------------------------------------------------------- hardware gate


@pytest.mark.parametrize(
    ("runtime", "arch", "features", "code"),
    [
        ("litert", "x86_64", {"sse4_2", "avx"}, "x86-avx"),
        ("litert", "x86_64", {"sse4_2"}, ""),
        ("litert", "aarch64", set(), ""),
        ("litert-js", "wasm32", {"simd128"}, ""),
        ("tensorflow", "x86_64", {"avx"}, "x86-avx"),
        ("tensorflow", "x86_64", {"sse4_2"}, "x86-avx"),  # the wheel itself needs AVX
        ("tflite-runtime", "x86_64", {"avx"}, "no-sparse-build"),
        ("tflite-runtime", "x86_64", {"sse4_2"}, "no-sparse-build"),
        ("tflite-runtime", "aarch64", {"asimd"}, "needs-fp16"),
        ("tflite-runtime", "aarch64", {"asimd", "asimdhp"}, ""),
    ],
)
def test_gate(runtime: str, arch: str, features: set[str], code: str) -> None:
    release = xnnpack.newest(runtime)
    assert gate_closed(release, arch, frozenset(features)) == code


def test_unknown_runtime_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="known are litert, litert-js"):
        xnnpack.release_of("onnx", "1")


# ------------------------------------------------------------------------------------ releases


@pytest.mark.parametrize(
    ("version", "nearest"),
    [
        ("2.3.0", "2.3.0"),
        ("2.1.0", "2.1.0"),
        ("2.1.3.post1", "2.1.3"),
        ("2.2.5", "2.2.0"),
        ("2.4.0.dev20261026", "2.3.0"),
        ("3.0", "2.3.0"),
        ("1.4.1", "1.4.0"),
        ("1.1.0", "1.0.1"),
        ("1.0.0", "1.0.1"),
        ("unknown", "2.3.0"),
    ],
)
def test_an_unknown_version_takes_its_nearest_neighbour(version: str, nearest: str) -> None:
    release, exact = xnnpack.release_of("litert", version)
    assert release.version == nearest
    assert exact == (version == nearest)


def test_the_diagnosis_says_which_neighbour(tmp_path: Path) -> None:
    def messages(version: str) -> list[str]:
        where = ("litert", version, "aarch64", frozenset[str]())
        findings = xnnpack.findings(analysed("average", tmp_path, where))
        return [f.message for f in findings if f.code == "rules-unverified"]

    assert messages("2.1.3") == messages("2.3.0") == []
    (message,) = messages("2.4.0.dev20261026")
    assert "litert 2.4.0.dev20261026: those of litert 2.3.0, the nearest release" in message


def test_releases_are_in_order() -> None:
    """`newest` and the nearest neighbour rely on it; sources do not go back in time either."""
    for runtime in {release.runtime for release in xnnpack.RELEASES}:
        releases = [r for r in xnnpack.RELEASES if r.runtime == runtime]
        for key in ("version", "xnnpack_date", "tflite_date"):
            values = [getattr(release, key) for release in releases]
            assert values == sorted(values)


def test_changes_are_asked_by_name() -> None:
    with pytest.raises(KeyError):
        NEW.has("no such change")
    assert all(NEW.has(name) for name in CHANGES)
    assert [name for name in CHANGES if OLD.has(name)] == ["chw-gate-asks-fp16"]


def test_a_change_comes_with_the_sources_that_have_it() -> None:
    def first(name: str, runtime: str = "litert") -> str:
        releases = (r for r in xnnpack.RELEASES if r.runtime == runtime)
        return next(release.version for release in releases if release.has(name))

    assert first("fc-in-rewrite") == "1.1.1"
    assert first("repeated-input-counts-once") == "2.0.2"
    assert first("broadcast-minmax-stays") == "2.1.4"
    assert first("reshape-checks-input") == "2.1.5"
    assert first("fc-checks-channels") == "2.2.0"
    assert first("spurious-clamp-elided", "tensorflow") == "2.21.0"
    assert first("delegates-approximate-gelu") == "1.2.0"
    for name in ("delegates-sin-cos", "delegates-exp", "delegates-extremes"):
        assert (first(name), first(name, "tensorflow")) == ("1.3.0", "2.20.0")
    assert first("fc-behind-reshape") == "1.4.0"
    assert first("int8-fc-reads-file") == "2.1.5"
    assert first("delegates-log") == "2.1.6"
    assert first("reshape-checks-input", "litert-js") == "2.5.2"
    assert first("fc-checks-channels", "litert-js") == "2.5.3"
    assert not xnnpack.newest("litert-js").has("convolution-checks-channels")
    assert not xnnpack.newest("tensorflow").has("int8-fc-reads-file")


# ------------------------------------------------------------------------------- node classes

CONVOLUTION = Node("convolution", 0, (0,), 1, kernel=(3, 3), channels=3)
ENTRY_NODE = replace(CONVOLUTION, stride=(2, 2), padding=(1, 1, 1, 1))
DEPTHWISE = Node("depthwise", 0, (0,), 1, kernel=(3, 3), padding=(1, 1, 1, 1))
BINARY = Node("binary", 0, (0, 2), 1, name="add")
REDUCE = Node("reduce", 0, (0,), 1, name="mean", axes=(1, 2))


def graph_of(node: Node, shape: tuple[int, ...] = IMAGE, constant: bool = False) -> Subgraph:
    values = {0: XnnValue(shape), 1: XnnValue(shape), 2: XnnValue(shape, static=constant)}
    return Subgraph([node], values)


@pytest.mark.parametrize(
    ("node", "fits"),
    [
        (ENTRY_NODE, NHWC2NCHW),
        (replace(ENTRY_NODE, stride=(1, 1)), 0),
        (replace(ENTRY_NODE, stride=(2, 1)), 0),
        (replace(ENTRY_NODE, padding=(0, 1, 1, 0)), 0),
        (replace(ENTRY_NODE, padding=(0, 0, 0, 0), same=True), 0),
        (replace(ENTRY_NODE, channels=1), 0),
        (replace(ENTRY_NODE, channels=4), 0),
        (replace(ENTRY_NODE, dilation=(2, 2)), 0),
        (replace(ENTRY_NODE, kernel=(5, 5), padding=(2, 2, 2, 2)), 0),
        (replace(ENTRY_NODE, groups=3), 0),
        (replace(ENTRY_NODE, fp=False), 0),
        (replace(CONVOLUTION, kernel=(1, 1)), NCHW),
        (replace(CONVOLUTION, kernel=(1, 1), stride=(2, 2)), 0),
        (replace(CONVOLUTION, kernel=(1, 1), padding=(1, 1, 1, 1)), 0),
        (replace(CONVOLUTION, kernel=(1, 3)), 0),
        (DEPTHWISE, NCHW),
        (replace(DEPTHWISE, stride=(2, 2)), NCHW),
        (replace(DEPTHWISE, stride=(3, 3)), 0),
        (replace(DEPTHWISE, stride=(1, 2)), 0),
        (replace(DEPTHWISE, padding=(0, 0, 0, 0)), 0),
        (replace(DEPTHWISE, same=True), 0),
        (replace(DEPTHWISE, multiplier=2), 0),
        (replace(DEPTHWISE, dilation=(2, 2)), 0),
        (replace(DEPTHWISE, kernel=(5, 5), padding=(2, 2, 2, 2)), NCHW),
        (replace(DEPTHWISE, kernel=(5, 5)), 0),
        (replace(DEPTHWISE, kernel=(7, 7), padding=(3, 3, 3, 3)), 0),
        (BINARY, NCHW),
        (replace(BINARY, name="multiply"), NCHW),
        (replace(BINARY, name="subtract"), 0),
        (REDUCE, NCHW | NCHW2NHWC),
        (replace(REDUCE, name="sum"), NCHW | NCHW2NHWC),
        (replace(REDUCE, name="maximum"), 0),
        (Node("unary", 0, (0,), 1, name="gelu"), NCHW),
        (Node("resize-bilinear", 0, (0,), 1), NCHW),
        (Node("depth-to-space", 0, (0,), 1), NCHW2NHWC),
        (Node("fully-connected", 0, (0,), 1), NCHW),
        (Node("concatenation", 0, (0,), 1), 0),
        (Node("max-pooling", 0, (0,), 1), 0),
        (Node("pad", 0, (0,), 1), 0),
    ],
)
def test_node_class(node: Node, fits: int) -> None:
    found, why = check_nchw_compatibility(node, graph_of(node), NEW)
    assert found == fits
    assert bool(why) == (fits == 0)


def test_operands_must_be_images() -> None:
    unary = Node("unary", 0, (0,), 1, name="clamp")
    for node in (unary, BINARY, REDUCE):
        assert check_nchw_compatibility(node, graph_of(node, (1, 16)), NEW)[0] == 0


def test_a_constant_operand_needs_a_first_operand_of_one_dimension() -> None:
    """XNNPACK looks at the first operand's shape for a constant on either side."""
    assert check_nchw_compatibility(BINARY, graph_of(BINARY, constant=True), NEW)[0] == 0
    pooled = graph_of(BINARY, (1, 1, 1, 16), constant=True)
    assert check_nchw_compatibility(BINARY, pooled, NEW)[0] == NCHW


def test_resizing_needs_more_than_one_row_and_column() -> None:
    node = Node("resize-bilinear", 0, (0,), 1)
    assert check_nchw_compatibility(node, graph_of(node, (1, 1, 8, 16)), NEW)[0] == 0


def test_what_old_versions_do_not_have() -> None:
    old = [
        Node("unary", 0, (0,), 1, name="tanh"),
        Node("fully-connected", 0, (0,), 1),
        replace(REDUCE, name="sum"),
        replace(REDUCE, axes=(3,)),
    ]
    for node in old:
        assert check_nchw_compatibility(node, graph_of(node), OLD)[0] == 0
        assert check_nchw_compatibility(node, graph_of(node), NEW)[0] != 0
    assert check_nchw_compatibility(REDUCE, graph_of(REDUCE), OLD)[0] == NCHW | NCHW2NHWC


# ---------------------------------------------------------------- rewrites before and clusters


def chain(*nodes: Node, outputs: tuple[int, ...] = ()) -> Subgraph:
    """Nodes that read value n and write value n + 1; value 0 comes from outside."""
    linked = [replace(node, inputs=(i,), output=i + 1) for i, node in enumerate(nodes)]
    values = {i: XnnValue(IMAGE) for i in range(len(nodes) + 1)}
    values[0] = XnnValue(IMAGE, external_input=True)
    for index in (*outputs, len(nodes)):
        values[index] = XnnValue(IMAGE, external_output=True)
    return Subgraph(linked, values)


POINTWISE = Node("fully-connected", 0, (0,), 1, weights=(70, 100))
CLAMP = Node("unary", 0, (0,), 1, name="clamp")
PAD = Node("pad", 0, (0,), 1, name="spatial", padding=(1, 1, 1, 1))


def test_padding_moves_into_the_convolution() -> None:
    graph = chain(PAD, replace(CONVOLUTION, stride=(2, 2)))
    simplify(graph, NEW)
    assert [node.kind for node in graph.nodes] == ["convolution"]
    assert graph.nodes[0].padding == (1, 1, 1, 1)
    assert graph.nodes[0].inputs == (0,)


@pytest.mark.parametrize(
    "graph",
    [
        chain(PAD, replace(CONVOLUTION, same=True, stride=(2, 2))),
        chain(replace(PAD, name=""), CONVOLUTION),
        chain(PAD, POINTWISE),
        chain(PAD, CONVOLUTION, outputs=(1,)),
    ],
)
def test_padding_that_stays(graph: Subgraph) -> None:
    simplify(graph, NEW)
    assert graph.nodes[0].kind == "pad"


def test_only_the_second_of_two_paddings_moves() -> None:
    graph = chain(PAD, PAD, CONVOLUTION)
    simplify(graph, NEW)
    assert [node.kind for node in graph.nodes] == ["pad", "convolution"]


def test_clamps_merge_into_what_clamps() -> None:
    graph = chain(ENTRY_NODE, CLAMP, CLAMP, POINTWISE)
    simplify(graph, NEW)
    assert [node.kind for node in graph.nodes] == ["convolution", "fully-connected"]
    kept = chain(ENTRY_NODE, CLAMP, outputs=(1,))
    simplify(kept, NEW)
    assert len(kept.nodes) == 2


def test_unbounded_clamps_disappear_or_become_copies() -> None:
    unbounded = replace(CLAMP, name="unbounded clamp")
    graph = chain(REDUCE, unbounded, POINTWISE)
    simplify(graph, NEW)
    assert [node.kind for node in graph.nodes] == ["reduce", "fully-connected"]
    last = chain(REDUCE, unbounded)
    simplify(last, NEW)
    assert [(node.kind, node.output) for node in last.nodes] == [("reduce", 2)]
    two = chain(REDUCE, unbounded, unbounded)
    simplify(two, NEW)
    assert [(node.kind, node.output) for node in two.nodes] == [("reduce", 3)]
    both = chain(REDUCE, unbounded, outputs=(1,))
    simplify(both, NEW)
    assert [node.kind for node in both.nodes] == ["reduce", "copy"]


def test_an_unbounded_clamp_behind_a_merged_one_leaves_its_output_unwritten() -> None:
    """XNNPACK's: writers are not brought up to date within a pass (seen on three runtimes)."""
    unbounded = replace(CLAMP, name="unbounded clamp")
    graph = chain(ENTRY_NODE, CLAMP, unbounded)
    simplify(graph, NEW)
    assert graph.unwritten() == [3]
    old = chain(ENTRY_NODE, CLAMP, unbounded)
    simplify(old, OLD)
    assert old.unwritten() == []
    inside = chain(ENTRY_NODE, CLAMP, unbounded, POINTWISE)
    simplify(inside, NEW)
    assert inside.unwritten() == []


def test_the_leader_of_a_cluster_need_not_be_an_exit() -> None:
    """The defect: here the second chain has no exit, and is rewritten since the first has one."""
    first = [replace(ENTRY_NODE, output=1), replace(POINTWISE, inputs=(1,), output=2)]
    second = [
        replace(REDUCE, inputs=(2,), output=3),
        replace(ENTRY_NODE, output=4),
        replace(POINTWISE, inputs=(4,), output=5),
        Node("max-pooling", 0, (5,), 6),
    ]
    graph = Subgraph([*first, *second], {i: XnnValue(IMAGE) for i in range(7)})
    graph.values[0] = XnnValue(IMAGE, external_input=True)
    for index in (3, 6):
        graph.values[index] = XnnValue(IMAGE, external_output=True)
    assert rewrite(graph, NEW).channels_first == {1, 2, 4}
    del graph.nodes[2]
    assert rewrite(graph, NEW).channels_first == set()


def test_zeros_are_pooled_and_more_than_two_thirds() -> None:
    def channels_first(*weights: tuple[int, int]) -> set[int]:
        nodes = [replace(POINTWISE, weights=pair) for pair in weights]
        return rewrite(chain(ENTRY_NODE, *nodes, REDUCE), NEW).channels_first

    assert channels_first((200, 300)) == set()
    assert channels_first((201, 300)) == {1, 2}
    assert channels_first((30, 100), (90, 100), (90, 100)) == {1, 2, 3, 4}
    assert channels_first((95, 100), (50, 100)) == {1, 2, 3}
    assert channels_first((95, 100), (38, 100)) == set()


def test_a_value_read_by_another_blocks_its_cluster() -> None:
    graph = chain(ENTRY_NODE, POINTWISE, REDUCE)
    assert rewrite(graph, NEW).channels_first == {1, 2}
    graph.values[4] = XnnValue(IMAGE, external_output=True)
    graph.nodes.append(Node("concatenation", 0, (2,), 4))
    assert rewrite(graph, NEW).channels_first == set()


# -------------------------------------------------------------------------------- whole models

MISCOMPUTE = [
    "depthwise stride 2 same",
    "depthwise stride 2 asymmetric",
    "depthwise 7x7",
    "depthwise dilated",
    "depthwise multiplier",
    "max pool",
    "regular 3x3",
    "prelu",
    "1x1 stride 2",
    "middle output",
    "side branch flatten",
]
"""Triggers of the defect, seen in LiteRT 2.3.0, LiteRT.js 2.5.3 and tflite-runtime 2.14.0."""
SPARSE = [
    "average",
    "keep dims",
    "residual",
    "squeeze and excite",
    "hard swish",
    "depthwise 5x5 stride 2",
    "resize",
    "depth to space",
    "scaled before entry",
    "batch 3",
    "not square",
    "fp16",
    "mobilenet v2",
    "mobilenet v3",
    "30 and 90",
    "two thirds and one",
    "linear encoded",
    # One channel: both layouts are the same bytes.
    "one channel before max pool",
]
DENSE = [
    "no pooling",
    "final average pool",
    "global max",
    "subtract block",
    "entry same padding",
    "entry asymmetric padding",
    "entry stride 1",
    "entry 5x5",
    "entry 1 channel",
    "no entry",
    "linear layers",
    "two thirds",
    "95 and 50 and 50",
    "not encoded",
    "int8",
]


@pytest.mark.parametrize("where", [JS, ARM, OLD_ARM])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, "miscomputes") for name in MISCOMPUTE),
        *((name, "sparse") for name in SPARSE),
        *((name, "dense") for name in DENSE),
    ],
)
def test_verdict(
    name: str, expected: str, where: tuple[str, str, str, frozenset[str]], tmp_path: Path
) -> None:
    assert verdict(name, tmp_path, where) == expected


@pytest.mark.parametrize(
    ("name", "js", "arm", "old"),
    [
        ("tanh", "sparse", "sparse", "miscomputes"),
        ("minimum", "sparse", "sparse", "miscomputes"),
        ("mean of squares", "sparse", "sparse", "miscomputes"),
        ("mean of channels", "sparse", "sparse", "dense"),
        ("linear keeps dims", "sparse", "sparse", "miscomputes"),
        ("add itself", "dense", "dense", "sparse"),
        # A global average pool with keepdims announces a permuted shape since 2024-10; LiteRT.js
        # does not look at the failure.
        ("pruned convolution head", "miscomputes", "fails", "sparse"),
        ("square convolution head", "sparse", "sparse", "sparse"),
        ("multiply by own average", "miscomputes", "fails", "sparse"),
        # An operator that asks for no shape, outside XNNPACK, does not mind the permuted one.
        ("reshape at run time", "sparse", "sparse", "sparse"),
        ("keep dims not delegated", "miscomputes", "miscomputes", "sparse"),
        # What has too many elements still divides, until 2026-07 (a3fc80e2be).
        ("batch 2 convolution head", "miscomputes", "fails", "sparse"),
    ],
)
def test_versions_differ(name: str, js: str, arm: str, old: str, tmp_path: Path) -> None:
    assert [verdict(name, tmp_path, where) for where in (JS, ARM, OLD_ARM)] == [js, arm, old]


@pytest.mark.parametrize(
    ("name", "fates"),
    [
        # Refused since the elements are checked to divide by the channels (2.1.5) ...
        ("pruned convolution head", {"2.1.0": "miscomputes", "2.1.5": "fails", "2.3.0": "fails"}),
        # ... and what divides since the channels themselves are (2.2.0).
        ("batch 2 convolution head", {"2.1.0": "miscomputes", "2.1.6": "miscomputes"}),
        ("batch 2 convolution head", {"2.2.0": "fails", "2.3.0": "fails"}),
        ("3x3 convolution of averages", {"2.1.0": "miscomputes", "2.1.6": "miscomputes"}),
        ("3x3 convolution of averages", {"2.2.0": "fails", "2.3.0": "fails"}),
        # Dense weights of the head count for its cluster until a reshape node parts them.
        ("linear head", {"1.0.1": "sparse", "1.1.1": "dense", "1.3.0": "dense", "1.4.0": "sparse"}),
        ("keep dims linear", {"1.0.1": "sparse", "1.3.0": "dense", "1.4.0": "sparse"}),
        ("pruned linear head", {"1.0.1": "sparse", "1.1.1": "sparse", "1.4.0": "sparse"}),
        ("exp", {"1.0.1": "dense", "1.2.0": "dense", "1.3.0": "sparse"}),
    ],
)
def test_fates_change_with_releases(name: str, fates: dict[str, str], tmp_path: Path) -> None:
    for version, fate in fates.items():
        where = ("litert", version, "x86_64", frozenset[str]())
        assert verdict(name, tmp_path, where) == fate, version


def pruned_linear(p: Parts, x: Operand, units: int, *, keep: bool = False) -> Operand:
    """A pruned fully connected layer, by default one that flattens its input."""
    if not keep:
        return p.linear(x, units, zeros=0.8)
    weights = p.net.weights(p.random((units, x.shape[-1]), 1, 0.8), encoding=p.encoding)
    return p.net.operator(
        "FULLY_CONNECTED",
        [x, weights, None],
        (*x.shape[:-1], units),
        "FullyConnectedOptions",
        {"keep_num_dims": True},
    )


def two_layers(
    axes: tuple[int, ...], keep: bool, *layers: bool
) -> Callable[[Parts, Operand], Operand]:
    """A mean, and pruned fully connected layers that keep the dimensions or flatten."""

    def build(p: Parts, x: Operand) -> Operand:
        x = p.net.mean(x, axes, keep_dims=keep)
        for layer in layers:
            x = pruned_linear(p, x, 32, keep=layer)
        return x

    return build


def beside_an_exit(p: Parts, x: Operand) -> Operand:
    p.net.output(p.net.mean(x))
    return pruned_linear(p, pruned_linear(p, x, 32), 32)


@pytest.mark.parametrize(
    ("end", "fates"),
    [
        # A channels-first layer asks for the width of its input, which has none: "failed to
        # reshape runtime". Behind a reshape node a layer is channels-last.
        (two_layers((1, 2), False, False, False), {"1.3.0": "fails", "1.4.0": "sparse"}),
        (two_layers((1, 2), False, True, True), {"1.3.0": "fails", "2.3.0": "fails"}),
        (two_layers((1, 2), True, False, False, False), {"1.3.0": "sparse", "1.4.0": "sparse"}),
        # A mean of channels has no order of its own; as an image it is none.
        (two_layers((3,), False, False), {"1.3.0": "sparse", "1.4.0": "sparse"}),
        (two_layers((3,), False, True), {"1.3.0": "sparse", "2.3.0": "sparse"}),
        (two_layers((3,), False, True, True), {"1.3.0": "miscomputes", "1.4.0": "miscomputes"}),
        (two_layers((3,), False, False, False), {"1.3.0": "miscomputes", "1.4.0": "sparse"}),
        # Channels-first it does not flatten an image.
        (beside_an_exit, {"1.3.0": "miscomputes", "1.4.0": "dense"}),
    ],
)
def test_fully_connected_layers_in_a_row(
    end: Callable[[Parts, Operand], Operand], fates: dict[str, str], tmp_path: Path
) -> None:
    """As seen of these networks on `litert==VERSION@nehalem`."""
    case = Case("in a row", lambda p, x: p.net.output(end(p, p.pointwise(p.pointwise(p.entry(x))))))
    found = {
        version: xnnpack.verdict(
            analysed(case, tmp_path, ("litert", version, "x86_64", frozenset()))
        )
        for version in fates
    }
    assert found == fates


def refused_by(
    runtime: str, version: str, op: str, scratch: Path, axes: tuple[int, ...] = (1, 2)
) -> bool:
    """Whether the delegate leaves an operator to TFLite."""

    def build(p: Parts, x: Operand) -> None:
        if op == "EXPAND_DIMS":
            operands, shape = [x, p.net.constant(np.array(0, np.int32))], (1, *x.shape)
            p.net.output(p.net.operator(op, operands, shape, "ExpandDimsOptions"))
        elif op in {"MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"}:
            kept = tuple(size for d, size in enumerate(x.shape) if d not in axes)
            operands = [x, p.net.constant(np.array(axes, np.int32))]
            p.net.output(p.net.operator(op, operands, kept, "ReducerOptions"))
        elif op.endswith("GELU"):
            options = {"approximate": op != "GELU"}
            p.net.output(p.net.operator("GELU", [x], x.shape, "GeluOptions", options))
        else:
            p.net.output(p.net.unary(x, op))

    where = (runtime, version, "x86_64", frozenset[str]())
    return bool(analysed(Case("taken", build), scratch, where).delegation.refused)


@pytest.mark.parametrize(
    ("op", "litert", "tensorflow"),
    [
        ("SIN", ("1.2.0", "1.3.0"), ("2.19.0", "2.20.0")),
        ("COS", ("1.2.0", "1.3.0"), ("2.19.0", "2.20.0")),
        ("EXP", ("1.2.0", "1.3.0"), ("2.19.0", "2.20.0")),
        ("REDUCE_MAX", ("1.2.0", "1.3.0"), ("2.19.0", "2.20.0")),
        ("REDUCE_MIN", ("1.2.0", "1.3.0"), ("2.19.0", "2.20.0")),
        ("approximate GELU", ("1.1.2", "1.2.0"), ("2.19.0", "2.20.0")),
        ("GELU", ("", "1.0.1"), ("", "2.19.0")),
        ("RSQRT", ("", "1.0.1"), ("", "2.19.0")),
        ("LOG", ("2.1.5", "2.1.6"), ("2.21.0", "")),
        ("EXPAND_DIMS", ("2.3.0", ""), ("2.21.0", "")),
    ],
)
def test_operators_that_the_delegate_took_later(
    op: str, litert: tuple[str, str], tensorflow: tuple[str, str], tmp_path: Path
) -> None:
    """The last release that leaves it to TFLite, and the first that takes it, as seen in each."""
    for runtime, pair in (("litert", litert), ("tensorflow", tensorflow)):
        found = [refused_by(runtime, version, op, tmp_path) for version in pair if version]
        assert found == [
            refused for version, refused in zip(pair, (True, False), strict=True) if version
        ]
    assert refused_by("tflite-runtime", "2.14.0", op, tmp_path)


def test_axes_that_the_delegate_reduces(tmp_path: Path) -> None:
    """As seen: of width, or of height and width, always; of others a MEAN before a SUM."""

    def refused(op: str, axes: tuple[int, ...], *where: str) -> bool:
        return refused_by(where[0], where[1], op, tmp_path, axes)

    old, middle, new = ("tflite-runtime", "2.14.0"), ("litert", "1.0.1"), ("litert", "1.1.1")
    for op in ("MEAN", "SUM"):
        assert [refused(op, axes, *old) for axes in ((1, 2), (2,), (1,), (3,))] == [
            False,
            False,
            True,
            True,
        ]
        assert not refused(op, (3,), *new)
    assert not refused("MEAN", (3,), *middle)
    assert refused("SUM", (3,), *middle)


def test_int8_weights_come_from_the_file_since_2_1_5(tmp_path: Path) -> None:
    network = linear(64, encoding="sparse", dtype="int8", int8=True)
    model = Model(network.write(tmp_path / "int8.tflite"))
    places = (("litert", "2.1.4"), ("litert", "2.1.5"), ("litert-js", "2.0.0"))
    found = [xnnpack.verdict(xnnpack.analyse(model, *place, "", frozenset())) for place in places]
    assert found == ["dense", "fails", "dense"]


def test_tensorflow_writes_the_output_until_clamps_are_elided(tmp_path: Path) -> None:
    places = [("tensorflow", v, "x86_64", frozenset({"avx"})) for v in ("2.20.0", "2.21.0")]
    found = [analysed("pool 1x1 at the end", tmp_path, where).defects for where in places]
    assert [[defect.code for defect in defects] for defects in found] == [[], ["unwritten-output"]]


def test_nothing_is_sparse_with_avx(tmp_path: Path) -> None:
    assert {verdict(name, tmp_path, AVX) for name in (*SPARSE, *MISCOMPUTE)} == {"dense"}


def test_blocks_run_on_any_cpu(tmp_path: Path) -> None:
    analysis = analysed("linear layers in blocks", tmp_path, AVX)
    assert xnnpack.verdict(analysis) == "sparse"
    assert xnnpack.kernels(analysis) == ("block", "block", "block")


def test_kernels_of_a_wrong_model(tmp_path: Path) -> None:
    analysis = analysed("depthwise stride 2 same", tmp_path)
    assert xnnpack.kernels(analysis) == ("dense", "miscomputes", "dense", "dense")


def test_an_operator_outside_xnnpack_splits_the_graph(tmp_path: Path) -> None:
    analysis = analysed("not delegated", tmp_path)
    assert len(analysis.partitions) == 2
    assert "L2_NORMALIZATION" in " ".join(map(str, analysis.delegation.refused.values()))
    kinds = [[node.kind for node in p.graph.nodes] for p in analysis.partitions]
    assert kinds == [["convolution", "fully-connected"], ["fully-connected", "reduce"]]


def test_the_hint_belongs_to_a_partition(tmp_path: Path) -> None:
    """The sparse-encoded weights are all behind the split: the first part gets no hint."""

    def build(p: Parts, x: Operand) -> None:
        x = p.pointwise(p.entry(x), encoding="dense")
        kept = p.net.mean(p.pointwise(x, encoding="dense"))
        x = p.net.operator("L2_NORMALIZATION", [x], x.shape, "L2NormOptions")
        p.net.output(kept, p.net.mean(p.pointwise(x)))

    analysis = analysed(Case("hint", build), tmp_path)
    assert [p.graph.sparse_hint for p in analysis.partitions] == [False, True]
    assert xnnpack.verdict(analysis) == "dense"


def test_a_convolution_without_bias_is_not_delegated(tmp_path: Path) -> None:
    net = Network((1, 8, 8, 3))
    weights = net.constant(np.ones((4, 1, 1, 3), np.float32))
    options = {"stride_h": 1, "stride_w": 1, "dilation_h_factor": 1, "dilation_w_factor": 1}
    shape = (1, 8, 8, 4)
    net.output(net.operator("CONV_2D", [net.input, weights], shape, "Conv2DOptions", options))
    analysis = xnnpack.analyse(Model(net.write(tmp_path / "bias.tflite")), *JS)
    assert analysis.delegation.refused == {0: Misfit("no-bias")}


def test_float16_weights_need_a_float16_bias(tmp_path: Path) -> None:
    """Since LiteRT bee71230e (2025-06) both are read as they are stored."""

    def build(p: Parts, x: Operand) -> None:
        weights = p.net.weights(p.random((4, 1, 1, 3), 3), dtype="float16")
        bias = p.net.constant(p.random((4,), 3))
        p.finish(p.net.conv2d(x, weights, bias))

    refused = analysed(Case("bias", build), tmp_path).delegation.refused
    assert Misfit("bias-type", ("float16", "float32")) in refused.values()
    assert not analysed(Case("bias", build), tmp_path, OLD_ARM).delegation.refused


@pytest.mark.parametrize("case", WRITTEN, ids=lambda case: case.name)
def test_zeros_stored_densely_are_never_sparse(case: Case, tmp_path: Path) -> None:
    analysis = xnnpack.analyse(Model(case.write(tmp_path, "dense")), *JS)
    assert xnnpack.verdict(analysis) == "dense"
    assert set(xnnpack.kernels(analysis)) <= {"dense"}


@pytest.mark.parametrize("case", WRITTEN, ids=lambda case: case.name)
def test_every_operator_is_executed_once(case: Case, tmp_path: Path) -> None:
    analysis = analysed(case, tmp_path)
    executed = set(analysis.order) | set(analysis.delegation.unpackers.values())
    weighted = {layer.operator for layer in analysis.model.layers}
    assert weighted <= executed


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model_1/re_lu_2/Relu6;model_1/conv2d_4/BiasAdd;model_1/conv2d_4/Conv2D", "conv2d_4"),
        ("net/depthwise_conv2d_1/depthwise", "depthwise_conv2d_1"),
        ("dense/MatMul", "dense"),
        ("constant_4", "constant_4"),
        ("MatMul", "MatMul"),
        ("", ""),
    ],
)
def test_short_names(name: str, expected: str) -> None:
    assert short(name) == expected
