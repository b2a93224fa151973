"""Write a dynamic-range fully connected layer, version 12, with blocks of 1x16.

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
    parts = Parts("sparse", (1, 64))
    values = parts.random((4, 64 // 16), 1, 0.75).repeat(16, axis=1)
    weights = parts.net.weights(values, encoding="block 1x16", dtype="int8", channels=0)
    output = parts.net.operator(
        "FULLY_CONNECTED",
        [parts.net.input, weights, None],
        (1, 4),
        "FullyConnectedOptions",
        {"asymmetric_quantize_inputs": True},
        version=12,
    )
    parts.net.output(output)
    return parts.net


if __name__ == "__main__":
    network().write(sys.argv[1])
