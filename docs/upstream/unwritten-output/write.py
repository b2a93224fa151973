"""Write a network, nothing of it sparse, whose last operator is a pool over single pixels.

python write.py model.tflite
"""

import sys

from pytest_sparsity.writer import Network
from pytest_sparsity.writer.parts import Parts

SHOWS = {
    "litert": "fails",
    "tensorflow": "fails",
    "litert-js": "fails",
}


def network() -> Network:
    """The graph."""
    parts = Parts("dense", (1, 4, 4, 3), channels=4, zeros=0.0)
    x = parts.net.unary(parts.pointwise(parts.net.input, activation="NONE"), "RELU")
    parts.net.output(parts.net.max_pool(x, 1))
    return parts.net


if __name__ == "__main__":
    network().write(sys.argv[1])
