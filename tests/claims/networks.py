"""The networks that the claims are about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_sparsity import zoo


@dataclass(frozen=True)
class Network:
    """One network of the zoo, how it is pruned, and what LiteRT.js must gain from it.

    The thresholds hold on every CPU: all run the same WebAssembly, 128 bits wide, whose sparse
    kernels take fewer instructions (those of SSE, as wide, 1.46, 3.1 and 5.7 times fewer:
    `baselines/`), and the thresholds are below these by a fifth, a half and more.
    """

    name: str
    build: Callable[[], Any]
    sparsity: float
    policy: str = "xnnpack"
    browser_speedup: float = 0.0

    def __str__(self) -> str:
        return f"{self.name}-{self.sparsity:.0%}"


CONVOLUTIONAL = (
    Network("xnnpack_cnn", zoo.xnnpack_cnn, 0.75, browser_speedup=1.2),
    Network("mobilenet_v1", zoo.mobilenet_v1, 0.75, browser_speedup=1.5),
    Network("mobilenet_v1", zoo.mobilenet_v1, 0.90, browser_speedup=2.5),
)
FULLY_CONNECTED = (Network("mlp", zoo.mlp, 0.99, policy="all"),)

Row = Callable[..., None]
