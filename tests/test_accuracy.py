"""Answers and accuracies on a real target, and the intervals against published figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_sparsity.accuracy import Accuracy, accuracy, newcombe, wilson
from pytest_sparsity.errors import Inconclusive, WrongOutputs
from pytest_sparsity.estimate import Estimate
from pytest_sparsity.inference import outputs
from pytest_sparsity.model import Model
from pytest_sparsity.writer import Network, Quantization

Floats = NDArray[np.float32]


def classifier(path: Path, classes: int = 4, batch: int = 1) -> Path:
    """A network that answers its input: the label is the place of the largest number."""
    net = Network((batch, classes))
    net.output(net.fully_connected(net.input, np.eye(classes, dtype=np.float32)))
    return net.write(path)


def one_hot(labels: Sequence[int], classes: int = 4) -> Floats:
    return np.eye(classes, dtype=np.float32)[list(labels)]


def measured(right: Sequence[bool], data: str = "", confidence: float = 0.95) -> Accuracy:
    low, high = wilson(sum(right), len(right), confidence)
    value = sum(right) / len(right)
    return Accuracy(
        value, low, high, confidence, samples=len(right), name="accuracy",
        right=tuple(right), data=data,
    )  # fmt: skip


# ------------------------------------------------------------------------------- on a target


def test_accuracy_counts_the_labels_told(tmp_path: Path) -> None:
    model = classifier(tmp_path / "model.tflite")
    found = accuracy(model, one_hot([0, 1, 2, 3, 0]), [0, 1, 2, 0, 0])
    assert found.right == (True, True, True, False, True)
    assert found.value == 0.8
    assert (found.low, found.high) == pytest.approx(wilson(4, 5, 0.95))
    assert str(found) == "0.8, 95 % interval [0.3755, 0.9638]"


def test_a_worse_model_is_told_from_a_better_one_on_the_same_samples(tmp_path: Path) -> None:
    labels = [0, 1, 2, 3] * 50
    good = classifier(tmp_path / "good.tflite")
    net = Network((1, 4))
    broken = np.eye(4, dtype=np.float32)
    broken[3, 3] = -1
    net.output(net.fully_connected(net.input, broken))
    bad = net.write(tmp_path / "bad.tflite")
    loss = accuracy(good, one_hot(labels), labels) - accuracy(bad, one_hot(labels), labels)
    assert (loss.value, loss.gained, loss.lost) == (0.25, 50, 0)
    assert loss >= 0.15
    assert not loss <= 0.01


@pytest.mark.parametrize("count", [6, 7, 8])
def test_samples_are_taken_in_the_batches_that_the_model_asks_for(
    tmp_path: Path, count: int
) -> None:
    model = classifier(tmp_path / "model.tflite", batch=4)
    samples = np.random.default_rng(0).random((count, 4), np.float32)
    [found] = outputs(model, samples)
    assert found == pytest.approx(samples)


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    net = Network((1, 2))
    second = net.add_input((1, 2))
    net.output(net.add(net.input, second), net.sub(net.input, second))
    a, b = np.random.default_rng(0).random((2, 3, 2), np.float32)
    added, subtracted = outputs(net.write(tmp_path / "model.tflite"), [a, b])
    assert added == pytest.approx(a + b)
    assert subtracted == pytest.approx(a - b)


def test_quantized_inputs_and_outputs_are_real_numbers(tmp_path: Path) -> None:
    net = Network((1, 4), "int8")
    value = replace(net.input, quantization=Quantization((1 / 64,), (-3,)))
    net._tensors[0].value = net._inputs[0] = net.input = value
    eye = np.eye(4, dtype=np.float32)
    net.output(net.fully_connected(value, eye, scale=1 / 32, zero_point=5))
    model = net.write(tmp_path / "model.tflite")
    samples = np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype(np.float32)
    [found] = outputs(model, samples)
    assert found.dtype == np.float32
    assert found == pytest.approx(samples, abs=1 / 32)
    [same] = outputs(model, (np.rint(samples * 64) - 3).astype(np.int8))
    assert np.array_equal(same, found)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    model = classifier(tmp_path / "model.tflite")
    with pytest.raises(
        ValueError, match=r"takes the shape \(1, 4\), alone or stacked, not \(2, 3\)"
    ):
        outputs(model, np.zeros((2, 3), np.float32))
    with pytest.raises(
        ValueError, match=r"takes the shape \(1, 4\), alone or stacked, not \(2, 2, 4\)"
    ):
        outputs(model, [np.zeros((2, 4), np.float32)] * 2)
    with pytest.raises(ValueError, match="at least one"):
        outputs(model, np.zeros((0, 4), np.float32))
    with pytest.raises(ValueError, match="takes float32, not complex128"):
        outputs(model, np.zeros((1, 4), np.complex128))
    with pytest.raises(ValueError, match="5 samples need as many labels"):
        accuracy(model, np.zeros((5, 4), np.float32), [0, 1])


def test_one_number_per_sample_needs_to_be_explained(tmp_path: Path) -> None:
    net = Network((1, 2))
    net.output(net.fully_connected(net.input, np.ones((1, 2), np.float32)))
    model, samples = net.write(tmp_path / "model.tflite"), np.eye(2, dtype=np.float32)
    with pytest.raises(ValueError, match="classify="):
        accuracy(model, samples, [1, 1])
    found = accuracy(model, samples, [1, 0], classify=lambda output: output[:, 0] > 0.5)
    assert found.right == (True, False)


def test_nan_is_no_answer(tmp_path: Path) -> None:
    model = classifier(tmp_path / "model.tflite")
    samples = one_hot([0, 1, 2])
    samples[2] = np.nan
    with pytest.raises(WrongOutputs, match=r"model\.tflite gives NaN for sample 2 on litert; run"):
        accuracy(model, samples, [0, 1, 2])


@pytest.mark.slow
def test_samples_do_not_see_the_state_that_others_leave(recurrent: Path) -> None:
    assert any(tensor.variable for tensor in Model(recurrent).graph.tensors)
    samples = np.random.default_rng(0).random((3, 5, 2), np.float32)
    [forwards], [backwards] = outputs(recurrent, samples), outputs(recurrent, samples[::-1])
    assert np.ptp(forwards) > 0
    assert np.array_equal(forwards, backwards[::-1])


# ------------------------------------------------------------------------------- comparisons


def test_a_comparison_has_three_outcomes() -> None:
    found = measured([True] * 90 + [False] * 10)
    assert (found.low, found.high) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    assert found >= 0.8
    assert not found < 0.8
    assert not found >= 0.95
    assert found < 0.95
    with pytest.raises(Inconclusive) as raised:
        _ = found >= 0.85
    assert str(raised.value) == (
        "accuracy >= 0.85 is inconclusive: measured 0.9, 95 % interval [0.8256, 0.9448] with 100"
        " samples; about 4.5e+02 samples like these would probably decide, or claim a threshold"
        " further away"
    )


def test_an_inconclusive_comparison_carries_its_claim() -> None:
    found = measured([True, False])
    with pytest.raises(Inconclusive) as raised:
        _ = found > 0.5
    claim = raised.value.claim
    assert (str(claim), claim.verdict, claim.estimate) == (
        "accuracy > 0.5",
        "inconclusive",
        claim.estimate,
    )
    assert "like these" not in str(raised.value)  # the value is the threshold: no number will do


def test_accuracies_are_subtracted_not_compared() -> None:
    found = measured([True, False])
    with pytest.raises(TypeError, match="not compared but subtracted"):
        _ = found >= measured([True, True])
    with pytest.raises(TypeError, match="unsupported operand"):
        _ = found - 0.1
    with pytest.raises(ValueError, match="NaN"):
        found.__ge__(math.nan)
    with pytest.raises(TypeError):
        _ = found >= "0.5"


class Wary:
    """Something that knows how to be compared with an estimate, as a recorded value does."""

    def __le__(self, other: object) -> bool:
        return isinstance(other, Estimate)


def test_a_comparison_with_the_unknown_is_left_to_the_other_side() -> None:
    found = measured([True, False])
    assert found >= Wary()
    assert found.latest() is found


def test_other_samples_cannot_be_subtracted() -> None:
    with pytest.raises(ValueError, match="the same samples and labels"):
        _ = measured([True], "a") - measured([True], "b")
    with pytest.raises(ValueError, match="the same samples and labels"):
        _ = measured([True]) - measured([True], confidence=0.9)


def test_a_difference_says_what_it_counts() -> None:
    found = measured([True, True, False, True]) - measured([True, False, False, True])
    assert (found.value, found.gained, found.lost, found.samples) == (0.25, 1, 0, 4)
    assert str(found).endswith("(1 right by the first alone, 0 by the second)")


# --------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17, 2635-2650, method 10
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((18, 12, 2, 18), 0.0562, 0.3290),
        ((53, 0, 0, 1), -0.0729, 0.0729),
        ((0, 30, 0, 0), 0.8395, 1.0),
        # Cavo et al. (2012) and Bentur et al. (2009), as evaluated by Fagerland, Lydersen and
        # Laake, Statistical Analysis of Contingency Tables (2017), section 8.6
        ((59, 6, 16, 80), -0.1186, -0.0046),
        ((1, 1, 7, 12), -0.507, -0.026),
    ],
)
def test_newcombe_s_interval_is_as_published(
    counts: tuple[int, int, int, int], low: float, high: float
) -> None:
    digits = 5e-4 if counts == (1, 1, 7, 12) else 5e-5
    _, found_low, found_high = newcombe(*counts, 0.95)
    assert found_low == pytest.approx(low, abs=digits)
    assert found_high == pytest.approx(high, abs=digits)


def test_wilson_s_interval_is_as_published() -> None:
    # Newcombe (1998), Statistics in Medicine 17, 857-872, table I, method 3
    for counts, low, high in [
        ((81, 263), 0.2553, 0.3662),
        ((15, 148), 0.0624, 0.1605),
        ((0, 20), 0.0, 0.1611),
        ((1, 29), 0.0061, 0.1718),
    ]:
        assert wilson(*counts, 0.95) == pytest.approx((low, high), abs=5e-5)


@given(st.tuples(*[st.integers(0, 60)] * 4).filter(any), st.sampled_from([0.8, 0.95, 0.99]))
def test_newcombe_s_interval_contains_its_centre_and_turns_around(
    counts: tuple[int, int, int, int], confidence: float
) -> None:
    both, first, second, neither = counts
    value, low, high = newcombe(*counts, confidence)
    assert -1 - 1e-9 <= low <= value <= high <= 1 + 1e-9
    turned = newcombe(both, second, first, neither, confidence)
    assert turned == pytest.approx((-value, -high, -low))


@pytest.mark.parametrize(
    ("samples", "shares"),
    [
        (200, (0.02, 0.005, 0.02)),
        (900, (0.01, 0.01, 0.02)),
        (900, (0.02, 0.005, 0.02)),
        (900, (0.002, 0.002, 0.01)),
        (2000, (0.05, 0.03, 0.1)),
    ],
)
def test_newcombe_s_interval_covers_the_truth_often_enough(
    samples: int, shares: tuple[float, float, float]
) -> None:
    first, second, _ = shares
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(samples, [1 - sum(shares), *shares], size=4000).tolist()
    bounds: list[Any] = [newcombe(a, b, c, d, 0.95) for a, b, c, d in drawn]
    covered = np.mean([low <= first - second <= high for _, low, high in bounds])
    # 0.95 less what 4000 draws may be off: three standard errors
    assert covered >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 4000)
