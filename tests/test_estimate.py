from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from pytest_sparsity.errors import Inconclusive
from pytest_sparsity.estimate import (
    LOOKS,
    Budget,
    Estimate,
    Series,
    Stop,
    hodges_lehmann,
    holds,
    resolvable,
    seconds_to_resolve,
)
from pytest_sparsity.estimate.forecasts import seconds_to_decide
from pytest_sparsity.estimate.intervals import SHARES, interval, look_confidence, t_quantile


class Clock:
    """Seconds that pass only when somebody says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def scripted(
    centres: Iterable[float], *, cost: float = 1.0, budget: float = 1000.0, confidence: float = 0.95
) -> Series:
    """A series whose processes return these centres and cost `cost` seconds each."""
    clock = Clock()
    script = iter(centres)

    def draw() -> float:
        clock.now += cost
        return next(script)

    return Series(draw, name="speedup", budget=Budget(budget, clock), confidence=confidence)


def around(ratio: float, spread: float = 0.002) -> list[float]:
    """Fourteen centres whose first 3, 5, 8 and 14 all average ln(ratio) nearly."""
    return [math.log(ratio) + spread * sign for sign in (0, 1, -1) * 4 + (1, -1)]


def test_the_shares_of_the_error_add_up_to_all_of_it() -> None:
    assert sum(SHARES) == pytest.approx(1)
    assert len(SHARES) == len(LOOKS)
    spent = sum(1 - look_confidence(0.95, look) for look in range(len(LOOKS)))
    assert spent == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("probability", "freedom", "exact"),
    [
        (0.9975, 1, 127.32133646887215),
        (0.995, 2, 9.924843200918293),
        (0.9925, 4, 4.087974788125336),
        (0.975, 7, 2.3646242515927853),
        (0.99, 13, 2.6503088379121915),
        (0.3, 13, -0.537504089536841),
        (0.99999, 39, 4.851314474338867),
    ],
)
def test_the_t_quantile_is_exact(probability: float, freedom: int, exact: float) -> None:
    """Against the root of the incomplete beta function, computed with 40 digits."""
    assert t_quantile(probability, freedom) == pytest.approx(exact, rel=1e-11)


def test_the_t_quantile_equals_scipys() -> None:
    """To what scipy 1.11 is good for, whose own error is 4e-9; that of 1.17 is 1e-14."""
    special = pytest.importorskip("scipy.special")
    for freedom, probability in itertools.product(
        range(1, 40), (0.0025, 0.3, 0.5, 0.9, 0.975, 0.995, 0.9975, 0.99999)
    ):
        theirs = float(special.stdtrit(freedom, probability))
        assert t_quantile(probability, freedom) == pytest.approx(theirs, rel=1e-8, abs=1e-9)


def test_hodges_lehmann_is_the_median_of_pairwise_means() -> None:
    rng = np.random.default_rng(1)
    for size in (1, 2, 5, 12):
        values = rng.normal(size=size).tolist()
        means = [(a + b) / 2 for a, b in itertools.combinations_with_replacement(values, 2)]
        assert float(hodges_lehmann(values)) == pytest.approx(statistics.median(means))


def test_one_wild_pair_hardly_moves_the_centre() -> None:
    calm = [0.001 * k for k in range(12)]
    wild = [*calm[:-1], 5.0]
    assert abs(float(hodges_lehmann(wild)) - float(hodges_lehmann(calm))) < 0.002
    assert abs(statistics.mean(wild) - statistics.mean(calm)) > 0.4


def test_the_interval_is_students() -> None:
    centres = [0.1, 0.12, 0.14, 0.09, 0.1]
    mean, low, high = interval(centres, 0.95)
    half = 2.7764451052 * statistics.stdev(centres) / math.sqrt(5)
    assert float(mean) == pytest.approx(statistics.mean(centres))
    assert float(low) == pytest.approx(statistics.mean(centres) - half)
    assert float(high) == pytest.approx(statistics.mean(centres) + half)


def test_equal_processes_do_not_give_an_interval_without_width() -> None:
    mean, low, high = interval([0.0, 0.0, 0.0], 0.95)
    assert low < mean < high


@pytest.mark.parametrize(
    ("sign", "clear", "against", "edge"),
    [
        (">=", 0.9, 1.3, {1.0: True, 1.2: None}),
        (">", 0.9, 1.3, {1.0: None, 1.2: False}),
        ("<=", 1.3, 0.9, {1.2: True, 1.0: None}),
        ("<", 1.3, 0.9, {1.2: None, 1.0: False}),
    ],
)
def test_a_comparison_holds_on_the_whole_interval_or_is_refuted_on_it(
    sign: str, clear: float, against: float, edge: dict[float, bool | None]
) -> None:
    assert holds(sign, 1.0, 1.2, clear) is True
    assert holds(sign, 1.0, 1.2, against) is False
    assert holds(sign, 1.0, 1.2, 1.1) is None
    for threshold, expected in edge.items():
        assert holds(sign, 1.0, 1.2, threshold) is expected


def test_a_clear_claim_takes_one_look() -> None:
    series = scripted(around(1.5))
    assert series.look()
    assert series.latest() >= 1.2
    assert not series.latest() >= 1.8
    assert len(series.centres) == LOOKS[0]


def test_a_close_claim_takes_further_looks() -> None:
    series = scripted(around(1.005))
    series.look()
    estimate = series.latest()
    assert estimate >= 1.0
    assert len(series.centres) > LOOKS[0]
    # The value itself does not change; what was found since is asked for.
    assert estimate.value != series.latest().value
    assert estimate.latest().low == series.latest().low


def test_an_undecided_claim_says_what_was_measured_and_what_to_do() -> None:
    series = scripted(around(1.1), cost=2.0)
    series.look()
    with pytest.raises(Inconclusive, match=r"inconclusive: measured 1\.1, 95 %") as e:
        assert series.latest() >= 1.1
    claim = e.value.claim
    assert claim.reason == "near threshold"
    assert math.isinf(claim.seconds)
    assert len(series.centres) == LOOKS[-1]
    assert "14 processes in 28.0 s" in str(e.value)
    assert str(e.value).endswith("claim a threshold further away")


def test_a_spent_budget_says_how_much_longer_would_do() -> None:
    centres = around(1.02, spread=0.01)
    series = scripted(centres, cost=1.0, budget=4.5)
    series.look()
    with pytest.raises(Inconclusive) as inconclusive:
        assert series.latest() >= 1.0
    claim = inconclusive.value.claim
    assert claim.reason == "budget"
    # There was no room for the look at 5, so it was taken at 4.
    assert len(series.centres) == 4
    assert "set --sparsity-budget=" in str(inconclusive.value)
    # And that is true: with so much more the same processes decide.
    richer = scripted(centres, cost=1.0, budget=4.5 + claim.seconds)
    richer.look()
    assert richer.latest() >= 1.0


def test_a_budget_too_small_for_the_first_look_gives_no_number() -> None:
    series = scripted(around(2), cost=4.0, budget=10.0)
    assert not series.look()
    assert math.isnan(series.latest().value)
    with pytest.raises(
        Inconclusive,
        match=r"an interval takes 3 processes, and the budget had room for 1 process in 4\.0 s",
    ) as inconclusive:
        assert series.latest() >= 1.0
    assert inconclusive.value.claim.reason == "budget"
    assert inconclusive.value.claim.seconds == pytest.approx(8.0)
    assert series.budget.spent == 4.0


def test_a_noisy_clock_ends_the_series_with_its_reason() -> None:
    drawn = iter([0.01, -0.01, 0.0])

    def draw() -> float:
        centre = next(drawn, None)
        if centre is None:
            raise Stop("noisy clock")
        return centre

    series = Series(draw, name="speedup", budget=Budget(100, lambda: 0.0), confidence=0.95)
    series.look()
    with pytest.raises(Inconclusive, match="most blocks were preempted") as inconclusive:
        assert series.latest() >= 1.0
    assert inconclusive.value.claim.reason == "noisy clock"
    assert series.latest() >= 0.5


@pytest.mark.parametrize("cost", [0.25, 0.75, 1.0, 2.5, 5.125])
@pytest.mark.parametrize("budget", [0.5, 3.0, 7.9, 20.0])
def test_the_budget_is_never_exceeded(cost: float, budget: float) -> None:
    series = scripted(around(1.0), cost=cost, budget=budget)
    while series.look():
        pass
    # The first process is what tells the cost; after it nothing starts that does not fit.
    assert series.budget.spent <= max(budget, cost)
    fitting = int(min(budget / cost, LOOKS[-1]))
    assert len(series.centres) == (fitting if fitting >= LOOKS[0] else 1)


def test_time_between_comparisons_is_not_spent() -> None:
    clock = Clock()
    script = iter(around(1.005))

    def draw() -> float:
        assert series.budget.left == 20.0 - len(series.centres)
        clock.now += 1.0
        return next(script)

    series = Series(draw, name="speedup", budget=Budget(20.0, clock), confidence=0.95)
    series.look()
    clock.now += 3600.0
    assert series.latest() >= 1.0
    assert series.budget.spent == len(series.centres)


def test_verdicts_do_not_depend_on_what_was_asked_before() -> None:
    rng = np.random.default_rng(3)
    thresholds = [0.99, 1.0, 1.004, 1.01, 1.03]

    def decided(series: Series, threshold: float) -> bool | None:
        try:
            return series.latest() >= threshold
        except Inconclusive:
            return None

    def verdicts(centres: list[float], order: list[float]) -> dict[float, bool | None]:
        series = scripted(centres)
        answers: dict[float, bool | None] = {}
        for threshold in order:
            answers[threshold] = decided(series, threshold)
        return answers

    for _ in range(50):
        centres = rng.normal(0.004, 0.01, LOOKS[-1]).tolist()
        forward = verdicts(centres, thresholds)
        assert verdicts(centres, thresholds[::-1]) == forward
        # Nor do they contradict each other: what holds for a threshold holds for a lower one.
        known = [answer for answer in forward.values() if answer is not None]
        assert known == sorted(known, reverse=True)


def test_every_comparison_is_kept_as_a_claim() -> None:
    series = scripted(around(1.1))
    series.look()
    assert series.latest() > 1
    assert not series.latest() < 1
    with pytest.raises(Inconclusive):
        assert series.latest() <= 1.1
    assert [(str(claim), claim.verdict) for claim in series.claims] == [
        ("speedup > 1", "holds"),
        ("speedup < 1", "refuted"),
        ("speedup <= 1.1", "inconclusive"),
    ]
    assert series.claims[0].estimate.low > 1


def test_an_exact_ratio_needs_one_process_and_decides_everything() -> None:
    draws = iter([2.76])
    series = Series(
        lambda: next(draws),
        name="instruction_ratio",
        budget=Budget(1, lambda: 0.0),
        confidence=0.95,
        exact=True,
    )
    assert series.look()
    estimate = series.latest()
    assert estimate.low == estimate.value == estimate.high
    assert estimate >= 2.76
    assert not estimate > 2.76
    assert not series.look()
    assert str(estimate) == "2.76 exactly"


@pytest.mark.parametrize(
    "use",
    [
        bool,
        lambda e: e == 1.0,
        lambda e: e != 1.0,
        lambda e: 1 == e,  # noqa: SIM300
        lambda e: e == np.float32(1),
        lambda e: e in [1.0, 2.0],
    ],
    ids=["bool", "==", "!=", "reflected", "numpy", "in"],
)
def test_an_estimate_has_no_truth_value_and_equals_no_number(
    use: Callable[[Estimate], object],
) -> None:
    with pytest.raises(TypeError, match=r"compare it.*: `assert speedup >= 1\.1`"):
        use(Estimate(1.1, 1.0, 1.2, 0.95))


def test_an_estimate_can_stand_in_a_list_and_a_set() -> None:
    one, other = Estimate(1.1, 1.0, 1.2, 0.95), Estimate(1.1, 1.0, 1.2, 0.95)
    looked = scripted(around(1.1)).latest()
    assert one in [other, "speedup", None, looked, one]
    assert one not in [other, looked]
    assert [looked, one, other].index(other) == 2
    assert len({one, other, one, looked}) == 3


def test_other_types_get_their_turn() -> None:
    class Recorded:
        def __le__(self, other: Estimate) -> bool:
            return other.value == 1.1

    estimate = Estimate(1.1, 1.0, 1.2, 0.95)
    assert estimate >= Recorded()
    with pytest.raises(TypeError, match="not supported"):
        assert estimate >= "1"
    with pytest.raises(TypeError, match="race the two models with each other"):
        assert estimate >= Estimate(1.1, 1.0, 1.2, 0.95)
    with pytest.raises(TypeError, match="not supported"):
        assert estimate >= True
    with pytest.raises(ValueError, match="NaN"):
        assert estimate >= math.inf - math.inf


def test_an_estimate_without_a_series_is_looked_at_once() -> None:
    estimate = Estimate(1.1, 1.0, 1.2, 0.95)
    assert estimate > 0.9
    assert estimate >= np.float32(0.9)
    assert estimate < 2
    with pytest.raises(
        Inconclusive, match=r"ratio >= 1.1 is inconclusive: measured 1.1, 95 % interval"
    ):
        assert estimate >= 1.1
    assert repr(estimate) == "Estimate(1.1, 95 % interval [1, 1.2])"


def test_planning_agrees_with_the_looks() -> None:
    # Looks at 3, 5, 8, 14 processes of 1 s; a budget resolves what the looks in it do.
    effects = [resolvable(0.005, 1.0, budget) for budget in (2.9, 3.0, 5.0, 8.0, 14.0, 99.0)]
    assert math.isinf(effects[0])
    assert effects[1] > effects[2] > effects[3] > effects[4] == effects[5]
    for seconds, effect in zip((3.0, 5.0, 8.0, 14.0), effects[1:5], strict=True):
        assert seconds_to_resolve(effect, 0.005, 1.0) == seconds
    assert math.isinf(seconds_to_resolve(effects[4] / 2, 0.005, 1.0))
    # With room for 4 the second look is taken there, with 6 the third, and so on.
    assert effects[1] > resolvable(0.005, 1.0, 4.0) > effects[2] > resolvable(0.005, 1.0, 6.0)


def test_what_is_called_resolvable_is_decided_in_four_of_five_series() -> None:
    rng = np.random.default_rng(5)
    spread = 0.005
    effect = resolvable(spread, 1.0, 8.0)

    def is_decided() -> bool:
        series = scripted(rng.normal(effect, spread, LOOKS[-1]).tolist(), budget=8.0)
        try:
            return series.latest() > 1.0
        except Inconclusive:
            return False

    assert 0.75 < sum(is_decided() for _ in range(400)) / 400 < 0.95


def test_the_named_budget_covers_what_was_spent_too() -> None:
    series = scripted(around(1.02, spread=0.01), cost=1.0, budget=4.5)
    with pytest.raises(Inconclusive) as inconclusive:
        assert series.latest() >= 1.0
    total = int(re.search(r"--sparsity-budget=(\d+)", str(inconclusive.value))[1])  # type: ignore[index]
    assert total >= series.budget.spent + inconclusive.value.claim.seconds


def test_the_first_process_which_plans_does_not_tell_what_the_others_cost() -> None:
    clock, script = Clock(), iter(around(1.0))
    costs = iter([10.0, *[1.0] * 13])

    def draw() -> float:
        clock.now += next(costs)
        return next(script)

    budget = Budget(17.5, clock, expected=1.0)
    series = Series(draw, name="speedup", budget=budget, confidence=0.95)
    while series.look():
        pass
    assert len(series.centres) == 8, "10 + 7 seconds"


def test_a_threshold_that_has_no_logarithm_has_a_price() -> None:
    assert seconds_to_decide([0.0, 0.1], 0.0, 2.0, 0.95) == pytest.approx(2.0)


def test_an_exact_ratio_is_certain() -> None:
    budget = Budget(1, lambda: 0.0)
    series = Series(lambda: 2.0, name="r", budget=budget, confidence=0.95, exact=True)
    series.look()
    assert series.latest().confidence == 1.0


@pytest.mark.parametrize(
    ("low", "high", "largest"),
    [
        (0.998, 1.001, 1 / 0.998 - 1),
        (1.0, 1.0, 0.0),
        (0.99, 1.049, 0.049),
        (0.99, 1.06, None),
        (1.001, 1.002, None),
        (0.0, 1.01, None),
        (0.0, math.inf, None),
    ],
)
def test_how_large_a_difference_there_may_be(
    low: float, high: float, largest: float | None
) -> None:
    found = Estimate(1.0, low, high, 0.95).difference
    assert found == (None if largest is None else pytest.approx(largest))
