"""What a model promises when it runs: it loads, says something, and says the same again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import TargetError, Unsupported
from pytest_sparsity.inference import KEY, answers, as_real
from pytest_sparsity.model import Model
from pytest_sparsity.properties.common import explain
from pytest_sparsity.targets import Signature, Target, TensorSpec, seeded_inputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pytest_sparsity.properties.common import ModelLike
    from pytest_sparsity.targets import Worker

    Array = NDArray[Any]
    Function = Callable[..., Any]

SEEDS = (0, 1, 2)
"""One set of random inputs each."""

TOLERANCES = {"float32": 1e-4, "float16": 0.05, "int8": 0.5}
"""Largest difference between a network and its conversion, by the coarsest type of the weights.

As a share of the largest output. Measured with random weights and inputs on the zoo's networks,
from the 4 layers of `mlp` to the 53 of `mobilenet_v2` (TensorFlow 2.21): float32 3e-7 to 8e-6,
float16 5e-4 to 0.022, dynamic range 0.014 to 0.13, int8 0.013 to 0.31. Rounding adds up over
layers; trained weights do better, and a network's own tests should ask for less.
"""


def runs(model: ModelLike, target: str | Target = "litert") -> None:
    """The model loads on a target, runs, and its outputs are finite.

    Raises:
        AssertionError: it does not; the message says whether it would without XNNPACK.
        Unsupported: the target cannot run here.
    """
    import numpy as np

    model, target = Model.of(model), Target.of(target)
    try:
        outputs = _outputs(model, target, "default")
    except TargetError as error:
        remedy = _without_xnnpack(model, target)
        message = f"{model.path.name} does not run on {target}: {error}; {remedy}"
        raise AssertionError(message) from error
    for seed, arrays in zip(SEEDS, outputs, strict=True):
        if not all(np.isfinite(array).all() for array in arrays):
            raise AssertionError(
                f"{model.path.name} answers NaN or infinity on {target} (inputs of seed {seed});"
                f" {explain(model, target)}"
            )


def _without_xnnpack(model: Model, target: Target) -> str:
    """What to do about a model that does not run, from a try with the runtime's own kernels."""
    try:
        _outputs(model, target, "builtin")
    except (TargetError, Unsupported):
        return "nor does it with the runtime's own kernels: use a newer runtime, or convert it anew"
    return (
        "it does with the runtime's own kernels: store quantized weights densely, or load it with"
        " BUILTIN_WITHOUT_DEFAULT_DELEGATES"
    )


def same_outputs(
    reference: ModelLike | Function,
    model: ModelLike,
    target: str | Target = "litert",
    *,
    tolerance: float | None = None,
) -> None:
    """A model's outputs are those of another, or of the network that it was converted from.

    Args:
        reference: a model, which runs on the same target, or a function of as many arrays, each
            (batch, ...), as the model has inputs, such as a Keras network of one input.
        model: the model.
        target: where to run.
        tolerance: the largest difference allowed, as a share of the largest output; by default
            that of `TOLERANCES` for the coarsest weights in the model.

    Raises:
        AssertionError: an output differs by more, or its size does.
        Unsupported: the target cannot run here.
    """
    model = Model.of(model)
    allowed = _tolerance(model) if tolerance is None else tolerance
    samples = [_samples(model, seed) for seed in SEEDS]
    ours = answers(model, _joined(samples), target=target)
    theirs = _reference(reference, samples, target)
    worst = max(_difference(a, b) for a, b in zip(ours, theirs, strict=True))
    if worst > allowed:
        raise AssertionError(
            f"{model.path.name} differs from {_name(reference)} on {target} by {worst:.2g} of the"
            f" largest output, more than {allowed:g}; {explain(model, target)}"
        )


def _tolerance(model: Model) -> float:
    types = [layer.dtype for layer in model.layers]
    return max((TOLERANCES.get(dtype, 0.0) for dtype in types), default=TOLERANCES["float32"])


def _samples(model: Model, seed: int) -> list[Array]:
    """A batch of random samples for each input: real numbers from [0, 1) for quantized ones."""
    tensors = [model.graph.tensors[index] for index in model.graph.inputs]
    specs = (TensorSpec(t.name, t.shape, "float32" if t.quantized else t.dtype) for t in tensors)
    return list(seeded_inputs(Signature(tuple(specs), ()), seed))


