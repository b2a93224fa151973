"""What is wrong when a line to a host does not come to be: one sentence, and its remedy.

ssh has one exit status, 255, for all that goes wrong with it; its words tell what it was (OpenSSH
9.2). A status below is that of the command on the host, or of its shell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_sparsity.targets.child import last_line

if TYPE_CHECKING:
    from collections.abc import Mapping

SSH_FAILED = 255
# What a shell ends with when there is no such program, or it is none.
NOT_THERE = (126, 127)


@dataclass(frozen=True)
class Asked:
    """What was asked for.

    Attributes:
        host: as the user calls it.
        python: the program on the host.
        runtime: the name of the runtime.
        package: that is installed there for it; "" if it is not known.
    """

    host: str
    python: str
    runtime: str
    package: str = ""


# Words of ssh, what they mean, what helps; HOST stands for the host.
_WORDS = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "HOST has another key than ssh has kept for it",
        "if it was set up again, run ssh-keygen -R with its name or address, and then ssh HOST",
    ),
    (
        "Host key verification failed",
        "ssh does not know the key of HOST",
        "look at it once: ssh HOST",
    ),
    ("Permission denied", "HOST accepts none of your keys", "ssh-copy-id HOST"),
    ("Could not resolve hostname", "there is no host HOST", "name it in ~/.ssh/config"),
    (
        "Connection refused",
        "no ssh server listens on HOST",
        "start it there, or set its port in ~/.ssh/config",
    ),
    ("timed out", "HOST does not answer", "see whether it is on: ssh HOST"),
    ("No route to host", "HOST cannot be reached", "see whether it is on: ssh HOST"),
    ("Network is unreachable", "HOST cannot be reached", "see whether you are connected: ssh HOST"),
)


def of_connecting(asked: Asked, status: int, said: str) -> tuple[str, str]:
    """Return the fault and the remedy of a connection that has not come to be.

    Args:
        asked: what was asked for.
        status: the exit status of ssh.
        said: what ssh, and what ran on the host, wrote to stderr.
    """
    host, python = asked.host, asked.python
    if status in NOT_THERE:
        return (
            f"{host} has no {python}",
            f"install Python 3.9 or later there, or name it: sparsity_ssh_python = {host}=PATH",
        )
    old = re.search(r"^too old: (Python [\d.]+)$", said, re.MULTILINE)
    if old:
        return (
            f"{python} on {host} is {old[1]}, and 3.9 is needed",
            f"name a later one: sparsity_ssh_python = {host}=PATH",
        )
    if status == SSH_FAILED:
        for words, fault, remedy in _WORDS:
            if words in said:
                return fault.replace("HOST", host), remedy.replace("HOST", host)
    return (
        f"{host} cannot be worked with: {_last(said) or f'ssh ended with status {status}'}",
        f"try ssh {host} {python} --version",
    )


def of_starting(asked: Asked, said: str) -> tuple[str, str] | None:
    """Return the fault and the remedy of a worker that has not started; None if it crashed."""
    missing = re.search(r"^ModuleNotFoundError: No module named '([\w.]+)'", said, re.MULTILINE)
    if missing is None:
        return None
    install = f"ssh {asked.host} {asked.python} -m pip install {asked.package or missing[1]}"
    return f"{asked.runtime} is not installed on {asked.host} ({_last(said)})", install


def of_board(asked: Asked, board: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the fault and the remedy of a board on which a runtime would leave XNNPACK out.

    XNNPACK finds an ARM's cores in sysfs (cpuinfo's `src/linux/processors.c`). Where it is not
    mounted, as in some chroots, LiteRT 2.3 and tflite-runtime 2.14 run every model in TFLite's own
    kernels, and stderr alone has "Error in cpuinfo".
    """
    if board["arch"] != "aarch64" or board["processors"]:
        return None
    return (
        f"{asked.host} shows no processors in /sys, without which XNNPACK does not start",
        "mount it there: mount -t sysfs sysfs /sys",
    )


def of_line(asked: Asked, status: int, said: str) -> str:
    """Return the sentence about a line that was cut after it had come to be."""
    how = _last(said) or f"ssh ended with status {status}"
    return (
        f"the line to {asked.host} was cut ({how}); its worker ends by itself; see whether it is "
        f"there: ssh {asked.host}"
    )


def _last(said: str) -> str:
    return last_line(said).rstrip(".")
