"""Findings about speed and memory that have nothing to do with which layers are sparse."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pytest_sparsity import transform
from pytest_sparsity.findings import Finding, Remedy, finding
from pytest_sparsity.logs import is_sparse
from pytest_sparsity.wording import counted
from pytest_sparsity.xnnpack import prunable_layers
from pytest_sparsity.xnnpack.delegate import WEIGHTED
from pytest_sparsity.xnnpack.names import layer_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_sparsity.diagnosis.observation import Observation, Profile
    from pytest_sparsity.model import Graph, Layer, Model
    from pytest_sparsity.xnnpack import Analysis

MEMORY_FROM = 1_000_000
"""Bytes of unpacked weights from which memory is worth a word."""
PROFILE_FROM = 200_000
"""Nanoseconds that a profile must sum up to: LiteRT counts whole microseconds per operator."""
SHARE_ENOUGH = 0.75
"""Share of the time in 1x1 convolutions from which the other layers are no reason: a speedup of 4
is left to hope for."""
CEILING_MARGIN = 0.05
"""How far a race may come out above the ceiling of Amdahl's law, relatively: a profile names whole
microseconds per operator, and the operators beside the layers get faster too when these need less
memory."""
FEWER_THREADS = Remedy("claim with threads=1, or less than with one thread", "runtime")
UNROLL = Remedy(
    "convert with LSTM(unroll=True), or use a fresh interpreter per sequence", "conversion"
)
ALIGNED = 8
"""Output channels that dense kernels compute at once at least; a remainder costs a whole step.
With AVX-512 the step is 32: 33 channels took 2.1 times as long as 32, 49 only 1.03 times as long as
48 (LiteRT 2.3, docs/what-people-ask.md)."""


def findings(
    analysis: Analysis,
    kernels: tuple[str, ...],
    seen: Observation | None,
    threads: int,
) -> list[Finding]:
    """All findings about costs."""
    model = analysis.model
    return [
        *dead_channels(model),
        *_memory(model),
        *_subnormals(analysis, seen),
        *_alignment(model, kernels),
        *state(model, seen),
        *_threads(analysis, kernels, threads),
        *_sme(analysis, kernels),
    ]


def pointwise_share(analysis: Analysis, profile: Profile | None) -> float | None:
    """Share of a profile's time spent in prunable layers; None if it is too short to tell.

    Args:
        analysis: of the model on the target that was profiled.
        profile: its operators in order of execution, with nanoseconds.
    """
    if profile is None or len(profile) != len(analysis.order):
        return None
    if sum(ns for _, ns in profile) < PROFILE_FROM:
        return None
    prunable = {x.operator for x in prunable_layers(analysis.model) if x.graph == 0}
    mine = sum(
        ns
        for operator, (_, ns) in zip(analysis.order, profile, strict=True)
        if operator in prunable
    )
    return mine / sum(ns for _, ns in profile)


def profiled_kernels(analysis: Analysis, profile: Profile | None) -> tuple[str, ...] | None:
    """Per layer "sparse" or "dense", by the kernels that ran; None without a profile."""
    if profile is None or len(profile) != len(analysis.order):
        return None
    names = zip(analysis.order, profile, strict=True)
    sparse = {operator for operator, (name, _) in names if is_sparse(name)}
    return tuple(
        "sparse" if layer.graph == 0 and layer.operator in sparse else "dense"
        for layer in analysis.model.layers
    )


def layer_times(analysis: Analysis, profile: Profile | None) -> tuple[int, ...]:
    """Per layer the nanoseconds of its operator; empty without a profile.

    0 outside the main graph, and for the second and later weights of one operator.
    """
    if profile is None or len(profile) != len(analysis.order):
        return ()
    times: dict[int, int] = {}
    for operator, (_, ns) in zip(analysis.order, profile, strict=True):
        times[operator] = times.get(operator, 0) + ns
    return tuple(
        times.pop(layer.operator, 0) if layer.graph == 0 else 0 for layer in analysis.model.layers
    )


def other_layers(share: float | None, runtime: str) -> Iterator[Finding]:
    """Amdahl's law: the largest speedup that faster 1x1 layers can bring."""
    if share is not None and share < SHARE_ENOUGH:
        yield finding(
            "other-layers",
            target=runtime,
            share=share,
            limit=1 / (1 - share),
            margin=CEILING_MARGIN,
        )


def dead_channels(model: Model) -> Iterator[Finding]:
    """Channels that change no output, which `transform.shrink` removes."""
    dead = transform.dead_channels(model)
    if dead:
        saved = model.nbytes - transform.shrunk_nbytes(model)
        yield finding(
            "dead-channels",
            channels=counted(sum(layer.before - layer.after for layer in dead), "channel"),
            layers=counted(len(dead), "layer"),
            first=repr(dead[0].name),
            saved=saved,
            share=saved / model.nbytes,
        )


