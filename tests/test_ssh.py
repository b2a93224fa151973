"""Hosts that ssh reaches, with a stand-in for `ssh` that runs the remote command on this machine.

What OpenSSH itself does is in `claims/test_ssh.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from conformance import CASES, Case, Workers
from hosts import descendants
from killing import until
from pytest_sparsity.errors import CannotMeasure, Unsupported
from pytest_sparsity.machine import this_machine
from pytest_sparsity.model import Model
from pytest_sparsity.racing import conditions as judged
from pytest_sparsity.racing import start
from pytest_sparsity.targets import EndedError, LoadError, Runtime, Target, Worker
from pytest_sparsity.targets.places import remote, ssh
from pytest_sparsity.targets.places.ssh import agent, faults, relay
from pytest_sparsity.targets.places.ssh.relay import CODE
from pytest_sparsity.turns import _place_of, place, turn
from pytest_sparsity.writer import Network

DATA = Path(__file__).parent / "data"
STAND_IN = """#!/bin/sh
printf '%s\\n' "$@" > "{folder}/arguments"
test -f "{folder}/fault" && . "{folder}/fault"
for command; do :; done
export XDG_CACHE_HOME="{folder}/home" PYTEST_SPARSITY_SYSROOT="{folder}/sysroot"
exec sh -c "$command"
"""


class Board:
    """The stand-in: its folder, and what its `ssh` is told to do before the remote command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "home" / "pytest-sparsity" / "board"
        self.sysroot = folder / "sysroot"
        self.sysroot.mkdir(parents=True)
        (self.sysroot / "proc").symlink_to("/proc")
        processors = self.sysroot / "sys" / "devices" / "system" / "cpu" / "possible"
        processors.parent.mkdir(parents=True)
        processors.write_text("0-3\n")
        program = folder / "bin" / "ssh"
        program.parent.mkdir()
        program.write_text(STAND_IN.format(folder=folder))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def does(self, shell: str) -> None:
        (self.folder / "fault").write_text(shell)

    def kept(self) -> list[str]:
        return sorted(path.name for path in self.cache.rglob("*") if path.is_file())

    @property
    def models(self) -> list[str]:
        return [name for name in self.kept() if name.endswith(".tflite")]


@contextlib.contextmanager
def standing_in(folder: Path, patches: pytest.MonkeyPatch) -> Iterator[Board]:
    board = Board(folder)
    patches.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    ssh.configure(ssh.Settings.of([sys.executable]))
    yield board
    ssh.configure(None)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    with standing_in(tmp_path / "board", monkeypatch) as made:
        yield made


@pytest.fixture
def target(board: Board) -> Target:
    missing = Target.of("litert").missing()
    if missing is not None:
        pytest.skip(str(missing))
    return Target.of("litert@ssh:board")


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "SILENCE", 0.8)


def lacks(act: Callable[[], object]) -> Unsupported:
    with pytest.raises(Unsupported) as caught:
        act()
    assert "\n" not in str(caught.value), "one sentence"
    return caught.value


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def processes(worker: Worker) -> list[int]:
    """The ids of the processes of a worker, its relay left out."""
    return descendants(worker.pid)


# -------------------------------------------------------------------------------------- it works


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    folder = tmp_path_factory.mktemp("conformance") / "board"
    with (
        pytest.MonkeyPatch.context() as patches,
        standing_in(folder, patches),
        contextlib.closing(Workers()) as opened,
    ):
        yield opened


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_conformance(case: Case, workers: Workers, tmp_path: Path) -> None:
    missing = Target.of("litert").missing()
    if missing is not None:
        pytest.skip(str(missing))
    case(workers.on("litert@ssh:board"), tmp_path)


def test_it_answers_like_the_runtime_here(target: Target) -> None:
    x = np.random.default_rng(0).random((1, 12, 12, 3), np.float32)
    answers = []
    for where in (target, Target.of("litert")):
        with where.open() as worker:
            worker.load("a", Model(DATA / "cnn_sparse.tflite"))
            worker.set_inputs("a", [x])
            answers.append(worker.outputs("a")[0])
    assert np.array_equal(answers[0], answers[1])


def test_copies_answer_too(target: Target) -> None:
    with target.open() as worker:
        for _ in range(2):
            with worker.copy():
                worker.load("a", DATA / "cnn_dense.tflite")
                assert min(worker.run([("a", 2)]).wall_ns) > 0
        assert worker.hello["forks"]


