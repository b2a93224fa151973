"""Small files with one known defect of a runtime or the converter each, or just without it."""

from __future__ import annotations

from typing import Any

import numpy as np

from corpus import Case, Recipe
from pytest_sparsity.encoding import encode
from pytest_sparsity.writer import Network, Operand
from pytest_sparsity.writer.parts import Parts


def narrow_block(width: int) -> Network:
    """Blocks of 4 as the converter writes them: as many as fit, what is left over is dropped."""
    net = Network((1, width))
    whole = width - width % 4
    values = np.zeros((8, whole), np.float32)
    values[:, :4] = 1.0
    stored, sparsity = encode(values, 4)
    weights = net.constant(stored, shape=(8, width), sparsity=sparsity)
    net.output(
        net.operator(
            "FULLY_CONNECTED",
            [net.input, weights, None],
            (1, 8),
            "FullyConnectedOptions",
            {},
            version=8,
        )
    )
    return net


def undensified(*, densify: bool) -> Network:
    """A convolution that reads its sparse-encoded weights with or without a DENSIFY."""
    parts = Parts("sparse", (1, 4, 4, 16))
    stored, sparsity = encode(parts.random((8, 1, 1, 16), 16, 0.8))
    weights = parts.net.constant(stored, shape=(8, 1, 1, 16), sparsity=sparsity)
    if densify:
        weights = parts.net.densify(weights)
    parts.net.output(parts.net.conv2d(parts.net.input, weights))
    return parts.net


def tanh(dtype: Any) -> Case:
    """A layer that XNNPACK does not take, for its fused tanh."""

    def build(p: Parts, x: Operand) -> None:
        p.finish(p.pointwise(p.pointwise(p.entry(x)), activation="TANH"))

    return Case(f"tanh {dtype}", build, dtype=dtype)


def pooled_at_the_end(*middles: str) -> Case:
    """A network whose last operator is a pool over single pixels."""
    return Recipe("entry", (*middles, "max pool 1x1"), "no pooling").case()
