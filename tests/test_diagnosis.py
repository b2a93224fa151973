"""Every finding on a model that has it and on one that just does not; lies; texts."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import numpy as np
import pytest

import conformance
from corpus import CASES, Case, Recipe
from defective import narrow_block, pooled_at_the_end, tanh, undensified
from pytest_sparsity import properties, prunable_layers, xnnpack
from pytest_sparsity.comparison import QUANTIZED_TOLERANCE, TOLERANCE, Comparison
from pytest_sparsity.diagnosis import (
    Diagnosis,
    Observation,
    Observer,
    check_outputs,
    costs,
    diagnose,
    explanation,
    layer_table,
    lines,
    observation,
    outputs,
    probes,
)
from pytest_sparsity.diagnosis.diagnosis import conclude, without_rules
from pytest_sparsity.diagnosis.outputs import COPY, comparisons
from pytest_sparsity.diagnosis.page import page
from pytest_sparsity.encoding import encode
from pytest_sparsity.errors import ModelError, NeedsInputs, TargetError, WrongOutputs
from pytest_sparsity.findings import CODES, TAKES, Finding
from pytest_sparsity.inputs import feed
from pytest_sparsity.model import Model
from pytest_sparsity.targets import Target, Worker, available_targets
from pytest_sparsity.transform import densify, replace_weights, shrink
from pytest_sparsity.transform.edit import Edit
from pytest_sparsity.writer import DType, Encoding, Network, Operand
from pytest_sparsity.writer.parts import Parts, linear
from pytest_sparsity.xnnpack.releases import gate_closed
from test_writer import with_a_resource

BY_NAME = {case.name: case for case in CASES}
JS, LITERT = Target.of("litert-js"), Target.of("litert")
OLD, TENSORFLOW = Target.of("tflite-runtime"), Target.of("tensorflow")
UNRULED = replace(JS, name="own", record=replace(JS.record, name="own", rules=""))
VERSIONS = {release.runtime: release.version for release in xnnpack.RELEASES}
RIGHT = Comparison(COPY, 1e-7, identical=False, finite=True, number=0)
SAME = replace(RIGHT, deviation=0.0, identical=True)


def model_of(network: str | Case | Network, folder: Path, name: str = "net") -> Model:
    if isinstance(network, str):
        network = BY_NAME[network]
    if isinstance(network, Case):
        return Model(network.write(folder))
    return Model(network.write(folder / f"{name}.tflite"))


def ruled(
    network: str | Case | Network | Model,
    folder: Path,
    target: Target = JS,
    *,
    arch: str = "wasm32",
    features: frozenset[str] = frozenset(),
    version: str | None = None,
    seen: Observation | None = None,
    dense: Model | None = None,
    threads: int = 1,
) -> Diagnosis:
    """A diagnosis for a target that need not be here, by rules and a scripted observation."""
    model = network if isinstance(network, Model) else model_of(network, folder)
    analysis = xnnpack.analyse(
        model, target.runtime, version or VERSIONS[target.runtime], arch, features
    )
    return conclude(analysis, target, seen, dense, threads)


def codes(diagnosis: Diagnosis) -> list[str]:
    return [finding.code for finding in diagnosis.findings]


def seen(verdict: str, *comparisons: Comparison, **fields: Any) -> Observation:
    fields = {"skips_zeros": True} | fields
    return Observation(verdict, comparisons=comparisons or (RIGHT,), **fields)


# ---------------------------------------------------------------------------------- networks


def pruned(share: float, *, encoding: Any = "sparse", channels: int = 100) -> Case:
    def build(p: Parts, x: Operand) -> None:
        p.finish(p.pointwise(p.pointwise(p.entry(x), channels, zeros=0.9), channels, zeros=share))

    return Case(f"pruned {share}", build, encoding=encoding)


def flat(share: float, *, encoding: Any = "sparse") -> Case:
    """Two layers with the same share of zeros."""

    def build(p: Parts, x: Operand) -> None:
        p.finish(p.pointwise(p.pointwise(p.entry(x), 100, zeros=share), 100, zeros=share))

    return Case(f"flat {share}", build, encoding=encoding)


def with_subnormals(count: int, folder: Path) -> Model:
    model = model_of(flat(0.8, encoding="dense"), folder)
    layer = model.layers[1]
    weights = model.weights(layer.tensor)
    weights.reshape(-1)[np.flatnonzero(weights)[:count]] = 1e-40
    return replace_weights(model, {layer.tensor: weights}, folder / "subnormal.tflite")


def multiplied(*factors: float) -> Network:
    """A layer whose weights are multiplied, column by column, when it runs."""
    net = Network((1, 4))
    weights = net.mul(net.constant(np.full((8, 4), 0.5, np.float32)), np.array(factors, np.float32))
    net.output(net.fully_connected(net.input, weights))
    return net


def undelegated() -> Network:
    net = Network((1, 4, 4, 3))
    net.output(net.operator("L2_NORMALIZATION", [net.input], (1, 4, 4, 3), "L2NormOptions"))
    return net


# ------------------------------------------------------------------------- one pair per finding

Pair = tuple[Callable[[Path], Diagnosis], Callable[[Path], Diagnosis]]


def both(has: Any, has_not: Any, *args: Any, **kwargs: Any) -> Pair:
    """The same question about two networks."""
    return (
        lambda folder: ruled(has, folder, *args, **kwargs),
        lambda folder: ruled(has_not, folder, *args, **kwargs),
    )


def differing(network: Any, has: dict[str, Any], has_not: dict[str, Any]) -> Pair:
    """Two questions about the same network."""
    return (
        lambda folder: ruled(network, folder, **has),
        lambda folder: ruled(network, folder, **has_not),
    )


def counterpart(change: Callable[[Model, Path], Model]) -> Pair:
    """A pruned model against its densely stored self, changed or not."""

    def diagnosis(folder: Path, *, changed: bool) -> Diagnosis:
        model = model_of("average", folder)
        dense = densify(model, folder / "dense.tflite")
        return ruled(model, folder, dense=change(dense, folder) if changed else dense)

    return (
        lambda folder: diagnosis(folder, changed=True),
        lambda folder: diagnosis(folder, changed=False),
    )


def between(channels: int, *, zeros: float = 0.0, encoding: Any = "dense") -> Case:
    """Two layers with so many channels between them."""

    def build(p: Parts, x: Operand) -> None:
        narrow = p.pointwise(p.entry(x), channels, zeros=zeros)
        p.finish(p.pointwise(narrow, 64, zeros=zeros))

    return Case(f"between {channels}", build, encoding=encoding)


def beside(channels: int) -> Callable[[Path], Diagnosis]:
    """A model of 96 channels, not pruned to zeros, against its counterpart of so many."""

    def diagnosis(folder: Path) -> Diagnosis:
        other = folder / "dense"
        other.mkdir(exist_ok=True)
        dense = model_of(between(channels), other)
        model = model_of(between(96), folder)
        return ruled(model, folder, dense=dense)

    return diagnosis


def one_weight(value: float | None) -> Callable[[Model, Path], Model]:
    """Change the first nonzero weight of the last layer, or with None give a zero one a value."""

    def change(dense: Model, folder: Path) -> Model:
        layer = dense.layers[-1]
        weights = dense.weights(layer.tensor)
        wanted = weights == 0 if value is None else weights != 0
        weights.reshape(-1)[np.flatnonzero(wanted)[0]] = 1.0 if value is None else value
        return replace_weights(dense, {layer.tensor: weights}, folder / "changed.tflite")

    return change


def ignoring(channels: int) -> Network:
    """Of 32 channels so many are read by nobody."""
    read = np.ones((4, 32), np.float32)
    read[:, :channels] = 0
    net = Network((1, 64))
    x = net.fully_connected(net.input, np.ones((32, 64), np.float32), activation="RELU")
    net.output(net.fully_connected(x, read))
    return net


def state(repeats: bool) -> Callable[[Path], Diagnosis]:
    """The converter writes fused LSTMs, the writer does not: a stand-in with a variable tensor."""

    def diagnosis(folder: Path) -> Diagnosis:
        model = SimpleNamespace(stateful=True, graphs=())
        found = costs.state(cast("Model", model), seen("dense", repeats=repeats))
        plain = ruled("average", folder)
        return replace(plain, findings=tuple(found))

    return diagnosis


def profiled(share: float) -> Callable[[Path], Diagnosis]:
    """A dense profile of LiteRT with this share of the time in the prunable layers."""

    def diagnosis(folder: Path) -> Diagnosis:
        model = model_of("average", folder)
        analysis = xnnpack.analyse(model, "litert", "2.3.0", "x86_64", frozenset({"avx"}))
        prunable = {layer.operator for layer in prunable_layers(model)}
        mine = sum(operator in prunable for operator in analysis.order)
        others = len(analysis.order) - mine
        profile = [
            ("operator", round(1e6 * (share / mine if op in prunable else (1 - share) / others)))
            for op in analysis.order
        ]
        observed = seen("dense", SAME, skips_zeros=False, profile=profile)
        return conclude(analysis, LITERT, observed, None, 1)

    return diagnosis


HERE = {"target": LITERT, "arch": "x86_64", "features": frozenset({"avx"})}
BARE = {"target": LITERT, "arch": "x86_64", "features": frozenset({"sse2"})}
PI = {"target": OLD, "arch": "aarch64", "features": frozenset({"asimd"})}
PI5 = {"target": OLD, "arch": "aarch64", "features": frozenset({"asimd", "asimdhp"})}
NEON = {"target": LITERT, "arch": "aarch64", "features": frozenset({"asimd"})}
SME = NEON | {"features": frozenset({"asimd", "sme"})}
SLIGHTLY = replace(RIGHT, deviation=2 * TOLERANCE)
JUST = replace(RIGHT, deviation=TOLERANCE)

PAIRS: dict[str, Pair] = {
    "rules-disagree": differing("average", {"seen": seen("dense", SAME)}, {"seen": seen("sparse")}),
    "probe-disagrees": differing(
        "average", {"seen": seen("sparse", skips_zeros=False)}, {"seen": seen("sparse")}
    ),
    "different-network": counterpart(lambda _, folder: model_of("residual", folder)),
    "weights-changed": counterpart(one_weight(0.123)),
    "weights-lost": counterpart(one_weight(None)),
    "does-not-load": differing(
        "average", {"seen": seen("fails", fault="no")}, {"seen": seen("sparse")}
    ),
    "crashes": differing(
        "average", {"seen": seen("fails", fault="no", crashed=True)}, {"seen": seen("fails")}
    ),
    "outputs-differ": differing(
        "average",
        {"seen": seen("miscomputes", SLIGHTLY)},
        {"seen": seen("sparse", JUST)},
    ),
    "op-version": both(linear(16, version=12), linear(16, version=11), OLD, arch="x86_64"),
    "dynamic-range-sparse": both(
        linear(16, dtype="int8", encoding="sparse"), linear(16, dtype="int8", encoding="dense")
    ),
    "int8-dense-sparse": both(
        linear(16, dtype="int8", encoding="sparse", int8=True),
        linear(16, dtype="int8", encoding="dense", int8=True),
    ),
    "fp16-blocks": both(
        linear(16, dtype="float16"), linear(16, dtype="float16", encoding="sparse")
    ),
    "blocks-delegated": both(
        linear(64, dtype="int8", encoding="block 1x16", version=12),
        linear(64, dtype="int8", encoding="block 1x16", version=8),
    ),
    "dropped-columns": both(narrow_block(9), narrow_block(8)),
    "ledger-overflow": both(
        linear(4096, dtype="int8", encoding="block 1x16", version=8, per_channel=False),
        linear(4080, dtype="int8", encoding="block 1x16", version=8, per_channel=False),
    ),
    "per-channel-blocks": both(
        linear(64, dtype="int8", encoding="block 1x16", version=8),
        linear(64, dtype="int8", encoding="block 1x16", version=8, per_channel=False),
        OLD,
        arch="x86_64",
    ),
    "no-densify": both(undensified(densify=False), undensified(densify=True)),
    "never-unpacked": both(tanh("float16"), tanh("float32")),
    "unwritten-output": both(
        pooled_at_the_end("relu"),
        pooled_at_the_end(),
    ),
    "wrong-layout": both("depthwise stride 2 same", "depthwise stride 2 padded"),
    "set-up-fails": both("pruned convolution head", "square convolution head"),
    "permuted-shape": both("keep dims softmax", "keep dims reshape linear"),
    "wrong-elsewhere": both("depthwise stride 2 same", "depthwise stride 2 padded", **HERE),
    "x86-avx": differing("average", HERE, BARE),
    "no-sparse-build": differing("average", HERE | {"target": OLD}, PI5),
    "needs-fp16": differing("average", PI, PI5),
    "delegate-off": both(undelegated(), "average"),
    "channels-removed": (beside(100), beside(96)),
    "not-stripped": both(multiplied(1, 0, 0, 0), multiplied(1, 2, 0, 0)),
    "computed-weights": both(multiplied(1, 2, 0, 0), multiplied(1, 0, 0, 0)),
    "nothing-prunable": both("entry only", "average"),
    "not-pruned": both(flat(0.04, encoding="dense"), flat(0.06, encoding="dense")),
    "not-encoded": both(flat(0.8, encoding="dense"), flat(0.8)),
    "quantized": both("int8", "fp16"),
    "scattered-zeros": both(linear(64, encoding="sparse"), linear(64)),
    "too-few-zeros": both("two thirds", "two thirds and one"),
    "entry": both("entry same padding", "entry"),
    "no-exit": both("flatten", "average"),
    "not-delegated": both("not delegated", "relu"),
    "incompatible-layer": both("max pool", "max pool 1x1"),
    "value-leaves": both("middle output", "two outputs"),
    "no-hint": both("blocks only", "second encoded"),
    "below-threshold": both(pruned(0.29, encoding="dense"), pruned(0.30, encoding="dense")),
    "file-larger": both(flat(0.1), flat(0.7)),
    "encoding-larger": both(pruned(0.19), pruned(0.35)),
    "dead-channels": both(ignoring(8), ignoring(7)),
    "other-layers": (profiled(0.5), profiled(0.8)),
    "subnormal-weights": (
        lambda folder: ruled(with_subnormals(3, folder), folder),
        lambda folder: ruled(with_subnormals(0, folder), folder),
    ),
    "sme": differing("average", SME, NEON),
    "threads": differing("average", PI5 | {"threads": 2}, PI5 | {"threads": 1}),
    "memory": both(
        linear(1000, units=256, encoding="sparse"), linear(900, units=256, encoding="sparse")
    ),
    "unaligned-channels": both(
        flat(0.04, encoding="dense"), pruned(0.04, encoding="dense", channels=96)
    ),
    "constant-output": differing(
        "average",
        {"seen": seen("dense", replace(SAME, constant=True))},
        {"seen": seen("dense", SAME)},
    ),
    "needs-inputs": differing(
        "average",
        {"seen": Observation("unknown", skips_zeros=True, fault="it does not take its inputs")},
        {"seen": seen("sparse")},
    ),
    "not-compared": differing(
        "average",
        {"seen": seen("sparse", not_compared="it draws random numbers")},
        {"seen": seen("sparse")},
    ),
    "output-shape": both("keep dims", "average"),
    "keeps-state": (state(repeats=False), state(repeats=True)),
    "rules-unverified": differing("average", {"version": "9.9"}, {}),
    "no-rules": (
        lambda folder: without_rules(model_of("average", folder), UNRULED, seen("sparse"), None),
        lambda folder: ruled("average", folder, seen=seen("sparse")),
    ),
}


@pytest.mark.parametrize("code", CODES)
def test_finding(code: str, tmp_path: Path) -> None:
    has, has_not = PAIRS[code]
    diagnosis = has(tmp_path)
    assert code in codes(diagnosis)
    assert code not in codes(has_not(tmp_path))
    finding = next(f for f in diagnosis.findings if f.code == code)
    assert finding.remedy
    assert finding.takes in TAKES
    assert not re.search("[{}]", finding.message + finding.remedy)
    assert not finding.message.endswith(".")
    assert finding.layer is None or 0 <= finding.layer < len(diagnosis.model.layers)


def test_every_code_has_a_pair_and_a_place() -> None:
    assert set(PAIRS) == set(CODES)
    assert len(set(CODES)) == len(CODES)


def test_the_page_explains_every_code() -> None:
    there = (Path(__file__).parents[1] / "docs" / "findings.md").read_text(encoding="utf-8")
    assert there == page(), "python -m pytest_sparsity.diagnosis.page docs/findings.md"
    assert tuple(re.findall(r"^### `([a-z0-9-]+)`$", there, re.MULTILINE)) == CODES
    sections = re.split(r"^### .*$", there, flags=re.MULTILINE)[1:]
    assert all(len(section.split()) > 20 for section in sections)


# -------------------------------------------------------------------------------------- figures


def test_a_layer_that_no_zeros_make_smaller_and_one_that_more_zeros_would(tmp_path: Path) -> None:
    """The break-even is that of `properties.break_even`, which is held to converted files."""

    def remedy(name: str, width: int, zeros: float) -> str:
        network = linear(width, units=64, zeros=zeros, encoding="sparse", dtype="int8")
        found = ruled(Model(network.write(tmp_path / f"{name}.tflite")), tmp_path).findings
        return next(f.remedy for f in found if f.code == "encoding-larger")

    assert remedy("small", 12, 0.5).startswith("leave this layer unpruned, or convert without")
    share = properties.break_even((64, 300), "int8")
    assert remedy("large", 300, 0.5).startswith(f"prune it to {share:.0%} or more, or convert")


@pytest.mark.parametrize("encoding", ["dense", "block 1x4"])
def test_zeros_in_blocks_are_not_called_scattered_however_they_are_stored(
    encoding: Encoding, tmp_path: Path
) -> None:
    weights = np.ones((8, 16), np.float32)
    weights[:, 4:] = 0
    network = Network((1, 16))
    network.output(network.fully_connected(network.input, weights, encoding=encoding))
    found = ruled(Model(network.write(tmp_path / "blocks.tflite")), tmp_path).findings
    codes = [finding.code for finding in found]
    assert "scattered-zeros" not in codes
    assert ("not-encoded" in codes) == (encoding == "dense")


def test_blocks_are_no_remedy_with_float16(tmp_path: Path) -> None:
    def remedy(dtype: DType) -> str:
        network = linear(64, dtype=dtype, encoding="sparse")
        found = ruled(Model(network.write(tmp_path / f"{dtype}.tflite")), tmp_path).findings
        return next(f.remedy for f in found if f.code == "scattered-zeros")

    assert remedy("float16") == f"{remedy('float32')}, without float16"


def test_too_few_zeros_counts_what_is_missing(tmp_path: Path) -> None:
    finding = next(f for f in ruled("two thirds", tmp_path).findings if f.code == "too-few-zeros")
    assert "192 of 288" in finding.message
    assert "set at least 1 more of them to zero" in finding.remedy


def told(diagnosis: Diagnosis, code: str) -> list[Finding]:
    return [finding for finding in diagnosis.findings if finding.code == code]


def test_a_padding_that_two_layers_read(tmp_path: Path) -> None:
    """It is there, so putting one there is no remedy: it only has to be two."""

    def build(p: Parts, x: Operand) -> None:
        padded = p.net.pad(p.pointwise(p.entry(x)), 1)
        one, other = (p.depthwise(padded, padding="VALID", stride=2) for _ in range(2))
        p.finish(p.pointwise(p.net.add(one, other)))

    where = {"target": LITERT, "arch": "aarch64"}
    (finding,) = told(ruled(Case("shared", build), tmp_path, **where), "incompatible-layer")  # type: ignore[arg-type]
    assert "is read by 2 layers, so it stays" in finding.message
    assert (finding.remedy, finding.takes) == (
        "run `pytest-sparsity repair`, or give each of these layers a padding of its own",
        "file",
    )


def test_a_network_without_a_global_pool_is_not_told_of_one(tmp_path: Path) -> None:
    def detector(pooled: bool) -> Case:
        def build(p: Parts, x: Operand) -> None:
            x = p.pointwise(p.entry(x))
            x = p.pointwise(p.net.div(x, p.pointwise(x)))
            p.net.output(p.net.mean(x) if pooled else p.net.depth_to_space(x, 2))

        return Case(f"detector {pooled}", build)

    def remedies(pooled: bool) -> list[str]:
        return [f.remedy for f in ruled(detector(pooled), tmp_path).findings]

    assert "replace it, or move it behind the global average pool" in remedies(pooled=True)
    remedy = "replace it by layers that have one"
    assert remedy in remedies(pooled=False)
    assert not any("behind" in said for said in remedies(pooled=False))


def test_nothing_is_said_where_nothing_could_be_gained(tmp_path: Path) -> None:
    """No AVX, no chain and no type of weights keeps a network without zeros from being faster."""
    unpruned = ruled(flat(0.0, encoding="dense"), tmp_path, **HERE)  # type: ignore[arg-type]
    assert set(codes(unpruned)) <= {"not-pruned", "unaligned-channels"}
    half = ruled(half_pruned(), tmp_path, LITERT, arch="aarch64")
    assert [f.layer for f in half.findings if f.code == "entry"] == [2]


def half_pruned() -> Case:
    """A chain without an entry whose first 1x1 layer has no zeros."""

    def build(p: Parts, x: Operand) -> None:
        x = p.conv(x, 8, 3, stride=1, padding="SAME")
        p.finish(p.pointwise(p.pointwise(x, 16, zeros=0.0), 16, zeros=0.9))

    return Case("half pruned", build)


def test_channels_of_outputs_are_not_to_be_cut(tmp_path: Path) -> None:
    """Neither classes nor boxes: whatever stands between the layer and the output."""

    def ends(activation: Any) -> Network:
        net = Network((1, 64))
        x = net.fully_connected(net.input, np.ones((70, 64), np.float32), activation="RELU")
        x = net.fully_connected(x, np.ones((1404, 70), np.float32), activation=activation)
        net.output(net.softmax(x))
        return net

    (finding,) = told(ruled(ends("NONE"), tmp_path), "unaligned-channels")
    assert finding.layer == 0
    assert ", in 1 layer: the first is " in finding.message


def test_dead_channels_are_counted_in_bytes_of_the_shrunk_file(tmp_path: Path) -> None:
    diagnosis = ruled(ignoring(9), tmp_path)
    (finding,) = told(diagnosis, "dead-channels")
    shrunk = shrink(diagnosis.model, tmp_path / "shrunk.tflite")
    saved = diagnosis.model.nbytes - shrunk.model.nbytes
    assert finding.message.startswith(
        "no output depends on 8 channels of 1 layer, the first 'fully_connected_"
    )
    assert f"the file has {saved:,} bytes less ({saved / diagnosis.model.nbytes:.1%})" in (
        finding.message
    )
    plain = without_rules(diagnosis.model, UNRULED, seen("sparse"), None)
    assert finding in plain.findings


def test_the_last_layer_of_a_chain_has_its_reason(tmp_path: Path) -> None:
    """As the head of MobileNetV3: behind an average that keeps its dimensions, before a RESHAPE."""

    def build(p: Parts, x: Operand) -> None:
        x = p.net.mean(p.pointwise(p.entry(x)), (1, 2), keep_dims=True)
        x = p.pointwise(p.net.unary(p.pointwise(x), "HARD_SWISH"))
        p.net.output(p.net.reshape(x, (1, x.shape[3])))

    diagnosis = ruled(Case("head", build), tmp_path)
    last = diagnosis.model.layers[-1].index
    assert diagnosis.kernels[last] == "dense"
    (finding,) = [f for f in diagnosis.findings if f.layer == last]
    assert finding.code == "incompatible-layer"
    assert "the sparse chain ends with it, before RESHAPE" in finding.message


def test_the_ceiling_has_a_margin(tmp_path: Path) -> None:
    (finding,) = told(profiled(0.5)(tmp_path), "other-layers")
    assert finding.message.endswith("at most about 2.00 times as fast, give or take 5%")


def test_a_chain_without_exit_may_end_with_depth_to_space(tmp_path: Path) -> None:
    (finding,) = told(ruled("flatten", tmp_path), "no-exit")
    assert "depth_to_space" in finding.remedy


def test_speed_limit_is_amdahls(tmp_path: Path) -> None:
    (finding,) = [f for f in profiled(0.5)(tmp_path).findings if f.code == "other-layers"]
    assert "50%" in finding.message
    assert "2.00 times" in finding.message


def test_kernels_for_blocks_use_a_thread_per_row_of_the_batch(tmp_path: Path) -> None:
    def told(threads: int, **network: Any) -> list[str]:
        diagnosis = ruled(linear(64, **network), tmp_path, LITERT, arch="x86_64", threads=threads)
        return [f.message for f in diagnosis.findings if f.code == "threads"]

    assert told(1) == told(2, encoding="dense") == told(3, batch=3) == told(2, batch=3) == []
    [message] = told(2)
    assert message.endswith("uses 1 of 2, and dense kernels use all")
    [message] = told(3, batch=2)
    assert message.endswith("uses 2 of 3, and dense kernels use all")
    int8: dict[str, Any] = {"dtype": "int8", "encoding": "block 1x16", "int8": True}
    [message] = told(2, batch=3, **int8)
    assert message.endswith("uses 1 of 2, and dense kernels use all")


def test_a_network_in_the_wrappers_of_pruning_is_told_so() -> None:
    """What the converter makes of it: variables, multiplied by masks and assigned."""
    model = Model(Path(__file__).parent / "data" / "wrapped.tflite")
    diagnosis = diagnose(model, "litert")
    assert (diagnosis.verdict, diagnosis.outputs_match) == ("dense", True)
    assert diagnosis.cause is not None
    assert diagnosis.cause.code == "not-stripped"
    assert "2 layers" in diagnosis.cause.message
    assert "79.8% of the masks are zero" in diagnosis.cause.message
    assert "strip_pruning" in diagnosis.cause.remedy
    assert "nothing-prunable" not in codes(diagnosis)


def test_weights_that_the_inputs_change_are_not_called_computed(tmp_path: Path) -> None:
    """In a product of two activations, as of attention, neither is a layer's weights."""
    net = Network((4, 4))
    other = net.mul(net.input, np.ones(4, np.float32))
    net.output(net.operator("BATCH_MATMUL", [net.input, other], (4, 4), "BatchMatMulOptions", {}))
    assert model_of(net, tmp_path).computed_weights == ()


