"""Write a pruned network that ends with a mean over the rows alone.

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
    parts = Parts("sparse", (1, 16, 16, 3), channels=8)
    x = parts.pointwise(parts.pointwise(parts.entry(parts.net.input)))
    parts.net.output(parts.net.mean(x, (1,)))
    return parts.net


if __name__ == "__main__":
    network().write(sys.argv[1])
