"""`--sparsity-report`: what a run writes, with the trend from git's history."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
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


def validator() -> jsonschema.Draft202012Validator:
    schema = Path(__file__).parent.parent.parent / "docs/reference/report.schema.json"
    return jsonschema.Draft202012Validator(json.loads(schema.read_text()))


def trend_commit(project: Project) -> str:
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.check_output(command, cwd=project.path, text=True).strip()


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
    validator().validate(found)
    tests = {test["nodeid"].partition("::")[2]: test for test in found["tests"]}
    assert {name: test["outcome"] for name, test in tests.items()} == {
        "test_size": "passed", "test_win": "passed", "test_lost": "failed",
    }  # fmt: skip
    (asked,) = tests["test_size"]["diagnoses"]
    assert found["diagnoses"][asked]["verdict"] == "sparse"
    for name in ("test_win", "test_lost"):
        diagnosis = found["diagnoses"][tests[name]["races"][0]["diagnosis"]]
        assert diagnosis["target"] == "litert", "a claim that holds has one, too"
    assert {model["name"] for model in found["models"]} == {"dense.tflite", "sparse.tflite"}
    assert found["commit"] == trend_commit(project)
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
    assert html.count('class="word refuted"') == 2, "the tile and the claim"
    assert html.count('class="word failed"') == 2, "the tile and the test"


def test_a_report_in_two_formats(project: Project) -> None:
    project.test_file(CLAIMS.format(nbytes=100))
    result = project.run("--sparsity-report=report.html", "--sparsity-report=report.json")
    assert (project.path / "report.html").is_file()
    assert len(project.read("report.json")["tests"]) == 3
    result.stdout.fnmatch_lines(["sparsity report: *report.html", "sparsity report: *report.json"])


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


# Each way in which a test can end, with what the report must say of it.
ENDS = """
    import pytest
    from pytest_sparsity import Model, Unsupported

    @pytest.fixture
    def broken(diagnose):
        raise RuntimeError("no network")

    @pytest.fixture
    def untidy(diagnose):
        yield
        raise RuntimeError("cannot tidy up")

    @pytest.fixture(scope="module")
    def model():
        return Model("sparse.tflite")

    def test_plain_assert(variants, model):
        assert model.nbytes < 10

    def test_in_a_fixture(broken):
        pass

    def test_after_it(untidy):
        pass

    def test_wrong_verdict(diagnose):
        assert diagnose("sparse.tflite").verdict == "dense"

    def test_nothing_recorded(baseline):
        assert 3 <= baseline("n")

    @pytest.mark.skip(reason="not today")
    def test_marked(race):
        pass

    def test_lacking(race):
        raise Unsupported("no Node", "install it")

    @pytest.mark.xfail(reason="known", strict=True)
    def test_known(diagnose):
        assert not diagnose("sparse.tflite")

    @pytest.mark.xfail(strict=False)
    def test_better_than_known(diagnose):
        pass

    def test_without_fixtures():
        assert False
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_every_test_that_used_a_fixture_is_in_it(project: Project, workers: int) -> None:
    project.test_file(ENDS)
    project.run_apart(*[f"-n{workers}"] * bool(workers), "--sparsity-report=report.json")
    found = project.read("report.json")
    validator().validate(found)
    tests = {test["nodeid"].partition("::")[2]: test for test in found["tests"]}
    said = {name: (test["outcome"], test["message"]) for name, test in tests.items()}
    size = (project.path / "sparse.tflite").stat().st_size
    where = "where {size} = Model('sparse.tflite', {kilo:.1f} kB).nbytes"
    assert said.pop("test_plain_assert") == (
        "failed",
        f"assert {size} < 10\n +  {where.format(size=size, kilo=size / 1e3)}",
    )
    outcome, message = said.pop("test_wrong_verdict")
    assert outcome == "failed"
    assert message.startswith("assert 'sparse' == 'dense'")
    outcome, message = said.pop("test_nothing_recorded")
    assert outcome == "failed"
    assert "no baseline" in message
    assert said == {
        "test_in_a_fixture": ("error", "RuntimeError: no network"),
        "test_after_it": ("error", "at teardown: RuntimeError: cannot tidy up"),
        "test_marked": ("skipped", "not today"),
        "test_lacking": ("skipped", "no Node: install it"),
        "test_known": ("xfailed", "known"),
        "test_better_than_known": ("xpassed", ""),
    }
    assert found["counts"]["tests"] == {
        "error": 2, "failed": 3, "xpassed": 1, "xfailed": 1, "skipped": 2,
    }  # fmt: skip
    assert found["counts"]["not_run"] == 1
    lines = (project.path / "test_claims.py").read_text().splitlines()
    assert "model.nbytes < 10" in lines[tests["test_plain_assert"]["line"] - 1], "what failed"
    assert "def test_after_it" in lines[tests["test_after_it"]["line"] - 1]
    (model,) = found["models"]
    assert (model["name"], model["nbytes"]) == ("sparse.tflite", size)
    assert 0 < model["gzip_nbytes"] < size
    assert len(model["layers"]) == 5


