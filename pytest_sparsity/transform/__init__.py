"""A model file in, a model file out: the same network, stored or computed in another way.

What is not changed stays as it was: names, order, metadata, signatures, an appended archive.
"""

from pytest_sparsity.transform.densification import densify, flush, replace_weights, widen
from pytest_sparsity.transform.narrowing import (
    Narrowed,
    Shrunk,
    dead_channels,
    shrink,
    shrunk_nbytes,
)
from pytest_sparsity.transform.pruning import prune
from pytest_sparsity.transform.rewrites import Repair, Rewritten, repair
from pytest_sparsity.transform.sparse_encoding import encode
from pytest_sparsity.transform.sums import rescale_sums

__all__ = [
    "Narrowed",
    "Repair",
    "Rewritten",
    "Shrunk",
    "dead_channels",
    "densify",
    "encode",
    "flush",
    "prune",
    "repair",
    "replace_weights",
    "rescale_sums",
    "shrink",
    "shrunk_nbytes",
    "widen",
]
