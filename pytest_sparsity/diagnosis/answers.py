"""Whether a model's answers are right on a target: against its twin and the reference kernels."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.children import scratch_folder
from pytest_sparsity.encoding import whole_blocks
from pytest_sparsity.errors import Unsupported, WrongAnswers
from pytest_sparsity.targets import LoadError, Target, seeded_inputs
from pytest_sparsity.transform import densify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pytest_sparsity.model import Model
    from pytest_sparsity.targets import Signature, Worker

    Outputs = Sequence[NDArray[Any]]

SEEDS = (0, 1, 2)
"""One set of inputs per seed; the reference kernels get the first only."""

SLOW = 0.5
"""Seconds per inference, emulation for the most part, from which one set of inputs must do, and
TFLite's optimised kernels in place of the reference ones, which take up to 100 times as long."""

MORE = tuple(range(len(SEEDS), 24))
"""Further inputs for a model whose outputs vary so little that equal bits may be luck."""

TELLING = 16
"""Values that must vary with the inputs before equal bits show that the same kernels ran. Sparse
and dense kernels differ in the last bit of about half of all sums; of very short ones in fewer."""

TOLERANCE = 1e-4
"""Largest deviation that is still rounding, as a share of the largest output.

Between XNNPACK's kernels and TFLite's reference kernels 2e-5 of it were seen (MobileNetV1,
LiteRT 2.3.0); the defects that this is to find begin at 1e-2.
"""

QUANTIZED_TOLERANCE = 2 / 127
"""The same for models with quantized tensors: two steps of an int8 output.

Kernels round a product to the next step in different ways. TFLite's 1x16 block kernel is one step
(0.0079) off XNNPACK's dense one (LiteRT 2.3.0); the defects that this is to find begin at 0.1.
"""

TWIN = "those of the same weights stored densely"

_checked: dict[tuple[str, str, str], WrongAnswers | None] = {}


@dataclass(frozen=True)
class Comparison:
    """How far a model's outputs are from those they are compared with.

    Attributes:
        against: what they are compared with, as a noun phrase.
        deviation: the largest difference over the largest magnitude of the output it is in; inf if
            one side is not finite where the other is, or the sizes differ.
        identical: every bit is equal.
        finite: all the model's outputs are finite.
        seed: of the inputs with the largest deviation.
        constant: the outputs are the same for all inputs, so that they can hide anything.
        tolerance: largest deviation that is still rounding.
    """

    against: str
    deviation: float
    identical: bool
    finite: bool
    seed: int
    constant: bool = False
    tolerance: float = TOLERANCE

    @property
    def right(self) -> bool:
        """The outputs are finite and differ by rounding at most."""
        return self.finite and self.deviation <= self.tolerance

    def __str__(self) -> str:
        if not self.finite:
            return f"its outputs are not finite (inputs of seed {self.seed})"
        return (
            f"its outputs differ from {self.against} by {self.deviation:.2g} of the largest "
            f"output, more than {self.tolerance:.2g} (inputs of seed {self.seed})"
        )


def compare(against: str, ours: Sequence[Outputs], theirs: Sequence[Outputs]) -> Comparison:
    """Compare outputs, one entry per seed from 0 on."""
    import numpy as np

    pairs = list(zip(ours, theirs, strict=True))
    deviations = [max(map(deviation, one, other), default=0.0) for one, other in pairs]
    finite = [all(np.isfinite(array).all() for array in outputs) for outputs in ours]
    worst = finite.index(False) if False in finite else int(np.argmax(deviations))
    return Comparison(
        against=against,
        deviation=deviations[worst],
        identical=all(_equal(one, other) for one, other in pairs),
        finite=all(finite),
        seed=worst,
    )


def _equal(ours: Outputs, theirs: Outputs) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(ours, theirs, strict=True))


