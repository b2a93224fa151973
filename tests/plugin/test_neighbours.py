"""Together with pytest-benchmark, with xdist, and with nobody: what starts, and what it imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plugin.conftest import RACE

if TYPE_CHECKING:
    from plugin.conftest import Project

SCHEMA = Path(__file__).parent.parent.parent / "docs/reference/report.schema.json"
CLAIM = "assert race('dense.tflite', 'sparse.tflite').speedup >= 1.5"


def rows(project: Project, *arguments: str) -> list[dict[str, Any]]:
    """Return what pytest-benchmark writes."""
    path = project.path / "benchmark.json"
    path.unlink(missing_ok=True)
    project.run("-W", "error", f"--benchmark-json={path}", *arguments)
    if not path.exists() or not path.read_text():
        return []
    found: list[dict[str, Any]] = json.loads(path.read_text())["benchmarks"]
    return found


def test_pytest_benchmark_has_the_samples_to_the_last_digit(project: Project) -> None:
    project.test_file(
        """
        def test_claim(race, request):
            result = race("dense.tflite", "sparse.tflite")
            first = len(result.samples[1])
            assert result.speedup >= 1.9
            assert len(result.samples[1]) > first
            with open("samples.json", "w") as file:
                file.write(str(list(result.samples[1])))
        """
    )
    (row,) = rows(project)
    assert row["stats"]["data"] == project.read("samples.json")
    assert row["name"] == "test_claim"
    assert row["options"]["timer"] == "pytest_sparsity.replay"
    kept = row["extra_info"]["sparsity"]
    assert kept["target"] == "litert"
    assert kept["ratio"]["value"] == pytest.approx(2, abs=0.05)
    assert kept["claims"][0]["verdict"] == "holds"
    schema = json.loads(SCHEMA.read_text())["$defs"]["race"]
    assert set(kept) == set(schema["properties"]), "the same as in the report, and documented"


def test_pytest_benchmark_is_left_alone_unless_it_is_asked_for_something(project: Project) -> None:
    project.test_file()
    result = project.run("-W", "error")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*benchmark: 1 tests*")


def test_the_user_s_own_benchmark_options_and_use_stay(project: Project) -> None:
    project.test_file(
        f"""
        import pytest

        @pytest.mark.benchmark(group="mine")
        def test_grouped(race):
            {CLAIM}

        def test_own(race, benchmark):
            {CLAIM}
            assert benchmark(lambda: 5) == 5

        def test_without_a_race(race):
            pass

        def test_only_theirs(benchmark):
            benchmark(lambda: 5)
        """
    )
    found = {row["name"]: row for row in rows(project, "--benchmark-max-time=0.01")}
    assert sorted(found) == ["test_grouped", "test_only_theirs", "test_own"]
    assert found["test_grouped"]["group"] == "mine"
    assert found["test_own"]["options"]["timer"] != "pytest_sparsity.replay"
    assert "sparsity" not in found["test_own"]["extra_info"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("-p", "no:benchmark"),
        ("--benchmark-disable",),
        ("--benchmark-skip",),
        ("--benchmark-only",),
        ("--codspeed-like",),
    ],
)
def test_without_pytest_benchmark_nothing_changes(
    project: Project, arguments: tuple[str, ...]
) -> None:
    if arguments == ("--codspeed-like",):
        text = (project.path / "conftest.py").read_text()
        (project.path / "conftest.py").write_text(
            text + "\n\n@pytest.fixture\ndef benchmark():\n    return lambda f: f()\n"
        )
        arguments = ()
    project.test_file()
    result = project.run("-W", "error", *arguments)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["races: 1 holds"])


def test_it_runs_where_pytest_benchmark_is_not_installed(project: Project) -> None:
    project.test_file()
    project._write()
    script = (
        "import sys; sys.modules['pytest_benchmark'] = None; import pytest;"
        "sys.exit(pytest.main(['-p', 'pytest_sparsity.plugin']))"
    )
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project.path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert "races: 1 holds" in done.stdout


def test_an_undecided_race_without_samples_warns_of_nothing(project: Project) -> None:
    project.test_file()
    result = project.run("-W", "error", "--sparsity-budget=1e-9")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E*Inconclusive: *an interval takes 3 processes, and the budget has room for none*"]
    )
    result.stdout.fnmatch_lines(["unknown  >= 1.5  inconclusive  litert  *"])


def test_one_process_named_by_xdist_is_like_none(project: Project) -> None:
    project.test_file()
    project.run_apart("-n0").assert_outcomes(passed=1)


HEAVY = ("numpy", "scipy", "hypothesis", "tensorflow", "jinja2", "tflite", "pytest_sparsity.racing")


def test_importing_the_plugin_loads_nothing_heavy() -> None:
    script = (
        "import sys, pytest_sparsity.plugin;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert outcome.stdout == "[]\n"


def test_the_public_names_are_there_and_light() -> None:
    script = (
        "import sys, pytest_sparsity;"
        "found = [getattr(pytest_sparsity, name) for name in pytest_sparsity.__all__];"
        "assert set(pytest_sparsity.__all__) <= set(dir(pytest_sparsity));"
        f"print([name for name in {HEAVY[:-1]!r} if name in sys.modules])"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert outcome.stdout == "[]\n"


def test_what_is_not_public_is_not_there() -> None:
    import pytest_sparsity

    with pytest.raises(AttributeError, match="module 'pytest_sparsity' has no attribute 'rase'"):
        _ = pytest_sparsity.rase  # type: ignore[attr-defined]


def test_a_run_that_uses_nothing_loads_nothing(project: Project) -> None:
    project.pytester.makeconftest("")
    project.test_file(
        f"""
        import sys

        def test_nothing():
            loaded = [name for name in {HEAVY!r} if name in sys.modules]
            assert loaded == []
        """
    )
    project.run_apart("-p", "no:hypothesispytest").assert_outcomes(passed=1)
    assert RACE
