"""Races on a scripted target: costs, noise and clocks are made up, everything above is real."""

from __future__ import annotations

import contextlib
import json
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import pytest

import pytest_sparsity.diagnosis
from pytest_sparsity.errors import CannotMeasure, Inconclusive, Unsupported, WrongOutputs
from pytest_sparsity.estimate import LOOKS, Budget
from pytest_sparsity.inputs import feed
from pytest_sparsity.model import Model
from pytest_sparsity.racing import CONTROL_MARGIN, Controls, Race, check_control, race, start
from pytest_sparsity.racing.entrants import remarks
from pytest_sparsity.racing.measurement import Measurement, Plan, choose_clock, pairs_per_process
from pytest_sparsity.racing.pairs import Pair
from pytest_sparsity.racing.warm_up import NATIVE_LIMIT_NS, WARM_UP_LIMIT_NS, Batch, warm_up_needed
from pytest_sparsity.targets import Blocks, Place, Signature, Target, TensorSpec, Worker
from pytest_sparsity.targets.child import LateError, limit
from pytest_sparsity.writer import Network

DATA = Path(__file__).parent / "data"
DENSE, SPARSE = DATA / "mlp_dense.tflite", DATA / "mlp_sparse.tflite"
SPEC = TensorSpec("x", (2,), "float32")


