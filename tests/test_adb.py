"""Phones: the real client of adb, a device at the level of its protocol, and replayed logs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import phones
from benchmark_logs import FORMS
from phones import Client, Phone
from pytest_sparsity.__main__ import main
from pytest_sparsity.errors import CannotMeasure, Inconclusive, Unsupported
from pytest_sparsity.inputs import feed
from pytest_sparsity.model import Model
from pytest_sparsity.racing import Race, measurement, race, unseen
from pytest_sparsity.targets import InvocationError, Target, Worker, connected_targets
from pytest_sparsity.targets.places import adb

DATA = Path(__file__).parent / "data"
DENSE, SPARSE = (Model(DATA / f"cnn_{kind}.tflite") for kind in ("dense", "sparse"))
SPMM = ("Convolution (NCHW, F32) SPMM", "Delegate/Convolution (NCHW, F32) SPMM:2", 0.278)
GEMM = ("Fully Connected (NC, F32) GEMM", "Delegate/Fully Connected (NC, F32) GEMM:3", 1.2)
DENSE_US = 4000

Connect = Callable[..., Phone]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    lacking = phones.missing()
    if lacking is not None:
        raise lacking
    made = Client(tmp_path_factory.mktemp("client"))
    made("start-server")
    yield made
    made("kill-server")


@pytest.fixture
def connect(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Connect a phone; it is gone after the test."""
    made: list[Phone] = []
    for name, value in client.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(adb.BINARY, raising=False)
    monkeypatch.delenv(adb.MASK, raising=False)

    def connected(*flags: str, form: str = "2025", noise: float = 0.0) -> Phone:
        folder = tmp_path / f"phone-{len(made)}"
        folder.mkdir()
        phone = Phone(folder, *flags)
        made.append(phone)
        says(phone, form, noise)
        assert "connected to" in client("connect", phone.serial)
        adb.configure(adb.Settings(binary=str(phone.tool)))
        return phone

    adb.configure(None)
    yield connected
    adb.configure(None)
    client("disconnect")
    for phone in made:
        phone.stop()


def says(
    phone: Phone, form: str = "2025", noise: float = 0.0, sparse_us: float = DENSE_US / 2
) -> None:
    """Let the tool there print logs of a form; `noise` is that of the logarithm of a time."""
    models = {
        DENSE.sha256: {"us": DENSE_US, "rows": [GEMM, GEMM]},
        SPARSE.sha256: {"us": sparse_us, "rows": [SPMM, GEMM]},
    }
    text = json.dumps({"form": form, "noise": noise, "models": models})
    (phone.root / "logs" / "said.json").write_text(text)


def opened(serial: str = "") -> Worker:
    return Target.of(f"benchmark_model@adb:{serial}" if serial else "benchmark_model@adb").open()


def lacks(act: Callable[[], object]) -> str:
    with pytest.raises(Unsupported) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("flags", [(), ("--no-shell-v2", "--crlf")], ids=["new", "old"])
def test_every_form_is_read_through_the_client(connect: Connect, flags: tuple[str, ...]) -> None:
    phone = connect(*flags)
    with opened() as worker:
        worker.load("dense", DENSE)
        worker.load("sparse", SPARSE)
        for form in FORMS:
            says(phone, form)
            blocks = worker.run([("dense", 3), ("sparse", 1)])
            assert blocks.wall_ns == (12_000_000, 2_000_000), form
            assert [name for name, _ in worker.profile("sparse", 2)] == [SPMM[0], GEMM[0]], form


def test_hello(connect: Connect) -> None:
    phone = connect()
    target = Target.of("benchmark_model@adb")
    with target.open() as worker:
        assert worker.hello["cpu"].startswith("P 7")
        assert worker.hello["engine"] == "Android 14"
        assert worker.hello["clock"] == "wall"
    assert target.version() == worker.hello["version"]
    assert target.machine is not None
    assert sorted(path.name for path in (phone.root / "pytest-sparsity").iterdir()) == [
        f"benchmark_model-{target.version()}"
    ]


def test_models_and_the_tool_are_pushed_once(connect: Connect) -> None:
    phone = connect()
    seen = []
    for _ in range(2):
        with opened() as worker:
            worker.load("a", DENSE)
            worker.run([("a", 1)])
        seen.append(
            {file.name: file.stat().st_ino for file in (phone.root / "pytest-sparsity").iterdir()}
        )
    assert seen[0] == seen[1]
    assert f"{DENSE.sha256}.tflite" in seen[0]


