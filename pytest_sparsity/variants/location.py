"""Where a pruned Keras weight is in the converted file, if that is certain.

The converter folds a BatchNormalization into the convolution before it: the kernel in the file is
the Keras kernel times one factor per output channel, so a zero stays a zero and every other weight
keeps its bits. Then a pruned file is the dense file with zeros put in, byte for byte. Whether the
converter did just that is not assumed but read from the file: a kernel is located if exactly one
constant is proportional to it, by factors and with a bias that its layer's own variables explain.
A bias explained otherwise may contain the kernel (the converter also folds what comes *before* a
convolution into its bias), and then zeros would have to change it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pytest_sparsity.model import Model, Operator

    Array = NDArray[np.float32]
    Replacements = dict[int | tuple[int, int], NDArray[Any]]

ROUNDING = 1e-6
"""Relative; a product of two float32 is off by at most 6e-8."""

BIAS_ROUNDING = 1e-5
"""Relative to the largest term of the sum; a handful of float32 operations."""

TRANSPOSED = {"Conv2D": (3, 0, 1, 2), "Dense": (1, 0)}
"""TFLite stores the outputs first. Keras: height, width, inputs, outputs; or inputs, outputs."""

OPERATORS = {"Conv2D": "CONV_2D", "Dense": "FULLY_CONNECTED"}


@dataclass(frozen=True)
class Kernel:
    """A kernel to be found.

    Attributes:
        kind: of the Keras layer, a key of `TRANSPOSED`.
        dense: the values that were converted, in Keras' order.
        pruned: the same with zeros in it.
        bias: of the layer, zeros if it has none.
    """

    kind: str
    dense: Array
    pruned: Array
    bias: Array


@dataclass(frozen=True)
class Normalization:
    """The variables of a BatchNormalization, float32 [channels]; a multiplication and a sum."""

    scale: Array
    mean: Array
    beta: Array


def locate(
    model: Model, kernels: Sequence[Kernel], normalizations: Sequence[Normalization]
) -> Replacements | None:
    """Return the pruned values of constants of the main graph by tensor index.

    Args:
        model: converted from the dense network, stored densely.
        kernels: all that were pruned.
        normalizations: all that the network has.

    Returns:
        None if the place of any kernel is in doubt.
    """
    import numpy as np

    found: Replacements = {}
    constants = list(_constants(model))
    for kernel in kernels:
        matches = [
            (tensor, values)
            for operator, tensor, values in constants
            if _is_explained(operator, values, kernel, normalizations, model)
        ]
        if len(matches) != 1 or matches[0][0] in found:
            return None
        tensor, values = matches[0]
        zeros = kernel.pruned.transpose(TRANSPOSED[kernel.kind]) == 0
        found[tensor] = np.where(zeros, np.float32(0), values)
    return found if _are_unshared(model, found) else None


def _constants(model: Model) -> Iterator[tuple[Operator, int, Array]]:
    """Return every float32 kernel of the main graph, densely stored, with its operator."""
    for operator in model.graph.operators:
        if operator.op in OPERATORS.values():
            tensor = model.graph.tensors[operator.inputs[1]]
            if tensor.constant and tensor.dtype == "float32" and tensor.sparsity is None:
                yield operator, tensor.index, model.weights(tensor.index)


def _is_explained(
    operator: Operator,
    values: Array,
    kernel: Kernel,
    normalizations: Sequence[Normalization],
    model: Model,
) -> bool:
    """Whether the values are the kernel, alone or with a normalization folded into it."""
    import numpy as np

    dense = kernel.dense.transpose(TRANSPOSED[kernel.kind])
    if operator.op != OPERATORS[kernel.kind] or values.shape != dense.shape:
        return False
    ours = dense.reshape(len(dense), -1).astype(np.float64)
    theirs = values.reshape(len(dense), -1)
    largest = np.abs(ours).argmax(axis=1)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.take_along_axis(theirs, largest, 1) / np.take_along_axis(ours, largest, 1)
    empty: NDArray[Any] = np.logical_not(ours.any(axis=1))  # a channel of zeros has any factor
    factors[empty] = 1
    if not np.allclose(theirs, ours * factors, rtol=ROUNDING, atol=0):
        return False
    bias = _bias(operator, model, len(dense))
    alone = Normalization(np.ones_like(bias), np.zeros_like(bias), np.zeros_like(bias))
    return any(
        _explains(candidate, factors[:, 0], empty, bias, kernel.bias)
        for candidate in (alone, *normalizations)
        if candidate.scale.shape == bias.shape
    )


def _explains(
    candidate: Normalization,
    factors: NDArray[np.float64],
    empty: NDArray[np.bool_],
    bias: Array,
    own: Array,
) -> bool:
    """Whether a normalization gives these factors, and this bias from the layer's own."""
    import numpy as np

    if not (empty | np.isclose(factors, candidate.scale, rtol=BIAS_ROUNDING, atol=0)).all():
        return False
    terms = [own * candidate.scale, -candidate.mean * candidate.scale, candidate.beta]
    tolerance = BIAS_ROUNDING * np.max(np.abs(terms), axis=0)
    return bool((np.abs(bias - np.sum(terms, axis=0)) <= tolerance).all())


def _bias(operator: Operator, model: Model, channels: int) -> Array:
    """Return the operator's constant bias: zeros if it has none, NaN if it is computed."""
    import numpy as np

    if len(operator.inputs) < 3 or operator.inputs[2] < 0:
        return np.zeros(channels, np.float32)
    if not model.graph.tensors[operator.inputs[2]].constant:
        return np.full(channels, np.nan, np.float32)
    return model.weights(operator.inputs[2])


def _are_unshared(model: Model, tensors: Collection[object]) -> bool:
    """Whether no other tensor of the file stores its values in the same place."""
    users = Counter(tensor.buffer for graph in model.graphs for tensor in graph.tensors)
    stored = (tensor for tensor in model.graph.tensors if tensor.index in tensors)
    return all(users[tensor.buffer] == 1 for tensor in stored)
