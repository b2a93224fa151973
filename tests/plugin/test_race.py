"""The fixture `race`: verdicts, outcomes, what they print, and the summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from plugin.conftest import Project

TWICE = {"dense.tflite": [2e-3], "sparse.tflite": [1e-3, 1.01e-3, 0.99e-3]}


def claim(text: str) -> str:
    return f"""
        def test_claim(race):
            assert race("dense.tflite", "sparse.tflite").{text}
    """


def test_a_claim_that_holds(project: Project) -> None:
    project.test_file(claim("speedup >= 1.5"))
    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "=* sparsity =*",
            "2.00x [[]1.84, 2.17[]]  >= 1.5  holds  litert  test_claims.py::test_claim",
            "races: 1 holds",
        ],
        consecutive=True,
    )


def test_a_claim_that_is_refuted_says_what_was_measured_on_what_and_why(project: Project) -> None:
    project.script["diagnosis"] = {
        "verdict": "dense",
        "kernel": "dense",
        "findings": [
            {
                "code": "x86-avx",
                "message": "XNNPACK has no sparse kernels for a CPU with AVX",
                "remedy": "claim this on litert-js or litert@cortex-a53",
            },
            {"code": "few-zeros", "message": "zeros 61 %, needs more than 66.7 %", "layer": 2},
        ],
    }
    project.test_file(claim("speedup >= 100"))
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E       assert speedup >= 100 is refuted",
            "E         measured  2, 95 % interval [[]1.844, 2.17[]]; 3 processes, * pairs, *CPU *",
            "E         dense     2 ms    sparse  1 ms per inference",
            "E         on        litert 2.3.0 CPython 3.11, 1 thread, *",
            "E         because   sparse.tflite on litert runs no sparse kernel: XNNPACK has no *",
            "E             -> claim this on litert-js or litert@cortex-a53",
            "E           few-zeros: zeros 61 %, needs more than 66.7 %",
        ],
        consecutive=True,
    )
    result.stdout.fnmatch_lines(
        [
            "-* sparsity: sparse.tflite on litert -*",
            "sparse.tflite on litert runs no sparse kernel: XNNPACK has no sparse kernels for *",
            "",
            "layer  operator           shape      zeros  stored  kernel  name",
            "0      CONV_2D            8x3x3x3    74.5%  sparse  dense   *",
        ],
        consecutive=True,
    )
    result.stdout.fnmatch_lines(["  x86-avx: XNNPACK has no sparse kernels for a CPU with AVX"])
    result.stdout.fnmatch_lines(["2.00x [[]1.84, 2.17[]]  >= 100  refuted  litert  *::test_claim"])
    result.stdout.fnmatch_lines(["races: 1 refuted"])


def test_findings_beyond_what_pytest_prints_are_in_the_section_only(project: Project) -> None:
    findings = [
        {"code": f"code-{n}", "message": f"reason number {n} {'x' * 60}", "remedy": "do this"}
        for n in range(9)
    ]
    project.script["diagnosis"] = {"findings": findings}
    project.test_file(claim("speedup >= 100"))
    result = project.run()
    printed = result.stdout.str()
    assert "E           code-0: reason number 0" in printed
    assert "... and 8 more findings" in printed
    assert "E           code-8" not in printed
    assert "\n  code-8: reason number 8" in printed
    assert "Full output truncated" not in printed


def test_a_diagnosis_that_fails_does_not_hide_the_verdict(project: Project) -> None:
    project.script["diagnosis"] = {"findings": [{"nonsense": 1}]}
    project.test_file(claim("speedup >= 100"))
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E       AssertionError: assert speedup >= 100 is refuted",
            "E         no diagnosis of sparse.tflite on litert: TypeError: *",
        ]
    )


def test_a_number_on_the_left_is_the_same_claim(project: Project) -> None:
    project.test_file(
        """
        def test_claim(race):
            assert 100 < race("dense.tflite", "sparse.tflite").speedup
        """
    )
    result = project.run()
    result.stdout.fnmatch_lines(["E       assert speedup > 100 is refuted"])


def test_an_undecided_claim_fails_at_the_user_s_line(project: Project) -> None:
    project.test_file(claim("speedup >= 2"))
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            '>       assert race("dense.tflite", "sparse.tflite").speedup >= 2',
            "E       pytest_sparsity.*.Inconclusive: speedup >= 2 is inconclusive: measured *",
            "",
            "test_claims.py:2: Inconclusive",
        ]
    )
    result.stdout.fnmatch_lines(
        [
            "2.00x [[]1.99, 2.01[]]  >= 2  inconclusive  litert  test_claims.py::test_claim",
            "litert: 10 s tell ratios *",
            "races: 1 inconclusive",
        ],
        consecutive=True,
    )
    result.stdout.no_fnmatch_line("*pytest_sparsity/*")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ('race("dense.tflite", "no.tflite")', "*ModelError: no.tflite: No such file or directory"),
        ('race("dense.tflite", "sparse.tflite", target="gpu")', "ValueError: no target is *"),
        (
            'race("dense.tflite", "sparse.tflite", inputs={"x": 1})',
            "ValueError: dense.tflite has no input 'x'; its inputs are *",
        ),
        ('race("dense.tflite")', "TypeError: race() missing 1 required * argument: 'sparse'"),
        ('prune("dense.tflite", sparsity=80)', "ValueError: sparsity=80 is not *: 80 % is 0.8"),
        ('baseline("nbytes", within=5)', "ValueError: within is a fraction *"),
        ('race("dense.tflite", "sparse.tflite").speedup or 1', "TypeError: an Estimate has no *"),
    ],
)
def test_a_wrong_call_ends_at_the_users_line(project: Project, call: str, said: str) -> None:
    project.test_file(f"def test_claim(race, prune, baseline):\n    {call}\n")
    result = project.run()
    kind = said.partition(":")[0]
    result.stdout.fnmatch_lines(
        [f">       {call}", f"E       {said}", "", f"test_claims.py:2: {kind.removeprefix('*')}"]
    )
    result.stdout.no_fnmatch_line("*pytest_sparsity/*")
    result.stdout.no_fnmatch_line("*direct cause*")
    project.run("--full-trace").stdout.fnmatch_lines(["*pytest_sparsity/*.py:*"])


def test_a_defect_of_the_plugin_keeps_its_traceback(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_sparsity.model.Model.of", lambda given: given.nothing)
    project.test_file()
    project.run().stdout.fnmatch_lines(["*pytest_sparsity/plugin/fixtures.py:*"])


def test_an_error_of_the_users_that_led_to_ours_is_shown(project: Project) -> None:
    project.test_file("""
        def test_claim(race):
            try:
                raise KeyError("mine")
            except KeyError:
                race("dense.tflite", "no.tflite")
    """)
    result = project.run()
    result.stdout.fnmatch_lines(["E *KeyError: 'mine'", "During handling *", "E *ModelError: no.*"])
    result.stdout.no_fnmatch_line("*FileNotFoundError*")


def test_full_trace_shows_where_in_the_plugin(project: Project) -> None:
    project.test_file(claim("speedup >= 2"))
    project.run("--full-trace").stdout.fnmatch_lines(["*pytest_sparsity/estimate/*.py:*"])


@pytest.mark.parametrize(
    ("target", "quantity"), [("litert", "speedup"), ("litert@cortex-a53", "instruction_ratio")]
)
def test_a_race_itself_says_what_to_compare(project: Project, target: str, quantity: str) -> None:
    project.test_file(
        f"""
        def test_claim(race):
            assert race("dense.tflite", "sparse.tflite", target={target!r}) > 1.2
        """
    )
    result = project.run()
    said = f"E *TypeError: a Race is not compared itself: compare race(...).{quantity}"
    result.stdout.fnmatch_lines([said])


def test_no_difference_is_said_with_its_cause(project: Project) -> None:
    project.script["seconds"]["sparse.tflite"] = [2e-3, 2.004e-3, 1.996e-3]
    project.script["diagnosis"] = {
        "verdict": "dense",
        "findings": [{"code": "x86-avx", "message": "this CPU has AVX", "remedy": "elsewhere"}],
    }
    project.test_file(claim("speedup > 1"))
    result = project.run()
    result.stdout.fnmatch_lines(
        [
            "E *Inconclusive: speedup > 1 is inconclusive: *; no difference larger than 0.* %; *",
            "E *because   sparse.tflite on litert runs no sparse kernel: this CPU has AVX",
        ]
    )


def test_an_undecided_claim_skips_if_asked_to_and_is_counted(project: Project) -> None:
    project.test_file(claim("speedup >= 2"))
    result = project.run("-o", "sparsity_inconclusive=skip")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        [
            "2.00x [[]1.99, 2.01[]]  >= 2  inconclusive  litert  *",
            "races: 1 inconclusive",
            "SKIPPED [[]1[]] test_claims.py:2: inconclusive: speedup >= 2 is inconclusive: *",
        ]
    )


def test_what_the_environment_lacks_skips_and_names_the_remedy(project: Project) -> None:
    project.script["missing"] = {"litert": ["litert is not installed", "pip install litert"]}
    project.test_file(claim("speedup >= 1.5"))
    result = project.run()
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED [[]1[]] test_claims.py:2: litert is not installed: pip install litert"]
    )


def test_a_lack_in_a_fixture_skips_too(project: Project) -> None:
    project.test_file(
        """
        import pytest
        from pytest_sparsity import Unsupported

        @pytest.fixture
        def board():
            raise Unsupported("no board is connected", "plug one in")

        def test_claim(board):
            pass
        """
    )
    result = project.run()
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED [[]1[]] test_claims.py:6: no board is connected: plug one in"]
    )


def test_a_lack_in_a_fixture_of_many_tests_skips_them_all(project: Project) -> None:
    project.test_file(
        """
        import pytest
        from pytest_sparsity import Target

        @pytest.fixture(scope="session")
        def worker():
            raise Target.of("litert").missing()

        def test_first(worker):
            pass

        def test_second(worker):
            pass
        """
    )
    project.script["missing"] = {"litert": ["litert is not installed", "pip install litert"]}
    result = project.run()
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED [[]2[]] test_claims.py:6: litert is not installed: *"])


def test_a_skip_is_no_expected_failure(project: Project) -> None:
    project.script["missing"] = {"litert": ["litert is not installed", "pip install litert"]}
    project.test_file(
        """
        import pytest

        @pytest.mark.xfail(strict=True)
        def test_claim(race):
            assert race("dense.tflite", "sparse.tflite").speedup >= 1.5
        """
    )
    project.run().assert_outcomes(skipped=1)


def test_known_gaps_are_the_user_s_to_declare(project: Project) -> None:
    project.test_file(
        """
        import pytest

        @pytest.mark.xfail(strict=True)
        @pytest.mark.parametrize("threshold", [100, 2])
        def test_claim(race, threshold):
            assert race("dense.tflite", "sparse.tflite").speedup >= threshold
        """
    )
    project.run().assert_outcomes(xfailed=2)


def test_wrong_answers_fail_before_any_timing(project: Project) -> None:
    project.script["wrong"] = ["sparse.tflite"]
    project.test_file(claim("speedup >= 1.5"))
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*WrongOutputs: sparse.tflite computes wrong outputs on litert"])
    result.stdout.no_fnmatch_line("*races:*")


def test_a_crash_of_the_worker_fails_one_test_and_the_run_goes_on(project: Project) -> None:
    project.script["crashes"] = ["crash.tflite"]
    project.copy("sparse.tflite", "crash.tflite")
    project.test_file(
        """
        def test_crash(race):
            assert race("dense.tflite", "crash.tflite").speedup >= 1.5

        def test_fine(race):
            assert race("dense.tflite", "sparse.tflite").speedup >= 1.5
        """
    )
    result = project.run()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "E*TargetError: litert crashed when loading crash.tflite: SIGSEGV",
            "",
            "test_claims.py:2: TargetError",
        ]
    )


def test_a_machine_that_cannot_measure_is_an_error(project: Project) -> None:
    project.script["control"] = 1.3
    project.test_file(claim("speedup >= 1.5"))
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at call of test_claim*",
            "E*CannotMeasure: dense.tflite raced against itself on litert gave 1.3*",
            "ERROR test_claims.py::test_claim*",
        ]
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_the_control_is_raced_once_per_session(project: Project) -> None:
    project.test_file(
        """
        import pytest
        from pytest_sparsity.targets import Target

        @pytest.fixture(autouse=True)
        def opened(monkeypatch):
            opened, open_ = [], Target.open
            monkeypatch.setattr(Target, "open", lambda t, **k: opened.append(t) or open_(t, **k))
            return opened

        def test_first(race, opened):
            assert race("dense.tflite", "sparse.tflite").speedup >= 1.5
            assert len(opened) == 6

        def test_second(race, opened):
            assert race("dense.tflite", "sparse.tflite").speedup >= 1.5
            assert len(opened) == 3
        """
    )
    project.run().assert_outcomes(passed=2)


def test_several_claims_on_one_race(project: Project) -> None:
    project.test_file(
        """
        def test_claims(race):
            speedup = race("dense.tflite", "sparse.tflite").speedup
            assert 1.5 <= speedup
            assert speedup < 3
        """
    )
    result = project.run()
    result.stdout.fnmatch_lines(
        [
            "2.00x [[]1.84, 2.17[]]  >= 1.5  holds  litert  test_claims.py::test_claims",
            "2.00x [[]1.84, 2.17[]]  < 3     holds  litert  test_claims.py::test_claims",
            "races: 2 hold",
        ],
        consecutive=True,
    )


def test_a_race_without_a_claim_is_shown_as_such(project: Project) -> None:
    project.test_file(
        """
        def test_nothing(race):
            race("dense.tflite", "sparse.tflite")
        """
    )
    result = project.run()
    result.stdout.fnmatch_lines(["2.00x [[]1.84, 2.17[]]    not claimed  litert  *::test_nothing"])


def test_instructions_are_never_called_a_time(project: Project) -> None:
    project.test_file(
        """
        import pytest

        @pytest.mark.race(target="litert@cortex-a53")
        def test_ratio(race):
            assert race("dense.tflite", "sparse.tflite").instruction_ratio >= 1.5

        @pytest.mark.race(target="litert@cortex-a53")
        def test_refuted(race):
            assert race("dense.tflite", "sparse.tflite").instruction_ratio >= 5

        @pytest.mark.race(target="litert@cortex-a53")
        def test_speedup(race):
            assert race("dense.tflite", "sparse.tflite").speedup >= 1.5
        """
    )
    result = project.run()
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "E       assert instruction_ratio >= 5 is refuted",
            "E         measured  1.9802 exactly; 1 process, 1 pair, * s, instructions",
            "E         dense     2,000,000 instructions    sparse  1,010,000 instructions per *",
            (
                "E         on        litert@cortex-a53 2.3.0 CPython 3.11, 1 thread, cortex-a53, "
                "inputs input_1 1x12x12x3"
            ),
        ]
    )
    result.stdout.fnmatch_lines(["2.000x instructions  >= 1.5  holds * litert@cortex-a53 *"])
    result.stdout.fnmatch_lines(["SKIPPED * litert@cortex-a53 has no time: *"])


def test_quiet_runs_print_only_what_did_not_hold(project: Project) -> None:
    project.test_file(
        """
        def test_holds(race):
            assert race("dense.tflite", "sparse.tflite").speedup >= 1.5

        def test_refuted(race):
            assert race("dense.tflite", "sparse.tflite").speedup >= 3
        """
    )
    result = project.run("-q")
    result.stdout.no_fnmatch_line("*>= 1.5*::test_holds")
    result.stdout.fnmatch_lines(
        ["2.00x * >= 3 * refuted*::test_refuted", "races: 1 holds, 1 refuted"]
    )


def test_runs_without_claims_are_not_spoken_to(project: Project) -> None:
    project.test_file("def test_nothing(): pass")
    result = project.run()
    result.stdout.no_fnmatch_line("*sparsity:*")
    result.stdout.no_fnmatch_line("=* sparsity =*")


def test_junit_has_the_ratios(project: Project) -> None:
    project.test_file(
        """
        def test_claims(race):
            assert race("dense.tflite", "sparse.tflite").speedup >= 1.5
            assert race("sparse.tflite", "dense.tflite").speedup <= 1
        """
    )
    project.run("--junitxml=junit.xml")
    written = (project.path / "junit.xml").read_text()
    assert '<property name="sparsity.speedup" value="2.00x [1.84, 2.17]"' in written
    assert '<property name="sparsity.speedup.2" value="0.500x [0.461, 0.542]"' in written


def test_a_function_outside_a_fixture_is_explained_as_far_as_it_is_known(project: Project) -> None:
    project.test_file(
        """
        from pytest_sparsity import race

        def test_claim():
            assert race("dense.tflite", "sparse.tflite", controls={}).speedup >= 100
        """
    )
    result = project.run()
    result.stdout.fnmatch_lines(
        [
            "E       assert ratio >= 100 is refuted",
            "E         measured  2, 95 % interval [[]1.844, 2.17[]]",
        ],
        consecutive=True,
    )


def test_the_second_race_is_explained_by_the_second_race(project: Project) -> None:
    project.copy("sparse.tflite", "second.tflite")
    project.script["seconds"]["second.tflite"] = [4e-3]
    project.test_file(
        """
        def test_two(race):
            assert race("dense.tflite", "sparse.tflite").speedup >= 1.5
            assert race("dense.tflite", "second.tflite").speedup >= 1.5
        """
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*sparse  4 ms*", "E*because   second.tflite on litert *"])


def test_a_confidence_of_1_is_refused(project: Project) -> None:
    project.test_file()
    result = project.run("-o", "sparsity_confidence=1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: sparsity_confidence is 1.0; valid: between 0 and 1"])


def test_a_machine_that_cannot_measure_and_a_test_that_expects_it(project: Project) -> None:
    project.script["control"] = 1.5
    project.test_file(
        """
        import pytest

        @pytest.mark.xfail
        def test_expected(race):
            race("dense.tflite", "sparse.tflite")
        """
    )
    result = project.run("--sparsity-report=report.json")
    result.assert_outcomes(xfailed=1)
    assert len(project.read("report.json")["tests"]) == 1, "one record per test"


def test_diagnose_takes_the_threads_of_the_marker(project: Project) -> None:
    text = (project.path / "conftest.py").read_text()
    project.pytester.makeconftest(
        text.replace(
            '    def diagnose(model: Any, target: Any = "litert", **_: object) -> Diagnosis:\n',
            '    def diagnose(model: Any, target: Any = "litert", **_: object) -> Diagnosis:\n'
            "        print('threads', _.get('threads'))\n",
        )
    )
    project.test_file(
        """
        import pytest

        @pytest.mark.race(threads=2)
        def test_it(diagnose):
            diagnose("sparse.tflite")
        """
    )
    project.run("-s").stdout.fnmatch_lines(["*threads 2*"])


def test_a_run_on_named_targets_calls_no_baseline_unused(project: Project) -> None:
    project.test_file(
        """
        import pytest

        @pytest.mark.parametrize("n", [1])
        def test_ratio(race, baseline, n):
            ratio = race("dense.tflite", "sparse.tflite").speedup
            assert ratio >= baseline("speedup")
            assert race("dense.tflite", "sparse.tflite").speedup >= baseline("speedup")
        """
    )
    project.run("--sparsity-update").assert_outcomes(passed=1)
    result = project.run("--sparsity-target=litert", "-k", "ratio")
    result.stdout.no_fnmatch_line("unused baseline*")
