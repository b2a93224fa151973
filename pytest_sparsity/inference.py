"""A model's outputs for given samples on a target, as real numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity import defaults
from pytest_sparsity.inputs import as_stored, by_input, output_order, settled, split
from pytest_sparsity.model import Model
from pytest_sparsity.targets import Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from os import PathLike

    from numpy.typing import NDArray

    from pytest_sparsity.inputs import Feed, Shapes
    from pytest_sparsity.model import Tensor
    from pytest_sparsity.targets import Worker

    Array = NDArray[Any]

KEY = "model"


def outputs(
    model: str | PathLike[str] | Model,
    samples: Mapping[str, Array] | Array | Sequence[Array],
    *,
    target: str | Target = defaults.TARGET,
    shapes: Shapes | None = None,
) -> tuple[Array, ...]:
    """Run a model on samples, one after the other, and return its outputs.

    A quantized input takes real numbers, which are quantized as the file says, or numbers of its
    own type; a quantized output is returned as the real numbers that it stands for. A model that
    keeps a state, such as a fused LSTM, starts every sample without one.

    Args:
        model: a model or the path of one.
        samples: of shape (n, ...), where ... is the shape of the input without its batch; if there
            are several inputs, such arrays by name, or in the order of the signature (without one,
            of the file).
        target: where to run.
        shapes: of the inputs, where the file leaves sizes open and the samples do not tell.

    Returns:
        One array of shape (n, ...) per output, in the order of the signature, which is Keras', or
        without one of the file.

    Raises:
        ValueError: the samples do not fit the inputs.
        LoadError: the target refuses the model.
        Unsupported: the target cannot run here.
    """
    import numpy as np

    model = Model.of(model)
    known, sets, count = _sets(model, by_input(model, samples), shapes)
    with Target.of(target).open() as worker:
        batches = list(_run(worker, model, known, sets))
    joined = [np.concatenate(parts)[:count] for parts in zip(*batches, strict=True)]
    tensors = [model.graph.tensors[index] for index in model.graph.outputs]
    return tuple(as_real(joined[place], tensors[place]) for place in output_order(model))


def invoked(
    worker: Worker, key: str, fed: Feed, numbers: Iterable[int], *, kernels: str = "default"
) -> list[tuple[Array, ...]]:
    """The outputs, as they are, of a loaded model for sets of its inputs.

    One that keeps a state is loaded again for every set.
    """
    found = []
    for number in numbers:
        if fed.model.stateful:
            worker.load(key, fed.model, kernels=kernels, shapes=fed.shapes)
        worker.set_inputs(key, fed.arrays(number))
        found.append(worker.outputs(key))
    return found


def _sets(
    model: Model, arrays: list[Array], shapes: Shapes | None
) -> tuple[tuple[tuple[int, ...], ...], list[tuple[Array, ...]], int]:
    """Shapes, the samples as one set of inputs per batch, and their number.

    The last batch is filled up with the last sample.
    """
    import numpy as np

    name, wanted = model.path.name, settled(model, shapes)
    batches = {sizes[0] or 1 for sizes in wanted if sizes}
    if len(batches) != 1:
        raise ValueError(f"the inputs of {name} have different batches, so samples have no meaning")
    if len({array.shape[:1] for array in arrays}) > 1 or not arrays[0].size:
        raise ValueError(f"{name} needs as many samples for each input, and at least one")
    count, batch = len(arrays[0]), batches.pop()
    places = np.minimum(np.arange(-(-count // batch) * batch), count - 1)
    known, sets = split(model, [array[places] for array in arrays], wanted)
    return known, [as_stored(model, each) for each in sets], count


def as_real(array: Array, tensor: Tensor) -> Array:
    """The real numbers that a quantized tensor's values stand for; other values unchanged."""
    import numpy as np

    if not tensor.quantized:
        return array
    return (array.astype(np.float32) - tensor.zero_points[0]) * np.float32(tensor.scales[0])


def _run(
    worker: Worker,
    model: Model,
    shapes: tuple[tuple[int, ...], ...],
    sets: Sequence[tuple[Array, ...]],
) -> Iterator[list[Array]]:
    """The outputs of the sets, one after the other, with the samples in front."""
    batch = shapes[0][0]
    for number, arrays in enumerate(sets):
        if model.stateful or not number:
            worker.load(KEY, model, shapes=shapes)
        worker.set_inputs(KEY, arrays)
        yield [_rows(output, batch) for output in worker.outputs(KEY)]


def _rows(output: Array, batch: int) -> Array:
    """The output with the batch in front, also where its shape does not show a batch of one."""
    if batch == 1:
        return output.reshape(1, *output.shape[1:]) if output.shape[:1] == (1,) else output[None]
    if output.shape[:1] != (batch,):
        raise ValueError(
            f"an output of shape {output.shape} has no row for each of {batch} samples"
        )
    return output
