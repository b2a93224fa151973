"""What the properties share."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from os import PathLike

    from pytest_sparsity.model import Layer, Model

    ModelLike: TypeAlias = str | PathLike[str] | Model


def named(model: Model, layer: Layer) -> str:
    """The layer as messages call it."""
    return f"{model.path.name}: layer {layer.index} ({layer.op} {layer.name!r})"


def zero_of(model: Model, layer: Layer) -> int:
    """The stored number that means zero."""
    zero_points = model.graphs[layer.graph].tensors[layer.tensor].zero_points
    return zero_points[0] if zero_points else 0


def explain(model: Model, target: object) -> str:
    """The command that finds out why."""
    return f"run `pytest-sparsity explain {model.path.name} --target {target}`"
