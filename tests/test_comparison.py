"""The comparison of outputs: value by value, against what each varies by and the model's noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_sparsity.comparison import (
    FACTOR,
    FLOAT,
    QUANTIZED,
    TOLERANCE,
    compare,
    louder,
    noise_between,
    scale_of,
    share_of_largest,
)
from pytest_sparsity.diagnosis import outputs as diagnosis_outputs
from pytest_sparsity.diagnosis.noise import nudged, own_noise
from pytest_sparsity.diagnosis.outputs import COPY, comparisons
from pytest_sparsity.errors import Unsupported
from pytest_sparsity.inference import invoked
from pytest_sparsity.inputs import feed
from pytest_sparsity.model import Model
from pytest_sparsity.strategies import Chain
from pytest_sparsity.targets import Target, Worker
from pytest_sparsity.writer import Network

BASE = np.array([[1.0, 10.0, 600.0], [2.0, 11.0, 640.0], [3.0, 13.0, 660.0]], np.float32)


def sets(rows: Any, dtype: Any = np.float32) -> list[list[Any]]:
    """One output for several sets of inputs."""
    return [[np.asarray(row, dtype)] for row in rows]


def moved(place: tuple[int, int], by: float) -> list[list[Any]]:
    rows = BASE.copy()
    rows[place] += by
    return sets(rows)


# -------------------------------------------------------------------------- value by value


def test_each_value_is_measured_in_what_it_varies_by() -> None:
    assert scale_of([row for [row] in sets(BASE)]) == pytest.approx([2, 3, 60])


@pytest.mark.parametrize(("place", "scale"), [((0, 0), 2), ((1, 1), 3), ((2, 2), 60)])
@pytest.mark.parametrize("share", [1e-3, 1e-2, 0.1, 1])
def test_a_wrong_value_is_found_whatever_is_beside_it(
    place: tuple[int, int], scale: float, share: float
) -> None:
    found = compare("others", moved(place, share * scale), sets(BASE))
    assert not found.right
    assert found.deviation == pytest.approx(share, rel=0.05)
    assert (found.number, found.place) == (place[0], (0, place[1]))


def test_a_score_beside_boxes_in_pixels() -> None:
    """Off by 0.04 of 1, which is 6e-5 of the largest output."""
    theirs = np.array([[600, 610, 0.9, 0.1], [630, 620, 0.2, 0.7]])
    ours = theirs + np.array([0, 0, -0.04, 0.04])
    assert not compare("others", sets(ours), sets(theirs)).right
    assert np.abs(ours - theirs).max() / 630 < TOLERANCE


def test_rounding_is_right() -> None:
    ours = np.nextafter(BASE, np.float32(np.inf))
    found = compare("others", sets(ours), sets(BASE))
    assert found.right
    assert not found.identical


def test_a_value_that_hardly_varies_has_the_rounding_of_its_terms() -> None:
    theirs = np.array([[1000.0], [1000.01]], np.float32)
    ours = np.nextafter(theirs, np.float32(np.inf))
    assert np.abs(ours - theirs).max() / 0.01 > TOLERANCE
    assert compare("others", sets(ours), sets(theirs)).right
    assert not compare("others", sets(ours + 0.1), sets(theirs)).right


def test_one_set_of_inputs_is_measured_in_its_largest_value() -> None:
    assert compare("others", sets([[1.0, 2e-4]]), sets([[1.0, 1.5e-4]])).right
    assert not compare("others", sets([[1.0, 2e-3]]), sets([[1.0, 1e-3]])).right


def test_a_place_at_the_top_that_changes_is_told() -> None:
    found = compare("others", sets([[0.4, 0.6], [0, 1]]), sets([[0.6, 0.4], [0, 1]]))
    assert found.top == (1, 0)
    assert "the largest value is number 1 instead of 0" in str(found)
    assert compare("others", moved((0, 0), 1), sets(BASE)).top is None


# ---------------------------------------------------------------------------------- the noise


def test_the_models_own_noise_is_no_error() -> None:
    noise = [np.array([0.0, 0.01, 0.0])]
    ours = moved((1, 1), 0.9 * FACTOR * 0.01)
    assert not compare("others", ours, sets(BASE)).right
    assert compare("others", ours, sets(BASE), noise=noise).right
    assert not compare("others", moved((1, 1), 1.1 * FACTOR * 0.01), sets(BASE), noise=noise).right


def test_one_values_noise_excuses_no_other() -> None:
    noise = [np.array([0.0, 10.0, 0.0])]
    assert not compare("others", moved((1, 0), 0.1), sets(BASE), noise=noise).right


def test_a_value_has_at_least_the_noise_that_is_usual() -> None:
    noise = [0.01 * np.array([2.0, 0, 60.0])]
    assert compare("others", moved((1, 1), 0.9 * FACTOR * 0.03), sets(BASE), noise=noise).right
    assert not compare("others", moved((1, 1), 1.1 * FACTOR * 0.03), sets(BASE), noise=noise).right


def test_noise_is_the_largest_difference_of_each_value() -> None:
    [found] = noise_between(moved((1, 1), 0.5), sets(BASE))
    assert found == pytest.approx([0, 0.5, 0])
    [together] = louder([[found], [np.array([0.1, 0.1, 0.1])]])
    assert together == pytest.approx([0.1, 0.5, 0.1])


@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=20))
def test_a_nudge_is_one_step_and_leaves_zeros(values: list[float]) -> None:
    array = np.array(values, np.float32)
    found = nudged(array, np.random.Generator(np.random.PCG64(0)))
    assert ((found == 0) >= (array == 0)).all()
    with np.errstate(over="ignore"):
        neighbours = [np.nextafter(array, np.float32(end)) for end in (-np.inf, np.inf)]
    assert all(x == 0 or y in pair for x, y, *pair in zip(array, found, *neighbours, strict=True))


# ---------------------------------------------------------------------- what cannot be measured


def test_what_is_not_finite_on_one_side_is_wrong() -> None:
    for value in (np.nan, np.inf):
        rows = BASE.copy()
        rows[1, 1] = value
        assert compare("others", sets(rows), sets(BASE)).deviation == np.inf
        assert compare("others", sets(BASE), sets(rows)).deviation == np.inf


def test_inputs_that_a_model_cannot_take_do_not_count() -> None:
    """A logarithm of negative numbers is NaN with all kernels."""
    rows = BASE.copy()
    rows[1] = np.nan
    found = compare("others", sets(rows), sets(rows))
    assert found.right


def test_a_model_that_answers_nan_to_everything_is_wrong() -> None:
    rows = np.full_like(BASE, np.nan)
    found = compare("others", sets(rows), sets(rows))
    assert not found.right
    assert str(found) == "its outputs are not finite (inputs 0)"


def test_the_inputs_that_are_named_are_those_of_the_first_that_is_not_finite() -> None:
    """Not those of the largest deviation among the others."""
    theirs = [[np.array([1.0]), np.array([float(n)])] for n in range(3)]
    ours = [[np.array([n + 5.0]), np.array([np.nan])] for n in range(3)]
    found = compare("others", ours, theirs)
    assert (found.finite, found.number) == (False, 0)


def test_other_sizes_are_wrong_and_other_orders_of_dimensions_are_not() -> None:
    ours, theirs = [[np.ones((1, 3, 1, 1))]], [[np.ones((1, 1, 1, 3))]]
    assert compare("others", ours, theirs).right
    assert not compare("others", ours, [[np.ones((1, 2))]]).right


# ------------------------------------------------------------------------------- other types


def test_the_imaginary_part_counts() -> None:
    theirs = BASE + 1j * BASE
    assert compare("others", sets(theirs, np.complex64), sets(theirs, np.complex64)).right
    wrong = theirs.copy()
    wrong[1, 1] += 0.1j
    assert not compare("others", sets(wrong, np.complex64), sets(theirs, np.complex64)).right


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.bool_])
def test_whole_numbers_are_equal_or_wrong(dtype: Any) -> None:
    theirs = sets([[1, 0, 1], [0, 0, 1]], dtype)
    ours = sets([[1, 0, 1], [1, 0, 1]], dtype)
    assert compare("others", theirs, theirs).right
    found = compare("others", ours, theirs)
    assert not found.right
    assert found.place == (0, 0)
    assert compare("others", ours, theirs, noise=[np.array([1.0, 0, 0])]).right


def test_text_is_equal_or_wrong() -> None:
    theirs, ours = sets([["a", "b"]], "S1"), sets([["a", "c"]], "S1")
    assert compare("others", theirs, theirs).right
    assert not compare("others", ours, theirs).right


def test_quantized_outputs_may_be_two_steps_off() -> None:
    theirs = sets([[0, 100, -100], [10, 90, -90]], np.int8)
    for steps, right in [(1, True), (2, True), (5, False)]:
        ours = sets([[steps, 100, -100], [10, 90, -90]], np.int8)
        assert compare("others", ours, theirs, rules=QUANTIZED).right == right


def test_a_difference_as_a_share_of_the_largest() -> None:
    assert share_of_largest(np.array([1.0, 2.1]), np.array([1.0, 2.0])) == pytest.approx(0.05)
    assert share_of_largest(np.array([0.0]), np.array([0.0])) == 0
    assert share_of_largest(np.array([1e-9]), np.array([0.0])) == np.inf
    assert share_of_largest(np.array([np.nan]), np.array([1.0])) == np.inf
    assert share_of_largest(np.array([1.0]), np.array([1.0, 2.0])) == np.inf


@given(st.integers(0, 2), st.integers(0, 2), st.floats(-3, 0), st.floats(0.1, 1e4))
def test_units_do_not_matter(number: int, value: int, exponent: float, unit: float) -> None:
    share = 10**exponent
    scale = [2, 3, 60][value]
    ours = [[row * np.float32(unit)] for [row] in moved((number, value), share * scale)]
    theirs = [[row * np.float32(unit)] for [row] in sets(BASE)]
    assert not compare("others", ours, theirs).right


# ----------------------------------------------------------------------------- on real targets


def ill_conditioned(folder: Path) -> Model:
    """Two large sums whose difference is small: half of the digits are lost."""
    rng = np.random.default_rng(0)
    net = Network((1, 64))
    weights = rng.standard_normal((16, 64)).astype(np.float32)
    a = net.fully_connected(net.input, weights * 3e4)
    b = net.fully_connected(net.input, weights * 3e4 + rng.random((16, 64)).astype(np.float32))
    net.output(net.sub(a, b))
    return Model(net.write(folder / "ill.tflite"))


def test_an_ill_conditioned_model_is_not_accused(tmp_path: Path) -> None:
    fed = feed(ill_conditioned(tmp_path))
    with Target.of("litert").open() as worker:
        found = comparisons(worker, fed, tmp_path).comparisons
    assert found[0].deviation > TOLERANCE or found[0].right
    assert all(comparison.right for comparison in found)


def test_noise_tells_what_a_model_is_worth(tmp_path: Path) -> None:
    """Of 3e4 times eight sums of order one a float32 knows no more than about 1e-2."""
    fed = feed(ill_conditioned(tmp_path))
    with Target.of("litert").open() as worker:
        worker.load("model", fed.model)
        outputs = invoked(worker, "model", fed, range(3))
        [noise] = own_noise(worker, fed, outputs, tmp_path)
    ranges = scale_of([output for [output] in outputs], FLOAT)
    assert 1e-4 < np.median(noise / ranges) < 1


def begun_with_a_bias(folder: Path) -> Model:
    """XNNPACK adds 16,384 small products to a bias of 8, which rounds each; TFLite adds it last."""
    rng, terms = np.random.default_rng(0), 16_384
    net = Network((1, terms))
    weights = rng.standard_normal((128, terms)).astype(np.float32) / terms
    net.output(net.fully_connected(net.input, weights, 8 + rng.random(128, np.float32)))
    return Model(net.write(folder / "bias.tflite"))


def of_halves(folder: Path) -> Model:
    """Ill-conditioned in weights that are stored as float16: only they are to be moved."""
    rng = np.random.default_rng(0)
    net = Network((1, 64))
    weights = (rng.standard_normal((16, 64)) * 1e4).astype(np.float32)
    moved = weights + 16 * rng.random((16, 64), np.float32)
    a, b = (net.fully_connected(net.input, each, dtype="float16") for each in (weights, moved))
    net.output(net.sub(a, b))
    return Model(net.write(folder / "halves.tflite"))


@pytest.mark.parametrize("build", [begun_with_a_bias, of_halves])
def test_rounding_that_kernels_do_differently_is_not_accused(
    tmp_path: Path, build: Callable[[Path], Model]
) -> None:
    """Six published networks with float16 weights and large biases were."""
    fed = feed(build(tmp_path))
    with Target.of("litert").open() as worker:
        [found] = comparisons(worker, fed, tmp_path).comparisons
    assert found.right
    assert found.deviation > 1.5 * TOLERANCE, "it has to be excused by the noise"


def test_a_mean_over_many_numbers_that_hardly_differ_has_noise_too(tmp_path: Path) -> None:
    """To move the numbers moves it by nothing; how its sum is rounded is what it may be off by."""
    net = Network((1, 48, 48, 2))
    net.output(net.mean(net.input))
    inputs = np.full((1, 48, 48, 2), 0.5340312, np.float32)
    inputs[:, :4] += np.random.default_rng(0).random((1, 4, 48, 2), np.float32)
    fed = feed(Model(net.write(tmp_path / "mean.tflite")), inputs)
    with Target.of("litert").open() as worker:
        worker.load("model", fed.model, kernels="reference")
        outputs = invoked(worker, "model", fed, (0,), kernels="reference")
        [noise] = own_noise(worker, fed, outputs, tmp_path, kernels="reference")
    error = np.abs(outputs[0][0] - inputs.mean(axis=(1, 2), dtype=float)).ravel()
    assert (error > 8 * np.spacing(outputs[0][0]).ravel()).all(), "it has to be off by rounding"
    assert (FACTOR * noise > error).all()
    assert (noise < 1e-3 * outputs[0][0].ravel()).all()


@pytest.mark.parametrize("target", ["litert-js", "litert"])
def test_a_right_mean_is_not_accused_by_one_that_is_rounded_more(
    tmp_path: Path, target: str
) -> None:
    """LiteRT.js adds up 2,304 numbers one by one where layers run dense, and in four parts where
    they run sparse: the dense mean is 282 units in the last place off, the sparse one 9."""
    if Target.of(target).missing() is not None:
        pytest.skip(f"{target} is missing")
    steps = ("resize", "resize")
    chain = Chain(steps=steps, end="average", zeros=0.7, channels=4, size=24, seed=26)
    fed = feed(Model(chain.build().write(tmp_path / "mean.tflite")))
    assert fed.model.graph.tensors[fed.model.graph.operators[-1].inputs[0]].shape == (1, 48, 48, 4)
    with Target.of(target).open() as worker:
        found = comparisons(worker, fed, tmp_path).comparisons
    assert all(comparison.right for comparison in found)
    if target == "litert-js":
        assert found[0].deviation > 1.5 * TOLERANCE, "it has to be excused by the noise"


def test_constants_of_float16_have_noise_too(tmp_path: Path) -> None:
    """With inputs of zero nothing but the bias could move."""
    net = Network((1, 4))
    bias = np.array([1, 2, 3, 4], np.float32)
    net.output(net.fully_connected(net.input, np.eye(4, dtype=np.float32), bias, dtype="float16"))
    model = Model(net.write(tmp_path / "halves.tflite"))
    assert any(tensor.dtype == "float16" for tensor in model.graph.tensors)
    fed = feed(model, np.zeros((1, 4), np.float32))
    with Target.of("litert").open() as worker:
        worker.load("model", fed.model)
        [noise] = own_noise(worker, fed, invoked(worker, "model", fed, (0,)), tmp_path)
    assert (noise > 0).all()


def test_nobody_is_accused_by_noise_that_was_small_by_luck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first draws show none, the further ones do."""
    asked = []

    def noise(*_: Any, draws: Iterable[int], **options: Any) -> list[Any]:
        asked.append(list(draws))
        return [np.full(16, 0.0 if len(asked) == 1 else 1e-2)]

    monkeypatch.setattr(diagnosis_outputs, "own_noise", noise)
    fed = feed(ill_conditioned(tmp_path))
    with Target.of("litert").open() as worker:
        judge = diagnosis_outputs._Comparing(worker, fed, tmp_path)
        theirs = judge._run(fed, range(3))
        spread = np.ptp([each[0] for each in theirs], axis=0)
        for share, right, looks in [(1e-3, True, 2), (1e-1, False, 1)]:
            asked.clear()
            ours = [[each[0] + (share * spread).astype(np.float32)] for each in theirs]
            found = judge._judged(COPY, ours, theirs, "default")
            assert (found.right, len(asked)) == (right, looks)
    assert asked[0] == [0, 1, 2]