@dataclass
class Machine:
    """What a scripted worker costs, in ns, and the clock that all of it moves.

    Attributes:
        costs: file name to ns per invocation.
        layout: standard deviation of an interpreter's luck.
        cold: how much slower the first invocations of a process are, and how many.
        share: of the CPU that the work gets; the rest is waiting.
        interrupted: whether waiting shows as involuntary switches.
        second: how much slower the interpreters of the second role are.
        tick: of the CPU clock.
        start, load: seconds.
        answers: the outputs of the models, by role.
        jitter: largest relative deviation of what starting and running takes.
    """

    costs: Mapping[str, float]
    layout: float = 0.01
    cold: tuple[float, int] = (1.0, 0)
    share: Callable[[random.Random], float] = lambda _: 1.0
    interrupted: bool = True
    second: float = 1.0
    tick: int = 1
    start: float = 0.3
    load: float = 0.002
    jitter: float = 0.0
    instructions: Callable[[random.Random, float], int] | None = None
    now: float = 0.0
    answers: Mapping[str, list[float]] = field(default_factory=dict)
    requests: list[tuple[Any, ...]] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(1))

    def clock(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds * (1 + self.rng.uniform(-self.jitter, self.jitter))
        if self.now > limit():  # as a child is killed
            self.now = limit()
            raise LateError("too late")

    @property
    def opened(self) -> int:
        return sum(request[0] == "open" for request in self.requests)


class ScriptedWorker(Worker):
    """Answers from a machine instead of a child process."""

    def __init__(self, machine: Machine) -> None:
        self.hello = {"runtime": "litert", "version": "2.3.0", "cpu": "none", "engine": "script"}
        self._machine = machine
        self.conditions = []
        self._costs: dict[str, float] = {}
        self._calls = 0
        machine.requests.append(("open",))
        machine.spend(machine.start)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._machine.requests.append(("close",))

    def load(self, key: str, model: Any, **options: Any) -> Signature:
        machine = self._machine
        machine.requests.append(("load", key, tuple(options["pad"])))
        machine.spend(machine.load)
        role = machine.second if key.startswith("sparse") else 1.0
        luck = math.exp(machine.rng.gauss(0, machine.layout))
        self._costs[key] = machine.costs[Model.of(model).path.name] * role * luck
        outputs = self._machine.answers.get(key.split(maxsplit=1)[0], [1.0, 2.0])
        return Signature((SPEC,), (TensorSpec("y", (len(outputs),), "float32"),))

    def set_inputs(self, key: str, arrays: Sequence[Any]) -> None:
        assert key in self._costs
        assert [array.shape for array in arrays] == [(1, 64)]

    def outputs(self, key: str) -> tuple[Any, ...]:
        self._machine.requests.append(("outputs", key))
        self._machine.spend(self._costs[key] / 1e9)
        return (
            np.array(self._machine.answers.get(key.split(maxsplit=1)[0], [1.0, 2.0]), np.float32),
        )

    def unload(self, key: str) -> None:
        self._machine.requests.append(("unload", key))
        del self._costs[key]

    def run(self, blocks: Sequence[tuple[str, int]], warm: int = 1) -> Blocks:
        self._machine.requests.append(("run", tuple(blocks), warm))
        times = [self._block(key, n, warm) for key, n in blocks]
        wall, cpu, preempted, counts = zip(*times, strict=True)
        return Blocks(wall, cpu, preempted, counts if self._machine.instructions else None)

    def _block(self, key: str, n: int, warm: int) -> tuple[int, int, int, int]:
        machine = self._machine
        slow, until = machine.cold
        cold = min(max(until - self._calls, 0), n)
        self._calls += n + warm
        work = self._costs[key] * (n + cold * (slow - 1))
        share = machine.share(machine.rng)
        machine.spend(work / share / 1e9 * (n + warm) / n)
        work *= 1 + machine.rng.uniform(-1e-3, 1e-3)
        cpu = max(round(work / machine.tick), 1) * machine.tick
        count = machine.instructions(machine.rng, self._costs[key]) if machine.instructions else 0
        switches = int(share < 1 and machine.interrupted)
        return round(work / share), cpu, switches, count


LITERT = Target.of("litert")


class Counting(Place):
    unit = "instructions"


@dataclass(frozen=True)
class ScriptedTarget(Target):
    scripted: Machine | None = None
    lacks: Unsupported | None = None

    def missing(self) -> Unsupported | None:
        return self.lacks

    def version(self) -> str:
        return "2.3.0"

    def open(self, *, threads: int = 1, timeout: float | None = None) -> Worker:
        assert self.scripted is not None
        assert threads <= 2
        assert timeout is None
        return ScriptedWorker(self.scripted)


@pytest.fixture(autouse=True)
def no_real_race_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pytest_sparsity.turns.place", lambda: tmp_path / "turns.lock")


def machine(ratio: float = 1.5, sparse_ns: float = 5_000.0, **options: Any) -> Machine:
    return Machine({DENSE.name: ratio * sparse_ns, SPARSE.name: sparse_ns}, **options)


def target(machine: Machine, unit: str = "seconds") -> ScriptedTarget:
    place = Counting() if unit == "instructions" else LITERT.place
    return ScriptedTarget("litert", LITERT.record, place, machine)


def raced(machine: Machine, *, budget: float = 10.0, threads: int = 1, seed: int = 0) -> Race:
    where = target(machine)
    return start(DENSE, SPARSE, where, threads, budget, seed=seed, now=machine.clock)


def inconclusive(result: Race, threshold: float) -> Inconclusive:
    with pytest.raises(Inconclusive) as caught:
        assert result.speedup >= threshold
    return caught.value


def test_a_race_finds_the_ratio() -> None:
    result = raced(machine(1.5))
    assert result.ratio.value == pytest.approx(1.5, rel=0.02)
    assert result.speedup >= 1.4
    assert not result.speedup >= 1.6
    assert result.verdict == "faster"
    assert result.trials == LOOKS[0]
    assert result.dense.median == pytest.approx(7.5e-6, rel=0.02)
    assert result.sparse.median == pytest.approx(5e-6, rel=0.02)
    assert result.sparse.low < result.sparse.median < result.sparse.high
    assert repr(result) == f"Race(litert, {result.ratio}, 3 processes)"
    assert raced(machine(0.8)).verdict == "slower"
    assert raced(machine(1.0)).verdict == "inconclusive"


def test_swapping_the_models_inverts_the_ratio_and_scaling_both_leaves_it() -> None:
    ratio = raced(machine(1.5, layout=0)).ratio.value
    assert raced(machine(1 / 1.5, layout=0)).ratio.value == pytest.approx(1 / ratio, rel=1e-3)
    assert raced(machine(1.5, sparse_ns=5e6, layout=0)).ratio.value == pytest.approx(
        ratio, rel=1e-3
    )


def test_every_pair_is_fresh_and_created_now_in_this_now_in_that_order() -> None:
    scripted = machine()
    result = raced(scripted)
    loads = [request for request in scripted.requests if request[0] == "load"]
    process = loads[: len(loads) // result.trials]
    assert len({key for _, key, _ in process}) == len(process)
    first = [key.split()[0] for _, key, _ in process[::2]]
    assert first == [*(["dense", "sparse"] * len(first))][first[0] == "sparse" :][: len(first)]
    assert len({pad for *_, pad in loads}) > len(loads) / 2
    # Some pairs are unloaded before the next is created and some after.
    kinds = [r[0] for r in scripted.requests if r[0] in ("load", "unload", "run")]
    text = " ".join(kinds)
    assert "run unload unload load load run" in text
    assert "run load load unload unload run" in text


def test_rounds_are_equal_blocks_in_random_order_after_an_untimed_invocation() -> None:
    scripted = machine(1.5, sparse_ns=5_000)
    result = raced(scripted)
    rounds = [r for r in scripted.requests if r[0] == "run" and r[2] == 1]
    assert len(rounds) == result.pairs
    orders = []
    for _, blocks, _ in rounds:
        assert len({n for _, n in blocks}) == 1
        assert blocks[0][1] * 5_000 == pytest.approx(200_000, rel=0.05)
        roles = [key.split()[0] for key, _ in blocks]
        couples = list(zip(roles[::2], roles[1::2], strict=True))
        assert len(couples) == 10
        assert {tuple(sorted(couple)) for couple in couples} == {("dense", "sparse")}
        orders += [couple[0] == "dense" for couple in couples]
    assert 0.35 < sum(orders) / len(orders) < 0.65
    assert orders[::2] != orders[1::2]


def test_the_seed_decides_the_order() -> None:
    def requests(seed: int) -> list[tuple[Any, ...]]:
        scripted = machine()
        raced(scripted, seed=seed)
        return scripted.requests

    assert requests(3) == requests(3)
    assert requests(3) != requests(4)


@pytest.mark.parametrize(
    ("sparse_ns", "tick", "invocations", "rounds"),
    [(5_000, 1, 40, 10), (5_000, 1_000, 200, 10), (7e6, 1, 1, 5), (60e6, 1, 1, 3)],
)
def test_blocks_are_long_enough_for_the_clock(
    sparse_ns: float, tick: int, invocations: int, rounds: int
) -> None:
    facts = raced(machine(1.0, sparse_ns, tick=tick, layout=0), budget=60).metadata
    assert facts["invocations"] == pytest.approx(invocations, rel=0.06)
    assert facts["rounds"] == rounds


def test_cheap_pairs_are_many_and_dear_ones_few() -> None:
    few, many = (raced(machine(1.0, ns), budget=60) for ns in (50e6, 5e3))
    assert 1 <= few.pairs / few.trials <= 4
    assert 10 < many.pairs / many.trials <= 24


def test_the_plan_prefers_a_later_look_to_more_pairs() -> None:
    # Start 0.6 s and pair 0.4 s: eight processes of one pair fit into 10 s, five of two.
    assert pairs_per_process(0.6, 0.4, room=10) == 1
    assert pairs_per_process(0.6, 0.4, room=100) == 4
    # Where nothing fits, one pair is still the cheapest.
    assert pairs_per_process(0.6, 0.4, room=1) == 1


def test_cpu_time_sees_no_neighbours() -> None:
    """Wall time is two to four times as long, for one model more than for the other."""
    result = raced(machine(1.1, share=lambda rng: rng.choice([1.0, 0.3, 0.4, 0.2])))
    assert result.clock == "cpu"
    assert result.ratio.value == pytest.approx(1.1, rel=0.02)
    assert result.metadata["preempted_share"] == pytest.approx(0.75, abs=0.1)
    assert result.metadata["clock_reason"] == "one thread, and CPU time covers the work"


def test_cpu_time_is_used_where_every_block_was_interrupted() -> None:
    result = raced(machine(1.1, share=lambda rng: rng.uniform(0.2, 0.5)))
    assert result.clock == "cpu"
    assert result.metadata["clock_reason"] == "one thread, interrupted in every block"


def test_wall_time_is_used_where_cpu_time_does_not_cover_the_work() -> None:
    result = raced(machine(1.3, share=lambda _: 0.1, interrupted=False))
    assert result.clock == "wall"
    assert "wall time is 10 times as long" in str(result.metadata["clock_reason"])
    assert result.sparse.median == pytest.approx(50e-6, rel=0.02)


def test_wall_time_is_used_with_several_threads() -> None:
    result = raced(machine(1.3), threads=2)
    assert result.clock == "wall"
    assert result.metadata["clock_reason"] == "several threads work at once"


def test_a_noisy_wall_clock_ends_the_race_after_the_first_look() -> None:
    noisy = machine(1.05, sparse_ns=5e6, share=lambda rng: rng.choice([0.6, 0.3]))
    result = raced(noisy, threads=2, budget=100)
    error = inconclusive(result, 1.05)
    assert error.claim.reason == "noisy clock"
    assert result.trials == LOOKS[0]
    assert noisy.now < 20
    now_and_then = machine(1.05, sparse_ns=5e6, share=lambda rng: rng.choice([1.0, 0.3]))
    assert raced(now_and_then, threads=2, budget=100).speedup >= 1.03
    calm = raced(machine(1.05, sparse_ns=5e6), threads=2, budget=100)
    while calm._series.look():
        pass
    assert inconclusive(calm, calm.ratio.value).claim.reason == "near threshold"
    assert calm.trials == LOOKS[-1]


def test_warming_up_goes_on_until_the_compiler_is_done() -> None:
    settled = raced(machine(cold=(4.0, 3_000)))
    assert int(str(settled.metadata["warm_up"])) >= 3_000 / 2  # Both models use them up.
    assert settled.ratio.value == pytest.approx(1.5, rel=0.02)
    assert settled.sparse.high == pytest.approx(5e-6, rel=0.06)
    ready = raced(machine())
    assert int(str(ready.metadata["warm_up"])) * 5e-6 < 0.01


def test_a_process_that_never_settles_is_used_after_a_while() -> None:
    restless = machine(share=lambda rng: rng.choice([1.0, 0.25]), start=0.0, load=0.0)
    result = raced(restless, threads=2, budget=60)
    assert result.trials == LOOKS[0]
    runs = [r for r in restless.requests if r[0] == "run" and r[2] == 0]
    warm_up = sum(n for r in runs[: len(runs) - 2] for _, n in r[1])
    assert warm_up * 6_000 < 1.5 * WARM_UP_LIMIT_NS


def test_a_batch_beside_a_compiler_is_not_calm_and_costs_what_the_work_takes() -> None:
    """Else blocks would be planned too short: of the same work beside nothing they took half."""
    wall = (4_100_001, 2_000_003) * 4
    beside = Batch.of(Blocks(wall, (8_200_000, 4_000_000) * 4, (0,) * 8), 10, threads=1)
    alone = Batch.of(Blocks(wall, (4_100_000, 2_000_000) * 4, (0,) * 8), 10, threads=1)
    assert beside.per_invocation == pytest.approx(alone.per_invocation, rel=1e-5)
    assert (beside.calm, alone.calm) == (False, True)
    assert beside.tick_ns == 200_000  # of the clock of CPU time, not of wall time


def test_needed_is_what_came_before_the_batches_that_agree_with_the_last() -> None:
    batches = [
        Batch(n, (t, t), 0, 1, True) for n, t in ((1, 90.0), (2, 30.0), (4, 10.1), (8, 10.0))
    ]
    assert warm_up_needed(batches) == 7
    assert warm_up_needed(batches[:1]) == 1
    assert warm_up_needed([batches[0], batches[3]]) == 9


@pytest.mark.parametrize("budget", [1.5, 2.5, 6.0, 15.0])
@pytest.mark.parametrize("sparse_ns", [5e3, 3e5, 7e6, 9e7])
@pytest.mark.parametrize("first", [0.15, 0.8])
def test_the_budget_is_never_exceeded(budget: float, sparse_ns: float, first: float) -> None:
    """Nobody knows beforehand what the start and the first invocation take; they fit here."""
    for seed in range(5):
        scripted = machine(1.0, sparse_ns, start=first, jitter=0.2, rng=random.Random(seed))
        result = raced(scripted, budget=budget, seed=seed)
        while result._series.look():
            pass
        assert result.wall_seconds <= budget
        assert result.wall_seconds == pytest.approx(scripted.now)
        assert scripted.requests[-1] == ("close",)


@pytest.mark.parametrize("budget", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_budget_is_kept_on_a_machine_that_becomes_busy(budget: float, threads: int) -> None:
    """What was planned with takes up to thirty times as long, at any point."""
    decided = 0
    for seed in range(20):
        rng = random.Random(seed)
        scripted = machine(1.5, sparse_ns=2e6, jitter=0.3)
        calm = rng.uniform(0, budget)

        def share(_: random.Random, scripted: Machine = scripted, calm: float = calm) -> float:
            return 1.0 if scripted.now < calm else 1 / 30

        scripted.share = share
        result = raced(scripted, budget=budget, seed=seed, threads=threads)
        with contextlib.suppress(Inconclusive):
            assert result.speedup >= 1.2, "never refuted"
            decided += 1
        assert result.wall_seconds <= budget
        assert scripted.now <= budget
        assert scripted.requests[-1] == ("close",)
    assert decided or budget < 8


def test_a_process_that_is_late_is_left_out() -> None:
    scripted = machine(2.0, sparse_ns=5e6)
    scripted.share = lambda _: 1.0 if scripted.now < 4.0 else 0.001
    result = raced(scripted, budget=5.0)
    with pytest.raises(Inconclusive):
        assert result.speedup >= 2.0
    assert result.trials == len(result._series.centres)
    assert result.wall_seconds == pytest.approx(5.0)
    assert result.ratio.low < 2.0 < result.ratio.high


def test_a_budget_that_is_too_small_says_how_much_would_do() -> None:
    scripted = machine(2.0, sparse_ns=5e7)
    poor = raced(scripted, budget=2.0)
    assert poor.as_json()["ratio"] == {
        "value": None, "low": 0.0, "high": None, "confidence": 0.95
    }  # fmt: skip
    error = inconclusive(poor, 1.2)
    assert error.claim.reason == "budget"
    assert "set --sparsity-budget=" in str(error)
    enough = poor.wall_seconds + error.claim.seconds
    assert raced(machine(2.0, sparse_ns=5e7), budget=1.2 * enough).speedup >= 1.2


def test_a_race_reports_what_the_command_line_prints() -> None:
    result = raced(machine(1.5))
    printed = json.loads(json.dumps(result.as_json()))
    assert set(printed) == {
        "target", "unit", "threads", "trials", "wall_seconds", "dense", "sparse", "ratio",
        "verdict", "inputs", "remarks",
    }  # fmt: skip
    assert set(printed["dense"]) == set(printed["sparse"]) == {"median", "low", "high"}
    assert printed["ratio"]["low"] < printed["ratio"]["value"] < printed["ratio"]["high"]
    assert printed["ratio"]["confidence"] == 0.95
    assert (printed["unit"], printed["verdict"]) == ("seconds", "faster")


def test_a_race_keeps_its_claims_its_samples_and_its_metadata() -> None:
    result = raced(machine(1.5))
    assert result.speedup > 1.2
    assert [str(claim) for claim in result.claims] == ["speedup > 1.2"]
    dense, sparse = result.samples
    assert len(dense) == len(sparse) == result.pairs
    assert sorted(dense)[len(dense) // 2] == pytest.approx(result.dense.median, rel=0.01)
    facts = json.loads(json.dumps(result.metadata))
    assert facts["processes"] == 3
    assert facts["version"] == "2.3.0"
    assert 0 < facts["process_spread"] < 0.02


def test_an_emulator_that_cannot_count_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    why = Unsupported("this qemu-aarch64 takes no plugins", "count in a debian:12 container")
    monkeypatch.setattr(Target, "cannot_count", lambda _: why)
    scripted = machine(instructions=lambda _, cost: round(1000 * cost))
    with pytest.raises(Unsupported, match="takes no plugins"):
        start(DENSE, SPARSE, target(scripted, "instructions"), 1, 60, now=scripted.clock)


def test_instructions_are_counted_once_and_exactly() -> None:
    scripted = machine(2.76, instructions=lambda _, cost: round(1000 * cost), layout=0)
    result = start(DENSE, SPARSE, target(scripted, "instructions"), 1, 60, now=scripted.clock)
    assert scripted.opened == 1
    assert result.instruction_ratio >= 2.76
    assert not result.instruction_ratio > 2.76
    assert result.dense.median == 13_800_000
    assert result.verdict == "fewer"
    assert result.as_json()["unit"] == "instructions"
    with pytest.raises(Unsupported, match="an emulated CPU counts instructions"):
        str(result.speedup)
    with pytest.raises(Unsupported, match="does not count instructions"):
        str(raced(machine()).instruction_ratio)


def test_counts_that_do_not_repeat_are_no_counts() -> None:
    scripted = machine(instructions=lambda rng, _: rng.randrange(10**6))
    with pytest.raises(CannotMeasure, match="instruction counts must repeat"):
        start(DENSE, SPARSE, target(scripted, "instructions"), 1, 60, now=scripted.clock)


def test_a_control_that_is_off_is_an_error_and_one_that_may_be_is_not() -> None:
    def control(second: float) -> Race:
        return check_control(DENSE, target(machine(second=second, layout=2e-4)), 1, 10, {})

    assert control(1 + CONTROL_MARGIN / 2).ratio.high < 1
    with pytest.raises(
        CannotMeasure, match=r"raced against itself on litert gave 0\.9\d*, .* instead of 1"
    ):
        control(1.06)
    with pytest.raises(CannotMeasure, match="free it from other work"):
        control(0.94)


def test_the_control_is_raced_once_per_target_and_threads_and_says_what_can_be_resolved() -> None:
    scripted, controls = machine(), Controls()
    where = target(scripted)
    first = check_control(DENSE, where, 1, 10, controls)
    opened = scripted.opened
    assert check_control(DENSE, where, 1, 10, controls) is first
    assert scripted.opened == opened
    check_control(DENSE, where, 2, 10, controls)
    assert scripted.opened > opened
    assert list(controls) == [("litert", 1), ("litert", 2)]
    assert "litert: 10 s tell ratios" in first.resolution(10)
    assert "telling 1.10 from 1.05 takes about" in first.resolution(10)
    assert "1e-09 s are too short for a look" in first.resolution(1e-9)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models whose answers were checked, all of them right."""
    names: list[str] = []
    monkeypatch.setattr(
        pytest_sparsity.diagnosis,
        "check_outputs",
        lambda model, _, **__: names.append(model.path.name),
    )
    return names


def test_the_answers_are_checked_and_the_control_is_raced_before_a_race(checked: list[str]) -> None:
    scripted, controls = machine(), Controls()
    result = race(DENSE, SPARSE, target=target(scripted), controls=controls)
    assert checked == [SPARSE.name]
    assert list(controls) == [("litert", 1)]
    assert result.speedup > 1.2
    # The control does not count towards the race.
    assert result.wall_seconds < scripted.now


def test_a_race_says_what_its_inputs_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    doubt = "the rules say that its outputs are wrong here"
    monkeypatch.setattr(pytest_sparsity.diagnosis, "check_outputs", lambda *_, **__: doubt)
    result = race(DENSE, SPARSE, target=target(machine()), controls=Controls())
    assert doubt in result.remarks
    assert doubt in str(result.as_json()["remarks"])


def test_no_speed_is_measured_of_wrong_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: object, target: object, **_: object) -> None:
        raise WrongOutputs("mlp_sparse.tflite computes wrong outputs")

    monkeypatch.setattr(pytest_sparsity.diagnosis, "check_outputs", wrong)
    scripted = machine()
    with pytest.raises(WrongOutputs):
        race(DENSE, SPARSE, target=target(scripted), controls={})
    assert scripted.opened == 0


def test_a_target_that_lacks_something_says_so_before_anything_starts() -> None:
    lacking = ScriptedTarget(
        "litert", LITERT.record, LITERT.place, lacks=Unsupported("no litert", "pip install it")
    )
    with pytest.raises(Unsupported, match="no litert: pip install it"):
        race(DENSE, SPARSE, target=lacking)


@pytest.mark.parametrize(
    "wrong", [{"threads": 0}, {"budget": 0}, {"confidence": 1.0}, {"target": "litert@z80"}]
)
def test_arguments_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"a race needs|no target is called"):
        race(DENSE, SPARSE, **wrong)


@pytest.mark.slow
def test_a_real_model_against_itself_is_not_refuted_at_ten_per_cent() -> None:
    assert race(DENSE, DENSE, target="litert", controls={}).speedup >= 1 / 1.1


@pytest.mark.slow
def test_two_threads_are_raced_by_wall_time(tmp_path: Path) -> None:
    """Blocks of four at 90 % zeros are 2.7 times as fast with one thread and 1.4 times with two.

    Their kernel uses one thread for a batch of one; the dense kernel uses both.
    """

    def network(encoding: Literal["dense", "block 1x4"]) -> Path:
        rng = np.random.default_rng(0)
        net = Network((1, 1024))
        x = net.input
        for _ in range(4):
            kept = np.repeat(rng.random((1024, 256)) >= 0.9, 4, axis=1)
            weights = np.where(kept, rng.standard_normal((1024, 1024)) / 16, 0)
            x = net.fully_connected(x, weights.astype(np.float32), encoding=encoding)
        net.output(x)
        return net.write(tmp_path / f"{encoding[:5]}.tflite")

    models = network("dense"), network("block 1x4")
    result = race(*models, threads=2, budget=30, controls={})
    assert result.speedup > 1.2
    assert result.clock == "wall"
    assert result.ratio.high / result.ratio.low > 1.005


# ------------------------------------------------------------------------- what is raced is said


@pytest.mark.parametrize("role", ["dense", "sparse"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("unit", ["seconds", "instructions"])
def test_a_model_whose_outputs_are_not_finite_is_not_timed(
    role: str, value: float, unit: str
) -> None:
    scripted = machine(answers={role: [1.0, value]}, instructions=lambda _, ns: round(ns))
    name = {"dense": DENSE.name, "sparse": SPARSE.name}[role]
    with pytest.raises(WrongOutputs, match=f"^{name} computes wrong outputs on litert, .* finite"):
        start(DENSE, SPARSE, target(scripted, unit), 1, 10.0, now=scripted.clock)
    assert not [request for request in scripted.requests if request[0] == "run"]


def test_models_that_give_different_numbers_of_values_are_not_compared() -> None:
    scripted = machine(answers={"sparse": [1.0, 2.0, 3.0]})
    with pytest.raises(ValueError, match="do not compute the same") as caught:
        raced(scripted)
    assert str(caught.value) == (
        f"{DENSE.name} takes 2 and gives 2 values, {SPARSE.name} takes 2 and gives 3 values: "
        "they do not compute the same, so no ratio compares them"
    )


def test_a_race_says_what_was_raced() -> None:
    result = raced(machine())
    assert "x" in result.inputs
    assert result.remarks == ()
    assert result.as_json()["inputs"] == result.metadata["inputs"] == result.inputs


def network(folder: Path, *widths: int, encoding: Any = "dense") -> Model:
    net = Network((1, 8))
    x = net.input
    for width in widths:
        weights = np.ones((width, x.shape[-1]), np.float32)
        weights[:, ::2] = 0
        x = net.fully_connected(x, weights, encoding=encoding)
    net.output(x)
    return Model(net.write(folder / f"{'-'.join(map(str, widths))} {encoding}.tflite"))


def test_what_is_remarkable_about_two_models(tmp_path: Path) -> None:
    dense = network(tmp_path, 16, 4)
    sparse = network(tmp_path, 16, 4, encoding="sparse")
    assert remarks(dense, sparse) == ()
    assert remarks(dense, dense) == (
        "not sparse-encoded: its 50% zeros stand among the other numbers",
    )
    assert remarks(dense, network(tmp_path, 12, 4, encoding="sparse")) == (
        "different network: 2 of 2 operators have weights of another shape",
    )
    assert remarks(dense, network(tmp_path, 16, 8, 4, encoding="sparse")) == (
        "different network: 3 operators, not the 2 of the dense one in their order",
    )


# --------------------------------------------------------------- what the pairs of a race tell


def timed(*rounds: tuple[float, float], wall_over_cpu: float = 1.0, preempted: int = 0) -> Pair:
    """A pair whose (dense, sparse) blocks took so many ns of CPU time."""
    cpu = tuple((round(dense), round(sparse)) for dense, sparse in rounds)
    wall = tuple((round(a * wall_over_cpu), round(b * wall_over_cpu)) for a, b in cpu)
    return Pair({"cpu": cpu, "wall": wall}, ((preempted, preempted),) * len(cpu))


@pytest.mark.parametrize(
    ("wall_over_cpu", "clock"), [(0.5, "cpu"), (0.995, "cpu"), (1.005, "cpu"), (1.03, "wall")]
)
def test_cpu_time_must_not_be_less_than_wall_time(wall_over_cpu: float, clock: str) -> None:
    """More of it is that of other threads, and is left out."""
    pairs = [timed((1e6, 1e6), wall_over_cpu=wall_over_cpu)] * 3
    assert choose_clock(pairs, threads=1)[0] == clock


def test_what_other_threads_take_beside_the_work_is_left_out() -> None:
    """As V8's compiler does in Node, whose CPU time is that of the process."""
    cpu, wall = ((8_000, 4_000), (6_000, 9_000)), ((6_000, 4_100), (6_100, 3_000))
    pair = Pair({"cpu": cpu, "wall": wall}, ((0, 0),) * 2)
    assert pair.times("cpu") == ((6_000, 4_000), (6_000, 3_000))
    assert pair.times("wall") == wall
    assert pair.log_ratio("cpu") == pytest.approx(math.log(1.5 * 2.0) / 2)


def test_of_several_threads_the_fastest_tenth_of_blocks_tells() -> None:
    rng = random.Random(0)
    left_alone = [(1.2e6, 1.0e6), (1.3e6, 1.1e6)]
    others = [(1e6 * rng.uniform(1.5, 6), 1e6 * rng.uniform(1.5, 6)) for _ in range(18)]
    pairs = [timed(*left_alone[:1], *others[:9]), timed(*others[9:], *left_alone[1:])]
    shared = measurement(pairs)
    assert shared.threaded
    assert shared._centre(pairs) == pytest.approx(math.log(1.25 / 1.05))
    ((dense, sparse),) = shared.samples()
    assert (dense, sparse) == pytest.approx((1.25e-4, 1.05e-4))
    # The clock of a browser is wall time, too, but its work is in one thread.
    shared.hello = {"clock": "wall"}
    assert not shared.threaded
    assert shared._centre(pairs) != pytest.approx(math.log(1.25 / 1.05), rel=0.01)
    assert len(list(shared.samples())) == 2


def test_a_short_process_has_one_fastest_block() -> None:
    pairs = [timed((3e6, 1e6), (2e6, 4e6))]
    assert measurement(pairs)._centre(pairs) == pytest.approx(math.log(2))


def measurement(*processes: list[Pair], pairs: int = 4) -> Measurement:
    scripted = machine()
    made = Measurement(
        feed(Model(DENSE)),
        feed(Model(SPARSE)),
        target(scripted),
        1,
        seed=0,
        budget=Budget(math.inf, scripted.clock),
        clock="wall",
    )
    made.plan = Plan(10, 5, pairs, 100, refresh=1, pair_seconds=0.1, start_seconds=0.3)
    made.processes = list(processes)
    return made


@pytest.mark.parametrize(
    ("block_ns", "preempted", "noisy"),
    [(5e6, 1, True), (5e6, 0, False), (3e5, 1, False), (3e5, 0, False)],
)
@pytest.mark.parametrize("clock", ["cpu", "wall"])
def test_only_preempted_blocks_that_are_long_make_a_clock_noisy(
    block_ns: float, preempted: int, noisy: bool, clock: str
) -> None:
    """The kernel's own interrupts hit short blocks, too; their median does not mind."""
    process = [timed(*[(block_ns, block_ns)] * 5, preempted=preempted)] * 4
    made = measurement(*[process] * LOOKS[0])
    made.hello = {"clock": clock}
    assert made._noisy() is noisy


def test_one_block_of_each_model_that_was_left_alone_is_enough_for_several_threads() -> None:
    interrupted = timed(*[(5e6, 5e6)] * 5, preempted=1)
    for left_alone, noisy in (((0, 1), True), ((1, 0), True), ((0, 0), False)):
        once = Pair(interrupted.blocks, (left_alone, *interrupted.preempted[1:]))
        made = measurement(*[[interrupted, once]] * LOOKS[0])
        assert made._noisy() is noisy
        made.hello = {"clock": "wall"}  # where medians tell, most of them must be left alone
        assert made._noisy()


def test_equal_centres_of_processes_do_not_hide_the_spread_of_their_pairs() -> None:
    def of(*ratios: float) -> list[Pair]:
        return [timed((1e6 * ratio, 1e6)) for ratio in ratios]

    def spread_of(*processes: list[Pair]) -> float:
        made = measurement(*processes)
        made.clock = "cpu"
        return made.spread()

    assert spread_of(of(1, 1, 1, 1), of(1, 1, 1, 1)) == 0
    spread = spread_of(of(0.97, 0.99, 1.01, 1.03), of(1.03, 1.01, 0.99, 0.97))
    assert spread == pytest.approx(1.4826 * 0.02 / 2, rel=0.05)
    apart = spread_of(of(1, 1, 1, 1), of(1.1, 1.1, 1.1, 1.1))
    assert apart == pytest.approx(math.log(1.1) / math.sqrt(2), rel=0.01)


# ----------------------------------------------------------------------- a race that takes long


def test_a_model_of_two_seconds_is_decided_or_has_its_price() -> None:
    slow = machine(1.5, sparse_ns=2e9, start=0.3)
    short = raced(slow, budget=8.0)
    assert short.trials == 0
    assert slow.now < 8.0 * 1.5
    error = inconclusive(short, 1.2)
    assert error.claim.reason == "budget"
    total = int(re.findall(r"--sparsity-budget=(\d+)", str(error))[0])
    assert 50 < total < 100
    enough = raced(machine(1.5, sparse_ns=2e9, start=0.3), budget=total)
    assert enough.trials >= LOOKS[0]
    assert enough.speedup >= 1.2


def test_with_several_threads_little_is_spent_on_warming_up() -> None:
    """Wall times of a busy machine never settle, and nothing is compiled that could."""
    busy = machine(1.0, sparse_ns=1e5, share=lambda rng: rng.uniform(0.1, 1.0))
    result = raced(busy, threads=2, budget=8.0)
    plan = result._measurement.plan
    assert plan is not None
    assert plan.warm_up * 1e5 < 2 * NATIVE_LIMIT_NS
    while result._series.look():
        pass
    assert result.trials >= LOOKS[1]


@pytest.mark.parametrize(
    "options",
    [
        {"threads": 0},
        {"threads": 100_000},
        {"budget": 0.0},
        {"budget": math.nan},
        {"budget": math.inf},
        {"confidence": math.nan},
        {"confidence": 1.0},
    ],
)
def test_arguments_without_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^a race needs .* threads, .* confidence < 1, not"):
        race(DENSE, SPARSE, target=target(machine()), **options)
