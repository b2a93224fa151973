"""From a network to the bytes of its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.model import schema
from pytest_sparsity.model.flatbuffer import Flatbuffer, Table
from pytest_sparsity.model.serializer import pieces
from pytest_sparsity.model.tables import operator_code, quantization_table, sparsity_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_sparsity.writer.values import Described, Names, Operand, Operation


def file_of(
    tensors: Sequence[Described],
    operations: Sequence[Operation],
    inputs: Sequence[int],
    outputs: Sequence[int],
    names: Names | None = None,
) -> bytes:
    """The file of a network with one graph."""
    import numpy as np

    buffers = [Table("Buffer")]  # by convention the first is empty
    places = []
    for tensor in tensors:
        places.append(len(buffers) if tensor.data is not None else 0)
        if tensor.data is not None:
            buffers.append(Table("Buffer", data=np.frombuffer(tensor.data, np.uint8)))
    versions: dict[str, int] = {}
    for operation in operations:  # the converter, too, has one code for all uses of an operator
        versions[operation.op] = max(operation.version, versions.get(operation.op, 0))
    codes = list(versions)
    graph = Table(
        "SubGraph",
        tensors=[_tensor(t, place) for t, place in zip(tensors, places, strict=True)],
        inputs=inputs,
        outputs=outputs,
        operators=[_operator(operation, codes) for operation in operations],
        name=b"main",
    )
    root = Table(
        "Model",
        version=schema.SCHEMA_VERSION,
        operator_codes=[operator_code(op, versions[op]) for op in codes],
        subgraphs=[graph],
        description=b"pytest-sparsity",
        buffers=buffers,
    )
    if names is not None:
        root["signature_defs"] = [_signature(names)]
    return b"".join(pieces(Flatbuffer(root)))


def _signature(names: Names) -> Table:
    """The signature that the converter writes for a Keras network."""
    return Table(
        "SignatureDef",
        inputs=_tensor_map(names.inputs),
        outputs=_tensor_map(names.outputs),
        signature_key=b"serving_default",
        subgraph_index=0,
    )


def _tensor_map(values: Mapping[str, Operand]) -> list[Table]:
    return [
        Table("TensorMap", name=name.encode(), tensor_index=value.index)
        for name, value in values.items()
    ]


def _operator(operation: Operation, codes: Sequence[str]) -> Table:
    operator = Table(
        "Operator",
        opcode_index=codes.index(operation.op),
        inputs=operation.inputs,
        outputs=operation.outputs,
    )
    if operation.kind:
        operator["builtin_options"] = Table(operation.kind, **operation.options)
    return operator


def _tensor(tensor: Described, buffer: int) -> Table:
    value = tensor.value
    table = Table(
        "Tensor",
        shape=value.shape,
        type=value.dtype.upper(),
        buffer=buffer,
        name=tensor.name.encode(),
    )
    if value.quantization is not None:
        scales, zero_points = value.quantization.scales, value.quantization.zero_points
        table["quantization"] = quantization_table(
            scales, zero_points, value.quantization.dimension
        )
    if tensor.open:
        sizes = enumerate(value.shape)
        table["shape_signature"] = [-1 if place in tensor.open else size for place, size in sizes]
        table["has_rank"] = True
    if tensor.sparsity is not None:
        table["sparsity"] = sparsity_table(tensor.sparsity)
    return table
