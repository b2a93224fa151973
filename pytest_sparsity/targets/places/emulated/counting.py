"""The plugin that makes QEMU count the instructions of a runtime's library, and its files."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.children import scratch_file
from pytest_sparsity.errors import Unsupported
from pytest_sparsity.targets import setting_up, symbols
from pytest_sparsity.targets.places.emulated import guests

if TYPE_CHECKING:
    from collections.abc import Sequence

# What brings the emulator and a compiler for the plugin. Recommended packages would also register
# the emulator with the kernel, which nothing here needs.
SYSTEM_PACKAGES = "sudo apt-get install -y --no-install-recommends qemu-user gcc libc6-dev"


def missing(emulator: str) -> Unsupported | None:
    """Say why this emulator cannot count instructions, or None."""
    if shutil.which(emulator) is None:
        return Unsupported(f"the emulator {emulator} is not installed", SYSTEM_PACKAGES)
    if not takes_plugins(emulator):
        return Unsupported(
            f"this {emulator} takes no plugins of version 1, so it cannot count"
            " instructions (Debian 13 and QEMU 9 on); path, kernels and outputs it can show",
            "count in a debian:12 container",
        )
    if not _plugin_file().exists() and shutil.which("cc") is None:
        return Unsupported("no C compiler builds the counting plugin", SYSTEM_PACKAGES)
    return None


def options(library: Path, **files: Path) -> tuple[str, ...]:
    """Return the options of QEMU that load the plugin.

    Args:
        library: the file of the runtime's library, whose instructions are counted.
        files: further arguments of the plugin, all of them names of files.

    Raises:
        ValueError: the library cannot be read.
    """
    arguments = {"file": build(), **files, "library": library, "except": _binding(library)}
    # QEMU splits at commas; a doubled one stands for itself.
    spelt = [f"{name}={str(path).replace(',', ',,')}" for name, path in arguments.items()]
    return ("-plugin", ",".join(spelt))


@cache
def takes_plugins(emulator: str) -> bool:
    """Return whether this QEMU loads plugins of API version 1: before 9.0, and not built static."""
    version = _said([emulator, "--version"])
    found = re.search(r"version (\d+)\.", version)
    return bool(found and int(found[1]) < 9 and "-plugin" in _said([emulator, "-h"]))


def _said(command: Sequence[str]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return ended.stdout


def _plugin_file() -> Path:
    """Return where the plugin built from today's source lies, or would lie."""
    source = Path(__file__).with_name("count.c").read_bytes()
    return guests.folder() / f"count-{hashlib.sha256(source).hexdigest()[:12]}" / "count.so"


def build(*, thoroughly: bool = False) -> Path:
    """Return the plugin, built if it is not there yet, or not as it was built."""
    built = _plugin_file()
    source = Path(__file__).with_name("count.c")

    def compiled(aside: Path) -> None:
        command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(aside / built.name), str(source)]
        setting_up.run(command, "building the counting plugin", SYSTEM_PACKAGES)

    setting_up.publish(built.parent, compiled, thoroughly=thoroughly)
    return built


@cache
def _binding(library: Path) -> Path:
    """Return a file of the ranges of a library that bind it to Python.

    Every wheel is built for one version of Python, and this part of it differs: 712 instructions
    per inference for 3.11 and 803 for 3.13, all others being the same (LiteRT 2.3.0). Without it a
    count is the same whatever Python asks for it.
    """
    file = scratch_file("except")
    lines = [
        f"{function.offset:x} {function.size:x}\n"
        for function in symbols.functions(library)
        if "pybind11" in function.name or "interpreter_wrapper" in function.name
    ]
    file.write_text("".join(lines), "ascii")
    return file
