"""From the tables of a model file to the facts of its graphs: all but the weights."""

from __future__ import annotations

import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_sparsity import encoding
from pytest_sparsity.errors import ModelError
from pytest_sparsity.model import schema, validation
from pytest_sparsity.model.facts import Graph, Operator, SignatureDef, Tensor
from pytest_sparsity.model.flatbuffer import CUT_OFF, Table
from pytest_sparsity.model.operators import OPTIONS, WINDOWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_sparsity.encoding import Array, Sparsity

MAX_NUMBERS = (
    1_000_000  # in a vector that becomes a tuple: more inputs or scales than any model has
)
MAX_RANK = 32  # numpy's before 2.0; TFLite's kernels stop at 8

SHORT = {
    "fused_activation_function": "activation",
    "dilation_w_factor": "dilation_w",
    "dilation_h_factor": "dilation_h",
    "dilation_d_factor": "dilation_d",
}
"""Options that go by another name than in the schema."""


@contextmanager
def reading() -> Iterator[None]:
    """Turn what damaged offsets make struct and numpy raise into a ModelError."""
    try:
        yield
    except ModelError:
        raise
    except struct.error as error:
        raise ModelError(CUT_OFF) from error
    except (LookupError, OverflowError, TypeError, ValueError) as error:
        raise ModelError(f"the file is damaged: it has {error}") from error


def read_graphs(model: Table) -> tuple[Graph, ...]:
    """The graphs of a file, checked (see `validation`).

    Raises:
        ModelError, ValueError: the tables contradict each other.
    """
    if model["version"] != schema.SCHEMA_VERSION:
        raise ModelError(f"schema version {model['version']} is not {schema.SCHEMA_VERSION}")
    codes = [_code(code) for code in model["operator_codes"]]
    stored = [buffer["data"] for buffer in model["buffers"]]
    graphs = tuple(_graph(graph, codes, stored) for graph in model["subgraphs"])
    if not graphs:
        raise ModelError("the file holds no graph")
    validation.check_calls(graphs)
    return graphs


def main_signature(model: Table, graph: Graph) -> SignatureDef | None:
    """The first signature that names every input and output of the main graph, if there is one."""
    for signature in model["signature_defs"]:
        maps = {
            field: tuple((_text(each["name"]), each["tensor_index"]) for each in signature[field])
            for field in ("inputs", "outputs")
        }
        covered = all(
            {index for _, index in maps[field]} == set(used)
            for field, used in (("inputs", graph.inputs), ("outputs", graph.outputs))
        )
        if covered and not signature["subgraph_index"]:
            return SignatureDef(maps["inputs"], maps["outputs"])
    return None


def _code(code: Table) -> tuple[str, int]:
    """Name and version of an operator code; numbers over 127 are only in the newer field."""
    number = max(code["builtin_code"], code["deprecated_builtin_code"])
    name = schema.names("BuiltinOperator").get(number, f"BUILTIN_{number}")
    if name == "CUSTOM":
        name = _text(code["custom_code"])
    return name, code["version"]


def _graph(graph: Table, codes: Sequence[tuple[str, int]], stored: Sequence[Array]) -> Graph:
    read = Graph(
        tuple(_tensor(i, tensor, stored) for i, tensor in enumerate(graph["tensors"])),
        tuple(_operator(i, operator, codes) for i, operator in enumerate(graph["operators"])),
        _values(graph, "inputs"),
        _values(graph, "outputs"),
    )
    validation.check(read, lambda tensor: stored[tensor.buffer])
    return read


def _operator(index: int, operator: Table, codes: Sequence[tuple[str, int]]) -> Operator:
    op, version = _choose(codes, operator["opcode_index"], "an operator of code")
    return Operator(
        index=index,
        op=op,
        version=version,
        inputs=_values(operator, "inputs"),
        outputs=_values(operator, "outputs"),
        options=_values_of(_options(op, operator)),
    )


