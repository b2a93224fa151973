"""Guests: what an emulated CPU of another architecture needs to run Python and a runtime.

A guest is two folders in the user's cache: a *system* (CPython, libc and the libraries they need,
from the distribution's packages of the other architecture) and a *site* (the runtime's wheels and
numpy, pinned by hash). The host's package state is not touched and nothing needs root: apt-get
works on a state of its own, and the packages are unpacked, never installed. Every folder is built
aside and renamed when it is complete, so one that exists is whole, and an interrupted set-up goes
on where it was: finished folders and downloaded packages stay.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity import children
from pytest_sparsity.errors import Unsupported
from pytest_sparsity.targets import symbols

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Progress = Callable[[str], None]

# What a Python needs that starts numpy and a runtime; apt-get adds what these depend on.
_PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "zlib1g")
# Linux' name of an architecture -> Debian's.
_DEBIAN_NAMES = {"aarch64": "arm64"}
# What is tagged thus runs on the glibc of Debian 12 (2.36), Ubuntu 22.04 (2.35) and later.
_PLATFORMS = ("manylinux_2_34", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
# Runtime -> (version, CPythons with a wheel); versions and hashes stand in guest-RUNTIME.txt.
WHEELS = {
    "litert": ("2.3.0", ("3.10", "3.11", "3.12", "3.13")),
    "tflite-runtime": ("2.14.0", ("3.10", "3.11")),
}
# Seconds that one command may take: a slow connection takes minutes for 30 MB, not half an hour.
_PATIENCE = 1800.0


@dataclass(frozen=True)
class Release:
    """A release of a distribution: `"debian"` or `"ubuntu"`, and its version."""

    distribution: str
    version: str


@dataclass(frozen=True)
class Guest:
    """A complete guest.

    Attributes:
        system: the folder that is the guest's root.
        python: the guest's Python.
        site: the folder with the runtime and numpy.
    """

    system: Path
    python: Path
    site: Path


def folder() -> Path:
    """Return the folder of everything that is set up for emulated targets."""
    import platformdirs

    return platformdirs.user_cache_path("pytest-sparsity") / "guests"


@cache
def release() -> Release | None:
    """Return this machine's Debian or Ubuntu, or None if it is something else."""
    try:
        facts = platform.freedesktop_os_release()
    except OSError:
        return None
    if facts["ID"] not in ("debian", "ubuntu") or "VERSION_ID" not in facts:
        return None
    return Release(facts["ID"], facts["VERSION_ID"])


def find(runtime: str, arch: str) -> Guest | None:
    """Return the guest of a runtime if it is set up."""
    here = release()
    if here is None:
        return None
    system = _system(here, arch)
    python = _python(system)
    if python is None:
        return None
    site = _site(runtime, arch, python)
    return Guest(system, python, site) if site.is_dir() else None


def set_up(runtime: str, arch: str, progress: Progress) -> Guest:
    """Set up what the guest of a runtime lacks, and return it.

    Args:
        runtime: `"litert"` or `"tflite-runtime"`.
        arch: the guest's architecture, `"aarch64"`.
        progress: gets one line before every step.

    Raises:
        Unsupported: this is neither Debian nor Ubuntu, a tool is missing, a command failed, or the
            runtime has no wheel for the guest's Python.
    """
    here = release()
    if here is None or not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Unsupported(
            "a guest is made from the packages of Debian or Ubuntu, and this is neither",
            "run the claim in a debian:12 container, or on a native ARM runner",
        )
    system = _system(here, arch)
    publish(system, lambda aside: _unpack_system(here, arch, aside, progress))
    python = _python(system)
    if python is None:
        raise Unsupported(f"the packages of {here.distribution} {here.version} hold no Python")
    site = _site(runtime, arch, python)
    publish(site, lambda aside: _unpack_site(runtime, arch, python, aside, progress))
    return Guest(system, python, site)


def discard(runtime: str, arch: str) -> None:
    """Remove the guest of a runtime, so that setting it up begins anew."""
    guest = find(runtime, arch)
    for part in (guest.system, guest.site) if guest else ():
        shutil.rmtree(part)


def foreign(guest: Guest, arch: str) -> Path | None:
    """Return a compiled file of the site that is for another architecture, or None.

    The guest's own words about such a file are that it does not exist.
    """
    for path in sorted(guest.site.rglob("*.so")):
        with path.open("rb") as file:
            if symbols.architecture(file.read(20)) != arch:
                return path
    return None


