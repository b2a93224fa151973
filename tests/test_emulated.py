"""Emulated targets: what they say and start, their set-up on a fake system, and the readers.

What needs an emulator is short here and skips without one; the claims suite runs the rest.
"""

from __future__ import annotations

import contextlib
import platform
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pytest_sparsity.errors import CannotTrace, ModelError, TargetError, Unsupported
from pytest_sparsity.targets import (
    Launch,
    Place,
    Target,
    callgrind,
    install,
    microkernels,
    releases,
    sealed,
    setting_up,
    symbols,
)
from pytest_sparsity.targets import target as registry
from pytest_sparsity.targets.places import emulated
from pytest_sparsity.targets.places.emulated import counting, guests
from pytest_sparsity.targets.places.emulated.guests import OsRelease
from pytest_sparsity.targets.python import Environment
from pytest_sparsity.targets.runtimes import RUNTIMES, Runtime
from pytest_sparsity.writer import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BOOKWORM = OsRelease("debian", "12")
A53 = "litert@cortex-a53"
LITERT, TFLITE = RUNTIMES["litert"], RUNTIMES["tflite-runtime"]
HEADS = {
    name: b"\x7fELF\x02\x01" + bytes(12) + struct.pack("<H", number)
    for name, number in {"x86_64": 62, "aarch64": 183}.items()
}


class FakeSystem:
    """A machine whose commands only leave the files behind that theirs would.

    Attributes:
        commands: what was run, in order.
        broken: part of the name of a command that fails.
        python: the Python that the distribution has.
    """

    def __init__(self) -> None:
        self.commands: list[Sequence[str]] = []
        self.broken = ""
        self.python = "python3.11"

    def run(self, command: Sequence[str], doing: str, remedy: str = "", **_: object) -> None:
        self.commands.append(command)
        if self.broken and self.broken in doing:
            raise Unsupported(f"{doing} failed: E: no route to host", remedy)
        if "--download-only" in command:
            cache = next(o for o in command if o.startswith("-oDir::Cache=")).split("=")[1]
            Path(cache, "archives/python_3_arm64.deb").touch()
        elif command[0] == "dpkg-deb":
            binaries = Path(command[-1], "usr/bin")
            binaries.mkdir(parents=True, exist_ok=True)
            (binaries / self.python).touch()
        elif "pip" in command:
            site = Path(next(o for o in command if o.startswith("--target=")).split("=")[1])
            (site / "ai_edge_litert").mkdir()
            (site / "ai_edge_litert/libpywrap_litert_common.so").write_bytes(HEADS["aarch64"])
        elif command[0] == "cc":
            Path(command[command.index("-o") + 1]).touch()

    def tools(self) -> list[str]:
        return [command[0] for command in self.commands]


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSystem:
    """A Debian 12 on x86-64 with every tool, where nothing is set up yet."""
    fake = FakeSystem()
    monkeypatch.setattr(setting_up, "run", fake.run)
    monkeypatch.setattr(guests, "folder", lambda: tmp_path / "guests")
    monkeypatch.setattr(guests, "release", lambda: BOOKWORM)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(counting, "takes_plugins", lambda _: True)
    monkeypatch.setattr(counting, "_binding", lambda _: tmp_path / "except")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(Place, "arch", lambda *_: "x86_64")
    return fake


def silent(_: str) -> None:
    """Swallow progress."""


def without(monkeypatch: pytest.MonkeyPatch, *absent: str) -> None:
    tools = {"apt-get", "dpkg-deb", "cc", "qemu-aarch64", "qemu-x86_64", "valgrind"} - {*absent}
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in tools else None)