def test_a_slow_model_is_compared_with_faster_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference kernels take up to a hundred times as long."""
    fed = feed(ill_conditioned(tmp_path))
    for slow, kernels in [(float("inf"), "reference"), (-1.0, "builtin")]:
        monkeypatch.setattr(diagnosis_outputs, "SLOW", slow)
        with Target.of("litert").open() as worker:
            [found] = comparisons(worker, fed, tmp_path).comparisons
        assert found.against == f"those of the {kernels} kernels"


def test_a_planted_error_is_found_beside_large_values(tmp_path: Path) -> None:
    """A hundredth of what one score varies by, among 64 values of some hundreds."""
    net, rng = Network((1, 32)), np.random.default_rng(1)
    weights = rng.standard_normal((64, 32)).astype(np.float32)
    x = net.fully_connected(net.input, weights, encoding="sparse")
    boxes = net.mul(x, np.full((64,), 600, np.float32))
    scores = net.unary(net.fully_connected(x, rng.random((8, 64), np.float32) / 64), "LOGISTIC")
    net.output(net.concat([boxes, scores]))
    fed = feed(Model(net.write(tmp_path / "boxes.tflite")))
    with Target.of("litert").open() as worker:
        judge = diagnosis_outputs._Comparing(worker, fed, tmp_path)
        ours, theirs = judge._run(fed, range(3)), judge._run(judge._copy, range(3))
        assert judge._judged(COPY, ours, theirs, "default").right
        wrong = [[output.copy()] for [output] in ours]
        wrong[1][0][0, 66] += 0.01 * float(np.ptp([output[0, 66] for [output] in theirs]))
        found = judge._judged(COPY, wrong, theirs, "default")
    assert (found.right, found.place, found.number) == (False, (0, 66), 1)


def test_a_target_without_kernels_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Worker.load

    def load(worker: Worker, *args: Any, kernels: str = "default", **options: Any) -> Any:
        if kernels != "default":
            raise Unsupported("no such kernels")
        return real(worker, *args, kernels=kernels, **options)

    monkeypatch.setattr(Worker, "load", load)
    with Target.of("litert").open() as worker:
        compared = comparisons(worker, feed(ill_conditioned(tmp_path)), tmp_path)
    assert compared.why_not == "no such kernels"
    assert [comparison.against for comparison in compared.comparisons] == ["themselves"]
