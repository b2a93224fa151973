"""The procedure against simulated machines whose true ratio is known.

Each of a pair's two interpreters draws a layout, a process may shift all of its pairs, and the true
log ratio is added. The spreads are those of real machines: pairs of a 5 us model 1.5 to 2.7 %, some
layouts 10 to 20 % off; processes 0 to 0.6 %, and 2 % for a bad one. The looks are those of
`estimate`, evaluated for thousands of races at once; that this decides as `Series` does is a test
of its own. Two procedures that people would write instead go through the same checks and fail.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_sparsity.errors import Inconclusive
from pytest_sparsity.estimate import LOOKS, Budget, Series, hodges_lehmann
from pytest_sparsity.estimate.intervals import interval, look_confidence, t_quantile
from pytest_sparsity.racing.pairs import FASTEST, Pair, fastest

Array = NDArray[np.float64]
# (runs, processes, pairs) log ratios -> per run: 1 the claim holds, -1 refuted, 0 inconclusive.
Procedure = Callable[[Array, float], NDArray[np.int64]]

RUNS = 4000
PAIRS = 8
CONFIDENCE = 0.95
WRONG = (1 - CONFIDENCE) / 2
PROCESS_SPREADS = (0.0, 0.006, 0.02)


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.normal(0, 0.014, shape)


def heavy_tailed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return 0.008 * rng.standard_t(2.5, shape)


def bimodal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """One interpreter in twelve gets a layout that costs 8 %."""
    return rng.normal(0, 0.003, shape) + 0.08 * (rng.random(shape) < 1 / 12)


def bursts(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """One interpreter in fifty is measured while something else doubles its time."""
    return rng.normal(0, 0.006, shape) + math.log(2) * (rng.random(shape) < 0.02)


NOISES = {noise.__name__: noise for noise in (normal, heavy_tailed, bimodal, bursts)}


@cache
def simulated(noise: str, process_spread: float) -> Array:
    """Log ratios (runs, processes, pairs) of races whose true ratio is 1."""
    rng = np.random.default_rng([ord(letter) for letter in noise] + [round(1e4 * process_spread)])
    shape = (RUNS, LOOKS[-1], PAIRS)
    layouts = NOISES[noise](rng, shape) - NOISES[noise](rng, shape)
    return layouts + rng.normal(0, process_spread, (*shape[:2], 1))


def verdicts(low: Array, high: Array, threshold: float) -> NDArray[np.int64]:
    """1 where `>= threshold` holds on the whole interval, -1 where nowhere on it, else 0."""
    return np.where(low >= threshold, 1, np.where(high < threshold, -1, 0))


def first_decision(looks: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    decided = np.zeros_like(looks[0])
    for look in looks:
        decided = np.where(decided == 0, look, decided)
    return decided


def ours(pairs: Array, threshold: float, affordable: int = LOOKS[-1]) -> NDArray[np.int64]:
    """The looks as they are; the last is taken at what the budget affords."""
    return looked_at(hodges_lehmann(pairs), threshold, affordable)


def looked_at(centres: Array, threshold: float, affordable: int = LOOKS[-1]) -> NDArray[np.int64]:
    looks = []
    for look, processes in enumerate(LOOKS):
        confidence = look_confidence(CONFIDENCE, look)
        _, low, high = interval(centres[:, : min(processes, affordable)], confidence)
        looks.append(verdicts(low, high, threshold))
        if processes >= affordable:
            break
    return first_decision(looks)


def ours_in_a_budget(pairs: Array, threshold: float) -> NDArray[np.int64]:
    """Every race with another budget, from 3 to 14 processes."""
    budgets = range(LOOKS[0], LOOKS[-1] + 1)
    parts = np.array_split(pairs, len(budgets))
    found = [ours(part, threshold, n) for part, n in zip(parts, budgets, strict=True)]
    return np.concatenate(found)


def over_pairs(pairs: Array, threshold: float) -> NDArray[np.int64]:
    """The interval of somebody who takes all pairs for independent, whatever their process."""
    every = pairs.reshape(len(pairs), -1)
    centre = np.median(hodges_lehmann(pairs), axis=1)
    spread = 1.4826 * np.median(np.abs(every - np.median(every, axis=1, keepdims=True)), axis=1)
    half = t_quantile(0.975, every.shape[1] - 1) * spread / math.sqrt(0.9 * every.shape[1])
    return verdicts(centre - half, centre + half, threshold)


def peeking(pairs: Array, threshold: float) -> NDArray[np.int64]:
    """The right interval, looked at after every process with the whole error each time."""
    centres = hodges_lehmann(pairs)
    looks = []
    for processes in range(LOOKS[0], LOOKS[-1] + 1):
        _, low, high = interval(centres[:, :processes], CONFIDENCE)
        looks.append(verdicts(low, high, threshold))
    return first_decision(looks)


def least_rate(hits: int, runs: int) -> float:
    """The lower 99.9 % confidence bound (Wilson) of a rate, of which `hits` of `runs` were seen."""
    z, rate = 3.09, hits / runs
    middle = rate + z * z / (2 * runs)
    half = z * math.sqrt(rate * (1 - rate) / runs + (z / (2 * runs)) ** 2)
    return (middle - half) / (1 + z * z / runs)


def errs_too_often(procedure: Procedure, pairs: Array) -> bool:
    """Whether at the exact boundary more than 2.5 % pass wrongly, or fail wrongly."""
    found = procedure(pairs, 0.0)
    return any(least_rate(int(np.sum(found == side)), len(found)) > WRONG for side in (1, -1))


machines = pytest.mark.parametrize(
    ("noise", "process_spread"),
    [(noise, spread) for noise in NOISES for spread in PROCESS_SPREADS],
)


@machines
def test_every_look_covers_the_truth_as_often_as_it_says(noise: str, process_spread: float) -> None:
    centres = hodges_lehmann(simulated(noise, process_spread))
    missed_ever = np.zeros(RUNS, dtype=bool)
    for look, processes in enumerate(LOOKS):
        confidence = look_confidence(CONFIDENCE, look)
        _, low, high = interval(centres[:, :processes], confidence)
        missed = (low > 0) | (high < 0)
        assert least_rate(int(missed.sum()), RUNS) <= 1 - confidence
        missed_ever |= missed
    assert least_rate(int(missed_ever.sum()), RUNS) <= 1 - CONFIDENCE


@machines
def test_at_the_exact_boundary_at_most_one_in_forty_errs_on_each_side(
    noise: str, process_spread: float
) -> None:
    assert not errs_too_often(ours, simulated(noise, process_spread))
    assert not errs_too_often(ours_in_a_budget, simulated(noise, process_spread))


@machines
def test_three_points_off_the_boundary_all_are_right_and_nearly_all_decided(
    noise: str, process_spread: float
) -> None:
    pairs = simulated(noise, process_spread)
    for distance in (0.03, -0.03):
        found = ours(pairs + distance, 0.0)
        assert np.mean(found == -math.copysign(1, distance)) < 1e-3
        assert np.mean(found == math.copysign(1, distance)) >= 0.97


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("process_spread", [0.006, 0.02])
def test_the_checks_reject_an_interval_over_pairs(noise: str, process_spread: float) -> None:
    assert errs_too_often(over_pairs, simulated(noise, process_spread))


@machines
def test_the_checks_reject_peeking_after_every_process(noise: str, process_spread: float) -> None:
    assert errs_too_often(peeking, simulated(noise, process_spread))


def test_a_series_decides_as_the_vectorised_looks_do() -> None:
    pairs = simulated("bimodal", 0.006)[:300] + 0.01
    centres = hodges_lehmann(pairs)

    def decided(row: Array, budget: int) -> int:
        script = iter(row.tolist())
        now = [0.0]

        def draw() -> float:
            now[0] += 1.0
            return float(next(script))

        seconds = Budget(budget, lambda: now[0])
        series = Series(draw, name="speedup", budget=seconds, confidence=CONFIDENCE)
        try:
            return 1 if series.latest() >= 1.0 else -1
        except Inconclusive:
            return 0

    for budget in (3, 4, 7, 8, 11, 14, 99):
        found = [decided(row, budget) for row in centres]
        assert found == ours(pairs, 0.0, affordable=min(budget, LOOKS[-1])).tolist()
        assert set(found) == {0, 1}


def test_swapping_the_models_inverts_the_estimate() -> None:
    centres = hodges_lehmann(simulated("heavy_tailed", 0.02)[:50] + 0.05)
    mean, low, high = interval(centres, 0.95)
    swapped, swapped_low, swapped_high = interval(-centres, 0.95)
    np.testing.assert_allclose(swapped, -mean)
    np.testing.assert_allclose(swapped_low, -high)
    np.testing.assert_allclose(swapped_high, -low)


def test_one_wild_pair_does_not_flip_a_verdict() -> None:
    pairs = simulated("normal", 0.006)[:500] + 0.03
    before = ours(pairs, 0.0)
    wild = pairs.copy()
    wild[:, 1, 3] -= 3.0
    after = ours(wild, 0.0)
    assert not np.any(after == -1)
    assert np.mean(after == before) > 0.95


# -------------------------------------------- several threads: wall time, with neighbours on a CPU

ROUNDS = 10


def now_and_then(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Half of the blocks take 1.2 to 5 times as long."""
    return np.where(rng.random(shape) < 0.5, rng.uniform(math.log(1.2), math.log(5), shape), 0.0)


