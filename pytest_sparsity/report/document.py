"""The report as one document; `docs/reference/report.schema.json` says what is in it.

What many tests share, the files and the diagnoses, is in it once: tests name files by their hash
and diagnoses by their number.
"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pytest_sparsity.machine import this_machine
from pytest_sparsity.report import terminal
from pytest_sparsity.report.records import plain
from pytest_sparsity.store import replace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_sparsity.baseline.history import Trend
    from pytest_sparsity.report.records import Record

SCHEMA = 1
# Of claims, the bad ones first.
VERDICTS = ("refuted", "inconclusive", "holds", "recorded")
# Of tests, likewise.
OUTCOMES = ("error", "failed", "xpassed", "xfailed", "skipped", "rerun", "passed")


@dataclass(frozen=True)
class Run:
    """Under which circumstances the tests ran.

    Attributes:
        created: when the report was made, ISO 8601 with the zone.
        commit: of the repository that the tests are in, empty without one.
        changed: whether files that git knows differ from the commit.
        versions: by name: this plugin, Python, what else is given.
        settings: targets, budget, confidence.
    """

    created: str
    commit: str
    changed: bool
    versions: Mapping[str, str]
    settings: Mapping[str, Any]

    @classmethod
    def now(cls, folder: Path, versions: Mapping[str, str], settings: Mapping[str, Any]) -> Run:
        """Return those of this moment; `versions` are added to those that are always known."""
        from pytest_sparsity import __version__
        from pytest_sparsity.baseline.history import head

        commit, changed = head(folder)
        known = {"pytest-sparsity": __version__, "Python": platform.python_version()}
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(created, commit, changed, {**known, **versions}, settings)


def compose(
    run: Run, tests: Sequence[Record], unused: Sequence[str], trends: Sequence[Trend]
) -> Record:
    """Return the document: what was claimed, measured and compared, and how values moved.

    Args:
        run: the circumstances.
        tests: the records of the tests, with what `plugin.tested` says of each.
        unused: tests that have baselines and do not exist.
        trends: how recorded values moved.
    """
    models: dict[str, Record] = {}
    diagnoses: dict[str, Record] = {}
    for test in tests:
        # A file that changed has no hash.
        models |= {model["sha256"] or model["fault"]: model for model in test["models"]}

    def number(diagnosis: Record | None) -> int | None:
        if diagnosis is None:
            return None
        diagnoses.setdefault(json.dumps(diagnosis), diagnosis)
        return list(diagnoses).index(json.dumps(diagnosis))

    shared = [
        {
            **{name: value for name, value in test.items() if name != "models"},
            "diagnoses": [number(diagnosis) for diagnosis in test["diagnoses"]],
            "races": [{**race, "diagnosis": number(race["diagnosis"])} for race in test["races"]],
        }
        for test in tests
    ]
    machine = this_machine()
    return dict(
        plain(
            {
                "schema": SCHEMA,
                "created": run.created,
                "commit": run.commit,
                "changed": run.changed,
                "versions": run.versions,
                "settings": run.settings,
                "machine": {
                    "brand": machine.brand,
                    "isa": machine.isa,
                    "cores": machine.cores,
                    "arch": machine.arch,
                },
                "counts": counts(tests),
                "tests": shared,
                "models": list(models.values()),
                "diagnoses": list(diagnoses.values()),
                "unused": unused,
                "trends": trends,
            }
        )
    )


def counts(tests: Sequence[Record]) -> Record:
    """Return how many tests have which outcome, and claims which verdict; those there are.

    Of a test that ran again only the last run counts. A race that was compared with a baseline is
    one claim.
    """
    final = terminal.final(tests)
    verdicts = [verdict for test in final for verdict in _verdicts(test)]
    outcomes = [test["outcome"] for test in final]
    return {
        "tests": {o: outcomes.count(o) for o in OUTCOMES if o in outcomes},
        "claims": {v: verdicts.count(v) for v in VERDICTS if v in verdicts},
        "not_run": sum(test["not_run"] is not None for test in final),
    }


def _verdicts(test: Record) -> list[str]:
    """Return the verdicts of a test's claims, of races and of baselines."""
    claims = [claim for race in test["races"] for claim in race["claims"]]
    raced = [claim["verdict"] for claim in claims if "baseline" not in claim]
    kept = [entry["verdict"] for entry in test["baselines"]]
    return [*raced, *kept]


def write(path: Path, document: Record) -> None:
    """Write a document, as a page or as Markdown if the name ends with `.html` or `.md`."""
    if path.suffix == ".html":
        from pytest_sparsity.report.page import page

        text = page(document)
    elif path.suffix == ".md":
        from pytest_sparsity.report.markdown import markdown

        text = markdown(document)
    else:
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    replace(path, text.encode())
