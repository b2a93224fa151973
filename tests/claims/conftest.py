"""The table that the run ends with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from claims.networks import Network, Row
from pytest_sparsity import Variants

ROW = "claim"


@pytest.fixture
def row(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Row:
    """Record one line of the table; what is left out stays empty."""

    def record(network: Network, target: str, files: Variants, speedup: str, verdict: str) -> None:
        nbytes = f"{files.dense.nbytes:,} -> {files.sparse.nbytes:,}"
        cells = [network.name, f"{network.sparsity:.0%}", target, nbytes, speedup, verdict]
        record_property(ROW, cells)

    return record


def rows(reporter: pytest.TerminalReporter) -> Iterator[list[str]]:
    for reports in reporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                yield from (cells for name, cells in report.user_properties if name == ROW)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    heading = ["network", "zeros", "target", "bytes, dense -> sparse", "speedup", "verdict"]
    table = [heading, *sorted(rows(terminalreporter))]
    if len(table) == 1:
        return
    widths = [max(len(line[column]) for line in table) for column in range(len(heading))]
    terminalreporter.section("claims")
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        terminalreporter.write_line("  ".join(cells).rstrip())
