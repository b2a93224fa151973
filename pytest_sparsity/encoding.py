"""TFLite's sparse tensor encoding, without the file around it.

A sparse tensor is a tree with one level per dimension of the weights (and one more per block
dimension). A *dense* level has all its positions; a *csr* level lists the ones that exist:
`segments[p]:segments[p + 1]` are the places in `indices` that belong to position `p` of the level
above. What remains are the stored values, in order. Source: `SparsityParameters` in TensorFlow's
`schema.fbs`, and `internal/utils/sparsity_format_converter.cc` (TensorFlow 2.21).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

PLAUSIBLE_BYTES = 2**26
PLAUSIBLE_GROWTH = 1000
"""A tensor that decodes to more bytes than this, and to this many times what is stored, would have
less than one weight in a thousand: its shape is taken for damaged, and no memory is given to it."""


@dataclass(frozen=True, eq=False)
class Sparsity:
    """How the values of a sparse tensor map to positions; one entry per level in the tuples.

    Attributes:
        traversal_order: the dimension each level stands for; numbers from the rank on are blocks.
        block_map: for each block dimension, the dimension of the weights that it divides.
        dense_sizes: positions per parent of a dense level; 0 for a csr level.
        formats: `"dense"` or `"csr"`.
        segments: of a csr level, first place in `indices` per parent, and the end; else None.
        indices: of a csr level, the positions that exist, ascending within a parent; else None.
    """

    traversal_order: tuple[int, ...]
    block_map: tuple[int, ...]
    dense_sizes: tuple[int, ...]
    formats: tuple[str, ...]
    segments: tuple[Array | None, ...]
    indices: tuple[Array | None, ...]

    @property
    def blocks(self) -> tuple[int, ...]:
        """Sizes of the block dimensions, in the order of `block_map`."""
        rank = len(self.traversal_order) - len(self.block_map)
        levels = (self.traversal_order.index(rank + k) for k in range(len(self.block_map)))
        return tuple(self.dense_sizes[level] for level in levels)

    @property
    def nbytes(self) -> int:
        """Bytes of the segments and indices as stored."""
        arrays = (a for a in (*self.segments, *self.indices) if a is not None)
        return sum(a.nbytes for a in arrays)


def label(sparsity: Sparsity | None) -> str:
    """The encoding in a word: `"dense"`, `"sparse"`, or with its block `"block 1x4"`."""
    if sparsity is None:
        return "dense"
    if not sparsity.block_map:
        return "sparse"
    rank = len(sparsity.traversal_order) - len(sparsity.block_map)
    sizes = [1] * max(rank, 2)
    for dimension, size in zip(sparsity.block_map, sparsity.blocks, strict=True):
        sizes[dimension - rank] = size
    first = min([d for d, size in enumerate(sizes) if size > 1], default=len(sizes))
    return "block " + "x".join(map(str, sizes[min(first, len(sizes) - 2) :]))


def whole_blocks(shape: Sequence[int], sparsity: Sparsity) -> bool:
    """Whether the blocks tile the shape; where they do not, the converter has lost weights.

    It rounds the number of blocks down, so the columns behind the last whole block are not stored.
    If there is no whole one, as with a width of 8 and a block of 16, it stores one that is part of
    the first row and part of the next (seen in int8 files of TensorFlow 2.21).
    """
    pairs = zip(sparsity.block_map, sparsity.blocks, strict=True)
    return all(shape[dimension] % block == 0 for dimension, block in pairs)


def check(count: int, shape: Sequence[int], sparsity: Sparsity) -> None:
    """Raise ValueError with the fault unless `count` values of this encoding fill `shape`.

    Costs time in proportion to the stored indices and allocates next to nothing, so it is safe to
    call on what a damaged file claims. A block may reach over the edge, see `whole_blocks`.
    """
    _check_levels(shape, sparsity)
    positions = 1
    for level, size in enumerate(_sizes(_padded(shape, sparsity), sparsity)):
        dense_size = sparsity.dense_sizes[level]
        if sparsity.formats[level] != "dense":
            positions = _check_csr(level, positions, size, sparsity)
        elif dense_size not in (size, _sizes(shape, sparsity)[level]):
            raise ValueError(
                f"level {level} has {dense_size} positions, the shape {tuple(shape)} needs {size}"
            )
        else:
            positions *= dense_size
    if positions != count:
        raise ValueError(
            f"{counted(count, 'value is', 'values are')} stored, the encoding needs {positions}"
        )


def decode(values: Array, shape: Sequence[int], sparsity: Sparsity) -> Array:
    """The dense tensor that `values` stand for; positions that are not stored are 0.

    Args:
        values: the stored values, any dtype, in order.
        shape: of the dense tensor. What a block stores beyond its edge is left out.
        sparsity: their encoding.

    Raises:
        ValueError: the three do not fit together; the message says what is inconsistent.
    """
    import numpy as np

    check(values.size, shape, sparsity)
    decoded_nbytes(values, shape, sparsity)
    padded = _padded(shape, sparsity)
    dense = np.zeros(padded, values.dtype)
    if values.size:  # then no level has more positions than there are values
        dense.reshape(-1)[_offsets(padded, sparsity)] = values.reshape(-1)
    # Not ascontiguousarray, which makes a vector of a scalar.
    return np.asarray(dense[tuple(slice(size) for size in shape)], order="C")


def decoded_nbytes(values: Array, shape: Sequence[int], sparsity: Sparsity) -> int:
    """Bytes of the dense tensor that `values` stand for; nothing is decoded.

    Raises:
        ValueError: there would be implausibly many.
    """
    nbytes = prod(_padded(shape, sparsity)) * values.itemsize
    stored = values.nbytes + sparsity.nbytes
    if nbytes > max(PLAUSIBLE_BYTES, PLAUSIBLE_GROWTH * stored):
        raise ValueError(f"the shape {tuple(shape)} unpacks {stored} stored bytes to {nbytes}")
    return nbytes


def encode(dense: Array, block: int = 1) -> tuple[Array, Sparsity]:
    """The values and encoding that TensorFlow's converter writes for these weights.

    All dimensions are dense but the last, which is csr; with a block, groups of `block` elements
    along the last dimension are stored whole if any of them is not zero. (TFLite names this
    `1xN`; in Keras, whose kernels are transposed, it is `block_size=(N, 1)`.) -0.0 counts as zero.
    Source: `dense_to_sparse_pass.cc` and `flatbuffer_export.cc` (TensorFlow 2.21).

    Args:
        dense: rank 2 (out, in) or 4 (out, height, width, in), any dtype.
        block: elements per block, 1 for none.

    Raises:
        ValueError: the rank is neither 2 nor 4, or the last dimension is not a multiple of the
            block. The converter accepts the latter and silently loses weights, see `whole_blocks`.
    """
    import numpy as np

    if dense.ndim not in (2, 4):
        raise ValueError(f"only rank 2 and 4 can be encoded, not the shape {dense.shape}")
    *outer, width = dense.shape
    if width % block:
        raise ValueError(f"a width of {width} is not a multiple of the block of {block}")
    blocks = dense.reshape(prod(outer), width // block, block)
    kept = (blocks != 0).any(axis=2)
    segments = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    blocked = block > 1
    rank = dense.ndim
    sparsity = Sparsity(
        traversal_order=tuple(range(rank + blocked)),
        block_map=(rank - 1,) if blocked else (),
        dense_sizes=(*outer, 0, *([block] * blocked)),
        formats=("dense",) * (rank - 1) + ("csr",) + ("dense",) * blocked,
        segments=(None,) * (rank - 1) + (_narrow(segments),) + (None,) * blocked,
        indices=(None,) * (rank - 1) + (_narrow(np.nonzero(kept)[1]),) + (None,) * blocked,
    )
    return blocks[kept].reshape(-1), sparsity


def _narrow(numbers: NDArray[np.intp]) -> Array:
    """The type that the converter picks: by the largest number that occurs."""
    import numpy as np

    largest = numbers.max(initial=0)
    if largest <= np.iinfo(np.uint8).max:
        return numbers.astype(np.uint8)
    if largest <= np.iinfo(np.uint16).max:
        return numbers.astype(np.uint16)
    return numbers.astype(np.int32)


def _padded(shape: Sequence[int], sparsity: Sparsity) -> tuple[int, ...]:
    """The shape, made large enough for whole blocks."""
    padded = list(shape)
    for dimension, block in zip(sparsity.block_map, sparsity.blocks, strict=True):
        padded[dimension] = -(-padded[dimension] // block) * block
    return tuple(padded)


def _sizes(shape: Sequence[int], sparsity: Sparsity) -> list[int]:
    """Positions per parent, per level; the number of blocks is rounded down."""
    sizes = [*shape, *sparsity.blocks]
    for dimension, block in zip(sparsity.block_map, sparsity.blocks, strict=True):
        sizes[dimension] //= block
    return [sizes[d] for d in sparsity.traversal_order]


def _strides(shape: Sequence[int], sparsity: Sparsity) -> list[int]:
    """Elements of the dense tensor from one position to the next, per level."""
    strides = [prod(shape[d + 1 :]) for d in range(len(shape))]
    strides += [strides[d] for d in sparsity.block_map]
    for dimension, block in zip(sparsity.block_map, sparsity.blocks, strict=True):
        strides[dimension] *= block
    return [strides[d] for d in sparsity.traversal_order]


def _offsets(shape: Sequence[int], sparsity: Sparsity) -> NDArray[np.intp]:
    """Where in the flattened dense tensor each stored value belongs."""
    import numpy as np

    offsets = np.zeros(1, np.intp)
    for level, stride in enumerate(_strides(shape, sparsity)):
        segments, indices = sparsity.segments[level], sparsity.indices[level]
        if sparsity.formats[level] == "dense" or segments is None or indices is None:
            places = np.arange(sparsity.dense_sizes[level]) * stride
            offsets = (offsets[:, None] + places).reshape(-1)
        else:
            ends = segments.astype(np.intp)
            lengths = ends[1:] - ends[:-1]
            offsets = np.repeat(offsets, lengths) + indices.astype(np.intp) * stride
    return offsets


def _check_levels(shape: Sequence[int], sparsity: Sparsity) -> None:
    rank, order, blocks = len(shape), sparsity.traversal_order, sparsity.block_map
    levels = len(order)
    if levels != rank + len(blocks) or sorted(order) != list(range(levels)):
        raise ValueError(
            f"the traversal order {order} does not fit {counted(rank, 'dimension')} and"
            f" {counted(len(blocks), 'block')}"
        )
    per_level = (sparsity.dense_sizes, sparsity.formats, sparsity.segments, sparsity.indices)
    if any(len(entries) != levels for entries in per_level):
        raise ValueError(f"the metadata of {levels} levels is expected, not {len(per_level[0])}")
    if len(set(blocks)) != len(blocks) or not all(0 <= d < rank for d in blocks):
        raise ValueError(f"the block map {blocks} does not fit {counted(rank, 'dimension')}")
    if min(sparsity.blocks, default=1) < 1:
        raise ValueError(f"a block of size {min(sparsity.blocks)} is none")


def _check_csr(level: int, parents: int, size: int, sparsity: Sparsity) -> int:
    """Raise ValueError unless the csr level is consistent; its number of positions."""
    segments, indices = sparsity.segments[level], sparsity.indices[level]
    if sparsity.formats[level] != "csr" or segments is None or indices is None:
        raise ValueError(f"level {level} is csr but has no segments or no indices")
    if segments.size != parents + 1:
        raise ValueError(
            f"level {level} has {counted(segments.size, 'segment')}, {parents + 1} are needed"
        )
    if int(segments[0]) != 0 or not (segments[1:] >= segments[:-1]).all():
        raise ValueError(f"the segments of level {level} do not ascend from 0")
    if int(segments[-1]) != indices.size:
        raise ValueError(
            f"the segments of level {level} end at {int(segments[-1])}, "
            f"but {counted(indices.size, 'index is', 'indices are')} stored"
        )
    if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < size:
        raise ValueError(f"an index of level {level} lies outside 0 to {size - 1}")
    descends = indices[1:] <= indices[:-1]
    descends[segments[1:-1][(segments[1:-1] > 0) & (segments[1:-1] < indices.size)] - 1] = False
    if descends.any():
        raise ValueError(f"the indices of level {level} do not ascend within a row")
    return int(indices.size)