def _joined(samples: list[list[Array]]) -> list[Array]:
    import numpy as np

    return [np.concatenate(batches) for batches in zip(*samples, strict=True)]


def _reference(
    reference: ModelLike | Function, samples: list[list[Array]], target: str | Target
) -> tuple[Array, ...]:
    import numpy as np

    if not callable(reference):
        return answers(reference, _joined(samples), target=target)
    outputs = []
    for batch in samples:
        output = reference(*batch)
        several = isinstance(output, (list, tuple))
        outputs.append([np.asarray(array) for array in (output if several else [output])])
    return tuple(_joined(outputs))


def _difference(ours: Array, theirs: Array) -> float:
    """Largest difference over the largest magnitude of `theirs`."""
    import numpy as np

    a, b = (array.astype(np.float64).ravel() for array in (ours, theirs))
    if a.size != b.size or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    largest, difference = np.abs(b).max(initial=0.0), np.abs(a - b).max(initial=0.0)
    return float(difference / largest) if largest else float("inf" if difference else 0.0)


def _name(reference: ModelLike | Function) -> str:
    if callable(reference):
        return getattr(reference, "__qualname__", type(reference).__name__)
    return Model.of(reference).path.name


def outputs_vary(
    model: ModelLike, target: str | Target = "litert", *, at_least: float = 1e-6
) -> None:
    """The outputs depend on the inputs; those of a model that do not would pass any comparison.

    Deep networks with untrained weights answer 1e-25 to everything.

    Args:
        model: the model.
        target: where to run.
        at_least: what the standard deviation of some output over the inputs must reach.

    Raises:
        AssertionError: no output varies by as much.
        Unsupported: the target cannot run here.
    """
    import numpy as np

    model = Model.of(model)
    tensors = [model.graph.tensors[index] for index in model.graph.outputs]
    by_seed = [
        [as_real(array, tensor) for array, tensor in zip(arrays, tensors, strict=True)]
        for arrays in _outputs(model, Target.of(target), "default")
    ]
    with np.errstate(invalid="ignore"):  # of infinite outputs the deviation is NaN
        spread = max(
            float(np.std(np.asarray(arrays, np.float64), axis=0).max())
            for arrays in zip(*by_seed, strict=True)
        )
    if not spread >= at_least:  # also if it is NaN
        raise AssertionError(
            f"{model.path.name} answers the same to all inputs on {target}: the largest standard"
            f" deviation of an output is {spread:.2g}, below {at_least:g}; train the network, or"
            " give it weights that keep its activations of order one"
        )


def repeatable(model: ModelLike, target: str | Target = "litert") -> None:
    """A second invocation with the same inputs gives the same bits.

    Raises:
        AssertionError: it does not.
        Unsupported: the target cannot run here.
    """
    model, target = Model.of(model), Target.of(target)
    with target.open() as worker:
        worker.set_inputs(KEY, seeded_inputs(worker.load(KEY, model.path), SEEDS[0]))
        first, second = worker.outputs(KEY), worker.outputs(KEY)
    pairs = list(zip(second, first, strict=True))
    if any(a.tobytes() != b.tobytes() for a, b in pairs):
        worst = max(_difference(a, b) for a, b in pairs)
        raise AssertionError(
            f"{model.path.name} answers otherwise when it is invoked again with the same inputs on"
            f" {target} (by {worst:.2g} of the largest output); it keeps a state, as a fused LSTM"
            " does, or reads memory that is not its own: unroll the LSTM, or use a fresh"
            " interpreter per sequence"
        )


def _outputs(model: Model, target: Target, kernels: str) -> list[tuple[Array, ...]]:
    """The outputs as they are, for the inputs of each seed."""
    with target.open() as worker:
        signature = worker.load(KEY, model.path, kernels=kernels)
        return [_invoke(worker, seeded_inputs(signature, seed)) for seed in SEEDS]


def _invoke(worker: Worker, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    worker.set_inputs(KEY, inputs)
    return worker.outputs(KEY)
