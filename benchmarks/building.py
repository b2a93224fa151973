"""What the three files of MobileNetV1 cost, against the bare calls of TFMOT and the converter.

    python benchmarks/building.py [ROUNDS]

Each measurement is a fresh process, the two kinds in turn: CPU seconds of the process and of its
children, imports included. `trained` is the usual way to the same files without this project: one
training step in TFMOT's wrappers, one SavedModel per set of weights, three conversions. `bare` is
the cheapest way: the same without the training step, by calling TFMOT's mask code. `warm` finds the
files on disk. Exits with 1 if building costs more than 1.3 times as much as the bare calls.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from statistics import median

LIMIT = 1.3

OURS = """
import sys
from pathlib import Path
from pytest_sparsity import zoo
from pytest_sparsity.variants import build_variants
build_variants(zoo.mobilenet_v1, sparsity=0.9, cache=Path(sys.argv[1]))
"""

TRAINING = """
sparsity = tfmot.sparsity.keras
wrapped = sparsity.prune_low_magnitude(
    model,
    pruning_schedule=sparsity.ConstantSparsity(0.9, begin_step=0, frequency=1),
    pruning_policy=sparsity.PruneForLatencyOnXNNPack(),
)
wrapped.compile("sgd", "mse")
x, y = np.zeros((1, 224, 224, 3), np.float32), np.zeros((1, 1000), np.float32)
wrapped.fit(x, y, verbose=0, callbacks=[sparsity.UpdatePruningStep()])
pruned = sparsity.strip_pruning(wrapped)
"""

MASKS = """
from tensorflow_model_optimization.python.core.sparsity.keras.pruning_impl import Pruning
policy = tfmot.sparsity.keras.PruneForLatencyOnXNNPack()
policy.ensure_model_supports_pruning(model)
schedule = tfmot.sparsity.keras.ConstantSparsity(0.9, begin_step=0, frequency=1)
for layer in filter(policy.allow_pruning, model.layers):
    mask, threshold = tf.Variable(tf.ones_like(layer.kernel)), tf.Variable(0.0)
    masking = Pruning(
        lambda: tf.constant(1, tf.int64), [(layer.kernel, mask, threshold)], schedule, (1, 1), "AVG"
    )
    masking.conditional_mask_update()
    masking.weight_mask_op()
pruned = model
"""

CALLS = """
import sys
from pathlib import Path
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import numpy as np
from pytest_sparsity import zoo

folder = Path(sys.argv[1])
model = zoo.mobilenet_v1()

def convert(name, model, optimizations=()):
    saved = folder / name
    if not saved.exists():
        model.export(str(saved))
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
    converter.optimizations = list(optimizations)
    return converter.convert()

(folder / "dense.tflite").write_bytes(convert("dense", model))
PRUNING
(folder / "pruned.tflite").write_bytes(convert("pruned", pruned))
optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
(folder / "sparse.tflite").write_bytes(convert("pruned", pruned, optimizations))
"""


@dataclass(frozen=True)
class Cost:
    """Seconds of one process and its children."""

    cpu: float
    wall: float


def measure(program: str, folder: str) -> Cost:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", program, folder],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall)


def main(rounds: int = 5) -> int:
    programs = {
        "trained": CALLS.replace("PRUNING", TRAINING),
        "bare": CALLS.replace("PRUNING", MASKS),
        "ours": OURS,
    }
    costs: dict[str, list[Cost]] = {kind: [] for kind in (*programs, "warm")}
    for _ in range(rounds):
        for kind, program in programs.items():
            with tempfile.TemporaryDirectory() as folder:
                costs[kind].append(measure(program, folder))
                if kind == "ours":
                    costs["warm"].append(measure(program, folder))
    for kind, measured in costs.items():
        cpu, wall = median(c.cpu for c in measured), median(c.wall for c in measured)
        print(f"{kind:8}{cpu:6.2f} s CPU, {wall:6.2f} s wall (median of {rounds})")
    ratios = [ours.cpu / bare.cpu for ours, bare in zip(costs["ours"], costs["bare"], strict=True)]
    print(f"ours / bare, CPU: {median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")
    return int(median(ratios) > LIMIT)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