def test_a_model_and_the_worker_are_sent_once(target: Target, board: Board) -> None:
    model = Model(DATA / "cnn_dense.tflite")
    seen = []
    for _ in range(2):
        with target.open() as worker:
            worker.load("a", model)
            worker.load("b", model)
        seen.append({path: path.stat().st_ino for path in board.cache.rglob("*")})
    assert seen[0] == seen[1]
    assert board.kept() == sorted([f"{model.sha256}.tflite", *(path.name for path in CODE)])


def test_ssh_is_asked_so(target: Target, board: Board) -> None:
    ssh.configure(ssh.Settings.of(["other=/no", f"board={sys.executable}"], ["-F", "own config"]))
    target.open().close()
    *options, dashes, host, command = (board.folder / "arguments").read_text().splitlines()
    assert options[:2] == ["-F", "own config"]
    assert "BatchMode=yes" in options
    assert (dashes, host) == ("--", "board")
    assert command == relay.COMMAND.format(python=sys.executable)


def test_what_a_login_prints_is_skipped(target: Target, board: Board) -> None:
    board.does("echo welcome; echo '{\"protocol\": 7}'; printf 'no end of line '")
    with target.open() as worker:
        assert worker.hello["protocol"] == 2


def test_a_login_that_never_stops_printing(
    target: Target, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.does("exec yes yes")
    assert "does not start" in lacks(target.open).reason


def test_what_is_known_of_the_board_is_the_boards(target: Target, board: Board) -> None:
    root = board.sysroot
    (root / "proc").unlink()
    (root / "proc" / "sys" / "kernel" / "random").mkdir(parents=True)
    (root / "proc" / "sys" / "kernel" / "random" / "boot_id").write_text("b00t\n")
    (root / "proc" / "cpuinfo").write_text(
        "processor : 0\nFeatures : fp asimd asimdhp\nCPU implementer : 0x41\nCPU part : 0xd0b\n"
    )
    assert target.features == {"fp", "asimd", "asimdhp"}
    assert target.machine is not None
    assert (target.machine.brand, target.machine.cores) == ("arm 0x41-0xd0b", 1)
    assert target.turns == ("b00t",)
    assert target.version() == Target.of("litert").version()
    assert target.machine != this_machine()


def test_a_profile(target: Target) -> None:
    with target.open() as worker:
        worker.load("a", DATA / "cnn_dense.tflite")
        assert worker.profile("a", 1)


def test_a_file_that_the_runtime_refuses(target: Target, tmp_path: Path) -> None:
    (tmp_path / "no.tflite").write_bytes(b"nonsense")
    with target.open() as worker:
        with pytest.raises(LoadError, match=r"failed when loading no\.tflite"):
            worker.load("a", tmp_path / "no.tflite")
        with pytest.raises(LoadError, match="No such file"):
            worker.load("a", tmp_path / "nowhere.tflite")
        worker.load("a", DATA / "cnn_dense.tflite")


# ---------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("status", "words", "said"),
    [
        (
            255,
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            (
                "board has another key than ssh has kept for it: if it was set up again, run "
                "ssh-keygen -R with its name or address, and then ssh board"
            ),
        ),
        (
            255,
            "Host key verification failed.",
            "ssh does not know the key of board: look at it once: ssh board",
        ),
        (
            255,
            "pi@127.0.0.1: Permission denied (publickey).",
            "board accepts none of your keys: ssh-copy-id board",
        ),
        (
            255,
            "ssh: connect to host 127.0.0.1 port 1: Connection refused",
            "no ssh server listens on board: start it there, or set its port in ~/.ssh/config",
        ),
        (
            255,
            "ssh: Could not resolve hostname board: Name or service not known",
            "there is no host board: name it in ~/.ssh/config",
        ),
        (
            255,
            "ssh: connect to host 10.0.0.9 port 22: Connection timed out",
            "board does not answer: see whether it is on: ssh board",
        ),
        (
            255,
            "ssh: connect to host 10.0.0.9 port 22: No route to host",
            "board cannot be reached: see whether it is on: ssh board",
        ),
        (
            255,
            "kex_exchange_identification: read: Connection reset by peer",
            (
                "board cannot be worked with: kex_exchange_identification: read: Connection reset "
                "by peer: try ssh board PYTHON --version"
            ),
        ),
        (
            127,
            "sh: 1: exec: PYTHON: not found",
            (
                "board has no PYTHON: install Python 3.9 or later there, or name it: "
                "sparsity_ssh_python = board=PATH"
            ),
        ),
        (
            3,
            "",
            "board cannot be worked with: ssh ended with status 3: try ssh board PYTHON --version",
        ),
    ],
)
def test_a_connection_that_fails(
    target: Target, board: Board, status: int, words: str, said: str
) -> None:
    board.does(f"cat >&2 <<'.'\n{words}\n.\nexit {status}\n")
    error = lacks(target.open)
    assert str(error) == said.replace("PYTHON", sys.executable)
    assert error.target == "litert@ssh:board"
    assert not board.kept()


