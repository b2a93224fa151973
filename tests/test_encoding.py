"""The sparse encoding: what goes in comes out, the converter's choices, and every inconsistency."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pytest_sparsity.encoding import Sparsity, check, decode, encode, label, whole_blocks
from pytest_sparsity.model import Model

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA = Path(__file__).parent / "data"
CONVERTED = sorted(DATA.glob("*_sparse.tflite"))


def canonical(values: NDArray[Any]) -> bytes:
    """The bits, with -0.0 as 0.0."""
    return np.where(values == 0, np.zeros_like(values), values).tobytes()


ZERO = st.sampled_from((0.0, -0.0))
ELEMENTS: tuple[tuple[str, st.SearchStrategy[Any]], ...] = (
    ("<f4", st.one_of(ZERO, st.floats(width=32))),
    ("<f2", st.one_of(ZERO, st.floats(width=16))),
    ("i1", st.one_of(st.just(0), st.integers(-128, 127))),
)


@st.composite
def weights(draw: st.DrawFn, block: int) -> NDArray[Any]:
    rank = draw(st.sampled_from((2, 4)))
    outer = draw(st.tuples(*[st.integers(1, 5)] * (rank - 1)))
    shape = (*outer, block * draw(st.integers(1, 6)))
    dtype, elements = draw(st.sampled_from(ELEMENTS))
    return draw(npst.arrays(dtype, shape, elements=elements))


@given(st.data(), st.sampled_from((1, 4, 16)))
def test_what_is_encoded_decodes_to_itself(data: st.DataObject, block: int) -> None:
    dense = data.draw(weights(block))
    values, sparsity = encode(dense, block)
    decoded = decode(values, dense.shape, sparsity)
    assert canonical(decoded) == canonical(dense)
    assert (decoded.shape, decoded.dtype) == (dense.shape, dense.dtype)
    assert values.size % block == 0
    kept = (dense.reshape(-1, block) != 0).any(axis=1).sum()
    assert values.size == kept * block
    assert label(sparsity) == ("sparse" if block == 1 else f"block 1x{block}")


@pytest.mark.parametrize(("width", "block"), [(6, 4), (3, 4), (17, 16), (1, 4)])
def test_a_width_that_is_no_multiple_of_the_block_is_refused(width: int, block: int) -> None:
    with pytest.raises(ValueError, match=f"{width} is not a multiple of the block of {block}"):
        encode(np.ones((2, width), np.float32), block)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (1, 1, 1, 1, 4)])
def test_only_rank_2_and_4_are_encoded(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="rank 2 and 4"):
        encode(np.ones(shape, np.float32))


@pytest.mark.parametrize(
    ("last", "dtype"), [(255, "uint8"), (256, "uint16"), (65535, "uint16"), (65536, "int32")]
)
def test_numbers_are_as_narrow_as_the_largest_allows(last: int, dtype: str) -> None:
    one = np.zeros((1, last + 1), np.int8)
    one[0, last] = 1
    _, sparsity = encode(one)
    assert sparsity.indices[1] is not None
    assert sparsity.indices[1].dtype == dtype
    many = np.ones((last, 1), np.int8)  # the last segment is the number of values
    _, sparsity = encode(many)
    assert sparsity.segments[1] is not None
    assert int(sparsity.segments[1][-1]) == last
    assert sparsity.segments[1].dtype == dtype


@pytest.mark.parametrize("path", CONVERTED, ids=lambda path: path.stem)
def test_choices_are_those_of_the_converter(path: Path) -> None:
    model = Model(path)
    seen = 0
    for g, graph in enumerate(model.graphs):
        for tensor in graph.tensors:
            if tensor.sparsity is None:
                continue
            block = tensor.sparsity.blocks[0] if tensor.sparsity.blocks else 1
            if tensor.shape[-1] % block:
                continue  # the converter drops columns here, `encode` refuses
            values, ours = encode(model.weights(tensor.index, g), block)
            theirs = tensor.sparsity
            assert values.tobytes() == model.stored(tensor.buffer).tobytes()
            for field in ("traversal_order", "block_map", "dense_sizes", "formats"):
                assert getattr(ours, field) == getattr(theirs, field)
            for a, b in zip(
                ours.segments + ours.indices, theirs.segments + theirs.indices, strict=True
            ):
                assert (a is None) == (b is None)
                if a is not None and b is not None:
                    assert (a.dtype, a.tobytes()) == (b.dtype, b.tobytes())
            seen += 1
    assert seen >= 3


def test_the_converted_files_cover_the_widths_and_blocks() -> None:
    tensors = [t for path in CONVERTED for t in Model(path).graph.tensors]
    encodings = [t.sparsity for t in tensors if t.sparsity is not None]
    arrays = [a for s in encodings for a in s.indices if a is not None]
    assert {label(s) for s in encodings} >= {"sparse", "block 1x4"}
    assert {a.dtype.name for a in arrays} >= {"uint8", "uint16"}
    assert any(a.size == 0 for a in arrays)


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("tensorflow"), reason="no tensorflow: pip install tensorflow")
def test_today_s_converter_still_writes_the_same(tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, DATA / "convert.py", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    names = sorted(path.name for path in DATA.glob("*.tflite"))
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names:
        ours, theirs = Model(DATA / name), Model(tmp_path / name)
        for a, b in zip(ours.layers, theirs.layers, strict=True):
            facts = ("graph", "op", "shape", "dtype", "sparsity", "encoding", "nbytes")
            assert [getattr(a, f) for f in facts] == [getattr(b, f) for f in facts]
            left, right = ours.weights(a.tensor, a.graph), theirs.weights(b.tensor, b.graph)
            np.testing.assert_array_equal(left, right, strict=True)
        for x, y in zip(ours.graphs, theirs.graphs, strict=True):
            assert [(o.op, o.version) for o in x.operators] == [
                (o.op, o.version) for o in y.operators
            ]


# ------------------------------------------------------- encodings that the converter never writes


def levels(*levels: int | tuple[list[int], list[int]]) -> dict[str, Any]:
    """Dense levels as their size, csr levels as (segments, indices)."""
    csr = [None if isinstance(level, int) else level for level in levels]
    return {
        "dense_sizes": tuple(level if isinstance(level, int) else 0 for level in levels),
        "formats": tuple("dense" if level is None else "csr" for level in csr),
        "segments": tuple(None if c is None else np.array(c[0], np.int32) for c in csr),
        "indices": tuple(None if c is None else np.array(c[1], np.int32) for c in csr),
    }


COLUMNS = Sparsity((1, 0), (), **levels(3, ([0, 1, 1, 3], [1, 0, 1])))
DOUBLY = Sparsity((0, 1), (), **levels(([0, 2], [0, 2]), ([0, 1, 3], [2, 0, 3])))
TILES = Sparsity((0, 1, 2, 3), (0, 1), **levels(2, ([0, 1, 2], [1, 0]), 2, 2))
TILES_TRANSPOSED = Sparsity((0, 1, 3, 2), (0, 1), **levels(2, ([0, 1, 2], [1, 0]), 2, 2))
DENSE = Sparsity((1, 0), (), **levels(2, 3))
IDLE = replace(DENSE, segments=(None, np.zeros(9)), indices=(None, np.zeros(9)))
OVER_THE_EDGE = Sparsity((0, 1, 2), (1,), **levels(3, ([0, 1, 1, 1], [0]), 4))
DROPPED = Sparsity((0, 1, 2), (1,), **levels(2, ([0, 1, 1], [0]), 4))


@pytest.mark.parametrize(
    ("sparsity", "name", "values", "dense"),
    [
        (COLUMNS, "sparse", [1, 2, 3], [[0, 0, 2], [1, 0, 3]]),
        (DOUBLY, "sparse", [1, 2, 3], [[0, 0, 1, 0], [0] * 4, [2, 0, 0, 3]]),
        (
            TILES,
            "block 2x2",
            [1, 2, 3, 4, 5, 6, 7, 8],
            [[0, 0, 1, 2], [0, 0, 3, 4], [5, 6, 0, 0], [7, 8, 0, 0]],
        ),
        (
            TILES_TRANSPOSED,
            "block 2x2",
            [1, 3, 2, 4, 5, 7, 6, 8],
            [[0, 0, 1, 2], [0, 0, 3, 4], [5, 6, 0, 0], [7, 8, 0, 0]],
        ),
        (DENSE, "sparse", [1, 2, 3, 4, 5, 6], [[1, 4], [2, 5], [3, 6]]),
        (IDLE, "sparse", [1, 2, 3, 4, 5, 6], [[1, 4], [2, 5], [3, 6]]),
        (DROPPED, "block 1x4", [1, 2, 3, 4], [[1, 2, 3, 4, 0, 0], [0] * 6]),
        (OVER_THE_EDGE, "block 1x4", [1, 2, 3, 4], [[1, 2], [0, 0], [0, 0]]),
    ],
    ids=[
        "columns",
        "doubly",
        "tiles",
        "tiles transposed",
        "dense levels",
        "dense levels with idle segments",
        "dropped columns",
        "over the edge",
    ],
)
def test_every_tree_of_levels_decodes(
    sparsity: Sparsity, name: str, values: list[int], dense: list[list[int]]
) -> None:
    expected = np.array(dense, np.int16)
    decoded = decode(np.array(values, np.int16), expected.shape, sparsity)
    np.testing.assert_array_equal(decoded, expected, strict=True)
    assert label(sparsity) == name


def test_whole_blocks_tile_the_shape() -> None:
    assert whole_blocks((2, 8), BLOCKED)
    assert not whole_blocks((2, 7), BLOCKED)
    assert whole_blocks((4, 4), TILES)
    assert not whole_blocks((4, 5), TILES)
    assert not whole_blocks((5, 4), TILES)
    assert whole_blocks((2, 3), GOOD)


def test_no_encoding_is_dense() -> None:
    assert label(None) == "dense"


def test_the_bytes_of_segments_and_indices_count() -> None:
    _, sparsity = encode(np.eye(4, 300, dtype=np.float32))
    assert sparsity.nbytes == 5 + 4
    _, sparsity = encode(np.ones((1, 300), np.float32))
    assert sparsity.nbytes == 2 * 2 + 300 * 2


# ------------------------------------------------------------------------------------ inconsistent

GOOD = Sparsity((0, 1), (), **levels(2, ([0, 1, 3], [2, 0, 1])))
BLOCKED = Sparsity((0, 1, 2), (1,), **levels(2, ([0, 1, 2], [1, 0]), 4))


def csr(segments: list[int], indices: list[int]) -> Sparsity:
    return Sparsity((0, 1), (), **levels(2, (segments, indices)))


@pytest.mark.parametrize(
    ("sparsity", "shape", "count", "fault"),
    [
        (GOOD, (2, 3), 4, "4 values are stored, the encoding needs 3"),
        (GOOD, (2, 3, 1), 3, "does not fit 3 dimensions"),
        (GOOD, (3, 3), 3, "level 0 has 2 positions"),
        (GOOD, (2, 2), 3, "lies outside 0 to 1"),
        (replace(GOOD, traversal_order=(0, 0)), (2, 3), 3, "traversal order"),
        (replace(GOOD, traversal_order=()), (2, 3), 3, "traversal order"),
        (replace(GOOD, formats=("dense",)), (2, 3), 3, "2 levels"),
        (replace(GOOD, segments=(None, None)), (2, 3), 3, "no segments or no indices"),
        (replace(GOOD, indices=(None, None)), (2, 3), 3, "no segments or no indices"),
        (replace(GOOD, formats=("dense", "other")), (2, 3), 3, "csr but has no"),
        (csr([0, 3], [0, 1, 2]), (2, 3), 3, "has 2 segments, 3 are needed"),
        (csr([1, 1, 3], [0, 1, 2]), (2, 3), 3, "do not ascend from 0"),
        (csr([0, 4, 3], [0, 1, 2]), (2, 3), 3, "do not ascend from 0"),
        (csr([0, -1, 3], [0, 1, 2]), (2, 3), 3, "do not ascend from 0"),
        (csr([0, 1, 2], [0, 1, 2]), (2, 3), 3, "end at 2, but 3 indices"),
        (csr([0, 1, 4], [0, 1, 2]), (2, 3), 3, "end at 4, but 3 indices"),
        (csr([0, 1, 3], [0, -1, 2]), (2, 3), 3, "lies outside 0 to 2"),
        (csr([0, 1, 3], [0, 2, 2]), (2, 3), 3, "do not ascend within a row"),
        (csr([0, 1, 3], [0, 2, 1]), (2, 3), 3, "do not ascend within a row"),
        (replace(BLOCKED, block_map=(2,)), (2, 8), 8, "block map"),
        (replace(TILES, block_map=(0, 0)), (4, 4), 8, "block map"),
        (replace(BLOCKED, dense_sizes=(2, 0, 0)), (2, 8), 8, "block of size 0"),
        (replace(BLOCKED, dense_sizes=(2, 0, -4)), (2, 8), 8, "block of size -4"),
        (BLOCKED, (2, 4), 8, "lies outside 0 to 0"),
        (replace(TILES, dense_sizes=(3, 0, 2, 2)), (4, 4), 8, "level 0 has 3 positions"),
    ],
)
def test_what_is_inconsistent_is_named(
    sparsity: Sparsity, shape: tuple[int, ...], count: int, fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        check(count, shape, sparsity)
    with pytest.raises(ValueError, match=fault):
        decode(np.zeros(count, np.float32), shape, sparsity)


def test_the_consistent_ones_pass() -> None:
    check(3, (2, 3), GOOD)
    check(8, (2, 8), BLOCKED)
    check(8, (5, 4), TILES)  # what the converter writes: the last row is in no block
    check(3, (2, 3), csr([0, 3, 3], [0, 1, 2]))
    check(3, (2, 3), csr([0, 0, 3], [0, 1, 2]))
    check(0, (2, 3), csr([0, 0, 0], []))


def test_an_implausible_shape_gets_no_memory() -> None:
    _, sparsity = encode(np.eye(4, dtype=np.float32))
    with pytest.raises(ValueError, match="unpacks 25 stored bytes to 17179869184"):
        decode(np.ones(4, np.float32), (4, 2**30), sparsity)
    no_blocks = replace(BLOCKED, **levels(2, ([0, 0, 0], []), 2**30))
    with pytest.raises(ValueError, match="unpacks 12 stored bytes to 8589934592"):
        decode(np.zeros(0, np.float32), (2, 4), no_blocks)
    no_rows = Sparsity((0, 1), (), **levels(([0, 0], []), 2**31))
    assert decode(np.zeros(0, np.float32), (0, 2**31), no_rows).size == 0
    rows = 1024  # 64 MiB of zeros are nothing unusual
    _, sparsity = encode(np.zeros((rows, 1), np.float32))
    assert not decode(np.zeros(0, np.float32), (rows, 2**14), sparsity).any()


def test_a_scalar_stays_a_scalar() -> None:
    none = Sparsity((), (), (), (), (), ())
    decoded = decode(np.ones(1, np.float32), (), none)
    assert decoded.shape == ()
    assert decoded == 1
