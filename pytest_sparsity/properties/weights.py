"""What pruning promises of weights: how many are zero, which, and in which pattern."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_sparsity import patterns
from pytest_sparsity.model import Model
from pytest_sparsity.properties.common import named, zero_of
from pytest_sparsity.wording import counted
from pytest_sparsity.xnnpack import prunable_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from pytest_sparsity.model import Layer
    from pytest_sparsity.patterns import Pattern
    from pytest_sparsity.properties.common import ModelLike

    Array = NDArray[Any]
    Choice = Callable[[Layer], bool]

FLOATS = ("float32", "float16")


def zeros_as_asked(
    model: ModelLike, sparsity: float, *, layers: Choice | None = None, within: int = 1
) -> None:
    """Each layer has as many zeros as asked for, but for weights that are equal in magnitude.

    A quantized layer may have more, since small weights become zero when they are rounded.

    Args:
        model: the pruned model, in any encoding.
        sparsity: the share of zeros asked for.
        layers: which layers were pruned; by default the prunable ones.
        within: weights that the number of zeros may differ by; the size of a block with blocks. One
            in a thousand may differ in any case, as many weights tie by themselves.

    Raises:
        AssertionError: a layer has too few or too many zeros, or there is no such layer.
    """
    model = Model.of(model)
    for layer in _chosen(model, layers):
        zeros, wanted = round(layer.sparsity * layer.parameters), sparsity * layer.parameters
        slack = max(within, patterns.TIED * layer.parameters)
        if zeros < wanted - slack or (zeros > wanted + slack and layer.dtype in FLOATS):
            off = f"{abs(round(zeros - wanted))} {'more' if zeros > wanted else 'fewer'}"
            raise AssertionError(
                f"{named(model, layer)} has {zeros} zeros in {layer.parameters} weights, {off} than"
                f" the {sparsity:.4%} asked for; see whether the layer was pruned at all, whether"
                " the schedule's last update comes within the training (frequency is 100 by"
                " default), and whether weights are equal in magnitude"
            )


def pattern_holds(model: ModelLike, pattern: str, *, layers: Choice | None = None) -> None:
    """The zeros of each row, the inputs of one output, have a pattern.

    Args:
        model: the pruned model, in any encoding.
        pattern: `"m:n"`: at least m of n consecutive inputs are zero; `"1xn"`: n consecutive inputs
            are zero together or not at all, as far as their number is a multiple of n. Of a block
            that was kept, quantization may have rounded up to half to zero.
        layers: which layers were pruned; by default the prunable ones.

    Raises:
        AssertionError: a group breaks the pattern, or there is no such layer.
        ValueError: there is no such pattern.
    """
    import numpy as np

    model, wanted = Model.of(model), _along_inputs(pattern)
    for layer in _chosen(model, layers):
        kept = model.weights(layer.tensor, layer.graph) != zero_of(model, layer)
        counts, broken = wanted.breaches(kept, rounded=layer.dtype not in FLOATS)
        if broken.any():
            raise AssertionError(
                f"{named(model, layer)} breaks the pattern {pattern} in"
                f" {np.count_nonzero(broken)} of {broken.size} groups: inputs from"
                f" {_first_group(broken, wanted)} keep {counted(counts[broken][0], 'weight')};"
                f" prune it with pattern={pattern!r}, and re-apply the masks after the last"
                " training step"
            )


def keeps_the_largest(
    before: ModelLike | Mapping[str, Array],
    after: ModelLike | Mapping[str, Array],
    *,
    pattern: str = "unstructured",
) -> None:
    """Pruning without training removed the smallest weights: none that stayed is smaller.

    Arrays are compared as a whole. The weights of models are compared within each output channel
    only, since the converter multiplies every channel with a factor of its own where it folds a
    batch normalization into the layer.

    Args:
        before: the dense model, or arrays by name.
        after: the pruned model, in any encoding, or arrays of the same names and shapes.
        pattern: `"unstructured"`; with models also `"m:n"`, compared within each group of n inputs,
            and `"1xn"`, where the mean magnitudes of blocks are compared.

    Raises:
        AssertionError: a weight was removed though a smaller one stayed.
        ValueError: the two are not of the same layers.
    """
    import numpy as np

    wanted, whole = _along_inputs(pattern), isinstance(before, Mapping)
    for name, dense, pruned in _pairs(before, after):
        magnitude, kept = _comparable(np.abs(dense.astype(np.float64)), pruned != 0, wanted, whole)
        smallest = np.where(kept, magnitude, np.inf).min(axis=1)
        largest = np.where(kept, -np.inf, magnitude).max(axis=1)
        # What differs in its last digits may have been equal before its channel was scaled.
        wrong = largest > smallest * (1 + 1e-6)
        if wrong.any():
            raise AssertionError(
                f"{name} lost a weight of magnitude {largest[wrong][0]:.4g} and kept one of"
                f" {smallest[wrong][0]:.4g} (in {np.count_nonzero(wrong)} of {wrong.size} groups of"
                " weights compared with each other); compare models that were not trained in"
                " between, and prune by magnitude"
            )


def only_removes(before: ModelLike, after: ModelLike) -> bool:
    """Whether two models differ in nothing but weights that were set to zero.

    It is False after a training, where channels were removed, and with quantized weights, since
    their scales may differ.
    """
    old, new = _arrays(before), _arrays(after)
    return _shapes(old) == _shapes(new) and all(
        old[name].dtype.kind == "f" and bool((kept == old[name])[kept != 0].all())
        for name, kept in new.items()
    )


def masks_only_grow(checkpoints: Sequence[ModelLike | Mapping[str, Array]]) -> None:
    """A weight that is zero in one checkpoint is zero in all later ones.

    Args:
        checkpoints: in the order of the training; models, or arrays by name.

    Raises:
        AssertionError: a weight came back.
        ValueError: the checkpoints are not of the same layers, or there is only one.
    """
    import numpy as np

    if len(checkpoints) < 2:
        raise ValueError("masks grow from one checkpoint to the next: there must be at least two")
    for number, (earlier, later) in enumerate(pairwise(checkpoints)):
        for name, old, new in _pairs(earlier, later):
            back = int(np.count_nonzero((old == 0) & (new != 0)))
            if back:
                regrown = counted(back, "weight that is", "weights that are")
                raise AssertionError(
                    f"{name} has {regrown} zero in checkpoint {number} and not in checkpoint"
                    f" {number + 1}; take checkpoints after UpdatePruningStep at the end of an"
                    " epoch, and give ConstantSparsity an end_step: every step trains removed"
                    " weights too, and an update that removes no more of them lets some come back"
                )


def channels_are_removed(before: ModelLike, after: ModelLike) -> None:
    """Structured pruning made layers smaller and left none with an output of zeros only.

    An output of zeros costs as much as any other.

    Args:
        before: the model with the channels still in it.
        after: the model without them.

    Raises:
        AssertionError: no layer is smaller, or one has an output of zeros only.
    """
    import numpy as np

    before, after = Model.of(before), Model.of(after)
    parameters = [sum(layer.parameters for layer in m.layers) for m in (before, after)]
    if parameters[1] >= parameters[0]:
        raise AssertionError(
            f"{after.path.name} has {parameters[1]} weights and {before.path.name} has"
            f" {parameters[0]}: no channel is gone; remove the channels from the network before it"
            " is converted, as pattern='channels' does"
        )
    for layer in after.layers:
        empty = int(np.count_nonzero(~_channels_first(_centred(after, layer)).any(axis=1)))
        if empty:
            raise AssertionError(
                f"{named(after, layer)} has {counted(empty, 'output')} of zeros only in"
                f" {layer.shape}; remove them from the network, and from the layers that read them"
            )


def no_negative_zeros(model: ModelLike) -> None:
    """No weight is stored as -0.0, which makes a compressed file larger.

    Raises:
        AssertionError: a layer has one.
    """
    model = Model.of(model)
    for layer in model.layers:
        if layer.negative_zeros:
            raise AssertionError(
                f"{named(model, layer)} stores {layer.negative_zeros} of its {layer.parameters}"
                " weights as -0.0, and gzip sees two different zeros; add 0.0 to the pruned weights"
                " before they are converted"
            )


def no_subnormals(model: ModelLike) -> None:
    """No weight is subnormal, smaller than 1.2e-38 and yet not zero: some kernels are slow on them.

    Raises:
        AssertionError: a layer has one.
    """
    model = Model.of(model)
    for layer in model.layers:
        if layer.subnormals:
            raise AssertionError(
                f"{named(model, layer)} has {layer.subnormals} subnormal weights in"
                f" {layer.parameters}, with which some kernels take several times as long; set"
                " weights below 1.2e-38 to zero before they are converted"
            )


def _along_inputs(name: str) -> Pattern:
    pattern = patterns.parse(name)
    if pattern.channels:
        raise ValueError("pattern='channels' is for channels_are_removed(before, after)")
    return pattern


def _chosen(model: Model, layers: Choice | None) -> list[Layer]:
    found = list(prunable_layers(model) if layers is None else filter(layers, model.layers))
    if not found:
        ops = ", ".join(layer.op for layer in model.layers) or "none"
        raise AssertionError(
            f"{model.path.name} has no layer to check (its layers: {ops}); say which were pruned"
            " with layers="
        )
    return found


def _pairs(
    before: ModelLike | Mapping[str, Array], after: ModelLike | Mapping[str, Array]
) -> Iterator[tuple[str, Array, Array]]:
    """Name and weights of the layers of both."""
    old, new = _arrays(before), _arrays(after)
    if _shapes(old) != _shapes(new):
        raise ValueError(f"these are not the same layers: {_shapes(old)} and {_shapes(new)}")
    for name, array in old.items():
        yield name, array, new[name]


def _arrays(side: ModelLike | Mapping[str, Array]) -> dict[str, Array]:
    if isinstance(side, Mapping):
        return dict(side)
    model = Model.of(side)
    return {f"layer {x.index} ({x.op})": _centred(model, x) for x in model.layers}


def _shapes(arrays: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _centred(model: Model, layer: Layer) -> Array:
    """Weights of which those that mean zero are zero."""
    weights, zero = model.weights(layer.tensor, layer.graph), zero_of(model, layer)
    return weights.astype("i4") - zero if zero else weights


def _first_group(broken: Array, pattern: Pattern) -> str:
    import numpy as np

    row, group = np.argwhere(broken)[0]
    return f"{group * pattern.width} on in row {row}"


def _comparable(
    magnitude: Array, kept: Array, pattern: Pattern, whole: bool
) -> tuple[Array, Array]:
    """Magnitudes and masks, both of shape (sets that are compared, members)."""
    if whole and pattern != patterns.UNSTRUCTURED:
        raise ValueError(
            f"pattern={pattern.name!r} needs models: the layout of arrays is not known"
        )
    if whole:
        return magnitude.reshape(1, -1), kept.reshape(1, -1)
    if pattern.zeros:
        magnitude, kept = (
            pattern.groups(each).reshape(-1, pattern.width) for each in (magnitude, kept)
        )
        return magnitude, kept
    if pattern.block == 1:
        return _channels_first(magnitude), _channels_first(kept)
    rows = len(_channels_first(magnitude))
    means = pattern.groups(magnitude).mean(axis=-1).reshape(rows, -1)
    return means, pattern.groups(kept).any(axis=-1).reshape(rows, -1)


def _channels_first(array: Array) -> Array:
    """One row per output channel: the last dimension of depthwise weights, else the first."""
    depthwise = array.ndim == 4 and array.shape[0] == 1
    return array.reshape(-1, array.shape[-1]).T if depthwise else array.reshape(len(array), -1)
