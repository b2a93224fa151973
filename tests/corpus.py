"""Small networks that take every branch of the sparse-inference rules, written in milliseconds.

Each is a function from an encoding to a network, so that the same weights can be stored sparsely
and densely. What a network is expected to do is not stated here: the rules are compared with what
is observed on real targets.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_sparsity.writer import Network, Operand
from pytest_sparsity.writer.grammar import (
    ENDS,
    ENTRIES,
    MIDDLES,
    constant,
    conv_head,
    flatten,
    global_max,
    residual,
)
from pytest_sparsity.writer.parts import Parts

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_sparsity.writer import DType, Encoding

Build = Callable[["Parts", Operand], None]
Sides = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Case:
    """A network of the corpus.

    Attributes:
        name: what is special about it.
        build: adds the layers to the parts, from the input to the outputs.
        shape: of the input.
        zeros: of the pruned layers unless they say otherwise.
        dtype: of the stored weights.
        encoding: how the pruned weights are stored in the sparse file.
    """

    name: str
    build: Build
    shape: tuple[int, ...] = (1, 16, 16, 3)
    zeros: float = 0.8
    dtype: DType = "float32"
    encoding: Encoding = "sparse"

    def network(self, encoding: Encoding | None = None) -> Network:
        """The network with its pruned weights stored in an encoding."""
        seed = zlib.crc32(self.name.encode())
        parts = Parts(
            encoding or self.encoding, self.shape, seed=seed, zeros=self.zeros, dtype=self.dtype
        )
        self.build(parts, parts.net.input)
        return parts.net

    def write(self, folder: Path, encoding: Encoding | None = None) -> Path:
        """The file of the network."""
        name = f"{self.name.replace(' ', '-').replace('/', '_')}-{encoding or self.encoding}"
        return self.network(encoding).write(folder / f"{name.replace(' ', '')}.tflite")


def _chain(middle: Callable[[Parts, Operand], Operand]) -> Build:
    """Entry, a pointwise layer, the middle, a pointwise layer, global average pool."""

    def build(p: Parts, x: Operand) -> None:
        x = p.pointwise(p.entry(x))
        p.finish(p.pointwise(middle(p, x)))

    return build


def _entry(**options: Any) -> Build:
    def build(p: Parts, x: Operand) -> None:
        p.finish(p.pointwise(p.pointwise(p.entry(x, **options))))

    return build


def _ending(end: Callable[[Parts, Operand], Operand]) -> Build:
    """Entry, two pointwise layers, and an end of its own."""

    def build(p: Parts, x: Operand) -> None:
        p.net.output(end(p, p.pointwise(p.pointwise(p.entry(x)))))

    return build


def _zeros(first: float, second: float, third: float | None = None) -> Build:
    def build(p: Parts, x: Operand) -> None:
        x = p.pointwise(p.entry(x, 12), 12, zeros=first)
        x = p.pointwise(x, 12, zeros=second)
        if third is not None:
            x = p.pointwise(x, 12, zeros=third)
        p.finish(x)

    return build


def _two_outputs(p: Parts, x: Operand) -> None:
    x = p.pointwise(p.entry(x))
    p.net.output(p.net.mean(x), p.net.mean(p.pointwise(x)))


def _middle_output(p: Parts, x: Operand) -> None:
    x = p.pointwise(p.entry(x))
    p.net.output(x)
    p.finish(p.pointwise(x))


def _side_branch(end: Callable[[Parts, Operand], Operand]) -> Build:
    def build(p: Parts, x: Operand) -> None:
        x = p.pointwise(p.entry(x))
        side = end(p, p.pointwise(x))
        p.finish(p.pointwise(x))
        p.net.output(side)

    return build


def _two_entries(first: float, second: float, *, joined: bool) -> Build:
    def build(p: Parts, x: Operand) -> None:
        branches = [
            p.pointwise(p.pointwise(p.entry(x), zeros=zeros), zeros=zeros)
            for zeros in (first, second)
        ]
        if joined:
            p.finish(p.net.add(*branches))
        else:
            p.net.output(*(p.net.mean(branch) for branch in branches))

    return build


def _concat_inputs(p: Parts, x: Operand) -> None:
    branches = [p.net.mean(p.pointwise(p.pointwise(p.entry(x)))) for _ in range(2)]
    p.net.output(p.net.concat(branches))


def _mobilenet_v2(p: Parts, x: Operand) -> None:
    x = p.entry(x, 8, activation="RELU6")
    for stride, channels in ((1, 8), (2, 12), (1, 12)):
        y = p.pointwise(x, 24, activation="RELU6")
        if stride == 2:
            y = p.depthwise(y, pad=1, stride=2, activation="RELU6")
        else:
            y = p.depthwise(y, activation="RELU6")
        y = p.pointwise(y, channels, activation="NONE")
        x = p.net.add(x, y) if stride == 1 and channels == x.shape[3] else y
    x = p.pointwise(x, 32, activation="RELU6")
    p.net.output(p.net.softmax(p.linear(p.net.mean(x), 10)))


def _mobilenet_v3(p: Parts, x: Operand) -> None:
    x = p.net.unary(p.entry(x, activation="NONE"), "HARD_SWISH")
    for _ in range(2):
        y = p.net.unary(p.pointwise(x, 24, activation="NONE"), "HARD_SWISH")
        y = p.squeeze_excite(p.depthwise(y, 5, activation="RELU"))
        y = p.pointwise(y, x.shape[3], activation="NONE")
        x = p.net.add(x, y)
    p.net.output(p.net.mean(p.pointwise(x, 24)))


def _mlp(p: Parts, x: Operand) -> None:
    x = p.linear(x, 64, zeros=p.zeros, activation="RELU")
    x = p.linear(x, 64, zeros=p.zeros, activation="RELU")
    p.net.output(p.linear(x, 10, zeros=p.zeros))


def _convs_and_blocks(p: Parts, x: Operand) -> None:
    """Convolutions stored densely, a fully connected layer in blocks: no DENSIFY anywhere."""
    x = p.pointwise(p.pointwise(p.entry(x), encoding="dense"), encoding="dense")
    p.net.output(p.linear(p.net.mean(x), 16, zeros=0.75, encoding=p.encoding))


def _one_layer_encoded(which: int) -> Build:
    def build(p: Parts, x: Operand) -> None:
        encodings: list[Encoding] = ["dense"] * 3
        encodings[which] = p.encoding
        x = p.pointwise(p.entry(x), encoding=encodings[0])
        x = p.pointwise(x, encoding=encodings[1])
        p.net.output(p.linear(p.net.mean(x), 10, zeros=0.8, encoding=encodings[2]))

    return build


def _int8(p: Parts, x: Operand) -> None:
    x = p.net.quantize(x, 1 / 127)
    x = p.entry(x, scale=0.1)
    x = p.pointwise(p.pointwise(x, scale=0.1), scale=0.1)
    p.net.output(p.net.dequantize(p.net.mean(x)))


def _dynamic_range(p: Parts, x: Operand) -> None:
    x = p.pointwise(p.entry(x), dtype="int8")
    p.finish(p.pointwise(x, dtype="int8"))


def _reshaped_at_run_time(p: Parts, x: Operand) -> Operand:
    """An average that keeps its dimensions, in a shape that XNNPACK does not know beforehand."""
    average, size = p.net.mean(x, keep_dims=True), (x.shape[0], x.shape[3])
    options = {"out_type": 2}
    shape = p.net.operator("SHAPE", [p.net.mean(x)], (2,), "ShapeOptions", options, dtype="int32")
    return p.net.operator("RESHAPE", [average, shape], size, "ReshapeOptions")


def _second_chain_after_reshape(p: Parts, x: Operand) -> None:
    x = p.pointwise(p.entry(x), 3)
    x = p.net.max_pool(x, 2)
    p.finish(p.pointwise(p.pointwise(p.entry(x))))


@dataclass(frozen=True)
class Recipe:
    """A random network: an entry, middles, an end, and perhaps a second end on the way.

    Attributes:
        entry, middles, end: names in `ENTRIES`, `MIDDLES`, `ENDS`.
        side: a further end, and after how many middles it branches off; or None.
        size: height and width of the input.
        batch: of the input.
        zeros: of the pointwise layers that do not say otherwise.
        dtype: of the weights.
        seed: of the weights.
    """

    entry: str
    middles: tuple[str, ...]
    end: str
    side: tuple[int, str] | None = None
    size: tuple[int, int] = (16, 16)
    batch: int = 1
    zeros: float = 0.8
    dtype: DType = "float32"
    seed: int = 0

    def case(self) -> Case:
        """The network.

        Raises:
            ValueError: when written, if a layer does not fit the size that is left.
        """

        def build(p: Parts, x: Operand) -> None:
            x = p.pointwise(p.entry(x, **ENTRIES[self.entry]))
            outputs = []
            for position, name in enumerate(self.middles):
                if self.side is not None and self.side[0] == position:
                    outputs.append(ENDS[self.side[1]](p, x))
                x = MIDDLES[name](p, x)
            p.net.output(ENDS[self.end](p, x), *outputs)

        name = f"recipe {self.seed}"
        return Case(name, build, (self.batch, *self.size, 3), self.zeros, self.dtype)


CASES: tuple[Case, ...] = (
    *(Case(name, _entry(**options)) for name, options in ENTRIES.items()),
    *(Case(name, _chain(middle)) for name, middle in MIDDLES.items()),
    *(Case(name, _ending(end)) for name, end in ENDS.items()),
    # what enters
    Case("entry 1 channel", _entry(), shape=(1, 16, 16, 1)),
    Case("entry 4 channels", _entry(), shape=(1, 16, 16, 4)),
    Case("no entry", lambda p, x: p.finish(p.pointwise(p.pointwise(x)))),
    Case("scaled before entry", lambda p, x: _entry()(p, p.net.mul(x, constant(())))),
    Case("entry only", lambda p, x: p.finish(p.entry(x))),
    Case("pool 1x1 at the end", _ending(lambda p, x: p.net.max_pool(p.net.unary(x, "RELU"), 1))),
    Case("two pads before entry", lambda p, x: _entry()(p, p.net.pad(x, 1))),
    Case("reshape at run time", _ending(_reshaped_at_run_time)),
    Case(
        "one channel before max pool",
        _chain(lambda p, x: p.net.max_pool(p.pointwise(p.pointwise(x, 1, zeros=0.5)), 2)),
    ),
    Case(
        "3x3 convolution of averages",
        _ending(lambda p, x: p.conv(p.net.mean(x, keep_dims=True), 8, padding="SAME")),
    ),
    # branches and outputs
    Case("two outputs", _two_outputs),
    Case("middle output", _middle_output),
    Case("side branch flatten", _side_branch(flatten)),
    Case("side branch max", _side_branch(global_max)),
    Case("side branch depth to space", _side_branch(lambda p, x: p.net.depth_to_space(x, 2))),
    Case("side branch tanh", _side_branch(lambda p, x: p.net.unary(x, "TANH"))),
    Case("concat of averages", _concat_inputs),
    Case("mobilenet v2", _mobilenet_v2, shape=(1, 32, 32, 3)),
    Case("mobilenet v3", _mobilenet_v3, shape=(1, 32, 32, 3)),
    Case("second chain", _second_chain_after_reshape, shape=(1, 32, 32, 3)),
    # clusters and zeros
    Case("two clusters", _two_entries(0.8, 0.8, joined=False)),
    Case("two clusters one dense", _two_entries(0.8, 0.5, joined=False)),
    Case("two clusters joined", _two_entries(0.9, 0.5, joined=True)),
    Case("two clusters joined too few", _two_entries(0.8, 0.5, joined=True)),
    Case("two thirds", _zeros(2 / 3, 2 / 3)),
    Case("two thirds and one", _zeros(2 / 3, 97 / 144)),
    Case("two thirds less one", _zeros(2 / 3, 95 / 144)),
    Case("30 and 90", _zeros(0.3, 0.9, 0.9)),
    Case("95 and 50 and 50", _zeros(0.95, 0.5, 0.5)),
    Case("half", _entry(), zeros=0.5),
    Case("66", _entry(), zeros=0.66),
    Case("68", _entry(), zeros=0.68),
    Case("95", _entry(), zeros=0.95),
    # what is encoded
    Case("not encoded", _entry(), encoding="dense"),
    Case("first encoded", _one_layer_encoded(0)),
    Case("second encoded", _one_layer_encoded(1)),
    Case("linear encoded", _one_layer_encoded(2)),
    Case("blocks only", _convs_and_blocks, encoding="block 1x4"),
    Case("linear layers", _mlp, shape=(1, 64)),
    Case("linear layers in blocks", _mlp, shape=(1, 64), encoding="block 1x4"),
    # types and shapes
    Case("fp16", _entry(), dtype="float16"),
    Case("fp16 depthwise", _chain(lambda p, x: p.depthwise(x)), dtype="float16"),
    Case("fp16 stride 2 same", _chain(lambda p, x: p.depthwise(x, stride=2)), dtype="float16"),
    Case("fp16 half", _entry(), dtype="float16", zeros=0.5),
    Case("int8", _int8, dtype="int8"),
    Case("dynamic range", _dynamic_range),
    Case("batch 3", _chain(residual), shape=(3, 16, 16, 3)),
    Case("batch 3 keep dims", _ending(lambda p, x: p.net.mean(x, keep_dims=True)), (3, 16, 16, 3)),
    Case("batch 3 convolution head", _ending(conv_head), shape=(3, 16, 16, 3)),
    Case("square convolution head", _ending(partial(conv_head, zeros=0.8)), (1, 32, 32, 3)),
    Case("batch 2 convolution head", _ending(partial(conv_head, zeros=0.8)), (2, 16, 16, 3)),
    Case("batch 3 squeeze", _chain(lambda p, x: p.squeeze_excite(x)), shape=(3, 16, 16, 3)),
    Case("not square", _chain(lambda p, x: p.depthwise(x)), shape=(1, 12, 20, 3)),
    Case("not square squeeze", _chain(lambda p, x: p.squeeze_excite(x)), shape=(1, 12, 20, 3)),
    Case(
        "not square keep dims", _ending(lambda p, x: p.net.mean(x, keep_dims=True)), (1, 12, 20, 3)
    ),
    Case("one pixel", _entry(), shape=(1, 2, 2, 3)),
    Case("one pixel max pool", _chain(lambda p, x: p.net.max_pool(x, 1)), shape=(1, 2, 2, 3)),
    Case(
        "one pixel prelu",
        _chain(lambda p, x: p.net.prelu(x, p.random((1, 1, 16), 9))),
        (1, 2, 2, 3),
    ),
)