def test_a_short_profile_says_nothing(tmp_path: Path) -> None:
    model = model_of("average", tmp_path)
    analysis = xnnpack.analyse(model, "litert", "2.3.0", "x86_64", frozenset({"avx"}))
    assert costs.pointwise_share(analysis, [("operator", 1000)] * len(analysis.order)) is None
    assert costs.pointwise_share(analysis, [("operator", 10**6)]) is None
    assert costs.pointwise_share(analysis, None) is None


def test_subnormals_that_are_flushed_are_no_finding(tmp_path: Path) -> None:
    model = with_subnormals(3, tmp_path)
    flushed = seen("dense", SAME, flushes=True, flush_deviation=0.0)
    kept = seen("dense", SAME, flushes=False, flush_deviation=1e-39)
    assert "subnormal-weights" not in codes(ruled(model, tmp_path, seen=flushed))
    (finding,) = [
        f for f in ruled(model, tmp_path, seen=kept).findings if f.code == "subnormal-weights"
    ]
    assert finding.message.startswith("3 of 800 weights")
    assert "1e-39" in finding.message


# -------------------------------------------------------------------------- verdict and evidence


def test_rules_alone(tmp_path: Path) -> None:
    diagnosis = ruled("average", tmp_path)
    assert (diagnosis.verdict, diagnosis.evidence) == ("sparse", "rules")
    assert diagnosis.outputs_match is None
    assert np.isnan(diagnosis.deviation)
    assert diagnosis.findings == ()


