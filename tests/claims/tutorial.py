"""The tutorial's network and five claims about it, run by a session of their own."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from hosts import Host
from pytest_sparsity import Target
from pytest_sparsity.machine import key

_EXAMPLES = Path(__file__).parents[2] / "docs" / "_ext" / "examples.py"
CLAIMS = """
from pytest_sparsity import Model

def test_the_file_is_smaller(race):
    assert Model("sparse.tflite").nbytes < Model("dense.tflite").nbytes

def test_the_kernels_are_those_of_the_boards_cpu(diagnose):
    seen = diagnose("sparse.tflite")
    assert (seen.verdict, seen.evidence, seen.outputs_match) == (VERDICT, "observed", True)
    assert [finding.code for finding in seen.findings] == FINDINGS

def test_it_is_not_slower_than_half(race):
    assert race("dense.tflite", "sparse.tflite").speedup >= 0.5

def test_it_is_three_times_as_fast(race):
    assert race("dense.tflite", "sparse.tflite").speedup >= 3

def test_it_is_as_it_was(race, baseline):
    assert race("dense.tflite", "sparse.tflite").speedup >= baseline("speedup", within=WITHIN)
"""


def told(figure: str) -> None:
    """Say what was seen, which is asserted nowhere; `-s` shows it."""
    sys.stderr.write(f"{figure}\n")


@dataclass(frozen=True)
class Session:
    """A project with the claims, whose host is reached as `board`.

    Attributes:
        pytester: whose folder it is in.
        target: that they are about.
    """

    pytester: pytest.Pytester
    target: Target

    @classmethod
    def of(
        cls,
        pytester: pytest.Pytester,
        target: Target,
        host: Host,
        python: str,
        verdict: str,
        findings: Sequence[str],
        within: float = 0.2,
    ) -> Session:
        """Write the project, with what its claims are to find, and by how much speed may differ."""
        runpy.run_path(str(_EXAMPLES))["write"](pytester.path)
        claims = CLAIMS
        figures = {"VERDICT": verdict, "FINDINGS": [*findings], "WITHIN": within}
        for name, value in figures.items():
            claims = claims.replace(name, repr(value))
        pytester.makepyfile(claims)
        pytester.makeini(
            f"[pytest]\nsparsity_ssh_python = board={python}\n"
            f"sparsity_ssh_options = -F {host.config}\n"
        )
        return cls(pytester, target)

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run it."""
        options = ("-p", "no:randomly", "-p", "no:cacheprovider", "--sparsity-budget=60", "-rA")
        flag = f"--sparsity-target={self.target}"
        return self.pytester.runpytest_subprocess(*options, flag, *arguments)

    def record(self) -> str:
        """Record the baseline; return its folder's name, the key of the board's kind of machine."""
        self.run("--sparsity-update", "-k", "as_it").assert_outcomes(passed=1)
        machine = self.target.machine
        assert machine is not None
        name = key(machine, self.target.runtime, self.target.version())
        recorded = (self.pytester.path / "baselines").glob("*/*.json")
        assert {path.parent.name for path in recorded} == {name}
        return name

    def verdicts(self) -> dict[str, str]:
        """Run all claims, and return what was said of each."""
        said = self.run().stdout.str()
        found = re.findall(r"^(PASSED|FAILED) \S+::(\w+)", said, re.MULTILINE)
        return {name: outcome for outcome, name in found}
