"""`--sparsity-report`: what a run writes, with the trend from git's history."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from plugin.conftest import Project

CLAIMS = """
    NBYTES = {nbytes}

    def test_size(baseline, diagnose):
        assert diagnose("sparse.tflite").outputs_match
        assert NBYTES <= baseline("nbytes", within=0.5)

    def test_win(race):
        assert race("dense.tflite", "sparse.tflite").speedup >= 1.5

    def test_lost(race):
        assert race("dense.tflite", "sparse.tflite").speedup >= 100
"""


def commit(project: Project) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["add", "baselines"], ["commit", "-qm", "record"]):
        subprocess.run([*git, *arguments], cwd=project.path, check=True)


def test_a_report_as_json_with_trends(project: Project) -> None:
    subprocess.run(["git", "init", "-q"], cwd=project.path, check=True)
    for nbytes in (100, 110, 110, 120):
        project.test_file(CLAIMS.format(nbytes=nbytes) + f"\n    # {nbytes}\n")
        project.run("--sparsity-update")
        if nbytes != 120:
            (project.path / "baselines/note").write_text(str(nbytes))
            commit(project) if nbytes == 100 else None
    commit(project)
    result = project.run("--sparsity-report", "out/report.json")
    result.stdout.fnmatch_lines(["sparsity report: *out/report.json"])
    found = project.read("out/report.json")
    tests = {test["nodeid"].partition("::")[2]: test for test in found["tests"]}
    assert {name: test["outcome"] for name, test in tests.items()} == {
        "test_size": "passed", "test_win": "passed", "test_lost": "failed",
    }  # fmt: skip
    assert tests["test_size"]["diagnoses"][0]["verdict"] == "sparse"
    assert tests["test_lost"]["diagnoses"][0]["target"] == "litert"
    assert tests["test_win"]["races"][0]["claims"][0]["verdict"] == "holds"
    (trend,) = found["trends"]
    assert (trend["test"], trend["name"]) == ("test_size", "nbytes")
    assert [point["value"] for point in trend["points"]] == [100, 120]
    assert all(point["commit"] and point["date"] for point in trend["points"])


def test_a_report_as_a_page(project: Project) -> None:
    project.test_file(CLAIMS.format(nbytes=100))
    project.run("--sparsity-update")
    project.run("--sparsity-report=report.html")
    html = (project.path / "report.html").read_text()
    assert "test_claims.py::test_win" in html
    assert html.count('class="verdict refuted"') == 2, "the tile and the claim"


def test_a_damaged_file_costs_the_trends_and_not_the_report(project: Project) -> None:
    project.test_file(CLAIMS.format(nbytes=100))
    (project.path / "baselines").mkdir()
    (project.path / "baselines/test_claims.json").write_text("{")
    result = project.run("--sparsity-report=report.json")
    result.stdout.fnmatch_lines(["sparsity report: no trends: baselines/test_claims.json is *"])
    result.stdout.fnmatch_lines(["unused baselines are not known: baselines/test_claims.json is *"])
    assert json.loads((project.path / "report.json").read_text())["trends"] == []


def test_a_report_under_xdist(project: Project) -> None:
    project.test_file(CLAIMS.format(nbytes=100))
    project.run("--sparsity-update")
    project.run_apart("-n2", "--sparsity-report=report.json")
    tests = {test["nodeid"]: test for test in project.read("report.json")["tests"]}
    assert tests["test_claims.py::test_size"]["baselines"][0]["verdict"] == "holds"


# --- what cannot be written ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("folder.json", "Is a directory"),
        ("test_claims.py/report.json", "Not a directory"),
        (f"{'x' * 300}.json", "File name too long"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_at_the_start(
    project: Project, path: str, reason: str
) -> None:
    project.test_file(CLAIMS.format(nbytes=100))
    (project.path / "folder.json").mkdir()
    result = project.run(f"--sparsity-report={path}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --sparsity-report: */{path} cannot be written: {reason}"])


def test_a_report_that_fails_at_the_end_is_one_line_and_status_1(project: Project) -> None:
    project.test_file(
        """
        import os, pathlib

        def test_win(race):
            assert race("dense.tflite", "sparse.tflite").speedup >= 1.5
            pathlib.Path("report.json").mkdir()
        """
    )
    result = project.run("--sparsity-report=report.json")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "2.00x *>= 1.5  holds *",
            "races: 1 holds",
            "sparsity: the report */report.json was not written: Is a directory",
        ]
    )


def test_what_is_wrong_with_the_summary_itself_hides_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_sparsity.report import terminal

    def broken(*_: object) -> None:
        raise RecursionError("too deep\x1b[2J")

    monkeypatch.setattr(terminal, "counts", broken)
    project.test_file()
    result = project.run()
    result.stdout.fnmatch_lines(
        [
            r"sparsity: the summary cannot be made, please report it: RecursionError: *\x1b[[]2J",
            "* 1 passed in *",
        ]
    )


def test_names_do_not_forge_lines(project: Project) -> None:
    forged = "x\n9.99x  >= 9  holds  litert  forged\x1b[2J\u202e<b>"
    project.script["diagnosis"] = {
        "verdict": "dense",
        "findings": [{"code": "x86-avx", "message": forged, "remedy": forged}],
    }
    project.test_file(
        f"""
        import pytest

        @pytest.mark.parametrize("name", [{forged!r}], ids=[{forged!r}])
        def test_lost(race, name):
            assert race("dense.tflite", "sparse.tflite").speedup >= 100

        def test_refused(race):
            from pytest_sparsity import Unsupported
            raise Unsupported({forged!r}, {forged!r})
        """
    )
    result = project.run("--sparsity-report=report.html", "--junitxml=junit.xml")
    text = result.stdout.str()
    assert not any(line.startswith("9.99x") for line in text.splitlines())
    assert "\x1b[2J" not in text
    assert "\u202e" not in text
    page = (project.path / "report.html").read_text()
    assert "forged" in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "<b>" not in page.replace("<b>1</b>", "").replace("<b>2</b>", "")
    project.run("--sparsity-report=report.json")
    raw = (project.path / "report.json").read_text()
    assert raw.isascii()
    assert "\x1b" not in raw