def _memory(model: Model) -> Iterator[Finding]:
    encoded = [layer for layer in model.layers if layer.encoding == "sparse"]
    sizes = {"float32": 4, "float16": 2}
    unpacked = sum(layer.parameters * sizes.get(layer.dtype, 1) for layer in encoded)
    if unpacked < MEMORY_FROM:
        return
    saved = unpacked - sum(layer.nbytes for layer in encoded)
    smaller = f"{saved / 1e6:.1f} MB smaller" if saved > 0 else "no smaller"
    yield finding("memory", megabytes=unpacked / 1e6, smaller=smaller)


def _subnormals(analysis: Analysis, seen: Observation | None) -> Iterator[Finding]:
    flushes = seen is not None and bool(seen.flushes)
    taken = analysis.delegation.taken
    for layer in analysis.model.layers:
        inside = layer.graph == 0 and layer.operator in taken
        if not layer.subnormals or (flushes and inside):
            continue
        who = "its kernel" if not inside else f"{analysis.release.runtime}"
        yield finding(
            "subnormal-weights",
            layer.index,
            count=layer.subnormals,
            parameters=layer.parameters,
            layer_name=layer_name(layer),
            who=who,
            flushed=_flushed(seen),
        )


def _flushed(seen: Observation | None) -> str:
    if seen is None or seen.flush_deviation is None:
        return ""
    return f"; with zeros instead the outputs change by {seen.flush_deviation:.1g}"


def _alignment(model: Model, kernels: tuple[str, ...]) -> Iterator[Finding]:
    outward = _outward(model.graph)
    odd: list[Layer] = []
    for layer, kernel in zip(model.layers, kernels, strict=True):
        if layer.op not in {"CONV_2D", "FULLY_CONNECTED"} or layer.operator in outward:
            continue
        if kernel == "dense" and layer.shape[0] > 2 * ALIGNED and layer.shape[0] % ALIGNED:
            odd.append(layer)
    if odd:
        channels = odd[0].shape[0]
        lower = channels - channels % ALIGNED
        yield finding(
            "unaligned-channels",
            odd[0].index,
            layers=counted(len(odd), "layer"),
            step=ALIGNED,
            layer_name=layer_name(odd[0]),
            channels=channels,
            lower=lower,
            rounded=lower + ALIGNED,
        )


def _outward(graph: Graph) -> set[int]:
    """Operators whose channels are seen outside: nothing with weights stands between."""
    writers = {output: operator for operator in graph.operators for output in operator.outputs}
    waiting, found = list(graph.outputs), set[int]()
    while waiting:
        operator = writers.get(waiting.pop())
        if operator is None or operator.index in found:
            continue
        found.add(operator.index)
        if operator.op not in WEIGHTED:
            waiting += operator.inputs
    return found


def state(model: Model, seen: Observation | None) -> Iterator[Finding]:
    """A model that gives other outputs the second time."""
    if not model.stateful:
        return
    if seen is not None and seen.repeats:
        return
    operators = {operator.op for graph in model.graphs for operator in graph.operators}
    if "ASSIGN_VARIABLE" in operators:
        yield finding("keeps-state", keeper="the model, by ASSIGN_VARIABLE,")
    else:
        yield finding("keeps-state", keeper="a fused LSTM", remedy=UNROLL)


def _sme(analysis: Analysis, kernels: tuple[str, ...]) -> Iterator[Finding]:
    """Sparse kernels of NEON in place of dense ones of SME."""
    if analysis.sme and "sparse" in kernels:
        yield finding("sme")


def _threads(analysis: Analysis, kernels: tuple[str, ...], threads: int) -> Iterator[Finding]:
    release = analysis.release
    if threads > 1 and release.slow_threads:
        cause = (
            f"{release.runtime} gets slower with {threads} threads on small models "
            f"({release.slow_threads})"
        )
        yield finding("threads", cause=cause)
    graph = analysis.model.graph
    for layer, kernel in zip(analysis.model.layers, kernels, strict=True):
        if kernel != "block" or layer.graph != 0:
            continue
        # TensorFlow 2.21, kernels/internal/optimized/sparse_ops/fully_connected.h
        rows = prod(graph.tensors[graph.operators[layer.operator].outputs[0]].shape[:-1])
        used = 1 if layer.dtype == "int8" else rows
        if 0 < used < threads:
            cause = (
                f"TFLite's kernels for blocks give a thread whole rows of the batch, so "
                f"{layer_name(layer)} uses {used} of {threads}, and dense kernels use all"
            )
            yield finding("threads", layer.index, cause=cause, remedy=FEWER_THREADS)
            return
