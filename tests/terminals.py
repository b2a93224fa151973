"""Commands on a terminal of their own, and what they show there for a while."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PROCESS = r"litert: process \d+ of 14, \d+ s left at most"


def on_a_terminal(command: list[str], folder: Path) -> str:
    """Return what a command writes to its terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # the other side is closed
        while select.select([ours], [], [], 120)[0]:
            written += os.read(ours, 65536)
    os.close(ours)
    done.wait(60)
    return written.decode()


def steps(written: str) -> list[str]:
    return [text.strip() for text in re.findall(r"\x1b7([^\x1b]*)\x1b\[K\x1b8", written)]
