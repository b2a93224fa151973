"""A model's main graph under change: its facts as they were read, and what is changed in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.model.flatbuffer import Table
from pytest_sparsity.model.operators import OPTIONS, UNPACKING
from pytest_sparsity.transform.edit import Edit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_sparsity.encoding import Array
    from pytest_sparsity.model import Model, Operator, Tensor


class Work:
    """The main graph of a file, its operators known by their places in the file that was read.

    Attributes:
        model: as it was read.
        edit: the changes.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.edit = Edit(model)
        self._tables: list[Table] = list(self.edit.graph(0)["operators"])
        for operator, table in zip(model.graph.operators, self._tables, strict=True):
            kind, options = OPTIONS.get(operator.op), table["builtin_options"]
            if kind is not None and (options is None or options.kind != kind):
                table["builtin_options"] = Table(kind)  # the defaults, as every reader takes them
        self._writers = {t: o for o in model.graph.operators for t in o.outputs}
        self._readers: dict[int, list[Operator]] = {}
        for operator in model.graph.operators:
            for index in dict.fromkeys(operator.inputs):
                self._readers.setdefault(index, []).append(operator)

    # --------------------------------------------------------------------------------- facts

    @property
    def operators(self) -> tuple[Operator, ...]:
        """The operators as they were read."""
        return self.model.graph.operators

    def tensor(self, index: int) -> Tensor:
        """A tensor as it was read."""
        return self.model.graph.tensors[index]

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of a tensor; a batch that is left open counts as the file has it."""
        return self.tensor(index).shape

    def writer(self, tensor: int) -> Operator | None:
        """The operator that computes a tensor, None for inputs and constants."""
        return self._writers.get(tensor)

    def readers(self, tensor: int) -> list[Operator]:
        """The operators that read a tensor."""
        return self._readers.get(tensor, [])

    def is_output(self, tensor: int) -> bool:
        """Whether the graph gives it out."""
        return tensor in self.model.graph.outputs

    def is_float(self, tensor: int) -> bool:
        """Whether it is computed as float32."""
        return self.tensor(tensor).dtype == "float32"

    def stored(self, tensor: int) -> int | None:
        """The constant behind a tensor, seen through DENSIFY and DEQUANTIZE; None if computed."""
        while not self.tensor(tensor).constant:
            writer = self.writer(tensor)
            if writer is None or writer.op not in UNPACKING:
                return None
            if self.tensor(tensor).variable or tensor in self.model.graph.inputs:
                return None  # it has a value before it is written, so it may even be its own source
            tensor = writer.inputs[0]
        return tensor

    def values(self, tensor: int) -> Array | None:
        """The values of a constant of numbers as they are computed with; None if computed."""
        import numpy as np

        stored = self.stored(tensor)
        if stored is None or self.tensor(stored).dtype not in {"float32", "float16", "int32"}:
            return None
        values = self.model.weights(stored)
        return values.astype(np.float32) if values.dtype == np.float16 else values

    # ------------------------------------------------------------------------------- changes

    def table(self, operator: int) -> Table:
        """The operator at this place of the file that was read, to be changed."""
        return self._tables[operator]

    def constant(self, name: str, values: Array) -> int:
        """A further constant; its index."""
        dtype = values.dtype.name.upper()
        return self.edit.add_tensor(0, name.encode(), values.shape, dtype, values)

    def like(self, tensor: int, name: str, shape: Sequence[int] | None = None) -> int:
        """A further tensor of a tensor's type that an operator computes; its index."""
        read = self.tensor(tensor)
        index = self.edit.add_tensor(0, name.encode(), shape or read.shape, read.dtype.upper())
        if read.open_dimensions == (0,):
            signature = [-1, *(shape or read.shape)[1:]]
            self.edit.tensor(0, index)["shape_signature"] = signature
        return index

    def insert(
        self,
        operator: int,
        op: str,
        inputs: Sequence[int],
        output: int,
        options: Table | None = None,
        *,
        version: int = 1,
        behind: bool = False,
    ) -> None:
        """A further operator, right before one that was read, or right behind it."""
        place = self._place(operator) + behind
        self.edit.add_operator(0, place, op, inputs, [output], options, version)

    def become(self, operator: int, op: str, options: Table | None, version: int = 1) -> None:
        """Let an operator be another one; its inputs and outputs stay."""
        table = self.table(operator)
        table["opcode_index"] = self.edit.code(op, version)
        del table["builtin_options"]
        if options is not None:
            table["builtin_options"] = options

    def _place(self, operator: int) -> int:
        table = self.table(operator)
        places = enumerate(self.edit.graph(0)["operators"])
        return next(place for place, other in places if other is table)

    def write(self, path: Path) -> Model:
        """Leave out what computes nothing that is read, and write the file."""
        self.clean()
        return self.edit.write(path)

    def clean(self) -> None:
        """Leave out what computes nothing that is read."""
        graph = self.edit.graph(0)
        dead: list[Table] = [graph]
        candidates: set[int] = set()
        while dead:
            read = {int(i) for operator in graph["operators"] for i in operator["inputs"]}
            read |= set(map(int, graph["outputs"]))
            dead = [
                operator
                for operator in graph["operators"]
                if len(operator["outputs"]) and not read & set(map(int, operator["outputs"]))
            ]
            candidates |= {
                int(i)
                for operator in dead
                for i in (*operator["inputs"], *operator["outputs"])
                if i >= 0
            }
            self.edit.remove_operators(0, dead)
        for table, before in zip(self._tables, self.operators, strict=True):
            candidates |= {i for i in before.inputs if i >= 0 and i not in set(table["inputs"])}
        self.edit.remove_tensors(0, candidates)
        self.edit.remove_unused_codes()