def test_observation_decides_and_the_disagreement_comes_first(tmp_path: Path) -> None:
    diagnosis = ruled("average", tmp_path, seen=seen("dense", SAME))
    assert diagnosis.verdict == "dense"
    assert set(diagnosis.kernels) == {"dense"}
    assert codes(diagnosis)[0] == "rules-disagree"
    assert "'sparse'" in diagnosis.findings[0].message
    assert "'dense'" in diagnosis.headline


def test_a_profile_that_disagrees_about_one_layer(tmp_path: Path) -> None:
    model = model_of("average", tmp_path)
    analysis = xnnpack.analyse(model, "litert", "2.3.0", "aarch64", frozenset())
    pointwise = [layer.operator for layer in prunable_layers(model)]
    names = ["SPMM" if op in pointwise else "IGEMM" for op in analysis.order]
    right = seen("sparse", profile=[(name, 1000) for name in names])
    assert "rules-disagree" not in codes(conclude(analysis, LITERT, right, None, 1))
    names[analysis.order.index(pointwise[-1])] = "GEMM"
    wrong = seen("sparse", profile=[(name, 1000) for name in names])
    diagnosis = conclude(analysis, LITERT, wrong, None, 1)
    assert diagnosis.findings[0].code == "rules-disagree"
    assert diagnosis.findings[0].layer == model.layers[-1].index
    assert diagnosis.kernels == ("dense", "sparse", "dense")


