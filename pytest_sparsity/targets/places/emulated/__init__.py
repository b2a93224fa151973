"""CPUs that this machine does not have: the worker under QEMU's user mode.

The runtime's kernels for that CPU really run, so the path, the kernels' names and the outputs are
those of the CPU. Time means nothing there; what is measured is the number of instructions that the
runtime's own library executes, counted by a plugin of ours (`count.c`) between marks that the
worker makes around every block. It is exact, and the same in every run.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.children import scratch_file
from pytest_sparsity.errors import TargetError, Unsupported
from pytest_sparsity.targets import releases, setting_up, symbols
from pytest_sparsity.targets.child import Launch
from pytest_sparsity.targets.places import Place
from pytest_sparsity.targets.places.emulated import counting, guests
from pytest_sparsity.targets.places.emulated.cores import CORES, Core
from pytest_sparsity.targets.places.emulated.counting import SYSTEM_PACKAGES
from pytest_sparsity.targets.python import Environment
from pytest_sparsity.targets.runtimes import NIGHTLY
from pytest_sparsity.targets.worker_process import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_sparsity.targets.runtimes import Runtime
    from pytest_sparsity.targets.setting_up import Progress

# Seconds for one inference of which every block is listed or logged.
_PATIENCE = 900.0
_KEY = "model"

HOSTS = tuple(core.name for core in CORES)
USUAL = tuple(core.name for core in CORES if core.usual)


@dataclass(frozen=True)
class Emulated(Place):
    """One emulated CPU.

    Attributes:
        core: the CPU.
        release: the release that is run: "" for the one that is installed, or pinned for a guest.
    """

    core: Core
    release: str = ""

    unit = "instructions"
    # On a busy machine MobileNetV1 took longer than 60 s for one answer.
    timeout = 600.0

    @property
    def host(self) -> str:  # type: ignore[override]
        """The CPU's name."""
        return self.core.name

    def missing(self, runtime: Runtime, /) -> Unsupported | None:
        """Say what is missing and the command that installs it; starts nothing."""
        unsuited = self.unsuited(runtime)
        if unsuited is not None:
            return unsuited
        remedy = self._install(runtime)
        if self.native and self.release and releases.missing(runtime, self.release):
            return releases.missing(runtime, self.release, self.host)
        if shutil.which(self.emulator) is None:
            return Unsupported(f"the emulator {self.emulator} is not installed", remedy)
        if not self.native and guests.find(runtime, self.core.arch, self.release) is None:
            damage = guests.damage(runtime, self.core.arch, self.release)
            if damage:
                return Unsupported(f"{self.named(runtime)} cannot be used: {damage}", remedy)
            return Unsupported(f"no {self.core.arch} guest with {runtime.name} is set up", remedy)
        return None

    def unsuited(self, runtime: Runtime, /) -> Unsupported | None:
        """Say what is missing that `install` can neither bring nor name the command for."""
        if platform.system() != "Linux" or super().arch(runtime) != "x86_64":
            return Unsupported(
                "emulated CPUs need Linux on x86-64",
                "run the claim there, or natively on the CPU it is about",
            )
        if self.native and not self.release:
            return releases.missing(runtime, "")
        return None

    def version(self, runtime: Runtime, /) -> str:
        """Return the runtime's version: this environment's, or that of the pinned guest."""
        if self.native:
            return releases.version(runtime, self.release)
        if self.release != NIGHTLY:
            return self.release or runtime.guest_version
        guest = guests.find(runtime, self.core.arch, self.release)
        return Environment(guest.site).version(runtime) if guest else "unknown"

    def arch(self, runtime: Runtime, /) -> str:  # noqa: ARG002  (a place answers per runtime)
        """Return the emulated CPU's architecture."""
        return self.core.arch

    def features(self, runtime: Runtime, /) -> frozenset[str]:  # noqa: ARG002
        """Return the emulated CPU's features, as Linux spells them."""
        return self.core.features

    def launch(self, runtime: Runtime, threads: int, /) -> Launch:
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

    def start(
        self, runtime: Runtime, options: Sequence[str], arguments: Sequence[str] = ()
    ) -> Launch:
        """Return how to start the worker with these options of QEMU and arguments of its own."""
        guest = None if self.native else self._guest(runtime)
        prefix = _prefix(self.core, guest.system if guest else None)
        emulator = (self.emulator, "-L", str(prefix), "-cpu", self.core.model, *options)
        if guest is None:
            native = releases.environment(runtime, self.release).launch(runtime)
            environment = {**native.environment, **self.core.environment}
            return Launch((*emulator, *native.command, *arguments), environment)
        # Nothing of the host's Python may reach the guest's: no PYTHONPATH, no site module (-S).
        kept = ("LANG", "PATH", "PYTHONHASHSEED", "TMPDIR")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment |= {"PYTHONPATH": str(guest.site), **self.core.environment}
        child = (str(guest.python), "-s", "-S", *runtime.worker())
        return Launch((*emulator, *child, *arguments), environment)

    def _guest(self, runtime: Runtime) -> guests.Guest:
        guest = guests.find(runtime, self.core.arch, self.release)
        if guest is None:
            raise self.missing(runtime) or Unsupported("no guest is set up")
        other = guests.foreign(guest, self.core.arch)
        if other is not None:
            raise TargetError(
                f"{self.named(runtime)}: {other.name} of the guest is not for"
                f" {self.core.arch}; {self._install(runtime)} sets it up again"
            )
        return guest

    def _install(self, runtime: Runtime) -> str:
        return f"pytest-sparsity targets --install {self.named(runtime)}"

    def cannot_count(self) -> Unsupported | None:
        """Say why instructions cannot be counted although the target runs, or None."""
        return counting.missing(self.emulator)

    def plugin(self, runtime: Runtime, **files: Path) -> tuple[str, ...]:
        """Return the options of QEMU that load the plugin; its arguments are names of files."""
        try:
            return counting.options(self.library(runtime), **files)
        except ValueError as error:
            raise TargetError(f"{self.named(runtime)}: {error}") from error

    def library(self, runtime: Runtime, /) -> Path:
        """Return the file of the runtime's library, whose instructions are counted.

        All kernels are in the largest of the libraries that Python's modules are in: in
        libpywrap_litert_common.so (LiteRT 2), else in _pywrap_tensorflow_interpreter_wrapper.
        """
        if self.native:
            package = releases.environment(runtime, self.release).package(runtime)
            assert package is not None, "asked although something is missing"
        else:
            package = self._guest(runtime).site / runtime.package
        libraries = sorted(package.glob("*pywrap*.so*"), key=lambda path: path.stat().st_size)
        if not libraries:
            raise TargetError(f"{self.named(runtime)}: {package} holds no library")
        return libraries[-1].resolve()

    def functions(self, runtime: Runtime, model: Path, /) -> Mapping[str, int | None]:
        """Return the functions of the runtime that run in one inference, by name.

        From the plugin's list of blocks; where the emulator takes no plugins, from its log of
        translated code, which tells what was reached at all.
        """
        if self.cannot_count() is None:
            return self._executed(runtime, model)
        return dict.fromkeys(self._reached(runtime, model))

    def _executed(self, runtime: Runtime, model: Path) -> Mapping[str, int]:
        counts, blocks = scratch_file("counts"), scratch_file("blocks")
        options = self.plugin(runtime, out=counts, blocks=blocks)
        launch = self.start(runtime, options, ("--counts", str(counts)))
        with Worker(self.named(runtime), launch, timeout=_PATIENCE) as worker:
            worker.load(_KEY, model)
            worker.run([(_KEY, 1)])
        # The worker marks the beginning and the end of its block.
        _, between, *_ = blocks.read_text("ascii").split("mark\n")
        lines = (line.split() for line in between.splitlines())
        pairs = [(int(offset, 16), int(instructions)) for offset, instructions in lines]
        return symbols.by_function(self.library(runtime), pairs)

    def _reached(self, runtime: Runtime, model: Path) -> Mapping[str, int]:
        log = scratch_file("log")
        launch = self.start(runtime, ("-d", "in_asm", "-D", str(log)))
        library = self.library(runtime)
        with Worker(self.named(runtime), launch, timeout=_PATIENCE) as worker:
            worker.load(_KEY, model)
            worker.run([(_KEY, 1)])
            maps = Path(f"/proc/{worker.pid}/maps").read_text("utf-8")
        return symbols.by_function(library, _offsets(log, maps, library))

    def install(self, runtime: Runtime, progress: Progress, /) -> None:
        """Set up what the target lacks; does only what is not done yet.

        Raises:
            Unsupported: something is missing that only the user can bring; with the command.
        """
        unsuited = self.unsuited(runtime)
        if unsuited is not None:
            raise unsuited
        if shutil.which(self.emulator) is None:
            raise Unsupported(f"the emulator {self.emulator} is not installed", SYSTEM_PACKAGES)
        if not self.native:
            if self.release == NIGHTLY:
                guests.discard_site(runtime, self.core.arch, self.release)
            guests.set_up(runtime, self.core.arch, progress, self.release)
        elif self.release:
            releases.install(runtime, self.release, progress)
        if self.cannot_count() is None:
            progress("the counting plugin: building")
            counting.build(thoroughly=True)

    def published(self, runtime: Runtime, /) -> tuple[str, ...]:
        """Return the releases that have a wheel for the Python that runs there.

        Raises:
            Unsupported: the guest is not set up, or pip cannot tell.
        """
        if self.native:
            return releases.published(runtime)
        return guests.published(runtime, self.core.arch)

    def at(self, release: str, /) -> Emulated:
        """Return the CPU with a release."""
        return replace(self, release=release)

    def discard(self, runtime: Runtime, /) -> bool:
        """Remove the guest, so that setting it up begins from the start."""
        if self.native:
            return releases.discard(runtime, self.release)
        guests.discard(runtime, self.core.arch, self.release)
        return True

    @property
    def native(self) -> bool:
        """Whether this environment's own Python and runtime run on the emulated CPU."""
        return self.core.arch == "x86_64"

    @property
    def emulator(self) -> str:
        """The emulator's program."""
        return f"qemu-{self.core.arch}"


def at(host: str, release: str = "") -> Emulated:
    """Return the place of that name, one of `HOSTS`."""
    return Emulated(next(core for core in CORES if core.name == host), release)


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

    setting_up.publish(final, build)
    return final


def _offsets(log: Path, maps: str, library: Path) -> Iterator[tuple[int, int]]:
    """Yield the offsets in a library's file of all translated instructions, each with a 1.

    In user mode a 64-bit guest has the addresses of its emulator, so the emulator's maps serve.
    """
    lines = [line.split(maxsplit=5) for line in maps.splitlines() if line.endswith(str(library))]
    mapped = [(*(int(n, 16) for n in line[0].split("-")), int(line[2], 16)) for line in lines]
    if not mapped:
        raise TargetError(f"the emulator has not mapped {library.name}")
    with log.open(encoding="ascii", errors="replace") as text:
        for line in text:
            if line.startswith("0x"):
                address = int(line.partition(":")[0], 16)
                for start, end, offset in mapped:
                    if start <= address < end:
                        yield address - start + offset, 1
