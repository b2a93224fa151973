"""What emulated targets cost, and how instruction counts compare with times.

    python benchmarks/emulation.py setup     # cold set-up of litert@cortex-a53, in an empty cache
    python benchmarks/emulation.py races     # one race on litert@cortex-a53, tutorial and MobileNet
    python benchmarks/emulation.py compare   # ratios of instructions beside ratios of time

`compare` has two networks, three sparsities and, for each: instructions on the emulated cores;
LiteRT.js, CPU time, by a race; and this machine's LiteRT with its SSE kernels, CPU time. The last
is not possible in earnest on a CPU with AVX: before the first interpreter is made, XNNPACK's record
of the CPU's instruction sets is overwritten in memory with that of the emulated Nehalem, which
opens the way to the sparse kernels. It works for LiteRT 2.3.0 and is a measuring device only.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity import build_variants, race, zoo
from pytest_sparsity.targets import Target, Worker, symbols
from pytest_sparsity.targets.places import emulated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_sparsity.variants import Variants

NETWORKS: dict[str, Callable[[], Any]] = {
    "xnnpack_cnn": zoo.xnnpack_cnn,
    "mobilenet_v1": zoo.mobilenet_v1,
}
SPARSITIES = (0.5, 0.75, 0.9)
CORES = ("litert@cortex-a53", "litert@cortex-a76", "litert@nehalem")
BROWSER = "litert-js"
# XNNPACK's xnn_arch_flags as QEMU's Nehalem has them: SSE to SSE4.1. They are the second word of
# what xnn_init_hardware_config returns (LiteRT 2.3.0).
SSE_FLAGS = 0xF
ROUNDS = 200
# Seconds for a race in LiteRT.js; enough on a busy machine too.
BUDGET = 60.0


def setup() -> None:
    """Print how long the first set-up takes, downloads included."""
    with tempfile.TemporaryDirectory() as cache:
        begun = time.perf_counter()
        install = "from pytest_sparsity.targets import install; install('litert@cortex-a53', print)"
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        subprocess.run([sys.executable, "-c", install], env=environment, check=True)
        print(f"cold set-up: {time.perf_counter() - begun:.1f} s")


def races() -> None:
    """Print what a race costs that finds its models built."""
    for name, build in NETWORKS.items():
        files = build_variants(build, sparsity=0.75)
        wall, cpu = time.perf_counter(), children_cpu()
        result = race(files.dense, files.sparse, target="litert@cortex-a53")
        wall, cpu = time.perf_counter() - wall, children_cpu() - cpu
        print(f"{name}: {result.instruction_ratio}, {wall:.1f} s ({cpu:.1f} s of CPU time)")


def children_cpu() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def compare() -> None:
    """Print the table of ratios, dense over sparse."""
    print("| network | zeros | " + " | ".join(CORES) + " | SSE, time | LiteRT.js, time |")
    print("| --- | --- | " + " | ".join("---" for _ in range(len(CORES) + 2)) + " |")
    for name, build in NETWORKS.items():
        for sparsity in SPARSITIES:
            files = build_variants(build, sparsity=sparsity)
            counted = [f"{instruction_ratio(core, files):.3f}" for core in CORES]
            browser = race(files.dense, files.sparse, target=BROWSER, budget=BUDGET).ratio
            times = [f"{sse_ratio(files):.2f}", f"{browser.low:.2f} to {browser.high:.2f}"]
            row = [name, f"{sparsity:.0%}", *counted, *times]
            print("| " + " | ".join(row) + " |", flush=True)


def instruction_ratio(target: str, files: Variants) -> float:
    """Return instructions of the dense model over those of the sparse one."""
    with Target.of(target).open() as worker:
        return counted(worker, files.dense.path) / counted(worker, files.sparse.path)


def counted(worker: Worker, model: Path) -> int:
    """Return the instructions of one inference."""
    worker.load("model", model)
    counts = worker.run([("model", 1)]).instructions
    worker.unload("model")
    assert counts is not None
    return counts[0]


def sse_ratio(files: Variants) -> float:
    """Return the ratio of times that a fresh process with the SSE kernels measures."""
    command = [sys.executable, __file__, "sse", str(files.dense.path), str(files.sparse.path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    ratio: float = json.loads(ended.stdout)
    return ratio


def sse(dense: Path, sparse: Path) -> None:
    """Print dense over sparse, the median over interleaved rounds of the ratio of CPU times."""
    use_sse()
    from ai_edge_litert.interpreter import Interpreter

    invokes = []
    for path in (dense, sparse):
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
        inner: Any = interpreter._interpreter  # noqa: SLF001  (as the worker does)
        invokes.append(inner.Invoke)
    ratios = []
    repeats = 1 + int(0.005 / min(seconds(invoke, 3) for invoke in invokes))
    rng = random.Random(0)
    for _ in range(ROUNDS):
        order = rng.sample((0, 1), 2)
        times = {which: seconds(invokes[which], repeats) for which in order}
        ratios.append(times[0] / times[1])
    print(json.dumps(statistics.median(ratios)))


def seconds(invoke: Callable[[], object], invocations: int) -> float:
    """Return the CPU seconds of one invocation, after an untimed one."""
    invoke()
    begun = time.thread_time()
    for _ in range(invocations):
        invoke()
    return (time.thread_time() - begun) / invocations


def use_sse() -> None:
    """Make XNNPACK believe that this CPU ends at SSE4.1."""
    from ai_edge_litert import interpreter

    assert interpreter.Interpreter  # the library is loaded by now
    library = emulated.at("nehalem").library(Target.of("litert@nehalem").record)
    offset = {f.name: f.offset for f in symbols.functions(library)}["xnn_init_hardware_config"]
    (address,) = [
        start + offset - at for start, at, size in mapped(library) if at <= offset < at + size
    ]
    config = ctypes.CFUNCTYPE(ctypes.c_void_p)(address)()
    assert config is not None
    ctypes.c_uint64.from_address(config + 8).value &= SSE_FLAGS


def mapped(library: Path) -> Iterator[tuple[int, int, int]]:
    """Yield address, offset in the file and size of every part of a library in this process."""
    for line in Path("/proc/self/maps").read_text("utf-8").splitlines():
        if line.endswith(str(library)):
            addresses, _, offset, *_ = line.split()
            start, end = (int(address, 16) for address in addresses.split("-"))
            yield start, int(offset, 16), end - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("setup", "races", "compare", "sse"))
    parser.add_argument("models", nargs="*", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "sse":
        sse(*arguments.models)
    else:
        {"setup": setup, "races": races, "compare": compare}[arguments.what]()


if __name__ == "__main__":
    main()
