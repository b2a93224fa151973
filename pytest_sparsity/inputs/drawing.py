"""Drawing inputs that mean something, by numpy's PCG64 from the number of the set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import NeedsInputs
from pytest_sparsity.inputs.meaning import Meaning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pytest_sparsity.model import Model

    Array = NDArray[Any]
    Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]

USUAL = 3
"""Sets of the usual family, before the others take turns."""
SMALL = 10
"""Integers of 32 or 64 bits that nothing limits are below: they are counts, lengths, flags."""


def _unit(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.random(shape)


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape)


def _signed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.uniform(-1, 1, shape)


def _bytes(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.integers(0, 256, shape).astype(float)


def _scales(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3)


FAMILIES: dict[str, Draw] = {
    "normal": _normal,
    "signed": _signed,
    "bytes": _bytes,
    "levels": lambda rng, shape: _level(rng, shape, _normal),
    "runs": lambda rng, shape: _runs(rng, shape, _normal),
    "scales": _scales,
}
"""Real numbers that nothing is known of, after the usual ones from [0, 1).

Models that give the same outputs for noise give others for a picture's 0 to 255, to a level, or to
what changes slowly: 12 of 79 published models, wake words and detectors, do.
"""
WITHIN = ("all", "levels", "runs", "narrow")
"""The families within a range that is known."""


def _level(rng: np.random.Generator, shape: tuple[int, ...], values: Draw) -> Array:
    """One value everywhere."""
    import numpy as np

    return np.full(shape, values(rng, (1,))[0])


def _runs(rng: np.random.Generator, shape: tuple[int, ...], values: Draw) -> Array:
    """Stretches of one value each, about eight."""
    import numpy as np

    size = int(np.prod(shape))
    length = max(size // 8, 1)
    drawn: Array = np.repeat(values(rng, (-(-size // length),)), length)[:size].reshape(shape)
    return drawn


def draw(
    model: Model, shapes: Sequence[tuple[int, ...]], meant: Sequence[Meaning], number: int
) -> tuple[Array, ...]:
    """Return set `number` of a model's inputs, in the order of the file.

    The first sets are of the usual family: ids from the whole table, real numbers from the range
    that the file declares or from [0, 1), integers of a quantized input from the whole range of
    their type. The further ones go through the others.

    Raises:
        NeedsInputs: an input is of text.
    """
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(number))
    family = 0 if number < USUAL else number - USUAL + 1
    drawn = []
    for index, shape, meaning in zip(model.graph.inputs, shapes, meant, strict=True):
        tensor = model.graph.tensors[index]
        try:
            dtype = np.dtype(tensor.dtype)
        except TypeError:
            raise NeedsInputs(
                f"{model.path.name} has an input {tensor.name!r} of {tensor.dtype}, which can be"
                " neither drawn nor given",
                "convert the model without that part",
            ) from None
        drawn.append(_drawn(dtype, shape, meaning, family, rng))
    return tuple(drawn)


def _drawn(
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    meaning: Meaning,
    family: int,
    rng: np.random.Generator,
) -> Array:
    import numpy as np

    if dtype.kind == "b":
        return rng.integers(0, 1, shape, np.uint8, endpoint=True).astype(np.bool_)
    if dtype.kind == "c":
        return (rng.random(shape) + 1j * rng.random(shape)).astype(dtype)
    if dtype.kind in "iu":
        return _within(_of_type(dtype, meaning), shape, family, rng).astype(dtype)
    if meaning.known:
        return _within(meaning, shape, family, rng).astype(dtype)
    if family:
        values = list(FAMILIES.values())[(family - 1) % len(FAMILIES)]
        return values(rng, shape).astype(dtype)
    # Rounding to fewer digits makes a one of what lies just below it.
    largest: NDArray[Any] = np.nextafter(dtype.type(1), dtype.type(0))
    drawn: NDArray[Any] = np.minimum(_unit(rng, shape).astype(dtype), largest)
    return drawn


def _of_type(dtype: np.dtype[Any], meaning: Meaning) -> Meaning:
    """The integers of a type that are meant; of a wide type that nothing limits, small ones."""
    import numpy as np

    info = np.iinfo(dtype)
    low, high = (info.min, info.max + 1) if dtype.itemsize < 4 else (0, SMALL)
    if meaning.known:
        low, high = max(int(meaning.low), info.min), min(int(meaning.high), info.max + 1)
    return Meaning(low, max(high, low + 1), whole=True)


def _within(
    meaning: Meaning, shape: tuple[int, ...], family: int, rng: np.random.Generator
) -> Array:
    def values(rng: np.random.Generator, size: tuple[int, ...]) -> Array:
        if meaning.whole:
            return rng.integers(int(meaning.low), int(meaning.high), size)
        return rng.uniform(meaning.low, meaning.high, size)

    kind = WITHIN[family % len(WITHIN)]
    if kind == "levels":
        return _level(rng, shape, values)
    if kind == "runs":
        return _runs(rng, shape, values)
    if kind == "narrow":
        middle, all_ = values(rng, (1,))[0], values(rng, shape)
        moved = middle + (all_ - middle) // 8 if meaning.whole else middle + (all_ - middle) / 8
        narrow: Array = moved
        return narrow
    return values(rng, shape)
