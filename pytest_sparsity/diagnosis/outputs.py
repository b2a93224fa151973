"""Whether a model's outputs are right on a target: against its densified copy and other kernels."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity import xnnpack
from pytest_sparsity.children import scratch_folder
from pytest_sparsity.comparison import FLOAT, QUANTIZED, Comparison, compare, louder
from pytest_sparsity.diagnosis.noise import DRAWS, FURTHER_DRAWS, own_noise
from pytest_sparsity.encoding import whole_blocks
from pytest_sparsity.errors import NeedsInputs, TargetError, Unsupported, WrongOutputs
from pytest_sparsity.inference import invoked
from pytest_sparsity.inputs import feed
from pytest_sparsity.progress import step
from pytest_sparsity.targets import LoadError, Target, UnwrittenOutput
from pytest_sparsity.transform import densify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from pytest_sparsity.comparison import Rules
    from pytest_sparsity.inputs import Feed, InputsLike, Shapes
    from pytest_sparsity.model import Model
    from pytest_sparsity.targets import Worker

    Outputs = Sequence[NDArray[Any]]

SETS = 3
"""Sets of inputs; the reference kernels get the first only."""

SLOW = 0.5
"""Seconds per inference, emulation for the most part, from which two sets of inputs must do, and
TFLite's optimised kernels in place of the reference ones, which take up to 100 times as long."""
SLOW_SETS = 2
SLOW_DRAWS = 2

BEYOND_LUCK = 30.0
"""Times its tolerance by which a value is off, from which no further look at the noise is taken."""

TELLING = 16
"""Values that must vary with the inputs before equal bits show that the same kernels ran. Sparse
and dense kernels differ in the last bit of about half of all sums; of very short ones in fewer."""

COPY = "those of the same weights stored densely"

RANDOM = "its outputs differ each time, whatever the kernels: it draws random numbers"

BEFORE_INPUTS = ("unresolved custom op", "Failed to allocate tensors")
"""How TFLite says that it has not got an operator (core/subgraph.cc, TensorFlow 2.21), and LiteRT
that it could not prepare a model (litert_compiled_model.cc): LiteRT.js loads such models and says
so only when they are to run, before it looks at any value of the inputs."""

STREAM = 40
"""Invocations that a model which keeps a state may need before its output depends on the inputs. A
published wake word listens to 40 pieces of sound."""

GIVE_INPUTS = "give inputs that the model takes: inputs= or --inputs FILE.npz"

_checked: dict[tuple[object, ...], WrongOutputs | str] = {}


@dataclass(frozen=True)
class Compared:
    """What came of comparing a model's outputs.

    Attributes:
        comparisons: with its densified copy if it is sparse-encoded, with the reference kernels if
            the target has them and the model is of floats; else one with themselves, which tells
            whether they are finite.
        why_not: why they were compared with nothing, or "".
    """

    comparisons: tuple[Comparison, ...]
    why_not: str = ""


def is_float(model: Model) -> bool:
    """No tensor is quantized: all kernels compute in float32 and agree but for rounding."""
    return not any(tensor.quantized for tensor in model.graph.tensors)


def comparisons(worker: Worker, fed: Feed, folder: Path) -> Compared:
    """Compare a model with its densified copy and with the reference kernels.

    Args:
        worker: of the target.
        fed: the model and what it is run on.
        folder: where copies are written.

    Raises:
        LoadError: the target refuses the model.
        TargetError: the target fails with the model.
    """
    return _Comparing(worker, fed, folder).compare()


