"""What a model really does on a target: loaded, run, compared with its twin, profiled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.children import scratch_folder
from pytest_sparsity.diagnosis.answers import TWIN, Comparison, compare, comparisons, outputs_of
from pytest_sparsity.diagnosis.probes import flushes_subnormals, skips_zeros
from pytest_sparsity.errors import TargetError, Unsupported
from pytest_sparsity.targets import LoadError, Target
from pytest_sparsity.transform import densify, flush

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from pytest_sparsity.model import Model
    from pytest_sparsity.targets import Worker

Profile = list[tuple[str, int]]


@dataclass(frozen=True)
class Observation:
    """What was seen of a model on a target.

    Attributes:
        verdict: "sparse" (bits differ from the twin's by rounding), "dense" (they are the same, or
            the model is not sparse-encoded), "miscomputes" or "fails".
        skips_zeros: the zero-skip probe's answer about the target.
        comparisons: of the outputs, empty if the model fails.
        fault: the target's words if the model fails, else "".
        crashed: the model was accepted and then ended the worker.
        unrelated: the model does not load densely stored either, so sparsity is not the reason.
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

    @property
    def constant(self) -> bool:
        """The outputs do not depend on the inputs, so that equal bits prove nothing."""
        return any(comparison.constant for comparison in self.comparisons)

    @property
    def deviation(self) -> float:
        """The largest over all comparisons; inf if the model fails."""
        if self.verdict == "fails":
            return float("inf")
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

    def observe(self, model: Model, *, profile: bool = True) -> Observation:
        """Run a model with seeded inputs.

        Args:
            model: the model.
            profile: ask for the operators too, which takes longer than all the rest.

        Raises:
            Unsupported: the target cannot run here.
            TargetError: the worker fails with the probe.
        """
        skips = skips_zeros(self.target, self.worker)
        try:
            with scratch_folder("models") as folder:
                seen = self._observe(model, Path(folder), skips=skips, profile=profile)
        except LoadError as error:
            self.close()
            unrelated = not self._loads_densely(model)
            return Observation("fails", skips, fault=str(error), unrelated=unrelated)
        except TargetError as error:
            self.close()
            return Observation("fails", skips, fault=str(error), crashed=True)
        if seen.verdict == "miscomputes" and self.target.record.tainted:
            self.close()
        return seen

    def _observe(self, model: Model, folder: Path, *, skips: bool, profile: bool) -> Observation:
        found = comparisons(self.worker, model, folder)
        subnormal = any(layer.subnormals for layer in model.layers)
        return Observation(
            verdict=_verdict(model, found),
            skips_zeros=skips,
            comparisons=tuple(found),
            repeats=self._repeats(model),
            profile=self.profile(model) if profile else None,
            flushes=flushes_subnormals(self.target, self.worker) if subnormal else None,
            flush_deviation=self._flush_deviation(model, folder) if subnormal else None,
        )

    def _loads_densely(self, model: Model) -> bool:
        with scratch_folder("models") as folder:
            try:
                self.worker.load("twin", densify(model, Path(folder) / "twin.tflite"))
            except TargetError:
                self.close()
                return False
            self.worker.unload("twin")
        return True

    def profile(self, model: Model) -> Profile | None:
        """The operators that run, or None where the target cannot tell.

        A model whose inputs have no fixed size has no profile either, nor has one that only the
        profiler refuses: LiteRT's compiles the model anew and takes no fused LSTM, for instance.
        """
        try:
            self.worker.load("model", model)
            # An emulator's times say nothing; its kernels' names are the same every time.
            return self.worker.profile("model", 5 if self.target.host is None else 1)
        except Unsupported:
            return None
        except TargetError:
            self.close()
            return None
        finally:
            self._unload("model")

    def _repeats(self, model: Model) -> bool:
        if not model.stateful:
            return True
        signature = self.worker.load("model", model)
        first, second = outputs_of(self.worker, "model", signature, (0, 0))
        self.worker.unload("model")
        return compare("", [first], [second]).identical

    def _flush_deviation(self, model: Model, folder: Path) -> float:
        other = flush(model, folder / "flushed.tflite")
        outputs = []
        for each in (model, other):
            signature = self.worker.load("model", each)
            outputs.append(outputs_of(self.worker, "model", signature, (0,)))
            self.worker.unload("model")
        return compare("", outputs[0], outputs[1]).deviation

    def _unload(self, key: str) -> None:
        if self._worker is not None:
            self._worker.unload(key)


def _verdict(model: Model, found: list[Comparison]) -> str:
    if not all(comparison.right for comparison in found):
        return "miscomputes"
    if not model.encoded:
        return "dense"
    twin = next(comparison for comparison in found if comparison.against == TWIN)
    return "dense" if twin.identical else "sparse"
