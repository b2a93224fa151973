"""From rules and observation to a diagnosis."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_sparsity import defaults, xnnpack
from pytest_sparsity.diagnosis import costs, elsewhere, size
from pytest_sparsity.diagnosis.contradictions import agree, contradictions, outcome
from pytest_sparsity.diagnosis.observation import Observer
from pytest_sparsity.diagnosis.outputs import GIVE_INPUTS
from pytest_sparsity.errors import NeedsInputs, Unsupported
from pytest_sparsity.findings import Finding, finding, ranked
from pytest_sparsity.findings.evidence import CONTENT
from pytest_sparsity.model import Model
from pytest_sparsity.progress import step
from pytest_sparsity.targets import Target
from pytest_sparsity.targets.microkernels import Microkernel
from pytest_sparsity.targets.microkernels import microkernels as trace
from pytest_sparsity.wording import counted
from pytest_sparsity.xnnpack import WRONG, prunable_layers
from pytest_sparsity.xnnpack.names import PRUNED_FROM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from pytest_sparsity.diagnosis.observation import Observation
    from pytest_sparsity.inputs import InputsLike, Shapes
    from pytest_sparsity.xnnpack import Analysis


SPARSE = frozenset({"sparse", "block"})
"""Kernels that skip zeros."""
_OF_THE_FILE = frozenset(kind.code for kind in CONTENT)


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """Which layers of a model run sparse on a target, why the others do not, and what is wrong.

    Attributes:
        model: the model.
        target: where.
        verdict: "sparse", "dense", "miscomputes" (its outputs are wrong, or garbage that may end
            the process) or "fails" (it does not load).
        evidence: "observed" if the model was run, else "rules".
        kernels: per layer of `Model.layers`: "sparse", "block" (TFLite's kernels for blocks),
            "dense", "miscomputes", or "unknown" where the model runs sparse and no rules are known.
        findings: reasons, the most important first.
        outputs_match: the outputs are finite and equal those of the same weights stored densely and
            of the reference kernels but for rounding; None if the model was not run, or the outputs
            were compared with nothing, of which a finding says why.
        deviation: the largest difference found, in what the value varies by; nan if not compared.
        inputs: names and shapes of what the model was run on; empty if it was not run.
        nanoseconds: of one inference in each layer's operator, by the target's profile; empty
            without one.
        microkernels: their trace, if it was asked for: what ran in one inference by name, the ones
            with most instructions first.
    """

    model: Model
    target: Target
    verdict: str
    evidence: str
    kernels: tuple[str, ...]
    findings: tuple[Finding, ...]
    outputs_match: bool | None
    deviation: float
    microkernels: tuple[Microkernel, ...] = ()
    inputs: str = ""
    nanoseconds: tuple[int, ...] = ()

    @property
    def headline(self) -> str:
        """One sentence: what happens on the target, and the first reason if it is not sparse."""
        where = f"{self.model.path.name} on {self.target.name}"
        because = f": {self.cause.message}" if self.cause is not None else ""
        if self.verdict == "fails":
            return f"{where} does not run{because}"
        if self.verdict == "miscomputes":
            return f"{where} computes wrong outputs{because}"
        if self.verdict == "dense":
            return f"{where} runs no sparse kernel{because}"
        if not self.target.record.rules:
            return f"{where} runs sparse kernels"
        return f"{where} runs sparse kernels in {self._share()}"

    @property
    def cause(self) -> Finding | None:
        """The finding whose message the headline has; None if it needs none.

        What is in the file instead of what was expected is no reason for any kernel.
        """
        reasons = () if self.verdict == "sparse" else self.findings
        return next((f for f in reasons if f.code not in _OF_THE_FILE), None)

    def _share(self) -> str:
        pairs = list(zip(self.model.layers, self.kernels, strict=True))
        running = sum(kernel in SPARSE for _, kernel in pairs)
        dense = [x for x, kernel in pairs if kernel not in SPARSE and x.sparsity >= PRUNED_FROM]
        larger = len(set(dense).difference(prunable_layers(self.model)))
        share = f"{running} of {counted(running + len(dense), 'pruned layer')}"
        others = "the others are" if larger == len(dense) else f"{larger} of the others are"
        return f"{share}: {others} no 1x1 convolutions" if larger else share

    def __repr__(self) -> str:
        return f"<{self.headline}>"

    def as_json(self) -> dict[str, Any]:
        """The object that `pytest-sparsity explain --json` prints; its keys are a contract."""
        return {
            "model": str(self.model.path),
            "nbytes": self.model.nbytes,
            "sparsity": self.model.sparsity,
            "target": self.target.name,
            "verdict": self.verdict,
            "evidence": self.evidence,
            "layers": [
                {
                    "index": layer.index,
                    "op": layer.op,
                    "name": layer.name,
                    "shape": list(layer.shape),
                    "sparsity": layer.sparsity,
                    "encoding": layer.encoding,
                    "kernel": kernel,
                }
                for layer, kernel in zip(self.model.layers, self.kernels, strict=True)
            ],
            "findings": [
                {
                    "code": f.code,
                    "message": f.message,
                    "layer": f.layer,
                    "remedy": f.remedy,
                    "takes": f.takes,
                }
                for f in self.findings
            ],
        }


def diagnose(
    model: Model | str | PathLike[str],
    target: str | Target = defaults.TARGET,
    *,
    observe: bool = True,
    dense: Model | str | PathLike[str] | None = None,
    threads: int = 1,
    observer: Observer | None = None,
    microkernels: bool = False,
    inputs: InputsLike | None = None,
    shapes: Shapes | None = None,
) -> Diagnosis:
    """Find out what a model does on a target, and why.

    The rules of XNNPACK's sparse inference are applied to the file; then, unless `observe` is
    False, the model is run on the target, and what is observed decides.

    Args:
        model: a model or its path.
        target: where it is to run.
        observe: run it; else the rules alone answer, in milliseconds.
        dense: the same network stored densely; if it has the same zeros, its weights must be the
            same too, and differences are findings.
        threads: of the model that is run.
        observer: of the target, to be used for several models; by default a worker is started.
        microkernels: also name those that run, on an emulated target by its emulator, on this
            machine by valgrind, which takes some ten seconds.
        inputs: what to run the model on, see `pytest_sparsity.inputs.feed`; by default drawn.
        shapes: of the inputs: needed where the file leaves sizes other than the batch open.

    Raises:
        ModelError: the file is not a model.
        ValueError: the inputs do not fit, or a size is open and not given.
        Unsupported: the target cannot run here; it has no rules and the model is not to run; or
            the microkernels are asked for and cannot be had.
        TargetError: the target fails with the probe, which has nothing to do with the model.
    """
    model, target = Model.of(model), Target.of(target)
    other = None if dense is None else Model.of(dense)
    rules = target.record.rules
    if not rules and not observe:
        raise Unsupported(
            f"no rules of sparse inference are known for {target.runtime}", "let the model run"
        )
    seen = None
    if observe:
        open_ = nullcontext(observer) if observer else Observer(target, threads=threads)
        with step(f"diagnosing {model.path.name} on {target}"), open_ as eye:
            seen = eye.observe(model, inputs=inputs, shapes=shapes)
    if rules:
        facts = (rules, target.version(), target.arch, target.features)
        diagnosis = conclude(xnnpack.analyse(model, *facts), target, seen, other, threads)
    else:
        assert seen is not None
        diagnosis = without_rules(model, target, seen, other)
    return replace(diagnosis, microkernels=trace(target, model.path)) if microkernels else diagnosis


def conclude(
    analysis: Analysis,
    target: Target,
    seen: Observation | None,
    dense: Model | None,
    threads: int,
) -> Diagnosis:
    """Put the rules and what was seen together. Arguments as of `diagnose`."""
    content = size.content(analysis.model, dense)
    verdict = _verdict(analysis, seen, content)
    kernels = _kernels(analysis, seen)
    found = [
        *xnnpack.findings(analysis),
        *size.findings(analysis.model, dense),
        *content,
        *costs.findings(analysis, kernels, seen, threads),
        *elsewhere.findings(analysis, verdict),
        *_speed_limit(analysis, target, seen, verdict),
    ]
    if seen is not None:
        found += [*contradictions(analysis, target, seen), *outcome(target, seen)]
    if any(finding.code == size.CHANNELS_REMOVED for finding in content):
        found = [finding for finding in found if finding.code != "not-pruned"]
    return Diagnosis(
        model=analysis.model,
        target=target,
        verdict=verdict,
        evidence="rules" if seen is None or seen.verdict == "unknown" else "observed",
        kernels=kernels,
        findings=ranked(found),
        outputs_match=_match(seen, verdict),
        deviation=float("nan") if seen is None else seen.deviation,
        inputs="" if seen is None else seen.inputs,
        nanoseconds=() if seen is None else costs.layer_times(analysis, seen.profile),
    )


def without_rules(
    model: Model, target: Target, seen: Observation, dense: Model | None
) -> Diagnosis:
    """Conclude from what was seen alone, on a target whose runtime has no known rules.

    It tells whether the model as a whole runs sparse kernels and whether its outputs are right, but
    not which layers do, nor why others do not.

    Raises:
        NeedsInputs: the model does not take the inputs that were drawn.
    """
    if seen.verdict == "unknown":
        raise NeedsInputs(seen.fault, GIVE_INPUTS)
    content = size.content(model, dense)
    verdict = seen.verdict
    if verdict not in WRONG and _other_weights(content):
        verdict = "miscomputes"
    found = [
        *size.findings(model, dense),
        *content,
        *costs.dead_channels(model),
        *costs.state(model, seen),
        *outcome(target, seen),
        finding("no-rules", runtime=target.runtime),
    ]
    return Diagnosis(
        model=model,
        target=target,
        verdict=verdict,
        evidence="observed",
        kernels=("unknown" if verdict == "sparse" else "dense",) * len(model.layers),
        findings=ranked(found),
        outputs_match=_match(seen, verdict),
        deviation=seen.deviation,
        inputs=seen.inputs,
    )


def _match(seen: Observation | None, verdict: str) -> bool | None:
    if verdict in WRONG and (seen is None or seen.verdict != "unknown"):
        return None if seen is None else False
    if seen is None or seen.verdict == "unknown" or seen.not_compared:
        return None
    return True


def _verdict(analysis: Analysis, seen: Observation | None, content: list[Finding]) -> str:
    """What is observed, or else what the rules say; and wrong if the file itself is."""
    rules = xnnpack.verdict(analysis)
    verdict = rules if seen is None or agree(analysis, seen) else seen.verdict
    if seen is not None and seen.unrelated:
        verdict = "fails"
    if verdict not in WRONG and (analysis.lossy or _other_weights(content)):
        return "miscomputes"
    return verdict


def _other_weights(content: list[Finding]) -> bool:
    """Tell whether the file has not the weights of the dense one."""
    return any(finding.code in {"weights-lost", "weights-changed"} for finding in content)


def _kernels(analysis: Analysis, seen: Observation | None) -> tuple[str, ...]:
    """The kernels by the profile where there is one, else by the rules.

    Where the model is observed to run dense, none is sparse whatever the rules say.
    """
    kernels = xnnpack.kernels(analysis)
    if seen is None:
        return kernels
    profiled = costs.profiled_kernels(analysis, seen.profile)
    if profiled is not None:
        pairs = zip(kernels, profiled, strict=True)
        return tuple(rule if rule in {"miscomputes", "block"} else name for rule, name in pairs)
    if seen.verdict == "dense" and xnnpack.verdict(analysis) != "dense":
        return tuple("block" if kernel == "block" else "dense" for kernel in kernels)
    return kernels


def _speed_limit(
    analysis: Analysis, target: Target, seen: Observation | None, verdict: str
) -> Iterator[Finding]:
    """The share of the prunable layers in the target's own profile of dense kernels.

    Another target's profile bounds nothing: at 90 % zeros MobileNetV1 was 5.0 times as fast on
    litert-js, where the native profile would have allowed 3.7.
    """
    if seen is not None and verdict not in WRONG and analysis.closed:
        share = costs.pointwise_share(analysis, seen.profile)
        yield from costs.other_layers(share, target.name)
