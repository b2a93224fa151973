"""A phone that adb reaches, through the `benchmark_model` of the people who work with phones.

Experimental: it has met Android's client and a device that speaks its protocol, no phone. The
binary is the user's. It is a process per block, whose times are whole microseconds of a wall clock;
what it computes it does not show.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.targets.child import Launch
from pytest_sparsity.targets.places import remote

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_sparsity.targets.runtimes import Runtime

NAME = "adb"
DRIVER = Path(__file__).with_name("driver.py")
BINARY = "PYTEST_SPARSITY_BENCHMARK_MODEL"
MASK = "PYTEST_SPARSITY_ADB_MASK"
# Where litert-cli keeps the one that its command `benchmark` has fetched.
_FETCHED = Path("~/.cache/litert-cli/binaries/arm64-v8a")
_REMEDY = f"set {BINARY} to a benchmark_model for the phone, or fetch one with: litert benchmark"


@dataclass(frozen=True)
class Settings:
    """What the phone is to run.

    Attributes:
        binary: the path of benchmark_model here; "" for that of the environment, or of litert-cli.
        mask: the cores that it runs on, as `taskset` takes them, e.g. `"f0"`; "" for all.
    """

    binary: str = ""
    mask: str = ""

    def found(self) -> Path | None:
        """Return the path of the binary, None if there is none."""
        named = self.binary or os.environ.get(BINARY, "")
        if named:
            path = Path(named).expanduser()
            return path if path.is_file() else None
        folder = _FETCHED.expanduser()
        fetched = [path for path in sorted(folder.glob("*benchmark*")) if path.is_file()]
        return fetched[0] if fetched else None


_settings = Settings()


def configure(settings: Settings | None) -> None:
    """Let phones run so from now on, by default as the environment says; forget what they said."""
    global _settings  # noqa: PLW0603  (set once per run)
    _settings = settings or Settings()
    remote.forget()


def connected() -> tuple[str, ...]:
    """Return the serial numbers of the phones that a server of adb knows, if one runs here.

    The client would start a server, so this asks as the client does (Android's SERVICES.TXT).
    """
    port = os.environ.get("ANDROID_ADB_SERVER_PORT", "5037")
    request = b"host:devices"
    try:
        with socket.create_connection(("127.0.0.1", int(port)), 1) as server:
            server.settimeout(2)
            server.sendall(b"%04x%s" % (len(request), request))
            with server.makefile("rb") as answer:
                if answer.read(4) != b"OKAY":
                    return ()
                said = answer.read(int(answer.read(4), 16)).decode()
    except (OSError, ValueError):
        return ()
    return tuple(line.split("\t")[0] for line in said.splitlines() if "\t" in line)


@dataclass(frozen=True)
class Adb(remote.Remote):
    """A phone.

    Attributes:
        serial: its serial number, or ADDRESS:PORT; "" for the only one that is connected.
    """

    serial: str = ""
    timeout: float = 300.0
    shows_outputs: bool = False
    takes_inputs: bool = False

    @property
    def host(self) -> str:  # type: ignore[override]
        """The name after the `@` of its targets."""
        return f"{NAME}:{self.serial}" if self.serial else NAME

    def missing(self, runtime: Runtime, /) -> Unsupported | None:
        """Say what is missing as far as that is known; asks no phone."""
        if shutil.which("adb") is None:
            return Unsupported("adb is not installed", "install it, e.g. apt-get install adb")
        if _settings.found() is None:
            return Unsupported("there is no benchmark_model to push to the phone", _REMEDY)
        return super().missing(runtime)

    def launch(self, runtime: Runtime, threads: int, /) -> Launch:
        """Return how to start the driver.

        Raises:
            Unsupported: there is no binary.
        """
        binary = _settings.found()
        if binary is None:
            raise Unsupported("there is no benchmark_model to push to the phone", _REMEDY)
        driver = {
            "serial": self.serial,
            "runtime": runtime.name,
            "binary": str(binary),
            "mask": _settings.mask or os.environ.get(MASK, ""),
            "threads": threads,
        }
        return Launch((sys.executable, str(DRIVER), json.dumps(driver)), os.environ)

    def install(self, runtime: Runtime, progress: Callable[[str], None], /) -> None:  # noqa: ARG002
        """Say what is missing: nothing of it can be brought.

        Raises:
            Unsupported: something is missing.
        """
        missing = self.missing(runtime)
        if missing is not None:
            raise missing
