"""Many processes, sessions and plugins: the outcome is the same as alone."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from plugin.conftest import COMMON
from pytest_sparsity import store

if TYPE_CHECKING:
    from plugin.conftest import Project

WAITING = "pytest-sparsity: waiting for its turn"
SUITE = """
    import pytest

    @pytest.mark.parametrize("n", range(3))
    def test_holds(race, n):
        assert race("dense.tflite", "sparse.tflite").speedup >= 1.5

    def test_refuted(race):
        assert race("dense.tflite", "sparse.tflite").speedup >= 3

    @pytest.mark.parametrize("n", range(2))
    @pytest.mark.race(target="litert@cortex-a53")
    def test_counted(race, n):
        assert race("dense.tflite", "sparse.tflite").instruction_ratio >= 1.5

    def test_recorded(baseline):
        assert 5 <= baseline("n")
"""
COUNTED = """
    import pytest

    @pytest.mark.parametrize("n", range(2))
    @pytest.mark.race(target="litert@cortex-a53")
    def test_counted(race, n):
        assert race("dense.tflite", "sparse.tflite").instruction_ratio >= 1.5
"""


def prepare(project: Project, suite: str = SUITE) -> None:
    project.script["seconds"]["sparse.tflite"] = [1e-3]
    project.test_file(suite)


def record(project: Project) -> None:
    (project.path / "baselines").mkdir()
    (project.path / "baselines/test_claims.json").write_text(
        '{"test_recorded::n": 5, "schema": 1}\n'
    )


def processes(project: Project) -> list[tuple[int, float, float]]:
    lines = (project.path / "processes.txt").read_text().splitlines()
    rows = [line.split() for line in lines]
    return sorted((int(pid), float(begun), float(ended)) for pid, begun, ended in rows)


def overlaps(rows: list[tuple[int, float, float]]) -> int:
    """Return how many pairs of different pytest processes measured at the same time."""
    return sum(a[0] < b[0] and a[1] < b[2] and b[1] < a[2] for a in rows for b in rows)


def claims(result: pytest.RunResult) -> list[str]:
    """Return the lines of the summary about claims, without their order and repetitions."""
    kinds = (" holds ", " refuted ", "races:", "baselines:")
    told = (line for line in result.outlines if any(kind in f"{line} " for kind in kinds))
    return sorted({line for line in told if not line.startswith("races of tests that ran again")})


VERDICTS = "races: 5 hold, 1 refuted; baselines: 1 holds"
SLOW = pytest.mark.slow
MODES = [
    pytest.param("-n2"),
    pytest.param("-n2 --dist=loadscope", marks=SLOW),
    pytest.param("-n2 --dist=loadfile", marks=SLOW),
    pytest.param("-n2 --dist=loadgroup", marks=SLOW),
    pytest.param("-n2 --dist=worksteal", marks=SLOW),
    pytest.param("--timeout=60 --cov=. --cov-report=", marks=SLOW),
    pytest.param("-n2 --timeout=60 --reruns=1 --cov=. --cov-report=", marks=SLOW),
]


@pytest.mark.parametrize("mode", MODES)
def test_the_outcome_is_the_same_as_alone(project: Project, mode: str) -> None:
    prepare(project)
    record(project)
    alone = project.run()
    crowd = project.run_apart("-W", "error", "--sparsity-report=report.json", *mode.split())
    for result in (alone, crowd):
        outcomes = result.parseoutcomes()
        assert (outcomes["passed"], outcomes["failed"]) == (6, 1)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert claims(crowd) == claims(alone)
    assert VERDICTS in claims(alone)
    tests = project.read("report.json")["tests"]
    assert len([test for test in tests if test["outcome"] != "rerun"]) == 7


@SLOW
def test_in_random_order(project: Project) -> None:
    prepare(project)
    record(project)
    project.run("--collect-only", "-q")  # writes the script
    result = project.pytester.runpytest_subprocess("-p", "randomly", "-p", "no:xdist")
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines([VERDICTS])


@SLOW
def test_each_worker_has_every_claim_with_dist_each(project: Project) -> None:
    prepare(project)
    record(project)
    result = project.run_apart("--dist=each", "--tx=2*popen")
    result.assert_outcomes(passed=12, failed=2)
    result.stdout.fnmatch_lines(["races: 10 hold, 2 refuted; baselines: 2 hold"])


@SLOW
def test_races_of_time_take_turns_and_say_that_they_waited(project: Project) -> None:
    prepare(project)
    project.script["pause"] = 0.1
    result = project.run_apart("-n3", "-k", "holds")
    result.assert_outcomes(passed=3)
    rows = processes(project)
    assert len({pid for pid, _, _ in rows}) > 1
    assert overlaps(rows) == 0
    result.stdout.fnmatch_lines(["one race of time at a time on this machine: * waited * s in all"])


@SLOW
def test_counted_races_run_in_parallel(project: Project) -> None:
    prepare(project, COUNTED)
    project.script["pause"] = 1.0
    result = project.run_apart("-n2")
    result.assert_outcomes(passed=2)
    assert overlaps(processes(project)) == 1
    result.stdout.no_fnmatch_line("one race of time at a time*")


def test_two_sessions_at_once(project: Project) -> None:
    """A third race lasts until both sessions are there, however late one of them begins."""
    prepare(project)
    record(project)
    project.run("--collect-only", "-q")  # writes the script
    command = [sys.executable, "-m", "pytest", *COMMON, "-p", "no:cacheprovider"]
    with store.locked(project.path / "turns.lock"):
        sessions = [
            subprocess.Popen(
                command,
                cwd=project.path,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        said = [up_to_waiting(session) for session in sessions]
    said = [
        begun + session.communicate(timeout=60)[0]
        for begun, session in zip(said, sessions, strict=True)
    ]
    assert [session.returncode for session in sessions] == [1, 1]
    assert all(VERDICTS in text for text in said)
    assert len({pid for pid, _, _ in processes(project)}) == 2
    told = f"{WAITING} to race: process {os.getpid()} is racing"
    assert all(told in text for text in said)
    assert all(text.count("waiting for its turn") == 1 for text in said), "said once"


def up_to_waiting(session: subprocess.Popen[str]) -> str:
    """Return what a session prints until it waits for its turn, or ends."""
    assert session.stdout is not None
    said = ""
    while WAITING not in said and (line := session.stdout.readline()):
        said += line
    return said


@SLOW
def test_baselines_are_recorded_by_all_workers(project: Project) -> None:
    prepare(
        project,
        """
        import pytest

        @pytest.mark.parametrize("n", range(12))
        def test_recorded(baseline, n):
            assert n <= baseline("n")

        def test_ratio(race, baseline):
            assert race("dense.tflite", "sparse.tflite").speedup >= baseline("speedup")
        """,
    )
    project.run_apart("-n3", "--sparsity-update").assert_outcomes(passed=13)
    result = project.run_apart("-n3")
    result.assert_outcomes(passed=13)
    result.stdout.fnmatch_lines(["*baselines: 13 hold"])


def test_the_timeout_does_not_count_the_waiting(project: Project) -> None:
    prepare(project)
    text = (project.path / "conftest.py").read_text()
    project.pytester.makeconftest(
        f"""{text}