def for_a_while(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A thread of seven interpreters in ten shares its CPU, in four blocks of five."""
    shared = rng.random((*shape[:-1], 1)) < 0.7
    return np.where(shared & (rng.random(shape) < 0.8), rng.normal(0.7, 0.2, shape), 0.0)


def always(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """No block is left alone."""
    return rng.normal(0.8, 0.3, shape)


NEIGHBOURS = {n.__name__: n for n in (now_and_then, for_a_while, always)}


@cache
def threaded_blocks(neighbours: str) -> tuple[Array, Array]:
    """Log times (runs, processes, pairs, rounds) of a model's blocks, and of its own once more."""
    rng = np.random.default_rng([ord(letter) for letter in neighbours])
    shape = (1000, LOOKS[-1], PAIRS, ROUNDS)

    def model() -> Array:
        layout = rng.normal(0, 0.004, (*shape[:3], 1)) + rng.normal(0, 0.004, (*shape[:2], 1, 1))
        noise = np.abs(rng.normal(0, 0.01, shape))
        blocks: Array = layout + noise + np.abs(NEIGHBOURS[neighbours](rng, shape))
        return blocks

    return model(), model()


def of_medians(dense: Array, sparse: Array) -> Array:
    """The centres that one thread has."""
    return hodges_lehmann(np.median(dense - sparse, axis=-1))


def of_fastest(dense: Array, sparse: Array) -> Array:
    """The centres that several threads have."""

    def least(blocks: Array) -> Array:
        every = np.exp(blocks.reshape(*blocks.shape[:2], -1))
        count = round(FASTEST * every.shape[-1])
        found: Array = np.log(np.partition(every, count, axis=-1)[..., :count].mean(axis=-1))
        return found

    return least(dense) - least(sparse)


def test_a_process_of_several_threads_tells_what_is_simulated() -> None:
    dense, sparse = (blocks[0, 0] for blocks in threaded_blocks("now_and_then"))
    pairs = []
    for ours_, theirs in zip(dense, sparse, strict=True):
        times = np.round(1e9 * np.exp(np.stack([ours_, theirs], axis=1))).astype(int).tolist()
        pairs.append(Pair({"wall": tuple(map(tuple, times))}, ((0, 0),) * ROUNDS))
    first, second = fastest(pairs, "wall")
    assert math.log(first / second) == pytest.approx(
        float(of_fastest(dense[None, None], sparse[None, None])[0, 0]), abs=1e-6
    )


@pytest.mark.parametrize("neighbours", NEIGHBOURS)
def test_several_threads_err_as_rarely(neighbours: str) -> None:
    centres = of_fastest(*threaded_blocks(neighbours))
    for affordable in LOOKS:
        found = looked_at(centres, 0.0, affordable)
        for side in (1, -1):
            assert least_rate(int(np.sum(found == side)), len(found)) <= WRONG


@pytest.mark.parametrize("neighbours", ["now_and_then", "for_a_while"])
def test_the_fastest_blocks_decide_where_medians_do_not(neighbours: str) -> None:
    """A claim that is 5 % off, within the eight processes that 8 s have room for."""
    blocks = threaded_blocks(neighbours)
    for distance in (0.05, -0.05):
        right = math.copysign(1, distance)
        fast, slow = (
            looked_at(centres(*blocks) + distance, 0.0, affordable=8)
            for centres in (of_fastest, of_medians)
        )
        assert np.mean(fast == right) > 0.97
        assert not np.any(fast == -right)
        assert np.mean(slow == right) < 0.5
