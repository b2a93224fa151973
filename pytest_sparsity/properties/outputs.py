"""What a model promises when it runs: it loads, says something, and says the same again.

Every function takes `inputs` and `shapes`, as `pytest_sparsity.inputs.feed` describes them; by
default inputs are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_sparsity import defaults
from pytest_sparsity.errors import TargetError, Unsupported
from pytest_sparsity.inference import KEY, as_real, invoked
from pytest_sparsity.inputs import feed, named, natural, output_order
from pytest_sparsity.model import Model
from pytest_sparsity.properties.common import explain
from pytest_sparsity.targets import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pytest_sparsity.inputs import Feed, InputsLike, Shapes
    from pytest_sparsity.properties.common import ModelLike

    Array = NDArray[Any]
    Function = Callable[..., Any]

SETS = 3
"""Sets of inputs at most."""

TOLERANCES = {"float32": 1e-4, "float16": 0.05, "int8": 0.5}
"""Largest difference between a network and its conversion, by the coarsest type of the weights.

As a share of the largest output. Measured with random weights and inputs on the zoo's networks,
from the 4 layers of `mlp` to the 53 of `mobilenet_v2` (TensorFlow 2.21): float32 3e-7 to 8e-6,
float16 5e-4 to 0.022, dynamic range 0.014 to 0.13, int8 0.013 to 0.31. Rounding adds up over
layers; trained weights do better, and a network's own tests should ask for less.
"""


def runs(
    model: ModelLike,
    target: str | Target = defaults.TARGET,
    *,
    inputs: InputsLike | None = None,
    shapes: Shapes | None = None,
) -> None:
    """The model loads on a target, runs, and its outputs are finite.

    Raises:
        AssertionError: it does not; the message says whether it would without XNNPACK.
        Unsupported: the target cannot run here.
    """
    import numpy as np

    model, target = Model.of(model), Target.of(target)
    fed = feed(model, inputs, shapes)
    try:
        outputs = _outputs(fed, target)
    except TargetError as error:
        remedy = _without_xnnpack(fed, target)
        message = f"{model.path.name} does not run on {target}: {error}; {remedy}"
        raise AssertionError(message) from error
    for number, arrays in enumerate(outputs):
        if not all(np.isfinite(array).all() for array in arrays if array.dtype.kind in "fc"):
            raise AssertionError(
                f"{model.path.name} gives NaN or infinity on {target} (inputs {number});"
                f" {explain(model, target)}"
            )


def _without_xnnpack(fed: Feed, target: Target) -> str:
    """What to do about a model that does not run, from a try with the runtime's own kernels."""
    try:
        _outputs(fed, target, "builtin")
    except (TargetError, Unsupported):
        return (
            "nor does it with the runtime's own kernels: use a newer runtime, or convert it again"
        )
    return (
        "it does with the runtime's own kernels: store quantized weights densely, or load it with"
        " BUILTIN_WITHOUT_DEFAULT_DELEGATES"
    )


