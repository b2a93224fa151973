"""A board behind OpenSSH's own server: claims from end to end, and every fault of the line."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from claims.tutorial import Session, told
from hosts import Host, descendants, missing, reached
from killing import until
from pytest_sparsity import CannotMeasure, Model, Target, Unsupported
from pytest_sparsity.machine import this_machine
from pytest_sparsity.targets import Worker
from pytest_sparsity.targets.places import ssh
from pytest_sparsity.writer import Network

ROOT = Path(__file__).parents[2]
RUNTIMES = ("litert", "tflite-runtime")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    lacking = missing()
    if lacking is not None:
        raise lacking
    with closing(Host(tmp_path_factory.mktemp("host"))) as made:
        yield made


@pytest.fixture(autouse=True)
def reachable(host: Host) -> Iterator[None]:
    host.write_client()
    with reached(host, sys.executable):
        yield


def on(destination: str, runtime: str = "litert") -> Target:
    missing = Target.of(runtime).missing()
    if missing is not None:
        raise missing
    return Target.of(f"{runtime}@ssh:{destination}")


# ---------------------------------------------------------------------------- from end to end


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_claims_of_the_tutorial_twice(
    runtime: str, host: Host, pytester: pytest.Pytester
) -> None:
    target = on("board", runtime)
    findings = {"litert": ["x86-avx"], "tflite-runtime": ["no-sparse-build"]}
    if this_machine().arch != "x86_64":
        pytest.skip("what is claimed is true of x86 with AVX")
    session = Session.of(pytester, target, host, sys.executable, "dense", findings[runtime])
    session.record()
    first, second = session.verdicts(), session.verdicts()
    assert first == second
    assert len(first) == 5
    assert [name for name, outcome in first.items() if outcome == "FAILED"] == [
        "test_it_is_three_times_as_fast"
    ]
    assert until(lambda: not host.workers(), 20), "no process stays there"


def test_outputs_are_equal_to_the_bit(host: Host) -> None:
    x = np.random.default_rng(0).random((1, 12, 12, 3), np.float32)
    answers = []
    for target in (on("board"), Target.of("litert")):
        with target.open() as worker:
            worker.load("a", ROOT / "tests" / "data" / "cnn_sparse.tflite")
            worker.set_inputs("a", [x])
            answers.append(worker.outputs("a")[0])
    assert np.array_equal(answers[0], answers[1])


def test_a_hundred_megabytes_go_once(host: Host, tmp_path: Path) -> None:
    net = Network((1, 5000))
    weights = np.random.default_rng(0).standard_normal((5000, 5000), np.float32)
    net.output(net.fully_connected(net.input, weights))
    model = Model(net.write(tmp_path / "large.tflite"))
    assert model.nbytes > 100_000_000
    stored = host.cache / f"{model.sha256}.tflite"
    seconds, states = [], []
    for _ in range(2):
        with on("board").open() as worker:
            begun = time.monotonic()
            worker.load("a", model)
            seconds.append(time.monotonic() - begun)
            states.append((stored.stat().st_ino, stored.stat().st_size))
    told(f"100 MB: first {seconds[0]:.1f} s, then {seconds[1]:.1f} s")
    assert states[0] == states[1]
    assert states[0][1] == model.nbytes


def test_two_names_of_one_machine_take_turns(host: Host) -> None:
    board, second = on("board"), on("second")
    assert board.turns == second.turns


# ------------------------------------------------------------------------------------- faults


def refused(host: Host, destination: str, python: str = sys.executable) -> str:
    """Return what is said of a host that cannot be worked with; nothing was left there."""
    before = host.kept()
    ssh.configure(ssh.Settings.of([python], ["-F", str(host.config)]))
    begun = time.monotonic()
    with pytest.raises(Unsupported) as caught:
        on(destination).open().close()
    told(f"{time.monotonic() - begun:.1f} s: {caught.value}")
    assert host.kept() == before
    assert until(lambda: not host.workers(), 5)
    return str(caught.value)


def test_an_unknown_key(host: Host) -> None:
    host.write_client(known="")
    said = refused(host, "board")
    assert said == "ssh does not know the key of board: look at it once: ssh board"


def test_a_changed_key(host: Host) -> None:
    host.write_client(known="other")
    assert refused(host, "board").startswith("board has another key than ssh has kept for it: ")


def test_a_key_that_is_not_accepted(host: Host) -> None:
    said = refused(host, "stranger")
    assert said == "stranger accepts none of your keys: ssh-copy-id stranger"


def test_nobody_listens(host: Host) -> None:
    assert refused(host, "closed").startswith("no ssh server listens on closed: ")


def test_no_such_name(host: Host) -> None:
    assert refused(host, "nowhere").startswith("there is no host nowhere: ")


def test_no_python(host: Host) -> None:
    said = refused(host, "board", "python9")
    assert said == (
        "board has no python9: install Python 3.9 or later there, or name it: "
        "sparsity_ssh_python = board=PATH"
    )


def test_no_runtime(host: Host, tmp_path: Path) -> None:
    """A Python that finds nothing but the standard library."""
    bare = tmp_path / "python-bare"
    bare.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        f"os.environ.update(PYTHONHOME={sys.base_prefix!r})\n"
        f"os.execv({os.path.realpath(sys.executable)!r}, ['python', '-S', *sys.argv[1:]])\n"
    )
    bare.chmod(0o755)
    said = refused(host, "board", str(bare))
    assert said.endswith(f": ssh board {bare} -m pip install ai-edge-litert"), said
    assert said.startswith("litert is not installed on board (ModuleNotFoundError: ")


@pytest.fixture
def wired(host: Host) -> Iterator[tuple[Worker, int, list[int]]]:
    """A worker, the id of the process that carries its line, and those of its processes there."""
    with on("wired").open() as worker:
        worker.load("a", ROOT / "tests" / "data" / "cnn_dense.tflite")
        yield worker, int(host.pids.read_text()), host.workers()


def cut(worker: Worker) -> str:
    begun = time.monotonic()
    with pytest.raises(CannotMeasure) as caught:
        worker.run([("a", 1)])
    told(f"{time.monotonic() - begun:.1f} s: {caught.value}")
    assert worker.ended
    return str(caught.value)


def test_a_cut_line(wired: tuple[Worker, int, list[int]], host: Host) -> None:
    worker, wire, there = wired
    assert there
    os.kill(wire, signal.SIGKILL)
    assert "the line to wired was cut (" in cut(worker)
    assert until(lambda: not host.workers(), 10)


@pytest.mark.slow  # ssh gives up after 15 s
def test_a_black_hole(
    host: Host, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(ssh, "SILENCE", 30.0)
    worker, wire, there = request.getfixturevalue("wired")
    assert there
    os.kill(wire, signal.SIGSTOP)
    said = cut(worker)
    assert "the line to wired was cut (Timeout, server 127.0.0.1 not responding)" in said
    # ssh has ended its side; the stopped wire keeps the server's side open.
    begun = time.monotonic()
    assert until(lambda: not host.workers(), 40)
    told(f"the worker ended by itself {time.monotonic() - begun:.1f} s after")
    os.kill(wire, signal.SIGKILL)


def test_the_servers_session_is_killed(wired: tuple[Worker, int, list[int]], host: Host) -> None:
    worker, _, there = wired
    sessions = [pid for pid in host.processes("sshd") if there[0] in descendants(pid)]
    os.kill(sessions[-1], signal.SIGKILL)
    assert "the line to wired was cut" in cut(worker)
    assert until(lambda: not host.workers(), 10)


def test_the_worker_there_is_killed(wired: tuple[Worker, int, list[int]], host: Host) -> None:
    """As when its memory is full: that is the model's."""
    worker, _, there = wired
    os.kill(there[0], signal.SIGKILL)
    with pytest.raises(Exception, match="crashed with SIGKILL when running cnn_dense"):
        worker.run([("a", 1)])
    assert until(lambda: not host.workers(), 10)


