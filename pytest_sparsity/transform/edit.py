"""Changes to a model's file, in terms of tensors and operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.model import Model, replace_file, schema
from pytest_sparsity.model.flatbuffer import Table
from pytest_sparsity.model.serializer import pieces
from pytest_sparsity.model.tables import operator_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from pytest_sparsity.encoding import Array

    Key: TypeAlias = tuple[int, int]


class Edit:
    """A model's file taken apart; what is not changed is written as it was read.

    Attributes:
        model: as it was read; its facts do not follow the changes.
        flatbuffer: the tables, to be changed.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.flatbuffer = model.flatbuffer()

    @property
    def root(self) -> Table:
        """The table of the whole file."""
        return self.flatbuffer.root

    def graph(self, graph: int) -> Table:
        """A subgraph."""
        found: Table = self.root["subgraphs"][graph]
        return found

    def tensor(self, graph: int, tensor: int) -> Table:
        """A tensor of a graph."""
        found: Table = self.graph(graph)["tensors"][tensor]
        return found

    def operator(self, graph: int, operator: int) -> Table:
        """An operator of a graph, by its place among those that are there now."""
        found: Table = self.graph(graph)["operators"][operator]
        return found

    def write(self, path: Path) -> Model:
        """Write the file, replacing what is there, and read it, which verifies it."""
        replace_file(path, pieces(self.flatbuffer))
        return Model(path)

    # ------------------------------------------------------------------------------- constants

    def store(self, tensors: Iterable[Key], values: Array) -> None:
        """Give tensors, by (graph, tensor), these values as they are stored.

        Others that have shared a buffer with them keep what they have.
        """
        chosen = set(tensors)
        buffers = {self.tensor(*key)["buffer"] for key in chosen}
        for buffer in buffers:
            others = self._users(buffer) - chosen
            if buffer and not others:
                self.root["buffers"][buffer]["data"] = values
            else:
                place = self.add_buffer(values)
                for key in chosen:
                    if self.tensor(*key)["buffer"] == buffer:
                        self.tensor(*key)["buffer"] = place

    def add_buffer(self, values: Array) -> int:
        """A further buffer; its index."""
        self.root["buffers"].append(Table("Buffer", data=values))
        return len(self.root["buffers"]) - 1

    def _users(self, buffer: int) -> set[Key]:
        """Tensors by (graph, tensor), and metadata by (-1, entry), that have this buffer."""
        found = {
            (g, i)
            for g, graph in enumerate(self.root["subgraphs"])
            for i, tensor in enumerate(graph["tensors"])
            if tensor["buffer"] == buffer
        }
        entries = enumerate(self.root["metadata"])
        return found | {(-1, i) for i, entry in entries if entry["buffer"] == buffer}

    # --------------------------------------------------------------------- tensors and operators

    def add_tensor(
        self,
        graph: int,
        name: bytes,
        shape: Sequence[int],
        dtype: str | int,
        values: Array | None = None,
    ) -> int:
        """A further tensor, constant if it has values; its index.

        Args:
            graph: index of its graph.
            name: as in the file.
            shape: of the tensor.
            dtype: the schema's name or number ("FLOAT32", 0).
            values: as they are stored.
        """
        tensor = Table("Tensor", shape=shape, type=dtype, name=name, has_rank=True)
        tensor["buffer"] = 0 if values is None else self.add_buffer(values)
        self.graph(graph)["tensors"].append(tensor)
        return len(self.graph(graph)["tensors"]) - 1

    def add_operator(
        self,
        graph: int,
        place: int,
        op: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: Table | None = None,
        version: int = 1,
    ) -> Table:
        """A further builtin operator, before the one that is at this place."""
        code = self.code(op, version)
        operator = Table("Operator", opcode_index=code, inputs=inputs, outputs=outputs)
        if options is not None:
            union = schema.numbers("BuiltinOptions")
            field = "builtin_options" if options.kind in union else "builtin_options_2"
            operator[field] = options
        self.graph(graph)["operators"].insert(place, operator)
        return operator

    def code(self, op: str, version: int) -> int:
        """Index of the operator code with this version, which is added if there is none."""
        number = schema.numbers("BuiltinOperator")[op]
        for i, code in enumerate(self.root["operator_codes"]):
            is_op = max(code["builtin_code"], code["deprecated_builtin_code"]) == number
            if is_op and code["version"] == version:
                return i
        self.root["operator_codes"].append(operator_code(op, version))
        return len(self.root["operator_codes"]) - 1

    def replace_reads(self, graph: int, instead: Mapping[int, int]) -> None:
        """Let every reader of a tensor read another: operators, and what the graph gives out."""
        for operator in self.graph(graph)["operators"]:
            operator["inputs"] = _renumbered(operator["inputs"], instead)
        self.graph(graph)["outputs"] = _renumbered(self.graph(graph)["outputs"], instead)
        for signature in self.root["signature_defs"]:
            if signature["subgraph_index"] == graph:
                for named in signature["outputs"]:
                    named["tensor_index"] = instead.get(
                        named["tensor_index"], named["tensor_index"]
                    )

    def remove_operators(self, graph: int, removed: Iterable[Table]) -> None:
        """Take operators out of a graph."""
        gone = {id(operator) for operator in removed}
        operators = self.graph(graph)["operators"]
        operators[:] = [operator for operator in operators if id(operator) not in gone]

    def remove_tensors(self, graph: int, candidates: Iterable[int]) -> None:
        """Take out those that nothing in the file refers to; tensors behind them move up.

        Their buffers are emptied where they have no other users.
        """
        table, used = self.graph(graph), self._used_tensors(graph)
        gone = set(candidates) - used
        kept = [i for i in range(len(table["tensors"])) if i not in gone]
        left = {table["tensors"][i]["buffer"] for i in gone}
        numbers = {old: new for new, old in enumerate(kept)}
        for place, field in list(self._references(graph)):
            value = place[field]
            single = isinstance(value, int)
            place[field] = numbers.get(value, value) if single else _renumbered(value, numbers)
        table["tensors"] = [table["tensors"][i] for i in kept]
        for buffer in left:
            if buffer and not self._users(buffer):
                self.root["buffers"][buffer] = Table("Buffer")

    def remove_unused_codes(self) -> None:
        """Take out the operator codes that no operator has."""
        operators = [o for graph in self.root["subgraphs"] for o in graph["operators"]]
        used = sorted({operator["opcode_index"] for operator in operators})
        numbers = {old: new for new, old in enumerate(used)}
        for operator in operators:
            operator["opcode_index"] = numbers[operator["opcode_index"]]
        self.root["operator_codes"] = [self.root["operator_codes"][i] for i in used]

    def _used_tensors(self, graph: int) -> set[int]:
        used: set[int] = set()
        for place, field in self._references(graph):
            value = place[field]
            used |= {value} if isinstance(value, int) else set(map(int, value))
        return used

    def _references(self, graph: int) -> Iterator[tuple[Table, str]]:
        """Where the file refers to tensors of a graph: tables with a field of one or many."""
        table = self.graph(graph)
        yield from ((table, field) for field in ("inputs", "outputs") if field in table)
        for operator in table["operators"]:
            fields = ("inputs", "outputs", "intermediates")
            yield from ((operator, field) for field in fields if field in operator)
        for signature in self.root["signature_defs"]:
            if signature["subgraph_index"] == graph:
                for named in (*signature["inputs"], *signature["outputs"]):
                    yield named, "tensor_index"
        for tensor in table["tensors"]:
            quantization = tensor["quantization"]
            details = quantization["details"] if quantization is not None else None
            if details is not None and details.kind != "CustomQuantization":
                yield details, "scales"
                yield details, "zero_points"


def _renumbered(indices: Iterable[int], numbers: Mapping[int, int]) -> list[int]:
    return [numbers.get(int(index), int(index)) for index in indices]