def test_a_crash_agrees_with_a_model_that_does_not_load(tmp_path: Path) -> None:
    """What the rules say fails to be set up may as well end the process."""
    crashed = seen("fails", fault="no", crashed=True)
    for network, agrees in (("pruned convolution head", True), ("average", False)):
        diagnosis = ruled(network, tmp_path, LITERT, arch="aarch64", seen=crashed)
        assert ("rules-disagree" in codes(diagnosis)) != agrees


def test_a_profile_does_not_clear_a_layer_that_computes_wrongly(tmp_path: Path) -> None:
    """Its kernel is a sparse one, and the profile names it so."""
    model = model_of("depthwise stride 2 same", tmp_path)
    analysis = xnnpack.analyse(model, "litert", "2.3.0", "aarch64", frozenset())
    ruled_wrong = xnnpack.kernels(analysis).index("miscomputes")
    profile = [("Convolution (NCHW, F32) SPMM", 1000)] * len(analysis.order)
    wrong = seen("miscomputes", SLIGHTLY, profile=profile)
    assert conclude(analysis, LITERT, wrong, None, 1).kernels[ruled_wrong] == ("miscomputes")


def test_dead_outputs_decide_nothing(tmp_path: Path) -> None:
    """Also on a real target: after a ReLU with a large negative bias all is zero."""
    dead = seen("dense", replace(SAME, constant=True))
    diagnosis = ruled("average", tmp_path, seen=dead)
    assert (diagnosis.verdict, codes(diagnosis)) == ("sparse", ["constant-output"])
    net = Network((1, 8))
    weights, bias = np.ones((4, 8), np.float32), np.full(4, -1e5, np.float32)
    net.output(net.fully_connected(net.input, weights, bias, activation="RELU"))
    with Observer(Target.of("litert")) as observer:
        assert observer.observe(model_of(net, tmp_path)).constant
        assert not observer.observe(model_of("average", tmp_path)).constant


def test_blocks_may_answer_bit_for_bit(tmp_path: Path) -> None:
    same = seen("dense", SAME, skips_zeros=False)
    diagnosis = ruled(linear(64), tmp_path, seen=same, **HERE)  # type: ignore[arg-type]
    assert diagnosis.verdict == "sparse"
    assert diagnosis.findings == ()


def test_a_crash_is_how_garbage_may_show(tmp_path: Path) -> None:
    crash = seen("fails", crashed=True, fault="ended with SIGSEGV")
    wrong = ruled("keep dims softmax", tmp_path, seen=crash)
    assert wrong.verdict == "miscomputes"
    assert "rules-disagree" not in codes(wrong)
    right = ruled("average", tmp_path, seen=crash)
    assert right.verdict == "fails"
    assert codes(right)[:2] == ["rules-disagree", "crashes"]


