"""Arrays matched with a model's inputs, by name or in order, and in the types of the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pytest_sparsity.model import Model, Tensor

    Array = NDArray[Any]

# What the converter makes of a name: `serving_default_tokens:0` of Keras' `tokens`.
CONVERTED = re.compile(r"^(?:serving_default_)?(.*?)(?::\d+)?$")


def named(model: Model) -> tuple[str, ...]:
    """The inputs' names in the order of the file: the signature's, else those of the tensors."""
    known = {index: name for name, index in model.signature.inputs} if model.signature else {}
    return tuple(
        known.get(index) or model.graph.tensors[index].name or f"input {place}"
        for place, index in enumerate(model.graph.inputs)
    )


def output_order(model: Model) -> tuple[int, ...]:
    """Positions in the file's outputs, in the order of the signature, as people count.

    `output_2` comes before `output_10`, as in Keras. Without a signature it is the order of the
    file.
    """
    if model.signature is None:
        return tuple(range(len(model.graph.outputs)))
    names = sorted(model.signature.outputs, key=lambda output: natural(output[0]))
    return tuple(model.graph.outputs.index(index) for _, index in names)


def by_input(model: Model, given: Any) -> list[Array]:
    """The arrays in the order of the file.

    Args:
        model: the model.
        given: arrays by name, or in the order of the signature, or the array of the only input.

    Raises:
        ValueError: names or numbers do not fit; or arrays without names could be taken for each
            other, since inputs have the same shape and the orders of signature and file differ.
    """
    import numpy as np

    names, file = named(model), model.path.name
    if isinstance(given, Mapping):
        return _by_name(model, given)
    listed = list(given) if isinstance(given, (list, tuple)) else [given]
    if len(names) == 1 and len(listed) != 1:
        listed = [listed]  # a list of samples, or of numbers
    if len(listed) != len(names):
        wanted = f"{counted(len(names), 'input')} ({', '.join(names)})"
        raise ValueError(f"{file} has {wanted}, not {len(listed)}")
    arrays = [np.asarray(array) for array in listed]
    if model.signature is None or len(names) == 1:
        return arrays
    order = [name for name, _ in model.signature.inputs]
    if _alike(model):
        raise ValueError(
            f"inputs of {file} have the same shape, and their order is not that in which Keras has"
            f" them: give the arrays by name, as a dict of {', '.join(order)}"
        )
    return [arrays[order.index(name)] for name in names]


def _alike(model: Model) -> bool:
    """Whether two inputs have the same shape and type, so that swapping them would go unnoticed."""
    tensors = [model.graph.tensors[index] for index in model.graph.inputs]
    kinds = [(tensor.shape_signature or tensor.shape, tensor.dtype) for tensor in tensors]
    return len(set(kinds)) < len(kinds)


def _by_name(model: Model, given: Mapping[str, Any]) -> list[Array]:
    import numpy as np

    names, file = named(model), model.path.name
    known = {}
    for name, index in zip(names, model.graph.inputs, strict=True):
        full = model.graph.tensors[index].name
        bare = CONVERTED.match(full)
        known.update(dict.fromkeys((full, bare.group(1) if bare else full, name), name))
    unknown = [name for name in given if name not in known]
    arrays = {known[name]: np.asarray(array) for name, array in given.items() if name in known}
    if unknown or len(arrays) < len(names):
        lacking = [name for name in names if name not in arrays]
        fault = f"no input {unknown[0]!r}" if unknown else f"an input {lacking[0]!r}, not given"
        raise ValueError(f"{file} has {fault}; its inputs are {', '.join(names)}")
    return [arrays[name] for name in names]


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in names by their value."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def as_stored(model: Model, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """The arrays in the types of the inputs; real numbers are quantized as the file says.

    Raises:
        ValueError: a type does not fit.
    """
    import numpy as np

    tensors = (model.graph.tensors[index] for index in model.graph.inputs)
    return tuple(
        np.ascontiguousarray(_converted(array, tensor, model, name))
        for array, tensor, name in zip(arrays, tensors, named(model), strict=True)
    )


def _converted(array: Array, tensor: Tensor, model: Model, name: str) -> Array:
    import numpy as np

    if array.dtype.name == tensor.dtype:
        return array
    if tensor.quantized and array.dtype.kind == "f":
        info = np.iinfo(tensor.dtype)
        steps = np.rint(array / tensor.scales[0]) + tensor.zero_points[0]
        quantized: Array = np.clip(steps, info.min, info.max).astype(tensor.dtype)
        return quantized
    fits = tensor.dtype != "string" and (
        np.can_cast(array.dtype, tensor.dtype, "same_kind")
        or (
            array.dtype.kind in "iu"
            and np.dtype(tensor.dtype).kind in "iu"
            and _holds(array, tensor)
        )
    )
    if not fits:
        raise ValueError(
            f"the input {name!r} of {model.path.name} takes {tensor.dtype}, not {array.dtype.name}"
        )
    return array.astype(tensor.dtype)


def _holds(array: Array, tensor: Tensor) -> bool:
    """Whether the integers are within the range of the tensor's type."""
    import numpy as np

    info = np.iinfo(tensor.dtype)
    return not array.size or (int(array.min()) >= info.min and int(array.max()) <= info.max)