def test_how_the_tool_is_called(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    phone = connect()
    adb.configure(adb.Settings(str(phone.tool), "f0"))
    with Target.of("benchmark_model@adb").open(threads=2) as worker:
        worker.load("a", DENSE, kernels="builtin")
        worker.run([("a", 7)], warm=3)
        worker.load("b", DENSE)
        worker.profile("b", 2)
    mask, first, _, second = phone.commands
    assert mask == "taskset f0"
    for word in ("--num_runs=7", "--warmup_runs=3", "--num_threads=2", "--use_xnnpack=false"):
        assert word in first.split()
    assert "--use_xnnpack=true" in second.split()
    assert "--enable_op_profiling=true" in second.split()


def test_a_name_that_a_shell_would_break(connect: Connect, tmp_path: Path) -> None:
    phone = connect()
    odd = tmp_path / "a b'c $(id).tflite"
    odd.write_bytes(DENSE.path.read_bytes())
    with opened() as worker:
        worker.load("a", Model(odd))
        assert worker.run([("a", 1)]).wall_ns == (4_000_000,)
    assert all("$(id)" not in command for command in phone.commands)


# ---------------------------------------------------------------------------------------- faults


def test_no_phone(connect: Connect, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.touch()
    adb.configure(adb.Settings(str(tool)))
    said = "connect the phone, switch USB debugging on, and look at: adb devices"
    assert lacks(opened) == f"no phone is connected: {said}"
    assert lacks(lambda: opened("emulator-5554")) == (
        f"no phone emulator-5554 is connected: {said}"
    )


def test_no_tool(connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    connect()
    adb.configure(None)
    assert "there is no benchmark_model to push to the phone: set PYTEST_SPARSITY_" in lacks(opened)
    monkeypatch.setenv(adb.BINARY, str(tmp_path / "nowhere"))
    assert "there is no benchmark_model" in lacks(opened)
    monkeypatch.delenv(adb.BINARY)
    fetched = Path.home() / ".cache" / "litert-cli" / "binaries" / "arm64-v8a"
    fetched.mkdir(parents=True)
    (fetched / "benchmark_model").touch()
    assert adb.Settings().found() == fetched / "benchmark_model"


def test_no_client(connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patches:
        patches.setenv("PATH", str(tmp_path))
        assert lacks(opened) == "adb is not installed: install it, e.g. apt-get install adb"


def test_two_phones(connect: Connect) -> None:
    one, two = connect(), connect()
    said = lacks(opened)
    assert said.startswith("several phones are connected, ")
    assert one.serial in said
    assert two.serial in said
    for phone in (one, two):
        with opened(phone.serial) as worker:
            worker.load("a", DENSE)
            assert worker.run([("a", 1)]).wall_ns == (4_000_000,)
        assert (phone.root / "pytest-sparsity" / f"{DENSE.sha256}.tflite").exists()


def test_a_phone_that_is_offline(connect: Connect) -> None:
    phone = connect()
    phone.stop()
    said = lacks(lambda: opened(phone.serial))
    assert phone.serial in said
    assert "offline" in said or "no phone" in said


def test_a_phone_that_goes_away(connect: Connect) -> None:
    phone = connect()
    with opened() as worker:
        worker.load("a", DENSE)
        phone.stop()
        with pytest.raises(CannotMeasure, match="the phone is gone") as caught:
            worker.run([("a", 1)])
        assert "\n" not in str(caught.value)
        assert worker.ended


@pytest.mark.parametrize("flags", [(), ("--no-shell-v2", "--crlf")], ids=["new", "old"])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("echo 'ERROR: Failed to allocate tensors!'; exit 1", "ERROR: Failed to allocate tensors!"),
        ("kill -SEGV $$", "exit status 139|Segmentation fault"),
        ("echo nothing; exit 0", "nothing"),
        ("exit 0", "exit status 0"),
    ],
)
def test_a_tool_that_fails(connect: Connect, flags: tuple[str, ...], fault: str, said: str) -> None:
    phone = connect(*flags)
    with opened() as worker:
        worker.load("a", DENSE)
        (phone.root / "fault").write_text(fault)
        with pytest.raises(InvocationError) as caught:
            worker.run([("a", 1)])
        assert re.search(said, str(caught.value))
        assert "benchmark_model fails with cnn_dense.tflite: " in str(caught.value)
        (phone.root / "fault").unlink()
        worker.run([("a", 1)])


def test_an_error_that_the_runtime_logs(connect: Connect) -> None:
    phone = connect()
    (phone.root / "fault").write_text("echo 'ERROR: gather index out of bounds'")
    with opened() as worker:
        worker.load("a", DENSE)
        with pytest.raises(InvocationError, match="gather index out of bounds"):
            worker.run([("a", 1)])


def test_a_full_phone(connect: Connect) -> None:
    phone = connect()
    (phone.root / "full").touch()
    with opened() as worker:
        with pytest.raises(CannotMeasure, match=r"cnn_dense\.tflite cannot be stored on the phone"):
            worker.load("a", DENSE)
        assert not list((phone.root / "pytest-sparsity").glob("*.part"))
        (phone.root / "full").unlink()
        worker.load("a", DENSE)


def test_heat_is_told(connect: Connect) -> None:
    phone = connect()
    with opened() as worker:
        worker.load("a", DENSE)
        (phone.root / "thermal").write_text("IsStatusOverride: false\nThermal Status: 3\n")
        worker.run([("a", 1)])
        assert [told["status"] for told in worker.conditions] == [0, 3]


# ------------------------------------------------------------------------------------- the noise


@pytest.fixture
def noisy(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> Phone:
    """A phone whose every invocation varies by 55 %, and races of one pair per process on it.

    It answers at once, and says that a block took 2 s; so pairs seem to cost nothing, and the plan
    would be to run many in every process.
    """
    monkeypatch.setattr(measurement, "PAIRS_MAX", 1)
    return connect()


def raced(phone: Phone, effect: float) -> Race:
    says(phone, noise=math.sqrt(math.log1p(0.55**2)), sparse_us=DENSE_US / effect)
    return race(DENSE, SPARSE, target="benchmark_model@adb", budget=1200)


@pytest.mark.slow
def test_five_per_cent_are_decided_within_twenty_pairs(noisy: Phone) -> None:
    """What `benchmarks/noisy_phone.py` counts, once through all that a race is on a phone."""
    result = raced(noisy, effect=1.05)
    assert result.speedup > 1
    assert result.trials <= 20
    blocks = [line for line in noisy.commands if "--num_runs=5" in line]
    assert len(blocks) >= 2 * result.trials, "blocks of 2 s are of 500 invocations and more"


@pytest.mark.slow
def test_equal_models_are_not_told_apart(noisy: Phone) -> None:
    result = raced(noisy, effect=1.0)
    with pytest.raises(Inconclusive):
        bool(result.speedup > 1)


# --------------------------------------------------------------------------------- the kernels


def test_the_profile_is_the_proof(connect: Connect) -> None:
    connect()
    target = Target.of("benchmark_model@adb")
    where = f"its outputs were not seen on {target}: check them elsewhere; "
    assert unseen(feed(SPARSE), target) == f"{where}1 of 2 operators were sparse kernels"
    assert unseen(feed(DENSE), target) == f"{where}0 of 2 operators were sparse kernels"


def test_inputs_are_not_taken(connect: Connect) -> None:
    connect()
    with pytest.raises(Unsupported, match="@adb fills inputs with numbers of its own"):
        race(DENSE, SPARSE, target="benchmark_model@adb", inputs=[np.zeros((1, 8, 8, 3))])


def test_outputs_are_not_shown(connect: Connect) -> None:
    connect()
    with opened() as worker:
        worker.load("a", DENSE)
        with pytest.raises(Unsupported, match="does not show what it computes"):
            worker.outputs("a")
        with pytest.raises(Unsupported, match="no reference kernels"):
            worker.load("b", DENSE, kernels="reference")


@pytest.mark.parametrize(
    "name",
    [
        "benchmark_model",
        "benchmark_model@pi",
        "benchmark_model@adb:",
        "benchmark_model==2.1@adb",
        "litert@adb",
    ],
)
def test_what_is_no_phone(name: str) -> None:
    with pytest.raises(ValueError, match="benchmark_model@adb for a phone"):
        Target.of(name)


def test_names_of_phones() -> None:
    for host in ("adb", "adb:emulator-5554", "adb:127.0.0.1:5555"):
        target = Target.of(f"benchmark_model@{host}")
        assert target.host == host
        assert target.place.named(target.record) == target.name


def test_phones_are_listed_without_the_client(
    connect: Connect, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connected_targets() == ()
    one = connect()
    assert [target.name for target in connected_targets()] == ["benchmark_model@adb"]
    monkeypatch.setattr("pytest_sparsity.targets.all_targets", tuple)
    assert main(["targets"]) == 0
    said = capsys.readouterr().out.splitlines()[-1].split()
    assert said[0] == "benchmark_model@adb"
    two = connect()
    assert [target.host for target in connected_targets()] == [
        f"adb:{phone.serial}" for phone in sorted((one, two), key=lambda phone: phone.serial)
    ]
    assert main(["targets", "--json", "benchmark_model@adb:nowhere"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["available"] for row in told] == [True, True, False]
    assert told[-1]["missing"].startswith("no phone nowhere is connected: ")
