"""Becomes another program, which dies with its parent: guard.py PARENT BYTES PROGRAM [ARGUMENT...].

PARENT is the process id of the one that started this, BYTES the private memory that the program may
have, or empty. What is set here stays set when the program takes this process over.
"""

import ctypes
import os
import resource
import signal
import sys

# From linux/prctl.h.
PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Tie this process to its parent, limit it, and execute the program."""
    parent, limit, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # Nothing tells if the parent died before.
        if os.getppid() != int(parent):
            sys.exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limit:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (int(limit), hard))
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]} cannot be executed: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