def test_a_crash_is_how_a_failure_may_show(tmp_path: Path) -> None:
    """The rules say that the model does not load; the runtime ends over it."""
    crash = seen("fails", crashed=True, fault="ended with SIGSEGV")
    fails = ruled(linear(16, version=12), tmp_path, OLD, arch="x86_64", seen=crash)
    assert ruled(linear(16, version=12), tmp_path, OLD, arch="x86_64").verdict == "fails"
    assert "rules-disagree" not in codes(fails)


def test_a_profile_does_not_hide_a_layer_that_computes_wrong_outputs(tmp_path: Path) -> None:
    """The kernel that runs is a sparse one; that its input has another layout it does not tell."""
    model = model_of("depthwise stride 2 same", tmp_path)
    analysis = xnnpack.analyse(model, "litert", VERSIONS["litert"], "x86_64", frozenset({"sse2"}))
    profile = [("SPMM", 1000)] * len(analysis.order)
    observed = seen("miscomputes", SLIGHTLY, profile=profile)
    diagnosis = conclude(analysis, LITERT, observed, None, 1)
    assert "miscomputes" in xnnpack.kernels(analysis)
    assert "miscomputes" in diagnosis.kernels


def test_what_does_not_load_densely_either_contradicts_nothing(tmp_path: Path) -> None:
    other = seen("fails", fault="no such operator", unrelated=True)
    diagnosis = ruled("average", tmp_path, seen=other)
    assert (diagnosis.verdict, codes(diagnosis)) == ("fails", ["does-not-load"])
    net = Network((1, 8))
    net.output(net.operator("ABS", [net.input], (1, 8), version=99))
    with Observer(Target.of("litert")) as observer:
        assert observer.observe(model_of(net, tmp_path)).unrelated
        assert not observer.observe(model_of("dynamic range", tmp_path)).unrelated


def test_a_profile_without_xnnpack(tmp_path: Path) -> None:
    profile = [("CONV_2D", 1000), ("MEAN", 1000)]
    off = seen("dense", SAME, skips_zeros=False, profile=profile)
    assert "delegate-off" in codes(ruled("average", tmp_path, seen=off, **HERE))  # type: ignore[arg-type]
    on = replace(off, profile=[("Convolution (NHWC, F32) IGEMM", 1000), ("MEAN", 1000)])
    assert "delegate-off" not in codes(ruled("average", tmp_path, seen=on, **HERE))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (linear(16, dtype="int8", encoding="sparse"), "fails"),
        (linear(16, dtype="int8", encoding="sparse", int8=True), "fails"),
        (linear(16, dtype="float16"), "miscomputes"),
        (linear(64, dtype="int8", encoding="block 1x16", version=12), "miscomputes"),
        (narrow_block(9), "miscomputes"),
        (
            linear(4096, dtype="int8", encoding="block 1x16", version=8, per_channel=False),
            "miscomputes",
        ),
    ],
)
def test_defects_of_the_converter(network: Network, expected: str, tmp_path: Path) -> None:
    """Seen with TensorFlow 2.21 as converter in ai-edge-litert 2.3.0."""
    assert ruled(network, tmp_path, LITERT, arch="x86_64").verdict == expected


def test_defects_of_the_old_runtime(tmp_path: Path) -> None:
    """Seen in tflite-runtime 2.14.0 with files of TensorFlow 2.21."""
    zeros = linear(64, dtype="int8", encoding="block 1x16", version=8)
    unknown = linear(64, dtype="int8", encoding="dense", version=12)
    assert ruled(zeros, tmp_path, OLD, arch="x86_64").verdict == "miscomputes"
    assert ruled(unknown, tmp_path, OLD, arch="x86_64").verdict == "fails"


def test_int8_dense_layers_load_in_tensorflow(tmp_path: Path) -> None:
    network = linear(16, dtype="int8", encoding="sparse", int8=True)
    assert ruled(network, tmp_path, TENSORFLOW, arch="x86_64").verdict == "dense"


# ------------------------------------------------------------------------------------- on targets


def target_with_sparse_kernels() -> str:
    if not any(target.name == "litert-js" for target in available_targets()):
        pytest.skip("litert-js is not available: python -m pip install 'pytest-sparsity[js]'")
    return "litert-js"


def test_observed_on_this_machine(tmp_path: Path) -> None:
    diagnosis = diagnose(BY_NAME["residual"].write(tmp_path), "litert")
    assert diagnosis.evidence == "observed"
    assert diagnosis.outputs_match is True
    assert diagnosis.deviation < TOLERANCE
    assert "rules-disagree" not in codes(diagnosis)
    assert "probe-disagrees" not in codes(diagnosis)


def test_observed_where_there_are_sparse_kernels(tmp_path: Path) -> None:
    with Observer(Target.of(target_with_sparse_kernels())) as observer:
        verdicts = {
            name: diagnose(BY_NAME[name].write(tmp_path), observer.target, observer=observer)
            for name in ("residual", "two thirds", "depthwise stride 2 same")
        }
    assert [d.verdict for d in verdicts.values()] == ["sparse", "dense", "miscomputes"]
    assert [d.outputs_match for d in verdicts.values()] == [True, True, False]
    assert verdicts["depthwise stride 2 same"].deviation > 0.1


def test_probes_of_this_machine() -> None:
    target = Target.of("litert")
    with target.open() as worker:
        gate = gate_closed(xnnpack.newest("litert"), target.arch, target.features)
        assert probes.skips_zeros(target, worker) == (not gate)
        assert probes.flushes_subnormals(target, worker)


def test_probes_of_web_assembly() -> None:
    """Sparse kernels on any CPU, and no way to flush subnormals."""
    target = Target.of(target_with_sparse_kernels())
    assert probes.skips_zeros(target)
    assert not probes.flushes_subnormals(target)


def test_the_probe_qualifies_for_sparse_kernels(tmp_path: Path) -> None:
    path = tmp_path / "probe.tflite"
    path.write_bytes(probes.zero_skip_model())
    assert ruled(Model(path), tmp_path).kernels == ("dense", "sparse", "sparse")


def test_a_worker_that_crashed_is_replaced(tmp_path: Path) -> None:
    with Observer(Target.of("litert")) as observer:
        first = observer.worker
        broken = observer.observe(model_of("dynamic range", tmp_path))
        assert broken.verdict == "fails"
        assert observer.observe(model_of("average", tmp_path)).verdict == "dense"
        assert observer.worker is not first


@pytest.mark.parametrize("tainted", [True, False])
def test_a_worker_is_replaced_after_wrong_outputs_where_they_taint_it(
    tainted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observation, "_verdict", lambda *_: "miscomputes")
    target = replace(LITERT, record=replace(LITERT.record, tainted=tainted))
    with Observer(target) as observer:
        first = observer.worker
        observer.observe(model_of("average", tmp_path), profile=False)
        assert (observer.worker is not first) == tainted


def test_subnormals_are_observed(tmp_path: Path) -> None:
    with Observer(Target.of("litert")) as observer:
        observed = observer.observe(with_subnormals(3, tmp_path))
    assert observed.flushes is True
    assert observed.flush_deviation == 0.0


# ----------------------------------------------------------------------------------- planted lies


def test_metadata_says_sparse_but_the_tensor_is_dense(tmp_path: Path) -> None:
    net = Network((1, 4, 4, 16))
    dense = Parts("dense").random((8, 1, 1, 16), 16, 0.8)
    _, sparsity = encode(dense)
    weights = net.densify(net.constant(dense, shape=dense.shape, sparsity=sparsity))
    net.output(net.conv2d(net.input, weights))
    with pytest.raises(ModelError, match=r"lie\.tflite: .*128 values are stored"):
        diagnose(net.write(tmp_path / "lie.tflite"), observe=False)


def test_sparse_encoded_weights_without_a_zero(tmp_path: Path) -> None:
    def build(p: Parts, x: Operand) -> None:
        weights = p.net.weights(p.random((16, 1, 1, 8), 8), encoding="sparse")
        p.finish(p.net.conv2d(p.entry(x), weights))

    diagnosis = ruled(Case("full", build), tmp_path)
    assert diagnosis.verdict == "dense"
    assert {"not-pruned", "encoding-larger", "file-larger"} <= set(codes(diagnosis))


