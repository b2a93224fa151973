"""What the harness itself adds to every timed invocation, in percent of a 5 us model.

    python benchmarks/harness_overhead.py [--runtime litert] [--repeats 30]

Times blocks of the worker's own loop (`time_block` in pytest_sparsity/targets/worker.py) over the
network of the XNNPACK tutorial, once with the runtime's invoke and once with a builtin that does
nothing in its place: what the loop costs is the second. A block of no invocations shows what its
clocks cost, which is spread over the shortest block of a race. The loop that people write by hand
stands beside it, to compare. Rounds are interleaved; figures are medians over rounds, of CPU time.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_sparsity.racing.measurement import BLOCK_NS
from pytest_sparsity.targets.runtimes import RUNTIMES
from pytest_sparsity.targets.worker.installed import import_interpreter
from pytest_sparsity.targets.worker.interpreter import Loaded, time_block
from pytest_sparsity.writer import Network

if TYPE_CHECKING:
    from collections.abc import Callable

INVOCATIONS = 2000
BOUND = 0.02


def write_network(path: Path) -> Path:
    """Write the network of the XNNPACK tutorial, batch normalisation folded, random weights."""
    rng = np.random.Generator(np.random.PCG64(0))

    def weights(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return rng.standard_normal(shape, np.float32)

    net = Network((1, 32, 32, 3))
    x = net.conv2d(net.pad(net.input, 1), weights(8, 3, 3, 3), stride=2, activation="RELU")
    x = net.depthwise(x, weights(1, 3, 3, 8), padding="SAME", activation="RELU")
    x = net.conv2d(x, weights(16, 1, 1, 8), activation="RELU")
    x = net.depthwise(net.pad(x, 1), weights(1, 3, 3, 16), stride=2, activation="RELU")
    x = net.conv2d(x, weights(32, 1, 1, 16), activation="RELU")
    net.output(net.fully_connected(net.mean(x), weights(10, 32)))
    return net.write(path)


def by_hand(invoke: Callable[[], object], invocations: int) -> float:
    """Time every invocation by itself, as most scripts do; CPU ns per invocation."""
    start = time.thread_time_ns()
    seconds = []
    for _ in range(invocations):
        before = datetime.now(tz=timezone.utc)
        invoke()
        seconds.append((datetime.now(tz=timezone.utc) - before).total_seconds())
    return (time.thread_time_ns() - start) / invocations


def loops_of(runtime: str, repeats: int) -> dict[str, float]:
    """Return the median ns of an invocation in each loop."""
    interpreters = import_interpreter(json.loads(RUNTIMES[runtime].worker()[1]))
    with tempfile.TemporaryDirectory() as folder:
        path = write_network(Path(folder, "cnn.tflite"))
        request = {"path": path, "threads": 1, "kernels": "default", "pad": []}
        model = Loaded(interpreters, request)
        public = interpreters.Interpreter(model_path=str(path), num_threads=1)
    public.allocate_tensors()
    no_proof = {"threads": 1, "spoil": {}.clear, "prove": {}.clear}
    nothing = SimpleNamespace(invoke={}.clear, **no_proof)
    gc.collect()
    gc.disable()

    def block(of: Any, invocations: int = INVOCATIONS) -> float:
        return float(time_block(of, invocations, 1)[1]) / max(invocations, 1)

    public_loop = SimpleNamespace(invoke=public.invoke, **no_proof)
    loops: dict[str, Callable[[], float]] = {
        "worker": lambda: block(model),
        "worker, nothing invoked": lambda: block(nothing),
        "worker, block of no invocations": lambda: block(nothing, 0),
        "worker, public invoke()": lambda: block(public_loop),
        "datetime around public invoke()": lambda: by_hand(public.invoke, INVOCATIONS),
    }
    rounds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(repeats):
        for name, loop in loops.items():
            rounds[name].append(loop())
    return {name: statistics.median(values) for name, values in rounds.items()}


def shares(ns: dict[str, float]) -> tuple[float, float]:
    """Return the shares of the loop and of the clocks in what is measured."""
    loop = ns["worker, nothing invoked"] / ns["worker"]
    return loop, ns["worker, block of no invocations"] / BLOCK_NS


def measure() -> dict[str, float]:
    """Return the figures that are compared with those of other commits."""
    return {"overhead %": 100 * sum(shares(loops_of("litert", 10)))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runtime", default="litert")
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    ns = loops_of(arguments.runtime, arguments.repeats)
    for name, value in ns.items():
        print(f"{name:34} {value:8.1f} ns")
    loop_share, clock_share = shares(ns)
    overhead = loop_share + clock_share
    print(
        f"overhead: {100 * loop_share:.2f} % loop + {100 * clock_share:.2f} % clocks "
        f"= {100 * overhead:.2f} % (bound: {100 * BOUND:g} %)"
    )
    return int(overhead >= BOUND)


if __name__ == "__main__":
    sys.exit(main())