def test_a_page_of_a_run_that_failed_says_so(project: Project) -> None:
    project.test_file(ENDS)
    project.run("--sparsity-report=report.html")
    html = (project.path / "report.html").read_text()
    assert "<title>6 failed: claims about pruned models</title>" in html


def test_a_file_that_changes_while_tests_run_is_told(project: Project) -> None:
    project.test_file(
        """
        import pytest
        from pytest_sparsity import Model

        @pytest.fixture
        def model(variants):
            return Model("dense.tflite")

        def test_size(model):
            with open("dense.tflite", "ab") as file:
                file.write(b"more")
        """
    )
    project.run("--sparsity-report=report.json")
    found = project.read("report.json")
    validator().validate(found)
    (model,) = found["models"]
    assert "dense.tflite: the file has changed since it was read" in model["fault"]


# --- in a job of GitHub Actions --------------------------------------------------------------


@pytest.fixture
def job(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project.path.parent))
    project.test_file(CLAIMS.format(nbytes=100))
    return project


@pytest.mark.parametrize("workers", [0, 2])
def test_a_job_has_a_summary_and_annotations_by_itself(job: Project, workers: int) -> None:
    result = job.run_apart(*[f"-n{workers}"] * bool(workers))
    summary = (job.path / "summary.md").read_text()
    assert summary.count("## Claims about pruned models") == 1
    assert "| **refuted** | 2.00x [1." in summary
    place = f"file={job.path.name}/test_claims.py,line=*"
    title = "title=failed%3A test_claims.py%3A%3Atest_lost"
    refuted = "assert speedup >= 100 is refuted%0A*"
    result.stdout.fnmatch_lines([f"::error {place},{title}::{refuted}"])


@pytest.mark.parametrize("why", ["ini", "elsewhere", "no claim"])
def test_a_job_is_left_alone(job: Project, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    if why == "ini":
        job.pytester.makeini("[pytest]\nsparsity_job_summary = false\n")
    elif why == "elsewhere":
        monkeypatch.delenv("GITHUB_ACTIONS")
    else:
        job.test_file("def test_sum(): assert 1 + 1 == 3")
    result = job.run()
    assert not (job.path / "summary.md").exists()
    result.stdout.no_fnmatch_line("::error*")


def test_a_summary_that_cannot_be_written_is_one_line(job: Project) -> None:
    (job.path / "summary.md").mkdir()
    result = job.run()
    result.stdout.fnmatch_lines(["sparsity: the job's summary was not written: Is a directory"])


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
    assert "<b>" not in re.sub(r"<b>\d+</b>", "", page)
    project.run("--sparsity-report=report.json")
    raw = (project.path / "report.json").read_text()
    assert raw.isascii()
    assert "\x1b" not in raw
