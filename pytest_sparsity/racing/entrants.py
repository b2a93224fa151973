"""The two models of a race: whether they may be compared, and what must be said about it."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import WrongOutputs
from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_sparsity.model import Model
    from pytest_sparsity.targets import Signature

# Operators that only say how weights are stored.
STORAGE = frozenset({"DENSIFY", "DEQUANTIZE"})


def check_signatures(models: Sequence[Model], signatures: Sequence[Signature]) -> None:
    """Make sure that two models take and give as much; types may differ, as for a quantized one.

    Raises:
        ValueError: they do not.
    """
    said = [_sizes(signature) for signature in signatures]
    if said[0] != said[1]:
        one, other = (
            f"{model.path.name} takes {_list(inputs)} and gives {_list(outputs)} values"
            for model, (inputs, outputs) in zip(models, said, strict=True)
        )
        raise ValueError(f"{one}, {other}: they do not compute the same, so no ratio compares them")


def _sizes(signature: Signature) -> tuple[list[int], list[int]]:
    """Number of values of every input and output; runtimes announce some with other dimensions."""
    inputs = [prod(spec.shape) for spec in signature.inputs]
    return inputs, [prod(spec.shape) for spec in signature.outputs]


def _list(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers)) or "no"


def check_finite(model: Model, outputs: Sequence[NDArray[Any]], target: str) -> None:
    """Make sure that a model gives numbers for the inputs that it is timed with.

    Raises:
        WrongOutputs: it gives NaN or infinity.
    """
    import numpy as np

    for array in outputs:
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            raise WrongOutputs(
                f"{model.path.name} computes wrong outputs on {target}, so its speed means "
                "nothing: outputs are not finite for the inputs that it would be timed with"
            )


def remarks(dense: Model, sparse: Model) -> tuple[str, ...]:
    """Return what a reader of a ratio should know of the two models, one clause each."""
    found = []
    ours, theirs = _layers(sparse), _layers(dense)
    if ours != theirs:
        found.append(f"different network: {_difference(theirs, ours)}")
    if not sparse.encoded:
        stored = f"its {sparse.sparsity:.0%} zeros" if sparse.sparsity else "its weights"
        found.append(f"not sparse-encoded: {stored} stand among the other numbers")
    return tuple(found)


def _layers(model: Model) -> list[tuple[str, tuple[int, ...]]]:
    """Operators in order, each with the shape of its weights."""
    weights: Mapping[tuple[int, int], tuple[int, ...]] = {
        (layer.graph, layer.operator): layer.shape for layer in model.layers
    }
    return [
        (operator.op, weights.get((g, operator.index), ()))
        for g, graph in enumerate(model.graphs)
        for operator in graph.operators
        if operator.op not in STORAGE
    ]


def _difference(
    dense: Sequence[tuple[str, tuple[int, ...]]], sparse: Sequence[tuple[str, tuple[int, ...]]]
) -> str:
    if [op for op, _ in dense] != [op for op, _ in sparse]:
        ours = counted(len(sparse), "operator")
        return f"{ours}, not the {len(dense)} of the dense one in their order"
    other = sum(a != b for a, b in zip(dense, sparse, strict=True))
    return f"{other} of {len(dense)} operators have weights of another shape"
