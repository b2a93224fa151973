"""Write a fully connected layer of int8 with weights behind a DENSIFY.

python write.py model.tflite
"""

import sys

from pytest_sparsity.writer import Network
from pytest_sparsity.writer.parts import linear

SHOWS = {
    "litert": "fails",
    "litert-js": "fails",
}


def network() -> Network:
    """The graph."""
    return linear(64, encoding="sparse", dtype="int8", int8=True)


if __name__ == "__main__":
    network().write(sys.argv[1])
