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

import struct
from dataclasses import dataclass, replace
from functools import cache
from math import ceil, prod, sqrt
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pytest_sparsity import patterns
from pytest_sparsity.writer import Network, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy
    from numpy.typing import NDArray

    from pytest_sparsity.writer import DType, Encoding

    Array = NDArray[Any]
    Shape = tuple[int, ...]
    Op = Literal["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]

__all__ = [
    "Chain",
    "Pair",
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

# ------------------------------------------------------------------------------------- weights


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


# ----------------------------------------------------------------------------------- schedules


@dataclass(frozen=True)
class Schedule:
    """Parameters of a TFMOT schedule, as its users write them.

    Attributes:
        final: the sparsity it ends with.
        initial: where a `PolynomialDecay` starts; None makes it a `ConstantSparsity`.
        begin: the first step at which masks are updated.
        end: the last possible one; -1 for a constant sparsity without end.
        frequency: steps from one update to the next.
        power: of the polynomial.
    """

    final: float
    initial: float | None = None
    begin: int = 0
    end: int = -1
    frequency: int = 1
    power: int = 3

    def build(self) -> Any:
        """The TFMOT object; needs `pytest-sparsity[build]`."""
        import tensorflow_model_optimization as tfmot

        steps = {"begin_step": self.begin, "end_step": self.end, "frequency": self.frequency}
        if self.initial is None:
            return tfmot.sparsity.keras.ConstantSparsity(self.final, **steps)
        polynomial = tfmot.sparsity.keras.PolynomialDecay
        return polynomial(self.initial, self.final, power=self.power, **steps)

    def updates(self, steps: int) -> tuple[int, ...]:
        """The steps, of so many from 0 on, at which masks are updated."""
        last = steps - 1 if self.end < 0 else min(self.end, steps - 1)
        return tuple(range(self.begin, last + 1, self.frequency))

    def sparsity_at(self, step: int) -> float:
        """The sparsity asked for at a step (pruning_schedule.py, TFMOT 0.8.1)."""
        if self.initial is None:
            return self.final
        done = (step - self.begin) / (self.end - self.begin)
        left = 1 - min(max(done, 0.0), 1.0)
        return self.final + (self.initial - self.final) * left**self.power


@st.composite
def schedules(draw: DrawFn, *, steps: int = 100) -> Schedule:  # noqa: D417
    """Schedules that TFMOT accepts, not all of which reach their final sparsity in time.

    Args:
        steps: no polynomial ends later.
    """
    sparsity = st.sampled_from([0.0, 0.5, 0.75, 0.8, 0.9, 0.95, 0.99])
    begin = draw(st.integers(0, steps - 1))
    frequency = draw(st.sampled_from([1, 2, 10, 100]))
    if draw(st.booleans()):
        low, high = sorted([draw(sparsity), draw(sparsity)])
        end, power = draw(st.integers(begin + 1, steps)), draw(st.sampled_from([3, 1]))
        return Schedule(high, low, begin, end, frequency, power)
    return Schedule(draw(sparsity), begin=begin, frequency=frequency)


# ------------------------------------------------------------------------------------ networks


@dataclass(frozen=True, eq=False)
class SingleLayer:
    """A network of one layer.

    Attributes:
        op: `"CONV_2D"`, `"DEPTHWISE_CONV_2D"` or `"FULLY_CONNECTED"`.
        weights: float32 or float16, in TFLite's layout.
        encoding: how they are stored.
        dtype: as what they are stored; int8 makes a dynamic-range layer.
    """

    op: Op
    weights: Array
    encoding: Encoding = "dense"
    dtype: DType = "float32"

    def build(self, encoding: Encoding | None = None) -> Network:
        """The network, its weights stored in the encoding or in another."""
        *_, width = shape = self.weights.shape
        linear = self.op == "FULLY_CONNECTED"
        net = Network((1, width) if linear else (1, shape[1] + 1, shape[2] + 1, width))
        add = {
            "CONV_2D": net.conv2d,
            "DEPTHWISE_CONV_2D": net.depthwise,
            "FULLY_CONNECTED": net.fully_connected,
        }[self.op]
        stored = self.encoding if encoding is None else encoding
        net.output(add(net.input, self.weights, encoding=stored, dtype=self.dtype, name="weights"))
        return net


@st.composite
def layers(draw: DrawFn, *, encoding: Encoding | None = None) -> SingleLayer:  # noqa: D417
    """Networks of one layer with `sparse_weights`.

    Args:
        encoding: how the weights are stored; any of those that the converter uses if None. There
            are no float16 weights in blocks: the converter's own files with them are wrong.
    """
    ops: list[Op] = ["FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"]
    dtypes: list[DType] = ["float32", "float16", "int8"]
    op, dtype = draw(st.sampled_from(ops)), draw(st.sampled_from(dtypes))
    stored = draw(st.sampled_from(_encodings(op, dtype))) if encoding is None else encoding
    if stored.startswith("block"):
        op, dtype = "FULLY_CONNECTED", "float32" if stored == "block 1x4" else "int8"
    shape = draw(shapes(2 if op == "FULLY_CONNECTED" else 4))
    if op == "DEPTHWISE_CONV_2D":
        shape = (1, *shape[1:])
    group = int(stored.removeprefix("block 1x")) if stored.startswith("block") else 1
    shape = (*shape[:-1], group * ceil(shape[-1] / group))
    drawn = draw(sparse_weights(f"1x{group}", shape, dtype=dtype))
    kept = drawn.astype(np.float32) if dtype == "int8" else drawn
    return SingleLayer(op, kept, stored, dtype)


def _encodings(op: Op, dtype: DType) -> list[Encoding]:
    blocks: dict[str, list[Encoding]] = {"float32": ["block 1x4"], "int8": ["block 1x16"]}
    plain: list[Encoding] = ["dense", "sparse"]
    return plain + (blocks.get(dtype, []) if op == "FULLY_CONNECTED" else [])


class _Parts:
    """The layers that a `Chain` is made of, with random weights."""

    def __init__(self, chain: Chain, encoding: Encoding) -> None:
        self.net = Network((1, chain.size, chain.size, 4 if chain.entry == "4 channels" else 3))
        self.rng = np.random.Generator(np.random.PCG64(chain.seed))
        self.chain = chain
        self.encoding: Encoding = encoding

    def random(self, *shape: int, inputs: int, zeros: float = 0.0) -> NDArray[np.float32]:
        """Weights that keep activations of order one, just more than a share of them zero."""
        drawn = self.rng.uniform(0.5, 1.5, shape) * self.rng.choice([-1.0, 1.0], shape)
        gone = self.rng.permutation(drawn.size)[: ceil(zeros * drawn.size)]
        drawn.reshape(-1)[gone] = 0.0
        scaled: NDArray[np.float32] = (drawn / sqrt(inputs * (1 - zeros))).astype(np.float32)
        return scaled

    def entry(self, kernel: int = 3, pad: int = 1, **options: Any) -> Value:
        x = self.net.pad(self.net.input, pad) if pad else self.net.input
        channels = x.shape[3]
        weights = self.random(
            self.chain.channels, kernel, kernel, channels, inputs=kernel * kernel * channels
        )
        merged: dict[str, Any] = {"stride": 2, "activation": "RELU"} | options
        return self.net.conv2d(x, weights, **merged)

    def pointwise(self, x: Value, channels: int = 0, **options: Any) -> Value:
        outputs, inputs = channels or self.chain.channels, x.shape[3]
        weights = self.random(outputs, 1, 1, inputs, inputs=inputs, zeros=self.chain.zeros)
        return self.net.conv2d(
            x, weights, activation="RELU", encoding=self.encoding, name="pointwise", **options
        )

    def depthwise(
        self, x: Value, kernel: int = 3, *, pad: int = 0, multiplier: int = 1, **options: Any
    ) -> Value:
        x = self.net.pad(x, pad) if pad else x
        weights = self.random(1, kernel, kernel, x.shape[3] * multiplier, inputs=kernel * kernel)
        options = {"padding": "VALID" if pad else "SAME", "activation": "RELU"} | options
        return self.net.depthwise(x, weights, **options)

    def convolution(self, x: Value) -> Value:
        weights = self.random(self.chain.channels, 3, 3, x.shape[3], inputs=9 * x.shape[3])
        return self.net.conv2d(x, weights, padding="SAME", activation="RELU")


ENTRIES: dict[str, dict[str, Any]] = {"3x3 stride 2": {}}
"""First layers that the rules accept: options of a 3x3 convolution after padding by one."""

STEPS: dict[str, Callable[[_Parts, Value], Value]] = {
    "pointwise": lambda p, x: p.pointwise(x),
    "depthwise": lambda p, x: p.depthwise(x),
    "depthwise stride 2": lambda p, x: p.depthwise(x, pad=1, stride=2),
    "depthwise 5x5": lambda p, x: p.depthwise(x, 5),
    "hard swish": lambda p, x: p.net.unary(x, "HARD_SWISH"),
    "leaky relu": lambda p, x: p.net.leaky_relu(x, 0.1),
    "residual": lambda p, x: p.net.add(x, p.pointwise(p.depthwise(x), x.shape[3])),
    "swish": lambda p, x: p.net.mul(x, p.net.unary(x, "LOGISTIC")),
    "resize": lambda p, x: p.net.resize_bilinear(x, (2 * x.shape[1], 2 * x.shape[2])),
}
"""Steps between pointwise layers that the rules accept."""

ENDS: dict[str, Callable[[_Parts, Value], Value]] = {
    "average": lambda p, x: p.net.mean(x),
    "average keeping dims": lambda p, x: p.net.mean(x, keep_dims=True),
    "depth to space": lambda p, x: p.net.depth_to_space(x, 2),
}
"""Ends that the rules accept."""

BAD_ENTRIES: dict[str, dict[str, Any]] = {
    "stride 1": {"stride": 1},
    "5x5": {"kernel": 5, "pad": 2},
    "padding same": {"pad": 0, "padding": "SAME"},
    "4 channels": {},
}
"""First layers that the rules reject for one reason each."""

BAD_STEPS: dict[str, Callable[[_Parts, Value], Value]] = {
    "max pool": lambda p, x: p.net.max_pool(x, 2, 1, "SAME"),
    "3x3": lambda p, x: p.convolution(x),
    "depthwise 7x7": lambda p, x: p.depthwise(x, 7),
    "depthwise stride 2 same": lambda p, x: p.depthwise(x, stride=2),
    "depthwise dilated": lambda p, x: p.depthwise(x, dilation=2),
    "depthwise multiplier 2": lambda p, x: p.depthwise(x, multiplier=2),
    "pointwise stride 2": lambda p, x: p.pointwise(x, stride=2),
    "prelu": lambda p, x: p.net.prelu(x, p.random(1, 1, x.shape[3], inputs=9)),
    "subtract": lambda p, x: p.net.sub(x, p.pointwise(x, x.shape[3])),
}
"""Steps that the rules reject for one reason each."""

BAD_ENDS: dict[str, Callable[[_Parts, Value], Value]] = {
    "flatten": lambda p, x: p.net.reshape(x, (1, prod(x.shape))),
    "average pool": lambda p, x: p.net.avg_pool(x, (x.shape[1], x.shape[2])),
}
"""Ends that the rules reject for one reason each."""


@dataclass(frozen=True)
class Chain:
    """A network of the form that XNNPACK's sparse inference is for, or nearly so.

    An entry convolution, a pointwise layer, steps, a pointwise layer, and an end.

    Attributes:
        entry: a name in `ENTRIES` or `BAD_ENTRIES`.
        steps: names in `STEPS` or `BAD_STEPS`.
        end: a name in `ENDS` or `BAD_ENDS`.
        zeros: share of zeros in each pointwise layer; only more than two thirds are enough.
        encoding: of the pointwise layers' weights; without any sparse encoding nothing is sparse.
        channels: of all layers, a multiple of four.
        size: height and width of the input.
        seed: of the weights.
    """

    entry: str = "3x3 stride 2"
    steps: tuple[str, ...] = ()
    end: str = "average"
    zeros: float = 0.75
    encoding: Encoding = "sparse"
    channels: int = 4
    size: int = 16
    seed: int = 0

    def build(self, encoding: Encoding | None = None) -> Network:
        """The network, its pointwise weights stored in the encoding or in another."""
        parts = _Parts(self, self.encoding if encoding is None else encoding)
        x = parts.pointwise(parts.entry(**(ENTRIES | BAD_ENTRIES)[self.entry]))
        for step in self.steps:
            x = (STEPS | BAD_STEPS)[step](parts, x)
        parts.net.output((ENDS | BAD_ENDS)[self.end](parts, parts.pointwise(x)))
        return parts.net


@st.composite
def networks(draw: DrawFn, *, accepted: bool = True) -> Chain:  # noqa: D417
    """Networks that XNNPACK's rules accept for sparse inference, or that just miss them.

    Args:
        accepted: True for networks in which every pointwise layer runs sparse kernels where the
            runtime and CPU have them; False for networks with exactly one fault, which run dense
            or compute wrong answers.
    """
    chain = Chain(
        steps=tuple(draw(st.lists(st.sampled_from(list(STEPS)), max_size=3))),
        end=draw(st.sampled_from(list(ENDS))),
        zeros=draw(st.sampled_from([0.75, 0.7, 0.9])),
        channels=draw(st.sampled_from([4, 8, 12])),
        size=draw(st.sampled_from([16, 18, 24])),
        seed=draw(st.integers(0, 2**16)),
    )
    return chain if accepted else draw(_with_fault(chain))


def _with_fault(chain: Chain) -> SearchStrategy[Chain]:
    """The chain with one thing that the rules reject."""
    faults: list[dict[str, Any]] = [
        {"encoding": "dense"},
        {"zeros": 0.5},
        *({"entry": name} for name in BAD_ENTRIES),
        *({"end": name} for name in BAD_ENDS),
    ]
    bad_step = st.builds(
        lambda name, place: {"steps": (*chain.steps[:place], name, *chain.steps[place:])},
        st.sampled_from(list(BAD_STEPS)),
        st.integers(0, len(chain.steps)),
    )
    return st.one_of(st.sampled_from(faults), bad_step).map(lambda fault: replace(chain, **fault))


# --------------------------------------------------------------------------------------- files


@dataclass(frozen=True)
class Pair:
    """Two `.tflite` files of one network, with the same zeros stored densely and sparsely.

    Attributes:
        network: what they hold.
    """

    network: Chain | SingleLayer

    @property
    def dense(self) -> bytes:
        """The file with all weights stored densely."""
        return self.network.build("dense").to_bytes()

    @property
    def sparse(self) -> bytes:
        """The file with the weights stored in the network's own encoding."""
        return self.network.build().to_bytes()


def pairs() -> SearchStrategy[Pair]:
    """Pairs of files of single layers and of networks that XNNPACK's rules accept."""
    sparse: list[Encoding] = ["sparse", "block 1x4", "block 1x16"]
    single = st.sampled_from(sparse).flatmap(lambda encoding: layers(encoding=encoding))
    return st.builds(Pair, st.one_of(single, networks()))


def malformed() -> SearchStrategy[bytes]:
    """Damaged `.tflite` files and files that never were any.

    Cut short, with numbers overwritten, bytes removed or put in. A few are still readable, since
    the damage may hit a weight or a name: whatever reads them must either succeed or say what is
    wrong in its own words.
    """
    damaged = st.builds(
        _damaged, st.sampled_from(_whole_files()), st.lists(_edits(), min_size=1, max_size=3)
    )
    return st.one_of(st.binary(max_size=64), damaged)


@cache
def _whole_files() -> list[bytes]:
    kept = np.ones((4, 16), np.float32)
    encodings: list[Encoding] = ["sparse", "dense", "block 1x4"]
    single = [SingleLayer("FULLY_CONNECTED", kept, encoding).build() for encoding in encodings]
    return [network.to_bytes() for network in (*single, Chain().build())]


def _edits() -> SearchStrategy[tuple[str, float, int]]:
    """What is done, where as a share of the file, and with which number."""
    kinds = st.sampled_from(["cut", "number", "byte", "remove", "insert"])
    corners = st.sampled_from([0, 1, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
    return st.tuples(kinds, st.floats(0, 1), st.one_of(corners, st.integers(0, 2**32 - 1)))


def _damaged(data: bytes, edits: Sequence[tuple[str, float, int]]) -> bytes:
    for kind, share, number in edits:
        place = int(share * max(len(data) - 1, 0))
        aligned = place // 4 * 4
        data = {
            "cut": data[:place],
            "number": data[:aligned] + struct.pack("<I", number) + data[aligned + 4 :],
            "byte": data[:place] + bytes([number % 256]) + data[place + 1 :],
            "remove": data[:place] + data[place + number % 16 :],
            "insert": data[:place] + struct.pack("<I", number) + data[place:],
        }[kind]
    return data
