"""Write a fully connected layer with float16 blocks of 1x4 behind a DEQUANTIZE.

python write.py model.tflite
"""

import sys

import numpy as np

from pytest_sparsity.writer import Network
from pytest_sparsity.writer.parts import Parts

SHOWS = {
    "litert": "miscomputes",
    "tensorflow": "miscomputes",
    "litert-js": "miscomputes",
}


def network() -> Network:
    """The graph."""
    parts = Parts("sparse", (1, 64))
    values = parts.random((4, 16), 1, 0.75).repeat(4, axis=1)
    weights = parts.net.weights(values, encoding="block 1x4", dtype="float16")
    bias = np.zeros(4, np.float32)
    parts.net.output(parts.net.fully_connected(parts.net.input, weights, bias))
    return parts.net


if __name__ == "__main__":
    network().write(sys.argv[1])
