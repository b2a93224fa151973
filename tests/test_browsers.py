"""Browsers as the place that models run at; what fails is a program that passes for a browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import fake_browser
from pytest_sparsity.errors import SparsityWarning, TargetError, Unsupported
from pytest_sparsity.racing.measurement import invocations_per_block
from pytest_sparsity.racing.warm_up import Batch
from pytest_sparsity.targets import Target, npm
from pytest_sparsity.targets.places import browser
from pytest_sparsity.targets.places.browser import clocks
from pytest_sparsity.targets.places.browser.driver import BROWSERS, BrowserError
from pytest_sparsity.targets.places.browser.keeper import children
from pytest_sparsity.targets.places.browser.pages import Pages

HOSTS = tuple(BROWSERS)
TITLES = {"chromium": "Chromium", "firefox": "Firefox"}

pytestmark = pytest.mark.filterwarnings("ignore:Chromium runs without its sandbox")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with both programs, the only one on PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    fake_browser.write(folder, *HOSTS)
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def pids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "pids"
    monkeypatch.setenv("PIDS", str(file))
    return file


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of children."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the npm package is looked at."""
    monkeypatch.setattr(npm, "installed", lambda *_, **__: tmp_path)
    monkeypatch.setattr(npm, "find_node", lambda: "/node")


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pids: Path, number: int) -> bool:
    """Return whether so many processes were there and end within seconds."""
    end = time.monotonic() + 20
    found = [int(line) for line in pids.read_text().split()]
    while any(map(running, found)) and time.monotonic() < end:
        time.sleep(0.05)
    return len(found) == number and not any(map(running, found))


def fault(host: str, folder: Path, patience: float = 20.0) -> str:
    """Return what is said where a browser fails between its start and its answer."""
    program = browser.find(host)
    assert program

    def act() -> None:
        with BROWSERS[host](program, folder / "own", patience) as opened:
            opened.open("http://127.0.0.1:1/page.html")
            opened.run("begun")

    with pytest.raises(BrowserError) as caught:
        act()
    said = str(caught.value)
    assert "\n" not in said, "one sentence"
    assert not (folder / "own").exists(), "the profile is gone"
    return said


