"""Write a dynamic-range fully connected layer, version 12, with blocks of 1x16.

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
    return linear(64, encoding="block 1x16", dtype="int8", version=12)


if __name__ == "__main__":
    network().write(sys.argv[1])
