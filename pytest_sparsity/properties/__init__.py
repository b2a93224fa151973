"""Properties that every pruned model should have, as functions for anybody's pipeline.

    from pytest_sparsity import properties

    def test_my_files(files):
        properties.check(files, sparsity=0.8)                     # all that apply, or one by one:
        properties.decodes_to_the_same(files.pruned, files.sparse)

Each returns None, or raises an `AssertionError` that names the file, the layer, the figure and the
remedy. They take a `Model` or the path of a `.tflite` file, from whatever pruned and converted it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from pytest_sparsity import defaults, patterns
from pytest_sparsity.errors import TargetError
from pytest_sparsity.model import Model
from pytest_sparsity.properties.files import (
    blocks_divide_the_inputs,
    compresses_to,
    decodes_to_the_same,
    minimum_runtime,
    runs_since,
    size_as_predicted,
    size_falls_with_sparsity,
    zeros_are_encoded,
)
from pytest_sparsity.properties.networks import is_stripped, strips_to_the_same_function
from pytest_sparsity.properties.outputs import (
    TOLERANCES,
    outputs_vary,
    repeatable,
    runs,
    same_outputs,
)
from pytest_sparsity.properties.sizes import (
    break_even,
    gzip_nbytes,
    predicted_nbytes,
    sparse_nbytes,
)
from pytest_sparsity.properties.weights import (
    channels_are_removed,
    keeps_the_largest,
    masks_only_grow,
    no_negative_zeros,
    no_subnormals,
    only_removes,
    pattern_holds,
    zeros_as_asked,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_sparsity.model import Layer
    from pytest_sparsity.properties.common import ModelLike
    from pytest_sparsity.targets import Target

__all__ = [
    "blocks_divide_the_inputs",
    "break_even",
    "channels_are_removed",
    "check",
    "compresses_to",
    "decodes_to_the_same",
    "gzip_nbytes",
    "is_stripped",
    "keeps_the_largest",
    "masks_only_grow",
    "minimum_runtime",
    "no_negative_zeros",
    "no_subnormals",
    "only_removes",
    "outputs_vary",
    "pattern_holds",
    "predicted_nbytes",
    "repeatable",
    "runs",
    "runs_since",
    "same_outputs",
    "size_as_predicted",
    "size_falls_with_sparsity",
    "sparse_nbytes",
    "strips_to_the_same_function",
    "zeros_are_encoded",
    "zeros_as_asked",
]


class VariantsLike(Protocol):
    """Three files of one network, such as `Variants`."""

    @property
    def dense(self) -> ModelLike:
        """As trained."""
        ...

    @property
    def pruned(self) -> ModelLike:
        """With zeros, stored densely."""
        ...

    @property
    def sparse(self) -> ModelLike:
        """The same zeros, stored sparsely."""
        ...


def check(
    files: VariantsLike,
    *,
    sparsity: float | None = None,
    pattern: str = "unstructured",
    layers: Callable[[Layer], bool] | None = None,
    target: str | Target = defaults.TARGET,
) -> tuple[str, ...]:
    """Check every property that applies to three files of one network.

    Args:
        files: `Variants`, or anything with `dense`, `pruned` and `sparse`.
        sparsity: what was asked of the pruned layers; not checked if None.
        pattern: of the pruned layers: `"unstructured"`, `"m:n"`, `"1xn"`, or `"channels"` if
            `sparse` is the file without them.
        layers: which layers were pruned; by default the prunable ones.
        target: where to run.

    Returns:
        The names of the properties, all of which hold.

    Raises:
        AssertionError: some do not; the message has a line for each of them.
        Unsupported: the target cannot run here.
    """
    dense, pruned, sparse = (Model.of(m) for m in (files.dense, files.pruned, files.sparse))
    structured = patterns.parse(pattern).channels
    properties = [
        *_of_numbers(dense, pruned, sparse),
        *([] if structured else _of_zeros(dense, pruned, sparsity, pattern, layers)),
        *(_of_channels(pruned, sparse) if structured else _of_encoding(dense, pruned, sparse)),
        *_of_outputs(dense, pruned, sparse, target, structured),
    ]
    failures = list(filter(None, map(_failure, properties)))
    if failures:
        lines = "\n- ".join(failures)
        raise AssertionError(
            f"{len(failures)} of {len(properties)} properties do not hold:\n- {lines}"
        )
    return tuple(dict.fromkeys(holds.func.__name__ for holds in properties))


def _failure(holds: partial[None]) -> str:
    """What is wrong, empty if the property holds."""
    try:
        holds()
    except (AssertionError, TargetError) as error:
        return f"{holds.func.__name__}: {error}"
    return ""


def _of_numbers(dense: Model, pruned: Model, sparse: Model) -> Iterator[partial[None]]:
    for model in (pruned, sparse):
        yield partial(no_negative_zeros, model)
    for model in (dense, pruned, sparse):
        yield partial(no_subnormals, model)


def _of_zeros(
    dense: Model,
    pruned: Model,
    sparsity: float | None,
    pattern: str,
    layers: Callable[[Layer], bool] | None,
) -> Iterator[partial[None]]:
    if sparsity is not None:
        block = patterns.parse(pattern).block
        yield partial(zeros_as_asked, pruned, sparsity, layers=layers, within=block)
    if pattern != "unstructured":
        yield partial(pattern_holds, pruned, pattern, layers=layers)
    if only_removes(dense, pruned):  # after a training the largest may be others
        yield partial(keeps_the_largest, dense, pruned, pattern=pattern)


def _of_encoding(dense: Model, pruned: Model, sparse: Model) -> Iterator[partial[None]]:
    yield partial(zeros_are_encoded, sparse)
    yield partial(decodes_to_the_same, pruned, sparse)
    yield partial(blocks_divide_the_inputs, sparse)
    yield partial(size_as_predicted, pruned, sparse)
    yield partial(compresses_to, pruned, dense, 1.0)


def _of_channels(pruned: Model, sparse: Model) -> Iterator[partial[None]]:
    yield partial(channels_are_removed, pruned, sparse)
    yield partial(compresses_to, sparse, pruned, 1.0)


def _of_outputs(
    dense: Model, pruned: Model, sparse: Model, target: str | Target, structured: bool
) -> Iterator[partial[None]]:
    for model in (dense, pruned, sparse):
        yield partial(runs, model, target)
    # The same weights, whatever their type: only the order of additions may differ. Where channels
    # were removed, quantized weights have other scales.
    tolerance = None if structured else TOLERANCES["float32"]
    yield partial(same_outputs, pruned, sparse, target, tolerance=tolerance)
    yield partial(outputs_vary, sparse, target)
    yield partial(repeatable, sparse, target)
