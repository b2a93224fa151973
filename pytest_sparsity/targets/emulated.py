"""Targets on CPUs that this machine does not have: the worker under QEMU's user mode.

The runtime's kernels for that CPU really run, so the path, the kernels' names and the answers are
those of the CPU. Time means nothing there; what is measured is the number of instructions that the
runtime's own library executes, counted by a plugin of ours (`count.c`) between marks that the
worker makes around every block. It is exact, and the same in every run.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import itertools
import os
import platform
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.errors import TargetError, Unsupported
from pytest_sparsity.targets import guests, python, symbols
from pytest_sparsity.targets.child import Launch
from pytest_sparsity.targets.python import WORKER
from pytest_sparsity.targets.worker_process import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_sparsity.targets.guests import Progress

# Runtime -> package whose folder holds its libraries.
_PACKAGES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
# What brings the emulator and a compiler for the plugin. Recommended packages would also register
# the emulator with the kernel, which nothing here needs.
SYSTEM_PACKAGES = "sudo apt-get install -y --no-install-recommends qemu-user gcc libc6-dev"


# Seconds for the first start of a worker, which compiles all Python modules under emulation.
_TRIAL = 300.0


@dataclass(frozen=True)
class Core:
    """An emulated CPU.

    Attributes:
        name: the part of the target's name after the `@`.
        arch: its architecture in Linux' spelling.
        model: QEMU's name of it.
        cpuinfo: what the guest reads as /proc/cpuinfo. QEMU 7.2 would show it the host's;
            on that of an x86 CPU the ARM builds of LiteRT 2.3 crash when they create an
            interpreter. XNNPACK chooses its kernels by implementer and part, so these lines are a
            part of the CPU's model.
        environment: variables that the guest needs.
    """

    name: str
    arch: str
    model: str
    cpuinfo: str
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def features(self) -> frozenset[str]:
        """The CPU's features in Linux' spelling."""
        lines = (line.partition(":") for line in self.cpuinfo.splitlines())
        words = [text for name, _, text in lines if name.strip() in ("Features", "flags")]
        return frozenset(words[0].split())


def _arm(name: str, part: str, variant: str, features: str) -> Core:
    """Return one of Arm's own cores; part and variant are those of its main ID register."""
    cpuinfo = (
        "processor\t: 0\n"
        f"model name\t: {name} emulated by QEMU\n"
        "BogoMIPS\t: 100.00\n"
        f"Features\t: {features}\n"
        "CPU implementer\t: 0x41\n"
        "CPU architecture: 8\n"
        f"CPU variant\t: {variant}\n"
        f"CPU part\t: {part}\n"
        "CPU revision\t: 1\n\n"
    )
    return Core(name, "aarch64", name, cpuinfo)


_NEHALEM = Core(
    "nehalem",
    "x86_64",
    "Nehalem",
    # Name, family, model and flags of QEMU's model: SSE4.2 and no AVX.
    "processor\t: 0\n"
    "vendor_id\t: GenuineIntel\n"
    "cpu family\t: 6\n"
    "model\t\t: 26\n"
    "model name\t: nehalem emulated by QEMU\n"
    "stepping\t: 3\n"
    "flags\t\t: fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx"
    " fxsr sse sse2 syscall nx lm pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm\n\n",
    # numpy's OpenBLAS takes the emulated CPU for a newer one and dies of an illegal instruction.
    {"OPENBLAS_CORETYPE": "Nehalem"},
)
_ARMV8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
CORES = (
    _arm("cortex-a53", "0xd03", "0x0", _ARMV8),
    _arm(
        "cortex-a76", "0xd0b", "0x4", f"{_ARMV8} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
    ),
    _NEHALEM,
)