def test_we_are_killed(wired: tuple[Worker, int, list[int]], host: Host) -> None:
    worker, _, there = wired
    assert there
    os.kill(worker.pid, signal.SIGKILL)
    assert until(lambda: not host.workers(), 10)


def test_a_full_disk(host: Host, tmp_path: Path) -> None:
    """A file system of 1 MB, where this user may make one; a limit of files' sizes is quick."""
    net = Network((1, 1000))
    net.output(net.fully_connected(net.input, np.ones((1000, 1000), np.float32)))
    model = Model(net.write(tmp_path / "four_megabytes.tflite"))
    python = tmp_path / "python-limited"
    python.write_text(f'#!/bin/sh\nulimit -f 2000\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    ssh.configure(ssh.Settings.of([str(python)], ["-F", str(host.config)]))
    with on("board").open() as worker:
        with pytest.raises(CannotMeasure) as caught:
            worker.load("a", model)
        assert str(caught.value).endswith(
            f"four_megabytes.tflite cannot be stored on board: File too large in {host.cache}: "
            "free some space there, or set XDG_CACHE_HOME there"
        )
        assert not [name for name in host.kept() if name.endswith(".part")]
        worker.load("a", ROOT / "tests" / "data" / "cnn_dense.tflite")
        assert worker.outputs("a")