def test_what_is_missing_names_the_command(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = emulated.at("cortex-a53")
    command = "pytest-sparsity targets --install litert@cortex-a53"
    assert str(kind.missing(LITERT)) == f"no aarch64 guest with litert is set up: {command}"
    guests.set_up(LITERT, "aarch64", silent)
    assert kind.missing(LITERT) is None
    assert kind.version(LITERT) == "2.3.0"
    without(monkeypatch, "qemu-aarch64")
    said = str(kind.missing(LITERT))
    assert said == f"the emulator qemu-aarch64 is not installed: {command}"


def test_missing_in_the_own_environment(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = Unsupported("litert is not installed", "python -m pip install x")
    monkeypatch.setattr(Environment, "missing", lambda *_: lacking)
    assert str(Target.of("litert@nehalem").missing()) == str(lacking)
    with pytest.raises(Unsupported, match="litert is not installed"):
        install("litert@nehalem", silent)
    monkeypatch.setattr(Environment, "missing", lambda *_: None)
    assert Target.of("litert@nehalem").missing() is None


@pytest.mark.parametrize(("name", "arch"), [("Darwin", "x86_64"), ("Linux", "aarch64")])
def test_other_machines(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch, name: str, arch: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: name)
    monkeypatch.setattr(Place, "arch", lambda *_: arch)
    missing = Target.of(A53).missing()
    assert missing is not None
    assert missing.reason == "emulated CPUs need Linux on x86-64"


def test_install_prints_what_needs_root(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "qemu-aarch64")
    with pytest.raises(Unsupported) as raised:
        install(A53, silent)
    assert raised.value.remedy.startswith("sudo apt-get install -y ")
    assert "qemu-user" in raised.value.remedy
    assert system.commands == []


def test_set_up_does_everything_once(system: FakeSystem) -> None:
    lines: list[str] = []
    guest = guests.set_up(LITERT, "aarch64", lines.append)
    assert system.tools() == ["apt-get", "apt-get", "dpkg-deb", sys.executable]
    assert [line.rpartition(": ")[2] for line in lines] == [
        "reading package lists",
        "fetching 15 MB",
        "unpacking",
        "fetching the wheels",
    ]
    assert guests.find(LITERT, "aarch64") == guest
    assert (guest.system.name, guest.python.name) == ("debian-12-aarch64", "python3.11")
    assert guests.set_up(LITERT, "aarch64", lines.append) == guest
    assert len(system.commands) == len(lines) == 4


def test_two_runtimes_share_a_system(system: FakeSystem) -> None:
    first = guests.set_up(LITERT, "aarch64", silent)
    second = guests.set_up(TFLITE, "aarch64", silent)
    assert first.system == second.system
    assert first.site != second.site
    assert system.tools().count("dpkg-deb") == 1


def test_an_interrupted_set_up_goes_on(system: FakeSystem) -> None:
    system.broken = "pip"
    with pytest.raises(Unsupported, match="pip install failed: E: no route to host"):
        guests.set_up(LITERT, "aarch64", silent)
    assert guests.find(LITERT, "aarch64") is None
    (debris,) = guests.folder().glob(".litert*.partial")
    (debris / "half a wheel").touch()
    system.broken, system.commands = "", []
    guest = guests.set_up(LITERT, "aarch64", silent)
    assert system.tools() == [sys.executable]
    assert {path.name for path in guest.site.iterdir()} == {"ai_edge_litert", sealed.SEAL}
    assert not list(guests.folder().glob("*.partial"))


def test_a_broken_source_of_packages_that_nobody_needs(system: FakeSystem) -> None:
    system.broken = "apt-get update"
    guests.set_up(LITERT, "aarch64", silent)


def test_offline_the_first_failure_is_told(system: FakeSystem) -> None:
    system.broken = "apt-get"
    with pytest.raises(Unsupported, match=r"^apt-get update failed: E: no route to host"):
        guests.set_up(LITERT, "aarch64", silent)


def test_downloaded_packages_survive_an_interruption(system: FakeSystem) -> None:
    system.broken = "unpacking"
    with pytest.raises(Unsupported):
        guests.set_up(LITERT, "aarch64", silent)
    assert list(guests.folder().glob(".apt-*/cache/archives/*.deb"))
    system.broken = ""
    guests.set_up(LITERT, "aarch64", silent)
    assert not list(guests.folder().glob(".apt-*"))


def test_apt_has_a_state_of_its_own(system: FakeSystem) -> None:
    guests.set_up(LITERT, "aarch64", silent)
    for command in system.commands[:2]:
        options = dict(o[2:].split("=", 1) for o in command if o.startswith("-o"))
        for name in ("Dir::State", "Dir::State::status", "Dir::Cache"):
            assert options[name].startswith(str(guests.folder()))
        assert options["APT::Architecture"] == "arm64"
        assert "Dir::Etc::sourcelist" not in options


def test_ubuntu_needs_its_server_for_arm(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guests, "release", lambda: OsRelease("ubuntu", "22.04"))
    system.broken = "--download-only"
    with pytest.raises(Unsupported, match="add Ubuntu's ports server to APT's sources"):
        guests.set_up(LITERT, "aarch64", silent)


@pytest.mark.parametrize("cause", ["another distribution", "no apt-get"])
def test_elsewhere_one_sentence(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    if cause == "no apt-get":
        without(monkeypatch, "apt-get")
    else:
        monkeypatch.setattr(guests, "release", lambda: None)
    with pytest.raises(Unsupported) as raised:
        install(A53, silent)
    assert raised.value.reason == (
        "a guest is made from the packages of Debian or Ubuntu, and this is neither"
    )
    assert "native ARM runner" in raised.value.remedy
    assert system.commands == []


def test_no_wheel_for_the_distributions_python(system: FakeSystem) -> None:
    system.python = "python3.13"
    guests.set_up(LITERT, "aarch64", silent)
    with pytest.raises(Unsupported, match=r"2\.14\.0 has no aarch64 wheel .* Python 3\.13, only"):
        guests.set_up(TFLITE, "aarch64", silent)


@pytest.mark.parametrize("runtime", [LITERT, TFLITE], ids=lambda runtime: runtime.name)
def test_every_wheel_is_pinned_by_hash(runtime: Runtime) -> None:
    text = (Path(guests.__file__).parent / f"guest-{runtime.name}.txt").read_text("utf-8")
    assert f"{runtime.packages[0]}=={runtime.guest_version} " in text
    requirements = [line for line in re.sub(r"\\\n", "", text).splitlines() if line[0] != "#"]
    for requirement in requirements:
        name, *hashes = requirement.split()
        assert re.fullmatch(r"[a-z-]+==[\d.]+", name)
        assert len(set(hashes)) == len(runtime.guest_pythons)
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", text) for text in hashes)


def test_the_release_of_the_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"ID": "ubuntu", "VERSION_ID": "24.04"}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: found)
    release = guests.release.__wrapped__
    assert release() == OsRelease("ubuntu", "24.04")
    found["ID"] = "fedora"
    assert release() is None
    monkeypatch.setattr(platform, "freedesktop_os_release", _no_such_file)
    assert release() is None


def _no_such_file() -> object:
    raise OSError("no os-release")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo W: slow >&2; echo E: not found >&2; echo bye >&2; exit 100", "E: not found"),
        ("echo 'count.c:3: fatal error: no stdint.h' >&2; echo stop >&2; exit 1", "count.c:3: "),
        ("echo first; echo last; exit 2", "last"),
        ("exit 3", "no reason given"),
    ],
)
def test_a_failed_command_says_why(script: str, reason: str) -> None:
    with pytest.raises(Unsupported) as raised:
        setting_up.run(["sh", "-c", script], "fetching", "try again")
    assert raised.value.reason.startswith(f"fetching failed: {reason}")
    assert raised.value.remedy == "try again"