def same_outputs(
    reference: ModelLike | Function,
    model: ModelLike,
    target: str | Target = defaults.TARGET,
    *,
    tolerance: float | None = None,
    inputs: InputsLike | None = None,
    shapes: Shapes | None = None,
) -> None:
    """A model's outputs are those of another, or of the network that it was converted from.

    Inputs and outputs are matched by the names in the signature, so that a Keras network may have
    several of them in any order.

    Args:
        reference: a model, which runs on the same target; a Keras network; or a function of as many
            arrays, each (batch, ...), as the model has inputs, in the order of the signature.
        model: the model.
        target: where to run.
        tolerance: the largest difference allowed, as a share of the largest output; by default
            that of `TOLERANCES` for the coarsest weights in the model.
        inputs: what to run both on.
        shapes: of the inputs.

    Raises:
        AssertionError: an output differs by more, or its size does.
        Unsupported: the target cannot run here.
    """
    model, target = Model.of(model), Target.of(target)
    allowed = _tolerance(model) if tolerance is None else tolerance
    fed = feed(model, inputs, shapes)
    ours = [_by_signature(model, arrays) for arrays in _outputs(fed, target)]
    theirs = _reference(reference, [_real(fed, number) for number in range(len(ours))], target)
    worst = max(
        _difference(a, b)
        for one, other in zip(ours, theirs, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    if worst > allowed:
        raise AssertionError(
            f"{model.path.name} differs from {_name(reference)} on {target} by {worst:.2g} of the"
            f" largest output, more than {allowed:g}; {explain(model, target)}"
        )


def _tolerance(model: Model) -> float:
    types = [layer.dtype for layer in model.layers]
    return max((TOLERANCES.get(dtype, 0.0) for dtype in types), default=TOLERANCES["float32"])


def _real(fed: Feed, number: int) -> dict[str, Array]:
    """A set of inputs by name, in the order of the signature, as real numbers."""
    tensors = [fed.model.graph.tensors[index] for index in fed.model.graph.inputs]
    arrays = zip(fed.arrays(number), tensors, strict=True)
    by_name = dict(zip(named(fed.model), (as_real(a, t) for a, t in arrays), strict=True))
    signature = fed.model.signature
    return {name: by_name[name] for name, _ in signature.inputs} if signature else by_name


def _by_signature(model: Model, arrays: tuple[Array, ...]) -> list[Array]:
    """The outputs in the order of the signature, as real numbers."""
    tensors = [model.graph.tensors[index] for index in model.graph.outputs]
    return [as_real(arrays[place], tensors[place]) for place in output_order(model)]


def _reference(
    reference: ModelLike | Function, sets: list[dict[str, Array]], target: Target
) -> list[list[Array]]:
    if not callable(reference):
        other = Model.of(reference)
        names = set(named(other))
        alike = all(names == set(each) for each in sets)
        given = [each if alike else list(each.values()) for each in sets]
        shapes = {name: each.shape for name, each in sets[0].items()} if alike else None
        fed = feed(other, lambda number: given[number], shapes)
        return [_by_signature(other, arrays) for arrays in _outputs(fed, target, count=len(sets))]
    return [_called(reference, each) for each in sets]


def _called(function: Function, arrays: dict[str, Array]) -> list[Array]:
    """The outputs of a Keras network, which has names, or of a function, which has none."""
    import numpy as np

    names = getattr(function, "input_names", None)
    if names and set(names) == set(arrays):
        output = function([arrays[name] for name in names] if len(names) > 1 else arrays[names[0]])
    else:
        output = function(*arrays.values())
    if isinstance(output, Mapping):
        output = [output[name] for name in sorted(output, key=natural)]
    return [np.asarray(a) for a in (output if isinstance(output, (list, tuple)) else [output])]


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
    model: ModelLike,
    target: str | Target = defaults.TARGET,
    *,
    at_least: float = 1e-6,
    inputs: InputsLike | None = None,
    shapes: Shapes | None = None,
) -> None:
    """The outputs depend on the inputs; those of a model that do not would pass any comparison.

    Deep networks with untrained weights give 1e-25 for everything.

    Args:
        model: the model.
        target: where to run.
        at_least: what the standard deviation of some output over the inputs must reach.
        inputs: several sets, if any.
        shapes: of the inputs.

    Raises:
        AssertionError: no output varies by as much.
        Unsupported: the target cannot run here.
    """
    import numpy as np

    model = Model.of(model)
    tensors = [model.graph.tensors[index] for index in model.graph.outputs]
    by_seed = [
        [as_real(array, tensor) for array, tensor in zip(arrays, tensors, strict=True)]
        for arrays in _outputs(feed(model, inputs, shapes), Target.of(target))
    ]
    with np.errstate(invalid="ignore"):  # of infinite outputs the deviation is NaN
        spread = max(
            float(np.std(np.asarray(arrays, np.float64), axis=0).max())
            for arrays in zip(*by_seed, strict=True)
        )
    if not spread >= at_least:  # also if it is NaN
        raise AssertionError(
            f"{model.path.name} gives the same outputs for all inputs on {target}: the largest"
            f" standard deviation of an output is {spread:.2g}, below {at_least:g}; train the"
            " network, or give it weights that keep its activations of order one"
        )


def repeatable(
    model: ModelLike,
    target: str | Target = defaults.TARGET,
    *,
    inputs: InputsLike | None = None,
    shapes: Shapes | None = None,
) -> None:
    """A second invocation with the same inputs gives the same bits.

    Raises:
        AssertionError: it does not.
        Unsupported: the target cannot run here.
    """
    model, target = Model.of(model), Target.of(target)
    fed = feed(model, inputs, shapes)
    with target.open() as worker:
        worker.load(KEY, model, shapes=fed.shapes)
        worker.set_inputs(KEY, fed.arrays(0))
        first, second = worker.outputs(KEY), worker.outputs(KEY)
    pairs = list(zip(second, first, strict=True))
    if any(a.tobytes() != b.tobytes() for a, b in pairs):
        worst = max(_difference(a, b) for a, b in pairs)
        raise AssertionError(
            f"{model.path.name} gives other outputs when it is invoked again with the same inputs"
            f" on {target} (by {worst:.2g} of the largest output); it keeps a state, as a fused"
            " LSTM does, or reads memory that is not its own: unroll the LSTM, or use a fresh"
            " interpreter per sequence"
        )


def _outputs(
    fed: Feed, target: Target, kernels: str = "default", count: int = SETS
) -> list[tuple[Array, ...]]:
    """The outputs as they are, for each set of inputs."""
    with target.open() as worker:
        worker.load(KEY, fed.model, kernels=kernels, shapes=fed.shapes)
        return invoked(worker, KEY, fed, range(min(count, fed.count)), kernels=kernels)
