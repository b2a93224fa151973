"""Tables of the schema from plain values: the way back from `reader`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.model import schema
from pytest_sparsity.model.flatbuffer import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.encoding import Array, Sparsity

LAST_OLD_CODE = 127  # BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES


def operator_code(op: str, version: int) -> Table:
    """A builtin operator's code; numbers over 127 are only in the newer field."""
    number = schema.numbers("BuiltinOperator")[op]
    old = min(number, LAST_OLD_CODE)
    return Table("OperatorCode", deprecated_builtin_code=old, builtin_code=number, version=version)


def quantization_table(
    scales: Sequence[float], zero_points: Sequence[int], dimension: int
) -> Table:
    """Quantization parameters: one scale and zero point, or one per channel of a dimension."""
    return Table(
        "QuantizationParameters",
        scale=scales,
        zero_point=zero_points,
        quantized_dimension=dimension,
    )


def sparsity_table(sparsity: Sparsity) -> Table:
    """Sparsity parameters."""
    levels = [_level(sparsity, level) for level in range(len(sparsity.formats))]
    order = sparsity.traversal_order
    table = Table("SparsityParameters", traversal_order=order, dim_metadata=levels)
    if sparsity.block_map:
        table["block_map"] = sparsity.block_map
    return table


def _level(sparsity: Sparsity, level: int) -> Table:
    segments, indices = sparsity.segments[level], sparsity.indices[level]
    if segments is None or indices is None:
        return Table("DimensionMetadata", format=0, dense_size=sparsity.dense_sizes[level])
    return Table(
        "DimensionMetadata",
        format=1,
        array_segments=_index_vector(segments),
        array_indices=_index_vector(indices),
    )


def _index_vector(numbers: Array) -> Table:
    kinds = {1: "Uint8Vector", 2: "Uint16Vector", 4: "Int32Vector"}
    return Table(kinds[numbers.dtype.itemsize], values=numbers)
