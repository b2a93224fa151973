"""Which channels of a network nobody needs: an analysis of its main graph.

A channel of one tensor is a channel of another wherever an operator works channel by channel
(depthwise layers, activations, additions, pools); such channels live or die together. A channel is
needed if it leaves the graph, if an operator that is not understood reads it, or if a needed
channel has a weight for it that is not zero, unless it is zero itself wherever it is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from pytest_sparsity.model.operators import UNPACKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from pytest_sparsity.encoding import Array
    from pytest_sparsity.model import Operator, Tensor
    from pytest_sparsity.transform.work import Work

PASSING = frozenset(
    {
        *("ABS", "AVERAGE_POOL_2D", "ELU", "EXP", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC"),
        *("MAX_POOL_2D", "NEG", "RELU", "RELU6", "RELU_N1_TO_1", "SQRT", "SQUARE", "TANH"),
        *("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"),
    }
)
"""Operators that compute each channel from the same one of their first input."""

ZERO_STAYS = PASSING - {"EXP", "LOGISTIC"}
"""Those that make zeros of zeros."""

BINARY = frozenset({"ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"})
WEIGHTED = ("CONV_2D", "FULLY_CONNECTED")
ZERO_ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1", "TANH")


@dataclass(frozen=True, eq=False)
class _Use:
    """Which channels a layer makes, which it reads, and where its weights are not zero."""

    made: NDArray[np.intp]
    read: NDArray[np.intp]
    weights: NDArray[np.bool_]


@dataclass
class GraphChannels:
    """The channels of a main graph's tensors, numbered over the whole graph.

    Attributes:
        work: on the model; nothing is changed in it here.
        of: the channels of a tensor, one number per entry of its last dimension.
        layers: operators that make channels of their own, in order.
        needed: whether a channel is needed, by number.
        blocks: how many inputs of weights in blocks must stay together, by channel number.
    """

    work: Work
    of: dict[int, NDArray[np.intp]] = field(default_factory=dict)
    layers: list[int] = field(default_factory=list)
    needed: NDArray[np.bool_] = field(init=False)
    blocks: dict[int, int] = field(default_factory=dict)
    _parents: list[int] = field(default_factory=list)
    _pinned: set[int] = field(default_factory=set)
    _zero: dict[int, NDArray[np.bool_]] = field(default_factory=dict)
    _uses: list[_Use] = field(default_factory=list)

    def __post_init__(self) -> None:
        graph = self.work.model.graph
        for index in graph.inputs:
            self._pin(index)
        for operator in graph.operators:
            if operator.op not in UNPACKING or self.stored(operator.inputs[0]) is None:
                self._visit(operator)
        for index in graph.outputs:
            self._pin(index)
        self._spread()

    # ------------------------------------------------------------------------------ constants

    def stored(self, index: int) -> int | None:
        """The constant behind a tensor, None if it is computed."""
        return self.work.stored(index)

    def tensor(self, index: int) -> Tensor:
        """A tensor of the graph."""
        return self.work.tensor(index)

    def values(self, index: int) -> Array | None:
        """The values of a constant as they are stored; None for what is computed."""
        stored = self.stored(index)
        return None if stored is None else self.work.model.weights(stored)

    def nonzero(self, index: int) -> NDArray[np.bool_] | None:
        """Where a constant is not zero, in the numbers that it stands for."""
        import numpy as np

        stored = self.stored(index)
        if stored is None:
            return None
        tensor, values = self.tensor(stored), self.work.model.weights(stored)
        if not tensor.quantized or not any(tensor.zero_points):
            return np.asarray(values != 0)
        zero_point, *others = tensor.zero_points
        if others:
            return np.ones(values.shape, bool)
        return np.asarray(values != zero_point)

    # ------------------------------------------------------------------------------- numbering

    def find(self, channels: NDArray[np.intp]) -> NDArray[np.intp]:
        """One number for all channels that live and die together."""
        import numpy as np

        return np.array([self._root(int(channel)) for channel in channels], np.intp)

    def _root(self, channel: int) -> int:
        while self._parents[channel] != channel:
            self._parents[channel] = self._parents[self._parents[channel]]
            channel = self._parents[channel]
        return channel

    def _fresh(self, count: int) -> NDArray[np.intp]:
        import numpy as np

        start = len(self._parents)
        self._parents += range(start, start + count)
        return np.arange(start, start + count)

    def _join(self, one: NDArray[np.intp], other: NDArray[np.intp]) -> None:
        for a, b in zip(one, other, strict=True):
            self._parents[self._root(int(a))] = self._root(int(b))

    def _channels(self, index: int) -> NDArray[np.intp]:
        """The channels of a tensor; of one that nothing is known about, they are all needed."""
        import numpy as np

        if index not in self.of:
            self.of[index] = self._fresh(self._width(index))
            self._zero[index] = np.zeros(len(self.of[index]), bool)
            self._pinned |= set(map(int, self.of[index]))
        return self.of[index]

    def _width(self, index: int) -> int:
        shape = self.tensor(index).shape
        return shape[-1] if shape else 1

    def _pin(self, index: int) -> None:
        self._pinned |= set(map(int, self._channels(index)))

    # ------------------------------------------------------------------------------- operators

    def _visit(self, operator: Operator) -> None:
        visits: dict[str, Callable[[Operator], bool]] = {
            **dict.fromkeys(PASSING, self._pass),
            **dict.fromkeys(BINARY, self._binary),
            **dict.fromkeys(WEIGHTED, self._weighted),
            "CONCATENATION": self._concatenation,
            "DEPTHWISE_CONV_2D": self._depthwise,
            "MEAN": self._mean,
            "PAD": self._pad,
            "PRELU": self._prelu,
            "RESHAPE": self._reshape,
        }
        visit = visits.get(operator.op)
        if visit is None or not visit(operator):
            for index in (*operator.inputs, *operator.outputs):
                if index >= 0 and self.stored(index) is None:
                    self._pin(index)

    def _give(
        self, index: int, channels: NDArray[np.intp], zero: NDArray[np.bool_] | None = None
    ) -> bool:
        """Say which channels a tensor has; False if its shape declares another number of them."""
        import numpy as np

        if self._width(index) != len(channels):
            return False
        self.of[index] = channels
        self._zero[index] = np.zeros(len(channels), bool) if zero is None else zero
        return True

    def _pass(self, operator: Operator) -> bool:
        source, output = operator.inputs[0], operator.outputs[0]
        stays = operator.op in ZERO_STAYS and self._plain(output)
        channels = self._channels(source)
        return self._give(output, channels, self._zero[source] if stays else None)

    def _plain(self, index: int) -> bool:
        """Zero is stored as zero: not quantized, so that no scale can move it."""
        return not self.tensor(index).quantized

    def _pad(self, operator: Operator) -> bool:
        sizes = self.values(operator.inputs[1])
        if sizes is None or sizes.ndim != 2 or sizes[-1].any():
            return False
        source = operator.inputs[0]
        return self._give(operator.outputs[0], self._channels(source), self._zero[source])

    def _mean(self, operator: Operator) -> bool:
        axes, source = self.values(operator.inputs[1]), operator.inputs[0]
        rank = len(self.tensor(source).shape)
        if axes is None or not rank:
            return False
        if any(int(axis) % rank == rank - 1 for axis in axes.reshape(-1)):
            return False
        channels = self._channels(source)
        zero = self._zero[source] if self._plain(source) else None
        return self._give(operator.outputs[0], channels, zero)

    def _reshape(self, operator: Operator) -> bool:
        """Of one pixel, or of an image into a row, whose channels come again for each pixel."""
        import numpy as np

        source, output = operator.inputs[0], operator.outputs[0]
        before, after = self.tensor(source).shape, self.tensor(output).shape
        if not before or not after or prod(before) != prod(after) or not before[-1]:
            return False
        if self.stored(source) is not None or after[-1] % before[-1]:
            return False
        channels, times = self._channels(source), after[-1] // before[-1]
        if times > 1 and prod(after[:-1]) != before[0]:
            return False
        return self._give(output, np.tile(channels, times), np.tile(self._zero[source], times))

    def _concatenation(self, operator: Operator) -> bool:
        import numpy as np

        rank = len(self.tensor(operator.outputs[0]).shape)
        axis = int(str(operator.options.get("axis", 0)))
        if axis not in {-1, rank - 1} or any(self.stored(i) is not None for i in operator.inputs):
            return False
        parts = [self._channels(index) for index in operator.inputs]
        zero = np.concatenate([self._zero[index] for index in operator.inputs])
        return self._give(operator.outputs[0], np.concatenate(parts), zero)

    def _binary(self, operator: Operator) -> bool:
        """Channel by channel; a constant has one number, or one for each channel."""
        import numpy as np

        width = self.tensor(operator.outputs[0]).shape[-1:]
        computed = [i for i in operator.inputs if self.stored(i) is None]
        if any(self.tensor(i).shape[-1:] != width for i in computed) or not computed:
            return False
        for index in set(operator.inputs) - set(computed):
            shape = self.tensor(index).shape
            if prod(shape) != 1 and shape[-1:] != width:
                return False
        channels = self._channels(computed[0])
        if len(computed) > 1:
            self._join(channels, self._channels(computed[1]))
        zeros = [self._zero[i] for i in computed]
        zero = np.zeros(len(channels), bool)
        if len(computed) == 2 and self._plain(operator.outputs[0]):
            both = np.logical_and if operator.op != "MUL" else np.logical_or
            zero = both(*zeros)
        return self._give(operator.outputs[0], channels, zero)

    def _prelu(self, operator: Operator) -> bool:
        if self.stored(operator.inputs[1]) is None:
            return False
        source = operator.inputs[0]
        return self._give(operator.outputs[0], self._channels(source), self._zero[source])

    def _depthwise(self, operator: Operator) -> bool:
        source, weights = operator.inputs[0], self.nonzero(operator.inputs[1])
        channels = self._channels(source)
        if weights is None or weights.shape[3] != len(channels):
            return False
        empty = ~weights.any((0, 1, 2)) | self._zero[source]
        return self._give(operator.outputs[0], channels, self._silent(operator, empty))

    def _silent(self, operator: Operator, empty: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of the outputs that sum nothing are zero: by their bias and the activation."""
        import numpy as np

        if operator.options.get("activation", "NONE") not in ZERO_ACTIVATIONS:
            return np.zeros(len(empty), bool)
        bias = None
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            bias = self.values(operator.inputs[2])
            if bias is None:
                return np.zeros(len(empty), bool)
        if bias is None:
            return empty
        clipped = str(operator.options["activation"]) in {"RELU", "RELU6"}
        clipped &= self._plain(operator.outputs[0])
        quiet: NDArray[np.bool_] = bias <= 0 if clipped else bias == 0
        return empty & quiet.reshape(-1)

    def _weighted(self, operator: Operator) -> bool:
        source, output = operator.inputs[0], operator.outputs[0]
        stored, weights = self.stored(operator.inputs[1]), self.nonzero(operator.inputs[1])
        channels = self._channels(source)
        if weights is None or stored is None or weights.shape[-1] != len(channels):
            return False
        sparsity = self.tensor(stored).sparsity
        block = max(sparsity.blocks, default=1) if sparsity is not None else 1
        if len(channels) % block:  # the converter has dropped columns: nothing is known of them
            return False
        flat = weights.reshape(weights.shape[0], -1, weights.shape[-1]).any(1)
        flat = flat & ~self._zero[source]
        silent: NDArray[np.bool_] = flat.sum(1) == 0
        made = self._fresh(len(flat))
        if not self._give(output, made, self._silent(operator, silent)):
            return False
        self.layers.append(operator.index)
        self._uses.append(_Use(made, channels, flat))
        if block > 1:
            self.blocks |= {int(channel): block for channel in channels}
        return True

    # ---------------------------------------------------------------------------------- needed

    def _spread(self) -> None:
        """From what is pinned backwards through the weights that are not zero."""
        import numpy as np

        needed = np.zeros(len(self._parents), bool)
        roots = self.find(np.arange(len(self._parents)))
        needed[roots[sorted(self._pinned)]] = True
        changed = True
        while changed:
            changed = False
            for use in reversed(self._uses):
                rows = needed[roots[use.made]]
                read = roots[use.read[use.weights[rows].any(0)]]
                if not needed[read].all():
                    needed[read] = True
                    changed = True
        self.needed = needed[roots]
