"""Children die with their parent, whatever they do, and neither leaves files."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from killing import SIGNALS, leftovers, until
from pytest_sparsity import children

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills orphans")

BUSY = {
    "python": (sys.executable, "-I", "-S", "-c", "while True: pass"),
    "node": ("node", "-e", "for (;;);"),
    "qemu": ("qemu-x86_64", sys.executable, "-I", "-S", "-c", "while True: pass"),
}
PARENT = """
import subprocess, sys
from pytest_sparsity import children
children.scratch_file("data")
with children.scratch_folder("models"):
    subprocess.run(children.guarded(sys.argv[1:]))
"""


def busy(kind: str) -> tuple[str, ...]:
    program, *rest = BUSY[kind]
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return (found, *rest)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("kind", BUSY)
def test_a_child_that_computes_dies_with_its_parent(
    kind: str, number: signal.Signals, tmp_path: Path
) -> None:
    command = busy(kind)
    alive, files = leftovers(
        [sys.executable, "-c", PARENT, *command],
        tmp_path,
        number,
        lambda line: tuple(line[: len(command)]) == command,
    )
    assert (alive, files) == ([], [])


def test_a_child_whose_parent_is_gone_does_not_start(tmp_path: Path) -> None:
    _, *rest = children.guarded(("touch", str(tmp_path / "started")))
    rest[3] = "1"  # the process id of somebody else
    assert subprocess.run([sys.executable, *rest], check=False).returncode == 1
    assert not list(tmp_path.iterdir())


def test_a_program_that_is_not_there() -> None:
    done = subprocess.run(
        children.guarded(("/nowhere/program",)), capture_output=True, text=True, check=False
    )
    assert done.stderr == "/nowhere/program cannot be executed: No such file or directory\n"
    assert done.returncode == 1


@pytest.mark.parametrize(("limit", "status"), [(2**28, 1), (2**31, 0)])
def test_memory_is_limited(limit: int, status: int) -> None:
    program = "import sys\ntry: x = bytearray(2**29)\nexcept MemoryError: sys.exit(1)"
    command = children.guarded((sys.executable, "-I", "-S", "-c", program), limit)
    assert subprocess.run(command, check=False).returncode == status


def test_the_limit_of_a_child_that_runs_can_be_raised() -> None:
    program = "input()\nx = bytearray(2**29)\nprint(len(x))"
    command = children.guarded((sys.executable, "-I", "-S", "-c", program), 2**28)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert until(lambda: resource.prlimit(child.pid, resource.RLIMIT_DATA)[0] == 2**28)
        children.limit_memory(child.pid, 2**31)
        assert child.communicate(b"\n")[0] == b"536870912\n"


def test_a_child_leaves_no_core(tmp_path: Path) -> None:
    program = "import os, resource; print(*resource.getrlimit(resource.RLIMIT_CORE))"
    command = children.guarded((sys.executable, "-I", "-S", "-c", program))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.split() == [b"0", b"0"]


def test_what_a_killed_process_left_is_swept_by_the_next(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from pytest_sparsity import children\n"
        "with children.workspace(Path(sys.argv[1]), '.building-') as folder:\n"
        "    (folder / 'half').touch()\n"
        "    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert len(list(tmp_path.rglob("*"))) == 3, "the folder, its file, and the lock"
    with children.workspace(tmp_path, ".building-") as folder:
        assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [folder.name]
        assert not list(folder.iterdir())
        with children.workspace(tmp_path, ".building-") as other:
            assert other != folder
            assert folder.is_dir(), "that of a process that lives stays"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_became_something_else_stays(tmp_path: Path) -> None:
    with children.workspace(tmp_path, ".building-") as folder:
        folder.rename(tmp_path / "final")
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_files_of_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pytest-sparsity-theirs.lock").touch()
    (tmp_path / "pytest-sparsity-theirs").mkdir()
    (tmp_path / "pytest-sparsity-notes").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: -1)
        children.sweep(tmp_path, children.PREFIX)
    assert len(list(tmp_path.iterdir())) == 3
    children.sweep(tmp_path, children.PREFIX)
    assert [path.name for path in tmp_path.iterdir()] == ["pytest-sparsity-notes"]


def test_a_forked_process_removes_only_its_own_folder() -> None:
    program = (
        "import os, sys; from pytest_sparsity import children\n"
        "mine = children.scratch_file('data')\n"
        "if os.fork() == 0:\n"
        "    assert children.scratch_file('data').parent != mine.parent\n"
        "    sys.exit()\n"
        "os.wait(); print(mine.exists(), mine)"
    )
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TMPDIR": folder}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith("True ")
        assert not list(Path(folder).iterdir())
