"""Write a fully connected layer with float16 blocks of 1x4 behind a DEQUANTIZE.

python write.py model.tflite
"""

import sys

from pytest_sparsity.writer import Network
from pytest_sparsity.writer.parts import linear

SHOWS = {
    "litert": "miscomputes",
    "tensorflow": "miscomputes",
    "litert-js": "miscomputes",
}


def network() -> Network:
    """The graph."""
    return linear(64, encoding="block 1x4", dtype="float16")


if __name__ == "__main__":
    network().write(sys.argv[1])
