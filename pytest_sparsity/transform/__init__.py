"""A model file in, a model file out: the same network, stored or computed in another way.

What is not changed stays as it was: names, order, metadata, signatures, an appended archive.
"""

from pytest_sparsity.transform.densification import densify, flush, replace_weights
from pytest_sparsity.transform.sparse_encoding import encode

__all__ = ["densify", "encode", "flush", "replace_weights"]
