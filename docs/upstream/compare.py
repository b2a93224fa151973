"""Run a model with the default kernels and with the reference kernels, and compare.

    python compare.py model.tflite

Needs ai-edge-litert and numpy. The exit status is 0 if the outputs are the same within rounding.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType


def outputs(path: str, kernels: OpResolverType) -> list[Any]:
    """The outputs for inputs that are the same every time."""
    interpreter = Interpreter(path, num_threads=1, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        values = rng.random(detail["shape"], np.float32).astype(detail["dtype"])
        interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def main(path: str) -> int:
    """Compare, and say how far they are apart."""
    expected = outputs(path, OpResolverType.BUILTIN_REF)
    actual = outputs(path, OpResolverType.AUTO)
    right = True
    for number, (ours, theirs) in enumerate(zip(actual, expected, strict=True)):
        print(f"output {number}: shape {ours.shape}, reference kernels {theirs.shape}")
        a, b = np.ravel(ours).astype(np.float64), np.ravel(theirs).astype(np.float64)
        scale = np.max(np.abs(b)) or 1.0
        apart = float(np.max(np.abs(a - b))) / scale if a.size == b.size else np.inf
        print(f"  largest difference {apart:.3g} of the largest value")
        right = right and bool(apart < 1e-4)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
