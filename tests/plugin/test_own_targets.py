"""Targets that a `conftest.py` adds: the documented example as it stands, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pytest_sparsity.targets import Native, Runtime, Target, all_targets, register, unregister

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "own-target"
DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def example(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with the example's files and two models."""
    missing = Target.of("litert").missing()
    if missing is not None:
        pytest.skip(str(missing))
    for file in EXAMPLE.glob("*.py"):
        if not file.name.startswith("test_"):
            shutil.copy(file, pytester.path)
    for kind in ("dense", "sparse"):
        shutil.copy(DATA / f"cnn_{kind}.tflite", pytester.path / f"{kind}.tflite")
    return pytester


def test_the_example_is_short() -> None:
    lines = (EXAMPLE / "conftest.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 30


def test_the_example_runs_and_observation_decides(example: pytest.Pytester) -> None:
    example.makepyfile(
        test_claims="""
        from pytest_sparsity import Target

        def test_diagnosis(diagnose):
            seen = diagnose("sparse.tflite", target="litert-plain")
            assert (seen.verdict, seen.evidence, seen.outputs_match) == ("dense", "observed", True)
            assert "no-rules" in [finding.code for finding in seen.findings]

        def test_times():
            with Target.of("litert-plain").open() as worker:
                worker.load("dense", "dense.tflite")
                assert min(worker.run([("dense", 1), ("dense", 9)]).cpu_ns) > 0

        def test_a_failure_is_explained(diagnose):
            assert diagnose("sparse.tflite", target="litert-plain").verdict == "sparse"
        """
    )
    result = example.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*sparse.tflite on litert-plain runs no sparse kernel: no rules*"])


def test_rules_alone_cannot_answer(example: pytest.Pytester) -> None:
    example.makepyfile(
        test_claims="""
        def test_diagnosis(diagnose):
            diagnose("sparse.tflite", target="litert-plain", observe=False)
        """
    )
    result = example.runpytest_subprocess("-rs", "-p", "no:cacheprovider")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["*no rules of sparse inference are known for litert-plain: let the model run*"]
    )


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            "[Target.of('litert')]",
            "pytest_sparsity_targets: there already is a target called 'litert'",
        ),
        ("['litert']", "pytest_sparsity_targets: 'litert' is not a Target"),
        ("None", None),
    ],
)
def test_what_the_hook_may_return(pytester: pytest.Pytester, made: str, said: str | None) -> None:
    pytester.makeconftest(
        f"from pytest_sparsity import Target\ndef pytest_sparsity_targets(config): return {made}\n"
    )
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest("-p", "no:cacheprovider")
    if said is None:
        result.assert_outcomes(passed=1)
    else:
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*{said}*"])


def test_a_run_leaves_no_target_behind(pytester: pytest.Pytester) -> None:
    before = all_targets()
    pytester.makeconftest(
        "from pytest_sparsity import Native, Runtime, Target\n"
        "def pytest_sparsity_targets(config):\n"
        "    return [Target('own', Runtime('own', module='own'), Native())]\n"
    )
    model = str(DATA / "cnn_dense.tflite")
    pytester.makepyfile(f"def test_there(race): race({model!r}, {model!r})")
    result = pytester.runpytest("-p", "no:cacheprovider", "--sparsity-target=own", "-rs")
    result.stdout.fnmatch_lines(["*own is not installed: install own*"])
    assert all_targets() == before


def test_all_or_none_are_registered() -> None:
    before = all_targets()
    one, two = (Target(name, Runtime("own", module="own"), Native()) for name in ("one", "two"))
    with pytest.raises(ValueError, match="already is a target called 'one'"):
        register([one, two, one])
    assert all_targets() == before
    added = register([one, two])
    assert Target.of("two") is two
    unregister(added)
    assert all_targets() == before
