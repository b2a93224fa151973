"""Weights and masks."""

from __future__ import annotations

from math import ceil, prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pytest_sparsity import patterns

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Shape = tuple[int, ...]


def shapes(rank: int | None = None, *, widest: int = 40) -> SearchStrategy[Shape]:
    """Shapes of weights in TFLite's layout: (out, in) or (out, height, width, in).

    Args:
        rank: 2 or 4; either if None.
        widest: the largest number of inputs. Indices of a sparse encoding take one byte up to 256
            and two above.
    """
    out, side, width = st.integers(1, 8), st.integers(1, 3), st.integers(1, widest)
    linear, convolution = st.tuples(out, width), st.tuples(out, side, side, width)
    return {2: linear, 4: convolution, None: st.one_of(linear, convolution)}[rank]


def values(dtype: str = "float32") -> SearchStrategy[Any]:
    """Finite weights: both zeros, subnormals, the smallest and the largest numbers, any other.

    Args:
        dtype: `"float32"`, `"float16"` or `"int8"` (-127 to 127, TFLite's range of weights).
    """
    if dtype == "int8":
        return st.integers(-127, 127).map(np.int8)
    info = np.finfo(dtype)
    corners = (0.0, 1.0, info.smallest_subnormal, info.tiny, info.max)
    signed = [float(corner) * sign for corner in corners for sign in (1, -1)]
    width: Literal[16, 32] = 32 if dtype == "float32" else 16
    anything = st.floats(width=width, allow_nan=False, allow_infinity=False)
    return st.one_of(st.sampled_from(signed), anything).map(np.dtype(dtype).type)


def weights(
    shape: Shape | SearchStrategy[Shape] | None = None, *, dtype: str = "float32"
) -> SearchStrategy[Array]:
    """Arrays of `values`, some of which are equal, so that there are ties in magnitude.

    Args:
        shape: of the array, or a strategy for it; by default `shapes()`.
        dtype: `"float32"`, `"float16"` or `"int8"`.
    """
    kind = np.dtype(dtype).type
    return npst.arrays(
        dtype,
        shapes() if shape is None else shape,
        elements=values(dtype),
        fill=st.sampled_from([kind(0), kind(1), kind(-1)]),
    )


@st.composite
def masks(  # noqa: D417  (callers do not pass draw)
    draw: DrawFn,
    pattern: str = "unstructured",
    shape: Shape | SearchStrategy[Shape] | None = None,
) -> NDArray[np.bool_]:
    """Masks, True where a weight is kept.

    Args:
        pattern: `"unstructured"`; `"m:n"`, with at least m zeros in n consecutive inputs, as in
            TFMOT's `sparsity_m_by_n`; `"1xn"`, where n consecutive inputs are kept or removed
            together; `"channels"`, where whole outputs are. A last group may be shorter.
        shape: of the mask, or a strategy for it; by default `shapes()`.
    """
    size = draw(shapes() if shape is None else _as_strategy(shape))
    wanted = patterns.parse(pattern)
    if wanted.channels:
        outputs = draw(npst.arrays(np.bool_, size[0]))
        whole: NDArray[np.bool_] = np.repeat(outputs, prod(size[1:])).reshape(size)
        return whole
    groups, width = ceil(size[-1] / wanted.width), wanted.width
    if wanted.zeros:
        some = draw(npst.arrays(np.bool_, (*size[:-1], groups, width)))
        few = some & (np.cumsum(some, axis=-1) <= width - wanted.zeros)
        kept = few.reshape(*size[:-1], groups * width)
    else:
        kept = np.repeat(draw(npst.arrays(np.bool_, (*size[:-1], groups))), width, axis=-1)
    mask: NDArray[np.bool_] = kept[..., : size[-1]].copy()
    return mask


@st.composite
def sparse_weights(
    draw: DrawFn,
    pattern: str = "unstructured",
    shape: Shape | SearchStrategy[Shape] | None = None,
    *,
    dtype: str = "float32",
) -> Array:
    """Weights under a mask, with 0 where it removes one; arguments as of `masks` and `weights`."""
    mask = draw(masks(pattern, shape))
    return np.where(mask, draw(weights(mask.shape, dtype=dtype)), np.zeros((), dtype))


def _as_strategy(shape: Shape | SearchStrategy[Shape]) -> SearchStrategy[Shape]:
    return st.just(shape) if isinstance(shape, tuple) else shape
