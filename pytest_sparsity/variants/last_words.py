"""The one line that tells, of what native code printed before it failed."""

from __future__ import annotations

import re

CHATTER = re.compile(r"[IWE]\d{4} \d\d:|WARNING: All log messages")
"""Lines of TensorFlow's log (absl's format) that it prints in every process; F is a fatal one."""

NOISE = re.compile(
    r"(?:.*:\d+: )?\w*Warning:|warnings\.warn|@ +0x|#?\d+ +0x|\*\*\*|Extension modules:"
    r"|Current thread|Thread 0x|File |Stack trace|PLEASE submit|<no Python frame>"
)
"""Frames of native and of Python stacks, and warnings."""

MLIR = re.compile(r".*<unknown>:0: error: (?:loc\(.*\)\): )?")
"""Where in the compiler's text an error was found, which means nothing to the network's author."""

TELLING = (
    re.compile(r"F\d{4} \d\d:|.*(?:Check failed|LLVM ERROR|Assertion .* failed)"),
    re.compile(r".*\berror: "),
    re.compile(r" *what\(\): |terminate called"),
    re.compile(r"\w*(?:Error|Exception)\b.*: "),
    re.compile(r"Fatal Python error: "),
)
"""What a line is like that says what went wrong, the most telling ones first."""


def telling_line(text: str) -> str:
    """Return the line that says what went wrong; empty if there is none.

    It is the first of the most telling kind, else the last one that is neither chatter nor a frame
    of a stack.
    """
    lines = [line.strip() for line in text.split("\n")]
    said = [x for x in lines if x and not CHATTER.match(x) and not NOISE.match(x)]
    for kind in TELLING:
        for line in said:
            if kind.match(line):
                return MLIR.sub("", line)
    return said[-1] if said else ""


def without_chatter(text: str) -> str:
    """Return what was printed but for the lines that TensorFlow prints in every process."""
    return "".join(line for line in text.splitlines(True) if not CHATTER.match(line))
