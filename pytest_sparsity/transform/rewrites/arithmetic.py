"""Rewrites of arithmetic, element by element: the same numbers by operators that XNNPACK takes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pytest_sparsity.model.flatbuffer import Table
from pytest_sparsity.transform.rewrites.change import ProposedRewrite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_sparsity.encoding import Array
    from pytest_sparsity.model import Operator
    from pytest_sparsity.transform.work import Work


def prelu(work: Work) -> Iterator[ProposedRewrite]:
    """PRELU as relu(x) + (-slope) * relu(-x): one of the two is zero, so nothing is rounded."""
    for operator in work.operators:
        if operator.op == "PRELU" and work.is_float(operator.outputs[0]):
            slope = work.values(operator.inputs[1])
            shape = work.shape(operator.inputs[0])
            if slope is not None and len(shape) == 4 and slope.size == shape[3]:
                says = "relu(x) - slope * relu(-x) computes it"
                apply = partial(_prelu, operator, slope.reshape(1, 1, 1, -1))
                yield ProposedRewrite("prelu", operator.index, says, apply)


def _prelu(operator: Operator, slope: Array, work: Work) -> None:
    x, output = operator.inputs[0], operator.outputs[0]
    name = work.tensor(output).name
    positive, negated, negative, scaled = (
        work.like(x, f"{name}/{part}") for part in ("positive", "negated", "negative", "scaled")
    )
    place = operator.index
    work.insert(place, "RELU", [x], positive)
    work.insert(place, "NEG", [x], negated, Table("NegOptions"))
    work.insert(place, "RELU", [negated], negative)
    # The constant must come first: XNNPACK looks at the first operand's shape only (subgraph.c,
    # check_layout_for_binary, 75db3c093b), and for one of several channels keeps the chain dense.
    factor = work.constant(f"{name}/slope", -slope)
    work.insert(place, "MUL", [factor, negative], scaled, Table("MulOptions"))
    work.become(place, "ADD", Table("AddOptions"))
    work.table(place)["inputs"] = [positive, scaled]


def difference(work: Work) -> Iterator[ProposedRewrite]:
    """A - b as a + (-b), which is the same number (IEEE 754, 6.3)."""
    for operator in work.operators:
        if operator.op == "SUB" and work.is_float(operator.outputs[0]):
            a, b = operator.inputs
            computed = work.values(a) is None and len(work.shape(a)) == 4
            if computed and (len(work.shape(b)) == 4 or _fits(work.values(b), work.shape(a))):
                says = "it adds the negative"
                yield ProposedRewrite(
                    "difference", operator.index, says, partial(_difference, operator)
                )


def _difference(operator: Operator, work: Work) -> None:
    a, b = operator.inputs
    table, name = work.table(operator.index), work.tensor(operator.outputs[0]).name
    activation = table["builtin_options"]["fused_activation_function"]
    values = work.values(b)
    if values is not None:
        flat = values if values.ndim == 4 else values.reshape(1, 1, 1, -1)
        negative = work.constant(f"{name}/negative", -flat)
        inputs = [negative, a]
    else:
        negative = work.like(b, f"{name}/negative")
        work.insert(operator.index, "NEG", [b], negative, Table("NegOptions"))
        inputs = [a, negative]
    options = Table("AddOptions", fused_activation_function=activation)
    work.become(operator.index, "ADD", options)
    table["inputs"] = inputs


def constant_operand(work: Work) -> Iterator[ProposedRewrite]:
    """A constant that is added or multiplied, as the first operand and of four dimensions."""
    for operator in work.operators:
        if operator.op not in {"ADD", "MUL"} or not work.is_float(operator.outputs[0]):
            continue
        constants = [work.values(index) for index in operator.inputs]
        if sum(values is not None for values in constants) != 1:
            continue
        place = 0 if constants[0] is not None else 1
        values = constants[place]
        assert values is not None
        x = operator.inputs[1 - place]
        usual = place == 0 and values.ndim == 4
        if len(work.shape(x)) == 4 and _fits(values, work.shape(x)) and not usual:
            says = "the constant is its first operand, of four dimensions"
            apply = partial(_first, operator, x, values.reshape(1, 1, 1, -1))
            yield ProposedRewrite("constant-operand", operator.index, says, apply)


def _fits(values: Array | None, shape: tuple[int, ...]) -> bool:
    """One number, or one for each channel."""
    if values is None:
        return False
    return values.size in {1, shape[-1]} and values.shape[-1:] in {(), (values.size,)}


def _first(operator: Operator, x: int, values: Array, work: Work) -> None:
    name = work.tensor(operator.outputs[0]).name
    work.table(operator.index)["inputs"] = [work.constant(f"{name}/constant", values), x]
