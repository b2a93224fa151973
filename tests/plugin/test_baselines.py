"""The life of a baseline: missing, recorded, holds, regresses, improves, moved, unused, merged."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from plugin.conftest import Project

NBYTES = """
    NBYTES = {nbytes}

    def test_size(baseline):
        assert NBYTES <= baseline("nbytes")
"""
SPEEDUP = """
    def test_win(race, baseline):
        assert race("dense.tflite", "sparse.tflite").speedup >= baseline("speedup"{within})
"""
UPDATE = "--sparsity-update"
# No spread to speak of: 2x, so that verdicts are clear.
STEADY = {"dense.tflite": [2e-3], "sparse.tflite": [1e-3, 1.001e-3, 0.999e-3]}


def slower(project: Project, factor: float) -> None:
    project.script["seconds"]["sparse.tflite"] = [
        seconds * factor for seconds in STEADY["sparse.tflite"]
    ]


def machine_file(project: Project) -> str:
    (folder,) = (path.parent for path in project.path.glob("baselines/*/machine.json"))
    return f"baselines/{folder.name}/test_claims.json"


# --- portable values -------------------------------------------------------------------------


def test_missing_fails_and_names_the_command(project: Project) -> None:
    project.test_file(NBYTES.format(nbytes=100))
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            (
                "E       pytest_sparsity.baseline.NoBaseline: no baseline for 'nbytes'; "
                "record it with: pytest --sparsity-update test_claims.py::test_size"
            ),
            "",
            "test_claims.py:4: NoBaseline",
        ],
        consecutive=True,
    )
    assert not (project.path / "baselines").exists()


def test_recorded_then_holds_then_regresses_then_is_updated(project: Project) -> None:
    project.test_file(NBYTES.format(nbytes=100_000))
    result = project.run(UPDATE)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "recorded: baselines/test_claims.json  test_size::nbytes = 100000",
            "baselines: 1 recorded",
        ],
        consecutive=True,
    )
    assert project.read("baselines/test_claims.json") == {"test_size::nbytes": 100_000, "schema": 1}

    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["=* sparsity =*", "baselines: 1 holds"], consecutive=True)

    project.test_file(NBYTES.format(nbytes=112_345))
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E       *: assert 112345 <= 100000 (recorded in baselines/test_claims.json)",
            "E         'nbytes' moved by +12 % (+12,345)",
            (
                "E         if this is intended, record it with: "
                "pytest --sparsity-update test_claims.py::test_size"
            ),
        ],
        consecutive=True,
    )
    result.stdout.fnmatch_lines(["baselines: 1 refuted"])

    result = project.run(UPDATE)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["recorded: baselines/test_claims.json  test_size::nbytes = 112345 (was 100000, +12 %)"]
    )
    project.run().assert_outcomes(passed=1)


def test_improves_and_what_moved_inside_the_tolerance_is_shown(project: Project) -> None:
    project.test_file(
        """
        NBYTES = 1000

        def test_size(baseline):
            assert NBYTES <= baseline("nbytes", within=0.05)
            assert NBYTES == baseline("same")
        """
    )
    project.run(UPDATE)
    text = (project.path / "test_claims.py").read_text()
    (project.path / "test_claims.py").write_text(text.replace("= 1000", "= 900", 1))
    result = project.run("-k", "size")
    result.stdout.fnmatch_lines(
        ["E       AssertionError: assert 900 == 1000 (recorded in baselines/test_claims.json)"]
    )
    result.stdout.fnmatch_lines(
        [
            "moved: test_claims.py::test_size  nbytes 1000 -> 900 (-10 %, within 5 %)",
            "baselines: 1 holds, 1 refuted",
        ],
        consecutive=True,
    )


def test_many_moves_are_cut_short(project: Project) -> None:
    project.test_file(
        """
        import pytest

        @pytest.mark.parametrize("number", range(15))
        def test_size(baseline, number):
            assert LENGTH <= baseline("nbytes")

        LENGTH = 100
        """
    )
    project.run(UPDATE)
    text = (project.path / "test_claims.py").read_text()
    (project.path / "test_claims.py").write_text(text.replace("= 100", "= 90"))
    result = project.run()
    assert str(result.stdout).count("moved: test_claims") == 10
    result.stdout.fnmatch_lines(["moved: 5 more (-v shows them)"])
    assert str(project.run("-v").stdout).count("moved: test_claims") == 15


def test_names_lists_and_fractions(project: Project) -> None:
    kernels = '["sparse", "sparse", "dense"]'
    project.test_file(
        f"""
        KERNELS = {kernels}

        def test_kernels(baseline):
            assert KERNELS == baseline("kernels")

        def test_verdict(baseline):
            assert baseline("verdict") == "sparse"

        def test_zeros(baseline):
            assert [0.8, 0.75] >= baseline("zeros")
        """
    )
    project.run(UPDATE).assert_outcomes(passed=3)
    project.run().assert_outcomes(passed=3)
    text = (project.path / "test_claims.py").read_text().replace('"sparse", "dense"]', '"dense"]')
    (project.path / "test_claims.py").write_text(text)
    project.run().stdout.fnmatch_lines(["E         3 elements were recorded, today 2"])
    text = text.replace('["sparse", "dense"]', '["sparse", "dense", "dense"]').replace(
        "0.75]", "0.7]"
    )
    (project.path / "test_claims.py").write_text(text)
    project.run().stdout.fnmatch_lines(
        [
            "E       AssertionError: assert [[]'sparse', 'dense', 'dense'[]] == [[]'sparse', *",
            "E         differing: [[]1[]] 'sparse' -> 'dense'",
            "E       *assert [[]0.8, 0.7[]] >= [[]0.8, 0.75[]] (recorded in *",
            "E         differing: [[]1[]] 0.75 -> 0.7",
        ]
    )


def test_parametrized_tests_keep_one_each_and_classes_their_names(project: Project) -> None:
    project.test_file(
        """
        import pytest

        @pytest.mark.parametrize("nbytes", [100, 200], ids=["small", "a::b c"])
        class TestSize:
            def test_size(self, baseline, nbytes):
                assert nbytes <= baseline("nbytes")
        """
    )
    project.run(UPDATE).assert_outcomes(passed=2)
    assert project.read("baselines/test_claims.json") == {
        "TestSize::test_size[a::b c]::nbytes": 200,
        "TestSize::test_size[small]::nbytes": 100,
        "schema": 1,
    }
    project.run().assert_outcomes(passed=2)


def test_a_test_that_fails_records_nothing_and_says_so(project: Project) -> None:
    project.test_file(
        """
        def test_size(baseline):
            assert 100 <= baseline("nbytes")
            assert False
        """
    )
    result = project.run(UPDATE)
    result.stdout.fnmatch_lines(
        [
            "not recorded, the test failed: baselines/test_claims.json  test_size::nbytes = 100",
            "baselines: 1 not recorded",
        ]
    )
    assert not (project.path / "baselines").exists()


def test_modules_of_one_name_do_not_share_a_file(project: Project) -> None:
    for folder, nbytes in (("a", 100), ("b", 200)):
        (project.path / folder).mkdir()
        (project.path / folder / "test_claims.py").write_text(
            f"def test_size(baseline):\n    assert {nbytes} <= baseline('nbytes')\n"
        )
    project.run(UPDATE, "--import-mode=importlib").assert_outcomes(passed=2)
    assert project.read("baselines/a/test_claims.json")["test_size::nbytes"] == 100
    assert project.read("baselines/b/test_claims.json")["test_size::nbytes"] == 200


def test_the_folder_is_an_option(project: Project) -> None:
    project.pytester.makeini("[pytest]\nsparsity_baselines = kept/here\n")
    project.test_file(NBYTES.format(nbytes=100))
    project.run(UPDATE).stdout.fnmatch_lines(["recorded: kept/here/test_claims.json  *"])
    assert project.read("kept/here/test_claims.json")["test_size::nbytes"] == 100


def test_an_update_of_one_test_leaves_the_others_alone(project: Project) -> None:
    project.test_file(
        """
        def test_a(baseline):
            assert 100 <= baseline("nbytes")

        def test_b(baseline):
            assert 200 <= baseline("nbytes")
        """
    )
    project.run(UPDATE)
    text = (project.path / "test_claims.py").read_text()
    (project.path / "test_claims.py").write_text(text.replace("00", "11"))
    project.run(UPDATE, "test_claims.py::test_b").assert_outcomes(passed=1)
    kept = project.read("baselines/test_claims.json")
    assert (kept["test_a::nbytes"], kept["test_b::nbytes"]) == (100, 211)


# --- ratios of times -------------------------------------------------------------------------


def test_a_ratio_is_kept_per_machine(project: Project) -> None:
    project.script["seconds"] = dict(STEADY)
    project.test_file(SPEEDUP.format(within=", within=0.05"))
    result = project.run()
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        [
            (
                "SKIPPED [[]1[]] test_claims.py:2: "
                "no baseline for this machine (*-litert-2.3.0-*): "
                "record it with: pytest --sparsity-update test_claims.py::test_win"
            )
        ]
    )
    result = project.run(UPDATE)
    result.assert_outcomes(passed=1)
    kept = project.read(machine_file(project))["test_win::speedup"]
    assert kept["value"] == pytest.approx(2, abs=0.01)
    assert kept["low"] < kept["value"] < kept["high"]
    assert not (project.path / "baselines/test_claims.json").exists()
    result.stdout.fnmatch_lines(
        [
            "2.00x * recorded as 'speedup'  recorded  litert  *",
            "recorded: baselines/*-litert-2.3.0-*/test_claims.json  test_win::speedup = 2 [[]*[]]",
            "baselines: 1 recorded",
        ],
        consecutive=True,
    )


def test_a_ratio_regresses(project: Project) -> None:
    project.script["seconds"] = dict(STEADY)
    project.test_file(SPEEDUP.format(within=", within=0.05"))
    project.run(UPDATE)
    project.run().assert_outcomes(passed=1)
    slower(project, 1.2)
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E       *assert 'speedup' >= 2 [[]*[]], as recorded, within 5 % is refuted",
            "E         measured  1.667 [[]*[]]",
            "E         recorded  in baselines/*-litert-2.3.0-*/test_claims.json",
            "E         on        litert 2.3.0 CPython 3.11, 1 thread, *",
            "E         'speedup' moved by -17 %",
            "E         because   sparse.tflite on litert runs sparse kernels in *",
            "E         if this is intended, record it with: pytest --sparsity-update *::test_win",
        ],
        consecutive=True,
    )
    result.stdout.fnmatch_lines(
        ["1.67x * >= 'speedup' 2 [[]*[]] within 5 %  refuted  litert  *", "baselines: 1 refuted"],
        consecutive=True,
    )


def test_a_drift_inside_the_tolerance_passes_and_is_shown(project: Project) -> None:
    project.script["seconds"] = dict(STEADY)
    project.test_file(SPEEDUP.format(within=""))
    project.run(UPDATE)
    slower(project, 1.03)
    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "1.94x * >= 'speedup' 2 [[]*[]] within 5 %  holds  litert  *",
            "moved: *::test_win  speedup 2 [[]*[]] -> 1.94* [[]*[]] (-2.9 %, within 5 %)",
            "baselines: 1 holds",
        ],
        consecutive=True,
    )


def test_a_ratio_at_the_edge_of_the_tolerance_is_inconclusive(project: Project) -> None:
    project.script["seconds"] = dict(STEADY)
    project.test_file(SPEEDUP.format(within=""))
    project.run(UPDATE)
    slower(project, 1 / 0.95)
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E*Inconclusive*: *is inconclusive: *", "baselines: 1 inconclusive"]
    )


@pytest.mark.parametrize(
    ("key", "value"), [("version", "2.4.0"), ("machine", "another"), ("target", "litert-js")]
)
def test_another_machine_or_runtime_has_its_own(project: Project, key: str, value: str) -> None:
    project.script["seconds"] = dict(STEADY)
    project.test_file(SPEEDUP.format(within=""))
    project.run(UPDATE)
    arguments = ["-o", f"sparsity_targets={value}"] if key == "target" else []
    if key == "machine":
        text = (project.path / "conftest.py").read_text()
        hook = f"\n\ndef pytest_sparsity_machine(config):\n    return {value!r}\n"
        (project.path / "conftest.py").write_text(text + hook)
    project.script[key] = value
    result = project.run(*arguments)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines([f"SKIPPED * no baseline for this machine (*{value}*): record *"])


def test_node_s_version_is_part_of_the_machine_and_python_s_is_not(project: Project) -> None:
    project.script["seconds"] = dict(STEADY)
    project.test_file(SPEEDUP.format(within=""))
    for target, engine in (("litert", "CPython 3.11"), ("litert-js", "Node 24.1.0")):
        project.script["engine"] = engine
        project.run(UPDATE, "-o", f"sparsity_targets={target}").assert_outcomes(passed=1)
    for target, engine, outcome in (
        ("litert", "CPython 3.12", "passed"),
        ("litert-js", "Node 24.1.0", "passed"),
        ("litert-js", "Node 24.2.0", "skipped"),
    ):
        project.script["engine"] = engine
        project.run("-o", f"sparsity_targets={target}").assert_outcomes(**{outcome: 1})


def test_a_new_claim_on_a_known_machine_fails(project: Project) -> None:
    project.script["seconds"] = dict(STEADY)
    project.test_file(SPEEDUP.format(within=""))
    project.run(UPDATE)
    project.test_file(SPEEDUP.format(within="").replace("test_win", "test_new"))
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E*NoBaseline: no baseline for 'speedup' on this machine (*); record it with: *::test_new"]
    )


def test_instruction_counts_are_true_everywhere(project: Project) -> None:
    project.test_file(
        """
        import pytest

        @pytest.mark.race(target="litert@cortex-a53")
        def test_ratio(race, baseline):
            ratio = race("dense.tflite", "sparse.tflite").instruction_ratio
            assert ratio >= baseline("instruction_ratio")
        """
    )
    project.script["seconds"] = {"dense.tflite": [2e-3], "sparse.tflite": [1e-3]}
    project.run(UPDATE).assert_outcomes(passed=1)
    kept = project.read("baselines/test_claims.json")
    assert kept == {"test_ratio::instruction_ratio": 2.0, "schema": 1}
    project.run().assert_outcomes(passed=1)
    project.script["seconds"]["sparse.tflite"] = [1.001e-3]
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E       *assert 1.998* >= 2.0 (recorded in *"])


def test_a_ratio_of_a_race_without_the_fixture_has_no_place(project: Project) -> None:
    project.test_file(
        """
        from pytest_sparsity import race

        def test_win(baseline):
            ratio = race("dense.tflite", "sparse.tflite", controls={}).speedup
            assert ratio >= baseline("speedup")
        """
    )
    project.run().stdout.fnmatch_lines(
        ["E*BaselineError: a baseline keeps the ratio of a race that the fixture `race` ran: *"]
    )


# --- the recorded model ----------------------------------------------------------------------


def test_the_old_model_is_raced_against_the_new_one(project: Project) -> None:
    project.script["seconds"] = {**STEADY, "new.tflite": [1e-3]}
    project.test_file(
        """
        MODEL = "sparse.tflite"

        def test_latency(race, baseline):
            assert race(baseline.model(MODEL), MODEL).speedup >= 0.9
        """
    )
    project.run().stdout.fnmatch_lines(["E*NoBaseline: no baseline for 'model'; record it with: *"])
    (name,) = [project.recorded_name("sparse.tflite")]
    project.script["seconds"][name] = STEADY["sparse.tflite"]
    result = project.run(UPDATE)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"recorded: *::model = {name} (* bytes)"])
    project.run().assert_outcomes(passed=1)
    slower(project, 1.3)
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E       assert speedup >= 0.9 is refuted"])


def test_a_model_beyond_the_limit_names_git_lfs_and_the_setting(project: Project) -> None:
    project.test_file(
        """
        def test_latency(baseline):
            baseline.model("sparse.tflite")
        """
    )
    result = project.run(UPDATE, "-o", "sparsity_baseline_model_limit=0.001")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E*sparse.tflite has * MB, and sparsity_baseline_model_limit allows 0.001 MB *LFS*"]
    )


# --- damage, xdist, unused, merges -----------------------------------------------------------


def test_a_damaged_file_fails_its_tests_and_names_the_place(project: Project) -> None:
    project.test_file(NBYTES.format(nbytes=100))
    (project.path / "baselines").mkdir()
    file = project.path / "baselines/test_claims.json"
    file.write_text('{"test_size::nbytes": {"value": "x"}, "schema": 1}')
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            (
                "E       pytest_sparsity.*BaselineError: baselines/test_claims.json is damaged at "
                '$[[]"test_size::nbytes"[]].value: expected a number above 0, found "x"'
            ),
            "",
            "test_claims.py:4: BaselineError",
        ],
        consecutive=True,
    )


TWO = """
    import pytest

    def test_kept(baseline):
        assert 1 <= baseline("n")

    @pytest.mark.parametrize("p", ["a", "b"])
    def test_gone(baseline, p):
        assert 1 <= baseline("n")
