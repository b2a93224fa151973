"""The pytest plugin: everything that measures, compares or formats is below; here it meets pytest.

`options` and the marker (`state`) say what is asked, `fixtures` do it, `outcomes` turn exceptions
into pytest's outcomes, `record` is what a test left behind, and `session_report` prints all of it.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from pytest_sparsity import hooks
from pytest_sparsity.plugin import options as _options
from pytest_sparsity.plugin.files import densify, encode, prune, repair, shrink
from pytest_sparsity.plugin.fixtures import (
    _sparsity_settings,
    baseline,
    diagnose,
    race,
    variants,
)
from pytest_sparsity.plugin.options import SUITE_MODULE, Options
from pytest_sparsity.plugin.outcomes import OWN, VERDICTS, outcomes
from pytest_sparsity.plugin.session_report import SessionReport
from pytest_sparsity.plugin.state import (
    CLOCK,
    COLLECTED,
    OPTIONS,
    RECORD,
    TWO_FILES,
    Collected,
    marked,
    record_of,
)
from pytest_sparsity.plugin.waiting import Waits
from pytest_sparsity.plugin.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = [
    "_sparsity_settings",
    "baseline",
    "densify",
    "diagnose",
    "encode",
    "prune",
    "race",
    "repair",
    "shrink",
    "variants",
]
# A test that has one of them, be it through a fixture of its own, is in the report.
FIXTURES = frozenset(__all__)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flags and the ini values."""
    _options.add(parser)
    _options.add_suite(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hooks that others may implement."""
    pluginmanager.add_hookspecs(hooks)


def pytest_configure(config: pytest.Config) -> None:
    """Take others' targets, check the options and describe the marker."""
    config.addinivalue_line(
        "markers",
        "race(*, target=None, threads=1, budget=None, inputs=None, shapes=None): where, how wide, "
        "how long and on what the races of a test run; every test that uses the fixture `race` has "
        "it.",
    )
    if config.hook.pytest_sparsity_targets.get_hookimpls():
        from pytest_sparsity.plugin import registry

        registry.register(config)
    config.stash[OPTIONS] = Options.of(config)
    config.stash[COLLECTED] = {}
    config.pluginmanager.register(SessionReport(config), "sparsity-session-report")
    config.pluginmanager.register(Waits(config), "sparsity-waits")
    config.pluginmanager.register(Watch(config), "sparsity-watch")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what races would run with, if that was chosen or is asked for."""
    options = config.stash[OPTIONS]
    if config.get_verbosity() <= 0 and not options.chosen:
        return None
    return options.header()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests once per target if several are named, or any by a flag."""
    options = metafunc.config.stash[OPTIONS]
    if not options.parametrized or "_sparsity_settings" not in metafunc.fixturenames:
        return
    markers = metafunc.definition.iter_markers("race")
    if all(marker.kwargs.get("target") is None for marker in markers):
        metafunc.parametrize(
            "_sparsity_settings", options.targets, indirect=True, ids=options.targets
        )


def pytest_itemcollected(item: pytest.Item) -> None:
    """Note that the test exists, mark it if it races, and check its markers."""
    module, _, test = item.nodeid.partition("::")
    found = item.config.stash[COLLECTED].setdefault(module.rpartition(".")[0], Collected())
    found.module = getattr(item.getparent(pytest.Module), "obj", None)
    found.tests.add(test)
    if isinstance(found.module, ModuleType) and found.module.__name__.startswith(SUITE_MODULE):
        from pytest_sparsity.plugin import two_files

        item.config.stash.setdefault(TWO_FILES, two_files.TwoFiles.of(item.config))
    fixtures: list[str] = getattr(item, "fixturenames", [])
    if "race" in fixtures:
        if item.get_closest_marker("race") is None:
            item.add_marker("race")
        _prepare_replay(item, fixtures)
    marked(item)


# Who gives one of these wants pytest-benchmark to have the races; its table alone says less than
# ours and is wider than a terminal.
_BENCHMARK_ASKED = (
    "benchmark_autosave",
    "benchmark_compare",
    "benchmark_histogram",
    "benchmark_json",
    "benchmark_only",
    "benchmark_save",
)
_BENCHMARK_OFF = ("benchmark_disable", "benchmark_skip")


def _prepare_replay(item: pytest.Item, fixtures: list[str]) -> None:
    """Give pytest-benchmark the timer that replays the race, unless the test uses it itself."""
    config = item.config
    if (
        not config.pluginmanager.hasplugin("benchmark")
        or "benchmark" in fixtures
        or hasattr(config, "workerinput")
        or any(config.getoption(flag, False) for flag in _BENCHMARK_OFF)
        or not any(config.getoption(flag, False) for flag in _BENCHMARK_ASKED)
    ):
        return
    from pytest_sparsity.report.replay import ReplayClock

    clock = item.stash[CLOCK] = ReplayClock()
    own = item.get_closest_marker("benchmark")
    given = own.kwargs if own else {}
    item.add_marker(pytest.mark.benchmark(**{**given, "timer": clock}), append=False)
    if config.getoption("benchmark_only", False):
        item.fixturenames = [*fixtures, "benchmark"]  # type: ignore[attr-defined]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take pytest-benchmark's fixture back from tests that had it to be selected by its flag.

    It is set up when there are samples to replay, and not before: unused, it warns.
    """
    for item in items:
        if CLOCK in item.stash:
            fixtures: list[str] = getattr(item, "fixturenames", [])
            kept = [name for name in fixtures if name != "benchmark"]
            item.fixturenames = kept  # type: ignore[attr-defined]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Forget what the test before did."""
    if RECORD in item.config.stash:
        del item.config.stash[RECORD]
    with outcomes(item):
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Record the baselines of a test that passes, and hand its race to others."""
    try:
        with outcomes(item):
            yield
            test_record = item.config.stash.get(RECORD, None)
            if test_record is not None and test_record.baseline is not None:
                test_record.baseline.commit()
    finally:
        test_record = item.config.stash.get(RECORD, None)
        if test_record is not None:
            # Not earlier: a comparison may have measured further.
            test_record.hand_over(item.user_properties, item.stash.get(CLOCK, None))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what the test did into its report."""
    report = yield
    if call.when == "teardown" or (call.when == "setup" and report.passed):
        return report
    if FIXTURES.isdisjoint(getattr(item, "fixturenames", ())) and RECORD not in item.config.stash:
        return report
    test_record = record_of(item.config)
    test_record.take(getattr(item, "funcargs", {}).values())
    if report.failed and call.excinfo is not None and call.excinfo.errisinstance(AssertionError):
        report.sections += test_record.sections()
    reported = item.config.stash[OPTIONS].reported
    vars(report)["sparsity"] = test_record.as_json(reported=reported)
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Show as an error what is the fault of the machine or of a required target, not of a claim."""
    if "sparsity" not in vars(report):
        return None
    from pytest_sparsity.plugin import tested

    return ("error", "E", "ERROR") if tested.of_the_machine(report) else None


def pytest_assertrepr_compare(
    config: pytest.Config, op: str, left: object, right: object
) -> list[str] | None:
    """Explain a comparison with an `Estimate`, a recorded value or a verdict."""
    verdicts = all(isinstance(side, str) and side in VERDICTS for side in (left, right))
    if not verdicts and not any(type(side).__module__.startswith(OWN) for side in (left, right)):
        return None
    return record_of(config).explain(op, left, right)
