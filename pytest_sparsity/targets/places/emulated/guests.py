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
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.targets import releases, sealed, setting_up, symbols

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.targets.runtimes import Runtime
    from pytest_sparsity.targets.setting_up import Progress


# What a Python needs that starts numpy and a runtime; apt-get adds what these depend on.
PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "zlib1g")
# Linux' name of an architecture -> Debian's.
_DEBIAN_NAMES = {"aarch64": "arm64"}
# What is tagged thus runs on the glibc of Debian 12 (2.36), Ubuntu 22.04 (2.35) and later.
_PLATFORMS = ("manylinux_2_34", "manylinux_2_27", "manylinux_2_17", "manylinux2014")


@dataclass(frozen=True)
class OsRelease:
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
def release() -> OsRelease | None:
    """Return this machine's Debian or Ubuntu, or None if it is something else."""
    try:
        facts = platform.freedesktop_os_release()
    except OSError:
        return None
    if facts["ID"] not in ("debian", "ubuntu") or "VERSION_ID" not in facts:
        return None
    return OsRelease(facts["ID"], facts["VERSION_ID"])


def find(runtime: Runtime, arch: str, version: str = "") -> Guest | None:
    """Return the guest of a runtime, or of one of its releases, if it is set up and whole."""
    guest = _expected(runtime, arch, version)
    return None if guest is None or _fault(guest) else guest


def damage(runtime: Runtime, arch: str, version: str = "") -> str:
    """Say what is wrong with the guest of a runtime that is there; "" if nothing or none is."""
    guest = _expected(runtime, arch, version)
    return _fault(guest) if guest is not None and guest.site.exists() else ""


def _fault(guest: Guest) -> str:
    return sealed.fault(guest.system) or sealed.fault(guest.site)


def _expected(runtime: Runtime, arch: str, version: str) -> Guest | None:
    """Return the guest as far as a system with a Python is there."""
    here = release()
    if here is None:
        return None
    system = _system(here, arch)
    python = _python(system)
    if python is None:
        return None
    return Guest(system, python, _site(runtime, arch, python, version))


def set_up(runtime: Runtime, arch: str, progress: Progress, version: str = "") -> Guest:
    """Set up what the guest of a runtime lacks, and return it.

    Args:
        runtime: one that has a `guest_version`.
        arch: the guest's architecture, `"aarch64"`.
        progress: gets one line before every step.
        version: of the runtime, "" for the pinned one.

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
    setting_up.publish(
        system, lambda aside: _unpack_system(here, arch, aside, progress), thoroughly=True
    )
    python = _python(system)
    if python is None:
        raise Unsupported(f"the packages of {here.distribution} {here.version} hold no Python")
    site = _site(runtime, arch, python, version)
    number = _number(python)

    def unpack(aside: Path) -> None:
        if version:
            releases.unpack(runtime, version, aside, progress, number, _platforms(arch))
        else:
            _unpack_site(runtime, arch, number, aside, progress)

    setting_up.publish(site, unpack, thoroughly=True)
    return Guest(system, python, site)


def published(runtime: Runtime, arch: str) -> tuple[str, ...]:
    """Return the releases of a runtime that have a wheel for the guest, the oldest first.

    Raises:
        Unsupported: its Python is not known yet, since nothing is set up, or pip cannot tell.
    """
    here = release()
    python = None if here is None else _python(_system(here, arch))
    if python is None:
        raise Unsupported(
            f"no {arch} guest is set up, so its Python is not known",
            f"pytest-sparsity targets --install {runtime.name}@cortex-a53",
        )
    return releases.published(runtime, _number(python), _platforms(arch))


def discard(runtime: Runtime, arch: str, version: str = "") -> None:
    """Remove the guest of a runtime, so that setting it up begins from the start."""
    guest = _expected(runtime, arch, version)
    for part in (guest.system, guest.site) if guest else ():
        setting_up.discard(part)


def discard_site(runtime: Runtime, arch: str, version: str) -> None:
    """Remove a release from its guest; the system, which other guests use, stays."""
    guest = _expected(runtime, arch, version)
    if guest is not None:
        setting_up.discard(guest.site)


def foreign(guest: Guest, arch: str) -> Path | None:
    """Return a compiled file of the site that is for another architecture, or None.

    The guest's own words about such a file are that it does not exist.
    """
    for path in sorted(guest.site.rglob("*.so")):
        with path.open("rb") as file:
            if symbols.architecture(file.read(20)) != arch:
                return path
    return None


def _system(here: OsRelease, arch: str) -> Path:
    return folder() / f"{here.distribution}-{here.version}-{arch}"


def _site(runtime: Runtime, arch: str, python: Path, version: str) -> Path:
    # The pinned release and the same one by its name differ in the numpy beside it.
    pinned = f"{runtime.name}-{runtime.guest_version}"
    name = f"release-{runtime.name}-{version}" if version else pinned
    return folder() / f"{name}-{python.name}-{arch}"


def _python(system: Path) -> Path | None:
    """Return the guest's Python, e.g. `usr/bin/python3.11`."""
    return next(iter(sorted(system.glob("usr/bin/python3.*[0-9]"))), None)


