"""A host that the user's own ssh reaches, through `relay.py` here and `agent.py` there.

A host is any name that `ssh HOST` takes, so ~/.ssh/config says the rest. It needs Linux, Python 3.9
or later and the runtime. What is known of it is what it said when a worker last started there.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.targets.child import Launch
from pytest_sparsity.targets.places import remote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_sparsity.targets.runtimes import Runtime

PREFIX = "ssh:"
RELAY = Path(__file__).with_name("relay.py")
# The remote command holds the path as it stands, so that `~` means the home of the user there.
_PATH = re.compile(r"[\w~./+-]+")
# Seconds without a word after which a board takes the line for cut.
SILENCE = 60.0
# Bytes of models that a board keeps.
LIMIT = 1_000_000_000


@dataclass(frozen=True)
class Settings:
    """How hosts are reached, beyond what ~/.ssh/config says.

    Attributes:
        options: of ssh, before all others, e.g. `("-F", "ci/ssh_config")`.
        pythons: Python's path by host; that of the host "" is for all others.
    """

    options: tuple[str, ...] = ()
    pythons: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, pythons: Iterable[str] = (), options: Iterable[str] = ()) -> Settings:
        """Return settings from entries like `PATH` or `HOST=PATH` and ssh's options.

        Those of the environment, `PYTEST_SPARSITY_SSH_PYTHON` and `PYTEST_SPARSITY_SSH_OPTIONS`,
        count where none are given.

        Raises:
            ValueError: a path has characters that a shell could misread.
        """
        entries = tuple(pythons) or _words("PYTEST_SPARSITY_SSH_PYTHON")
        found = []
        for entry in entries:
            host, _, path = entry.rpartition("=")
            if not _PATH.fullmatch(path):
                raise ValueError(
                    f"a Python on a host is PATH or HOST=PATH, of letters, digits and ~./+-_, not "
                    f"{entry!r}"
                )
            found.append((host, path))
        return cls(tuple(options) or _words("PYTEST_SPARSITY_SSH_OPTIONS"), tuple(found))

    def python(self, host: str) -> str:
        """Return the path of Python on a host."""
        known = dict(self.pythons)
        return known.get(host) or known.get("") or "python3"


def _words(variable: str) -> tuple[str, ...]:
    return tuple(shlex.split(os.environ.get(variable, "")))


_settings: Settings | None = None


def configure(settings: Settings | None) -> None:
    """Reach hosts so from now on, by default as the environment says; forget what they said."""
    global _settings  # noqa: PLW0603  (set once per run)
    _settings = settings
    remote.forget()


@dataclass(frozen=True)
class Ssh(remote.Remote):
    """A host.

    Attributes:
        destination: what ssh calls it.
    """

    destination: str
    # ssh itself finds in 15 s that a host is gone; loading 100 MB by radio takes longer.
    timeout: float = 300.0

    @property
    def host(self) -> str:  # type: ignore[override]
        """The name after the `@` of its targets."""
        return f"{PREFIX}{self.destination}"

    def missing(self, runtime: Runtime, /) -> Unsupported | None:
        """Say what is missing as far as that is known; connects to nothing."""
        if shutil.which("ssh") is None:
            return Unsupported(
                "ssh is not installed", "install it, e.g. apt-get install openssh-client"
            )
        return super().missing(runtime)

    def launch(self, runtime: Runtime, threads: int, /) -> Launch:  # noqa: ARG002  (come with `load`)
        """Return how to start the relay."""
        settings = _settings or Settings.of()
        relay = {
            "host": self.destination,
            "python": settings.python(self.destination),
            "runtime": runtime.name,
            "package": "".join(runtime.packages[:1]),
            "arguments": runtime.worker()[1],
            "options": settings.options,
            "silence": SILENCE,
            "limit": LIMIT,
        }
        return Launch((sys.executable, str(RELAY), json.dumps(relay)), os.environ)
