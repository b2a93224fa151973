"""Claims on places that this machine does not have: one line each, with what helps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_sparsity.targets.places import adb, ssh

DATA = Path(__file__).parents[1] / "data"
LINES = {
    "litert@ssh:pi": "ssh is not installed: install it, e.g. apt-get install openssh-client",
    "benchmark_model@adb": "adb is not installed: install it, e.g. apt-get install adb",
}


def test_a_machine_without_any_of_them(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    model = str(DATA / "cnn_dense.tflite")
    claims = "".join(
        f"@pytest.mark.race(target={name!r})\n"
        f"def test_{number}(race):\n    assert race({model!r}, {model!r}).speedup > 0.5\n"
        for number, name in enumerate(LINES)
    )
    pytester.makepyfile(f"import pytest\n{claims}")
    result = pytester.runpytest("-p", "no:cacheprovider", "-p", "no:randomly", "-rs")
    result.assert_outcomes(skipped=len(LINES))
    said = [line for line in result.stdout.lines if line.startswith("SKIPPED")]
    assert len(said) == len(LINES)
    for line in LINES.values():
        assert any(each.endswith(line) for each in said)


def test_settings_end_with_the_run(pytester: pytest.Pytester) -> None:
    tool = pytester.path / "tool"
    tool.touch()
    pytester.makeini(
        "[pytest]\nsparsity_ssh_python = pi=/opt/python3\nsparsity_ssh_options = -p 2222\n"
        f"sparsity_benchmark_model = {tool}\nsparsity_adb_mask = f0\n"
    )
    pytester.makepyfile(
        f"""
        from pytest_sparsity.targets.places import adb, ssh

        def test_settings():
            assert ssh._settings == ssh.Settings(("-p", "2222"), (("pi", "/opt/python3"),))
            assert adb._settings == adb.Settings({str(tool)!r}, "f0")
        """
    )
    pytester.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=1)
    assert ssh._settings is None
    assert adb._settings == adb.Settings()
    assert os.environ.get(adb.MASK) is None
