"""Kernel proof: which of XNNPACK's microkernels a model really runs on a target, by name.

On an emulated CPU the plugin lists the blocks of the runtime's library that one inference executes;
where the emulator takes no plugins, its log of translated code lists what was reached at all. On
this machine valgrind's callgrind does it. The names are those of the library's symbol table.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.errors import TargetError, Unsupported
from pytest_sparsity.targets import Target, emulated, python, symbols
from pytest_sparsity.targets.child import Launch
from pytest_sparsity.targets.worker_process import Worker

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from pytest_sparsity.targets.emulated import Emulated

# XNNPACK's convention, e.g. xnn_f32_spmm_minmax_ukernel_32x1__neonfma_pipelined.
_MICROKERNEL = re.compile(r"xnn_\w+_ukernel_\w+")
# Seconds: MobileNetV1 224 takes 2 minutes under callgrind on a loaded machine.
_PATIENCE = 900.0
_KEY = "model"


@dataclass(frozen=True)
class Microkernel:
    """A microkernel that ran.

    Attributes:
        name: its name in XNNPACK.
        instructions: how many of its instructions one inference executes; None where it is only
            known that it was reached.
    """

    name: str
    instructions: int | None


class _Traced(Worker):
    """A worker whose process can be looked at."""

    def maps(self) -> str:
        """Return what is mapped in the process, in the format of Linux' /proc/PID/maps."""
        return Path(f"/proc/{self._child.pid}/maps").read_text("utf-8")


def microkernels(target: str | Target, model: str | os.PathLike[str]) -> tuple[Microkernel, ...]:
    """Return the microkernels that run in one inference of a model, those with most work first.

    Args:
        target: an emulated target, or a Python runtime of this machine. There valgrind shows the
            runtime a CPU without AVX-512, so the kernels are those for AVX2.
        model: the `.tflite` file.

    Returns:
        Nothing if XNNPACK runs nothing of the model.

    Raises:
        Unsupported: the names cannot be had on this target, or something is missing.
        TargetError: the target fails on the model.
    """
    target = Target.of(target)
    missing = target.missing()
    if missing is not None:
        raise missing
    path = Path(model)
    kind = emulated.KINDS.get(target.name)
    if kind is None:
        counts: Mapping[str, int | None] = _callgrind(target, path)
    elif kind.cannot_count() is None:
        counts = _executed(target, kind, path)
    else:
        counts = dict.fromkeys(_reached(target, kind, path))
    found = [Microkernel(name, n) for name, n in counts.items() if _MICROKERNEL.fullmatch(name)]
    return tuple(sorted(found, key=lambda kernel: (-(kernel.instructions or 0), kernel.name)))


def _executed(target: Target, kind: Emulated, model: Path) -> Mapping[str, int]:
    """Return the instructions of one inference by function, from the plugin's list of blocks."""
    counts, blocks = emulated.scratch_file("counts"), emulated.scratch_file("blocks")
    options = kind.plugin(target.runtime, out=counts, blocks=blocks)
    launch = kind.start(target.runtime, options, ("--counts", str(counts)))
    with Worker(target.name, launch, timeout=_PATIENCE) as worker:
        worker.load(_KEY, model)
        worker.run([(_KEY, 1)])
    # The worker marks the beginning and the end of its block.
    _, between, *_ = blocks.read_text("ascii").split("mark\n")
    lines = (line.split() for line in between.splitlines())
    pairs = [(int(offset, 16), int(instructions)) for offset, instructions in lines]
    return symbols.by_function(kind.library(target.runtime), pairs)


def _reached(target: Target, kind: Emulated, model: Path) -> Mapping[str, int]:
    """Return the functions whose code the emulator has translated, from its log."""
    log = emulated.scratch_file("log")
    launch = kind.start(target.runtime, ("-d", "in_asm", "-D", str(log)))
    library = kind.library(target.runtime)
    with _Traced(target.name, launch, timeout=_PATIENCE) as worker:
        worker.load(_KEY, model)
        worker.run([(_KEY, 1)])
        maps = worker.maps()
    return symbols.by_function(library, _offsets(log, maps, library))


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


def _callgrind(target: Target, model: Path) -> Mapping[str, int]:
    """Return the instructions of one inference by function, counted by valgrind."""
    if target.runtime not in ("litert", "tflite-runtime"):
        raise Unsupported(f"the library of {target.name} does not name its microkernels")
    if shutil.which("valgrind") is None:
        raise Unsupported("valgrind is not installed", "sudo apt-get install -y valgrind")
    native = python.launch(target.runtime, 1)
    out = emulated.scratch_file("callgrind")
    # XNNPACK's part of an invocation, and a file of its own for each: a worker that is asked to
    # quit need not live long enough to write what it has at its end.
    options = [f"--{what}=xnn_invoke_runtime" for what in ("toggle-collect", "dump-after")]
    command = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *options)
    launch = Launch((*command, *native.command), native.environment)
    with Worker(target.name, launch, timeout=_PATIENCE) as worker:
        worker.load(_KEY, model)
        worker.run([(_KEY, 1)], warm=0)
    counts: dict[str, int] = {}
    for dump in sorted(out.parent.glob(f"{out.name}.*")):
        for name, instructions in self_costs(dump.read_text("utf-8", "replace")).items():
            counts[name] = counts.get(name, 0) + instructions
    return counts


def self_costs(text: str) -> Mapping[str, int]:
    """Return what every function in a file of callgrind's executed itself, without its callees.

    Format: Valgrind manual, "Callgrind Format Specification". A name is spelt out once and then
    given by its number; the line after `calls=` is the cost of a call, which is the callee's.
    """
    names: dict[str, str] = {}
    costs: dict[str, int] = {}
    function, call = "", False
    for line in text.splitlines():
        named = re.fullmatch(r"(c?fn)=\((\d+)\)(?: (.*))?", line)
        if named:
            name = names.setdefault(named[2], named[3] or "")
            function = name if named[1] == "fn" else function
        elif line.startswith("calls="):
            call = True
        elif re.match(r"[\d+*-]", line):
            if not call:
                costs[function] = costs.get(function, 0) + int(line.split()[1])
            call = False
    return costs
