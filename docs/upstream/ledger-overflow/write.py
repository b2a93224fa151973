"""Write a dynamic-range fully connected layer of 256 blocks of 1x16 per row.

python write.py model.tflite
"""

import sys

from pytest_sparsity.writer import Network
from pytest_sparsity.writer.parts import linear

SHOWS = {
    "litert": "miscomputes",
    "tensorflow": "miscomputes",
    "tflite-runtime": "miscomputes",
}


def network() -> Network:
    """The graph."""
    return linear(
        4096,
        units=1,
        zeros=0.0,
        encoding="block 1x16",
        dtype="int8",
        per_channel=False,
        version=8,
    )


if __name__ == "__main__":
    network().write(sys.argv[1])
