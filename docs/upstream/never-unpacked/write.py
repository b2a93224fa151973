"""Write a layer with sparse float16 weights that XNNPACK's delegate refuses, for its fused tanh.

python write.py model.tflite
"""

import sys

from pytest_sparsity.writer import Network
from pytest_sparsity.writer.parts import Parts

SHOWS = {
    "litert": "miscomputes",
    "tensorflow": "miscomputes",
    "litert-js": "miscomputes",
}


def network() -> Network:
    """The graph."""
    parts = Parts("sparse", (1, 8, 8, 3), channels=8, dtype="float16")
    x = parts.pointwise(parts.entry(parts.net.input))
    parts.finish(parts.pointwise(x, activation="TANH"))
    return parts.net


if __name__ == "__main__":
    network().write(sys.argv[1])
