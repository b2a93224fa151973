"""`pytest --pyargs pytest_sparsity.suite`: the standard claims about two files."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from plugin.conftest import TESTS

if TYPE_CHECKING:
    from plugin.conftest import Project

SUITE = ("--pyargs", "pytest_sparsity.suite")
FILES = ("--sparsity-dense=dense.tflite", "--sparsity-sparse=sparse.tflite")
# The sparse file of the small network that is used here is larger after gzip.
TOLERANT = ("--sparsity-min-shrink=0.9",)


def test_claims_that_hold(project: Project) -> None:
    result = project.run(*SUITE, *FILES, *TOLERANT, "--sparsity-min-ratio=1.5")
    result.assert_outcomes(passed=8)
    result.stdout.fnmatch_lines(
        ["2.00x [[]1.84, 2.17[]]  >= 1.5  holds  litert  *test_two_files.py::test_it_is_faster"]
    )


@pytest.mark.parametrize(
    ("flag", "failing", "said"),
    [
        ("--sparsity-min-zeros=0.9", "weights_are_zero", "assert 0.* >= 0.9"),
        ("--sparsity-min-shrink=1.6", "the_file_is_smaller", "assert * >= (1.6 * *"),
        ("--sparsity-min-ratio=3", "it_is_faster", "speedup >= 3.0 is refuted"),
    ],
)
def test_thresholds_are_flags(project: Project, flag: str, failing: str, said: str) -> None:
    result = project.run(*SUITE, *FILES, *TOLERANT, flag, "-k", f"{failing} and not gzip")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{said}*"])


def test_targets_parametrize_it(project: Project) -> None:
    targets = "--sparsity-target=litert", "--sparsity-target=litert@cortex-a53"
    result = project.run(*SUITE, *FILES, *TOLERANT, *targets)
    result.assert_outcomes(passed=5 + 2 * 3)
    result.stdout.fnmatch_lines(["2.000x instructions *>= 1 *holds *litert@cortex-a53 *"])


def test_a_file_without_zeros_fails_for_its_reasons(project: Project) -> None:
    project.copy("dense.tflite", "other.tflite")
    with (project.path / "other.tflite").open("ab") as file:
        file.write(bytes(4096))
    project.script["diagnosis"] = {
        "verdict": "dense",
        "findings": [{"code": "not-encoded", "message": "nothing is encoded", "remedy": "encode"}],
    }
    project.script["seconds"]["other.tflite"] = [4e-3]
    files = "--sparsity-dense=dense.tflite", "--sparsity-sparse=other.tflite"
    result = project.run(*SUITE, *files, "-v")
    result.stdout.fnmatch_lines_random(
        [
            "*::test_zeros_are_stored_sparsely FAILED*",
            "*::test_the_file_is_smaller FAILED*",
            "*::test_the_file_is_smaller_after_gzip FAILED*",
            "E *where * = gzip_nbytes(Model('dense.tflite', *))",
            "*::test_sparse_kernels_run FAILED*",
            "*::test_it_is_faster FAILED*",
            "E *other.tflite on litert runs no sparse kernel: nothing is encoded",
        ]
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "pytest_sparsity.suite needs two files: --sparsity-dense=D* --sparsity-sparse=S*"),
        (FILES[:1], "pytest_sparsity.suite needs two files: *"),
        (
            (FILES[0], "--sparsity-sparse=x.tflite"),
            "--sparsity-sparse: there is no file */x.tflite",
        ),
        ((*FILES, "--sparsity-inputs=x.npz"), "--sparsity-inputs: there is no file */x.npz"),
        ((*FILES, "--sparsity-shape=x"), "--sparsity-shape: *"),
        (
            ("--sparsity-dense=sparse.tflite", "--sparsity-sparse=dense.tflite"),
            "--sparsity-dense sparse.tflite stores *dense.tflite none: are they the wrong way *",
        ),
        (
            ("--sparsity-dense=dense.tflite", "--sparsity-sparse=./dense.tflite"),
            "--sparsity-dense and --sparsity-sparse are the same file, */dense.tflite",
        ),
        ((*FILES, "--sparsity-min-zeros=80"), "--sparsity-min-zeros is 80.0; valid: a share*"),
        ((*FILES, "--sparsity-min-shrink=0"), "--sparsity-min-shrink is 0.0; valid: more than 0"),
        ((*FILES, "--sparsity-min-ratio=-1"), "--sparsity-min-ratio is -1.0; valid: more than 0"),
    ],
)
def test_what_is_wrong_with_the_flags_is_one_line(
    project: Project, arguments: tuple[str, ...], said: str
) -> None:
    (project.path / "lfs").write_text("version https://git-lfs.github.com/spec/v1\n")
    result = project.run(*SUITE, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {said}"])


def test_answers_that_are_wrong_are_said(project: Project) -> None:
    project.script["diagnosis"] = {
        "verdict": "miscomputes",
        "outputs_match": False,
        "findings": [{"code": "flattened", "message": "off by 0.3", "remedy": "convert again"}],
    }
    result = project.run(*SUITE, *FILES, "-k", "answers")
    result.assert_outcomes(failed=1, deselected=7)
    result.stdout.fnmatch_lines(
        ["E *sparse.tflite on litert computes wrong outputs: off by 0.3", "E *-> convert again"]
    )


def test_its_race_has_a_minute_unless_somebody_says_otherwise(project: Project) -> None:
    header = "sparsity: litert, budget {} s, *".format
    run = (*SUITE, *FILES, "-v", "--collect-only")
    project.run(*run).stdout.fnmatch_lines([header(60)])
    project.run(*run, "--sparsity-budget=5").stdout.fnmatch_lines([header(5)])
    project.run(*run, "-o", "sparsity_budget=20").stdout.fnmatch_lines([header(60)])
    project.run(*run, "-o", "sparsity_budget=90").stdout.fnmatch_lines([header(90)])
    project.test_file()
    project.run("-v", "--collect-only").stdout.fnmatch_lines([header(10)])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [((), 1), (("--sparsity-target=litert",), 0), (("-k", "answers or smaller"), 0)],
)
def test_a_cpu_without_sparse_kernels_says_where_there_are_some(
    project: Project, arguments: tuple[str, ...], told: int
) -> None:
    project.script["diagnosis"] = {
        "verdict": "dense",
        "findings": [{"code": "x86-avx", "message": "this CPU has AVX", "remedy": ""}],
    }
    result = project.run(*SUITE, *FILES, *TOLERANT, *arguments)
    lines = [line for line in result.outlines if line.startswith("litert has no sparse kernels")]
    wanted = (
        "litert has no sparse kernels for this CPU: --sparsity-target=litert-js runs tests that"
    )
    assert [line.startswith(wanted) for line in lines] == [True] * told


def test_no_line_of_the_plugin_is_in_a_failure(project: Project) -> None:
    project.script["seconds"]["sparse.tflite"] = [2e-3, 2.01e-3, 1.99e-3]
    result = project.run(*SUITE, *FILES, "-k", "faster")
    result.stdout.fnmatch_lines([">*assert result.ratio >= files.min_ratio"])
    result.stdout.no_fnmatch_line("*estimate/*.py*")


def test_other_tests_need_no_files(project: Project) -> None:
    project.test_file()
    project.run().assert_outcomes(passed=1)


def test_from_an_empty_folder_in_one_command(pytester: pytest.Pytester) -> None:
    """Without a conftest, without scripted targets: what needs no target is enough here."""
    for kind in ("dense", "sparse"):
        shutil.copy(TESTS / "data" / f"cnn_{kind}.tflite", pytester.path / f"{kind}.tflite")
    result = pytester.runpytest_subprocess(
        *SUITE, *FILES, *TOLERANT, "-k", "weight or zeros or smaller"
    )
    result.assert_outcomes(passed=5, deselected=3)
