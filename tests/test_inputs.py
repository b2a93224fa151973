"""Inputs: given by name, in order, by a function or a file; drawn so that they mean something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_sparsity.errors import NeedsInputs
from pytest_sparsity.inference import outputs
from pytest_sparsity.inputs import FAMILIES, feed, named, output_order, parse_shape
from pytest_sparsity.inputs.meaning import Meaning, meanings
from pytest_sparsity.model import Model
from pytest_sparsity.properties import outputs_vary, same_outputs
from pytest_sparsity.writer import Network, Operand, Quantization


def finished(net: Network, folder: Path, *values: Operand) -> Model:
    net.output(*values)
    return Model(net.write(folder / "net.tflite"))


def doubling(folder: Path, shape: tuple[int, ...] = (1, 4), *open_: int) -> Model:
    """A network of one input."""
    net = Network(shape)
    net.leave_open(net.input, *open_)
    return finished(net, folder, net.add(net.input, net.input))


def subtracting(folder: Path, *, widths: tuple[int, int] = (4, 4)) -> Model:
    """`b` and `a`, in this order in the file; the signature is sorted, as the converter's is."""
    net = Network((1, widths[0]))
    other = net.add_input((1, widths[1]))
    difference = net.sub(net.input, other)
    total = net.add(net.input, other)
    net.output(difference, total)
    net.sign({"a": other, "b": net.input}, {"output_0": total, "output_1": difference})
    return Model(net.write(folder / "net.tflite"))


# ------------------------------------------------------------------------- what the user gives


def test_arrays_are_matched_by_name(tmp_path: Path) -> None:
    model = subtracting(tmp_path)
    a, b = np.full((1, 4), 1, np.float32), np.full((1, 4), 10, np.float32)
    assert named(model) == ("b", "a")
    for names in [("a", "b"), ("input_1", "input_0")]:
        fed = feed(model, {names[0]: a, names[1]: b})
        assert [array[0, 0] for array in fed.arrays(0)] == [10, 1]


def test_what_the_converter_makes_of_a_name_is_the_name(tmp_path: Path) -> None:
    net = Network((1, 4))
    net._tensors[0].name = "serving_default_tokens:0"
    model = finished(net, tmp_path, net.add(net.input, net.input))
    fed = feed(model, {"tokens": np.ones((1, 4), np.float32)})
    assert fed.arrays(0)[0].sum() == 4


def test_inputs_that_could_be_swapped_need_names(tmp_path: Path) -> None:
    pair = [np.zeros((1, 4), np.float32)] * 2
    with pytest.raises(ValueError, match=r"same shape.* give the arrays by name.* a, b"):
        feed(subtracting(tmp_path), pair)


