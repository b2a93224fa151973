"""The networks that the claims are about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_sparsity import zoo


@dataclass(frozen=True)
class Network:
    """One network of the zoo, how it is pruned, and what LiteRT.js must gain from it.

    All CPUs run the same WebAssembly, 128 bits wide. Its sparse kernels take fewer instructions
    than its dense ones: those of SSE, as wide, 1.46, 3.1 and 5.7 times fewer (`baselines/`). The
    build with relaxed SIMD fuses the multiplications and additions of the dense kernels where the
    CPU can, which is a half of that at most, and what an instruction costs is the CPU's own:
    MobileNetV1 at 75 % gains 2.6 on an EPYC with Zen 5, 1.49 [1.39, 1.60] on one with Zen 3. So the
    thresholds are below the halves, and the first, whose half is below 1, only says that sparse is
    not slower; what a kind of machine gains is recorded (`test_recorded.py`).
    """

    name: str
    build: Callable[[], Any]
    sparsity: float
    policy: str = "xnnpack"
    browser_speedup: float = 0.0

    def __str__(self) -> str:
        return f"{self.name}-{self.sparsity:.0%}"


CONVOLUTIONAL = (
    Network("xnnpack_cnn", zoo.xnnpack_cnn, 0.75, browser_speedup=1.0),
    Network("mobilenet_v1", zoo.mobilenet_v1, 0.75, browser_speedup=1.2),
    Network("mobilenet_v1", zoo.mobilenet_v1, 0.90, browser_speedup=1.5),
)
FULLY_CONNECTED = (Network("mlp", zoo.mlp, 0.99, policy="all"),)

Row = Callable[..., None]
