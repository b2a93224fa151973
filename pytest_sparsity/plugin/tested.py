"""What pytest says of a test: its outcome, where it is, how long it took, and why it failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import printable

if TYPE_CHECKING:
    import pytest

    from pytest_sparsity.report.records import Record

# Characters of a failure's message; a comparison of two long lists has megabytes.
MESSAGE = 4000


def of(report: pytest.TestReport, rootdir: str) -> Record:
    """Return a test's outcome with the place and the words that go with it.

    The outcome is one of "passed", "failed", "error" (of a fixture, of the machine, or of a
    required target), "skipped", "xfailed", "xpassed" and "rerun".
    """
    file, line = _place(report, rootdir)
    return {
        "nodeid": report.nodeid,
        "outcome": outcome(report),
        "file": file,
        "line": line,
        "seconds": round(report.duration, 3),
        "message": message(report),
    }


def outcome(report: pytest.TestReport) -> str:
    """Return the outcome in the words of pytest's summary."""
    expected = hasattr(report, "wasxfail")
    if report.skipped:
        return "xfailed" if expected else "skipped"
    if report.passed:
        return "xpassed" if expected else "passed"
    if not report.failed:
        return str(report.outcome)  # pytest-rerunfailures has one of its own
    return "error" if report.when != "call" or of_the_machine(report) else "failed"


def of_the_machine(report: pytest.TestReport) -> bool:
    """Tell whether a failure is the fault of the machine or of a required target, not a claim's."""
    record: Record | None = vars(report).get("sparsity")
    if not record or not report.failed:
        return False
    not_run = record["not_run"]
    return bool(record["cannot_measure"] or (not_run and not_run["required"]))


def message(report: pytest.TestReport) -> str:
    """Return why a test failed or was skipped, in lines that can be printed; empty if it passed."""
    said = ""
    longrepr: Any = report.longrepr
    if isinstance(longrepr, tuple):
        said = str(longrepr[2]).removeprefix("Skipped: ")
    elif longrepr is not None:
        crash = getattr(longrepr, "reprcrash", None)
        said = report.longreprtext if crash is None else crash.message
        said = said.removeprefix("AssertionError: ")
    if report.skipped and hasattr(report, "wasxfail"):
        said = str(report.wasxfail)
    said = said if len(said) <= MESSAGE else f"{said[:MESSAGE]} ..."
    return "\n".join(map(printable, said.strip().splitlines()))


def _place(report: pytest.TestReport, rootdir: str) -> tuple[str, int]:
    """Return the line that failed if it is in the test's own file, else that of the test."""
    file, line, _ = report.location
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None and str(crash.path) in (file, f"{rootdir}/{file}"):
        return file, int(crash.lineno)
    return file, (line or 0) + 1