def test_a_command_that_does_not_exist_or_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unsupported, match=r"fetching failed: .*no-such-program"):
        setting_up.run(["no-such-program"], "fetching")
    monkeypatch.setattr(setting_up, "_PATIENCE", 0.05)
    with pytest.raises(Unsupported, match="fetching did not end within"):
        setting_up.run(["sleep", "5"], "fetching")
    monkeypatch.undo()
    setting_up.run(["true"], "fetching")


def test_a_folder_is_published_whole_or_not_at_all(tmp_path: Path) -> None:
    final = tmp_path / "made" / "thing"

    def fails(aside: Path) -> None:
        (aside / "half").touch()
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        setting_up.publish(final, fails)
    assert not final.exists()
    setting_up.publish(final, lambda aside: (aside / "whole").touch())
    assert sorted(path.name for path in final.iterdir()) == [sealed.SEAL, "whole"]
    setting_up.publish(final, fails)


def test_a_wheel_for_another_architecture(system: FakeSystem) -> None:
    guest = guests.set_up(LITERT, "aarch64", silent)
    kind = emulated.at("cortex-a53")
    assert kind.launch(LITERT, 1).command[0] == "qemu-aarch64"
    (guest.site / "ai_edge_litert/libpywrap_litert_common.so").write_bytes(HEADS["x86_64"])
    sealed.seal(guest.site)
    with pytest.raises(TargetError) as raised:
        kind.launch(LITERT, 1)
    assert str(raised.value) == (
        "litert@cortex-a53: libpywrap_litert_common.so of the guest is not for aarch64;"
        " pytest-sparsity targets --install litert@cortex-a53 sets it up again"
    )