def deviation(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Largest difference over the largest magnitude of `theirs`; inf where only one is finite.

    Shapes may differ in ones: XNNPACK announces some outputs with permuted dimensions.
    """
    import numpy as np

    if ours.size != theirs.size:
        return float("inf")
    one, other = (array.astype(np.float64).ravel() for array in (ours, theirs))
    finite = np.isfinite(other)
    if not np.array_equal(finite, np.isfinite(one)):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = float(np.abs(other[finite]).max())
    difference = float(np.abs(one[finite] - other[finite]).max())
    return difference / scale if scale else (0.0 if difference == 0.0 else float("inf"))


def outputs_of(
    worker: Worker, key: str, signature: Signature, seeds: Sequence[int]
) -> list[Outputs]:
    """The outputs for the inputs of each seed."""
    results: list[Outputs] = []
    for seed in seeds:
        worker.set_inputs(key, seeded_inputs(signature, seed))
        results.append(worker.outputs(key))
    return results


def is_float(model: Model) -> bool:
    """No tensor is quantized: all kernels compute in float32 and agree but for rounding."""
    return not any(tensor.quantized for tensor in model.graph.tensors)


def comparisons(worker: Worker, model: Model, folder: Path) -> list[Comparison]:
    """Compare a model with its densely encoded twin and with the reference kernels.

    Args:
        worker: of the target.
        model: the model; a twin is made if it is sparse-encoded.
        folder: where the twin is written.

    Returns:
        One comparison for the twin if there is one, one for the reference kernels (the optimised
        ones if the model is slow) if the target has them and the model is of floats. If neither,
        one with itself, which tells whether the outputs are finite.

    Raises:
        LoadError: the target refuses the model.
    """
    signature = worker.load("model", model)
    start = time.monotonic()
    ours = outputs_of(worker, "model", signature, SEEDS[:1])
    slow = time.monotonic() - start > SLOW
    rest = () if slow else SEEDS[1:]
    ours += outputs_of(worker, "model", signature, rest)
    found, twin = [], model
    if model.encoded:
        twin = densify(model, folder / "twin.tflite")
        worker.load("twin", twin)
        theirs = outputs_of(worker, "twin", signature, (*SEEDS[:1], *rest))
        found.append(compare(TWIN, ours, theirs))
        if found[0].identical and varying(ours) < TELLING:
            more = MORE[:1] if slow else MORE
            ours += outputs_of(worker, "model", signature, more)
            theirs += outputs_of(worker, "twin", signature, more)
            found[0] = compare(TWIN, ours, theirs)
        worker.unload("twin")
    worker.unload("model")
    if is_float(model):
        found += _against_reference(worker, twin, ours, "builtin" if slow else "reference")
    found = found or [compare("themselves", ours, ours)]
    constant = len(ours) > 1 and varying(ours) == 0
    tolerance = TOLERANCE if is_float(model) else QUANTIZED_TOLERANCE
    return [replace(each, constant=constant, tolerance=tolerance) for each in found]


def varying(outputs: Sequence[Outputs]) -> int:
    """How many values occur in the outputs for some inputs and not in those for all.

    With one set of inputs only, how many values there are.
    """
    import numpy as np

    count = 0
    for tensor in zip(*outputs, strict=True):
        values = [np.unique(array) for array in tensor]
        _, times = np.unique(np.concatenate(values), return_counts=True)
        count += int(np.count_nonzero(times < max(len(values), 2)))
    return count


def _against_reference(
    worker: Worker, twin: Model, ours: Sequence[Outputs], kernels: str
) -> list[Comparison]:
    try:
        signature = worker.load("reference", twin, kernels=kernels)
    except (Unsupported, LoadError):
        return []  # The target has none, or none for one of the operators.
    theirs = outputs_of(worker, "reference", signature, SEEDS[:1])
    worker.unload("reference")
    return [compare(f"those of the {kernels} kernels", ours[:1], theirs)]


def check_answers(model: Model, target: str | Target) -> None:
    """Make sure that a model's answers are right before its speed is measured.

    The answer is kept for the process, by the file's content, the target and its version.

    Raises:
        WrongAnswers: the encoding lost weights, the outputs are not finite, or they differ by more
            than rounding from those of the same weights stored densely or from those of the
            reference kernels.
        LoadError: the target refuses the model.
        Unsupported: the target cannot run here.
    """
    target = Target.of(target)
    key = (model.sha256, target.name, target.version())
    if key not in _checked:
        _check_blocks(model)
        with target.open() as worker, scratch_folder("models") as folder:
            wrong = [c for c in comparisons(worker, model, Path(folder)) if not c.right]
        _checked[key] = _verdict(model, target, wrong)
    error = _checked[key]
    if error is not None:
        raise error


def _check_blocks(model: Model) -> None:
    for graph in model.graphs:
        for tensor in graph.tensors:
            if tensor.sparsity is not None and not whole_blocks(tensor.shape, tensor.sparsity):
                raise WrongAnswers(
                    f"{model.path.name} is not the network that was trained, so its speed means "
                    f"nothing: the encoding of {tensor.name!r} lost its last columns, since "
                    f"{tensor.shape[-1]} is no multiple of its block; convert it without "
                    f"EXPERIMENTAL_SPARSITY or with another width"
                )


def _verdict(model: Model, target: Target, wrong: Sequence[Comparison]) -> WrongAnswers | None:
    if not wrong:
        return None
    return WrongAnswers(
        f"{model.path.name} computes wrong answers on {target.name}, so its speed means nothing: "
        f"{wrong[0]}; run `pytest-sparsity explain {model.path.name} --target {target.name}`"
    )