class _Comparing:
    """The comparisons of one model, with what they share."""

    def __init__(self, worker: Worker, fed: Feed, folder: Path) -> None:
        self._worker = worker
        self._fed = fed
        self._folder = folder
        self._copy = fed
        if fed.model.encoded:
            self._copy = fed.like(densify(fed.model, folder / "copy.tflite"))
        self._slow = False
        self._seconds = 0.0

    def compare(self) -> Compared:
        """Run everything. The worker has none of the models loaded afterwards."""
        model = self._fed.model
        ours = self._run(self._fed, (0,))
        self._slow = self._seconds > SLOW
        again = self._run(self._fed, range(min(SLOW_SETS if self._slow else SETS, self._fed.count)))
        if not compare("", ours, again[:1]).identical and self._is_random():
            return Compared((compare("themselves", ours, ours),), RANDOM)
        ours, found, why_not = again, [], ""
        theirs = self._run(self._copy, range(len(ours))) if model.encoded else ours
        first = compare(COPY, ours, theirs, rules=self._rules)
        varied = varying(ours)
        if not varied or (first.identical and model.encoded and varied < TELLING):
            more = range(len(ours), self._fed.count)[: 1 if self._slow else None]
            ours = ours + self._run(self._fed, more)
            theirs = theirs + self._run(self._copy, more) if model.encoded else ours
        if model.encoded:
            found.append(self._judged(COPY, ours, theirs, "default"))
        if is_float(model):
            against, why_not = self._against_kernels(ours)
            found += against
        elif not found:
            why_not = "its tensors are quantized, which kernels round in different ways"
        found = found or [compare("themselves", ours, ours)]
        constant = varying(ours) == 0
        if constant and model.stateful and not self._slow:
            constant = not self._answers_streams(len(ours))
        named = tuple(replace(each, constant=constant) for each in found)
        return Compared(named, why_not if found[0].against == "themselves" else "")

    @property
    def _rules(self) -> Rules:
        return FLOAT if is_float(self._fed.model) else QUANTIZED

    def _run(self, fed: Feed, numbers: Iterable[int], kernels: str = "default") -> list[Outputs]:
        self._worker.load("model", fed.model, kernels=kernels, shapes=fed.shapes)
        start = time.monotonic()
        found: list[Outputs] = list(invoked(self._worker, "model", fed, numbers, kernels=kernels))
        self._seconds = time.monotonic() - start
        self._worker.unload("model")
        return found

    def _answers_streams(self, count: int) -> bool:
        """Whether outputs depend on the inputs once the state has seen several of the same."""
        fed, ends = self._fed, []
        for number in range(count):
            self._worker.load("model", fed.model, shapes=fed.shapes)
            self._worker.set_inputs("model", fed.arrays(number))
            ends += [self._worker.outputs("model") for _ in range(STREAM)]
        self._worker.unload("model")
        return varying(ends) > 0

    def _is_random(self) -> bool:
        """Whether outputs that differ from run to run are meant to.

        They are if those of the densely stored copy do so, too; if the model is stored densely, if
        TFLite's own kernels agree with themselves no more than XNNPACK's.
        """
        kernels = "default" if self._fed.model.encoded else "builtin"
        try:
            first, second = (self._run(self._copy, (0,), kernels) for _ in range(2))
        except (Unsupported, LoadError):
            return True
        return not compare("", first, second).identical

    def _against_kernels(self, ours: Sequence[Outputs]) -> tuple[list[Comparison], str]:
        """The comparison with the kernels that the target has besides, or why there is none."""
        kernels = "builtin" if self._slow else "reference"
        try:
            theirs = self._run(self._copy, (0,), kernels)
        except Unsupported as reason:
            return [], str(reason)
        except LoadError:
            return [], f"{kernels} kernels are missing for one of its operators"
        against = f"those of the {kernels} kernels"
        return [self._judged(against, ours[:1], theirs, kernels, scales=ours)], ""

    def _judged(
        self,
        against: str,
        ours: Sequence[Outputs],
        theirs: Sequence[Outputs],
        kernels: str,
        scales: Sequence[Outputs] | None = None,
    ) -> Comparison:
        """Compare, and if the outputs are not the same for the eye look how noisy the model is."""
        if scales is not None and not compare("", ours, theirs).finite:
            scales = None
        first = compare(against, ours, theirs, rules=self._rules, scales=scales)
        if first.right or first.deviation == float("inf"):
            return first
        few, more = (SLOW_DRAWS, SLOW_DRAWS) if self._slow else (DRAWS, FURTHER_DRAWS)
        noise = self._noise(theirs, kernels, range(few))
        found = compare(against, ours, theirs, rules=self._rules, noise=noise, scales=scales)
        if found.right or found.deviation > BEYOND_LUCK * found.tolerance:
            return found
        noise = louder([noise, self._noise(theirs, kernels, range(few, few + more))])
        return compare(against, ours, theirs, rules=self._rules, noise=noise, scales=scales)

    def _noise(
        self, theirs: Sequence[Outputs], kernels: str, draws: Iterable[int]
    ) -> list[NDArray[Any]]:
        return own_noise(
            self._worker, self._copy, theirs[:SETS], self._folder, kernels=kernels, draws=draws
        )


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


