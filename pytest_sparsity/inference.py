"""A model's answers to given samples on a target, as real numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity.model import Model
from pytest_sparsity.targets import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from os import PathLike

    from numpy.typing import NDArray

    from pytest_sparsity.model import Tensor
    from pytest_sparsity.targets import Signature, Worker

    Array = NDArray[Any]

KEY = "model"


def answers(
    model: str | PathLike[str] | Model,
    samples: Array | Sequence[Array],
    *,
    target: str | Target = "litert",
) -> tuple[Array, ...]:
    """Run a model on samples, one after the other, and return its outputs.

    A quantized input takes real numbers, which are quantized as the file says, or numbers of its
    own type; a quantized output is returned as the real numbers that it stands for. A model that
    keeps a state, such as a fused LSTM, starts every sample without one.

    Args:
        model: a model or the path of one.
        samples: of shape (n, ...), where ... is the shape of the input without its batch; a
            sequence of such arrays if there are several inputs.
        target: where to run.

    Returns:
        One array of shape (n, ...) per output, in the order of the file.

    Raises:
        ValueError: the samples do not fit the inputs.
        LoadError: the target refuses the model.
        Unsupported: the target cannot run here.
    """
    import numpy as np

    model = Model.of(model)
    arrays = [samples] if isinstance(samples, np.ndarray) else list(samples)
    with Target.of(target).open() as worker:
        signature = worker.load(KEY, model.path)
        stored = _as_stored(model, signature, arrays)
        batches = list(_run(worker, model, signature, stored))
    joined = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    outputs = (model.graph.tensors[index] for index in model.graph.outputs)
    return tuple(as_real(array, tensor) for array, tensor in zip(joined, outputs, strict=True))


def _as_stored(model: Model, signature: Signature, arrays: list[Array]) -> list[Array]:
    """The samples in the types of the inputs."""
    name = model.path.name
    if len(arrays) != len(signature.inputs):
        raise ValueError(f"{name} has {len(signature.inputs)} inputs, not {len(arrays)}")
    if len({spec.shape[0] for spec in signature.inputs}) > 1:
        raise ValueError(f"the inputs of {name} have different batches, so samples have no meaning")
    if len({len(array) for array in arrays}) > 1 or not len(arrays[0]):
        raise ValueError(f"{name} needs as many samples for each input, and at least one")
    stored = []
    tensors = (model.graph.tensors[index] for index in model.graph.inputs)
    for array, spec, tensor in zip(arrays, signature.inputs, tensors, strict=True):
        if array.shape[1:] != spec.shape[1:]:
            raise ValueError(
                f"{name} takes samples of shape {spec.shape[1:]}, not {array.shape[1:]}"
            )
        stored.append(_quantized(array, tensor, spec.dtype))
    return stored


def _quantized(array: Array, tensor: Tensor, dtype: str) -> Array:
    import numpy as np

    if array.dtype.name == dtype:
        return array
    if tensor.quantized and array.dtype.kind == "f":
        info = np.iinfo(dtype)
        steps = np.rint(array / tensor.scales[0]) + tensor.zero_points[0]
        quantized: Array = np.clip(steps, info.min, info.max).astype(dtype)
        return quantized
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ValueError(f"the input {tensor.name!r} takes {dtype}, not {array.dtype.name}")
    return array.astype(dtype)


def as_real(array: Array, tensor: Tensor) -> Array:
    """The real numbers that a quantized tensor's values stand for; other values unchanged."""
    import numpy as np

    if not tensor.quantized:
        return array
    return (array.astype(np.float32) - tensor.zero_points[0]) * np.float32(tensor.scales[0])


def _run(
    worker: Worker, model: Model, signature: Signature, arrays: list[Array]
) -> Iterator[list[Array]]:
    """The outputs of the samples, a batch at a time; the last batch is filled up."""
    import numpy as np

    batch = signature.inputs[0].shape[0]
    for start in range(0, len(arrays[0]), batch):
        if model.stateful and start:
            worker.load(KEY, model.path)
        rows = min(batch, len(arrays[0]) - start)
        places = np.minimum(np.arange(start, start + batch), start + rows - 1)
        worker.set_inputs(KEY, [np.ascontiguousarray(array[places]) for array in arrays])
        yield [_rows(output, batch)[:rows] for output in worker.outputs(KEY)]


def _rows(output: Array, batch: int) -> Array:
    """The output with the batch in front, also where its shape does not show a batch of one."""
    if batch == 1:
        return output.reshape(1, *output.shape[1:]) if output.shape[:1] == (1,) else output[None]
    if output.shape[:1] != (batch,):
        raise ValueError(
            f"an output of shape {output.shape} has no row for each of {batch} samples"
        )
    return output