def test_a_failure_is_remembered_for_a_while(
    target: Target, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.does("exit 9")
    assert target.available
    lacks(target.open)
    board.does("")
    assert "status 9" in str(target.missing())
    assert "status 9" in str(lacks(target.open))
    monkeypatch.setattr(remote, "PATIENCE", -1.0)
    target.open().close()


def test_no_ssh_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = Target.of("litert@ssh:board").missing()
    assert missing is not None
    assert "ssh is not installed" in missing.reason


def test_no_python(target: Target) -> None:
    ssh.configure(ssh.Settings.of(["python9"]))
    assert lacks(target.open).reason == "board has no python9"


def test_a_python_that_is_too_old(target: Target, tmp_path: Path) -> None:
    old = tmp_path / "python3.8"
    code = (
        'import sys; sys.version_info = (3, 8, 10); exec(open(0,"rb",0,closefd=False).readline())'
    )
    old.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}'\n")
    old.chmod(0o755)
    ssh.configure(ssh.Settings.of([str(old)]))
    error = lacks(target.open)
    assert error.reason == f"{old} on board is Python 3.8, and 3.9 is needed"
    assert error.remedy == "name a later one: sparsity_ssh_python = board=PATH"


def test_no_runtime(board: Board) -> None:
    runtime = Runtime("own", module="nowhere_tflite.interpreter", packages=("nowhere-tflite",))
    error = lacks(Target("own@ssh:board", runtime, ssh.Ssh("board")).open)
    assert error.reason == (
        "own is not installed on board (ModuleNotFoundError: No module named 'nowhere_tflite')"
    )
    assert error.remedy == f"ssh board {sys.executable} -m pip install nowhere-tflite"


def test_a_worker_that_does_not_start_otherwise(board: Board, tmp_path: Path) -> None:
    (tmp_path / "broken_tflite.py").write_text("raise RuntimeError('wrong libc')")
    board.does(f"export PYTHONPATH={tmp_path}")
    runtime = Runtime("own", module="broken_tflite")
    with pytest.raises(Exception, match="exit status 1 when starting: RuntimeError: wrong libc"):
        Target("own@ssh:board", runtime, ssh.Ssh("board")).open()


def test_a_crash_is_the_models(target: Target) -> None:
    with target.open() as worker:
        worker.load("a", DATA / "cnn_dense.tflite")
        runs = processes(worker)[-1]
        os.kill(runs, signal.SIGSEGV)
        with pytest.raises(EndedError, match="crashed with SIGSEGV when running cnn_dense"):
            worker.run([("a", 1)])


def test_a_cut_line_is_nobodys(target: Target) -> None:
    with target.open() as worker:
        worker.load("a", DATA / "cnn_dense.tflite")
        line, runs = processes(worker)
        os.kill(line, signal.SIGKILL)
        with pytest.raises(CannotMeasure) as caught:
            worker.run([("a", 1)])
        assert str(caught.value) == (
            "litert@ssh:board cannot go on with running cnn_dense.tflite (1 timed invocation): "
            "the line to board was cut (ssh ended with status -9); its worker ends by itself; see "
            "whether it is there: ssh board"
        )
        assert until(lambda: not alive(runs), 20)
        assert worker.ended


def test_a_line_that_is_cut_while_nobody_asks(target: Target) -> None:
    with target.open() as worker:
        os.kill(processes(worker)[0], signal.SIGKILL)
        assert until(lambda: not worker.alive, 20)
        with pytest.raises(CannotMeasure, match="the line to board was cut"):
            worker.load("a", DATA / "cnn_dense.tflite")


