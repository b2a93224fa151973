"""Write the smallest network of which a max pool reads channels-first values as channels-last.

python write.py model.tflite
"""

import sys

from pytest_sparsity.writer import Network
from pytest_sparsity.writer.parts import Parts

SHOWS = {
    "litert@nehalem": "miscomputes",
    "litert@cortex-a53": "miscomputes",
    "litert-js": "miscomputes",
}


def network() -> Network:
    """The graph."""
    parts = Parts("sparse", (1, 8, 8, 3), channels=8)
    x = parts.pointwise(parts.entry(parts.net.input))
    x = parts.net.max_pool(x, 2)
    parts.finish(parts.pointwise(x))
    return parts.net


if __name__ == "__main__":
    network().write(sys.argv[1])
