"""One release of a runtime, alone in a folder of the user's cache, for targets that name it.

`litert==2.1.6` is the wheel of that release and a numpy, installed without what else they depend
on, in a folder that a worker's Python searches first; nothing else that is installed changes.
`litert-nightly` is the newest nightly build of the day on which it was installed.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.targets import sealed, setting_up
from pytest_sparsity.targets.places import this_arch
from pytest_sparsity.targets.python import Environment
from pytest_sparsity.targets.runtimes import NIGHTLY, named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.targets.runtimes import Runtime
    from pytest_sparsity.targets.setting_up import Progress

THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
# What was installed, with the hashes of the wheels: in the folder of every release.
FACTS = "release.json"
# The last Python that numpy 1 has wheels for. A runtime that was built for numpy 1 does not load
# beside numpy 2, and one that was built for numpy 2 does beside 1.
_LAST_WITH_NUMPY_1 = (3, 12)


def folder(
    runtime: Runtime, release: str, python: str = THIS_PYTHON, arch: str | None = None
) -> Path:
    """Return where a release is installed, or would be."""
    import platformdirs

    name = f"{runtime.name}-{release}-python{python}-{arch or this_arch()}"
    return platformdirs.user_cache_path("pytest-sparsity") / "releases" / name


def environment(runtime: Runtime, release: str) -> Environment:
    """Return this process's Python with that release, or as it is if the release is ""."""
    return Environment(folder(runtime, release)) if release else Environment()


def missing(runtime: Runtime, release: str, host: str | None = None) -> Unsupported | None:
    """Say what that release lacks on this machine, or None; starts nothing."""
    if not release:
        return Environment().missing(runtime)
    installed = folder(runtime, release)
    fault = sealed.fault(installed)
    if not fault:
        return None
    name = named(runtime.name, release, host)
    unusable = f"cannot be used: {fault}" if installed.exists() else "is not installed"
    return Unsupported(
        f"{named(runtime.name, release)} {unusable}",
        f"pytest-sparsity targets --install {name}",
    )


def version(runtime: Runtime, release: str) -> str:
    """Return the version of a release: its number, or what is installed."""
    if release and (release != NIGHTLY or missing(runtime, release)):
        return "unknown" if release == NIGHTLY else release
    return environment(runtime, release).version(runtime)


def install(runtime: Runtime, release: str, progress: Progress) -> None:
    """Install a release for this process's Python; a nightly again.

    Raises:
        Unsupported: pip fails, with its reason: no such release, none for this Python or machine,
            no network.
    """
    if release == NIGHTLY:
        discard(runtime, release)
    setting_up.publish(
        folder(runtime, release),
        lambda aside: unpack(runtime, release, aside, progress),
        thoroughly=True,
    )


def published(
    runtime: Runtime, python: str = THIS_PYTHON, platforms: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the releases of a runtime that have a wheel, the oldest first; no pre-releases.

    Args:
        runtime: a runtime of Python.
        python: the version of Python that the wheel is for, e.g. `"3.11"`.
        platforms: pip's names of the platforms that it is for, by default this one.

    Raises:
        Unsupported: pip cannot tell: no network, no such package.
    """
    package = _package(runtime)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "index", "versions"]
    command += [package, "--only-binary=:all:", *_elsewhere(python, platforms)]
    said = setting_up.run(
        command, f"listing the releases of {package}", "let pip reach its index, and try again"
    )
    found = re.search(r"^Available versions: (.*)$", said, re.MULTILINE)
    if found is None:
        raise Unsupported(f"pip does not list the releases of {package}", "update pip")
    return tuple(reversed(found[1].split(", ")))


def discard(runtime: Runtime, release: str) -> bool:
    """Remove what `install` brought; False if the release is not one that it brings."""
    if release:
        setting_up.discard(folder(runtime, release))
    return bool(release)


def unpack(
    runtime: Runtime,
    release: str,
    aside: Path,
    progress: Progress,
    python: str = THIS_PYTHON,
    platforms: Sequence[str] = (),
) -> None:
    """Put the wheel of a release and a numpy into a folder.

    Args:
        runtime: a runtime of Python.
        release: the version, or "nightly".
        aside: the folder, which is empty.
        progress: gets one line.
        python: the version of Python that it is for, e.g. `"3.11"`.
        platforms: pip's names of the platforms that it is for, by default this one.

    Raises:
        Unsupported: pip fails.
    """
    name = named(runtime.name, release)
    progress(f"{name}: fetching the wheel")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--no-compile", f"--target={aside}"]
    if release == NIGHTLY:
        command.append("--pre")
    command += _elsewhere(python, platforms)
    with tempfile.TemporaryDirectory(prefix="pytest-sparsity-") as scratch:
        report = Path(scratch, "report.json")
        command += [f"--report={report}", *_requirements(runtime, release, python)]
        # pip refuses a target when it is told elsewhere to install for the user.
        setting_up.run(
            command,
            f"installing {name}",
            "see which releases there are on the page of its package, and ask for one of them",
            environment={**os.environ, "PIP_USER": "0"},
        )
        facts = _facts(json.loads(report.read_text(encoding="utf-8")))
    (aside / FACTS).write_text(json.dumps(facts, indent=2), encoding="utf-8")


def _elsewhere(python: str, platforms: Sequence[str]) -> list[str]:
    """Return pip's options for wheels of another Python and machine."""
    if not platforms:
        return []
    options = [f"--platform={platform}" for platform in platforms]
    return ["--implementation=cp", f"--python-version={python}", *options]


def _package(runtime: Runtime) -> str:
    """Return the package of which one release is installed alone."""
    return runtime.wheel or runtime.packages[0]


def _requirements(runtime: Runtime, release: str, python: str) -> list[str]:
    numbers = tuple(map(int, python.split(".")))
    numpy = "numpy<2" if numbers <= _LAST_WITH_NUMPY_1 else "numpy"
    if release == NIGHTLY:
        return [next(name for name in runtime.packages if NIGHTLY in name), numpy]
    return [f"{_package(runtime)}=={release}", numpy]


def _facts(report: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return name to version and hash of what pip installed, of its report (version 1)."""
    return {
        item["metadata"]["name"]: {
            "version": item["metadata"]["version"],
            **item["download_info"]["archive_info"].get("hashes", {}),
        }
        for item in report["install"]
    }
