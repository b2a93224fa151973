"""What a file promises: its zeros are encoded, without loss, and as small as they should be."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_sparsity.model import Model
from pytest_sparsity.model.operator_releases import is_custom, release_of
from pytest_sparsity.properties.common import named
from pytest_sparsity.properties.sizes import (
    MIN_SPARSITY,
    VALUE_BYTES,
    gzip_nbytes,
    predicted_nbytes,
    sparse_nbytes,
)
from pytest_sparsity.transform.sparse_encoding import AROUND

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from pytest_sparsity.model import Layer, Operator
    from pytest_sparsity.properties.common import ModelLike

    Array = NDArray[Any]

ENCODED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
"""Operators whose weights the converter stores sparsely (dense_to_sparse_pass.cc)."""

SPARSIFY = "convert with tf.lite.Optimize.EXPERIMENTAL_SPARSITY"


def zeros_are_encoded(sparse: ModelLike) -> None:
    """Every layer whose zeros the converter stores sparsely is stored so, and there is one.

    Beside such layers, small ones that this would make larger may be stored densely, as
    `transform.encode` leaves them.

    Raises:
        AssertionError: a layer with at least 30 % zeros is stored densely, or all are.
    """
    model = Model.of(sparse)
    for layer in model.layers:
        expected = layer.op in ENCODED and len(layer.shape) in (2, 4)
        if model.encoded and not _pays(layer):
            continue
        if expected and layer.encoding == "dense" and layer.sparsity >= MIN_SPARSITY:
            raise AssertionError(
                f"{named(model, layer)} stores its {layer.sparsity:.1%} zeros densely; {SPARSIFY}"
            )
    if not model.encoded:
        raise AssertionError(
            f"{model.path.name} holds no sparse-encoded weights at all; prune at least"
            f" {MIN_SPARSITY:.0%} of a layer, and {SPARSIFY}"
        )


def _pays(layer: Layer) -> bool:
    """Whether a densely stored layer becomes smaller with its zeros stored sparsely."""
    if layer.dtype not in VALUE_BYTES:
        return False
    stored = round((1 - layer.sparsity) * layer.parameters)
    return sparse_nbytes(layer.shape, stored, layer.dtype) + AROUND < layer.nbytes


def decodes_to_the_same(pruned: ModelLike, sparse: ModelLike) -> None:
    """The sparsely stored weights decode to the bits of the densely stored ones; -0.0 counts as 0.

    Raises:
        AssertionError: a weight differs, or the two hold different layers.
    """
    import numpy as np

    pruned, sparse = Model.of(pruned), Model.of(sparse)
    for one, other in _same_layers(pruned, sparse):
        dense, decoded = (
            pruned.weights(one.tensor, one.graph),
            sparse.weights(other.tensor, other.graph),
        )
        differ = _bits(dense) != _bits(decoded)
        lost = np.count_nonzero(differ & (decoded == 0))
        if differ.any():
            remedy = "compare the two files of one conversion"
            if other.encoding.startswith("block"):
                remedy = (
                    f"make its {other.shape[-1]} inputs a multiple of the block, which drops"
                    " what is left over, or leave the layer out of pruning"
                )
            raise AssertionError(
                f"{named(sparse, other)}, stored as {other.encoding!r}, decodes to other weights"
                f" than {pruned.path.name} holds: {np.count_nonzero(differ)} of {differ.size}"
                f" differ, {lost} of them are lost; {remedy}"
            )


def blocks_divide_the_inputs(sparse: ModelLike) -> None:
    """The inputs of every layer stored in blocks are a multiple of the block.

    The converter drops the weights that are left over, without a word.

    Raises:
        AssertionError: those of a layer are not.
    """
    model = Model.of(sparse)
    for layer in model.layers:
        if layer.encoding.startswith("block"):
            size = int(layer.encoding.rpartition("x")[2])
            rest = layer.shape[-1] % size
            if rest:
                raise AssertionError(
                    f"{named(model, layer)} is stored as {layer.encoding!r} with {layer.shape[-1]}"
                    f" inputs: the weights of the last {rest} are not in the file; make the inputs"
                    f" a multiple of {size}, or leave the layer out of pruning"
                )


def size_as_predicted(pruned: ModelLike, sparse: ModelLike, *, within: float = 0.01) -> None:
    """The file is as large as its zeros, shapes and types say.

    Args:
        pruned: the file with the same weights stored densely.
        sparse: the file with weights stored sparsely.
        within: the relative error allowed.

    Raises:
        AssertionError: it is smaller or larger by more.
    """
    pruned, sparse = Model.of(pruned), Model.of(sparse)
    list(_same_layers(pruned, sparse))
    expected = predicted_nbytes(pruned, sparse)
    if abs(sparse.nbytes - expected) > within * expected:
        raise AssertionError(
            f"{sparse.path.name} has {sparse.nbytes} bytes, {sparse.nbytes / expected - 1:+.1%}"
            f" from the {expected} that its zeros, shapes and types say; compare it with the dense"
            " file of the same conversion, and look for weights that one of them lacks"
        )


def size_falls_with_sparsity(models: Sequence[ModelLike]) -> None:
    """Of several files of one network, those with more zeros are no larger.

    It need not be so below the break-even (`break_even`), where an encoding costs more than
    it saves.

    Args:
        models: two or more files, in any order.

    Raises:
        AssertionError: one with more zeros is larger.
    """
    if len(models) < 2:
        raise ValueError("a size falls from one file to the next: there must be at least two")
    ordered = sorted(map(Model.of, models), key=lambda model: model.sparsity)
    for fewer, more in pairwise(ordered):
        if more.nbytes > fewer.nbytes:
            raise AssertionError(
                f"{more.path.name} with {more.sparsity:.1%} zeros has {more.nbytes} bytes, more"
                f" than {fewer.path.name} with {fewer.sparsity:.1%} and {fewer.nbytes}; leave"
                " weights dense below the break-even (properties.break_even says where it is)"
            )


def compresses_to(model: ModelLike, dense: ModelLike, share: float) -> None:
    """After gzip the file is at most a share of what the dense one is after gzip.

    Args:
        model: the pruned model, in any encoding.
        dense: the model it is compared with.
        share: between 0 and 1.

    Raises:
        AssertionError: it is larger.
    """
    model, dense = Model.of(model), Model.of(dense)
    ours, theirs = gzip_nbytes(model), gzip_nbytes(dense)
    if ours > share * theirs:
        raise AssertionError(
            f"{model.path.name} has {ours} bytes after gzip, {ours / theirs:.3f} of the {theirs} of"
            f" {dense.path.name}, not {share:g}; see that its zeros are exact and none is -0.0"
            " (properties.no_negative_zeros), and prune more"
        )


def runs_since(model: ModelLike, version: str) -> None:
    """The file needs no newer TensorFlow Lite than a version such as `"2.14.0"`.

    What it needs is told by the versions of its operators, and by what the converter noted in the
    file if that is newer: converters of 2020 and before noted 1.5.0 for what needs 1.14.0, and
    others noted nothing.

    Raises:
        AssertionError: it needs a newer one, or has operators for which that cannot be told.
    """
    model = Model.of(model)
    needed, untold = _needed(model)
    if untold:
        raise AssertionError(
            f"{model.path.name} {untold}, so no version of TensorFlow Lite can be told from the"
            " file: run it on the target (properties.runs)"
        )
    if _release(needed) > _release(version):
        why = "its converter noted that"
        for operator in _operators(model):
            if release_of(operator.op, operator.version) == needed:
                why = f"for example {operator.op} is of version {operator.version}"
        raise AssertionError(
            f"{model.path.name} needs TensorFlow Lite {needed}, not {version}: {why}; with dynamic"
            " range quantization set"
            " converter._experimental_disable_per_channel_quantization_for_dense_layers = True"
        )


def minimum_runtime(model: ModelLike) -> str:
    """The version of TensorFlow Lite that `runs_since` compares; empty if it cannot be told."""
    needed, untold = _needed(Model.of(model))
    return "" if untold else needed


def _needed(model: Model) -> tuple[str, str]:
    """The least release for all operators, and why it cannot be told, or ""."""
    operators = list(_operators(model))
    custom = sorted({operator.op for operator in operators if is_custom(operator.op)})
    if custom:
        return "", f"has operators that are no part of TensorFlow Lite ({', '.join(custom)})"
    releases = [_noted(model)]
    for operator in operators:
        release = release_of(operator.op, operator.version)
        if release is None:
            return "", (
                f"has {operator.op} in version {operator.version}, which TensorFlow Lite's list of"
                " versions does not have"
            )
        releases.append(release)
    return max(releases, key=_release), ""


def _operators(model: Model) -> Iterator[Operator]:
    return (operator for graph in model.graphs for operator in graph.operators)


def _noted(model: Model) -> str:
    """The version that the converter noted in the file; empty if none."""
    root = model.flatbuffer().root
    for entry in root["metadata"]:
        if entry["name"] == b"min_runtime_version":
            stored = root["buffers"][entry["buffer"]]["data"]
            return bytes(stored).rstrip(b"\0").decode(errors="replace")
    return ""


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _same_layers(pruned: Model, sparse: Model) -> Iterator[tuple[Layer, Layer]]:
    ops = [[(layer.op, layer.shape) for layer in model.layers] for model in (pruned, sparse)]
    if ops[0] != ops[1]:
        raise AssertionError(
            f"{pruned.path.name} and {sparse.path.name} do not hold the same layers"
            f" ({len(ops[0])} and {len(ops[1])}); compare the two files of one conversion"
        )
    return zip(pruned.layers, sparse.layers, strict=True)


def _bits(values: Array) -> Array:
    """The bits, with -0.0 as 0.0."""
    canonical = values + values.dtype.type(0)
    bits: Array = canonical.view(f"u{values.itemsize}")
    return bits
