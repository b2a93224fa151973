"""`--sparsity-report`: what a run writes, with the trend from git's history."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

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
