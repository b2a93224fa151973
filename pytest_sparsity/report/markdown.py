"""The report as Markdown, as the hosts of repositories show it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_sparsity.errors import printable
from pytest_sparsity.report import terminal
from pytest_sparsity.report.document import OUTCOMES, VERDICTS
from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_sparsity.report.records import Record

# Rows of a table: a summary is read by people, and hosts refuse what is longer than a megabyte.
ROWS = 100
# Characters of a cell.
CELL = 200
FAILED = ("error", "failed", "xpassed")


def markdown(document: Record) -> str:
    """Return the Markdown of a report; see `document.compose`."""
    return "\n\n".join(_parts(document)) + "\n"


def _parts(document: Record) -> Iterator[str]:
    tests, final = document["tests"], terminal.final(document["tests"])
    yield "## Claims about pruned models"
    yield headline(document)
    races = [
        (race, claim, test)
        for test in tests
        for race in test["races"]
        for claim in race["claims"] or [{**race["ratio"], "text": "", "verdict": "not claimed"}]
    ]
    races.sort(key=lambda row: _rank(row[1]["verdict"]))
    yield from _table(
        "Races",
        ("verdict", "measured", "claim", "target", "test"),
        [
            (
                _bold(claim["verdict"]),
                terminal.ratio(claim, race["unit"]),
                f"{race['quantity']} {claim['text']}" if claim["text"] else "",
                race["target"],
                _code(test["nodeid"]),
            )
            for race, claim, test in races
        ],
    )
    yield from _table(
        "Tests that failed",
        ("outcome", "test", "why"),
        [
            (_bold(test["outcome"]), _code(test["nodeid"]), _cell(_first_line(test["message"])))
            for test in final
            if test["outcome"] in FAILED
        ],
    )
    yield from _table(
        "Not run",
        ("claims", "target", "reason", "what would help"),
        [
            (
                f"{lacks['claims']}{', **required**' if lacks['required'] else ''}",
                _cell(lacks["target"]),
                _cell(lacks["reason"]),
                _code(lacks["remedy"]),
            )
            for lacks in terminal.lacking(final)
        ],
    )
    yield from _table(
        "Baselines that moved, or do not hold",
        ("verdict", "name", "recorded", "today", "test"),
        [
            (
                _bold(entry["verdict"]),
                _cell(entry["name"]),
                _cell("" if entry["recorded"] is None else terminal.shown(entry["recorded"])),
                _cell(terminal.shown(entry["today"])),
                _code(test["nodeid"]),
            )
            for test in final
            for entry in test["baselines"]
            if entry["moved"] or entry["verdict"] != "holds"
        ],
    )
    yield from _table(
        "Files",
        ("file", "bytes", "after gzip", "zeros"),
        [
            (
                _code(model["name"]),
                f"{model['nbytes']:,}",
                "" if model["gzip_nbytes"] is None else f"{model['gzip_nbytes']:,}",
                "" if model["sparsity"] is None else f"{model['sparsity']:.1%}",
            )
            for model in document["models"]
        ],
    )
    yield _circumstances(document)


def headline(document: Record) -> str:
    """Return one line: how many tests and claims came out how."""
    counts = document["counts"]
    tests = [f"{counts['tests'][o]} {o}" for o in OUTCOMES if o in counts["tests"]]
    claims = [f"{counts['claims'][v]} {v}" for v in VERDICTS if v in counts["claims"]]
    parts = [
        f"tests: {', '.join(tests)}" if tests else "no test used a fixture of pytest-sparsity",
        f"claims: {', '.join(claims)}" if claims else "",
        f"not run: {counts['not_run']}" if counts["not_run"] else "",
    ]
    return "; ".join(filter(None, parts))


def _circumstances(document: Record) -> str:
    machine = document["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    changed = " with changes" if document["changed"] else ""
    commit = f", commit {document['commit'][:12]}{changed}" if document["commit"] else ""
    where = f"{machine['brand']}, {machine['isa']}, {machine['cores']} cores"
    return _cell(f"{where}; {versions}; {document['created']}{commit}", most=1000)


def _rank(verdict: str) -> int:
    return (*VERDICTS, "not claimed").index(verdict)


def _table(title: str, heading: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a table with its title; nothing without rows."""
    if not rows:
        return
    yield f"### {title}"
    lines = [_row(heading), _row(["---"] * len(heading)), *map(_row, rows[:ROWS])]
    yield "\n".join(lines)
    if len(rows) > ROWS:
        yield f"{counted(len(rows) - ROWS, 'more row')} in the report."


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0]


def _bold(text: str) -> str:
    return f"**{text}**" if text in ("refuted", "inconclusive", *FAILED) else text


def _cell(text: str, most: int = CELL) -> str:
    """Return text in which nothing is taken for Markdown, HTML, a mention or the cell's end."""
    text = printable(" ".join(text.split()))
    text = text if len(text) <= most else f"{text[:most]} ..."
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~@&$])", r"\\\1", text)


def _code(text: str) -> str:
    """Return text as code; a longer row of backticks than any in it begins and ends it."""
    if not text:
        return ""
    text = printable(" ".join(text.split())).replace("|", "\\|")
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}"