import contextlib
import pytest
from pytest_sparsity import store

EVENTS = []
another = contextlib.ExitStack()

@pytest.fixture(autouse=True)
def another_race(tmp_path_factory, request):
    another.enter_context(store.locked(request.config.rootpath / "turns.lock"))

@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(settings):
    EVENTS.append(f"set {{settings.timeout:g}}")

@pytest.hookimpl(tryfirst=True)
def pytest_timeout_cancel_timer():
    EVENTS.append("cancel")
    another.close()

def pytest_sessionfinish():
    print(EVENTS)
"""
    )
    result = project.run("-s", "-k", "holds and 0", "--timeout=300")
    result.assert_outcomes(passed=1, deselected=6)
    result.stdout.fnmatch_lines(["*[[]'set 300', 'cancel', 'set 300', 'cancel'[]]*"])


def test_a_repeated_claim_is_called_repeated(project: Project) -> None:
    prepare(
        project,
        """
        ASKED = []

        def test_lucky(race):
            ASKED.append(1)
            assert race("dense.tflite", "sparse.tflite").speedup >= (1.5 if len(ASKED) > 1 else 3)
        """,
    )
    result = project.run_apart("--reruns=2", "--sparsity-report=report.json")
    assert "rerun" in result.parseoutcomes()
    result.stdout.fnmatch_lines(
        [
            "races of tests that ran again: 1 refuted; a claim that is repeated *",
            "races: 1 holds",
        ]
    )
    outcomes = [test["outcome"] for test in project.read("report.json")["tests"]]
    assert outcomes == ["rerun", "passed"]


@pytest.mark.parametrize("arguments", ["-x", pytest.param("-x -n2", marks=SLOW)])
def test_a_run_that_ends_early_keeps_its_claims(project: Project, arguments: str) -> None:
    prepare(project)
    record(project)
    result = project.run_apart(*arguments.split(), "-k", "refuted or recorded")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["2.00x [[]*[]]  >= 3  refuted  litert  *::test_refuted"])
    result.stdout.no_fnmatch_line("unused baseline*")


@SLOW
def test_last_failed_runs_the_refuted_again(project: Project) -> None:
    prepare(project)
    record(project)
    project.run_apart()
    again = project.run_apart("-n2", "--lf")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["races: 1 refuted"])
    again.stdout.no_fnmatch_line("unused baseline*")


def test_what_a_report_carries_can_be_sent_by_pytest_forked(project: Project) -> None:
    prepare(project)
    record(project)
    text = (project.path / "conftest.py").read_text()
    project.pytester.makeconftest(
        f"""{text}

import marshal

def pytest_runtest_logreport(report):
    if report.when == "call":
        assert marshal.dumps(report.sparsity)
"""
    )
    project.run().assert_outcomes(passed=6, failed=1)