def _number(python: Path) -> str:
    """Return the version of a Python, e.g. "3.11"."""
    return python.name.removeprefix("python")


def _platforms(arch: str) -> list[str]:
    """Return pip's names of the guest."""
    return [f"{tag}_{arch}" for tag in _PLATFORMS]


# Debian's servers hold every architecture. Ubuntu keeps ARM on a server of its own, which a machine
# with an x86 CPU does not know unless it is told.
_UBUNTU_REMEDY = "add Ubuntu's ports server to APT's sources, or run in a debian:12 container"


def _unpack_system(here: OsRelease, arch: str, aside: Path, progress: Progress) -> None:
    what = f"Python for {arch} from {here.distribution} {here.version}"
    unpack(PACKAGES, 15, here, arch, aside, lambda step: progress(f"{what}: {step}"))
    # From Debian 13 and Ubuntu 24.04 on the packages hold /usr/lib only, and a package that is not
    # fetched here links /lib to it; the loader's name in every program begins with /lib.
    for name in ("bin", "lib"):
        if not (aside / name).exists():
            (aside / name).symlink_to(f"usr/{name}")


def unpack(
    packages: Sequence[str],
    megabytes: int,
    here: OsRelease,
    arch: str,
    aside: Path,
    progress: Progress,
) -> None:
    """Unpack packages of this distribution, and what they depend on, for another architecture.

    Args:
        packages: their names.
        megabytes: about so many are fetched.
        here: this machine's distribution.
        arch: theirs, `"aarch64"`.
        aside: a folder that `setting_up.publish` gives; what was fetched is kept beside it until
            all is unpacked.
        progress: gets one line before every step.

    Raises:
        Unsupported: a command failed.
    """
    work = aside.with_name(f".apt-{aside.stem.lstrip('.')}")
    options = _apt_options(arch, work)
    progress("reading package lists")
    unread = None
    try:
        setting_up.run(["apt-get", *options, "update", "--error-on=any"], "apt-get update")
    except Unsupported as error:
        # It fails if one of the machine's sources does, which may be one that nothing here needs.
        unread = error
    progress(f"fetching {megabytes} MB")
    install = ["--yes", "--no-install-recommends", "--download-only", "install", *packages]
    try:
        setting_up.run(["apt-get", *options, *install], "apt-get install --download-only")
    except Unsupported as error:
        said = unread or error
        if here.distribution == "ubuntu":
            raise Unsupported(said.reason, _UBUNTU_REMEDY) from None
        raise said from None
    progress("unpacking")
    for package in sorted((work / "cache/archives").glob("*.deb")):
        setting_up.run(
            ["dpkg-deb", "--extract", str(package), str(aside)], f"unpacking {package.name}"
        )
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


def _unpack_site(runtime: Runtime, arch: str, number: str, aside: Path, progress: Progress) -> None:
    name, version, pythons = runtime.name, runtime.guest_version, runtime.guest_pythons
    if number not in pythons:
        raise Unsupported(
            f"{name} {version} has no {arch} wheel for this system's Python {number},"
            f" only for {', '.join(pythons)}",
            "run the claim in a debian:12 container",
        )
    progress(f"{name} {version} for {arch}: fetching the wheels")
    requirements = Path(__file__).with_name(f"guest-{name}.txt")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--no-compile"]
    command += ["--implementation=cp", f"--python-version={number}"]
    command += [f"--platform={platform}" for platform in _platforms(arch)]
    command += [f"--target={aside}", f"--requirement={requirements}"]
    # pip refuses a target when it is told elsewhere to install for the user.
    setting_up.run(command, "pip install", environment={**os.environ, "PIP_USER": "0"})
