"""What takes long in a test is shown behind pytest's line, on a terminal."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from terminals import PROCESS, on_a_terminal, steps

if TYPE_CHECKING:
    from plugin.conftest import Project

COMMAND = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider"]


@pytest.mark.parametrize("flags", [(), ("-v",), ("-s",)])
def test_a_test_on_a_terminal_tells_its_processes(project: Project, flags: tuple[str, ...]) -> None:
    project.test_file()
    project._write()
    written = on_a_terminal([*COMMAND, *flags], project.path)
    told = steps(written)
    assert any(re.fullmatch(PROCESS, text) for text in told)
    assert told[-1] == "", "nothing is left of it"
    assert "1 passed" in written


@pytest.mark.parametrize("flags", [("-q",), ("-n1",)])
def test_it_is_quiet_if_asked_to_be(project: Project, flags: tuple[str, ...]) -> None:
    project.test_file()
    project._write()
    assert steps(on_a_terminal([*COMMAND, *flags], project.path)) == []


def test_it_is_quiet_in_a_log(project: Project) -> None:
    project.test_file()
    project._write()
    done = subprocess.run(COMMAND, cwd=project.path, capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout + done.stderr
    assert "process" not in done.stdout
