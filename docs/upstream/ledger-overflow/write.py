"""Write a dynamic-range fully connected layer of 256 blocks of 1x16 per row.

python write.py model.tflite
"""

import sys

from pytest_sparsity.writer import Network
from pytest_sparsity.writer.parts import Parts

SHOWS = {
    "litert": "miscomputes",
    "tensorflow": "miscomputes",
    "tflite-runtime": "miscomputes",
}


def network() -> Network:
    """The graph."""
    parts = Parts("sparse", (1, 4096))
    values = parts.random((1, 4096 // 16), 1, 0.0).repeat(16, axis=1)
    weights = parts.net.weights(values, encoding="block 1x16", dtype="int8")
    output = parts.net.operator(
        "FULLY_CONNECTED",
        [parts.net.input, weights, None],
        (1, 1),
        "FullyConnectedOptions",
        {"asymmetric_quantize_inputs": True},
        version=8,
    )
    parts.net.output(output)
    return parts.net


if __name__ == "__main__":
    network().write(sys.argv[1])
