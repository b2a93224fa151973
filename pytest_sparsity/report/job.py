"""What a job of GitHub Actions shows: its summary, and annotations of the lines that failed.

Sources: "Workflow commands for GitHub Actions" of GitHub's documentation, on job summaries
(1 MiB for each step) and on setting an error message (10 of each kind for each step).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_sparsity.errors import one_line
from pytest_sparsity.report import terminal
from pytest_sparsity.report.markdown import FAILED, markdown
from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_sparsity.report.records import Record

MOST_BYTES = 1024 * 1024
MOST = 10


def append(path: Path, document: Record) -> None:
    """Add the report as Markdown to the summary that earlier commands of the step have begun.

    Raises:
        OSError: it cannot be written.
    """
    text = markdown(document)
    used = path.stat().st_size if path.exists() else 0
    if used + len(text.encode()) > MOST_BYTES:  # GitHub would show none of it
        text = "pytest-sparsity: the summary of this step is full\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def commands(document: Record, rootdir: Path) -> Iterator[str]:
    """Yield the commands that annotate what failed, and what did not run.

    Args:
        document: see `document.compose`.
        rootdir: pytest's, which the tests' files are relative to; annotations are relative to the
            checkout.
    """
    checkout = os.environ.get("GITHUB_WORKSPACE", "")
    final = terminal.final(document["tests"])
    failed = [test for test in final if test["outcome"] in FAILED]
    for test in failed[:MOST]:
        file = str(rootdir / test["file"]).removeprefix(f"{checkout}/")
        place = f"file={_value(file)},line={test['line']}"
        title = _value(f"{test['outcome']}: {test['nodeid']}")
        yield f"::error {place},title={title}::{_text(test['message'] or test['outcome'])}"
    if len(failed) > MOST:
        yield f"::notice title=pytest-sparsity::{counted(len(failed) - MOST, 'more test')} failed"
    for lacks in [lacks for lacks in terminal.lacking(final) if not lacks["required"]][:MOST]:
        where = f" on {lacks['target']}" if lacks["target"] else ""
        said = ": ".join(filter(None, (lacks["reason"], lacks["remedy"])))
        title = _value(f"not run: {lacks['claims']}{where}")
        yield f"::warning title={title}::{_text(said)}"


def _text(text: str) -> str:
    """Return text as a command takes it: line breaks are kept."""
    lines = [one_line(line) if line.strip() else "" for line in text.split("\n")]
    return "%0A".join(line.replace("%", "%25") for line in lines)


def _value(text: str) -> str:
    """Return a property's value as a command takes it."""
    return one_line(text).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