def test_a_guest_without_its_library(system: FakeSystem) -> None:
    guest = guests.set_up(LITERT, "aarch64", silent)
    (guest.site / "ai_edge_litert/libpywrap_litert_common.so").unlink()
    sealed.seal(guest.site)
    with pytest.raises(TargetError, match=r"litert@cortex-a53: .* holds no library"):
        emulated.at("cortex-a53").launch(LITERT, 1)


def test_install_sets_a_broken_guest_up_again(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = guests.set_up(LITERT, "aarch64", silent)
    (guest.site / "ai_edge_litert/libpywrap_litert_common.so").write_bytes(HEADS["x86_64"])
    sealed.seal(guest.site)
    started: list[Sequence[str]] = []
    monkeypatch.setattr(registry, "Worker", fake_worker(started))
    lines: list[str] = []
    install(A53, lines.append)
    assert len(started) == 1
    assert sum("is not for aarch64; " in line and "setting it up again" in line for line in lines)
    assert lines[-1] == "litert@cortex-a53: litert 2.3.0 runs on fake"
    install(A53, lines.append)
    assert len(started) == 2


def test_a_newer_nightly_leaves_the_system_to_the_other_guests(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = guests.set_up(LITERT, "aarch64", silent)
    unpacked: list[str] = []

    def unpack(_: Runtime, release: str, aside: Path, *__: object) -> None:
        unpacked.append(release)
        (aside / "ai_edge_litert").mkdir()

    monkeypatch.setattr(releases, "unpack", unpack)
    nightly = emulated.at("cortex-a53", "nightly")
    for _ in range(2):
        nightly.install(LITERT, silent)
    assert unpacked == ["nightly", "nightly"]
    assert system.tools().count("dpkg-deb") == 1
    assert guests.find(LITERT, "aarch64") == guest


def test_a_guest_that_was_changed_is_not_run_and_install_mends_it(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = guests.set_up(LITERT, "aarch64", silent)
    library = guest.site / "ai_edge_litert/libpywrap_litert_common.so"
    library.write_bytes(library.read_bytes()[:-1])
    sealed.forget()
    place = emulated.at("cortex-a53")
    said = (
        f"litert@cortex-a53 cannot be used: {library} has changed: "
        "pytest-sparsity targets --install litert@cortex-a53"
    )
    assert str(place.missing(LITERT)) == said
    with pytest.raises(Unsupported) as caught:
        place.launch(LITERT, 1)
    assert str(caught.value) == said
    monkeypatch.setattr(registry, "Worker", fake_worker([]))
    lines: list[str] = []
    install(A53, lines.append)
    assert lines[-1] == "litert@cortex-a53: litert 2.3.0 runs on fake"
    assert not any("Python for aarch64" in line for line in lines), "the system was whole"


def fake_worker(started: list[Sequence[str]]) -> Callable[..., object]:
    class FakeWorker(contextlib.nullcontext[SimpleNamespace]):
        def __init__(self) -> None:
            self.hello = {"runtime": "litert", "version": "2.3.0", "cpu": "fake"}
            super().__init__(SimpleNamespace(hello=self.hello))

    def start(_: str, launch: Launch, **__: object) -> FakeWorker:
        started.append(launch.command)
        return FakeWorker()

    return start


def test_install_by_name(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Sequence[str]] = []
    monkeypatch.setattr(registry, "Worker", fake_worker(started))
    lines: list[str] = []
    install(A53, lines.append)
    assert lines[0].startswith("Python for aarch64 from debian 12: ")
    assert lines[-1] == "litert@cortex-a53: litert 2.3.0 runs on fake"
    monkeypatch.setattr(
        Environment, "missing", lambda *_: Unsupported("no litert", "pip install it")
    )
    with pytest.raises(Unsupported, match="no litert: pip install it"):
        install("litert", lines.append)
    with pytest.raises(ValueError, match="no target is called 'litert@z80'"):
        install("litert@z80", lines.append)


def test_the_command_of_a_guest(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "the host's")
    monkeypatch.setenv("LD_PRELOAD", "the host's")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    guest = guests.set_up(LITERT, "aarch64", silent)
    launch = emulated.at("cortex-a76").launch(LITERT, 1)
    program, dash_l, prefix, dash_cpu, cpu, dash_plugin, plugin, *child = launch.command
    assert (program, dash_l, dash_cpu, cpu) == ("qemu-aarch64", "-L", "-cpu", "cortex-a76")
    assert dash_plugin == "-plugin"
    assert re.fullmatch(
        r"file=.*/count\.so,out=(.*),library=.*/libpywrap_\w+\.so,except=.*", plugin
    )
    counts = plugin.split("out=")[1].split(",")[0]
    assert child == [
        str(guest.python), "-s", "-S", *LITERT.worker(), "--counts", counts
    ]  # fmt: skip
    assert "CPU part\t: 0xd0b" in Path(prefix, "proc/cpuinfo").read_text("ascii")
    assert Path(prefix, "usr").resolve() == guest.system / "usr"
    assert launch.environment["PYTHONPATH"] == str(guest.site)
    assert launch.environment["PYTHONHASHSEED"] == "7"
    assert "LD_PRELOAD" not in launch.environment


def test_the_command_on_the_own_python(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    native = Launch(("python", "worker", "litert"), {"HOME": "here"})
    monkeypatch.setattr(Environment, "launch", lambda *_: native)
    library = tmp_path / "a,b" / "libpywrap_litert_common.so"
    library.parent.mkdir()
    library.touch()
    monkeypatch.setattr(emulated.Emulated, "library", lambda *_: library)
    launch = emulated.at("nehalem").launch(LITERT, 1)
    assert launch.command[0] == "qemu-x86_64"
    assert launch.command[-5:-2] == native.command
    assert launch.environment == {"HOME": "here", "OPENBLAS_CORETYPE": "Nehalem"}
    assert "library=" + str(library).replace("a,b", "a,,b") in launch.command[6]


def test_more_than_one_thread(system: FakeSystem) -> None:
    with pytest.raises(Unsupported, match="one thread"):
        emulated.at("cortex-a53").launch(LITERT, 2)


@pytest.mark.parametrize("cause", ["no plugins", "no compiler"])
def test_without_counting_the_target_still_runs(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    guests.set_up(LITERT, "aarch64", silent)
    if cause == "no plugins":
        monkeypatch.setattr(counting, "takes_plugins", lambda _: False)
    else:
        without(monkeypatch, "cc")
    kind = emulated.at("cortex-a53")
    assert kind.missing(LITERT) is None
    launch = kind.launch(LITERT, 1)
    assert "-plugin" not in launch.command
    assert "--counts" not in launch.command
    reason = {"no plugins": "takes no plugins", "no compiler": "no C compiler"}[cause]
    assert reason in str(kind.cannot_count())


def test_without_an_emulator_nothing_counts(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "qemu-aarch64")
    assert str(emulated.at("cortex-a53").cannot_count()).startswith(
        "the emulator qemu-aarch64 is not installed: sudo apt-get install"
    )


@pytest.mark.parametrize(
    ("version", "options", "takes"),
    [
        ("7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", "-plugin QEMU_PLUGIN", True),
        ("7.2.0", "-strace QEMU_STRACE", False),
        ("9.0.2 (Debian 1:9.0.2+ds-4ubuntu5)", "-plugin QEMU_PLUGIN", False),
        ("10.0.2 (Debian 1:10.0.2+ds-2)", "-strace QEMU_STRACE", False),
    ],
)
def test_which_emulators_take_plugins(
    tmp_path: Path, version: str, options: str, takes: bool
) -> None:
    emulator = tmp_path / "qemu-aarch64"
    emulator.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo "qemu-aarch64 version {version}"\n'
        f"else echo '{options}'; fi\n",
        "ascii",
    )
    emulator.chmod(0o755)
    assert counting.takes_plugins(str(emulator)) is takes


def test_facts_of_the_cpus() -> None:
    a53, a76, nehalem = map(emulated.at, emulated.USUAL)
    assert {kind.arch(LITERT) for kind in (a53, a76)} == {"aarch64"}
    assert nehalem.arch(LITERT) == "x86_64"
    # What the rules ask: half-precision arithmetic on ARM, AVX on x86.
    assert "asimdhp" not in a53.features(LITERT)
    assert "asimdhp" in a76.features(LITERT)
    assert "sse4_2" in nehalem.features(LITERT)
    assert not any(name.startswith("avx") for name in nehalem.features(LITERT))


SOURCE = """
int aaa_ukernel_1(int x) { return x * 3 + 1; }
int bbb(int x) { return aaa_ukernel_1(x) / 7 - 2; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, compiler: str) -> Path:
    folder = tmp_path_factory.mktemp("library")
    (folder / "a.c").write_text(SOURCE, "ascii")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", "a.so", "a.c"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "a.so"


def test_names_of_functions(library: Path) -> None:
    known = {function.name: function for function in symbols.functions(library)}
    first, second = known["aaa_ukernel_1"], known["bbb"]
    assert first.size > 0
    assert first.offset + first.size <= second.offset
    inside = [(first.offset, 5), (first.offset + first.size - 1, 2), (second.offset, 1)]
    assert symbols.by_function(library, [*inside, (0, 9)]) == {
        "aaa_ukernel_1": 7,
        "bbb": 1,
        "?": 9,
    }


def test_a_stripped_library_and_a_foreign_file(library: Path, tmp_path: Path) -> None:
    strip = shutil.which("strip")
    if strip is not None:
        subprocess.run([strip, "-o", str(tmp_path / "s.so"), str(library)], check=True)
        assert symbols.functions(tmp_path / "s.so") == []
    (tmp_path / "x.so").write_bytes(b"not ELF")
    with pytest.raises(ValueError, match=r"x\.so is not a 64-bit ELF file"):
        symbols.functions(tmp_path / "x.so")


def test_a_damaged_library(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch, library: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "d.so"
    for length in (30, 64, 100, 4000, library.stat().st_size - 100):
        damaged.write_bytes(library.read_bytes()[:length])
        with pytest.raises(ValueError, match=r"d\.so is damaged: "):
            symbols.functions(damaged)
    monkeypatch.undo()
    monkeypatch.setattr(emulated.Emulated, "library", lambda *_: damaged)
    with pytest.raises(TargetError, match=r"litert@cortex-a53: d\.so is damaged: "):
        emulated.at("cortex-a53").plugin(LITERT, out=tmp_path / "counts")


def test_the_binding_to_python_is_not_counted(tmp_path: Path, compiler: str) -> None:
    source = tmp_path / "b.c"
    source.write_text("int _ZN8pybind11xEv(int x) { return x + 1; }\n" + SOURCE, "ascii")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "b.so", "b.c"], cwd=tmp_path, check=True)
    known = {f.name: f for f in symbols.functions(tmp_path / "b.so")}["_ZN8pybind11xEv"]
    text = counting._binding(tmp_path / "b.so").read_text("ascii")
    assert text == f"{known.offset:x} {known.size:x}\n"


def test_architectures() -> None:
    assert {name: symbols.architecture(head) for name, head in HEADS.items()} == {
        "x86_64": "x86_64",
        "aarch64": "aarch64",
    }
    assert symbols.architecture(b"\x7fELF\x01\x01" + bytes(14)) == ""
    assert symbols.architecture(b"") == ""


CALLGRIND = """# callgrind format
version: 1
positions: line
events: Ir

ob=(2) /lib/a.so
fl=(52) ???
fn=(1) xnn_invoke_runtime
0 10
cfn=(2) xnn_f32_spmm_minmax_ukernel_32x1__sse
calls=4 0
0 900
+3 5

fn=(2)
0 600
cfi=(7) memcpy.c
cfn=(9) memcpy
calls=1 0
* 300

fn=(9)
-2 300
totals: 915
"""


def test_self_costs_of_callgrind() -> None:
    assert callgrind.self_costs(CALLGRIND) == {
        "xnn_invoke_runtime": 15,
        "xnn_f32_spmm_minmax_ukernel_32x1__sse": 600,
        "memcpy": 300,
    }


def test_offsets_of_translated_code(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "----------------\nIN: \n0x5500001010:  d503201f  nop\n0x5500001014:  d65f03c0  ret\n"
        "----------------\nIN: \n0x5500009000:  d503201f  nop\n",
        "ascii",
    )
    maps = (
        "5500000000-5500001000 r--p 00000000 fe:00 7   /cache/a b/lib.so\n"
        "5500001000-5500002000 r--p 00004000 fe:00 7   /cache/a b/lib.so\n"
        "5500009000-550000a000 r--p 00000000 fe:00 8   /cache/a b/other.so\n"
    )
    found = list(emulated._offsets(log, maps, Path("/cache/a b/lib.so")))
    assert found == [(0x4010, 1), (0x4014, 1)]
    with pytest.raises(TargetError, match=r"has not mapped third\.so"):
        list(emulated._offsets(log, maps, Path("third.so")))


def test_a_trace_of_microkernels_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Target, "missing", lambda _: None)
    with pytest.raises(Unsupported, match="tensorflow does not name its microkernels"):
        microkernels.microkernels("tensorflow", tmp_path)
    without(monkeypatch, "valgrind")
    with pytest.raises(CannotTrace, match="valgrind is not installed: sudo apt-get install"):
        microkernels.microkernels("litert", tmp_path)
    lacking = Unsupported("no guest")
    monkeypatch.setattr(Target, "missing", lambda _: lacking)
    with pytest.raises(Unsupported, match="no guest"):
        microkernels.microkernels(A53, tmp_path)
    with pytest.raises(ModelError, match=r"no\.tflite: No such file"):
        microkernels.microkernels("litert", tmp_path / "no.tflite")


def test_the_plugin_compiles_without_a_warning(tmp_path: Path, compiler: str) -> None:
    source = Path(counting.__file__).with_name("count.c")
    command = [compiler, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-O2", "-o", "x.so"]
    subprocess.run([*command, str(source)], cwd=tmp_path, check=True)


# A loop of 24 instructions, one of which begins 6 bytes before the end of a page and has 10.
LOOP = """
    .globl counted
    .type counted, @function
    .p2align 12
    .skip 4096 - 32
counted:
    mov $1000, %ecx
1:  .rept 21
    nop
    .endr
    movabs $0x1122334455667788, %rax
    dec %ecx
    jnz 1b
    ret
    .size counted, . - counted
    .section .note.GNU-stack, "", @progbits
"""
CALLS = """
#include <unistd.h>
void counted(void);
int main(void) {
    close(0x5a5a5a);
    for (int i = 0; i < 3; i++) {
        counted();
        close(0x5a5a5a);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def counted_program(
    tmp_path_factory: pytest.TempPathFactory, counting_emulator: str, compiler: str
) -> Path:
    """A folder with a library, a program that calls it between marks, and the plugin."""
    folder = tmp_path_factory.mktemp("counted")
    (folder / "loop.s").write_text(LOOP, "ascii")
    (folder / "calls.c").write_text(CALLS, "ascii")
    source = str(Path(counting.__file__).with_name("count.c"))
    for command in (
        ["-shared", "-nostdlib", "-o", "libloop.so", "loop.s"],
        ["-o", "calls", "calls.c", "./libloop.so"],
        ["-shared", "-fPIC", "-O2", "-o", "count.so", source],
    ):
        subprocess.run([compiler, *command], cwd=folder, check=True)
    return folder


def counts_of(folder: Path, *arguments: str) -> list[int]:
    plugin = ",".join(["file=./count.so", "out=counts", "library=libloop.so", *arguments])
    command = ["qemu-x86_64", "-cpu", "Nehalem", "-plugin", plugin, "./calls"]
    subprocess.run(command, cwd=folder, check=True)
    lines = (folder / "counts").read_text("ascii").splitlines()
    assert all(re.fullmatch(r"mark \d+", line) for line in lines)
    return [int(line.split()[1]) for line in lines]


INSTRUCTIONS = 1 + 1000 * 24 + 1


def test_every_instruction_is_counted_once(counted_program: Path) -> None:
    assert counts_of(counted_program) == [i * INSTRUCTIONS for i in range(4)]


def test_blocks_add_up(counted_program: Path) -> None:
    counts_of(counted_program, "blocks=blocks")
    parts = (counted_program / "blocks").read_text("ascii").split("mark\n")
    assert parts[0] == parts[4] == ""
    for part in parts[1:4]:
        pairs = [(int(a, 16), int(b)) for a, b in (line.split() for line in part.splitlines())]
        found = symbols.by_function(counted_program / "libloop.so", pairs)
        assert found == {"counted": INSTRUCTIONS}


def test_what_is_excepted_is_not_counted(counted_program: Path) -> None:
    (function,) = symbols.functions(counted_program / "libloop.so")
    (counted_program / "except").write_text(f"{function.offset:x} {function.size:x}\n", "ascii")
    assert counts_of(counted_program, "except=except") == [0, 0, 0, 0]
    with pytest.raises(subprocess.CalledProcessError):
        counts_of(counted_program, "except=no-such-file")


def test_an_emulated_cpu_counts(tmp_path: Path, counting_emulator: str) -> None:
    """The whole way on the CPU that needs no guest: twice the invocations, twice the count."""
    target = Target.of("litert@nehalem")
    network = Network((1, 4))
    weights = np.ones((4, 4), np.float32)
    network.output(network.fully_connected(network.input, weights, np.zeros(4, np.float32)))
    path = network.write(tmp_path / "net.tflite")
    with target.open() as worker:
        worker.load("net", path)
        counts = worker.run([("net", 1), ("net", 2), ("net", 1)]).instructions
        assert "nehalem" in worker.hello["cpu"]
        assert worker.hello["clock"] == "instructions"
    assert counts is not None
    assert 100 < counts[0] == counts[2]
    assert counts[1] == 2 * counts[0]
