"""A board for tests: an ARM Linux with an OpenSSH server of its own, emulated by QEMU's user mode.

Its programs, server and Python among them, are the distribution's for aarch64; the kernel is this
machine's, which starts them with QEMU inside namespaces that end with the server (binfmt_misc is
every user namespace's own since Linux 6.7). Neither the machine's packages, users nor settings are
touched. The system is unpacked once, into the user's cache; what a board writes goes into an
overlay in a folder of the test's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from hosts import Host
from pytest_sparsity import Unsupported, children
from pytest_sparsity.targets import setting_up
from pytest_sparsity.targets.places.emulated import at, guests
from pytest_sparsity.targets.runtimes import RUNTIMES

CPU = at("cortex-a53")
RUNTIMES_THERE = ("litert", "tflite-runtime")
USER, USER_ID = "pi", 1000
_PACKAGES = ("base-files", "coreutils", "dash", "libc-bin", "openssh-server")
_BARE = "run the claim as root on Debian or Ubuntu with Linux 6.7 or later"
# Of a user namespace: 0 to 65535 are who they are.
_IDS = "0 0 65536\n"
# Seconds for the emulated server to start on a busy machine.
_PATIENCE = 60.0
# What the kernel starts with the emulator: the header of an ELF file for aarch64, and its mask.
_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
# Waits for its ids and becomes a program that has all rights in its namespaces.
_WAIT = 'read go && exec "$@"'
# The loader and the libraries of this machine are there for the emulator.
_ENTER = r"""set -e
folder=$1 system=$2 emulator=$3 model=$4; shift 4
root=$folder/root
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$system,upperdir=$folder/upper,workdir=$folder/work" "$root"
mount -t tmpfs -o mode=1777 none "$root/tmp"
mount -t tmpfs none "$root/run"
mkdir -m 755 "$root/run/sshd"
mount -t proc proc "$root/proc"
mount --bind "$folder/cpuinfo" "$root/proc/cpuinfo"
for name in null zero random urandom tty; do
  : > "$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
for name in lib64 lib/x86_64-linux-gnu; do
  mkdir -p "$root/$name"
  mount --rbind "/$name" "$root/$name"
done
for site in "$folder"/sites/*; do
  mount --bind "$site" "$root/home/pi/${site##*/}/lib/python/site-packages"