def _options(op: str, operator: Table) -> Table | None:
    """The options of an operator; the defaults where the file has none of its kind.

    Those are what TFLite takes. An operator with a window would not run with them.
    """
    table: Table | None = operator["builtin_options"] or operator["builtin_options_2"]
    kind = OPTIONS.get(op)
    if kind is None or (table is not None and table.kind == kind):
        return table
    return None if op in WINDOWS else Table(kind)


def _values_of(table: Table | None) -> dict[str, object]:
    """Every number, flag, tuple of numbers, and enum by its name; defaults included."""
    found: dict[str, object] = {}
    for field in schema.fields(table.kind) if table is not None else ():
        assert table is not None
        name = SHORT.get(field.name, field.name)
        if field.shape == "vector":
            found[name] = _values(table, field.name)
        elif field.shape == "scalar":
            number = table[field.name]
            enum = schema.names(field.enum) if field.enum else {}
            found[name] = enum.get(number, str(number)) if field.enum else number
    return found


def _tensor(index: int, tensor: Table, buffers: Sequence[Array]) -> Tensor:
    """A tensor, the bytes of its values checked against its shape."""
    shape, signature = _values(tensor, "shape"), _values(tensor, "shape_signature")
    if len(shape) > MAX_RANK or min(shape, default=0) < 0:
        raise ValueError(f"a tensor of {len(shape)} dimensions, or a negative one")
    name = _text(tensor["name"])
    if tensor["external_buffer"]:
        raise ModelError(f"the values of tensor {name!r} are in another file, which is not read")
    stored: int = _choose(buffers, tensor["buffer"], "a tensor of buffer").size
    scales, zero_points, dimension = _quantization(tensor["quantization"])
    sparsity = _sparsity(tensor["sparsity"])
    number = tensor["type"]
    described = Tensor(
        index=index,
        name=name,
        shape=shape,
        dtype=schema.names("TensorType").get(number, f"type{number}").lower(),
        constant=stored > 0 or sparsity is not None,
        buffer=tensor["buffer"],
        sparsity=sparsity,
        quantized=bool(scales),
        scales=scales,
        zero_points=zero_points,
        quantized_dimension=dimension,
        variable=tensor["is_variable"],
        shape_signature=signature if len(signature) == len(shape) else (),
    )
    validation.check_size(described, stored)
    validation.check_quantization(described)
    return described


def _quantization(table: Table | None) -> tuple[tuple[float, ...], tuple[int, ...], int]:
    """Scales, zero points and their dimension."""
    if table is None:
        return (), (), 0
    return _values(table, "scale"), _values(table, "zero_point"), table["quantized_dimension"]


def _sparsity(table: Table | None) -> Sparsity | None:
    """The encoding, its arrays as views; its consistency is checked with the values."""
    if table is None:
        return None
    levels = table["dim_metadata"]
    formats = ("dense", "csr")
    return encoding.Sparsity(
        traversal_order=_values(table, "traversal_order"),
        block_map=_values(table, "block_map"),
        dense_sizes=tuple(level["dense_size"] for level in levels),
        formats=tuple(_choose(formats, x["format"], "a level of format") for x in levels),
        segments=tuple(_indices(level["array_segments"]) for level in levels),
        indices=tuple(_indices(level["array_indices"]) for level in levels),
    )


def _indices(vector: Table | None) -> Array | None:
    return None if vector is None else vector["values"]


def _values(table: Table, field: str) -> tuple[Any, ...]:
    """A vector of numbers as a tuple."""
    vector = table[field]
    if vector.size > MAX_NUMBERS:
        raise ValueError(f"a vector of {vector.size} {field}")
    return tuple(vector.tolist())


def _text(text: bytes) -> str:
    """A text; what is not UTF-8 in it is replaced."""
    return text.decode(errors="replace")


def _choose(items: Sequence[Any], index: int, what: str) -> Any:
    if not 0 <= index < len(items):
        raise ValueError(f"{what} {index}, of {len(items)}")
    return items[index]