def test_a_relay_that_is_killed_leaves_nothing(target: Target) -> None:
    with target.open() as worker:
        left = processes(worker)
        assert len(left) == 2
        os.kill(worker.pid, signal.SIGKILL)
        assert until(lambda: not any(map(alive, left)), 20)


def test_a_board_that_hears_nothing_ends_its_worker(target: Target, short_silence: None) -> None:
    with target.open() as worker:
        worker.load("a", DATA / "cnn_dense.tflite")
        left = processes(worker)
        time.sleep(2)
        assert all(map(alive, left)), "somebody who asks nothing is heard all the same"
        os.kill(worker.pid, signal.SIGSTOP)
        assert until(lambda: not any(map(alive, left)), 20)
        os.kill(worker.pid, signal.SIGCONT)


def test_also_while_it_computes(target: Target, short_silence: None, tmp_path: Path) -> None:
    net = Network((1, 64))
    net.output(net.fully_connected(net.input, np.ones((200_000, 64), np.float32)))
    with target.open() as worker:
        worker.load("a", net.write(tmp_path / "wide.tflite"))
        left = processes(worker)
        worker._child._send(
            {"id": 99, "do": "run", "blocks": [["a", 100_000]], "warm": 0}, time.monotonic() + 5
        )
        time.sleep(2)
        assert all(map(alive, left)), "computing takes as long as it takes"
        os.kill(worker.pid, signal.SIGSTOP)
        assert until(lambda: not any(map(alive, left)), 20)
        os.kill(worker.pid, signal.SIGCONT)


def test_no_room_for_the_worker(target: Target, board: Board) -> None:
    board.does("ulimit -f 1")
    error = lacks(target.open)
    assert (
        error.reason == f"{CODE[0].name} cannot be stored on board: File too large in {board.cache}"
    )
    assert error.remedy == "free some space there, or set XDG_CACHE_HOME there"
    assert not board.kept()


def test_no_room_for_a_model(target: Target, board: Board, tmp_path: Path) -> None:
    target.open().close()
    net = Network((1, 64))
    net.output(net.fully_connected(net.input, np.ones((4096, 64), np.float32)))
    large = Model(net.write(tmp_path / "large.tflite"))
    board.does("ulimit -f 100")
    with target.open() as worker:
        with pytest.raises(
            CannotMeasure, match=r"large\.tflite cannot be stored on board: File too large"
        ):
            worker.load("a", large)
        assert not board.models
        worker.load("a", DATA / "cnn_dense.tflite")
        assert worker.outputs("a")


