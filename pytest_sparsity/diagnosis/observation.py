"""What a model really does on a target: loaded, run, compared with its copy, profiled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.children import scratch_folder
from pytest_sparsity.comparison import Comparison, compare
from pytest_sparsity.diagnosis.outputs import COPY, comparisons, made_up, stored_densely
from pytest_sparsity.diagnosis.probes import flushes_subnormals, skips_zeros
from pytest_sparsity.errors import NeedsInputs, TargetError, Unsupported
from pytest_sparsity.inference import invoked
from pytest_sparsity.inputs import feed
from pytest_sparsity.targets import LoadError, Target
from pytest_sparsity.transform import densify, flush

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from pytest_sparsity.inputs import Feed, InputsLike, Shapes
    from pytest_sparsity.model import Model
    from pytest_sparsity.targets import Worker

Profile = list[tuple[str, int]]


@dataclass(frozen=True)
class Observation:
    """What was seen of a model on a target.

    Attributes:
        verdict: "sparse" (bits differ from the densified copy's by rounding), "dense" (they are the
            same, or the model is not sparse-encoded), "miscomputes", "fails", or "unknown" where
            the model does not take the inputs that were drawn for it.
        skips_zeros: the zero-skip probe's answer about the target.
        comparisons: of the outputs, empty if the model fails.
        not_compared: why the outputs were compared with nothing, else "".
        inputs: their shapes by name, for people.
        made_up: whether they were drawn.
        fault: the target's words if the model fails, or does not take its inputs, else "".
        crashed: the model was accepted and then failed, or ended the worker.
        unrelated: the model does not run densely stored either, so sparsity is not the reason.
        repeats: a second run of the same inputs gave the same outputs.
        profile: the operators that ran, with nanoseconds; None if not asked for, or the target has
            none.
        flushes: the target's kernels take subnormal weights for zero; None if the model has none.
        flush_deviation: of the outputs when the subnormal weights are set to zero; None likewise.
    """

    verdict: str
    skips_zeros: bool
    comparisons: tuple[Comparison, ...] = ()
    fault: str = ""
    crashed: bool = False
    unrelated: bool = False
    repeats: bool = True
    profile: Profile | None = None
    flushes: bool | None = None
    flush_deviation: float | None = None
    not_compared: str = ""
    inputs: str = ""
    made_up: bool = True

    @property
    def constant(self) -> bool:
        """The outputs do not depend on the inputs, so that equal bits prove nothing."""
        return any(comparison.constant for comparison in self.comparisons)

    @property
    def deviation(self) -> float:
        """The largest over all comparisons; inf if the model fails."""
        if self.verdict == "fails":
            return float("inf")
        if self.not_compared or self.verdict == "unknown":
            return float("nan")
        return max(
            (c.deviation if c.finite else float("inf") for c in self.comparisons), default=0.0
        )


class Observer:
    """Runs models on one target in one worker, which is replaced after a crash."""

    def __init__(self, target: Target, *, threads: int = 1) -> None:
        """Prepare; the worker starts with the first observation."""
        self.target = target
        self.threads = threads
        self._worker: Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker. Another one starts if the observer is used again."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    @property
    def worker(self) -> Worker:
        """The worker, started if there is none."""
        if self._worker is None:
            self._worker = self.target.open(threads=self.threads)
        return self._worker

    def observe(
        self,
        model: Model,
        *,
        profile: bool = True,
        inputs: InputsLike | None = None,
        shapes: Shapes | None = None,
    ) -> Observation:
        """Run a model.

        Args:
            model: the model.
            profile: ask for the operators too, which takes longer than all the rest.
            inputs: what to run it on, see `inputs.feed`; by default drawn.
            shapes: of the inputs.

        Raises:
            ValueError: the inputs do not fit, or a size is open and not given.
            Unsupported: the target cannot run here.
            TargetError: the worker fails with the probe.
        """
        fed = feed(model, inputs, shapes)
        skips = skips_zeros(self.target, self.worker)
        try:
            with scratch_folder("models") as folder:
                seen = self._observe(fed, Path(folder), skips=skips, profile=profile)
        except LoadError as error:
            self.close()
            unrelated = not self._loads_densely(model)
            return Observation("fails", skips, fault=str(error), unrelated=unrelated)
        except NeedsInputs as error:
            return Observation("unknown", skips, fault=str(error), inputs=str(fed))
        except TargetError as error:
            self.close()
            with scratch_folder("models") as folder:
                copy = stored_densely(self._opened, fed, Path(folder))
            if copy == "refuses":
                fault = made_up(fed, error)
                return Observation("unknown", skips, fault=fault, inputs=str(fed))
            unrelated = copy == "fails" or not model.encoded
            return Observation("fails", skips, fault=str(error), crashed=True, unrelated=unrelated)
        if seen.verdict == "miscomputes" and self.target.record.tainted:
            self.close()
        return seen

    def _opened(self) -> Worker:
        return self.target.open(threads=self.threads)

    def _observe(self, fed: Feed, folder: Path, *, skips: bool, profile: bool) -> Observation:
        model = fed.model
        compared = comparisons(self.worker, fed, folder)
        found = compared.comparisons
        subnormal = any(layer.subnormals for layer in model.layers)
        return Observation(
            verdict=_verdict(model, found),
            skips_zeros=skips,
            comparisons=found,
            repeats=self._repeats(fed),
            profile=self.profile(model, fed) if profile else None,
            flushes=flushes_subnormals(self.target, self.worker) if subnormal else None,
            flush_deviation=self._flush_deviation(fed, folder) if subnormal else None,
            not_compared=compared.why_not,
            inputs=str(fed),
            made_up=fed.made_up,
        )

    def _loads_densely(self, model: Model) -> bool:
        with scratch_folder("models") as folder:
            try:
                self.worker.load("copy", densify(model, Path(folder) / "copy.tflite"))
            except TargetError:
                self.close()
                return False
            self.worker.unload("copy")
        return True

    def profile(self, model: Model, fed: Feed | None = None) -> Profile | None:
        """The operators that run, or None where the target cannot tell.

        A model whose inputs have no fixed size has no profile either, nor has one that only the
        profiler refuses: LiteRT's compiles the model again and takes no fused LSTM, for instance.
        """
        try:
            fed = fed or feed(model)
            self.worker.load("model", model, shapes=fed.shapes)
            self.worker.set_inputs("model", fed.arrays(0))
            # An emulator's times say nothing; its kernels' names are the same every time.
            return self.worker.profile("model", 5 if self.target.host is None else 1)
        except Unsupported:
            return None
        except TargetError:
            self.close()
            return None
        finally:
            self._unload("model")

    def _repeats(self, fed: Feed) -> bool:
        if not fed.model.stateful:
            return True
        self.worker.load("model", fed.model, shapes=fed.shapes)
        self.worker.set_inputs("model", fed.arrays(0))
        first, second = self.worker.outputs("model"), self.worker.outputs("model")
        self.worker.unload("model")
        return compare("", [first], [second]).identical

    def _flush_deviation(self, fed: Feed, folder: Path) -> float:
        outputs = []
        for each in (fed, fed.like(flush(fed.model, folder / "flushed.tflite"))):
            self.worker.load("model", each.model, shapes=each.shapes)
            outputs.append(invoked(self.worker, "model", each, (0,)))
            self.worker.unload("model")
        return compare("", outputs[0], outputs[1]).deviation

    def _unload(self, key: str) -> None:
        if self._worker is not None:
            self._worker.unload(key)


def _verdict(model: Model, found: tuple[Comparison, ...]) -> str:
    if not all(comparison.right for comparison in found):
        return "miscomputes"
    copied = [comparison for comparison in found if comparison.against == COPY]
    return "sparse" if model.encoded and copied and not copied[0].identical else "dense"
