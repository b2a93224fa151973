"""What a test did with the fixtures, kept until its report is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_sparsity.report import failure, records, terminal
from pytest_sparsity.report.replay import replay

if TYPE_CHECKING:
    from pytest_sparsity.baseline import Baseline, Comparison
    from pytest_sparsity.diagnosis import Diagnosis
    from pytest_sparsity.estimate import Estimate
    from pytest_sparsity.model import Model
    from pytest_sparsity.race import Race
    from pytest_sparsity.report.replay import ReplayClock
    from pytest_sparsity.targets import Target
    from pytest_sparsity.variants import Variants


@dataclass
class Entry:
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
            self.reasons = diagnosed(self.sparse, self.race.target, self.dense)
        return self.reasons


@dataclass
class Evidence:
    """What one test did.

    Attributes:
        entries: its races.
        diagnoses: what it asked `diagnose` for.
        variants: what `variants` made for it, and what it is given by its own fixtures.
        baseline: its baselines, if it uses the fixture.
        cannot_measure: whether a control race was off.
        benchmark: pytest-benchmark's fixture, if it is to have the first race.
    """

    entries: list[Entry] = field(default_factory=list)
    diagnoses: list[Diagnosis] = field(default_factory=list)
    variants: list[Variants] = field(default_factory=list)
    baseline: Baseline | None = None
    cannot_measure: bool = False
    benchmark: Any = None

    @property
    def _comparisons(self) -> list[Comparison]:
        return self.baseline.comparisons if self.baseline else []

    def _record_of(self, entry: Entry) -> records.Record:
        models = entry.dense, entry.sparse
        return records.of_race(entry.race, *models, self._comparisons, entry.resolution)

    @property
    def gathered(self) -> bool:
        """Whether there is anything to report."""
        return bool(self.entries or self.diagnoses or self.baseline or self.cannot_measure)

    def entry_of(self, estimate: Estimate) -> Entry | None:
        """Return the race that an estimate comes from, with its models."""
        latest = estimate.latest()
        return next((entry for entry in self.entries if entry.race.ratio is latest), None)

    def race_of(self, estimate: Estimate) -> Race | None:
        """Return the race that an estimate comes from."""
        entry = self.entry_of(estimate)
        return entry.race if entry else None

    def record(self) -> records.Record:
        """Return all of it in JSON's types."""
        asked = [e.reasons for e in self.entries if e.reasons and not isinstance(e.reasons, str)]
        return {
            "races": [self._record_of(entry) for entry in self.entries],
            "baselines": [records.of_comparison(comparison) for comparison in self._comparisons],
            "diagnoses": [records.of_diagnosis(known) for known in [*self.diagnoses, *asked]],
            "cannot_measure": self.cannot_measure,
        }

    def replay(self, clock: ReplayClock) -> None:
        """Let pytest-benchmark have the first race's samples of the sparse model, one per pair.

        Its fixture can be used once, so further races of one test are not in its table.
        """
        first = next(entry for entry in self.entries if entry.race.unit == "seconds")
        samples = first.race.samples[1]
        if samples:
            replay(self.benchmark, clock, samples, {"sparsity": self._record_of(first)})

    def properties(self) -> list[tuple[str, object]]:
        """Return what goes to junit: a name and a text per race, numbered from the second on."""
        found: dict[str, object] = {}
        for entry in self.entries:
            race = entry.race
            name = "speedup" if race.unit == "seconds" else "instruction_ratio"
            number = sum(key.startswith(f"sparsity.{name}") for key in found)
            suffix = f".{number + 1}" if number else ""
            bounds = {end: getattr(race.ratio, end) for end in ("value", "low", "high")}
            found[f"sparsity.{name}{suffix}"] = terminal.ratio(records.plain(bounds), race.unit)
        return list(found.items())

    def sections(self) -> list[tuple[str, str]]:
        """Return what is shown below the test's failure, as title and text."""
        shown = [
            (f"sparsity: {entry.sparse.path.name}", failure.section(entry.reasons))
            for entry in self.entries
            if entry.reasons is not None
        ]
        for variants in self.variants:
            reasons = diagnosed(variants.sparse, "litert", variants.dense, observe=False)
            shown.append(("sparsity: variants", failure.sizes(variants, reasons)))
        return shown


def diagnosed(
    model: Model, target: str | Target, dense: Model | None = None, *, observe: bool = True
) -> Diagnosis | str:
    """Return a diagnosis, or why there is none: the failure that it explains must not be lost."""
    from pytest_sparsity.diagnosis import diagnose

    try:
        return diagnose(model, target, dense=dense, observe=observe)
    except Exception as error:
        return f"no diagnosis of {model.path.name} on {target}: {type(error).__name__}: {error}"
