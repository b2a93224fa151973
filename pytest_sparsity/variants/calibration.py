"""Inputs to calibrate int8 activations with, in every form that people have them in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Sample = Mapping[str, NDArray[Any]]
    """The inputs of one inference by name, with their batch dimension."""
    Samples = list[Sample]


@dataclass(frozen=True)
class Input:
    """An input of the network.

    Attributes:
        name: as the signature of the file calls it.
        shape: with the batch; None where it is open.
        dtype: numpy's name.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    @classmethod
    def of(cls, tensor: Any) -> Input:
        """Return what a Keras tensor describes."""
        dtype = getattr(tensor.dtype, "name", tensor.dtype)
        return cls(str(tensor.name), tuple(tensor.shape), str(dtype))


def checked_samples(given: Any, tensors: Sequence[Any]) -> Samples:
    """Return the inputs of each inference by name.

    Args:
        given: one sample after the other (a list, a generator, a `tf.data.Dataset`), or one array
            of all, or a dictionary of such arrays by name. A sample is an array if there is one
            input, a dictionary by name, a list or tuple in the network's order, or a pair of inputs
            and labels, as for `fit`. It may have a batch dimension or not.
        tensors: the network's inputs, Keras tensors.

    Raises:
        ValueError: there are none, or one does not fit the inputs; the message says which and why.
    """
    inputs = [Input.of(tensor) for tensor in tensors]
    samples = [
        single
        for number, sample in enumerate(_each(given, inputs))
        for single in _batches(_named(sample, inputs, number), inputs, number)
    ]
    if not samples:
        raise ValueError("representative returned no samples")
    return samples


def write_samples(samples: Samples, path: Path) -> Path:
    """Write the inputs to calibrate with to an `.npz` file."""
    import numpy as np

    names = list(samples[0])
    arrays: dict[str, Any] = {
        f"{sample} {position}": inputs[name]
        for sample, inputs in enumerate(samples)
        for position, name in enumerate(names)
    }
    np.savez(path, samples=len(samples), names=names, **arrays)
    return path


def read_samples(path: Path) -> Iterator[dict[str, NDArray[Any]]]:
    """Return what `write_samples` wrote: the inputs of one inference after the other."""
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        names = [str(name) for name in arrays["names"]]
        for sample in range(int(arrays["samples"])):
            yield {name: arrays[f"{sample} {at}"] for at, name in enumerate(names)}


def _each(given: Any, inputs: Sequence[Input]) -> Iterator[Any]:
    """Return one sample after the other, or a single one that is a batch of all."""
    if isinstance(given, Mapping) or hasattr(given, "shape"):
        yield given
        return
    try:
        iterator = iter(given)
    except TypeError:
        raise ValueError(
            f"representative must return samples of {_listed(inputs)}, one after the other or in"
            f" one array; it returned {type(given).__name__}"
        ) from None
    yield from iterator


def _named(sample: Any, inputs: Sequence[Input], number: int) -> dict[str, Any]:
    if isinstance(sample, Mapping):
        if set(sample) != {each.name for each in inputs}:
            raise _misfit(number, f"has {sorted(map(str, sample))}", inputs)
        return dict(sample)
    if not isinstance(sample, (list, tuple)):
        sample = [sample]
    if len(sample) == 2 and (len(inputs) == 1 or _is_group(sample[0])):
        return _named(sample[0], inputs, number)  # a pair of inputs and labels
    if len(sample) != len(inputs):
        raise _misfit(number, f"has {counted(len(sample), 'input')}", inputs)
    return {each.name: array for each, array in zip(inputs, sample, strict=True)}


def _is_group(value: Any) -> bool:
    return isinstance(value, (Mapping, list, tuple))


def _batches(sample: dict[str, Any], inputs: Sequence[Input], number: int) -> Iterator[Sample]:
    """Return a sample in batches of the network's size, one if that is open."""
    import numpy as np

    arrays = {each.name: _array(sample[each.name], each, number) for each in inputs}
    sizes = {len(array) for array in arrays.values()}
    if len(sizes) != 1:
        raise _misfit(number, f"has batches of {sorted(sizes)}", inputs)
    batch = inputs[0].shape[0] or 1
    [size] = sizes
    if size % batch:
        raise _misfit(number, f"has a batch of {size}", inputs)
    for start in range(0, size, batch):
        yield {
            name: np.ascontiguousarray(array[start : start + batch])
            for name, array in arrays.items()
        }


def _array(value: Any, wanted: Input, number: int) -> NDArray[Any]:
    import numpy as np

    array = np.asarray(value)
    if array.ndim == len(wanted.shape) - 1:
        array = array[None]
    fits = array.ndim == len(wanted.shape) and all(
        size is None or size == given
        for size, given in zip(wanted.shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        raise _misfit(number, f"gives {wanted.name!r} the shape {np.shape(value)}", [wanted])
    if not np.can_cast(array.dtype, wanted.dtype, "same_kind") and array.dtype.kind not in "iub":
        raise _misfit(number, f"gives {wanted.name!r} values of {array.dtype}", [wanted])
    array = array.astype(wanted.dtype)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise _misfit(number, f"gives {wanted.name!r} values that are NaN or infinite", [wanted])
    return array


def _misfit(number: int, what: str, inputs: Sequence[Input]) -> ValueError:
    return ValueError(
        f"representative: sample {number} {what}, and the network takes {_listed(inputs)}"
    )


def _listed(inputs: Sequence[Input]) -> str:
    shapes = (f"({', '.join(str(size or '?') for size in each.shape)})" for each in inputs)
    return ", ".join(
        f"{each.name!r} {each.dtype} {shape}" for each, shape in zip(inputs, shapes, strict=True)
    )
