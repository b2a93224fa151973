"""What a test did with the fixtures, kept until its report is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_sparsity import defaults
from pytest_sparsity.baseline import Baseline, BaselineComparison, Recorded
from pytest_sparsity.estimate import Estimate
from pytest_sparsity.model import Model
from pytest_sparsity.report import failure, records, terminal
from pytest_sparsity.report.replay import replay
from pytest_sparsity.variants import Variants

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_sparsity.diagnosis import Diagnosis
    from pytest_sparsity.errors import Inconclusive
    from pytest_sparsity.racing import Race
    from pytest_sparsity.report.replay import ReplayClock
    from pytest_sparsity.targets import Target


MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass
class RecordedRace:
    """One race with the models that ran.

    Attributes:
        race: the race.
        dense: the model that was compared with.
        sparse: the model that was claimed to be better.
        resolution: which effect the budget resolves, as the control says; empty without one.
        reasons: the diagnosis, or why there is none; None until it was asked for.
    """

    race: Race
    dense: Model
    sparse: Model
    resolution: str = ""
    reasons: Diagnosis | str | None = None

    def diagnosis(self) -> Diagnosis | str:
        """Return why the race came out as it did, or why that is not known."""
        if self.reasons is None:
            race = self.race
            self.reasons = diagnosed(self.sparse, race.target, self.dense, threads=race.threads)
        return self.reasons


@dataclass
class TestRecord:
    """What one test did.

    Attributes:
        entries: its races.
        diagnoses: what it asked `diagnose` for.
        variants: what `variants` made for it, and what it is given by its own fixtures.
        models: likewise, besides those of its variants and races.
        baseline: its baselines, if it uses the fixture.
        cannot_measure: whether a control race was off.
        not_run: why it did not run, if it did not.
        benchmark: pytest-benchmark's fixture, if it is to have the first race.
        waited: seconds that its races waited for their turn.
    """

    entries: list[RecordedRace] = field(default_factory=list)
    diagnoses: list[Diagnosis] = field(default_factory=list)
    variants: list[Variants] = field(default_factory=list)
    models: list[Model] = field(default_factory=list)
    baseline: Baseline | None = None
    cannot_measure: bool = False
    not_run: records.Record | None = None
    benchmark: Any = None
    waited: float = 0.0

    @property
    def _comparisons(self) -> list[BaselineComparison]:
        return self.baseline.comparisons if self.baseline else []

    def _record_of(self, entry: RecordedRace) -> records.Record:
        return records.of_race(
            entry.race,
            entry.dense,
            entry.sparse,
            self._comparisons,
            entry.resolution,
            entry.reasons,
        )

    def _files(self) -> list[Model]:
        """Return the models that the test had to do with, each once."""
        found = [model for entry in self.entries for model in (entry.dense, entry.sparse)]
        found += [model for v in self.variants for model in (v.dense, v.pruned, v.sparse)]
        found += [known.model for known in self.diagnoses] + self.models
        return list({model.path: model for model in found}.values())

    def recorded_race(self, estimate: Estimate) -> RecordedRace | None:
        """Return the race that an estimate comes from, with its models."""
        latest = estimate.latest()
        return next((entry for entry in self.entries if entry.race.ratio is latest), None)

    def race_of(self, estimate: Estimate) -> Race | None:
        """Return the race that an estimate comes from."""
        entry = self.recorded_race(estimate)
        return entry.race if entry else None

    def as_json(self, *, reported: bool) -> records.Record:
        """Return all of it in JSON's types.

        Args:
            reported: whether somebody reads more than the terminal shows: what the files hold, and
                a diagnosis of every race, by the rules where none was asked for.
        """
        if reported:
            for entry in self.entries:
                entry.reasons = entry.reasons or diagnosed(
                    entry.sparse,
                    entry.race.target.sides[1],
                    observe=False,
                    threads=entry.race.threads,
                )
        return {
            "races": [self._record_of(entry) for entry in self.entries],
            "baselines": [records.of_comparison(comparison) for comparison in self._comparisons],
            "diagnoses": [records.of_diagnosis(known) for known in self.diagnoses],
            "variants": [records.of_variants(made) for made in self.variants],
            "models": [records.of_file(model) for model in self._files()] if reported else [],
            "cannot_measure": self.cannot_measure,
            "not_run": self.not_run,
            "waited": round(self.waited, 3),
        }

    def take(self, values: Iterable[object]) -> None:
        """Keep the variants and the models among the values of a test's fixtures."""
        for value in values:
            if isinstance(value, Variants) and value not in self.variants:
                self.variants.append(value)
            elif isinstance(value, Model):
                self.models.append(value)

    def take_benchmark(self, fixture: object) -> None:
        """Keep pytest-benchmark's fixture; others' of the same name do not replay."""
        if type(fixture).__module__.startswith("pytest_benchmark"):
            self.benchmark = fixture

    def hand_over(self, properties: list[tuple[str, object]], clock: ReplayClock | None) -> None:
        """Let junit have a text per race, and pytest-benchmark the samples of the first race.

        Its fixture can be used once, so further races of one test are not in its table.
        """
        names: list[str] = []
        for entry in self.entries:
            name = f"sparsity.{quantity(entry.race)}"
            number = names.count(name)
            names.append(name)
            bounds = {end: getattr(entry.race.ratio, end) for end in ("value", "low", "high")}
            value = terminal.ratio(records.plain(bounds), entry.race.unit)
            properties.append((f"{name}.{number + 1}" if number else name, value))
        if self.benchmark is None or clock is None:
            return
        first = next(entry for entry in self.entries if entry.race.unit == "seconds")
        samples = first.race.samples[1]
        if samples:
            replay(self.benchmark, clock, samples, {"sparsity": self._record_of(first)})

    def cause(self, inconclusive: Inconclusive) -> str:
        """Why the models of an inconclusive race cost the same; empty if they may not."""
        for entry in self.entries:
            asked = any(claim is inconclusive.claim for claim in entry.race.claims)
            if asked and entry.race.ratio.difference is not None:
                known = entry.diagnosis()
                return known if isinstance(known, str) else known.headline
        return ""

    def explain(self, op: str, left: object, right: object) -> list[str] | None:
        """Return the explanation of a comparison that is False, None if it is not ours."""
        kept = left if isinstance(left, Recorded) else right
        if isinstance(kept, Recorded):
            return self._explain_recorded(kept)
        if isinstance(left, Estimate):
            return self._explain_estimate(left, f"{op} {right}")
        if isinstance(right, Estimate):
            return self._explain_estimate(right, f"{MIRRORED.get(op, op)} {left}")
        if isinstance(left, str) and isinstance(right, str):
            return self._explain_verdict(left, op, right)
        return None

    def _explain_verdict(self, left: str, op: str, right: str) -> list[str] | None:
        """Why a diagnosis of this test has the verdict that it should not have."""
        known = next((d for d in reversed(self.diagnoses) if d.verdict in {left, right}), None)
        return failure.explanation([f"{left!r} {op} {right!r}"], known) if known else None

    def _explain_estimate(self, estimate: Estimate, claim: str) -> list[str]:
        entry = self.recorded_race(estimate)
        if entry is None:
            return failure.refuted(f"ratio {claim}", estimate, None)
        lines = failure.refuted(f"{quantity(entry.race)} {claim}", estimate, entry.race)
        return failure.explanation(lines, entry.diagnosis())

    def _explain_recorded(self, recorded: Recorded) -> list[str] | None:
        comparison = recorded.comparison
        if comparison is None or self.baseline is None:
            return None
        asked = {id(claim) for claim in comparison.claims}
        entry = next(
            (e for e in self.entries if any(id(claim) in asked for claim in e.race.claims)), None
        )
        lines = failure.baseline(comparison, entry.race if entry else None)
        remedy = f"if this is intended, record it with: {self.baseline.command}"
        known = self.diagnoses[-1] if self.diagnoses else None
        return failure.explanation(lines, entry.diagnosis() if entry else known, remedy)

    def sections(self) -> list[tuple[str, str]]:
        """Return what is shown below the test's failure, as title and text."""
        shown = [
            (
                f"sparsity: {entry.sparse.path.name} on {entry.race.target}",
                failure.section(entry.reasons),
            )
            for entry in self.entries
            if entry.reasons is not None
        ]
        for known in self.diagnoses:
            title = f"sparsity: {known.model.path.name} on {known.target}"
            shown.append((title, failure.section(known)))
        explained = bool(shown)
        for variants in self.variants:
            text = failure.sizes(variants)
            if not explained:
                reasons = diagnosed(
                    variants.sparse, defaults.TARGET, variants.pruned, observe=False
                )
                text += f"\n\n{failure.section(reasons)}"
            shown.append(("sparsity: variants", text))
        return shown


def quantity(race: Race) -> str:
    """Return what a race's ratio is called."""
    return "speedup" if race.unit == "seconds" else "instruction_ratio"


def diagnosed(
    model: Model,
    target: str | Target,
    dense: Model | None = None,
    *,
    observe: bool = True,
    threads: int = 1,
) -> Diagnosis | str:
    """Return a diagnosis, or why there is none: the failure that it explains must not be lost."""
    from pytest_sparsity.diagnosis import diagnose

    try:
        return diagnose(model, target, dense=dense, observe=observe, threads=threads)
    except Exception as error:
        return f"no diagnosis of {model.path.name} on {target}: {type(error).__name__}: {error}"
