"""The fingerprint of the machine that a ratio of times is true of.

Made of what stays the same after a reboot, under load, in a container and at another clock: the
CPU's own name and numbers, the widest instruction set that XNNPACK's kernels use, the number of
cores. Never a measured clock, a hostname or a kernel version (pytest-benchmark issue 255: one
machine, two fingerprints, because `hz_actual` had moved by 0.1 %).
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

# Widest first. XNNPACK picks its microkernels by these (src/configs/hardware-config.c, XNNPACK as
# of LiteRT 2.3); the names on the left are how Linux spells the features in /proc/cpuinfo.
_INSTRUCTION_SETS = (
    ("avx512f", "avx512f"),
    ("avx2", "avx2"),
    ("avx", "avx"),
    ("sse4_1", "sse4"),
    ("asimdhp", "neon-fp16"),
    ("asimd", "neon"),
    ("neon", "neon"),
)


@dataclass(frozen=True)
class Machine:
    """What identifies a kind of machine.

    Attributes:
        brand: the CPU's name as it gives it, e.g. `"AMD EPYC 7B13"`; ARM cores, which give none,
            by implementer and part, e.g. `"arm 0x41-0xd0c"`.
        isa: widest instruction set the kernels use: `"avx512f"`, `"avx2"`, `"avx"`, `"sse4"`,
            `"neon-fp16"`, `"neon"` or `"scalar"`.
        cores: number of processors the system has online.
        arch: `platform.machine()`, e.g. `"x86_64"`.
        features: CPU features as Linux names them.
        model: vendor, family, model and stepping; clouds give the same brand to several CPUs.
    """

    brand: str
    isa: str
    cores: int
    arch: str
    features: frozenset[str]
    model: str = ""


@functools.cache
def this_machine() -> Machine:
    """Return the fingerprint of the machine this process runs on; reads no clock and no name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return parse_cpuinfo(text, platform.machine())


def parse_cpuinfo(text: str, arch: str) -> Machine:
    """Return the machine that the text of Linux' `/proc/cpuinfo` describes.

    An empty text (no Linux) gives what `platform` and `os` know.
    """
    fields: dict[str, set[str]] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), set()).add(value.strip())
    features = frozenset(_words(fields, "flags") or _words(fields, "Features"))
    arm = [f"{a}-{b}" for a in _all(fields, "CPU implementer") for b in _all(fields, "CPU part")]
    brand = _all(fields, "model name") or ([f"arm {' '.join(arm)}"] if arm else [])
    numbers = [_all(fields, name) for name in ("vendor_id", "cpu family", "model", "stepping")]
    return Machine(
        brand=brand[0] if brand else platform.processor() or arch,
        isa=next((isa for feature, isa in _INSTRUCTION_SETS if feature in features), "scalar"),
        cores=len(fields.get("processor", ())) or os.cpu_count() or 1,
        arch=arch,
        features=features,
        model="-".join(value for values in [*numbers, arm] for value in values),
    )


def key(machine: Machine | str, runtime: str, version: str) -> str:
    """Return the name of the folder that holds what is true of a machine with that runtime.

    The words are for people; the six hexadecimal digits at the end tell apart what the words do not
    (cores, CPU model, a version cut short).

    Args:
        machine: or a name that stands for its facts.
        runtime: e.g. `"litert"`.
        version: of the runtime.
    """
    if isinstance(machine, Machine):
        words = [machine.brand, machine.isa]
        facts = [*words, machine.model, str(machine.cores)]
    else:
        words = facts = [machine]
    digest = hashlib.sha256("\n".join([*facts, runtime, version]).encode()).hexdigest()[:6]
    slugs = [_slug(word) for word in (*words, f"{runtime}-{version}")]
    return "-".join((*filter(None, slugs), digest))


def _all(fields: dict[str, set[str]], name: str) -> list[str]:
    return sorted(fields.get(name, set()) - {""})


def _words(fields: dict[str, set[str]], name: str) -> set[str]:
    """Return the words that every processor has: big and little cores may differ."""
    return (
        set.intersection(*(set(line.split()) for line in fields[name])) if name in fields else set()
    )


def _slug(text: str, length: int = 40) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:length].rstrip("-.")
