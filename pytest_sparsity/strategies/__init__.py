"""Hypothesis strategies for pruned weights, schedules, networks and `.tflite` files.

Each example is built in milliseconds and without TensorFlow. What a strategy draws is plain data
with a readable `repr`: arrays, bytes, and frozen dataclasses with a `build` method.

    from hypothesis import given
    from pytest_sparsity import strategies

    @given(strategies.sparse_weights("2:4"))
    def test_my_packer_keeps_every_weight(weights): ...

Import this module yourself: `pytest_sparsity` does not, since pytest would otherwise load
hypothesis and numpy in every run.
"""

from __future__ import annotations

from pytest_sparsity.strategies.arrays import masks, shapes, sparse_weights, values, weights
from pytest_sparsity.strategies.chains import Chain, SingleLayer, layers, networks
from pytest_sparsity.strategies.files import FilePair, malformed, pairs
from pytest_sparsity.strategies.scheduling import Schedule, schedules

__all__ = [
    "Chain",
    "FilePair",
    "Schedule",
    "SingleLayer",
    "layers",
    "malformed",
    "masks",
    "networks",
    "pairs",
    "schedules",
    "shapes",
    "sparse_weights",
    "values",
    "weights",
]
