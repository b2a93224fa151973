"""Targets of a release: their names, what they lack, what `--install` brings, with a fake pip."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.targets import Target, npm, releases, setting_up
from pytest_sparsity.targets.runtimes import RUNTIMES

LITERT = RUNTIMES["litert"]


class FakePip:
    """Leaves behind what pip would; its newest nightly is a day newer every time."""

    def __init__(self) -> None:
        self.commands: list[Sequence[str]] = []
        self.broken = False

    def run(self, command: Sequence[str], doing: str, remedy: str = "", **_: object) -> None:
        self.commands.append(command)
        if self.broken:
            raise Unsupported(f"{doing} failed: ERROR: No matching distribution", remedy)
        wanted = command[-2]
        name, *rest = wanted.split("==")
        version = rest[0] if rest else f"2.4.0.dev{len(self.commands)}"
        target = Path(_option(command, "--target"))
        (target / "ai_edge_litert").mkdir()
        facts = target / f"{name.replace('-', '_')}-{version}.dist-info"
        facts.mkdir()
        Path(facts, "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        report = _option(command, "--report")
        item = {
            "metadata": {"name": name, "version": version},
            "download_info": {"archive_info": {"hashes": {"sha256": "0" * 64}}},
        }
        Path(report).write_text(json.dumps({"install": [item]}))


def _option(command: Sequence[str], name: str) -> str:
    return next(word for word in command if word.startswith(f"{name}=")).partition("=")[2]


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePip:
    fake = FakePip()
    monkeypatch.setattr(setting_up, "run", fake.run)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return fake


def silent(_: str) -> None:
    """Swallow progress."""


@pytest.mark.parametrize(
    ("name", "runtime", "host", "version"),
    [
        ("litert==2.1.6", "litert", None, "2.1.6"),
        ("litert==2.1.6@cortex-a53", "litert", "cortex-a53", "2.1.6"),
        ("tensorflow==2.20.0", "tensorflow", None, "2.20.0"),
        ("litert-js==2.5.2", "litert-js", None, "2.5.2"),
        ("litert-js-compat==2.5.2", "litert-js-compat", None, "2.5.2"),
        ("litert-nightly", "litert", None, "unknown"),
        ("litert-nightly@nehalem", "litert", "nehalem", "unknown"),
    ],
)
def test_names(pip: FakePip, name: str, runtime: str, host: str | None, version: str) -> None:
    target = Target.of(name)
    assert (target.name, target.runtime, target.host) == (name, runtime, host)
    assert target.place.named(target.record) == name
    assert target.version() == version, "known without installing"
    missing = target.missing()
    assert missing is not None
    assert missing.remedy == f"pytest-sparsity targets --install {name}" or host == "cortex-a53"
    assert not pip.commands


@pytest.mark.parametrize(
    "name", ["litert==", "litert==new", "litert==2.1@z80", "tensorflow==2.20@nehalem", "onnx==1.0"]
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"no target is called .*such as litert==2\.1\.6 or lit"):
        Target.of(name)


def test_a_release_is_installed_once_and_alone(pip: FakePip) -> None:
    target = Target.of("litert==2.1.6")
    for _ in range(2):
        target.place.install(LITERT, silent)
    (command,) = pip.commands
    assert "--no-deps" in command
    assert command[-2] == "ai-edge-litert==2.1.6"
    assert target.available
    folder = releases.folder(LITERT, "2.1.6")
    assert json.loads((folder / releases.FACTS).read_text()) == {
        "ai-edge-litert": {"version": "2.1.6", "sha256": "0" * 64}
    }
    launch = target.place.launch(LITERT, 1)
    assert launch.environment["PYTHONPATH"].split(os.pathsep)[0] == str(folder)
    assert Target.of("litert==2.1.5").missing() is not None
    assert target.place.discard(LITERT)
    assert not target.available


def test_a_nightly_is_the_newest_when_it_is_installed(pip: FakePip) -> None:
    target = Target.of("litert-nightly")
    versions = []
    for _ in range(2):
        target.place.install(LITERT, silent)
        versions.append(target.version())
    assert versions == ["2.4.0.dev1", "2.4.0.dev2"]
    assert pip.commands[0][-2] == "ai-edge-litert-nightly"
    assert "--pre" in pip.commands[0]


def test_a_release_that_does_not_exist(pip: FakePip) -> None:
    pip.broken = True
    with pytest.raises(Unsupported) as caught:
        Target.of("litert==9.9").place.install(LITERT, silent)
    assert str(caught.value).startswith("installing litert==9.9 failed: ERROR: No matching")
    assert not Target.of("litert==9.9").available


@pytest.mark.parametrize(
    ("python", "numpy"), [("3.10", "numpy<2"), ("3.12", "numpy<2"), ("3.13", "numpy")]
)
def test_a_numpy_beside_which_old_wheels_load(python: str, numpy: str) -> None:
    assert releases._requirements(LITERT, "1.0.1", python) == ["ai-edge-litert==1.0.1", numpy]


def test_a_release_of_the_npm_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def run(node: str, arguments: tuple[str, ...], *_: str) -> str:
        do, folder = arguments[0], arguments[-1]
        asked.append((do, Path(folder, "package.json").read_text()))
        Path(folder, "node_modules", "@litertjs", "core").mkdir(parents=True)
        return ""

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(npm, "_run_npm", run)
    target = Target.of("litert-js==2.5.2")
    package = npm.installed("node", "2.5.2")
    assert npm.installed("node", "2.5.2") == package
    assert asked == [("install", '{"private": true, "dependencies": {"@litertjs/core": "2.5.2"}}')]
    assert package.is_dir()
    assert "2.5.2" in package.parts
    assert npm.is_installed("2.5.2")
    assert not npm.is_installed()
    assert target.place.discard(target.record)
    assert not npm.is_installed("2.5.2")