def test_one_weight_changed(tmp_path: Path) -> None:
    diagnosis = PAIRS["weights-changed"][0](tmp_path)
    assert diagnosis.verdict == "miscomputes"
    assert diagnosis.findings[0].message.startswith("1 of 256 weights of CONV_2D")


@pytest.mark.parametrize(
    ("verdict", "kernels", "said"),
    [
        ("sparse", {"unknown"}, "net.tflite on own runs sparse kernels"),
        ("dense", {"dense"}, "net.tflite on own runs no sparse kernel: no rules of sparse "),
        ("miscomputes", {"dense"}, "net.tflite on own computes wrong outputs: "),
        ("fails", {"dense"}, "net.tflite on own does not run: out of memory"),
    ],
)
def test_without_rules_what_is_seen_decides(
    verdict: str, kernels: set[str], said: str, tmp_path: Path
) -> None:
    model = model_of(BY_NAME["average"], tmp_path)
    model = Model(model.path.rename(tmp_path / "net.tflite"))
    observed = seen(verdict, fault="out of memory")
    diagnosis = without_rules(model, UNRULED, observed, None)
    assert (diagnosis.verdict, diagnosis.evidence) == (verdict, "observed")
    assert set(diagnosis.kernels) == kernels
    assert diagnosis.headline.startswith(said)
    assert diagnosis.outputs_match == (verdict in {"sparse", "dense"})


def test_without_rules_weights_are_compared_too(tmp_path: Path) -> None:
    model = model_of("average", tmp_path)
    dense = densify(model, tmp_path / "dense.tflite")
    changed = one_weight(0.123)(dense, tmp_path)
    verdicts = [
        without_rules(model, UNRULED, seen("sparse"), other).verdict
        for other in (None, dense, changed)
    ]
    assert verdicts == ["sparse", "sparse", "miscomputes"]


def test_a_target_without_rules_is_observed(tmp_path: Path) -> None:
    """LiteRT.js under another name: its sparse kernels are seen, and nothing is said of layers."""
    missing = JS.missing()
    if missing is not None:
        pytest.skip(str(missing))
    diagnosis = diagnose(model_of("average", tmp_path), UNRULED)
    assert (diagnosis.verdict, diagnosis.outputs_match) == ("sparse", True)
    assert set(diagnosis.kernels) == {"unknown"}


def test_a_sparse_file_of_another_network(tmp_path: Path) -> None:
    diagnosis = PAIRS["different-network"][0](tmp_path)
    assert codes(diagnosis)[0] == "different-network"
    assert diagnosis.findings[0].message.endswith("3 layers instead of 5")


def test_another_network_is_no_reason_for_dense_kernels(tmp_path: Path) -> None:
    """Files of two conversions differ in a layer, and stay dense for the reason they had before."""
    model, other = model_of("average", tmp_path), model_of("residual", tmp_path)
    diagnosis = ruled(model, tmp_path, dense=other, **HERE)  # type: ignore[arg-type]
    assert codes(diagnosis)[:2] == ["different-network", "x86-avx"]
    headline, remedy, following, *_ = lines(diagnosis)
    assert headline.endswith(
        "runs no sparse kernel: this CPU has AVX, so XNNPACK keeps its dense kernels"
    )
    assert remedy.startswith("    -> claim speed on litert-js")
    assert following.startswith("  different-network: ")
    alone = replace(diagnosis, findings=diagnosis.findings[:1])
    assert alone.headline.endswith("runs no sparse kernel")


def test_removed_channels_need_no_zeros(tmp_path: Path) -> None:
    assert codes(beside(100)(tmp_path)) == ["channels-removed"]
    assert codes(beside(96)(tmp_path)) == ["not-pruned"]


def test_smaller_kernels_and_fewer_classes_are_other_networks(tmp_path: Path) -> None:
    def network(name: str, *, size: int, classes: int) -> Model:
        net, rng = Network((1, 8, 8, 4)), np.random.default_rng(0)
        x = net.conv2d(net.input, rng.random((8, size, size, 4), np.float32), padding="SAME")
        net.output(net.fully_connected(net.mean(x), rng.random((classes, 8), np.float32)))
        return Model(net.write(tmp_path / f"{name}.tflite"))

    dense = network("dense", size=3, classes=10)
    for name, options in {"kernel": {"size": 1}, "classes": {"classes": 5}}.items():
        model = network(name, **({"size": 3, "classes": 10} | options))
        assert codes(ruled(model, tmp_path, dense=dense))[0] == "different-network"


def test_another_width_with_zeros_is_another_network(tmp_path: Path) -> None:
    (tmp_path / "dense").mkdir()
    wide = model_of(between(100), tmp_path / "dense")
    narrow = model_of(between(96, zeros=0.8, encoding="sparse"), tmp_path)
    assert codes(ruled(narrow, tmp_path, dense=wide))[0] == "different-network"


def test_a_trained_counterpart_is_no_lie(tmp_path: Path) -> None:
    """Pruning goes on training: the weights that are left differ from the dense model's."""
    model, dense = model_of(flat(0.8), tmp_path), model_of(flat(0.0, encoding="dense"), tmp_path)
    assert codes(ruled(model, tmp_path, dense=dense)) == []


def test_a_target_whose_probe_answers_against_its_gate(tmp_path: Path) -> None:
    avx = ruled("average", tmp_path, seen=seen("sparse", skips_zeros=True), **HERE)  # type: ignore[arg-type]
    assert codes(avx)[:2] == ["rules-disagree", "probe-disagrees"]
    assert "should have no sparse kernels" in avx.findings[1].message
    bare = ruled("average", tmp_path, seen=seen("dense", SAME, skips_zeros=False))
    assert codes(bare)[:2] == ["rules-disagree", "probe-disagrees"]
    assert "does not skip zeros" in bare.findings[1].message


# -------------------------------------------------------------------------------- outputs for races


def test_right_answers(tmp_path: Path) -> None:
    check_outputs(model_of("residual", tmp_path), "litert")


def test_wrong_answers(tmp_path: Path) -> None:
    target = target_with_sparse_kernels()
    model = model_of("depthwise stride 2 same", tmp_path)
    for _ in range(2):  # The second time from memory.
        with pytest.raises(WrongOutputs, match=r"stored densely by [0-9.]+ .*more than 0\.0001"):
            check_outputs(model, target)


def deaf(folder: Path) -> Model:
    """A network that sparse kernels get wrong, whose last weights are all zero."""
    model = model_of("depthwise stride 2 same", folder)
    last = model.layers[-1]
    stored = model.stored(model.graph.tensors[last.tensor].buffer)
    edit = Edit(model)
    edit.store([(0, last.tensor)], np.zeros_like(stored))
    return edit.write(folder / "deaf.tflite")


def test_outputs_that_hide_what_the_rules_say_are_wrong(tmp_path: Path) -> None:
    """No speed of a network that answers the same to everything, and wrongly by the rules."""
    target, model = target_with_sparse_kernels(), deaf(tmp_path)
    for _ in range(2):  # The second time from memory.
        with pytest.raises(WrongOutputs, match=r"the rules of sparse.*same for all"):
            check_outputs(model, target)
    assert diagnose(model, target).verdict == "miscomputes"
    assert check_outputs(model, "litert") == "", "nobody runs sparse kernels there"


def test_what_inputs_do_not_show_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("relu", tmp_path)
    given = feed(model).arrays(0)[0]
    assert check_outputs(model, "litert", inputs=given) == ""
    monkeypatch.setattr(xnnpack, "verdict", lambda _: "miscomputes")
    said = check_outputs(model, "litert", inputs=given)
    assert said.startswith("the rules of sparse inference say that its outputs are wrong here")
    assert said.endswith("do not show")


def test_answers_are_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("swish", tmp_path)
    check_outputs(model, "litert")
    monkeypatch.setattr(Target, "open", lambda *_args, **_kw: pytest.fail("asked again"))
    check_outputs(model, "litert")


