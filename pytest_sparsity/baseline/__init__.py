"""Values recorded earlier and committed, that today's values are compared with.

`files` reads and writes one file, `store` is the folder of them, `recorded` compares, and `history`
asks git how values moved.
"""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pytest_sparsity.baseline.files import (
    BaselineError,
    Ratio,
    Recordable,
    RecordedFile,
    join,
)
from pytest_sparsity.baseline.recorded import (
    DRIFT,
    BaselineComparison,
    Recorded,
    Today,
    as_value,
    check_width,
    holds,
    sharpened,
    text,
)
from pytest_sparsity.baseline.store import MODELS, Location, Store
from pytest_sparsity.errors import Inconclusive, NotRecorded
from pytest_sparsity.estimate import Estimate
from pytest_sparsity.machine import Machine, key, this_machine
from pytest_sparsity.model import Model

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from pytest_sparsity.estimate import Claim
    from pytest_sparsity.racing import Race

__all__ = [
    "Baseline",
    "BaselineComparison",
    "BaselineError",
    "NoBaseline",
    "Recorded",
    "Store",
    "Suite",
]

MEGABYTE = 1_000_000


class NoBaseline(AssertionError):  # noqa: N818
    """Nothing was recorded for a claim; the message holds the command that records it."""


@dataclass(frozen=True)
class Suite:
    """What all tests of a run share.

    Attributes:
        store: the folder of baselines.
        update: whether values are recorded instead of compared.
        model_limit: megabytes that a recorded model may have.
        machine: what identifies this machine, or the name that stands for it.
    """

    store: Store
    update: bool = False
    model_limit: float = 20.0
    machine: Machine | str = field(default_factory=this_machine)