done
test -e "$folder/without-sys" || mount --rbind /sys "$root/sys"
mkdir -p "$root/mnt"
mount -t binfmt_misc none "$root/mnt"
printf '%s' ":board:M::MAGIC:MASK:$emulator:F" > "$root/mnt/register"
: > "$folder/entered"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin QEMU_CPU="$model" chroot "$root" "$@"
""".replace("MAGIC", _MAGIC).replace("MASK", _MASK)
_FILES = {
    "etc/passwd": f"root:x:0:0::/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
    f"{USER}:x:{USER_ID}:{USER_ID}::/home/{USER}:/bin/sh\n",
    "etc/shadow": "".join(f"{name}:*:19000:0:99999:7:::\n" for name in ("root", "sshd", USER)),
    "etc/group": f"root:x:0:\nnogroup:x:65534:\n{USER}:x:{USER_ID}:\n",
}


def missing() -> Unsupported | None:
    """Say what is missing that this machine could have; whether its kernel permits is tried."""
    if os.getuid() != 0:
        return Unsupported("an emulated board has users, which root alone can give it", _BARE)
    lacking = CPU.missing(RUNTIMES["litert"])
    if lacking is not None:
        return lacking
    programs = [name for name in ("ssh", "ssh-keygen", "unshare") if shutil.which(name) is None]
    if programs:
        remedy = "apt-get install openssh-client util-linux"
        return Unsupported(f"a board needs {' and '.join(programs)}", remedy)
    return None


def system() -> Path:
    """Return the board's system, unpacked if need be: 40 MB are fetched, once.

    Raises:
        Unsupported: it cannot be had.
    """
    here = guests.release()
    if here is None:
        raise Unsupported("a board is made from the packages of Debian or Ubuntu", _BARE)
    arch = CPU.core.arch
    final = guests.folder() / f"board-{here.distribution}-{here.version}-{arch}"
    packages = (*guests.PACKAGES, *_PACKAGES)

    def build(aside: Path) -> None:
        guests.unpack(packages, 40, here, arch, aside, _silent)

    setting_up.publish(final, build)
    return final


def _silent(_: str) -> None:
    """Take a step without a word."""


class Board(Host):
    """One board, up and running; `board` is its name for the client.

    Args:
        folder: of all files, empty.
        sysfs: whether it has a /sys, which is this machine's.
    """

    user = USER

    def __init__(self, folder: Path, *, sysfs: bool = True) -> None:
        self._system = system()
        if not sysfs:
            (folder / "without-sys").touch()
        self.upper = folder / "upper"
        for name in ("root", "work", "sites", f"upper/home/{USER}", "upper/etc/ssh"):
            (folder / name).mkdir(parents=True)
        for name, content in _FILES.items():
            (self.upper / name).write_text(content)
        (folder / "cpuinfo").write_text(CPU.core.cpuinfo)
        self._lacking = {name: self._environment(folder, name) for name in RUNTIMES_THERE}
        home = self.upper / "home" / USER
        for path in (home, *home.rglob("*")):
            os.chown(path, USER_ID, USER_ID, follow_symlinks=False)
        super().__init__(folder, home=home / ".cache")

    def _environment(self, folder: Path, runtime: str) -> Unsupported | None:
        """Make a virtual environment in the user's home, or say what is missing for it."""
        lacking = CPU.missing(RUNTIMES[runtime])
        guest = guests.find(RUNTIMES[runtime], CPU.core.arch)
        if guest is None:
            return lacking
        (folder / "sites" / runtime).symlink_to(guest.site)
        environment = self.upper / "home" / USER / runtime
        (environment / "bin").mkdir(parents=True)
        (environment / "bin" / "python").symlink_to(f"/usr/bin/{guest.python.name}")
        (environment / "pyvenv.cfg").write_text("home = /usr/bin\n")
        (environment / "lib" / "python" / "site-packages").mkdir(parents=True)
        (environment / "lib" / guest.python.name).symlink_to("python")
        return None

    def python(self, runtime: str) -> str:
        """Return the path of a runtime's Python on the board.

        Raises:
            Unsupported: the runtime is not there.
        """
        lacking = self._lacking[runtime]
        if lacking is not None:
            raise lacking
        return f"~/{runtime}/bin/python"

    def _write_server(self) -> None:
        ssh = self.upper / "etc" / "ssh"
        shutil.copy(self.folder / "host", ssh / "board_key")
        shutil.copy(self.folder / "authorized", ssh / "authorized")
        # The server clears the environment, and QEMU reads there which CPU it is.
        (ssh / "board_config").write_text(
            self.server_config("/etc/ssh/board_key", "/etc/ssh/authorized")
            + f"SetEnv QEMU_CPU={CPU.core.model}\n"
        )

    def _start(self) -> subprocess.Popen[bytes]:
        sshd = ("/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/board_config")
        emulator = shutil.which(CPU.emulator)
        assert emulator
        inner = (
            *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
            *("sh", "-c", _ENTER, "sh", str(self.folder), str(self._system), emulator),
            *(CPU.core.model, *sshd),
        )
        waiting = ("unshare", "--user", "sh", "-c", _WAIT, "sh", *children.guarded(inner))
        started = self._run(waiting, subprocess.PIPE)
        assert started.stdin is not None
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and started.poll() is None:
            if self._listens():
                return started
            if not started.stdin.closed and _apart(started.pid):
                for name in ("uid_map", "gid_map"):
                    Path(f"/proc/{started.pid}/{name}").write_text(_IDS)
                started.stdin.write(b"go\n")
                started.stdin.close()
            time.sleep(0.05)
        started.kill()
        started.wait()
        started.stdin.close()
        said = self.log.read_text()
        if (self.folder / "entered").exists():
            raise RuntimeError(said)
        raise Unsupported(f"this kernel permits no board ({said.strip()})", _BARE)


def _apart(pid: int) -> bool:
    """Return whether a process has a user namespace of its own."""
    own, other = (Path(f"/proc/{who}/ns/user").readlink() for who in ("self", pid))
    return own != other
