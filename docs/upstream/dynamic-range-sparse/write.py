"""Write a fully connected layer with float32 input and int8 weights behind a DENSIFY.

python write.py model.tflite
"""

import sys

from pytest_sparsity.writer import Network
from pytest_sparsity.writer.parts import linear

SHOWS = {
    "litert": "fails",
    "tensorflow": "fails",
    "litert-js": "fails",
}


def network() -> Network:
    """The graph."""
    return linear(64, encoding="sparse", dtype="int8")


if __name__ == "__main__":
    network().write(sys.argv[1])