def test_what_arrives_damaged_is_refused(
    target: Target, board: Board, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with target.open() as worker:
        model = tmp_path / "changes.tflite"
        model.write_bytes((DATA / "cnn_dense.tflite").read_bytes())
        given = Model(model)
        assert given.sha256
        model.write_bytes((DATA / "cnn_sparse.tflite").read_bytes())
        with pytest.raises(Exception, match="the file has changed since it was read"):
            worker.load("a", given)


def test_a_board_keeps_no_more_than_its_limit(
    target: Target, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [Model(DATA / f"cnn_{kind}.tflite") for kind in ("dense", "sparse", "int8_dense")]
    monkeypatch.setattr(ssh, "LIMIT", sum(f.nbytes for f in files[1:]) + 40_000)
    for file in files:
        with target.open() as worker:
            worker.load("a", file)
        time.sleep(0.01)
    assert board.models == sorted(f"{file.sha256}.tflite" for file in files[1:])
    assert {path.name for path in CODE} < set(board.kept())


def test_what_a_killed_session_has_left_is_removed(target: Target, board: Board) -> None:
    board.cache.mkdir(parents=True)
    left, others = (
        board.cache / ".a.tflite.99999999.part",
        board.cache / f".b.tflite.{os.getpid()}.part",
    )
    for part in (left, others):
        part.touch()
    with target.open() as worker:
        worker.load("a", DATA / "cnn_dense.tflite")
    assert (left.exists(), others.exists()) == (False, True)


# ------------------------------------------------------------------------------ clocks and heat


def reading(root: Path, **values: str | int) -> None:
    """Write files as Linux has them; `__` in a name stands for a slash."""
    for name, value in values.items():
        path = root / "sys" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")


def test_conditions_of_a_board(tmp_path: Path) -> None:
    reading(
        tmp_path,
        devices__system__cpu__cpu0__cpufreq__scaling_cur_freq=600_000,
        devices__system__cpu__cpu1__cpufreq__scaling_cur_freq=1_500_000,
        devices__system__cpu__cpu0__cpufreq__scaling_max_freq=1_200_000,
        devices__system__cpu__cpu0__cpufreq__cpuinfo_max_freq=1_500_000,
        devices__system__cpu__cpu0__cpufreq__scaling_governor="ondemand",
        devices__system__cpu__cpu1__cpufreq__scaling_governor="performance",
        devices__system__cpu__cpu0__thermal_throttle__core_throttle_count=3,
        class__thermal__thermal_zone0__temp=61_234,
        class__thermal__thermal_zone1__temp=-273_000,
        class__thermal__cooling_device0__type="cpufreq-cpu0",
        class__thermal__cooling_device0__cur_state=2,
        class__thermal__cooling_device1__type="gpio-fan",
        class__thermal__cooling_device1__cur_state=1,
        class__hwmon__hwmon0__name="rpi_volt",
        class__hwmon__hwmon0__in0_lcrit_alarm=1,
    )
    assert agent.conditions(tmp_path) == {
        "khz": [600_000, 1_500_000],
        "cap_khz": [1_200_000],
        "max_khz": [1_500_000],
        "governors": ["ondemand", "performance"],
        "celsius": 61.234,
        "cooling": 2,
        "throttles": 3,
        "undervoltage": True,
    }
    nothing = agent.conditions(tmp_path / "none")
    assert (nothing["khz"], nothing["celsius"], nothing["cooling"]) == ([], None, 0)


CALM = {
    "khz": [1_500_000],
    "cap_khz": [1_500_000],
    "max_khz": [1_500_000],
    "governors": ["performance"],
    "celsius": 50.0,
    "cooling": 0,
    "throttles": 3,
    "undervoltage": False,
}


@pytest.mark.parametrize(
    ("later", "sign"),
    [
        ({"cooling": 2}, "its clocks were lowered to cool it"),
        ({"throttles": 5}, "its CPU throttled 2 times"),
        ({"cap_khz": [1_000_000]}, "the cap of its clocks fell"),
        ({"undervoltage": True}, "its supply had too little voltage"),
        ({"status": 2}, "its thermal status was 2"),
    ],
)
def test_a_race_that_throttled_is_noisy(later: dict[str, object], sign: str) -> None:
    told = [CALM, {**CALM, **later, "celsius": 81.6}, CALM]
    assert judged.doubts(told) == (
        f"noisy, the machine throttled at up to 82 degrees Celsius: {sign}; {judged.REMEDY}",
    )
    assert judged.summary(told)["throttled"] is True


def test_a_calm_race_is_not() -> None:
    warmer = {**CALM, "celsius": 70.0, "khz": [600_000], "cap_khz": [1_600_000]}
    assert judged.doubts([CALM, warmer, CALM]) == ()
    assert judged.doubts([]) == ()
    assert judged.summary([CALM, warmer]) == {
        "readings": 2,
        "celsius": [50.0, 50.0, 70.0],
        "khz": [600_000, 1_500_000],
        "cap_khz": [1_500_000, 1_600_000],
        "max_khz": [1_500_000, 1_500_000],
        "governors": ["performance"],
        "throttled": False,
    }


def test_a_race_tells_of_it(
    target: Target, board: Board, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pytest_sparsity.turns.place", lambda: tmp_path / "turns.lock")
    reading(
        board.sysroot,
        class__thermal__cooling_device0__type="cpufreq-cpu0",
        class__thermal__cooling_device0__cur_state=1,
        class__thermal__thermal_zone0__temp=84_000,
    )
    files = DATA / "cnn_dense.tflite", DATA / "cnn_sparse.tflite"
    result = start(Model(files[0]), Model(files[1]), target, threads=1, budget=60)
    assert result.trials
    assert result.remarks[0].startswith("noisy, the machine throttled at up to 84 degrees")
    told = result.metadata["conditions"]
    assert isinstance(told, dict)
    assert told["readings"] > result.pairs


# --------------------------------------------------------------------------------------- turns


def test_two_hosts_race_at_once_and_one_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pytest_sparsity.turns.place", lambda: tmp_path / "turns.lock")
    with turn(("one",)), turn(("two",)), turn():
        assert len(list(tmp_path.iterdir())) == 3
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.exists():
        assert _place_of(boot.read_text().strip()) == tmp_path / "turns.lock"
    assert _place_of("one") != _place_of("two")
    assert _place_of("") == tmp_path / "turns.lock"


def test_a_race_of_two_hosts_takes_both_turns(board: Board) -> None:
    both = Target.of(("litert", "litert@ssh:board"))
    (boot,) = Target.of("litert@ssh:board").turns
    assert both.turns == ("", boot)
    assert place() == _place_of(boot)


# ------------------------------------------------------------------------------------- settings


def test_settings_of_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ssh.Settings.of(["~/venv/bin/python", "pi=/opt/python3.12"], ["-p", "2222"])
    assert settings.python("pi") == "/opt/python3.12"
    assert settings.python("other") == "~/venv/bin/python"
    assert ssh.Settings.of().python("pi") == "python3"
    monkeypatch.setenv("PYTEST_SPARSITY_SSH_PYTHON", "pi=py")
    monkeypatch.setenv("PYTEST_SPARSITY_SSH_OPTIONS", "-F 'my config'")
    settings = ssh.Settings.of()
    assert settings == ssh.Settings(("-F", "my config"), (("pi", "py"),))
    for wrong in ("python3; reboot", "pi=$(id)", "pi="):
        with pytest.raises(ValueError, match="a Python on a host is PATH or HOST=PATH"):
            ssh.Settings.of([wrong])


@pytest.mark.parametrize(
    "name", ["litert@ssh:", "litert-js@ssh:board", "litert==2.1.6@ssh:board", "nothing@ssh:board"]
)
def test_what_is_no_host(name: str) -> None:
    with pytest.raises(ValueError, match="such as litert@ssh:HOST"):
        Target.of(name)


@pytest.mark.parametrize("host", ["pi", "pi@10.0.0.2", "ssh://pi:2222", "-oProxyCommand=false"])
def test_names_of_hosts(host: str) -> None:
    found = Target.of(f"tflite-runtime@ssh:{host}")
    assert found.place == ssh.Ssh(host)
    assert found.host == f"ssh:{host}"
    assert found.place.named(found.record) == found.name


def test_a_claim_on_a_board_that_is_not_there(
    pytester: pytest.Pytester, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    if Target.of("litert").missing():
        pytest.skip("litert is not installed")
    board.does("echo 'ssh: connect to host pi port 22: Connection refused' >&2; exit 255")
    pytester.makeini("[pytest]\nsparsity_ssh_python = pi=/opt/python3\n")
    model = str(DATA / "cnn_dense.tflite")
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.race(target="litert@ssh:pi")
        def test_marked(race):
            assert race({model!r}, {model!r}).speedup > 0.5

        def test_unmarked(diagnose):
            diagnose({model!r})
        """
    )
    quiet = ("-p", "no:cacheprovider", "-rs")
    result = pytester.runpytest(*quiet, "-k", "test_marked")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED*: no ssh server listens on pi: start it there, or set its port in ~/.ssh/config"]
    )
    result = pytester.runpytest(*quiet, "--sparsity-target=litert@ssh:pi", "-k", "test_unmarked")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*litert@ssh:pi is required, and this claim cannot run on it*"])
    pytester.makeini("[pytest]\nsparsity_ssh_python = 'pi=no python'\n")
    result = pytester.runpytest(*quiet)
    result.stderr.fnmatch_lines(["*sparsity_ssh_python: a Python on a host is PATH or HOST=PATH*"])


def test_the_agent_needs_nothing_of_ours() -> None:
    text = Path(agent.__file__).read_text(encoding="utf-8")
    assert "pytest_sparsity" not in text.replace("PYTEST_SPARSITY", "")
    assert json.loads(json.dumps(text)) == text


def test_last_words_of_nobody() -> None:
    asked = faults.Asked("pi", "python3", "litert")
    assert "ssh ended with status 255" in faults.of_line(asked, 255, "\n\n")
    assert faults.of_starting(asked, "Segmentation fault") is None


def test_an_arm_whose_processors_are_hidden() -> None:
    asked = faults.Asked("pi", "python3", "litert")
    for arch, processors in (("aarch64", "0-3"), ("x86_64", "")):
        assert faults.of_board(asked, {"arch": arch, "processors": processors}) is None
    fault = faults.of_board(asked, {"arch": "aarch64", "processors": ""})
    assert fault is not None
    assert ": ".join(fault) == (
        "pi shows no processors in /sys, without which XNNPACK does not start: mount it there: "
        "mount -t sysfs sysfs /sys"
    )
