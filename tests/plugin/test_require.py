"""Targets whose claims must run, and the count of claims that did not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugin.conftest import RACE

if TYPE_CHECKING:
    from plugin.conftest import Project

LACK = "@litertjs/core cannot be installed"
REMEDY = "let npm reach its registry"
REQUIRED = "litert-js is required, and this claim cannot run on it"
CLAIM = "assert race('dense.tflite', 'sparse.tflite').speedup >= 1.5"
# By the marker, by an argument of the call, in a fixture, and without a fixture of the plugin's.
WAYS = f"""
    import pytest
    from pytest_sparsity import Target

    @pytest.mark.race(target="litert-js")
    def test_marked(race):
        {CLAIM}

    def test_in_the_call(diagnose):
        assert diagnose("sparse.tflite", target="litert-js").verdict == "sparse"

    @pytest.fixture
    def worker():
        with Target.of("litert-js").open() as worker:
            yield worker

    def test_in_a_fixture(worker):
        pass

    def test_elsewhere(race):
        {CLAIM}
"""


@pytest.fixture
def lacking(project: Project) -> Project:
    project.script["missing"] = {"litert-js": [LACK, REMEDY]}
    project.test_file(WAYS)
    return project


@pytest.mark.parametrize("way", ["flag", "ini"])
def test_a_claim_on_a_required_target_that_cannot_run_is_an_error(
    lacking: Project, way: str
) -> None:
    arguments = ["--sparsity-require=litert-js", "--sparsity-require=litert"]
    if way == "ini":
        lacking.pytester.makeini("[pytest]\nsparsity_require = litert-js litert\n")
        arguments = []
    result = lacking.run(*arguments)
    result.assert_outcomes(passed=1, errors=3)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*ERROR at call of test_marked*",
            f"{REQUIRED}: {LACK}: {REMEDY}",
            "*ERROR at call of test_in_the_call*",
            f"required, and not run: 3 claims on litert-js: {LACK}: {REMEDY}",
            "races: 1 holds; not run: 3",
            "ERROR test_claims.py::test_marked - Failed: litert-js is required, *",
        ]
    )
    # One sentence and no traceback.
    result.stdout.no_fnmatch_line("*Error*raise*")
    result.stdout.no_fnmatch_line(">  *")


def test_without_it_the_claims_skip_and_are_counted(lacking: Project) -> None:
    for arguments in ((), ("--sparsity-require=litert",), ("-q",)):
        result = lacking.run(*arguments)
        result.assert_outcomes(passed=1, skipped=3)
        assert result.ret == pytest.ExitCode.OK
        result.stdout.fnmatch_lines(
            [f"not run: 3 claims on litert-js: {LACK}: {REMEDY}", "races: 1 holds; not run: 3"]
        )
        result.stdout.no_fnmatch_line("required*")


def test_one_line_per_target_and_reason(project: Project) -> None:
    project.script["missing"] = {
        "tensorflow": ["tensorflow is not installed", "pip install it"],
        "litert@cortex-a53": ["no emulator", "apt-get install it"],
    }
    project.test_file(RACE)
    names = "litert tensorflow litert@cortex-a53"
    project.pytester.makeini(f"[pytest]\nsparsity_targets = {names}\n")
    result = project.run()
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(
        [
            "not run: 1 claim on tensorflow: tensorflow is not installed: pip install it",
            "not run: 1 claim on litert@cortex-a53: no emulator: apt-get install it",
        ]
    )


def test_a_target_named_on_the_command_line_must_be_there(project: Project) -> None:
    project.script["missing"] = {"tensorflow": ["tensorflow is not installed", "pip install it"]}
    project.test_file(RACE)
    flags = ("litert", "tensorflow", "litert@cortex-a53")
    result = project.run(*(f"--sparsity-target={name}" for name in flags))
    result.assert_outcomes(passed=1, errors=1, skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "required, and not run: 1 claim on tensorflow: tensorflow is not installed: *",
            "not run: 1 claim on litert@cortex-a53: litert@cortex-a53 has no time: *",
        ]
    )


def test_what_a_required_claim_is_made_of_must_be_there_too(project: Project) -> None:
    """No TensorFlow, no variants, no claim: the headline would be gone all the same."""
    project.test_file(
        """
        import pytest
        from pytest_sparsity import Unsupported

        @pytest.fixture
        def files():
            raise Unsupported("TensorFlow is not installed", "pip install 'pytest-sparsity[build]'")

        @pytest.mark.race(target="litert-js")
        def test_in_the_browser(files, race):
            pass

        def test_without_a_race(files):
            pass
        """
    )
    result = project.run("--sparsity-require=litert-js")
    result.assert_outcomes(errors=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "required, and not run: 1 claim on litert-js: TensorFlow is not installed: *",
            "not run: 1 claim: TensorFlow is not installed: *",
        ]
    )


def test_a_race_of_time_on_a_required_emulator_is_an_error(project: Project) -> None:
    project.test_file(RACE)
    arguments = ("--sparsity-target=litert@cortex-a53", "--sparsity-require=litert@cortex-a53")
    result = project.run(*arguments)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*litert@cortex-a53 has no time: an emulated CPU counts *"])


def test_no_baseline_of_this_machine_is_a_skip_all_the_same(project: Project) -> None:
    project.test_file(
        """
        def test_claim(race, baseline):
            found = race("dense.tflite", "sparse.tflite").speedup
            assert found >= baseline("speedup", within=0.05)
        """
    )
    result = project.run("--sparsity-require=litert")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["not run: 1 claim on litert: no baseline for this machine (*): record it with: *"]
    )


def test_a_tool_that_the_target_does_not_need_is_a_skip_all_the_same(project: Project) -> None:
    project.test_file(
        """
        from pytest_sparsity.errors import CannotTrace

        def test_claim(race):
            raise CannotTrace("valgrind is not installed", "apt-get install valgrind", "litert")
        """
    )
    result = project.run("--sparsity-require=litert")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["not run: 1 claim on litert: valgrind is not installed: *"])


def test_a_required_claim_that_fails_is_a_failure_and_no_error(project: Project) -> None:
    project.script["seconds"] = {"dense.tflite": [1e-3], "sparse.tflite": [1e-3, 1.01e-3]}
    project.test_file()
    project.run("--sparsity-require=litert").assert_outcomes(failed=1)


def test_under_xdist_the_controller_counts(lacking: Project) -> None:
    lacking.test_file(
        """
        def test_in_the_browser(diagnose):
            diagnose("sparse.tflite", target="litert-js")
        """
    )
    result = lacking.run_apart("-n", "1", "--sparsity-require=litert-js")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["required, and not run: 1 claim on litert-js: *", "not run: 1"])


def test_the_header_says_what_is_required(project: Project) -> None:
    project.test_file()
    result = project.run("--sparsity-require=litert", "--sparsity-require=tensorflow")
    result.stdout.fnmatch_lines(["sparsity: litert, *, requires litert and tensorflow"])


def test_an_unknown_name_is_refused(project: Project) -> None:
    result = project.run("--sparsity-require=gpu")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no target is called 'gpu'; there are litert, *"])
