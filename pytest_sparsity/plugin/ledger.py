"""What all tests of a run left behind, gathered where the reports arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_sparsity.plugin.fixtures import suite
from pytest_sparsity.plugin.state import COLLECTED, OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_sparsity.report.records import Record
    from pytest_sparsity.report.terminal import Line

UNUSED = "sparsity_unused"


class Ledger:
    """The tests' records; with xdist it lives in the controller, where all reports arrive."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._tests: list[Record] = []
        self._unused: list[str] = []
        self._fault = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what the fixtures left behind."""
        record = vars(report).get("sparsity")
        if record is not None:
            self._tests.append({"nodeid": report.nodeid, "outcome": report.outcome, **record})

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Find the baselines of tests that do not exist; a worker tells the controller."""
        config = session.config
        controller = config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")
        if config.option.collectonly or controller:  # which collects nothing itself
            return
        self._unused, self._fault = unused_baselines(config)
        output: dict[str, object] = getattr(config, "workeroutput", {})
        output[UNUSED] = self._unused, self._fault

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what an xdist worker found; all of them collect the same tests."""
        known = self._unused, self._fault
        self._unused, self._fault = getattr(node, "workeroutput", {}).get(UNUSED, known)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the claims, and write the report."""
        self._write_report(terminalreporter)
        if not self._tests and not self._unused and not self._fault:
            return
        from pytest_sparsity.report import terminal

        lines = list(self._lines(verbosity=terminalreporter.verbosity))
        counts = terminal.counts(terminal.final(self._tests), self._unused)
        if not lines and not counts:
            return
        terminalreporter.write_sep("=", "sparsity")
        for about, line in lines:
            terminalreporter.write_line(line, **terminal.COLOURS.get(about, {}))
        if counts:
            terminalreporter.write_line(counts)

    def _lines(self, verbosity: int) -> Iterable[Line]:
        from pytest_sparsity.report import terminal

        quiet = ("refuted", "undecided") if verbosity < 0 else ()
        claims = list(terminal.claims(self._tests, quiet))
        yield from claims
        yield from terminal.not_run(self._tests)
        if verbosity > 0 or any(about == "undecided" for about, _ in claims):
            yield from terminal.resolutions(self._tests)
        yield from terminal.repeats(self._tests)
        yield from terminal.waits(self._tests)
        if verbosity >= 0:
            yield from terminal.moved(self._tests, everything=verbosity > 0)
        yield from terminal.recorded(self._tests, everything=verbosity > 0)
        yield from terminal.unused(self._unused)
        if self._fault:
            yield "unused", f"unused baselines are not known: {self._fault}"

    def _write_report(self, terminalreporter: pytest.TerminalReporter) -> None:
        path = self._config.stash[OPTIONS].report
        if path is None:
            return
        from pytest_sparsity.baseline import BaselineError
        from pytest_sparsity.baseline.history import trends
        from pytest_sparsity.report import document

        store = suite(self._config).store
        try:
            moved = trends(store) if store.folder.is_dir() else []
        except BaselineError as error:
            terminalreporter.write_line(f"sparsity report: no trends: {error}", yellow=True)
            moved = []
        document.write(path, document.compose(self._tests, self._unused, moved))
        terminalreporter.write_line(f"sparsity report: {path}")


def unused_baselines(config: pytest.Config) -> tuple[list[str], str]:
    """Return the tests that have baselines and do not exist, or why that is not known."""
    options = config.stash[OPTIONS]
    if not (config.rootpath / options.baselines).is_dir():
        return [], ""
    from pytest_sparsity.baseline import BaselineError
    from pytest_sparsity.baseline.unused import Known, unused

    chosen = any("::" in argument for argument in config.args) or config.getoption("lf", False)
    complete = not (chosen or options.parametrized)
    collected = {
        module: Known(found.module, found.tests, complete)
        for module, found in config.stash[COLLECTED].items()
    }
    try:
        return unused(suite(config).store, config.rootpath, collected), ""
    except BaselineError as error:
        return [], str(error)
