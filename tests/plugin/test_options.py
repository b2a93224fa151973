"""Flags, ini values and the marker: precedence, and what is said of a value that is not valid."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from plugin.conftest import Project

SHOW = """
    import pytest

    def test_plain(_sparsity_settings):
        print("plain", _sparsity_settings)

    @pytest.mark.race(budget=3, threads=2)
    def test_marked(_sparsity_settings):
        print("marked", _sparsity_settings)
"""


def settings(target: str, threads: int, budget: float) -> str:
    return f"RaceSettings(target='{target}', threads={threads}, budget={budget})"


@pytest.mark.parametrize(
    ("ini", "arguments", "plain", "marked"),
    [
        ("", (), settings("litert", 1, 10), settings("litert", 2, 3)),
        ("sparsity_budget = 7", (), settings("litert", 1, 7.0), settings("litert", 2, 3)),
        (
            "sparsity_budget = 7",
            ("--sparsity-budget=5",),
            settings("litert", 1, 5.0),
            settings("litert", 2, 3),
        ),
        (
            "sparsity_targets = litert-js",
            (),
            settings("litert-js", 1, 10),
            settings("litert-js", 2, 3),
        ),
        (
            "sparsity_targets = litert-js",
            ("--sparsity-target=tensorflow",),
            settings("tensorflow", 1, 10),
            settings("tensorflow", 2, 3),
        ),
    ],
)
def test_precedence_is_marker_flag_ini_default(
    project: Project, ini: str, arguments: tuple[str, ...], plain: str, marked: str
) -> None:
    project.pytester.makeini(f"[pytest]\n{ini}\n")
    project.test_file(SHOW)
    printed = project.run("-s", *arguments).stdout.str()
    assert f"plain {plain}" in printed
    assert f"marked {marked}" in printed


@pytest.mark.parametrize(
    ("ini", "arguments", "said"),
    [
        ("", ("--sparsity-target=gpu",), "no target is called 'gpu'; there are litert, *"),
        ("sparsity_targets = litert gpu", (), "no target is called 'gpu'; there are litert, *"),
        ("sparsity_targets =", (), "sparsity_targets is (); valid: at least one target"),
        ("", ("--sparsity-budget=0",), "sparsity_budget is 0.0; valid: seconds, more than 0"),
        ("sparsity_budget = fast", (), "sparsity_budget: could not convert *'fast'"),
        ("sparsity_confidence = 95", (), "sparsity_confidence is 95.0; valid: between 0 and 1"),
        ("sparsity_inconclusive = warn", (), "sparsity_inconclusive is 'warn'; valid: * or 'skip'"),
        (
            "",
            ("--sparsity-report=r.pdf",),
            "--sparsity-report is 'r.pdf'; valid: * .html, .json or .md",
        ),
    ],
)
def test_a_value_that_is_not_valid_lists_the_valid_ones(
    project: Project, ini: str, arguments: tuple[str, ...], said: str
) -> None:
    project.pytester.makeini(f"[pytest]\n{ini}\n")
    project.test_file(SHOW)
    result = project.run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {said}"])


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ("thread=2", "an argument * is 'thread'; valid: target, threads, budget, inputs, shapes"),
        ("'litert-js'", "an argument * is ('litert-js',); valid: keywords only"),
        ("target='gpu'", "no target is called 'gpu'; there are litert, *"),
        ("threads=0", "threads of the marker race of * is 0; valid: 1 or more"),
        ("threads='2'", "threads of the marker race of * is '2'; valid: 1 or more"),
        ("budget=-1", "budget of the marker race of * is -1; valid: seconds, more than 0"),
    ],
)
def test_the_marker_is_checked_at_collection(project: Project, marker: str, said: str) -> None:
    project.test_file(
        f"""
        import pytest

        @pytest.mark.race({marker})
        def test_claim(race):
            pass
        """
    )
    result = project.run("--collect-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {said}"])


def test_a_test_s_own_marker_adds_to_its_class_s(project: Project) -> None:
    project.test_file(
        """
        import pytest

        @pytest.mark.race(threads=4, budget=3)
        class TestBrowser:
            @pytest.mark.race(budget=9)
            def test_claim(self, _sparsity_settings):
                print(_sparsity_settings)
        """
    )
    printed = project.run("-s").stdout.str()
    assert settings("litert", 4, 9) in printed


def test_what_the_call_says_comes_first(project: Project) -> None:
    project.test_file(
        """
        import pytest

        @pytest.mark.race(target="litert", threads=2)
        def test_claim(race):
            result = race("dense.tflite", "sparse.tflite", target="litert-js", threads=1)
            assert result.target.name == "litert-js"
            assert result.threads == 1
        """
    )
    project.run("--sparsity-target=tensorflow").assert_outcomes(passed=1)


def test_targets_that_are_named_parametrize_tests(project: Project) -> None:
    project.test_file(
        """
        import pytest

        def test_claim(race):
            assert race("dense.tflite", "sparse.tflite").speedup >= 1.5

        @pytest.mark.parametrize("threshold", [1.2, 1.4])
        def test_both(race, threshold):
            assert race("dense.tflite", "sparse.tflite").speedup >= threshold

        @pytest.mark.race(target="litert-js")
        def test_own(race):
            assert race("dense.tflite", "sparse.tflite").target.name == "litert-js"

        def test_none():
            pass
        """
    )
    result = project.run("-v", "--sparsity-target=litert", "--sparsity-target=litert-js")
    result.assert_outcomes(passed=8)
    result.stdout.fnmatch_lines_random(
        [
            "test_claims.py::test_claim[[]litert[]] PASSED *",
            "test_claims.py::test_claim[[]litert-js[]] PASSED *",
            "test_claims.py::test_both[[]litert-js-1.4[]] PASSED *",
            "test_claims.py::test_own PASSED *",
            "test_claims.py::test_none PASSED *",
        ]
    )


def test_one_target_of_the_ini_file_leaves_the_ids_alone(project: Project) -> None:
    project.pytester.makeini("[pytest]\nsparsity_targets = litert-js\n")
    project.test_file()
    result = project.run("-v")
    result.stdout.fnmatch_lines(["test_claims.py::test_sparse_beats_dense PASSED *"])
    result.stdout.fnmatch_lines(["2.00x *  litert-js  *"])


def test_tests_that_race_are_selected_by_their_marker(project: Project) -> None:
    project.test_file(
        """
        import pytest

        @pytest.fixture
        def indirectly(race):
            return race

        def test_race(race):
            pass

        def test_indirectly(indirectly):
            pass

        def test_plain():
            pass
        """
    )
    project.run("-m", "race", "--strict-markers").assert_outcomes(passed=2, deselected=1)
    project.run("-m", "not race").assert_outcomes(passed=1, deselected=2)


def test_the_header_is_printed_if_something_was_chosen(project: Project) -> None:
    project.test_file()
    project.run().stdout.no_fnmatch_line("sparsity: *")
    project.run("-v").stdout.fnmatch_lines(
        ["sparsity: litert, budget 10 s, confidence 95 %, baselines/"]
    )
    project.run("--sparsity-budget=3", "--sparsity-update").stdout.fnmatch_lines(
        ["sparsity: litert, budget 3 s, confidence 95 %, baselines/, recording baselines"]
    )


def test_help_and_markers_document_themselves(project: Project) -> None:
    helped = project.run("--help").stdout
    helped.fnmatch_lines(
        [
            "sparsity: performance claims about pruned TFLite models:",
            "  --sparsity-target=NAME",
            "  --sparsity-budget=SECONDS",
            "  --sparsity-update *",
            "  --sparsity-rebuild *",
            "  --sparsity-report=PATH",
            "sparsity: claims about two files, with pytest --pyargs pytest_sparsity.suite:",
            "  --sparsity-min-zeros=SHARE",
        ]
    )
    said = " ".join(helped.str().split())
    assert "at least so many are zero; default: 0.5" in said
    assert "default: the ini value sparsity_budget (10), in the suite for two files 60" in said
    helped.fnmatch_lines(["  sparsity_targets (args):*", "  sparsity_budget (float):*"])
    project.run("--markers").stdout.fnmatch_lines(
        ["@pytest.mark.race([*], target=None, threads=1, budget=None, inputs=None, shapes=None): *"]
    )
    project.run("--fixtures").stdout.fnmatch_lines_random(
        ["variants [[]session scope[]] -- *", "race -- *", "diagnose -- *", "baseline -- *"]
    )


def test_the_marker_says_what_models_are_run_on(project: Project) -> None:
    project.test_file(
        """
        import numpy as np
        import pytest

        ONES = {"input_1": np.ones((1, 12, 12, 3), np.float32)}

        @pytest.mark.race(inputs=ONES)
        def test_marked(race):
            assert race("dense.tflite", "sparse.tflite").inputs == "input_1 1x12x12x3"

        @pytest.mark.race(shapes={"input_1": (1, 9, 9, 3)})
        def test_that_does_not_fit(race):
            race("dense.tflite", "sparse.tflite")

        @pytest.mark.race(inputs="lost.npz")
        def test_an_argument_goes_first(race):
            assert race("dense.tflite", "sparse.tflite", inputs=ONES).speedup > 1
        """
    )
    result = project.run()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*'input_1' of dense.tflite has the shape (?, 12, 12, 3), not *"])


def test_without_the_plugin_nothing_is_left_of_it(project: Project) -> None:
    project.test_file()
    project.pytester.makeconftest("")
    result = project.run_apart("-p", "no:sparsity")
    result.stdout.fnmatch_lines(["E       fixture 'race' not found"])
    project.test_file(
        """
        import sys

        def test_nothing():
            assert not [name for name in sys.modules if name.startswith("pytest_sparsity")]
        """
    )
    project.run_apart("-p", "no:sparsity").assert_outcomes(passed=1)


def test_a_session_without_a_claim_imports_nothing_but_the_plugin(project: Project) -> None:
    project.pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure(config):
            names = {
                name.split(".")[1] for name in sys.modules if name.startswith("pytest_sparsity.")
            }
            print("rooms:", sorted(names), "numpy" in sys.modules)
        """
    )
    project.test_file("def test_nothing():\n    pass\n")
    result = project.run_apart()
    result.assert_outcomes(passed=1)
    rooms = "['defaults', 'errors', 'hooks', 'plugin', 'progress']"
    assert f"rooms: {rooms} False" in result.outlines


def test_rebuild_reaches_the_builder(project: Project) -> None:
    project.test_file(
        """
        import pytest_sparsity.variants

        def test_variants(monkeypatch, request):
            monkeypatch.setattr(
                pytest_sparsity.variants, "build_variants", lambda build, **options: options
            )
            variants = request.getfixturevalue("variants")
            options = variants(None, sparsity=0.5)
            assert options.pop("cache") is None or "sparsity" in str(options)
            print(options)
        """
    )
    assert (
        "{'rebuild': True, 'sparsity': 0.5}" in project.run("-s", "--sparsity-rebuild").stdout.str()
    )
    assert "{'rebuild': False, 'sparsity': 0.5}" in project.run("-s").stdout.str()


def test_the_documentation_lists_every_flag_and_ini_value(pytestconfig: pytest.Config) -> None:
    examples = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "_ext" / "examples.py"))
    listed = {
        name.split()[0] for kind in ("flags", "suite") for name, _, _ in examples["flags"](kind)
    }
    given = vars(pytestconfig.option)
    known = {f"--{name.replace('_', '-')}" for name in given if name.startswith("sparsity_")}
    assert listed == known
    for name, _, _ in examples["ini_values"]():
        assert pytestconfig.getini(name) is not None