def test_inputs_of_different_shapes_follow_the_signature(tmp_path: Path) -> None:
    model = subtracting(tmp_path, widths=(4, 1))
    a, b = np.full((1, 1), 1, np.float32), np.full((1, 4), 10, np.float32)
    assert [array.size for array in feed(model, [a, b]).arrays(0)] == [4, 1]
    with pytest.raises(ValueError, match=r"'b' of net\.tflite takes the shape"):
        feed(model, [b, a])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("a",), "an input 'b', not given; its inputs are b, a"),
        (("a", "b", "c"), "no input 'c'; its inputs are b, a"),
    ],
)
def test_names_that_do_not_fit_are_said(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        feed(subtracting(tmp_path), dict.fromkeys(names, np.zeros((1, 4), np.float32)))


@pytest.mark.parametrize(
    ("shape", "sets"), [((1, 4), 1), ((3, 4), 3), ((3, 1, 4), 3), ((1, 1, 4), 1)]
)
def test_an_array_may_hold_several_sets(tmp_path: Path, shape: tuple[int, ...], sets: int) -> None:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    fed = feed(doubling(tmp_path), values)
    assert fed.count == sets
    assert np.concatenate([fed.arrays(n)[0] for n in range(sets)]).ravel() == pytest.approx(
        values.ravel()
    )


def test_shapes_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'input_0' of net.tflite takes the shape \(1, 4\)"):
        feed(doubling(tmp_path), np.zeros((1, 5), np.float32))
    with pytest.raises(ValueError, match="takes float32, not complex128"):
        feed(doubling(tmp_path), np.zeros((1, 4), np.complex128))


def test_a_function_is_asked_for_each_set(tmp_path: Path) -> None:
    model = doubling(tmp_path)
    fed = feed(model, lambda number: np.full((1, 4), number, np.float32))
    assert [fed.arrays(number)[0][0, 0] for number in range(3)] == [0, 1, 2]
    growing = feed(doubling(tmp_path, (1, 4), 1), lambda n: np.zeros((1, 4 + n), np.float32))
    with pytest.raises(
        ValueError, match=r"takes the shape \(1, 4\), alone or stacked, not \(1, 5\)"
    ):
        growing.arrays(1)
    several = feed(model, lambda number: np.zeros((1 + number, 4), np.float32))
    with pytest.raises(ValueError, match="must return one set of inputs, not 2"):
        several.arrays(1)


def test_a_file_of_arrays(tmp_path: Path) -> None:
    model = subtracting(tmp_path)
    a, b = np.ones((1, 4), np.float32), np.zeros((1, 4), np.float32)
    np.savez(tmp_path / "named.npz", a=a, b=b)
    assert feed(model, tmp_path / "named.npz").arrays(0)[1].sum() == 4
    single = doubling(tmp_path)
    np.savez(tmp_path / "unnamed.npz", a)
    assert feed(single, str(tmp_path / "unnamed.npz")).arrays(0)[0].sum() == 4


def test_a_file_that_holds_no_arrays_is_said(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_text("no zip")
    with pytest.raises(ValueError, match=r"bad.npz holds no inputs: .*numpy.savez"):
        feed(doubling(tmp_path), tmp_path / "bad.npz")
    with pytest.raises(FileNotFoundError, match=r"lost\.npz"):
        feed(doubling(tmp_path), tmp_path / "lost.npz")


def test_outputs_are_in_the_order_of_keras(tmp_path: Path) -> None:
    model = subtracting(tmp_path)
    assert output_order(model) == (1, 0)
    given = {"a": np.full((2, 4), 1, np.float32), "b": np.full((2, 4), 10, np.float32)}
    total, difference = outputs(model, given)
    assert (total[0, 0], difference[0, 0]) == (11, 9)


def test_people_count_to_ten(tmp_path: Path) -> None:
    net = Network((1, 4))
    values = [net.unary(net.input, "RELU") for _ in range(11)]
    net.output(*values)
    names = sorted((f"output_{n}", value) for n, value in enumerate(values))
    net.sign({"x": net.input}, dict(names))
    assert output_order(Model(net.write(tmp_path / "net.tflite"))) == tuple(range(11))


class Keras:
    """Has names as a Keras network does, in its own order."""

    def __init__(self, *names: str) -> None:
        self.input_names = list(names)

    def __call__(self, arrays: list[Any]) -> list[Any]:
        by_name = dict(zip(self.input_names, arrays, strict=True))
        a, b = by_name["a"], by_name["b"]
        return [a + b, b - a]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_a_keras_network_is_called_in_its_own_order(tmp_path: Path, names: tuple[str, str]) -> None:
    same_outputs(Keras(*names), subtracting(tmp_path))


def test_a_swapped_network_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="differs from"):
        same_outputs(lambda a, b: [a + b, a - b], subtracting(tmp_path))


# -------------------------------------------------------------------------------------- shapes


def test_open_sizes_are_asked_for(tmp_path: Path) -> None:
    model = doubling(tmp_path, (1, 1, 1, 3), 0, 1, 2)
    said = r"net.tflite leaves sizes of its input 'input_0' open, \(\?, \?, \?, 3\): .*1,224,224,3"
    with pytest.raises(ValueError, match=said):
        feed(model)
    assert feed(model, shapes={"input_0": (1, 5, 7, 3)}).shapes == ((1, 5, 7, 3),)
    assert feed(model, shapes=(2, 5, 7, 3)).shapes == ((2, 5, 7, 3),)
    assert str(feed(model, shapes=(2, 5, 7, 3))) == "input_0 2x5x7x3"


def test_arrays_tell_open_sizes(tmp_path: Path) -> None:
    model = doubling(tmp_path, (1, 1, 1, 3), 0, 1, 2)
    fed = feed(model, np.zeros((2, 5, 7, 3), np.float32))
    assert (fed.shapes, fed.count) == (((1, 5, 7, 3),), 2)


def test_an_open_batch_is_one(tmp_path: Path) -> None:
    assert feed(doubling(tmp_path, (1, 4), 0)).shapes == ((1, 4),)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"x": (1, 4)}, "no input 'x'; its inputs are input_0"),
        ({"input_0": (1, 5)}, r"has the shape \(\?, 4\), not \(1, 5\)"),
        ({"input_0": (0, 4)}, r"has the shape \(\?, 4\), not \(0, 4\)"),
        ((4,), r"has the shape \(\?, 4\), not \(4,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_said(tmp_path: Path, shapes: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        feed(doubling(tmp_path, (1, 4), 0), shapes=shapes)


def test_shapes_on_the_command_line() -> None:
    assert parse_shape("a=b=1,224,224,3") == ("a=b", (1, 224, 224, 3))
    for text in ("1,2", "x=1,,2", "x=1,0", "x=", "x=1,-2"):
        with pytest.raises(ValueError, match="a shape is NAME=1,224,224,3"):
            parse_shape(text)


# ------------------------------------------------------------------------------- what is drawn


def lookup(net: Network, ids: Operand, rows: int) -> Operand:
    table = net.constant(np.ones((rows, 2), np.float32))
    shape = (*ids.shape, 2)
    return net.operator("GATHER", [table, ids], shape, "GatherOptions", {"axis": 0}, version=1)


def as_ids(net: Network, x: Operand) -> Operand:
    return net.operator("CAST", [x], x.shape, "CastOptions", {}, dtype="int32", version=1)


def through_moves(net: Network) -> Operand:
    moved = net.operator("RESHAPE", [as_ids(net, net.input)], (8,), version=1)
    return lookup(net, net.sub(moved, np.array(3, np.int32)), 20)


DEMANDS: dict[str, tuple[Any, Meaning]] = {
    "table": (lambda net: lookup(net, net.input, 7), Meaning(0, 7, whole=True)),
    "two tables": (
        lambda net: net.add(lookup(net, net.input, 7), lookup(net, net.input, 5)),
        Meaning(0, 5, whole=True),
    ),
    "embedding": (
        lambda net: net.operator(
            "EMBEDDING_LOOKUP",
            [net.input, net.constant(np.ones((9, 2), np.float32))],
            (8, 2),
            dtype="float32",
            version=1,
        ),
        Meaning(0, 9, whole=True),
    ),
    "one hot": (
        lambda net: net.operator(
            "ONE_HOT",
            [
                net.input,
                net.constant(np.array(6, np.int32)),
                *(net.constant(np.array(n, np.float32)) for n in (1, 0)),
            ],
            (1, 8, 6),
            "OneHotOptions",
            {"axis": -1},
            dtype="float32",
            version=1,
        ),
        Meaning(0, 6, whole=True),
    ),
    "moved and shifted": (through_moves, Meaning(3, 23, whole=True)),
    "a number": (lambda net: net.add(net.input, net.input), Meaning()),
}


@pytest.mark.parametrize("name", DEMANDS)
def test_ids_are_followed_to_their_table(tmp_path: Path, name: str) -> None:
    build, expected = DEMANDS[name]
    shape = (8,) if name == "embedding" else (1, 8)
    dtype: Any = "float32" if "moved" in name or "number" in name else "int32"
    net = Network(shape, dtype)
    model = finished(net, tmp_path, build(net))
    assert meanings(model) == (expected,)
    drawn = [feed(model).arrays(number)[0] for number in range(24)]
    assert all(array.dtype == dtype and array.shape == shape for array in drawn)
    if expected.known:
        assert all(expected.low <= array.min() <= array.max() < expected.high for array in drawn)
        assert all((array == np.rint(array)).all() for array in drawn)
        assert np.unique(drawn).size > 3


def test_a_model_of_ids_runs_on_what_is_drawn(tmp_path: Path) -> None:
    dtype: Any = "int32"
    net = Network((1, 8), dtype)
    table = net.constant(np.random.default_rng(0).random((7, 2), np.float32))
    ids = net.input
    found = net.operator("GATHER", [table, ids], (1, 8, 2), "GatherOptions", {}, version=1)
    outputs_vary(finished(net, tmp_path, found))


def test_the_declared_range_is_drawn(tmp_path: Path) -> None:
    net = Network((1, 500))
    model = finished(net, tmp_path, net.dequantize(net.quantize(net.input, 0.5, 28)))
    assert meanings(model) == (Meaning(-78.0, 49.5),)
    drawn = feed(model).arrays(0)[0]
    assert -78 <= drawn.min() < -70
    assert 42 < drawn.max() <= 49.5


def test_quantized_inputs_have_the_range_of_their_type(tmp_path: Path) -> None:
    net = Network((1, 4000), "int8")
    model = finished(net, tmp_path, net.dequantize(net.input))
    drawn = feed(model).arrays(0)[0]
    assert (drawn.min(), drawn.max()) == (-128, 127)


def test_real_numbers_are_quantized_as_the_file_says(tmp_path: Path) -> None:
    net = Network((1, 2), "int8")
    net._tensors[0].value = net._inputs[0] = net.input = Operand(
        0, (1, 2), "int8", Quantization((0.5,), (3,))
    )
    model = finished(net, tmp_path, net.dequantize(net.input))
    assert feed(model, np.array([[1.0, 1e9]])).arrays(0)[0].tolist() == [[5, 127]]


def test_several_families_are_drawn(tmp_path: Path) -> None:
    fed = feed(doubling(tmp_path, (1, 400)))
    usual = [fed.arrays(number)[0] for number in range(3)]
    others = [fed.arrays(number)[0] for number in range(3, 3 + len(FAMILIES))]
    assert all(array.min() >= 0 and array.max() < 1 for array in usual)
    assert any(array.min() < 0 for array in others)
    assert any(array.max() > 200 for array in others)
    assert any(np.ptp(array) == 0 for array in others)
    assert any(2 < np.unique(array).size < 20 for array in others)


def test_what_is_drawn_is_that_of_the_number(tmp_path: Path) -> None:
    model = doubling(tmp_path)
    for number in range(24):
        one, same, other = (feed(model).arrays(n)[0] for n in (number, number, number + 24))
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)


def test_text_cannot_be_drawn(tmp_path: Path) -> None:
    net = Network((1, 4))
    text = net.add_input((1,), "string")  # type: ignore[arg-type]
    assert text.dtype == "string"
    model = finished(net, tmp_path, net.add(net.input, net.input))
    with pytest.raises(NeedsInputs, match="'input_1' of string, which can be neither drawn"):
        feed(model).arrays(0)
