"""Write a pruned network with a 3x3 convolution behind a mean that keeps its dimensions.

python write.py model.tflite
"""

import sys

from pytest_sparsity.writer import Network
from pytest_sparsity.writer.parts import Parts

SHOWS = {
    "litert@nehalem": "fails",
    "litert@cortex-a53": "fails",
    "litert-js": "fails",
}


def network() -> Network:
    """The graph."""
    parts = Parts("sparse", (1, 16, 16, 3), channels=8)
    x = parts.pointwise(parts.pointwise(parts.entry(parts.net.input)))
    x = parts.net.mean(x, keep_dims=True)
    parts.net.output(parts.conv(x, 8, padding="SAME"))
    return parts.net


if __name__ == "__main__":
    network().write(sys.argv[1])
