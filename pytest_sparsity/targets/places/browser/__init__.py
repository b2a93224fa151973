"""The browsers on this machine: LiteRT.js in a page that a browser without a window shows.

A worker is `relay.py`, which starts the browser and hands over what is asked; `keeper.py` ends
what a browser leaves.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.errors import SparsityWarning, Unsupported
from pytest_sparsity.targets import npm
from pytest_sparsity.targets.child import Launch
from pytest_sparsity.targets.places.webassembly import InWebAssembly

if TYPE_CHECKING:
    from pytest_sparsity.targets.runtimes import Runtime

RELAY = Path(__file__).with_name("relay.py")
_REMEDY = "python -m pip install 'pytest-sparsity[browser]'"
# The names of the programs by host, the usual ones first.
PROGRAMS = {
    "chromium": ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "firefox": ("firefox", "firefox-esr"),
}
HOSTS = tuple(PROGRAMS)
_TITLES = {"chromium": "Chromium", "firefox": "Firefox"}


def find(host: str | None) -> str | None:
    """Return the path of a browser, None if there is none on PATH."""
    return next(filter(None, map(shutil.which, PROGRAMS[str(host)])), None)


@dataclass(frozen=True)
class InBrowser(InWebAssembly):
    """A browser on this machine, whose npm package is the one that Node runs.

    Attributes:
        host: "chromium" or "firefox".
    """

    host: str | None = "chromium"
    # Firefox needs 20 s to start on a machine whose cores have other work.
    timeout = 120.0

    def missing(self, runtime: Runtime, /) -> Unsupported | None:
        """Say what the runtime lacks here, or None; installs and starts nothing."""
        title = _TITLES[str(self.host)]
        if importlib.util.find_spec("websockets") is None:
            return Unsupported(
                f"{runtime.name} in {title} needs websockets, which is not installed", _REMEDY
            )
        if find(self.host) is None:
            programs = ", ".join(PROGRAMS[str(self.host)])
            return Unsupported(
                f"{title} is not installed",
                f"install {title} so that one of {programs} is on PATH",
            )
        return super().missing(runtime)

    def launch(self, runtime: Runtime, threads: int, /) -> Launch:
        """Return how to start the worker; installs the npm package if need be.

        Raises:
            Unsupported: the build has no threads, or the package cannot be had.
        """
        lacking = self.missing(runtime)
        if lacking is not None:
            raise lacking
        if threads != 1 and runtime.build != "normal":
            raise Unsupported(f"{runtime.name} runs on one thread, not {threads}", "use threads=1")
        node, command = npm.find_node(), find(self.host)
        assert node is not None
        assert command is not None
        if os.geteuid() == 0 and self.host == "chromium":
            _say_that_the_sandbox_is_off()
        package = npm.installed(node, self.release)
        build = "threaded" if threads != 1 else runtime.build
        asked = {
            "browser": self.host,
            "command": command,
            "wasm": str(package / "wasm"),
            "runtime": {"name": runtime.name, "version": self.version(runtime), "build": build},
        }
        path = os.pathsep.join(entry for entry in sys.path if entry)
        environment = {**os.environ, "PYTHONPATH": path}
        return Launch((sys.executable, str(RELAY), json.dumps(asked)), environment)

    def at(self, release: str, /) -> InBrowser:
        """Return the browser with a release."""
        return InBrowser(release, self.host)


@cache
def _say_that_the_sandbox_is_off() -> None:
    """Warn, once."""
    warnings.warn(
        "Chromium runs without its sandbox, since it has none for root: run as another user",
        SparsityWarning,
        stacklevel=2,
    )