def stored_densely(open_: Callable[[], Worker], fed: Feed, folder: Path) -> str:
    """What becomes of a model that has failed if it is stored densely.

    Args:
        open_: starts a worker.
        fed: the model and its inputs.
        folder: where a densely stored copy is written.

    Returns:
        "runs", "fails", or "refuses" where inputs that were made up are at fault. They are not
        where an output stays unwritten, since a runtime owes an answer to any values; where the
        runtime has not got an operator or cannot prepare the model; nor where the first invocation
        succeeds and the second does not.
    """
    copy = fed
    if fed.model.encoded:
        copy = fed.like(densify(fed.model, folder / "refusing.tflite"))
    try:
        with open_() as worker:
            for number in range(min(SETS, fed.count)):
                worker.load("copy", copy.model, shapes=copy.shapes)
                worker.set_inputs("copy", copy.arrays(number))
                worker.outputs("copy")
    except (LoadError, UnwrittenOutput):
        return "fails"
    except TargetError as error:
        prepared = not any(words in str(error) for words in BEFORE_INPUTS)
        return "refuses" if fed.made_up and prepared else "fails"
    return "runs"


def check_outputs(
    model: Model,
    target: str | Target,
    *,
    inputs: InputsLike | None = None,
    shapes: Shapes | None = None,
) -> str:
    """Make sure that a model's outputs are right before its speed is measured.

    What is found for inputs that are drawn is kept for the process, by the file's content, the
    target and its version.

    Args:
        model: the model.
        target: where it is to run.
        inputs: what to run it on, see `inputs.feed`.
        shapes: of the inputs.

    Returns:
        What is to be said beside a speed: that the rules of sparse inference call the outputs
        wrong and these inputs do not show it; else "".

    Raises:
        WrongOutputs: the encoding lost weights, the outputs are not finite, or they differ by more
            than rounding from those of the same weights stored densely or from those of the
            reference kernels; or the rules call them wrong, and they are the same for all inputs.
        NeedsInputs: the model fails on inputs that were made up, however it is stored.
        LoadError: the target refuses the model.
        Unsupported: the target cannot run here.
    """
    target = Target.of(target)
    fed = feed(model, inputs, shapes)
    key = (model.sha256, target.name, target.version(), fed.shapes)
    if not fed.made_up or key not in _checked:
        with step(f"checking the outputs of {model.path.name} on {target}"):
            found = _wrong(fed, target)
        if fed.made_up:
            _checked[key] = found
    else:
        found = _checked[key]
    if isinstance(found, WrongOutputs):
        raise found
    return found


def _wrong(fed: Feed, target: Target) -> WrongOutputs | str:
    _check_blocks(fed.model)
    with scratch_folder("models") as folder, target.open() as worker:
        try:
            compared = comparisons(worker, fed, Path(folder))
        except LoadError:
            raise
        except TargetError as error:
            if stored_densely(target.open, fed, Path(folder)) == "refuses":
                raise NeedsInputs(made_up(fed, error), GIVE_INPUTS) from error
            raise
    wrong = [comparison for comparison in compared.comparisons if not comparison.right]
    if wrong:
        return _accused(fed.model, target, str(wrong[0]))
    if not _wrong_by_the_rules(fed.model, target):
        return ""
    said = "the rules of sparse inference say that its outputs are wrong here"
    drawn = f"{fed}, drawn" if fed.made_up else str(fed)
    if any(comparison.constant for comparison in compared.comparisons):
        unseen = f"the inputs ({drawn}) cannot show it, since the outputs are the same for all"
        return _accused(fed.model, target, f"{said}, and {unseen}; give inputs that matter to it")
    return f"{said}, which the inputs ({drawn}) do not show"


def _wrong_by_the_rules(model: Model, target: Target) -> bool:
    rules = target.record.rules
    if not rules or not model.encoded:
        return False
    analysis = xnnpack.analyse(model, rules, target.version(), target.arch, target.features)
    return xnnpack.verdict(analysis) == "miscomputes"


def made_up(fed: Feed, error: TargetError) -> str:
    """Say that a model fails on inputs that mean nothing to it."""
    return f"{fed.model.path.name} does not take the inputs that were drawn for it ({error})"


def _check_blocks(model: Model) -> None:
    for graph in model.graphs:
        for tensor in graph.tensors:
            if tensor.sparsity is not None and not whole_blocks(tensor.shape, tensor.sparsity):
                raise WrongOutputs(
                    f"{model.path.name} is not the network that was trained, so its speed means "
                    f"nothing: the encoding of {tensor.name!r} lost its last columns, since "
                    f"{tensor.shape[-1]} is no multiple of its block; convert it without "
                    f"EXPERIMENTAL_SPARSITY or with another width"
                )


def _accused(model: Model, target: Target, fault: str) -> WrongOutputs:
    name = model.path.name
    return WrongOutputs(
        f"{name} computes wrong outputs on {target.name}, so its speed means nothing: {fault}; "
        f"run `pytest-sparsity explain {name} --target {target.name}`"
    )
