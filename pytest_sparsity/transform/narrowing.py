"""A model without the channels that nobody needs."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_sparsity import encoding
from pytest_sparsity.model import Model, replace_file
from pytest_sparsity.model.serializer import pieces
from pytest_sparsity.model.tables import sparsity_table
from pytest_sparsity.transform.channels import BINARY, GraphChannels
from pytest_sparsity.transform.work import Work

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from pytest_sparsity.encoding import Array
    from pytest_sparsity.model import Operator

MULTIPLE = 8
"""Channels that are left come in eights: kernels take them so, and an odd rest costs a whole step
(XNNPACK's GEMM kernels compute 4, 8, 16 or 32 at a time)."""


MOST_CHANNELS = 1 << 22
"""Of a tensor whose channels are followed: memory is taken for each, and a damaged file may claim
any number."""


@dataclass(frozen=True)
class Narrowed:
    """A layer that makes fewer channels.

    Attributes:
        name: of its output.
        before, after: channels.
    """

    name: str
    before: int
    after: int

    def __str__(self) -> str:
        return f"{self.name}: {self.before} channels became {self.after}"


@dataclass(frozen=True)
class Shrunk:
    """What was removed from a file.

    Attributes:
        model: the file that was written.
        layers: the layers that make fewer channels, in order of execution.
    """

    model: Model
    layers: tuple[Narrowed, ...]

    @property
    def channels(self) -> int:
        """How many channels were removed."""
        return sum(layer.before - layer.after for layer in self.layers)


def dead_channels(model: Model, multiple: int = MULTIPLE) -> tuple[Narrowed, ...]:
    """The layers of the main graph that could make fewer channels without changing an output.

    None of a graph with a tensor of more than `MOST_CHANNELS`.
    """
    if not _followed(model):
        return ()
    _, channels, kept = _plan(model, multiple)
    return _narrowed(channels, kept)


def shrunk_nbytes(model: Model) -> int:
    """How many bytes the file would have without its dead channels; nothing is written.

    Raises:
        ModelError: the file is damaged, or holds what cannot be kept.
    """
    work, channels, kept = _plan(model, MULTIPLE)
    _Narrowing(work, channels, kept).run()
    work.clean()
    return sum(memoryview(piece).nbytes for piece in pieces(work.edit.flatbuffer))


def shrink(model: Model | str | PathLike[str], path: Path, *, multiple: int = MULTIPLE) -> Shrunk:
    """Write a model without channels that every reader ignores, or that are zero.

    The outputs are the same for finite values: only products with zero are left out of the sums,
    whose other terms keep their order.

    Args:
        model: any model; float32, float16, int8, sparsely stored or not. Its main graph is
            narrowed.
        path: of the file to write, which is replaced if it exists.
        multiple: how many channels a narrowed layer keeps a multiple of.

    Raises:
        ModelError: the file is damaged.
        ValueError: `multiple` is less than one.
    """
    model = Model.of(model)
    if multiple < 1:
        raise ValueError(f"multiple must be at least 1, not {multiple}")
    if _followed(model):
        work, channels, kept = _plan(model, multiple)
        layers = _narrowed(channels, kept)
        if layers:
            _Narrowing(work, channels, kept).run()
            return Shrunk(work.write(path), layers)
    replace_file(path, [model.data])
    return Shrunk(Model(path), ())


def _plan(model: Model, multiple: int) -> tuple[Work, GraphChannels, NDArray[np.bool_]]:
    """The graph as it is worked on, its channels, and which of them stay."""
    work = Work(model)
    channels = GraphChannels(work)
    return work, channels, _kept(channels, multiple)


def _followed(model: Model) -> bool:
    return all(max(tensor.shape[-1:], default=1) <= MOST_CHANNELS for tensor in model.graph.tensors)


def _kept(channels: GraphChannels, multiple: int) -> NDArray[np.bool_]:
    """Which channels stay, by number: those that are needed, and as many more as are missing."""
    import numpy as np

    kept = channels.needed.copy()
    together = channels.find(np.arange(len(kept)))
    for operator in channels.layers:
        mine = channels.of[channels.work.operators[operator].outputs[0]]
        block = int(np.lcm.reduce([channels.blocks.get(int(c), 1) for c in mine]))
        step = math.lcm(multiple, block)
        left = int(kept[mine].sum())
        wanted = max(step * -(-left // step), block)  # no layer has no channels at all
        spare = mine[~kept[mine]][: wanted - left]
        kept[np.isin(together, together[spare])] = True
    return kept


def _narrowed(channels: GraphChannels, kept: NDArray[np.bool_]) -> tuple[Narrowed, ...]:
    found = []
    for operator in channels.layers:
        output = channels.work.operators[operator].outputs[0]
        mine = kept[channels.of[output]]
        if not mine.all():
            name = channels.tensor(output).name
            found.append(Narrowed(name, len(mine), int(mine.sum())))
    return tuple(found)


class _Narrowing:
    """Takes the channels out of every tensor that has them."""

    def __init__(self, work: Work, channels: GraphChannels, kept: NDArray[np.bool_]) -> None:
        self.work, self.channels, self.kept = work, channels, kept

    def run(self) -> None:
        for operator in self.work.operators:
            self.constants(operator)
        for index in self.channels.of:
            mask = self.mask(index)
            if mask is not None:
                self.resize(index, int(mask.sum()))

    def mask(self, index: int) -> NDArray[np.bool_] | None:
        """Which channels of a tensor stay; None if all do."""
        if index not in self.channels.of:
            return None
        mask: NDArray[np.bool_] = self.kept[self.channels.of[index]]
        return None if mask.all() else mask

    def resize(self, index: int, width: int) -> None:
        tensor = self.work.edit.tensor(0, index)
        for field in ("shape", "shape_signature"):
            if len(tensor[field]):
                tensor[field] = [*map(int, tensor[field][:-1]), width]

    def constants(self, operator: Operator) -> None:
        """Narrow the constants of one operator."""
        if not operator.inputs or not operator.outputs:
            return
        source, output = self.mask(operator.inputs[0]), self.mask(operator.outputs[0])
        if operator.op in {"CONV_2D", "FULLY_CONNECTED"}:
            self.narrow(operator, 1, {0: output, -1: source})
            self.narrow(operator, 2, {0: output})
        elif operator.op == "DEPTHWISE_CONV_2D":
            self.narrow(operator, 1, {-1: output})
            self.narrow(operator, 2, {0: output})
        elif operator.op == "RESHAPE":
            self.reshape(operator, output)
        elif operator.op in {*BINARY, "PRELU"}:
            for place in (0, 1):
                if self.work.shape(operator.inputs[place])[-1:] > (1,):
                    self.narrow(operator, place, {-1: output})

    def reshape(self, operator: Operator, output: NDArray[np.bool_] | None) -> None:
        if output is None:
            return
        table, width = self.work.table(operator.index), int(output.sum())
        options = table["builtin_options"]
        if options is not None and len(options["new_shape"]):
            options["new_shape"] = [*map(int, options["new_shape"][:-1]), width]
        for index in operator.inputs[1:]:
            sizes = self.work.values(index)
            if sizes is not None and sizes[-1] >= 0:
                sizes[-1] = width
                narrowed = self.work.constant(self.work.tensor(index).name, sizes)
                table["inputs"] = [int(table["inputs"][0]), narrowed]

    def narrow(
        self, operator: Operator, place: int, masks: dict[int, NDArray[np.bool_] | None]
    ) -> None:
        """Give an operator a copy of a constant with fewer rows or columns."""
        import numpy as np

        chosen = {axis: mask for axis, mask in masks.items() if mask is not None}
        if not chosen or place >= len(operator.inputs) or operator.inputs[place] < 0:
            return
        stored = self.work.stored(operator.inputs[place])
        if stored is None:
            return
        tensor, values = self.work.tensor(stored), self.work.model.weights(stored)
        for axis, mask in chosen.items():
            values = np.compress(mask, values, axis)
        copy = self.copy(stored, values)
        quantization = self.work.edit.tensor(0, copy)["quantization"]
        axes = {axis % values.ndim: mask for axis, mask in chosen.items()}
        left = axes.get(tensor.quantized_dimension)
        if quantization is not None and left is not None:
            for field in ("scale", "zero_point"):
                if len(quantization[field]) > 1:
                    quantization[field] = np.asarray(quantization[field])[left]
        table = self.work.table(operator.index)
        inputs = [int(index) for index in table["inputs"]]
        inputs[place] = self.unpacked(operator, inputs[place], copy, values.shape)
        table["inputs"] = inputs

    def copy(self, stored: int, values: Array) -> int:
        """A further constant like another, with other values; its index."""
        import numpy as np

        tensor = self.work.tensor(stored)
        table = deepcopy(self.work.edit.tensor(0, stored))
        table["shape"] = list(values.shape)
        if tensor.sparsity is not None:
            values, sparsity = encoding.encode(values, max(tensor.sparsity.blocks, default=1))
            table["sparsity"] = sparsity_table(sparsity)
        table["buffer"] = self.work.edit.add_buffer(np.ascontiguousarray(values))
        tensors = self.work.edit.graph(0)["tensors"]
        tensors.append(table)
        return len(tensors) - 1

    def unpacked(self, operator: Operator, read: int, copy: int, shape: tuple[int, ...]) -> int:
        """The tensor that DENSIFY and DEQUANTIZE make of a copy, as they did of the original."""
        writer = self.work.writer(read)
        if writer is None:
            return copy
        source = self.unpacked(operator, writer.inputs[0], copy, shape)
        tensors = self.work.edit.graph(0)["tensors"]
        table = deepcopy(self.work.edit.tensor(0, read))
        table["shape"] = list(shape)
        tensors.append(table)
        self.work.insert(
            operator.index, writer.op, [source], len(tensors) - 1, version=writer.version
        )
        return len(tensors) - 1
