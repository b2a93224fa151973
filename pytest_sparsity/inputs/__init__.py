"""What a model is run on: inputs that the user gives, or ones that are drawn to mean something.

`feed(model, inputs, shapes)` settles both for one file: the shape of every input, and sets of
arrays. `inputs` are arrays by name, arrays in the signature's order, a function of the set's number
that returns either, or the path of an `.npz` file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_sparsity.inputs.arrays import as_stored, by_input, named, natural, output_order
from pytest_sparsity.inputs.drawing import FAMILIES, draw
from pytest_sparsity.inputs.meaning import Meaning, meanings
from pytest_sparsity.inputs.shapes import Shapes, parse_shape, settled, split

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_sparsity.model import Model

    Array = NDArray[Any]

__all__ = [
    "FAMILIES",
    "Feed",
    "InputsLike",
    "Shapes",
    "as_stored",
    "by_input",
    "feed",
    "named",
    "natural",
    "output_order",
    "parse_shape",
    "settled",
    "split",
]

InputsLike: TypeAlias = (
    "Mapping[str, Any] | Sequence[Any] | NDArray[Any] | Callable[[int], Any] | str | PathLike[str]"
)
"""What may be given as `inputs`."""

DRAWN = 24
"""Sets that are drawn at most."""
GIVEN = 8
"""Sets of the user's that are used at most, to compare outputs; the first one is raced."""


@dataclass(frozen=True, eq=False)
class Feed:
    """Shapes and sets of a model's inputs, in the order of the file.

    Attributes:
        model: the model.
        shapes: one per input; what `Worker.load` takes.
        made_up: whether the arrays are drawn here, so that a failure on them says nothing of the
            model.
    """

    model: Model
    shapes: tuple[tuple[int, ...], ...]
    made_up: bool
    _meant: tuple[Meaning, ...] = ()
    _sets: tuple[tuple[Array, ...], ...] = ()
    _function: Callable[[int], Any] | None = None

    @property
    def count(self) -> int:
        """How many sets there are; further numbers have none."""
        if self.made_up:
            return DRAWN
        return GIVEN if self._function else min(len(self._sets), GIVEN)

    def arrays(self, number: int) -> tuple[Array, ...]:
        """One set, in the order of the file and the types of the inputs.

        Drawn sets 0 to 2 are of one family: real numbers from [0, 1), or what the file declares.
        The families that follow differ in scale and sign, see `drawing`.

        Raises:
            ValueError: the function's arrays do not fit, or there is no such set.
            NeedsInputs: an input cannot be drawn: it is of text.
        """
        if self.made_up:
            return draw(self.model, self.shapes, self._meant, number)
        if self._function is not None:
            return self._checked(self._function(number))
        return self._sets[number]

    def moved(self, model: Model, move: Callable[[Array], Array]) -> Feed:
        """The same sets for another file of the same inputs, each array changed by a function."""

        def arrays(number: int) -> list[Array]:
            return [move(array) for array in self.arrays(number)]

        return replace(self, model=model, made_up=False, _function=arrays)

    def like(self, model: Model) -> Feed:
        """The same for another file of the same inputs, such as a densified copy."""
        return replace(self, model=model)

    def __str__(self) -> str:
        """The shapes, by name."""
        return ", ".join(
            f"{name} {'x'.join(map(str, shape)) or 'scalar'}"
            for name, shape in zip(named(self.model), self.shapes, strict=True)
        )

    def _checked(self, given: Any) -> tuple[Array, ...]:
        _, sets = split(self.model, by_input(self.model, given), self.shapes)
        return as_stored(self.model, _only(sets))


def _only(sets: list[list[Array]]) -> list[Array]:
    if len(sets) != 1:
        raise ValueError(f"the function must return one set of inputs, not {len(sets)}")
    return sets[0]


def feed(model: Model, inputs: InputsLike | None = None, shapes: Shapes | None = None) -> Feed:
    """Settle what a model is run on.

    Args:
        model: the model.
        inputs: arrays by name; arrays in the order of the signature (without one, of the file), or
            the array if there is one input; a function of a set's number, from 0 on, that returns
            either; or the path of an `.npz` file of arrays by name. An array has the shape of the
            input, or one more dimension in front for several sets, or a multiple of its batch.
            Real numbers are quantized for a quantized input as the file says. None to draw them.
        shapes: of inputs by name, or of the only one: needed where the file leaves sizes other
            than the batch open and `inputs` do not tell.

    Raises:
        ValueError: a size is open and not given, or names, shapes or types do not fit; the message
            names the file and the input.
        OSError: the file of inputs cannot be read.
    """
    wanted = settled(model, shapes)
    if inputs is None:
        return Feed(model, _closed(model, wanted), made_up=True, _meant=meanings(model))
    if callable(inputs):
        arrays = by_input(model, inputs(0))
        known, sets = split(model, arrays, wanted)
        _only(sets)
        return Feed(model, known, made_up=False, _function=inputs)
    if isinstance(inputs, (str, PathLike)):
        inputs = _loaded(fspath(inputs))
    known, sets = split(model, by_input(model, inputs), wanted)
    return Feed(
        model, known, made_up=False, _sets=tuple(as_stored(model, each) for each in sets[:GIVEN])
    )


def _closed(
    model: Model, wanted: tuple[tuple[int | None, ...], ...]
) -> tuple[tuple[int, ...], ...]:
    """The shapes, with 1 for an open batch.

    Raises:
        ValueError: another size is open.
    """
    for name, shape in zip(named(model), wanted, strict=True):
        if None in shape[1:]:
            sizes = ", ".join("?" if size is None else str(size) for size in shape)
            example = ",".join("224" if size is None else str(size) for size in (1, *shape[1:]))
            raise ValueError(
                f"{model.path.name} leaves sizes of its input {name!r} open, ({sizes}): say them"
                f" with shapes={{{name!r}: ({example.replace(',', ', ')})}}, or --shape"
                f" {name}={example}"
            )
    return tuple(tuple(1 if size is None else size for size in shape) for shape in wanted)


def _loaded(path: str) -> Mapping[str, Array] | list[Array]:
    """The arrays of an `.npz` file; those that were saved without names in their order."""
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file) if hasattr(file, "files") else {"arr_0": file}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} holds no inputs: {error}; write it with numpy.savez(path, name=array, ...)"
        ) from error
    if all(name == f"arr_{place}" for place, name in enumerate(arrays)):
        return list(arrays.values())
    return arrays
