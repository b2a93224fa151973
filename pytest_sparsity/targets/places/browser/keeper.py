"""Keeps a browser: keeper.py FOLDER PROGRAM [ARGUMENT...].

Starts the program in a session of its own, and waits until it ends or standard input does, whose
other end only the one who asked for it holds. Then every process that has come of the program is
killed and FOLDER, the browser's profile, is removed. So nothing is left however the other ends.
Needs the standard library alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

# From linux/prctl.h: orphans below this process become its children.
PR_SET_CHILD_SUBREAPER = 36
# Seconds for processes that were killed to be gone.
PATIENCE = 5.0


def main(arguments: list[str]) -> int:
    """Run the program, and return its exit status, or minus the signal that ended it."""
    folder, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    told, tell = os.pipe()
    for end in (told, tell):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(tell)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit(f"{command[0]} cannot be executed: {error.strerror}")
    while program.poll() is None:
        ready, _, _ = select.select([sys.stdin.fileno(), told], [], [])
        if told in ready:
            os.read(told, 4096)
        if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 4096):
            break
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    _kill_orphans(time.monotonic() + PATIENCE)
    shutil.rmtree(folder, ignore_errors=True)
    return program.returncode


def _kill_orphans(deadline: float) -> None:
    """Kill what the program has left, wherever it has put itself, and wait for its end."""
    while time.monotonic() < deadline:
        for child in children(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            return


def children(parent: int) -> list[int]:
    """Return the children of a process as Linux lists them; elsewhere none."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # The name in parentheses may hold spaces; state and parent follow it.
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(entry.name))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
