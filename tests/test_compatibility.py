"""The page of releases and CPUs: it is what its data say, and the data are whole."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from corpus import CASES

ROOT = Path(__file__).parents[1]
MODULE = runpy.run_path(str(ROOT / "benchmarks/compatibility.py"), run_name="compatibility")
TABLE: Any = MODULE["Table"].read()
REPORTS: dict[str, Path] = MODULE["reports"]()
SECTIONS = ("Steps", "Expected", "Actual", "Affected", "Cause", "Possible fix")


def test_the_committed_files_are_what_the_data_say() -> None:
    for path, text in MODULE["written"](TABLE).items():
        assert path.read_text("utf-8") == text, f"{path.name}: run benchmarks/versions.py write"


def test_all_networks_and_no_others_are_in_the_data() -> None:
    assert set(TABLE.networks) == {case.name for case in CASES}
    reported = {name for name in TABLE.data["marks"] if name not in TABLE.networks}
    assert reported == {f"upstream {slug}" for slug in REPORTS}


def test_a_mark_for_every_target() -> None:
    letters = {*MODULE["MARKS"], MODULE["NOT_RUN"]}
    for network, marks in TABLE.data["marks"].items():
        assert len(marks) == len(TABLE.targets), network
        assert set(marks) <= letters, network


def test_enough_releases() -> None:
    def releases(*series: str) -> set[str]:
        return {TABLE.release(target) for name in series for target in TABLE.series(name)}

    assert len(releases("litert@nehalem")) >= 9
    assert len(releases("tensorflow")) >= 4
    assert len(releases("litert-js")) >= 3
    assert releases("tflite-runtime", "tflite-runtime@cortex-a76") == {"2.14.0"}


def test_every_disagreement_of_the_rules_is_explained() -> None:
    for target, networks in TABLE.data["disagreements"].items():
        for network, cell in networks.items():
            assert cell["why"], f"{network} on {target}"


@pytest.mark.parametrize("slug", REPORTS)
def test_a_report_is_complete(slug: str) -> None:
    text = REPORTS[slug].read_text("utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == list(SECTIONS)
    assert (REPORTS[slug].parent / "write.py").exists()
    assert MODULE["affected"](TABLE, slug), "no release in the table has it: remove the report"


@pytest.mark.parametrize("slug", REPORTS)
def test_a_report_is_about_a_defect_that_the_newest_release_has(slug: str) -> None:
    newest = [
        [target for target in TABLE.series(series) if "nightly" not in target][-1]
        for series in ("litert@nehalem", "litert-js")
    ]
    assert {TABLE.mark(f"upstream {slug}", target) for target in newest} & set("wrcu")


def small() -> dict[str, Any]:
    """Two releases and two networks of one class; one of them turned wrong."""
    return {
        "date": "2026-01-01",
        "minutes": "The cells took 1 minute.",
        "targets": {
            "litert==1.0.0@nehalem": {"series": "litert@nehalem", "version": "1.0.0", "ruled": ""},
            "litert==1.1.0@nehalem": {"series": "litert@nehalem", "version": "1.1.0", "ruled": "x"},
        },
        "classes": [["a", "b"]],
        "faults": {"litert==0.9.0@nehalem": "no wheel"},
        "marks": {"a": "sw", "b": "s."},
        "disagreements": {
            "litert==1.1.0@nehalem": {"a": {"ruled": "sparse", "why": "a rule is missing"}}
        },
        "turns": [
            {
                "series": "litert@nehalem",
                "before": "1.0.0",
                "after": "1.1.0",
                "sources": "",
                "changed": [{"from": "s", "to": "w", "changes": ["gone"], "networks": ["a"]}],
            }
        ],
    }


def test_what_the_page_says() -> None:
    page = MODULE["page"](MODULE["Table"](small()))
    assert "| `litert@nehalem` | 1.1.0 | 1 |  |  | 1 |" in page
    assert "| class | networks | 1.0.0 | 1.1.0 |" in page
    assert "| a | 2 | sparse | wrong |" in page
    assert "- **1.0.0 to 1.1.0**\n  - sparse to wrong: a. By `gone`." in page
    assert "1 cells disagree" in page
    assert "| `litert==1.1.0@nehalem` | x | a | sparse | wrong | a rule is missing |" in page
    assert "- `litert==0.9.0@nehalem`: no wheel" in page


def test_releases_that_do_the_same_share_a_column() -> None:
    data = small() | {"marks": {"a": "ss", "b": "sd"}}
    page = MODULE["page"](MODULE["Table"](data))
    assert "| a | 2 | sparse | 1 sparse, 1 dense |" in page
    page = MODULE["page"](MODULE["Table"](data | {"marks": {"a": "ss", "b": "s."}}))
    assert "| class | networks | 1.0.0 to 1.1.0 |" in page


def test_affected_releases_are_written_between_the_marks() -> None:
    data = small()
    data["marks"]["upstream leak"] = "sw"
    text = f"before\n{MODULE['BEGIN']}\nold\n{MODULE['END']}\nafter\n"
    new = MODULE["report"](MODULE["Table"](data), text, "leak")
    assert "\n- `litert@nehalem`: sparse in 1.0.0; wrong in 1.1.0\n" in new
    assert "old" not in new
    assert new.endswith("\nafter\n")


def test_the_data_are_json_that_a_reviewer_can_read() -> None:
    text = MODULE["DATA"].read_text("utf-8")
    assert json.loads(text) == TABLE.data
    assert max(map(len, text.splitlines())) < 400
