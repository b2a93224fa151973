"""A model's own rounding: what moving its numbers by one unit in the last place does to outputs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_sparsity.comparison import louder, noise_between
from pytest_sparsity.errors import TargetError, Unsupported
from pytest_sparsity.inference import invoked
from pytest_sparsity.transform import replace_weights, rescale_sums, widen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from pytest_sparsity.inputs import Feed
    from pytest_sparsity.model import Model, Tensor
    from pytest_sparsity.targets import Worker

    Array = NDArray[Any]
    Outputs = Sequence[Array]

DRAWS = 3
"""Copies of the model whose numbers are moved in different directions."""
FURTHER_DRAWS = 9
"""The same before a model is accused: of 100,000 values some hundred have hardly any noise in three
draws by luck, and none in twelve."""
BIASED = {"CONV_2D": 0, "FULLY_CONNECTED": 0, "DEPTHWISE_CONV_2D": 3}
"""Operators whose third operand is a bias, and where their weights have the output channels."""
STEPS = 255
"""Of eight bits: what the inputs of a quantized model are rounded to, once in every layer."""


def own_noise(
    worker: Worker,
    fed: Feed,
    outputs: Sequence[Outputs],
    folder: Path,
    *,
    kernels: str = "default",
    draws: Iterable[int] = range(DRAWS),
) -> list[Array]:
    """How much each value of each output changes if the model's numbers are moved a little.

    All constants and inputs of float32 are moved to a neighbouring float32, up or down at random;
    so are constants of float16, which are computed with as float32. Sums of what was computed, such
    as a mean, are taken of other multiples of their terms. The inputs of a model with quantized
    tensors are moved by up to one step of eight bits. To that is added how far TFLite's two sets of
    kernels are apart, where the target has them.

    Args:
        worker: of the target.
        fed: what the model, stored densely, is run on.
        outputs: of the model, for sets 0, 1, ... of its inputs.
        folder: where the moved copies are written.
        kernels: with which the outputs were computed.
        draws: numbers of the copies, each with the directions of its number.
    """
    import numpy as np

    found = []
    wide = widen(fed.model, folder / "wide.tflite")
    for draw in draws:
        rng = np.random.Generator(np.random.PCG64(draw))
        copy = _moved_copy(wide, rng, folder / "moved.tflite")
        moved = fed.moved(copy, partial(_moved_input, fed.model, rng))
        worker.load("moved", copy, shapes=fed.shapes, kernels=kernels)
        changed = invoked(worker, "moved", moved, range(len(outputs)), kernels=kernels)
        found.append(noise_between(changed, outputs))
        worker.unload("moved")
    return louder([*found, *_between_kernels(worker, fed)])


def _moved_copy(model: Model, rng: np.random.Generator, path: Path) -> Model:
    terms = _terms(model)
    replaced = {}
    for g, graph in enumerate(model.graphs):
        for tensor in filter(_is_weight, graph.tensors):
            key = g, tensor.index
            replaced[key] = nudged(model.weights(tensor.index, g), rng, terms.get(key, 0))
    moved = replace_weights(model, replaced, path)
    return rescale_sums(moved, lambda: float(rng.uniform(1, 2)), path)


def _terms(model: Model) -> dict[tuple[int, int], int]:
    """Of each bias, by (graph, tensor), how many products are added to it, one after the other."""
    found = {}
    for layer in model.layers:
        operator = model.graphs[layer.graph].operators[layer.operator]
        if operator.op in BIASED and len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            channels = layer.shape[BIASED[operator.op]]
            found[layer.graph, operator.inputs[2]] = layer.parameters // max(channels, 1)
    return found


def _is_weight(tensor: Tensor) -> bool:
    return tensor.constant and tensor.dtype == "float32" and tensor.sparsity is None


def nudged(array: Array, rng: np.random.Generator, terms: int = 0) -> Array:
    """Every float32 moved to one of its neighbours; zeros stay zeros.

    A bias is what XNNPACK's kernels begin their sums with (`vacc = w[...]` in its f32 kernels), so
    it is rounded once for each of its `terms`: by half a unit in the last place at most, which is
    0.29 in the mean square.
    """
    import numpy as np

    ends = np.where(rng.random(array.shape) < 0.5, -np.inf, np.inf).astype(array.dtype)
    moved: Array = np.where(array == 0, array, np.nextafter(array, ends)).astype(array.dtype)
    if terms:
        units = rng.standard_normal(array.shape) * 0.29 * np.sqrt(terms)
        moved = (moved + units * np.abs(np.spacing(array)) * (array != 0)).astype(array.dtype)
    return moved


def _moved_input(model: Model, rng: np.random.Generator, array: Array) -> Array:
    import numpy as np

    if array.dtype == np.float32 and any(t.quantized for t in model.graph.tensors):
        step = (float(array.max(initial=0)) - float(array.min(initial=0))) / STEPS
        shaken: Array = array + rng.uniform(-step, step, array.shape).astype(np.float32)
        return shaken
    if array.dtype == np.float32:
        return nudged(array, rng)
    if array.dtype.kind in "iu" and array.dtype.itemsize < 4:
        info = np.iinfo(array.dtype)
        moved = array.astype(np.int64) + rng.integers(-1, 2, array.shape)
        clipped: Array = np.clip(moved, info.min, info.max).astype(array.dtype)
        return clipped
    return array


def _between_kernels(worker: Worker, fed: Feed) -> list[list[Array]]:
    found = []
    for kernels in ("builtin", "reference"):
        try:
            worker.load("kernels", fed.model, kernels=kernels, shapes=fed.shapes)
        except (Unsupported, TargetError):
            return []  # The target has none, or none for one of the operators.
        found.append(invoked(worker, "kernels", fed, (0,), kernels=kernels))
        worker.unload("kernels")
    return [noise_between(*found)]