def publish(final: Path, build: Callable[[Path], None]) -> None:
    """Build a folder aside and rename it, so that it is never seen half built.

    Does nothing if it exists. One process at a time builds; the lock ends with its process.
    """
    import fcntl

    if final.exists():
        return
    final.parent.mkdir(parents=True, exist_ok=True)
    with (final.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if final.exists():
            return
        aside = final.with_name(f".{final.name}.partial")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        build(aside)
        aside.rename(final)


def run(
    command: Sequence[str],
    doing: str,
    remedy: str = "mend that and run the command again; what is done stays done",
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a command that must succeed.

    Args:
        command: program and arguments.
        doing: what this is, for the message.
        remedy: what to do if it fails.
        environment: the whole environment, by default this process's.

    Raises:
        Unsupported: it failed; with the line in which it says why.
    """
    try:
        ended = subprocess.run(
            children.guarded(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        reason = f"{doing} did not end within {_PATIENCE / 60:g} minutes"
        raise Unsupported(reason, remedy) from None
    except OSError as error:
        raise Unsupported(f"{doing} failed: {error}", remedy) from None
    if ended.returncode:
        raise Unsupported(f"{doing} failed: {_reason(ended.stderr or ended.stdout)}", remedy)


def _reason(text: str) -> str:
    """Return the line of a tool's output that says why it failed: its first error or its last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
    errors = [line for line in lines if line.startswith(("E:", "ERROR:")) or "error:" in line]
    return (errors or lines[-1:])[0]


def _system(here: Release, arch: str) -> Path:
    return folder() / f"{here.distribution}-{here.version}-{arch}"


def _site(runtime: str, arch: str, python: Path) -> Path:
    return folder() / f"{runtime}-{WHEELS[runtime][0]}-{python.name}-{arch}"


def _python(system: Path) -> Path | None:
    """Return the guest's Python, e.g. `usr/bin/python3.11`."""
    return next(iter(sorted(system.glob("usr/bin/python3.*[0-9]"))), None)


# Debian's servers hold every architecture. Ubuntu keeps ARM on a server of its own, which a machine
# with an x86 CPU does not know unless it is told.
_UBUNTU_REMEDY = "add Ubuntu's ports server to APT's sources, or run in a debian:12 container"


def _unpack_system(here: Release, arch: str, aside: Path, progress: Progress) -> None:
    work = folder() / f".apt-{here.distribution}-{here.version}-{arch}"
    options = _apt_options(arch, work)
    what = f"Python for {arch} from {here.distribution} {here.version}"
    progress(f"{what}: reading package lists")
    unread = None
    try:
        run(["apt-get", *options, "update", "--error-on=any"], "apt-get update")
    except Unsupported as error:
        # It fails if one of the machine's sources does, which may be one that nothing here needs.
        unread = error
    progress(f"{what}: fetching 15 MB")
    install = ["--yes", "--no-install-recommends", "--download-only", "install", *_PACKAGES]
    try:
        run(["apt-get", *options, *install], "apt-get install --download-only")
    except Unsupported as error:
        said = unread or error
        if here.distribution == "ubuntu":
            raise Unsupported(said.reason, _UBUNTU_REMEDY) from None
        raise said from None
    progress(f"{what}: unpacking")
    for package in sorted((work / "cache/archives").glob("*.deb")):
        run(["dpkg-deb", "--extract", str(package), str(aside)], f"unpacking {package.name}")
    # From Debian 13 and Ubuntu 24.04 on the packages hold /usr/lib only, and a package that is not
    # fetched here links /lib to it; the loader's name in every program begins with /lib.
    for name in ("bin", "lib"):
        if not (aside / name).exists():
            (aside / name).symlink_to(f"usr/{name}")
    shutil.rmtree(work)


def _apt_options(arch: str, work: Path) -> list[str]:
    """Return the options that give apt-get a state of its own, and make that state."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True, exist_ok=True)
    (work / "status").touch()
    settings = {
        "APT::Architecture": _DEBIAN_NAMES[arch],
        "APT::Architectures::": _DEBIAN_NAMES[arch],
        "APT::Sandbox::User": "root",  # the user _apt may not write to a cache of root's
        "Debug::NoLocking": "true",
        "Dir::Cache": f"{work}/cache",
        "Dir::State": f"{work}/state",
        "Dir::State::status": f"{work}/status",
    }
    return ["-qq", *(f"-o{name}={value}" for name, value in settings.items())]


def _unpack_site(runtime: str, arch: str, python: Path, aside: Path, progress: Progress) -> None:
    version, pythons = WHEELS[runtime]
    number = python.name.removeprefix("python")
    if number not in pythons:
        raise Unsupported(
            f"{runtime} {version} has no {arch} wheel for this system's Python {number},"
            f" only for {', '.join(pythons)}",
            "run the claim in a debian:12 container",
        )
    progress(f"{runtime} {version} for {arch}: fetching the wheels")
    requirements = Path(__file__).with_name(f"guest-{runtime}.txt")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--no-compile"]
    command += ["--implementation=cp", f"--python-version={number}"]
    command += [f"--platform={tag}_{arch}" for tag in _PLATFORMS]
    command += [f"--target={aside}", f"--requirement={requirements}"]
    # pip refuses a target when it is told elsewhere to install for the user.
    run(command, "pip install", environment={**os.environ, "PIP_USER": "0"})
