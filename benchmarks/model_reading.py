"""What it costs to read a model of 100 MB: time, and memory relative to the file.

    python benchmarks/model_reading.py [MEGABYTES]

Each row is a fresh process that imports numpy, reads the model whole (structure,
layers with all counts, SHA-256 of the content), and reports how long that took and by how much its
peak resident memory grew, pages of the mapped file included. The claim of the project: 100 MB in
under 2 s and with at most 1.5 times the file. Exits 1 if it does not hold.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pytest_sparsity.writer import Network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_sparsity.writer import DType, Encoding

CASES: tuple[tuple[str, int, DType, Encoding], ...] = (
    ("float32, dense", 1024, "float32", "dense"),
    ("float32, sparse", 1024, "float32", "sparse"),
    ("float16, sparse", 1024, "float16", "sparse"),
    ("int8, sparse", 1024, "int8", "sparse"),
    ("float32, one layer", 5000, "float32", "dense"),
    ("float32, small layers", 128, "float32", "dense"),
)
SECONDS = 2.0
GROWTH = 1.5

CHILD = """
import json, sys, time
import numpy
from pytest_sparsity.model import Model

def memory(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1]) * 1024

before, wall, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
model = Model(sys.argv[1])
facts = len(model.layers), model.sparsity, model.sha256
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps({"wall": wall, "cpu": cpu, "grown": memory("VmHWM") - before,
                  "nbytes": model.nbytes, "layers": facts[0], "sparsity": facts[1]}))
"""


def write(path: Path, nbytes: int, width: int, dtype: DType, encoding: Encoding) -> Path:
    """A chain of width x width pointwise layers, 80 % zeros, until the file has its size."""
    rng = np.random.default_rng(0)
    net = Network((1, 4, 4, width))
    x = net.input
    weights = rng.standard_normal((width, 1, 1, width), np.float32)
    weights[rng.random(weights.shape) < 0.8] = 0
    kept = np.count_nonzero(weights)
    index = 1 if width <= 256 else 2
    item = np.dtype(dtype).itemsize
    per_layer = kept * (item + index) if encoding == "sparse" else weights.size * item
    for _ in range(max(1, round(nbytes / per_layer))):
        x = net.conv2d(x, weights, encoding=encoding, dtype=dtype)
    net.output(x)
    return net.write(path)


def read(path: Path) -> dict[str, float]:
    # BLAS has threads of its own, whose start is CPU time too.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    facts: dict[str, float] = json.loads(run.stdout)
    return facts


def rows(nbytes: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Read a file of each kind, of so many bytes."""
    with tempfile.TemporaryDirectory() as folder:
        for name, width, dtype, encoding in CASES:
            yield name, read(write(Path(folder) / "model.tflite", nbytes, width, dtype, encoding))


def measure() -> dict[str, float]:
    """Return the figures that are compared with those of other commits."""
    found: dict[str, float] = {}
    for name, facts in rows(100_000_000):
        found[f"{name}, CPU s"] = facts["cpu"]
        found[f"{name}, memory / file"] = facts["grown"] / facts["nbytes"]
    return found


def main() -> int:
    nbytes = int(float(sys.argv[1] if len(sys.argv) > 1 else "100") * 1e6)
    held = True
    print(f"{'weights':22} {'MB':>6} {'layers':>6} {'s':>6} {'CPU s':>6} {'memory / file':>14}")
    for name, facts in rows(nbytes):
        growth = facts["grown"] / facts["nbytes"]
        held = held and facts["wall"] < SECONDS and growth <= GROWTH
        print(
            f"{name:22} {facts['nbytes'] / 1e6:6.1f} {facts['layers']:6.0f} "
            f"{facts['wall']:6.2f} {facts['cpu']:6.2f} {growth:14.2f}"
        )
    print(f"less than {SECONDS:g} s and at most {GROWTH:g} times the file: {held}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
