"""Findings about speed and memory that have nothing to do with which layers are sparse."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pytest_sparsity.findings import Finding
from pytest_sparsity.xnnpack.names import layer_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_sparsity.diagnosis.observation import Observation, Profile
    from pytest_sparsity.model import Layer, Model
    from pytest_sparsity.xnnpack import Analysis

MEMORY_FROM = 1_000_000
"""Bytes of unpacked weights from which memory is worth a word."""
PROFILE_FROM = 200_000
"""Nanoseconds that a profile must sum up to: LiteRT counts whole microseconds per operator."""
SHARE_ENOUGH = 0.75
"""Share of the time in 1x1 convolutions from which the other layers are no reason: a speedup of 4
is left to hope for."""
ALIGNED = 8
"""Output channels that dense kernels compute at once at least; a remainder costs a whole step.
With AVX-512 the step is 32: 33 channels took 2.1 times as long as 32, 49 only 1.03 times as long as
48 (LiteRT 2.3, docs/what-people-ask.md)."""


def findings(
    analysis: Analysis, kernels: tuple[str, ...], seen: Observation | None, threads: int
) -> list[Finding]:
    """All findings about costs."""
    model = analysis.model
    return [
        *_memory(model),
        *_subnormals(analysis, seen),
        *_alignment(model, kernels),
        *state(model, seen),
        *_threads(analysis, kernels, threads),
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
    prunable = {x.operator for x in analysis.model.layers if x.prunable and x.graph == 0}
    mine = sum(
        ns
        for operator, (_, ns) in zip(analysis.order, profile, strict=True)
        if operator in prunable
    )
    return mine / sum(ns for _, ns in profile)


def profiled_kernels(analysis: Analysis, profile: Profile | None) -> tuple[str, ...] | None:
    """Per layer "sparse" or "dense", by the names of the kernels that ran; None without a profile.

    XNNPACK's sparse kernels are those named SPMM.
    """
    if profile is None or len(profile) != len(analysis.order):
        return None
    names = zip(analysis.order, profile, strict=True)
    sparse = {operator for operator, (name, _) in names if "SPMM" in name}
    return tuple(
        "sparse" if layer.graph == 0 and layer.operator in sparse else "dense"
        for layer in analysis.model.layers
    )


def other_layers(share: float | None, runtime: str) -> Iterator[Finding]:
    """Amdahl's law: the largest speedup that faster 1x1 layers can bring."""
    if share is not None and share < SHARE_ENOUGH:
        yield Finding(
            "other-layers",
            f"the prunable layers take {share:.0%} of the time with dense kernels (profile of "
            f"{runtime} on this machine), so pruning them cannot make the model more than "
            f"{1 / (1 - share):.2f} times as fast",
            None,
            "claim less, or shrink the other layers (entry, depthwise, regular convolutions)",
        )


def _memory(model: Model) -> Iterator[Finding]:
    encoded = [layer for layer in model.layers if layer.encoding == "sparse"]
    sizes = {"float32": 4, "float16": 2}
    unpacked = sum(layer.parameters * sizes.get(layer.dtype, 1) for layer in encoded)
    if unpacked < MEMORY_FROM:
        return
    saved = unpacked - sum(layer.nbytes for layer in encoded)
    smaller = f"{saved / 1e6:.1f} MB smaller" if saved > 0 else "no smaller"
    yield Finding(
        "memory",
        f"the runtime unpacks the sparse-encoded weights into {unpacked / 1e6:.1f} MB of memory "
        f"while the model is loaded; the file is {smaller} for it",
        None,
        "claim the size of the file, not of memory, where dense weights stay in the mapped file",
    )


def _subnormals(analysis: Analysis, seen: Observation | None) -> Iterator[Finding]:
    flushes = seen is not None and bool(seen.flushes)
    taken = analysis.delegation.taken
    for layer in analysis.model.layers:
        inside = layer.graph == 0 and layer.operator in taken
        if not layer.subnormals or (flushes and inside):
            continue
        who = "its kernel" if not inside else f"{analysis.release.runtime}"
        yield Finding(
            "subnormal-weights",
            f"{layer.subnormals} of {layer.parameters} weights of {layer_name(layer)} are "
            f"subnormal, and {who} does not take them for zero: arithmetic with them is slow"
            f"{_flushed(seen)}",
            layer.index,
            "set them to zero before converting: w[abs(w) < 1.2e-38] = 0",
        )


def _flushed(seen: Observation | None) -> str:
    if seen is None or seen.flush_deviation is None:
        return ""
    return f"; with zeros instead the outputs change by {seen.flush_deviation:.1g}"


def _alignment(model: Model, kernels: tuple[str, ...]) -> Iterator[Finding]:
    odd: list[Layer] = []
    for layer, kernel in zip(model.layers, kernels, strict=True):
        weighted = layer.op in {"CONV_2D", "FULLY_CONNECTED"}
        channels = layer.shape[0] if weighted else 0
        if kernel == "dense" and channels > 2 * ALIGNED and channels % ALIGNED:
            odd.append(layer)
    if odd:
        channels = odd[0].shape[0]
        lower = channels - channels % ALIGNED
        yield Finding(
            "unaligned-channels",
            f"{len(odd)} layers have output channels off a multiple of {ALIGNED}, the first "
            f"{layer_name(odd[0])} with {channels}, which cost as much as {lower + ALIGNED}",
            odd[0].index,
            f"remove channels in steps of 8, better 16: {lower} instead of {channels}",
        )


def state(model: Model, seen: Observation | None) -> Iterator[Finding]:
    """A model that does not answer the same twice."""
    if not model.stateful:
        return
    if seen is not None and seen.repeats:
        return
    yield Finding(
        "keeps-state",
        "a fused LSTM keeps its state from one inference to the next, so the same input gives "
        "other outputs the second time",
        None,
        "convert with LSTM(unroll=True), or use a fresh interpreter per sequence",
    )


def _threads(analysis: Analysis, kernels: tuple[str, ...], threads: int) -> Iterator[Finding]:
    if threads > 1 and analysis.release.runtime == "tflite-runtime":
        yield Finding(
            "threads",
            f"tflite-runtime gets slower with {threads} threads on small models (13 to 21 us for "
            f"a 3-layer MLP with 2)",
            None,
            "claim with threads=1",
        )
    graph = analysis.model.graph
    for layer, kernel in zip(analysis.model.layers, kernels, strict=True):
        if kernel != "block" or layer.graph != 0:
            continue
        # TensorFlow 2.21, kernels/internal/optimized/sparse_ops/fully_connected.h
        rows = prod(graph.tensors[graph.operators[layer.operator].outputs[0]].shape[:-1])
        used = 1 if layer.dtype == "int8" else rows
        if 0 < used < threads:
            yield Finding(
                "threads",
                f"TFLite's kernels for blocks give a thread whole rows of the batch, so "
                f"{layer_name(layer)} uses {used} of {threads}, and dense kernels use all",
                layer.index,
                "claim with threads=1, or less than with one thread",
            )
            return