"""


def unused(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if line.startswith("unused baseline")]


def test_unused_entries_are_listed_and_subsets_list_none_wrongly(project: Project) -> None:
    project.test_file(TWO)
    project.test_file(NBYTES.format(nbytes=1), name="test_other")
    project.run(UPDATE)
    assert unused(project.run()) == []
    for subset in (
        ["-k", "kept"],
        ["test_claims.py::test_kept"],
        ["test_claims.py::test_gone[a]"],
        ["test_other.py"],
        ["--deselect", "test_claims.py::test_gone"],
        ["--sparsity-target", "litert"],
        ["--collect-only"],
    ):
        assert unused(project.run(*subset)) == [], subset
    project.test_file(TWO.replace("test_gone", "test_renamed").replace('"a", ', ""))
    result = project.run()
    result.assert_outcomes(passed=2, failed=1)
    assert unused(result) == [
        f"unused baseline: baselines/test_claims.json  test_gone[{p}] "
        "(no such test; delete its lines)"
        for p in "ab"
    ]
    result.stdout.fnmatch_lines(["E*NoBaseline: no baseline for 'n'; *test_renamed*"])
    result.stdout.fnmatch_lines(["baselines: 2 hold; unused baselines: 2"])
    assert len(unused(project.run("-k", "kept"))) == 2
    assert len(unused(project.run("test_claims.py::test_kept"))) == 2
    assert unused(project.run("test_other.py")) == []
    (project.path / "test_other.py").unlink()
    assert unused(project.run())[-1].startswith(
        "unused baseline: baselines/test_other.json  test_size (no such test"
    )


def test_a_parameter_that_is_gone_is_unused_in_a_whole_run_only(project: Project) -> None:
    project.test_file(TWO)
    project.run(UPDATE)
    project.test_file(TWO.replace('"a", ', ""))
    assert len(unused(project.run())) == 1
    assert unused(project.run("test_claims.py::test_kept")) == []


def test_last_failed_lists_none_wrongly(project: Project) -> None:
    project.test_file(TWO + "\n        assert FINE\n    FINE = True\n")
    project.run(UPDATE)
    text = (project.path / "test_claims.py").read_text().replace("FINE = True", "FINE = False")
    (project.path / "test_claims.py").write_text(text)
    first = project.pytester.runpytest()
    first.assert_outcomes(passed=1, failed=2)
    again = project.pytester.runpytest("--lf")
    again.assert_outcomes(failed=2)
    assert unused(again) == []


def test_unused_entries_under_xdist(project: Project) -> None:
    project.test_file(TWO)
    project.run(UPDATE)
    project.test_file(TWO.replace("test_gone", "test_renamed"))
    assert len(unused(project.run_apart("-n2"))) == 2


def test_a_value_that_moved_is_shown_under_xdist(project: Project) -> None:
    project.test_file(NBYTES.format(nbytes=100))
    project.run(UPDATE)
    project.test_file(NBYTES.format(nbytes=90))
    result = project.run_apart("-n2")
    result.stdout.fnmatch_lines(
        ["moved: test_claims.py::test_size  nbytes 100 -> 90 (-10 %)", "baselines: 1 holds"]
    )


def git(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, cwd=project.path, capture_output=True, text=True, check=True)


def sized(*tests: tuple[str, int]) -> str:
    return "\n".join(
        f"def test_{name}(baseline):\n    assert {nbytes} <= baseline('nbytes')\n"
        for name, nbytes in tests
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        # Each changes a test of its own, next to each other in the file.
        ((("a", 2), ("b", 1), ("c", 1)), (("a", 1), ("b", 2), ("c", 1))),
        # Each adds a test at the same place.
        ((("a", 1), ("b", 1), ("ba", 3), ("c", 1)), (("a", 1), ("b", 1), ("bb", 3), ("c", 1))),
        # Each adds a test at the end, with the same value.
        ((("a", 1), ("b", 1), ("c", 1), ("x", 3)), (("a", 1), ("b", 1), ("c", 1), ("y", 3))),
        # One adds a test before one that the other changes.
        ((("a", 1), ("aa", 5), ("b", 1), ("c", 1)), (("a", 1), ("b", 7), ("c", 1))),
    ],
)
def test_branches_that_touch_different_tests_merge(
    project: Project, ours: tuple[tuple[str, int], ...], theirs: tuple[tuple[str, int], ...]
) -> None:
    base = (("a", 1), ("b", 1), ("c", 1))
    git(project, "init", "-q", "-b", "main")

    def commit(*tests: tuple[str, int]) -> None:
        (project.path / "test_claims.py").write_text(sized(*tests))
        project.run(UPDATE).assert_outcomes(passed=len(tests))
        git(project, "add", "baselines")
        git(project, "commit", "-qm", "record")

    commit(*base)
    git(project, "checkout", "-qb", "theirs")
    commit(*theirs)
    git(project, "checkout", "-q", "main")
    commit(*ours)
    git(project, "merge", "-q", "theirs", "-m", "merge")
    merged = {**dict(base), **{t: n for t, n in ours if (t, n) not in base}}
    merged |= {test: nbytes for test, nbytes in theirs if (test, nbytes) not in base}
    kept = project.read("baselines/test_claims.json")
    assert kept == {**{f"test_{t}::nbytes": n for t, n in merged.items()}, "schema": 1}


def test_branches_that_record_one_value_differently_are_told(project: Project) -> None:
    git(project, "init", "-q", "-b", "main")

    def commit(nbytes: int) -> None:
        (project.path / "test_claims.py").write_text(sized(("a", nbytes)))
        project.run(UPDATE)
        git(project, "add", "baselines")
        git(project, "commit", "-qm", "record")

    commit(1)
    git(project, "checkout", "-qb", "theirs")
    commit(2)
    git(project, "checkout", "-q", "main")
    commit(3)
    git(project, "merge", "-q", "theirs", "-m", "merge")
    project.run().stdout.fnmatch_lines(
        [
            (
                "E*BaselineError: baselines/test_claims.json is damaged at "
                '$[[]"test_a::nbytes"[]]: '
                "recorded twice, as happens when branches are merged; keep one of the two lines"
            )
        ]
    )


def test_a_ratio_that_is_too_uncertain_for_its_tolerance_is_not_recorded(project: Project) -> None:
    project.script["seconds"]["sparse.tflite"] = [1e-3, 1.1e-3, 1.05e-3]
    project.test_file(
        """
        import pytest

        @pytest.mark.parametrize("within", [None, 0.9])
        def test_ratio(race, baseline, within):
            speedup = race("dense.tflite", "sparse.tflite").speedup
            assert speedup >= baseline("speedup", within=within)
        """
    )
    result = project.run("--sparsity-update")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*'speedup' is not recorded: the interval of * more than the tolerance of 5 %*"]
    )
    (file,) = (project.path / "baselines").glob("*/test_claims.json")
    assert "test_ratio[0.9]::speedup" in file.read_text()
    assert "test_ratio[None]" not in file.read_text()