@dataclass(frozen=True)
class Emulated:
    """The targets on one emulated CPU; a `Kind`."""

    core: Core

    def missing(self, runtime: str, /) -> Unsupported | None:
        """Say what is missing and the command that installs it; starts nothing."""
        unsuited = self.unsuited(runtime)
        if unsuited is not None:
            return unsuited
        remedy = self._install(runtime)
        if shutil.which(self.emulator) is None:
            return Unsupported(f"the emulator {self.emulator} is not installed", remedy)
        if not self.native and guests.find(runtime, self.core.arch) is None:
            return Unsupported(f"no {self.core.arch} guest with {runtime} is set up", remedy)
        return None

    def unsuited(self, runtime: str, /) -> Unsupported | None:
        """Say what is missing that `install` can neither bring nor name the command for."""
        if platform.system() != "Linux" or python.arch(runtime) != "x86_64":
            return Unsupported(
                "emulated CPUs need Linux on x86-64",
                "run the claim there, or natively on the CPU it is about",
            )
        return python.missing(runtime) if self.native else None

    def version(self, runtime: str, /) -> str:
        """Return the runtime's version: this environment's, or that of the pinned guest."""
        return python.version(runtime) if self.native else guests.WHEELS[runtime][0]

    def arch(self, runtime: str, /) -> str:  # noqa: ARG002  (a kind answers per runtime)
        """Return the emulated CPU's architecture."""
        return self.core.arch

    def features(self, runtime: str, /) -> frozenset[str]:  # noqa: ARG002
        """Return the emulated CPU's features, as Linux spells them."""
        return self.core.features

    def launch(self, runtime: str, threads: int, /) -> Launch:
        """Return how to start the worker, counting where the emulator can.

        Raises:
            Unsupported: more than one thread is asked for.
        """
        if threads != 1:
            raise Unsupported(
                "an emulated CPU runs models on one thread: waiting threads spin, and so the"
                " count of instructions would be different every time",
                "threads=1",
            )
        if self.cannot_count() is not None:
            return self.start(runtime, ())
        counts = scratch_file("counts")
        return self.start(runtime, self.plugin(runtime, out=counts), ("--counts", str(counts)))

    def start(self, runtime: str, options: Sequence[str], arguments: Sequence[str] = ()) -> Launch:
        """Return how to start the worker with these options of QEMU and arguments of its own."""
        guest = None if self.native else self._guest(runtime)
        prefix = _prefix(self.core, guest.system if guest else None)
        emulator = (self.emulator, "-L", str(prefix), "-cpu", self.core.model, *options)
        if guest is None:
            native = python.launch(runtime, 1)
            environment = {**native.environment, **self.core.environment}
            return Launch((*emulator, *native.command, *arguments), environment)
        # Nothing of the host's Python may reach the guest's: no PYTHONPATH, no site module (-S).
        kept = ("LANG", "PATH", "PYTHONHASHSEED", "TMPDIR")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment |= {"PYTHONPATH": str(guest.site), **self.core.environment}
        child = (str(guest.python), "-s", "-S", str(WORKER), runtime)
        return Launch((*emulator, *child, *arguments), environment)

    def _guest(self, runtime: str) -> guests.Guest:
        guest = guests.find(runtime, self.core.arch)
        if guest is None:
            raise self.missing(runtime) or Unsupported("no guest is set up")
        other = guests.foreign(guest, self.core.arch)
        if other is not None:
            raise TargetError(
                f"{runtime}@{self.core.name}: {other.name} of the guest is not for"
                f" {self.core.arch}; {self._install(runtime)} sets it up anew"
            )
        return guest

    def _install(self, runtime: str) -> str:
        return f"pytest-sparsity targets --install {runtime}@{self.core.name}"

    def cannot_count(self) -> Unsupported | None:
        """Say why instructions cannot be counted, even where the target runs, or None."""
        if shutil.which(self.emulator) is None:
            return Unsupported(f"the emulator {self.emulator} is not installed", SYSTEM_PACKAGES)
        if not takes_plugins(self.emulator):
            return Unsupported(
                f"this {self.emulator} takes no plugins of version 1, so it cannot count"
                " instructions (Debian 13 and QEMU 9 on); path, kernels and answers it can show",
                "count in a debian:12 container",
            )
        if not _plugin_file().exists() and shutil.which("cc") is None:
            return Unsupported("no C compiler builds the counting plugin", SYSTEM_PACKAGES)
        return None

    def plugin(self, runtime: str, **files: Path) -> tuple[str, ...]:
        """Return the options of QEMU that load the plugin; its arguments are names of files."""
        library = self.library(runtime)
        try:
            binding = _binding(library)
        except ValueError as error:
            raise TargetError(f"{runtime}@{self.core.name}: {error}") from error
        arguments = {"file": _build_plugin(), **files, "library": library, "except": binding}
        # QEMU splits at commas; a doubled one stands for itself.
        spelt = [f"{name}={str(path).replace(',', ',,')}" for name, path in arguments.items()]
        return ("-plugin", ",".join(spelt))

    def library(self, runtime: str, /) -> Path:
        """Return the file of the runtime's library, whose instructions are counted.

        All kernels are in the largest of the libraries that Python's modules are in: in
        libpywrap_litert_common.so (LiteRT 2), else in _pywrap_tensorflow_interpreter_wrapper.
        """
        if self.native:
            spec = importlib.util.find_spec(_PACKAGES[runtime])
            assert spec is not None, "asked although something is missing"
            (package, *_) = [Path(path) for path in spec.submodule_search_locations or ()]
        else:
            package = self._guest(runtime).site / _PACKAGES[runtime]
        libraries = sorted(package.glob("*pywrap*.so*"), key=lambda path: path.stat().st_size)
        if not libraries:
            raise TargetError(f"{runtime}@{self.core.name}: {package} holds no library")
        return libraries[-1].resolve()

    @property
    def native(self) -> bool:
        """Whether this environment's own Python and runtime run on the emulated CPU."""
        return self.core.arch == "x86_64"

    @property
    def emulator(self) -> str:
        """The emulator's program."""
        return f"qemu-{self.core.arch}"


