"""The report as one document, written as JSON or as a page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_sparsity.machine import this_machine
from pytest_sparsity.report.records import plain
from pytest_sparsity.store import replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_sparsity.baseline.history import Trend
    from pytest_sparsity.report.records import Record

SCHEMA = 1


def compose(tests: Sequence[Record], unused: Sequence[str], trends: Sequence[Trend]) -> Record:
    """Return the document: what was claimed, measured and compared, and how values moved.

    Args:
        tests: the records of the tests, each with `nodeid` and `outcome`.
        unused: tests that have baselines and do not exist.
        trends: how recorded values moved.
    """
    from pytest_sparsity import __version__

    return dict(
        plain(
            {
                "schema": SCHEMA,
                "version": __version__,
                "machine": this_machine(),
                "tests": tests,
                "unused": unused,
                "trends": trends,
            }
        )
    )


def write(path: Path, document: Record) -> None:
    """Write a document, as a page if the name ends with `.html`."""
    if path.suffix == ".html":
        from pytest_sparsity.report.page import page

        text = page(document)
    else:
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    replace(path, text.encode())
