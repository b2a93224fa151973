"""Networks: of one layer, and of the form that sparse inference is for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from hypothesis import strategies as st

from pytest_sparsity.strategies.arrays import shapes, sparse_weights
from pytest_sparsity.writer import Network, grammar
from pytest_sparsity.writer.parts import Parts

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy
    from numpy.typing import NDArray

    from pytest_sparsity.writer import DType, Encoding

    Array = NDArray[Any]
    Op = Literal["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]


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


ENTRIES: dict[str, dict[str, Any]] = {"entry": grammar.ENTRIES["entry"]}
"""First layers that the rules accept."""

STEPS = {
    name: grammar.MIDDLES[name]
    for name in (
        "pointwise",
        "depthwise same",
        "depthwise stride 2 padded",
        "depthwise 5x5",
        "hard swish",
        "leaky relu",
        "residual",
        "swish",
        "resize",
    )
}
"""Steps between pointwise layers that the rules accept."""

ENDS = {name: grammar.ENDS[name] for name in ("average", "keep dims", "depth to space")}
"""Ends that the rules accept."""

FOUR_CHANNELS = "entry 4 channels"
BAD_ENTRIES: dict[str, dict[str, Any]] = {
    **{
        name: grammar.ENTRIES[name]
        for name in ("entry stride 1", "entry 5x5", "entry same padding")
    },
    FOUR_CHANNELS: {},
}
"""First layers that the rules reject for one reason each."""

BAD_STEPS = {
    name: grammar.MIDDLES[name]
    for name in (
        "max pool same",
        "regular 3x3",
        "depthwise 7x7",
        "depthwise stride 2 same",
        "depthwise dilated",
        "depthwise multiplier",
        "1x1 stride 2",
        "prelu",
        "difference of two branches",
    )
}
"""Steps that the rules reject for one reason each."""

BAD_ENDS = {name: grammar.ENDS[name] for name in ("flatten", "final average pool")}
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

    entry: str = "entry"
    steps: tuple[str, ...] = ()
    end: str = "average"
    zeros: float = 0.75
    encoding: Encoding = "sparse"
    channels: int = 4
    size: int = 16
    seed: int = 0

    def build(self, encoding: Encoding | None = None) -> Network:
        """The network, its pointwise weights stored in the encoding or in another."""
        parts = Parts(
            self.encoding if encoding is None else encoding,
            (1, self.size, self.size, 4 if self.entry == FOUR_CHANNELS else 3),
            seed=self.seed,
            zeros=self.zeros,
            channels=self.channels,
        )
        options = (ENTRIES | BAD_ENTRIES)[self.entry]
        x = parts.pointwise(parts.entry(parts.net.input, **options))
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
            or compute wrong outputs.
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
