"""A host for tests: OpenSSH's own server on loopback, with keys and files of its own.

Nothing of the user's or of the system's ssh is read or written: the client gets `-F` with a
configuration that names every file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.targets.places import ssh

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
# Root's sshd wants an empty folder that the system's service makes: here it is in a file system of
# its own.
OWN_RUN = (
    *("unshare", "--mount", "sh", "-c"),
    'mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec "$0" "$@"',
)

# Carries a connection, as long as it is let: stopped it is a black hole, killed it is a cut line.
WIRE = """
import os, socket, sys, threading
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
open(sys.argv[2], "w").write(str(os.getpid()))
def up():
    while data := os.read(0, 65536):
        line.sendall(data)
    line.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := line.recv(65536):
    os.write(1, data)
"""


def missing() -> Unsupported | None:
    """Say what tests with a host lack."""
    names = {"server": SSHD, "client": shutil.which("ssh")}
    lacking = [name for name, path in names.items() if path is None]
    if lacking:
        packages = " ".join(f"openssh-{name}" for name in lacking)
        what = " and the ".join(lacking)
        return Unsupported(f"the {what} of OpenSSH cannot be found", f"apt-get install {packages}")
    return None


@contextlib.contextmanager
def reached(host: Host, python: str) -> Iterator[None]:
    """Let targets reach the host, and this Python on it, as long as it lasts."""
    ssh.configure(ssh.Settings.of([python], ["-F", str(host.config)]))
    try:
        yield
    finally:
        ssh.configure(None)


class Host:
    """One server, and the client's configuration, in which it has names.

    Attributes:
        folder: of all files; the home of the user on the host is `home` in it.
        config: the client's configuration.
        home: what the host keeps is here.
        user: whose the host's names are, "" for this one.
        sysroot: where the host finds its /sys and /proc; this machine's.
    """

    user = ""

    def __init__(self, folder: Path, home: Path | None = None) -> None:
        self.folder, self.config = folder, folder / "config"
        self.home = home or folder / "home"
        self.pids = folder / "wire.pid"
        if home is None:
            self.home.mkdir()
        self.sysroot = folder / "sysroot"
        self.sysroot.symlink_to("/")
        for name in ("host", "user", "stranger", "other"):
            keygen = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
            subprocess.run(keygen, check=True)
        shutil.copy(folder / "user.pub", folder / "authorized")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._write_server()
        self.write_client()
        self._process = self._start()

    def _write_server(self) -> None:
        # sshd clears the environment, so what the host's user has comes from here.
        (self.folder / "sshd_config").write_text(
            self.server_config(self.folder / "host", self.folder / "authorized")
            + f"SetEnv XDG_CACHE_HOME={self.home} PYTEST_SPARSITY_SYSROOT={self.sysroot}\n"
        )

    def server_config(self, key: Path | str, authorized: Path | str) -> str:
        """Return the server's configuration, with these files."""
        return f"""ListenAddress 127.0.0.1
Port {self.port}
HostKey {key}
AuthorizedKeysFile {authorized}
PasswordAuthentication no
KbdInteractiveAuthentication no
PubkeyAuthentication yes
StrictModes no
UsePAM no
PidFile none
"""

    def write_client(self, known: str = "host", more: str = "") -> None:
        """Write the client's configuration; `known` is the key that it knows of the host."""
        public = (self.folder / f"{known}.pub").read_text() if known else ""
        names = self.folder / "known"
        names.write_text(f"[127.0.0.1]:{self.port} {public}\n" if known else "")
        wire = self.folder / "wire.py"
        wire.write_text(WIRE)
        common = f"""UserKnownHostsFile {names}
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking yes
IdentitiesOnly yes
IdentityAgent none
ControlPath none
"""
        self.config.write_text(
            f"""Host nowhere
  HostName name.invalid
Host closed
  HostName 127.0.0.1
  Port 1
Host stranger
  IdentityFile {self.folder / "stranger"}
Host wired
  ProxyCommand {sys.executable} {wire} {self.port} {self.pids}
Host board second wired stranger
  HostName 127.0.0.1
  Port {self.port}
{f"  User {self.user}" if self.user else ""}
{more}
Host * !stranger
  IdentityFile {self.folder / "user"}
Host *
{common}"""
        )

    def _start(self) -> subprocess.Popen[bytes]:
        assert SSHD
        command = (SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config"))
        started = self._run((*OWN_RUN, *command) if os.getuid() == 0 else command)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self._listens():
                return started
            time.sleep(0.05)
        started.kill()
        raise RuntimeError(self.log.read_text())

    def _run(
        self, command: tuple[str, ...], stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            return subprocess.Popen(command, stdin=stdin, stderr=log, start_new_session=True)

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "sshd.log"

    def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    @property
    def cache(self) -> Path:
        """What the host keeps."""
        return self.home / "pytest-sparsity" / "board"

    def kept(self) -> list[str]:
        """Return the files that the host keeps."""
        return sorted(path.name for path in self.cache.rglob("*") if path.is_file())

    def workers(self) -> list[int]:
        """Return the workers that run there: the agent starts them from the code in the cache."""
        return self.processes("/board/code-")

    def processes(self, word: str) -> list[int]:
        """Return the processes below the server with a word in their command."""
        found = []
        for child in descendants(self._process.pid):
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in command:
                found.append(child)
        return found

    def close(self) -> None:
        """End the server and all that it runs."""
        for pid in [*descendants(self._process.pid), self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes below one."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(c) for t in tasks for c in (t / "children").read_text().split()]
    except OSError:
        return []
    return [each for child in children for each in (child, *descendants(child))]