@pytest.mark.parametrize("host", HOSTS)
def test_a_browser_that_is_missing(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    missing = Target.of(f"litert-js@{host}").missing()
    assert missing is not None
    assert missing.reason == f"{TITLES[host]} is not installed"
    assert missing.remedy.startswith(f"install {TITLES[host]} so that one of {host}, ")
    with pytest.raises(Unsupported, match="is not installed"):
        Target.of(f"litert-js@{host}").open()


def test_websockets_that_are_missing(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    missing = Target.of("litert-js@chromium").missing()
    assert str(missing) == (
        "litert-js in Chromium needs websockets, which is not installed: "
        "python -m pip install 'pytest-sparsity[browser]'"
    )


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("dies", "ended at its start ([1:1:FATAL:zygote.cc(128)] No usable sandbox!); see what `"),
        ("nobody listens", "refuses the connection ([Errno 111] Connection refused); see what `"),
        ("refuses", "refuses "),
        ("rubbish", "speaks no JSON; see what `"),
        ("closes", "closed its connection; see whether it crashed or was killed"),
        ("page", "the page failed: TypeError: wasm is not what it was"),
    ],
)  # fmt: skip
def test_faults(
    host: str, kind: str, says: str, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", kind)
    said = fault(host, tmp_path)
    subject = "" if says.startswith("the page") else f"{TITLES[host]} "
    assert said.startswith(f"{subject}{says}")
    if kind == "refuses":
        assert said.endswith("today")


@pytest.mark.parametrize("host", HOSTS)
def test_a_browser_that_says_nothing_for_too_long(
    host: str, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", "mute")
    monkeypatch.setattr(BROWSERS[host], "silence", 0.5)
    assert fault(host, tmp_path) == f"{TITLES[host]} said nothing for 0.5 s"


@pytest.mark.parametrize("host", HOSTS)
def test_a_browser_that_prints_no_address(
    host: str, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", "silent")
    said = fault(host, tmp_path, patience=1.0)
    assert said.startswith(
        f"{TITLES[host]} did not print '{BROWSERS[host].announcement}' within 1 s;"
    )
    assert f"it takes {TITLES[host]}" in said


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("crashes", "the page crashed; it may have needed more memory than it may have"),
        ("page not shown", "Chromium cannot show the page: net::ERR_FAILED"),
    ],
)
def test_faults_of_chromium_alone(
    kind: str, says: str, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", kind)
    assert fault("chromium", tmp_path).startswith(says)


def test_a_program_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "chromium").write_text("not a program")
    (tmp_path / "chromium").chmod(0o755)
    with pytest.raises(BrowserError, match=r"Chromium ended at its start \(.*cannot be executed"):
        BROWSERS["chromium"](str(tmp_path / "chromium"), tmp_path / "own")


# ---------------------------------------------------------------------------- through the target


@pytest.mark.usefixtures("package", "programs")
@pytest.mark.parametrize("host", HOSTS)
def test_a_worker_in_a_browser(host: str, pids: Path, temporary: Path) -> None:
    with Target.of(f"litert-js@{host}").open() as worker:
        assert worker.hello["engine"].endswith("normal build")
        assert "1.2.3" in worker.hello["engine"]
        # Nobody computes there, so no process is the page's.
        assert worker.hello["clock"] == "wall"
        assert worker.block_ns == 20_000_000
    assert gone(pids, 1)
    assert not list(temporary.iterdir())


@pytest.mark.usefixtures("package", "programs")
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("dies", "ended with exit status 1 when starting: Chromium ended at its start ("),
        ("fatal", "ended with exit status 1 when starting: it traps"),
    ],
)
def test_a_worker_that_does_not_start(
    kind: str, says: str, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", kind)
    with pytest.raises(TargetError) as caught:
        Target.of("litert-js@chromium").open()
    assert str(caught.value).startswith(f"litert-js@chromium {says}")
    assert not list(temporary.iterdir())


@pytest.mark.usefixtures("package", "programs")
def test_a_hang_leaves_nothing(
    pids: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", "hangs")
    worker = Target.of("litert-js@chromium").open()
    request = {"id": 1, "do": "unload", "key": "a"}
    worker._child.timeout = 0.3
    with pytest.raises(
        TargetError, match=r"did not answer within 0.3 s when working, and was kill"
    ):
        worker._child.exchange("working", request)
    assert gone(pids, 1)
    end = time.monotonic() + 20
    while list(temporary.iterdir()) and time.monotonic() < end:
        time.sleep(0.05)
    assert not list(temporary.iterdir())


def test_what_a_browser_leaves_is_ended(
    programs: Path, pids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process in another session, whose parent has ended."""
    monkeypatch.setenv("FAULT", "leaves")
    opened = BROWSERS["chromium"](str(programs / "chromium"), tmp_path / "own")
    end = time.monotonic() + 20
    while len(pids.read_text().split()) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    opened.close()
    assert gone(pids, 2)


@pytest.mark.usefixtures("package", "programs")
def test_the_sandbox_is_said_to_be_off_once(monkeypatch: pytest.MonkeyPatch) -> None:
    browser._say_that_the_sandbox_is_off.cache_clear()
    target = Target.of("litert-js@chromium")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    target.place.launch(target.record, 1)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.warns(SparsityWarning, match="without its sandbox, since it has none for root"):
        target.place.launch(target.record, 1)
    target.place.launch(target.record, 1)


@pytest.mark.usefixtures("package", "programs")
def test_threads() -> None:
    def build(name: str, threads: int) -> str:
        target = Target.of(name)
        asked = json.loads(target.place.launch(target.record, threads).command[-1])
        found: str = asked["runtime"]["build"]
        return found

    assert build("litert-js@firefox", 1) == "normal"
    assert build("litert-js@firefox", 2) == "threaded"
    assert build("litert-js-compat@firefox", 1) == "compat"
    with pytest.raises(Unsupported, match="litert-js-compat runs on one thread, not 2"):
        build("litert-js-compat@firefox", 2)


def test_targets_of_releases() -> None:
    target = Target.of("litert-js==2.5.2@firefox")
    assert (target.host, target.place.release, target.version()) == ("firefox", "2.5.2", "2.5.2")
    assert Target.of("litert-js@firefox").at("2.5.2").name == target.name
    with pytest.raises(ValueError, match="no target is called 'litert@firefox'"):
        Target.of("litert@firefox")


# ----------------------------------------------------------------------------------------- parts


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[Pages]:
    (tmp_path / "wasm").mkdir()
    (tmp_path / "wasm" / "a.wasm").write_bytes(b"wasm")
    (tmp_path / "secret").write_bytes(b"secret")
    served = Pages(tmp_path / "wasm")
    yield served
    served.close()


def fetch(address: str, data: bytes | None = None) -> bytes:
    request = urllib.request.Request(address, data, method="GET" if data is None else "PUT")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        content: bytes = answer.read()
        return content


def test_pages_are_for_one_browser(pages: Pages, tmp_path: Path) -> None:
    base = pages.address.removesuffix("page.html")
    assert b"page.mjs" in fetch(pages.address)
    assert fetch(f"{base}wasm/a.wasm") == b"wasm"
    name = pages.lend(str(tmp_path / "secret"))
    assert fetch(f"{base}{name}") == b"secret"
    assert fetch(f"{base}{name}", b"written") == b""
    assert (tmp_path / "secret").read_bytes() == b"written"
    pages.lend(str(tmp_path / "nowhere"))
    host, _, secret = base.rstrip("/").rpartition("/")
    assert len(secret) > 40
    for address in (
        f"{host}/page.html",
        f"{host}/{'x' * len(secret)}/page.html",
        f"{base}{name}",
        f"{base}data/1",
        f"{base}wasm/..",
        f"{base}wasm/../secret",
        f"{base}wasm/%2e%2e%2fsecret",
        f"{base}relay.py",
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            fetch(address)
        caught.value.close()
        assert caught.value.code == 404, address


def test_the_clock_is_that_of_who_computes() -> None:
    code = "import sys\nfor line in sys.stdin: sum(range(3_000_000)); print(flush=True)"
    command = (sys.executable, "-c", code)
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(command, stdin=pipe, stdout=pipe) as busy,
        subprocess.Popen(command, stdin=pipe, stdout=pipe) as idle,
    ):
        assert {busy.pid, idle.pid} <= set(children(os.getpid()))

        def compute() -> None:
            assert busy.stdin
            assert busy.stdout
            busy.stdin.write(b"\n")
            busy.stdin.flush()
            busy.stdout.readline()

        compute()
        found = clocks.busiest(os.getpid(), compute, tries=5)
        assert found is not None
        assert found.pid == busy.pid
        before, switches = found.ns(), found.preempted()
        compute()
        assert found.ns() > before
        assert found.preempted() >= switches
        nobody = clocks.busiest(idle.pid, compute, tries=2)
        # Who computes whatever is asked for is not who was asked.
        code = "while True: pass"
        with subprocess.Popen((sys.executable, "-c", code)) as restless:
            always = clocks.busiest(os.getpid(), lambda: time.sleep(0.2), tries=3)
            restless.kill()
        assert always is None
        busy.kill()
        idle.kill()
    assert nobody is None
    with pytest.raises(OSError):
        found.ns()


def test_blocks_are_as_long_as_the_worker_needs() -> None:
    batch = Batch(100, (50_000.0, 10_000.0), 10_000_000, 1, True)
    assert invocations_per_block([batch], 20_000_000) == 2000
    assert invocations_per_block([batch]) == 20
    assert invocations_per_block([replace(batch, tick_ns=100_000)], 20_000_000) == 10_000