KINDS = {
    f"{runtime}@{core.name}": Emulated(core)
    for runtime, core in itertools.product(_PACKAGES, CORES)
}


def install(target: str, progress: Progress) -> None:
    """Set up an emulated target; does only what is not done yet.

    Args:
        target: a name in `KINDS`.
        progress: gets one line before every step and one at the end.

    Raises:
        Unsupported: something is missing that only the user can bring; with the command.
        TargetError: everything is there and the worker does not start all the same.
    """
    kind = KINDS[target]
    runtime = target.partition("@")[0]
    unsuited = kind.unsuited(runtime)
    if unsuited is not None:
        raise unsuited
    if shutil.which(kind.emulator) is None:
        raise Unsupported(f"the emulator {kind.emulator} is not installed", SYSTEM_PACKAGES)
    if not kind.native:
        guests.set_up(runtime, kind.core.arch, progress)
    cannot_count = kind.cannot_count()
    if cannot_count is None:
        progress("the counting plugin: building")
        _build_plugin()
    try:
        _try(target, progress)
    except TargetError as error:
        if kind.native:
            raise
        progress(f"{error}; setting it up anew")
        guests.discard(runtime, kind.core.arch)
        guests.set_up(runtime, kind.core.arch, progress)
        _try(target, progress)
    if cannot_count is not None:
        progress(f"{target}: {cannot_count}")


def _try(target: str, progress: Progress) -> None:
    """Start the worker once; the guest's Python also compiles its modules for later by that."""
    progress(f"{target}: trying it")
    runtime = target.partition("@")[0]
    launch = KINDS[target].launch(runtime, 1)
    with Worker(target, launch, timeout=_TRIAL) as worker:
        progress(f"{target}: {runtime} {worker.hello['version']} runs on {worker.hello['cpu']}")


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


def _build_plugin() -> Path:
    """Return the plugin, built if it is not there yet."""
    built = _plugin_file()
    source = Path(__file__).with_name("count.c")

    def build(aside: Path) -> None:
        command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(aside / built.name), str(source)]
        guests.run(command, "building the counting plugin", SYSTEM_PACKAGES)

    guests.publish(built.parent, build)
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


def _prefix(core: Core, system: Path | None) -> Path:
    """Return the folder in which QEMU looks first for what the guest opens by absolute path.

    It holds the CPU's /proc/cpuinfo and leads to the guest's system, if there is one.
    """
    digest = hashlib.sha256(core.cpuinfo.encode()).hexdigest()[:12]
    name = f"{core.name}-{system.name}-{digest}" if system else f"{core.name}-{digest}"
    final = guests.folder() / name

    def build(aside: Path) -> None:
        (aside / "proc").mkdir()
        (aside / "proc/cpuinfo").write_text(core.cpuinfo, encoding="ascii")
        for entry in system.iterdir() if system else ():
            (aside / entry.name).symlink_to(Path("..", entry.parent.name, entry.name))

    guests.publish(final, build)
    return final


@cache
def _scratch() -> Path:
    """Return a folder that lives as long as this process."""
    path = Path(tempfile.mkdtemp(prefix="pytest-sparsity-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def scratch_file(kind: str) -> Path:
    """Return the path of a new file of this process."""
    handle, name = tempfile.mkstemp(prefix=f"{kind}-", dir=_scratch())
    os.close(handle)
    return Path(name)
