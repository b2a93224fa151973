"""What all tests of a run left behind, gathered where the reports arrive."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_sparsity.errors import one_line, printable
from pytest_sparsity.plugin.fixtures import suite
from pytest_sparsity.plugin.state import COLLECTED, OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pytest_sparsity.report.records import Record
    from pytest_sparsity.report.terminal import Line

UNUSED = "sparsity_unused"
# Exit statuses of runs in which nothing was wrong so far.
DONE = pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED


class SessionReport:
    """The tests' records; with xdist it lives in the controller, where all reports arrive."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._tests: list[Record] = []
        self._unused: list[str] = []
        self._fault = ""
        self._notes: list[str] = []
        self._failures: list[str] = []
        self._annotations: list[str] = []
        self._composed: Record | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what the fixtures left behind."""
        record = vars(report).get("sparsity")
        if record is not None:
            from pytest_sparsity.plugin import tested

            about = tested.of(report, str(self._config.rootpath))
            self._tests.append({**about, **record})
        elif report.when == "teardown" and report.failed:
            self._fail_after(report)

    def _fail_after(self, report: pytest.TestReport) -> None:
        """Take note that a test whose call was kept failed when its fixtures were taken down."""
        kept = next((t for t in reversed(self._tests) if t["nodeid"] == report.nodeid), None)
        if kept is not None:
            from pytest_sparsity.plugin import tested

            said = [kept["message"], f"at teardown: {tested.message(report)}"]
            kept |= {"outcome": "error", "message": "\n".join(filter(None, said))}

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Find the baselines of tests that do not exist, write the report, make the summary.

        Nothing that goes wrong here hides what the tests said: it is one line after the summary,
        and the exit status is 1.
        """
        config = session.config
        if config.option.collectonly:
            return
        worker = hasattr(config, "workerinput")
        if worker or config.getoption("dist", "no") == "no":  # the controller collects nothing
            with self._reporting("unused baselines are not known"):
                self._unused, self._fault = unused_baselines(config)
        if worker:
            vars(config)["workeroutput"][UNUSED] = self._unused, self._fault
            return
        options = config.stash[OPTIONS]
        for path in options.reports:
            with self._reporting(f"the report {path} was not written"):
                self._write_report(path)
        if options.job_summary is not None and self._tests:
            with self._reporting("the job's summary was not written"):
                self._write_job_summary(options.job_summary)
        if self._failures and session.exitstatus in DONE:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @contextmanager
    def _reporting(self, what: str) -> Iterator[None]:
        """Keep what goes wrong for the end of the summary."""
        try:
            yield
        except OSError as error:
            self._failures.append(f"{what}: {error.strerror or error}")
        except Exception as error:
            self._failures.append(f"{what}, please report it: {type(error).__name__}: {error}")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what an xdist worker found; all of them collect the same tests."""
        known = self._unused, self._fault
        self._unused, self._fault = getattr(node, "workeroutput", {}).get(UNUSED, known)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the claims."""
        lines: list[Line] = []
        counts = ""
        colours: dict[str, dict[str, bool]] = {}
        with self._reporting("the summary cannot be made"):
            if self._said:  # else nothing is imported: most sessions have no claim
                from pytest_sparsity.report import terminal

                lines = list(self._lines(verbosity=terminalreporter.verbosity))
                counts = terminal.counts(terminal.final(self._tests), self._unused)
                lines = [(about, printable(line)) for about, line in lines]
                colours = terminal.COLOURS
        if lines or counts or self._failures:
            terminalreporter.write_sep("=", "sparsity")
        for about, line in lines:
            terminalreporter.write_line(line, **colours.get(about, {}))
        for line in filter(None, [counts, *self._notes]):
            terminalreporter.write_line(line)
        for failure in self._failures:
            terminalreporter.write_line(f"sparsity: {one_line(failure)}", red=True)
        for annotation in self._annotations:
            terminalreporter.write_line(annotation)

    @property
    def _said(self) -> bool:
        return bool(self._tests or self._unused or self._fault)

    def _lines(self, verbosity: int) -> Iterable[Line]:
        from pytest_sparsity.report import terminal

        quiet = ("refuted", "inconclusive") if verbosity < 0 else ()
        claims = list(terminal.claims(self._tests, quiet))
        yield from claims
        yield from terminal.not_run(self._tests)
        if verbosity > 0 or any(about == "inconclusive" for about, _ in claims):
            yield from terminal.resolutions(self._tests)
        if not self._config.stash[OPTIONS].parametrized:
            yield from terminal.elsewhere(self._tests)
        yield from terminal.repeats(self._tests)
        yield from terminal.waits(self._tests)
        if verbosity >= 0:
            yield from terminal.moved(self._tests, everything=verbosity > 0)
        yield from terminal.recorded(self._tests, everything=verbosity > 0)
        yield from terminal.unused(self._unused)
        if self._fault:
            yield "unused", f"unused baselines are not known: {self._fault}"

    def _write_report(self, path: Path) -> None:
        from pytest_sparsity.report import document

        document.write(path, self._document())
        self._notes.append(f"sparsity report: {printable(str(path))}")

    def _write_job_summary(self, path: Path) -> None:
        from pytest_sparsity.report import job

        job.append(path, self._document())
        manager = self._config.pluginmanager
        if not manager.hasplugin("pytest_github_actions_annotate_failures"):
            self._annotations = list(job.commands(self._document(), self._config.rootpath))

    def _document(self) -> Record:
        """Return what all reports show, made once."""
        if self._composed is None:
            self._composed = self._compose()
        return self._composed

    def _compose(self) -> Record:
        from pytest_sparsity.baseline import BaselineError
        from pytest_sparsity.baseline.history import trends
        from pytest_sparsity.report import document

        config = self._config
        store = suite(config).store
        try:
            moved = trends(store) if store.folder.is_dir() else []
        except BaselineError as error:
            self._notes.append(f"sparsity report: no trends: {one_line(error)}")
            moved = []
        options = config.stash[OPTIONS]
        settings = {
            "targets": options.targets,
            "require": options.require,
            "budget": options.budget,
            "confidence": options.confidence,
        }
        run = document.Run.now(config.rootpath, {"pytest": pytest.__version__}, settings)
        return document.compose(run, self._tests, self._unused, moved)


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
