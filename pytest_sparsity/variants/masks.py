"""The masks of magnitude pruning, as TFMOT computes them, in numpy.

Followed is `pruning_impl.py` of TFMOT 0.8.1: what the mask of a tensor is at a given sparsity.
Kernels are in Keras' order, inputs before outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_sparsity.patterns import Pattern

    Array = NDArray[Any]


def mask(weights: Array, sparsity: float, pattern: Pattern) -> Array:
    """Return which weights stay.

    Args:
        weights: of a kernel (..., inputs, outputs), float32.
        sparsity: the share that goes; m:n brings its own.
        pattern: of the zeros.

    Returns:
        bool, of the same shape.
    """
    import numpy as np

    if pattern.zeros:
        return _m_of_n(weights, pattern)
    magnitude = np.abs(weights)
    if pattern.block == 1:
        return _largest(magnitude, sparsity)
    blocks = magnitude.reshape(-1, pattern.block, magnitude.shape[-1]).mean(1, dtype=np.float32)
    return np.repeat(_largest(blocks, sparsity), pattern.block, axis=0)


def _largest(magnitude: Array, sparsity: float) -> Array:
    """All that are not below the smallest of the largest ones: of equal ones all (_update_mask)."""
    import numpy as np

    share = np.float32(1) - np.float32(sparsity)
    count = max(int(np.round(np.float32(magnitude.size) * share)), 1)
    threshold = np.partition(magnitude, magnitude.size - count, axis=None)[magnitude.size - count]
    return np.asarray(magnitude >= threshold)


def _m_of_n(weights: Array, pattern: Pattern) -> Array:
    """The largest of n consecutive inputs; of equal ones the first (generate_m_by_n_mask)."""
    import numpy as np

    rows = np.moveaxis(np.abs(weights), -1, 0)
    groups = rows.reshape(-1, pattern.group)
    order = np.argsort(-groups, axis=1, kind="stable")[:, : pattern.group - pattern.zeros]
    kept = np.zeros(groups.shape, bool)
    np.put_along_axis(kept, order, True, axis=1)
    return np.moveaxis(kept.reshape(rows.shape), 0, -1)
