"""Shapes of a model's inputs: what the file says, what the user adds, what arrays tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_sparsity.inputs.arrays import named

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_sparsity.model import Model

    Array = NDArray[Any]
    Sizes: TypeAlias = tuple[int | None, ...]

Shapes: TypeAlias = "Mapping[str, Sequence[int]] | Sequence[int]"
"""Shapes of inputs by name, or of the only input."""


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Read `NAME=1,224,224,3`.

    Raises:
        ValueError: it is not of that form.
    """
    name, _, sizes = text.rpartition("=")
    numbers = [part.strip() for part in sizes.split(",")]
    if not name or not all(part.isdigit() and int(part) for part in numbers):
        raise ValueError(f"a shape is NAME=1,224,224,3, not {text!r}")
    return name, tuple(map(int, numbers))


def settled(model: Model, shapes: Shapes | None) -> tuple[Sizes, ...]:
    """The shapes of all inputs, in the order of the file; None for what is still open.

    Raises:
        ValueError: there is no such input, or the shape is not one that the file allows.
    """
    names = named(model)
    tensors = [model.graph.tensors[index] for index in model.graph.inputs]
    fixed: list[Sizes] = [
        tuple(None if d in t.open_dimensions else size for d, size in enumerate(t.shape))
        for t in tensors
    ]
    for name, shape in _by_name(model, shapes).items():
        if name not in names:
            raise ValueError(
                f"{model.path.name} has no input {name!r}; its inputs are {', '.join(names)}"
            )
        place = names.index(name)
        asked = tuple(map(int, shape))
        if not _fits(asked, fixed[place]):
            sizes = ", ".join("?" if size is None else str(size) for size in fixed[place])
            raise ValueError(
                f"the input {name!r} of {model.path.name} has the shape ({sizes}), not {asked}"
            )
        fixed[place] = asked
    return tuple(fixed)


def _by_name(model: Model, shapes: Shapes | None) -> Mapping[str, Sequence[int]]:
    if shapes is None:
        return {}
    if isinstance(shapes, Mapping):
        return shapes
    names = named(model)
    if len(names) != 1:
        raise ValueError(f"{model.path.name} has the inputs {', '.join(names)}: name their shapes")
    return {names[0]: shapes}


def _fits(shape: Sequence[int], sizes: Sizes) -> bool:
    return len(shape) == len(sizes) and all(
        have > 0 and want in (None, have) for have, want in zip(shape, sizes, strict=True)
    )


def split(
    model: Model, arrays: Sequence[Array], wanted: Sequence[Sizes]
) -> tuple[tuple[tuple[int, ...], ...], list[list[Array]]]:
    """Shapes, and the arrays as sets of inputs.

    Args:
        model: the model, for messages.
        arrays: one per input, with one set or several.
        wanted: the shapes of the inputs; None for what the arrays are to tell.

    Raises:
        ValueError: an array does not fit, or arrays have different numbers of sets.
    """
    stacked = [
        _stacked(array, sizes, f"the input {name!r} of {model.path.name}")
        for array, sizes, name in zip(arrays, wanted, named(model), strict=True)
    ]
    counts = {len(array) for array in stacked} - {1}
    if len(counts) > 1:
        found = ", ".join(f"{n} {len(a)}" for n, a in zip(named(model), stacked, strict=True))
        raise ValueError(f"{model.path.name} needs as many samples for each input, not {found}")
    count = counts.pop() if counts else 1
    sets = [[array[min(i, len(array) - 1)] for array in stacked] for i in range(count)]
    return tuple(tuple(array.shape[1:]) for array in stacked), sets


def _stacked(array: Array, sizes: Sizes, what: str) -> Array:
    """The array with the sets in a dimension of their own in front."""
    if not array.size:
        raise ValueError(f"{what} needs at least one sample")
    rank = len(sizes)
    if array.ndim == rank + 1 and _fits(array.shape[1:], sizes):
        return array
    if array.ndim == rank and rank:
        batch = sizes[0] or (1 if rank > 1 else len(array))
        if len(array) % batch == 0 and _fits((batch, *array.shape[1:]), sizes):
            return array.reshape(-1, batch, *array.shape[1:])
    text = ", ".join("?" if size is None else str(size) for size in sizes)
    raise ValueError(f"{what} takes the shape ({text}), alone or stacked, not {array.shape}")