def test_lost_columns_are_wrong_answers(tmp_path: Path) -> None:
    with pytest.raises(WrongOutputs, match="lost its last columns, since 9 is no multiple"):
        check_outputs(model_of(narrow_block(9), tmp_path), "litert")


def test_one_target_does_not_vouch_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same runtime on another CPU is another target."""
    model, asked = model_of("relu", tmp_path), []

    def refuse(target: Target, **_: object) -> NoReturn:
        asked.append(target.name)
        raise TargetError("asked again")

    check_outputs(model, "litert")
    version = LITERT.version()
    monkeypatch.setattr(Target, "open", refuse)
    monkeypatch.setattr(Target, "version", lambda _: version)
    check_outputs(model, "litert")
    with pytest.raises(TargetError, match="asked again"):
        check_outputs(model, "litert@cortex-a53")
    assert asked == ["litert@cortex-a53"]


def test_inputs_of_the_users_are_run_every_time(tmp_path: Path) -> None:
    model, asked = model_of("relu", tmp_path), []

    def inputs(number: int) -> Any:
        asked.append(number)
        return np.full(model.graph.tensors[model.graph.inputs[0]].shape, number, np.float32)

    for _ in range(2):
        asked.clear()
        check_outputs(model, "litert", inputs=inputs)
        assert set(asked) >= {0, 1}  # a slow machine takes two sets


def test_varying_values() -> None:
    def values(*values: float) -> list[Any]:
        return [np.array(values)]

    assert outputs.varying([values(1, 2, 3), values(1, 2, 3)]) == 0
    assert outputs.varying([values(1, 2, 3), values(1, 2, 4)]) == 2
    assert outputs.varying([values(1, 1, 1), values(1, 2, 2), values(1, 1, 2)]) == 1
    assert outputs.varying([[*values(1), *values(5)], [*values(2), *values(5)]]) == 2
    assert outputs.varying([values(1, 2, 3)]) == 3
    assert outputs.varying([values(1, 1, 1)]) == 1


def test_a_model_with_few_outputs_gets_more_inputs(tmp_path: Path) -> None:
    """For three inputs this model's sparse and dense kernels agree in its only output."""
    with Observer(Target.of(target_with_sparse_kernels())) as observer:
        observed = observer.observe(model_of("mean of everything", tmp_path))
    assert observed.verdict == "sparse"
    assert not observed.comparisons[0].identical


# ----------------------------------------------------------------- what cannot be compared, and why


def table_lookup(folder: Path, *, rows: int = 10) -> Model:
    """A model that adds one to its input, which is a place in a table of ten all the same."""
    net = Network((1, 4), cast("Any", "int32"))
    table = net.constant(np.random.default_rng(0).random((rows, 3), np.float32))
    size = net.constant(np.array(100, np.int32))
    hidden = net.operator("MUL", [net.input, size], (1, 4), "MulOptions", {})
    net.output(net.operator("GATHER", [table, hidden], (1, 4, 3), "GatherOptions", {}, version=1))
    return Model(net.write(folder / "lookup.tflite"))


def test_a_failure_on_inputs_that_were_drawn_says_nothing_of_the_model(tmp_path: Path) -> None:
    model = table_lookup(tmp_path)
    diagnosis = diagnose(model, "litert")
    assert (diagnosis.outputs_match, diagnosis.evidence) == (None, "rules")
    assert diagnosis.verdict == "dense"
    assert "needs-inputs" in codes(diagnosis)
    with pytest.raises(NeedsInputs, match=r"lookup\.tflite does not take the inputs.*--inputs"):
        check_outputs(model, "litert")


def test_inputs_that_are_given_are_the_models_own(tmp_path: Path) -> None:
    model = table_lookup(tmp_path)
    good, bad = np.zeros((1, 4), np.int32), np.ones((1, 4), np.int32)
    assert diagnose(model, "litert", inputs=good).outputs_match is True
    assert diagnose(model, "litert", inputs=good).inputs == "input_0 1x4"
    diagnosis = diagnose(model, "litert", inputs=bad)
    assert diagnosis.verdict == "fails"
    with pytest.raises(TargetError, match="gather index out of bounds"):
        check_outputs(model, "litert", inputs=bad)


HERE_NATIVE = ("litert", "litert-js", "tflite-runtime", "tensorflow")


def test_an_operator_that_a_target_lacks_is_not_the_inputs_fault(tmp_path: Path) -> None:
    """LiteRT.js loads such a model, and says so when it runs; the same of a constant index."""
    here = [name for name in HERE_NATIVE if Target.of(name).available]
    broken = {"Mystery": conformance.custom, "gather index": conformance.constant_id}
    for target, (word, build) in product(here, broken.items()):
        diagnosis = diagnose(build(tmp_path), target)
        assert diagnosis.verdict == "fails"
        assert word in diagnosis.findings[0].message
        assert not {"needs-inputs", "rules-disagree"} & set(codes(diagnosis))


@pytest.mark.skipif(not JS.available, reason="LiteRT.js is missing")
def test_a_model_that_runs_once_only_is_not_the_inputs_fault(tmp_path: Path) -> None:
    """LiteRT.js 2.5.3 invokes a model with an output that nothing computes but once."""
    net = Network((1, 8))
    options = ("ShapeOptions", {"out_type": 2})
    shape = net.operator("SHAPE", [net.input], (2,), *options, dtype="int32", version=1)
    net.output(net.fully_connected(net.input, np.eye(8, dtype=np.float32)), shape)
    diagnosis = diagnose(net.write(tmp_path / "shape.tflite"), "litert-js")
    assert (diagnosis.verdict, codes(diagnosis)[0]) == ("fails", "crashes")
    assert not {"needs-inputs", "rules-disagree"} & set(codes(diagnosis))


def drawing(folder: Path) -> Model:
    net = Network((1, 4))
    shape = net.constant(np.array([1, 4], np.int32))
    drawn = net.operator(
        "RANDOM_UNIFORM", [shape], (1, 4), "RandomOptions", dtype="float32", version=1
    )
    net.output(net.add(net.input, drawn))
    return Model(net.write(folder / "drawing.tflite"))


def test_random_outputs_are_not_wrong_ones(tmp_path: Path) -> None:
    diagnosis = diagnose(drawing(tmp_path), "litert")
    assert (diagnosis.verdict, diagnosis.outputs_match) == ("dense", None)
    finding = next(f for f in diagnosis.findings if f.code == "not-compared")
    assert "draws random numbers" in finding.message
    check_outputs(drawing(tmp_path), "litert")


def test_a_target_without_other_kernels_compares_a_dense_model_with_nothing(
    tmp_path: Path,
) -> None:
    model = densify(model_of("average", tmp_path), tmp_path / "dense.tflite")
    with_others = diagnose(model, "litert")
    assert with_others.outputs_match is True
    if JS.available:
        alone = diagnose(model, "litert-js")
        assert (alone.verdict, alone.outputs_match) == ("dense", None)
        assert np.isnan(alone.deviation)
        assert "not-compared" in codes(alone)


def test_a_model_that_answers_to_other_inputs_only_is_not_constant(tmp_path: Path) -> None:
    """Behind the threshold of 3 nothing of [0, 1) is left."""
    net = Network((1, 40))
    high = net.sub(net.input, np.full((40,), 3, np.float32), activation="RELU")
    net.output(net.fully_connected(high, np.eye(40, dtype=np.float32)))
    diagnosis = diagnose(net.write(tmp_path / "high.tflite"), "litert")
    assert "constant-output" not in codes(diagnosis)


class Listening:
    """A worker of a model that answers 0 until it has seen several inputs, then what it saw."""

    def __init__(self, deaf: int) -> None:
        self.deaf = deaf
        self.loaded: dict[str, int] = {}

    def load(self, key: str, model: Model, *, shapes: Any, kernels: str = "default") -> None:
        assert model.stateful
        assert shapes == feed(model).shapes
        assert kernels in ("default", "builtin", "reference")
        self.loaded[key] = 0

    def set_inputs(self, key: str, arrays: Any) -> None:
        assert key in self.loaded
        self.heard = arrays[0].sum(keepdims=True)

    def outputs(self, key: str) -> list[Any]:
        self.loaded[key] += 1
        return [self.heard * (self.loaded[key] > self.deaf)]

    def unload(self, key: str) -> None:
        del self.loaded[key]


