"""Disks that are full, names that are odd, pipes that are closed: one sentence each."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from pytest_sparsity import store
from pytest_sparsity.errors import CannotMeasure, ModelError
from pytest_sparsity.model import Model
from pytest_sparsity.targets import Target
from pytest_sparsity.writer import Network

DATA = Path(__file__).parent / "data"
SPARSE = DATA / "cnn_sparse.tflite"
# Bytes that a file may have at most: to whoever writes more it is as if the disk were full.
ROOM = 100_000
needs_litert = pytest.mark.skipif(not find_spec("ai_edge_litert"), reason="no ai_edge_litert")


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))


def run(
    *arguments: object, environment: Mapping[str, str] = os.environ, full: bool = False
) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "pytest_sparsity", *map(str, arguments)]
    done = subprocess.run(
        command,
        env={**environment},
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
        preexec_fn=limited if full else None,
    )
    return done.returncode, done.stdout, done.stderr


def big(path: Path) -> Path:
    net = Network((1, 200, 200, 1))
    net.output(net.add(net.input, net.constant(np.ones((1, 200, 200, 1), np.float32))))
    return net.write(path)


def test_no_room_for_a_file_that_is_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "out.tflite"
    out.write_text("old")
    status, said, why = run("densify", big(tmp_path / "big.tflite"), "-o", out, full=True)
    assert (status, said) == (2, "")
    assert why == f"pytest-sparsity: {out}: File too large\n"
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.tflite", "out.tflite"]


@needs_litert
def test_no_room_for_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(big(tmp_path / "big.tflite"))
    with Target.of("litert").open() as worker:
        worker.load("a", model)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
        try:
            with pytest.raises(CannotMeasure) as caught:
                worker.set_inputs("a", [np.zeros((1, 200, 200, 1), np.float32)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "the inputs of big.tflite cannot be written to " in str(caught.value)
    assert "File too large; free some space, or set TMPDIR to a folder" in str(caught.value)


def test_no_room_names_the_file_and_not_its_part(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            store.replace(tmp_path / "a.json", bytes(2 * ROOM))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path / "a.json")


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


@pytest.mark.parametrize("name", [b"n\xff\xe9.tflite", "ünï.tflite".encode(), b"a\nb.tflite"])
@pytest.mark.parametrize("locale", [{}, ASCII])
def test_every_name_can_be_read_and_printed(
    name: bytes, locale: Mapping[str, str], tmp_path: Path
) -> None:
    path = tmp_path / os.fsdecode(name)
    shutil.copyfile(SPARSE, path)
    environment = {**os.environ, **locale}
    out = path.with_name(f"out-{path.name}")
    status, said, why = run("densify", path, "-o", out, environment=environment)
    assert (status, why) == (0, "")
    assert "15,332 bytes" in said
    assert Model(out).nbytes > Model(path).nbytes


@needs_litert
def test_a_runtime_is_not_given_a_name_that_it_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"n\xff.tflite")
    shutil.copyfile(SPARSE, path)
    with Target.of("litert").open() as worker:
        with pytest.raises(ModelError, match=r"whose path is not UTF-8: rename it, or the folder"):
            worker.load("a", Model(path))
        worker.load("b", SPARSE)
    status, said, why = run("race", SPARSE, path, "--target", "litert")
    assert (status, said, why.count("\n")) == (2, "", 1)
    assert "n\\udcff.tflite: runtimes read no file whose path is not UTF-8" in why


@pytest.mark.parametrize(
    ("redirection", "status", "says"),
    [
        (">&-", 2, "pytest-sparsity: standard output is closed: there is nowhere to print to"),
        (">/dev/full", 2, "pytest-sparsity: No space left on device"),
        ("| true", 0, ""),
    ],
)
def test_nowhere_to_print_to(redirection: str, status: int, says: str) -> None:
    script = f"'{sys.executable}' -m pytest_sparsity targets {redirection}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, check=False
    )
    # As root Chromium, where there is one, runs without its sandbox, which is told.
    told = [line for line in done.stderr.splitlines() if "sandbox" not in line]
    assert (done.returncode, "\n".join(told)) == (status, says)
