"""Write a fully connected layer of int8 with weights behind a DENSIFY.

python write.py model.tflite
"""

import sys

import numpy as np

from pytest_sparsity.writer import Network
from pytest_sparsity.writer.parts import Parts

SHOWS = {
    "litert": "fails",
    "litert-js": "fails",
}


def network() -> Network:
    """The graph."""
    parts = Parts("sparse", (1, 64))
    values = parts.random((4, 64), 1, 0.75)
    weights = parts.net.weights(values, encoding="sparse", dtype="int8", channels=0)
    x = parts.net.quantize(parts.net.input, 1 / 127)
    parts.net.output(parts.net.fully_connected(x, weights, np.zeros(4, np.float32), scale=0.1))
    return parts.net


if __name__ == "__main__":
    network().write(sys.argv[1])