@pytest.mark.parametrize(("deaf", "constant"), [(0, False), (30, False), (1000, True)])
def test_a_streaming_model_is_listened_to_for_a_while(
    tmp_path: Path, deaf: int, constant: bool
) -> None:
    """Published wake words answer 0 to the first pieces of any sound."""
    model = Model(with_a_resource(assigned=True).write(tmp_path / "stream.tflite"))
    worker = Listening(deaf)
    compared = outputs.comparisons(cast("Any", worker), feed(model), tmp_path)
    assert compared.comparisons[0].constant is constant
    assert not worker.loaded


def test_a_streaming_model_is_no_lstm(tmp_path: Path) -> None:
    model = Model(with_a_resource(assigned=True).write(tmp_path / "stream.tflite"))
    [found] = costs.state(model, seen("dense", repeats=False))
    assert found.message.startswith("the model, by ASSIGN_VARIABLE, keeps a state")
    assert "LSTM" not in found.remedy


def test_a_model_of_one_set_of_inputs_is_not_called_constant(tmp_path: Path) -> None:
    net = Network((1, 4))
    net.output(net.mul(net.input, np.zeros((4,), np.float32)))
    model = Model(net.write(tmp_path / "zero.tflite"))
    assert "constant-output" in codes(diagnose(model, "litert"))
    one = diagnose(model, "litert", inputs=np.ones((1, 4), np.float32))
    assert "constant-output" not in codes(one)


def test_what_the_inputs_cannot_tell_is_said(tmp_path: Path) -> None:
    diagnosis = ruled("depthwise stride 2 same", tmp_path, seen=seen("sparse", inputs="x 1x2"))
    finding = next(f for f in diagnosis.findings if f.code == "rules-disagree")
    assert "the inputs (x 1x2, drawn) may not tell" in finding.message
    assert "--inputs" in finding.remedy


# ----------------------------------------------------------------------------------------- texts


def test_lines_are_few_and_the_most_important_first(tmp_path: Path) -> None:
    diagnosis = ruled("int8", tmp_path, **HERE)  # type: ignore[arg-type]
    assert len(diagnosis.findings) == 5
    first = diagnosis.findings[0]
    said = lines(diagnosis, limit=6)
    # The headline has the first message, so only its remedy follows; the third pair has no room.
    assert said[:2] == [diagnosis.headline, f"    -> {first.remedy} [conversion]"]
    assert said[2:] == [
        f"  {diagnosis.findings[1].code}: {diagnosis.findings[1].message}",
        f"    -> {diagnosis.findings[1].remedy} [{diagnosis.findings[1].takes}]",
        "... and 3 more findings",
    ]
    assert len(lines(diagnosis, limit=100)) == 2 * len(diagnosis.findings)
    assert lines(diagnosis, limit=1) == [diagnosis.headline]


def test_explanation_has_every_layer_and_finding(tmp_path: Path) -> None:
    diagnosis = ruled("depthwise stride 2 same", tmp_path)
    said = "\n".join(explanation(diagnosis))
    assert all(finding.message in said and finding.remedy in said for finding in diagnosis.findings)
    table = layer_table(diagnosis)
    assert len(table) == len(diagnosis.model.layers) + 1
    assert table[2].split()[:6] == ["1", "CONV_2D", "16x1x1x8", "79.7%", "sparse", "miscomputes"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("average", "runs sparse kernels in 2 of 2 pruned layers"),
        ("two thirds", "runs no sparse kernel: "),
        ("depthwise stride 2 same", "computes wrong outputs: "),
    ],
)
def test_headline(name: str, expected: str, tmp_path: Path) -> None:
    assert expected in ruled(name, tmp_path).headline


def test_the_headline_counts_all_that_is_pruned(tmp_path: Path) -> None:
    """Zeros in the entry and in depthwise layers are of no use to sparse kernels."""

    def build(p: Parts, x: Operand) -> None:
        x = p.conv(p.net.pad(x, 1), 8, 3, stride=2, padding="VALID", zeros=0.9)
        p.finish(p.pointwise(p.pointwise(x)))

    headline = ruled(Case("pruned entry", build), tmp_path).headline
    assert headline.endswith("in 2 of 3 pruned layers: the others are no 1x1 convolutions")


def test_layers_without_news_are_left_out(tmp_path: Path) -> None:
    def build(p: Parts, x: Operand) -> None:
        x = p.entry(x)
        for zeros in (0.0, 0.0, 0.0, 0.9, 0.0):
            x = p.pointwise(x, 16, zeros=zeros)
        p.net.output(x)

    diagnosis = ruled(Case("news", build), tmp_path)
    assert len(layer_table(diagnosis)) == 7
    _, *rows = layer_table(diagnosis, news=True)
    assert [row.split()[0] for row in rows] == ["...", "4", "5"]
    assert rows[0].split(maxsplit=1)[1] == "4 layers without zeros"


def test_a_deep_network_has_the_first_layers_below_a_failure(tmp_path: Path) -> None:
    def build(p: Parts, x: Operand) -> None:
        x = p.entry(x)
        for _ in range(30):
            x = p.pointwise(x, 16, zeros=0.9)
        p.net.output(x)

    diagnosis = ruled(Case("deep", build), tmp_path)
    assert len(layer_table(diagnosis)) == 32
    table = layer_table(diagnosis, news=True)
    assert len(table) == 22
    name = diagnosis.model.path.name
    assert table[-1] == f"...    11 more rows: pytest-sparsity explain {name} --target litert-js"


def test_json_contract(tmp_path: Path) -> None:
    diagnosis = ruled("depthwise stride 2 same", tmp_path)
    made = json.loads(json.dumps(diagnosis.as_json()))
    assert list(made) == [
        "model", "nbytes", "sparsity", "target", "verdict", "evidence", "layers", "findings",
    ]  # fmt: skip
    assert list(made["layers"][0]) == [
        "index", "op", "name", "shape", "sparsity", "encoding", "kernel",
    ]  # fmt: skip
    assert list(made["findings"][0]) == ["code", "message", "layer", "remedy", "takes"]
    assert made["target"] == "litert-js"


def test_a_large_model_is_explained_in_two_seconds(tmp_path: Path) -> None:
    """100 MB without observation: 0.2 s of CPU time where this was written."""
    net = Network((1, 5000))
    weights = np.zeros((5000, 5000), np.float32)
    weights[::3] = 1.0
    net.output(net.fully_connected(net.input, weights))
    path = net.write(tmp_path / "large.tflite")
    assert path.stat().st_size > 100e6
    start = time.process_time()
    diagnosis = diagnose(path, "litert", observe=False)
    explanation(diagnosis)
    assert time.process_time() - start < 2


def test_recipes_are_the_same_every_time(tmp_path: Path) -> None:
    recipe = Recipe("entry", ("residual",), "average", seed=3)
    first, second = (recipe.case().network().to_bytes() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("name", "tolerance"), [("int8", QUANTIZED_TOLERANCE), ("average", TOLERANCE)]
)
def test_only_quantized_models_may_be_a_step_off(
    name: str, tolerance: float, tmp_path: Path
) -> None:
    model = model_of(name, tmp_path)
    with Target.of("litert").open() as worker:
        found = comparisons(worker, feed(model), tmp_path).comparisons
    assert {comparison.tolerance for comparison in found} == {tolerance}
    a_step = replace(found[0], deviation=1 / 127)
    assert a_step.right == (name == "int8")
    assert not replace(found[0], deviation=0.1).right


def test_a_model_that_only_the_profiler_refuses_does_not_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise TargetError("litert: LiteRtCreateModelFromFile returned status 5")

    monkeypatch.setattr(Worker, "profile", refuse)
    diagnosis = diagnose(model_of("average", tmp_path), "litert")
    assert diagnosis.verdict in {"dense", "sparse"}
    assert diagnosis.evidence == "observed"