class Baseline:
    """What one test recorded earlier; the value of the fixture `baseline`.

    Args:
        suite: what all tests share.
        module: path of the test's module from the root.
        test: the test within it, with its parameters.
        origin: returns the race that an estimate comes from.
    """

    def __init__(
        self, suite: Suite, module: str, test: str, origin: Callable[[Estimate], Race | None]
    ) -> None:
        self._suite = suite
        self._module = module
        self._test = test
        self._origin = origin
        self._pending: dict[str, tuple[Location, Recordable]] = {}
        self.comparisons: list[BaselineComparison] = []

    def __call__(self, name: str, *, within: float | None = None) -> Recorded:
        """Return the value recorded under a name, to be compared with today's.

        Integers, fractions, names, lists of them, and Estimates; the operator is the direction.
        Ratios of times are kept per kind of machine, all else is true everywhere. One whose
        interval is wider than the tolerance is not recorded.

        Args:
            name: several names may be used in one test.
            within: relative tolerance in favour of the claim; by default none, and 0.05 for ratios
                of times.

        Raises:
            ValueError: the name contains `::`, or the tolerance is not between 0 and 1.
        """
        join(self._test, name)
        if within is not None and not 0 <= within < 1:
            raise ValueError(f"within is a fraction from 0 to below 1, not {within!r}")
        return Recorded(name, within, self._compare)

    def model(self, model: str | os.PathLike[str] | Model, *, name: str = "model") -> Model:
        """Return the model recorded under a name, to be raced against today's.

        In an update today's model is recorded and returned.

        Raises:
            NoBaseline: none was recorded.
            BaselineError: the recorded file is missing or is another one, or today's is too large.
            ModelError: today's file is not a model.
        """
        today, place = Model.of(model), Location.of(self._module)
        if self._suite.update:
            self._check_size(today)
            recorded = self._suite.store.save_model(today.path)
            self._record(name, "==", recorded, place)
            return Model(self._suite.store.model(recorded))
        found = self._found(name, place)
        if not isinstance(found, RecordedFile):
            raise BaselineError(f"{name!r} is recorded as {text(found)} and not as a model")
        return Model(self._suite.store.model(found))

    def commit(self) -> None:
        """Write what was recorded; called when the test has passed."""
        for place in dict.fromkeys(place for place, _ in self._pending.values()):
            values = {key: value for key, (at, value) in self._pending.items() if at == place}
            self._suite.store.save(place, values)
        self._pending.clear()

    def _compare(self, recorded: Recorded, sign: str, value: Today) -> BaselineComparison:
        """Compare today's value, or record it; the sign is that of the claim about it."""
        race = self._race(value)
        timed = isinstance(value, Estimate) and value.latest().low != value.latest().high
        place = self._place(race) if timed else Location.of(self._module)
        before = len(race.claims) if race else 0

        def claims() -> tuple[Claim, ...]:
            return race.claims[before:] if race else ()

        within = (DRIFT if timed else 0.0) if recorded.within is None else recorded.within
        if self._suite.update:
            today = as_value(sharpened(value) if isinstance(value, Estimate) else value)
            if isinstance(today, Ratio):
                check_width(recorded.name, today, within)
            return self._record(recorded.name, sign, today, place, claims())
        found = self._found(recorded.name, place)
        word = "refuted"
        try:
            if holds(recorded.name, sign, value, found, within):
                word = "holds"
        except Inconclusive:
            word = "inconclusive"
            raise
        finally:
            shown = self._suite.store.shown(place.file)
            made = BaselineComparison(
                recorded.name, sign, as_value(value), found, within, word, shown, claims()
            )
            self.comparisons.append(made)
        return made

    def _race(self, value: Today) -> Race | None:
        """Return the race that an estimate comes from."""
        if not isinstance(value, Estimate):
            return None
        if math.isnan(value.latest().value):
            raise Inconclusive(
                "there is no look at this ratio yet, so there is nothing to compare or to record: "
                "set --sparsity-budget higher"
            )
        return self._origin(value)

    def _record(
        self,
        name: str,
        sign: str,
        today: Recordable,
        place: Location,
        claims: tuple[Claim, ...] = (),
    ) -> BaselineComparison:
        """Keep today's value until the test has passed."""
        entry = join(self._test, name)
        if entry in self._pending and not isinstance(today, Ratio):
            earlier = self._pending[entry][1]
            if earlier != today:
                raise ValueError(
                    f"baseline {name!r} got two values in one test, {text(earlier)} and "
                    f"{text(today)}: give them two names"
                )
        self._pending[entry] = place, today
        before = self._suite.store.values(place.file).get(entry)
        shown = self._suite.store.shown(place.file)
        made = BaselineComparison(name, sign, today, before, 0.0, "recorded", shown, claims)
        self.comparisons = [old for old in self.comparisons if old.name != name] + [made]
        return made

    def _found(self, name: str, place: Location) -> Recordable:
        found = self._suite.store.values(place.file).get(join(self._test, name))
        if found is not None:
            return found
        command = f"record it with: {self.command}"
        if not place.machine:
            raise NoBaseline(f"no baseline for {name!r}; {command}")
        if self._suite.store.knows(place.machine):
            raise NoBaseline(
                f"no baseline for {name!r} on this machine ({place.machine}); {command}"
            )
        raise NotRecorded(f"no baseline for this machine ({place.machine})", command)

    @property
    def command(self) -> str:
        """What records the values of this test."""
        return f"pytest --sparsity-update {shlex.quote(f'{self._module}::{self._test}')}"

    def _check_size(self, model: Model) -> None:
        limit = self._suite.model_limit
        if model.nbytes > limit * MEGABYTE:
            raise BaselineError(
                f"{model.path.name} has {model.nbytes / MEGABYTE:.1f} MB, and "
                f"sparsity_baseline_model_limit allows {limit:g} MB in git: keep it in Git LFS "
                f"(git lfs track '{self._suite.store.shown(PurePosixPath(MODELS))}/*.tflite') "
                "and raise the setting"
            )

    def _place(self, race: Race | None) -> Location:
        if race is None:
            raise BaselineError(
                "a baseline keeps the ratio of a race that the fixture `race` ran: of "
                "another ratio the target and the machine are not known"
            )
        runtime, version = race.target.runtime, str(race.metadata.get("version", ""))
        if race.target.arch == "wasm32":  # there the engine compiles the kernels
            version += f" {race.metadata.get('engine', '')}"
        machine = race.target.machine or self._suite.machine
        facts: dict[str, str | int] = {"runtime": runtime, "version": version}
        if isinstance(machine, Machine):
            names = ("brand", "model", "isa", "cores", "arch")
            facts |= {name: getattr(machine, name) for name in names}
        else:
            facts["name"] = machine
        return Location.of(self._module, key(machine, runtime, version), facts)
