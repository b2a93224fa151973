"""The fixtures `variants`, `race`, `diagnose` and `baseline`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from pytest_sparsity.baseline import Baseline, Store, Suite
from pytest_sparsity.machine import this_machine
from pytest_sparsity.model import Model
from pytest_sparsity.plugin.evidence import Entry
from pytest_sparsity.plugin.state import CLOCK, CONTROLS, EVIDENCE, OPTIONS, SUITE, Settings
from pytest_sparsity.race import Race
from pytest_sparsity.race import race as run_race
from pytest_sparsity.targets import Target
from pytest_sparsity.variants import Variants, build_variants

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_sparsity.diagnosis import Diagnosis

AnyModel = str | os.PathLike[str] | Model
BUSY = "race needs an otherwise idle process: run without -n"


class RaceFixture(Protocol):
    """What the fixture `race` is."""

    def __call__(
        self,
        dense: AnyModel,
        sparse: AnyModel,
        *,
        target: str | Target | None = None,
        threads: int | None = None,
        budget: float | None = None,
    ) -> Race:
        """Race two models; what is not given comes from the marker, the flags and the ini file."""
        ...


class DiagnoseFixture(Protocol):
    """What the fixture `diagnose` is."""

    def __call__(
        self,
        model: AnyModel,
        *,
        target: str | Target | None = None,
        observe: bool = True,
        dense: AnyModel | None = None,
    ) -> Diagnosis:
        """Diagnose a model; without a target on the one of the test."""
        ...


class VariantsFixture(Protocol):
    """What the fixture `variants` is."""

    def __call__(self, build: Callable[[], Any], **options: Any) -> Variants:
        """Return `build_variants(build, **options)`, from the project's cache if it is there."""
        ...


@pytest.fixture(scope="session")
def variants(request: pytest.FixtureRequest) -> VariantsFixture:
    """Make the dense, pruned and sparse files of a Keras network, cached on disk.

    `variants(build, *, sparsity=0.8, pattern="unstructured", policy="xnnpack", ...) -> Variants`
    """
    config = request.config
    cache = getattr(config, "cache", None)
    folder = cache.mkdir("sparsity") if cache is not None else None

    def make(build: Callable[[], Any], **options: Any) -> Variants:
        rebuild = config.stash[OPTIONS].rebuild
        made = build_variants(build, cache=folder, rebuild=rebuild, **options)
        config.stash[EVIDENCE].variants.append(made)
        return made

    return make


@pytest.fixture
def _sparsity_settings(request: pytest.FixtureRequest) -> Settings:
    """Return where, how wide and how long the test's races run."""
    settings = Settings.of(request.node)
    chosen = getattr(request, "param", None)
    return settings if chosen is None else settings.at(Target.of(chosen))


@pytest.fixture
def race(request: pytest.FixtureRequest, _sparsity_settings: Settings) -> RaceFixture:
    """Race two models against each other on a target.

    `race(dense, sparse, *, target=None, threads=None, budget=None) -> Race`
    """
    stash, options = request.config.stash, request.config.stash[OPTIONS]
    evidence, bound = stash[EVIDENCE], _sparsity_settings

    def run(
        dense: AnyModel,
        sparse: AnyModel,
        *,
        target: str | Target | None = None,
        threads: int | None = None,
        budget: float | None = None,
    ) -> Race:
        where = bound.target if target is None else Target.of(target)
        if where.unit == "seconds" and hasattr(request.config, "workerinput"):
            pytest.skip(BUSY)
        models = Model.of(dense), Model.of(sparse)
        seconds = bound.budget if budget is None else budget
        width = bound.threads if threads is None else threads
        result = run_race(
            *models,
            target=where,
            threads=width,
            budget=seconds,
            confidence=options.confidence,
            controls=stash[CONTROLS],
        )
        control = stash[CONTROLS].get((where.name, width))
        resolution = control.resolution(seconds) if control else ""
        evidence.entries.append(Entry(result, *models, resolution))
        if CLOCK in request.node.stash and where.unit == "seconds":
            evidence.benchmark = request.getfixturevalue("benchmark")
        return result

    return run


@pytest.fixture
def diagnose(request: pytest.FixtureRequest, _sparsity_settings: Settings) -> DiagnoseFixture:
    """Say which layers run sparse kernels, why the others do not, and whether answers are right.

    `diagnose(model, *, target=None, observe=True, dense=None) -> Diagnosis`
    """
    from pytest_sparsity.diagnosis import diagnose as run_diagnose

    evidence = request.config.stash[EVIDENCE]

    def run(
        model: AnyModel,
        *,
        target: str | Target | None = None,
        observe: bool = True,
        dense: AnyModel | None = None,
    ) -> Diagnosis:
        where = _sparsity_settings.target if target is None else Target.of(target)
        other = None if dense is None else Model.of(dense)
        result = run_diagnose(Model.of(model), where, observe=observe, dense=other)
        evidence.diagnoses.append(result)
        return result

    return run


@pytest.fixture
def baseline(request: pytest.FixtureRequest) -> Baseline:
    """Compare today's value with one that was recorded and committed earlier.

    `baseline(name, *, within=None)` on either side of a comparison; `baseline.model(model, *,
    name="model")` for the recorded model itself.
    """
    evidence = request.config.stash[EVIDENCE]
    module, _, test = request.node.nodeid.partition("::")
    evidence.baseline = Baseline(suite(request.config), module, test, evidence.race_of)
    return evidence.baseline


def suite(config: pytest.Config) -> Suite:
    """Return what all tests of a run share of the baselines."""
    if SUITE not in config.stash:
        options = config.stash[OPTIONS]
        named: str | None = config.hook.pytest_sparsity_machine(config=config)
        config.stash[SUITE] = Suite(
            Store(config.rootpath / options.baselines, options.baselines),
            options.update,
            options.model_limit,
            named or this_machine(),
        )
    return config.stash[SUITE]
