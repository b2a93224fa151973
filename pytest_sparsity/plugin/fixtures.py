"""The fixtures `variants`, `race`, `diagnose` and `baseline`.

What they use is imported when a test asks for them: pytest imports this module in every run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_sparsity.plugin.state import (
    CLOCK,
    CONTROLS,
    OPTIONS,
    SUITE,
    called,
    record_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_sparsity.baseline import Baseline, Suite
    from pytest_sparsity.diagnosis import Diagnosis
    from pytest_sparsity.inputs import InputsLike, Shapes
    from pytest_sparsity.plugin.protocols import (
        AnyModel,
        DiagnoseFixture,
        RaceFixture,
        VariantsFixture,
    )
    from pytest_sparsity.plugin.settings import RaceSettings
    from pytest_sparsity.racing import Race
    from pytest_sparsity.targets import Target, Where
    from pytest_sparsity.variants import Variants


@pytest.fixture(scope="session")
def variants(request: pytest.FixtureRequest) -> VariantsFixture:
    """Make the dense, pruned and sparse files of a network, cached on disk.

    `variants(build, *, sparsity=0.8, pattern="unstructured", policy="auto", ...) -> Variants`
    `variants.from_files(dense=..., pruned=None, sparsity=..., pattern=...) -> Variants`
    """
    config = request.config
    cache = getattr(config, "cache", None)
    folder = cache.mkdir("sparsity") if cache is not None else None

    return Factory(config, folder)


class Factory:
    """What the fixture `variants` is: a function, and one of files."""

    def __init__(self, config: pytest.Config, folder: Path | None) -> None:
        self._config, self._folder = config, folder

    def __call__(self, build: Callable[[], Any], **options: Any) -> Variants:
        """Build a network; see `VariantsFixture`."""
        __tracebackhide__ = True
        from pytest_sparsity.variants import build_variants

        return self._note(build_variants(build, **self._where(), **options))

    def from_files(self, dense: AnyModel, **options: Any) -> Variants:
        """Take files that are there; see `VariantsFixture`."""
        __tracebackhide__ = True
        from pytest_sparsity.variants import from_files

        return self._note(from_files(dense, **self._where(), **options))

    def _where(self) -> dict[str, Any]:
        return {"cache": self._folder, "rebuild": self._config.stash[OPTIONS].rebuild}

    def _note(self, made: Variants) -> Variants:
        record_of(self._config).variants.append(made)
        return made


@pytest.fixture
def _sparsity_settings(request: pytest.FixtureRequest) -> RaceSettings:
    """Return where, how wide and how long the test's races run."""
    from pytest_sparsity.plugin.settings import RaceSettings

    return RaceSettings.of(request.node, getattr(request, "param", None))


@pytest.fixture
def race(request: pytest.FixtureRequest, _sparsity_settings: RaceSettings) -> RaceFixture:
    """Race two models against each other on a target.

    `race(dense, sparse, *, target=None, threads=None, budget=None, inputs=None, shapes=None) ->
    Race`
    """
    from pytest_sparsity.model import Model
    from pytest_sparsity.plugin.record import RecordedRace
    from pytest_sparsity.racing import race as run_race
    from pytest_sparsity.targets import Target

    bound, test_record = _sparsity_settings, record_of(request.config)
    controls = request.config.stash.setdefault(CONTROLS, {})

    @called("race")
    def run(
        dense: AnyModel,
        sparse: AnyModel,
        *,
        target: Where | None = None,
        threads: int | None = None,
        budget: float | None = None,
        inputs: InputsLike | None = None,
        shapes: Shapes | None = None,
    ) -> Race:
        where = Target.of(bound.target if target is None else target)
        models = Model.of(dense), Model.of(sparse)
        width = bound.threads if threads is None else threads
        seconds = bound.budget if budget is None else budget
        result = run_race(
            *models,
            target=where,
            threads=width,
            budget=seconds,
            confidence=request.config.stash[OPTIONS].confidence,
            controls=controls,
            inputs=bound.inputs if inputs is None else inputs,
            shapes=bound.shapes if shapes is None else shapes,
        )
        control = controls.get((where.control.name, width))
        test_record.entries.append(
            RecordedRace(result, *models, control.resolution(seconds) if control else "")
        )
        if CLOCK in request.node.stash and where.unit == "seconds" and result.samples[1]:
            test_record.take_benchmark(request.getfixturevalue("benchmark"))
        return result

    return run


@pytest.fixture
def diagnose(request: pytest.FixtureRequest, _sparsity_settings: RaceSettings) -> DiagnoseFixture:
    """Say which layers run sparse kernels, why the others do not, and whether outputs are right.

    `diagnose(model, *, target=None, observe=True, dense=None, microkernels=False, inputs=None,
    shapes=None) -> Diagnosis`
    """
    from pytest_sparsity.diagnosis import diagnose as run_diagnose
    from pytest_sparsity.model import Model
    from pytest_sparsity.targets import Target

    test_record = record_of(request.config)

    @called("diagnose")
    def run(
        model: AnyModel,
        *,
        target: str | Target | None = None,
        observe: bool = True,
        dense: AnyModel | None = None,
        microkernels: bool = False,
        inputs: InputsLike | None = None,
        shapes: Shapes | None = None,
    ) -> Diagnosis:
        where = Target.of(_sparsity_settings.target if target is None else target)
        other = None if dense is None else Model.of(dense)
        threads = _sparsity_settings.threads if target is None else 1
        result = run_diagnose(
            Model.of(model),
            where,
            observe=observe,
            dense=other,
            threads=threads,
            microkernels=microkernels,
            inputs=_sparsity_settings.inputs if inputs is None else inputs,
            shapes=_sparsity_settings.shapes if shapes is None else shapes,
        )
        test_record.diagnoses.append(result)
        return result

    return run


@pytest.fixture
def baseline(request: pytest.FixtureRequest) -> Baseline:
    """Compare today's value with one that was recorded and committed earlier.

    `baseline(name, *, within=None)` on either side of a comparison; `baseline.model(model, *,
    name="model")` for the recorded model itself.
    """
    from pytest_sparsity.baseline import Baseline

    test_record = record_of(request.config)
    module, _, test = request.node.nodeid.partition("::")
    test_record.baseline = Baseline(suite(request.config), module, test, test_record.race_of)
    return test_record.baseline


def suite(config: pytest.Config) -> Suite:
    """Return what all tests of a run share of the baselines."""
    if SUITE not in config.stash:
        from pytest_sparsity.baseline import Store, Suite
        from pytest_sparsity.machine import this_machine

        options = config.stash[OPTIONS]
        named: str | None = config.hook.pytest_sparsity_machine(config=config)
        config.stash[SUITE] = Suite(
            Store(config.rootpath / options.baselines, options.baselines),
            options.update,
            options.model_limit,
            named or this_machine(),
        )
    return config.stash[SUITE]
