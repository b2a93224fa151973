"""Reading a `.tflite` file: its graphs, its layers, and how their weights are stored.

The structure is read and checked at once, the weights when asked for. The file is mapped into
memory and its arrays are views, so nothing is copied but what `Model.weights` returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity import encoding
from pytest_sparsity.errors import ModelError
from pytest_sparsity.model.facts import Graph, Layer, Operator, SignatureDef, Tensor
from pytest_sparsity.model.files import naming, read_file, replace_file, stamp
from pytest_sparsity.model.flatbuffer import read
from pytest_sparsity.model.reader import main_signature, read_graphs, reading
from pytest_sparsity.model.weights import (
    Computed,
    as_numbers,
    decoded_nbytes,
    find_computed,
    find_layers,
    naming_weights,
)

if TYPE_CHECKING:
    import mmap
    from os import PathLike

    from pytest_sparsity.encoding import Array
    from pytest_sparsity.model.flatbuffer import Flatbuffer

__all__ = [
    "Computed",
    "Graph",
    "Layer",
    "Model",
    "Operator",
    "SignatureDef",
    "Tensor",
    "replace_file",
]


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Model:
    """One `.tflite` file and the facts read from it.

    Attributes:
        path: of the file, absolute.
        nbytes: its size.
        graphs: its subgraphs.
        signature: the names of the main graph's inputs and outputs; None if the file has none.

    Raises:
        ModelError: when made, if the file's structure is not that of a model; later, if stored
            weights are inconsistent or the file has changed since.
    """

    path: Path
    nbytes: int
    graphs: tuple[Graph, ...]
    signature: SignatureDef | None

    def __init__(self, path: str | PathLike[str]) -> None:
        path = Path(fspath(path))
        with naming(path):
            data, status = read_file(path)
            with reading():
                root = read(data).root
                graphs = read_graphs(root)
                signature = main_signature(root, graphs[0])
        values = {
            "path": path.absolute(),
            "nbytes": len(data),
            "graphs": graphs,
            "signature": signature,
            "_data": data,
            "_buffers": tuple(buffer["data"] for buffer in root["buffers"]),
            "_stamp": stamp(status),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    if TYPE_CHECKING:
        _data: bytes | mmap.mmap
        _buffers: tuple[Array, ...]
        _stamp: tuple[int, ...]

    @staticmethod
    def of(model: str | PathLike[str] | Model) -> Model:
        """The model itself, or the one at the path."""
        return model if isinstance(model, Model) else Model(model)

    @property
    def graph(self) -> Graph:
        """The main graph."""
        return self.graphs[0]

    @property
    def encoded(self) -> bool:
        """Whether any tensor is sparse-encoded."""
        return any(t.sparsity is not None for graph in self.graphs for t in graph.tensors)

    @property
    def stateful(self) -> bool:
        """Whether it keeps values from one inference to the next.

        It does in tensors that the file calls variables, or by ASSIGN_VARIABLE, unless that is in
        the graph by which CALL_ONCE sets variables up.
        """
        operators = [o for graph in self.graphs for o in graph.operators]
        set_up = {o.options.get("init_subgraph_index") for o in operators if o.op == "CALL_ONCE"}
        return any(
            any(tensor.variable for tensor in graph.tensors)
            or (g not in set_up and any(o.op == "ASSIGN_VARIABLE" for o in graph.operators))
            for g, graph in enumerate(self.graphs)
        )

    @property
    def data(self) -> bytes | mmap.mmap:
        """The content of the file; it can be sliced, hashed and copied like bytes."""
        with naming(self.path):
            self._check_unchanged()
        return self._data

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The operators with weights, in order of execution, those of the main graph first."""
        with naming(self.path):
            self._check_unchanged()
            return find_layers(self.graphs, self.stored)

    @cached_property
    def computed_weights(self) -> tuple[Computed, ...]:
        """Layers without stored weights: computed at run time, as behind TFMOT's masks."""
        return find_computed(self.graphs)

    @cached_property
    def sparsity(self) -> float:
        """Exact zeros / elements over all layers' weights, each tensor counted once."""
        weights = {(layer.graph, layer.tensor): layer for layer in self.layers}.values()
        parameters = sum(layer.parameters for layer in weights)
        zeros = sum(round(layer.sparsity * layer.parameters) for layer in weights)
        return zeros / parameters if parameters else 0.0

    @cached_property
    def sha256(self) -> str:
        """Of the file's content, in hexadecimal."""
        import hashlib

        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def decoded_nbytes(self) -> int:
        """Bytes of all tensors, decoded and alive at once: what a runtime may need, and more.

        Raises:
            ModelError: a sparse encoding is inconsistent, or its shape implausible. So this guards
                what would give memory to any shape that a file claims.
        """
        with naming(self.path):
            self._check_unchanged()
            return decoded_nbytes(self.graphs, self.stored)

    def weights(self, tensor: int, graph: int = 0) -> Array:
        """The values of a constant tensor, decoded: a new array of the tensor's shape and dtype.

        int4 comes as int8, and bfloat16 as the uint16 of its bits.

        Raises:
            ModelError: the stored values are inconsistent with the tensor's description.
            ValueError: the tensor is not constant.
        """
        described = self.graphs[graph].tensors[tensor]
        if not described.constant:
            raise ValueError(f"tensor {tensor} ({described.name!r}) is not constant")
        with naming(self.path), naming_weights(described):
            self._check_unchanged()
            values = as_numbers(self.stored(described.buffer), described)
            if described.sparsity is not None:
                return encoding.decode(values, described.shape, described.sparsity)
            return values[: prod(described.shape)].reshape(described.shape).copy()

    def span(self, buffer: int) -> tuple[int, int]:
        """Where in the file a buffer's bytes start, and how many there are."""
        import numpy as np

        values = self._buffers[buffer]
        if not values.size:
            return 0, 0
        start = np.frombuffer(self._data, np.uint8, 1).ctypes.data
        return values.ctypes.data - start, values.size

    def stored(self, buffer: int) -> Array:
        """The bytes of a buffer as they are in the file: a read-only view, uint8."""
        return self._buffers[buffer]

    def flatbuffer(self) -> Flatbuffer:
        """All that the file holds, to be changed and written again; its arrays are views."""
        with naming(self.path), reading():
            self._check_unchanged()
            return read(self._data)

    def _check_unchanged(self) -> None:
        if stamp(self.path.stat()) != self._stamp:
            raise ModelError("the file has changed since it was read: make a new Model of it")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model):
            return NotImplemented
        return self.path == other.path and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash((self.path, self.sha256))

    def __repr__(self) -> str:
        return f"Model({self.path.name!r}, {_size(self.nbytes)})"


def _size(nbytes: int) -> str:
    if nbytes < 1e6:
        return f"{nbytes / 1e3:.1f} kB"
    return f"{nbytes / 1e6:.1f} MB"
