"""The processes of a race, and the plan that the pilot in the first one makes for all."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import CannotMeasure
from pytest_sparsity.estimate import LOOKS, Budget, Stop, hodges_lehmann, resolvable
from pytest_sparsity.racing.originals import ORIGINALS
from pytest_sparsity.racing.pairs import Interpreters, Pair, fastest
from pytest_sparsity.racing.warm_up import Batch, settle, warm_up_needed
from pytest_sparsity.targets.child import LateError, answers_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_sparsity.inputs import Feed
    from pytest_sparsity.targets import Target

# A block lasts at least this long and this many ticks of its clock: reading the clocks costs less
# than 0.5 us, and a tick more or less is then 0.1 %.
BLOCK_NS = 200_000
BLOCK_TICKS = 1000
# Rounds per pair for blocks shorter than so many ns. More than that only repeats what a fresh pair
# would tell better; fewer leave the median to a preempted block.
ROUNDS = ((2e6, 10), (2e7, 5), (5e8, 3), (math.inf, 1))
# An invocation of so many ns needs no untimed one before: what caches still hold is nothing to it.
LONG_NS = 2e8
# Standard deviation of pairs, in that of processes: 1.8 % and 0.5 % for a 5 us model, 0.7 % and
# 0.2 % for a 7 ms one (tflite-runtime 2.14 and LiteRT 2.3 on a Zen 5).
PAIR_SPREAD = 3.5
PAIRS_MAX = 24
# Share of the budget that is planned with; costs grow when neighbours wake up.
PLANNED = 0.8
# What is about to be started may take this many times what it took in the pilot.
SLACK = 1.5
# CPU time covers the work if wall time is at most so much more in blocks that nobody interrupted.
COVERED = 0.01
# Wall time says little if more than this share of blocks, long enough to be interrupted by a
# neighbour rather than by the kernel, was preempted; that of several threads, if more than this
# share of processes has no other blocks of one of the models.
NOISY_SHARE, NOISY_BLOCK_NS = 0.3, 2_000_000


@dataclass(frozen=True)
class Plan:
    """How every process of a race measures.

    Attributes:
        invocations: per block, the same for both models.
        rounds: per pair; a round is a block of each model in random order.
        pairs: per process.
        warm_up: untimed invocations of each model at the start of a process.
        refresh: untimed invocations before every block.
        pair_seconds: what a pair cost in the pilot.
        start_seconds: what starting and warming up a process costs.
    """

    invocations: int
    rounds: int
    pairs: int
    warm_up: int
    refresh: int
    pair_seconds: float
    start_seconds: float


@dataclass
class Measurement:
    """The processes of one race, started on demand.

    Attributes:
        budget: what the processes may take; the first one tells it what the others will.
        plan: how they measure; None before the pilot.
        clock: `"cpu"`, `"wall"` or `"instructions"`; chosen after the first process.
        clock_reason: why this clock.
        processes: the pairs of every complete process.
        hello: what the first worker said of itself.
        conditions: what the machine told before, between and after the pairs of these processes.
    """

    dense: Feed
    sparse: Feed
    target: Target
    threads: int
    seed: int
    budget: Budget
    plan: Plan | None = None
    clock: str = ""
    clock_reason: str = ""
    processes: list[list[Pair]] = field(default_factory=list)
    hello: Mapping[str, Any] = field(default_factory=dict)
    conditions: list[Mapping[str, Any]] = field(default_factory=list)

    def draw(self) -> float:
        """Run one fresh process and return the centre of its pairs' log ratios.

        One that is not through when the budget ends is ended and left out. That it took too long
        says nothing of its ratio.

        Raises:
            Stop: the budget has no room for its pairs, or the clock is too noisy to go on.
        """
        if self._noisy():
            raise Stop("noisy clock")
        if self.plan:
            self._demand(self.plan.start_seconds)
        try:
            with answers_until(self.budget.deadline):
                pairs = self._pairs()
        except LateError:
            raise Stop("budget") from None
        self.processes.append(pairs)
        if not self.clock:
            clock = str(self.hello.get("clock"))
            self.clock, self.clock_reason = choose_clock(pairs, self.threads, clock)
        return self._centre(pairs)

    @property
    def threaded(self) -> bool:
        """Whether wall time was chosen since several threads do the work."""
        return self.clock == "wall" and self.hello.get("clock") != "wall"

    def _centre(self, pairs: Sequence[Pair]) -> float:
        """Return the log ratio that a process tells."""
        if self.threaded:
            dense, sparse = fastest(pairs, self.clock)
            return math.log(dense / sparse)
        return float(hodges_lehmann([pair.log_ratio(self.clock) for pair in pairs]))

    def _pairs(self) -> list[Pair]:
        """Run one fresh process; the first one also plans for all."""
        rng = random.Random(f"{self.seed} {len(self.processes)}")
        with ORIGINALS.process(self.target, self.threads, self.budget.now) as (worker, begun):
            self.hello = self.hello or worker.hello
            before = max(len(worker.conditions) - 1, 0)
            models = Interpreters(worker, self.dense, self.sparse, rng)
            if self.plan is None:
                self._check(models, begun)
                self.plan, pairs = self._pilot(models, begun)
            else:
                worker.run([(key, self.plan.warm_up) for key in models.fresh()], warm=0)
                pairs = []
            while len(pairs) < self.plan.pairs:
                self._demand(self.plan.pair_seconds)
                plan = self.plan
                pairs.append(models.pair(plan.invocations, plan.rounds, plan.refresh))
            self.conditions += worker.conditions[before:]
        return pairs

    def count(self) -> float:
        """Count the instructions of one invocation of each model; return the ratio.

        Raises:
            Unsupported: the emulator runs the target but cannot count.
            CannotMeasure: a second count of the same model differs.
        """
        unable = self.target.cannot_count()
        if unable is not None:
            raise unable
        with self.target.open(threads=self.threads) as worker:
            self.hello = worker.hello
            rng = random.Random(self.seed)
            models = Interpreters(worker, self.dense, self.sparse, rng)
            models.check(self.target.name)
            pair = models.pair(1, rounds=2, refresh=1)
        counts = pair.blocks["instructions"]
        if len(set(counts)) > 1:
            raise CannotMeasure(
                f"{self.target} counted {counts[0]} and then {counts[1]} instructions of dense and "
                "sparse: instruction counts must repeat; run with threads=1"
            )
        self.plan = Plan(
            1, len(counts), pairs=1, warm_up=1, refresh=1, pair_seconds=0, start_seconds=0
        )
        self.clock, self.clock_reason = "instructions", "the emulator counts them"
        self.processes.append([pair])
        return counts[0][0] / counts[0][1]

    def _check(self, models: Interpreters, begun: float) -> None:
        """Check the models, each invoked once, and tell by that what a process costs at least."""
        opened = self.budget.now()
        models.check(self.target.name)
        once = self.budget.now() - opened
        # Two batches to warm up and one pair.
        self.budget.expected = opened - begun + (2 + ROUNDS[-1][1]) * once
        self._demand(once)

    def _pilot(self, models: Interpreters, begun: float) -> tuple[Plan, list[Pair]]:
        """Warm up, and plan by what an invocation, a pair and the start cost."""
        opened = self.budget.now()
        keys = models.fresh()
        batches = settle(models.worker, keys, self.threads, self._demand)
        warm, batch = self.budget.now(), batches[-1]
        warm_up = warm_up_needed(batches)
        share = warm_up / sum(batch.invocations for batch in batches)
        start = opened - begun + share * (warm - opened)
        invocations = invocations_per_block(batches, models.worker.block_ns)
        block = min(batch.per_invocation) * invocations
        rounds = next(number for longest, number in ROUNDS if block < longest)
        refresh = int(min(batch.per_invocation) < LONG_NS)
        expected = rounds * (invocations + refresh) * sum(batch.per_invocation) / 1e9
        self.budget.expected = start + expected
        self._demand(expected)
        pair = models.pair(invocations, rounds, refresh)
        pair_seconds = self.budget.now() - warm
        pairs = pairs_per_process(start, pair_seconds, self.budget.deadline - warm)
        self.budget.expected = start + pairs * pair_seconds
        return Plan(invocations, rounds, pairs, warm_up, refresh, pair_seconds, start), [pair]

    def _demand(self, seconds: float) -> None:
        """Leave unless the budget has room for what took so many seconds in the pilot."""
        self.budget.demand(SLACK * seconds)

    def _noisy(self) -> bool:
        if self.clock != "wall" or len(self.processes) < LOOKS[0]:
            return False
        long = median(min(block) for pair in self.pairs() for block in pair.blocks["wall"])
        spoilt = self._spoilt_share() if self.threaded else self.preempted_share()
        return long > NOISY_BLOCK_NS and spoilt > NOISY_SHARE

    def _spoilt_share(self) -> float:
        """Return the share of processes in which all blocks of one of the models were preempted."""
        spoilt = 0
        for pairs in self.processes:
            counts = (of_round for pair in pairs for of_round in pair.preempted)
            dense, sparse = zip(*counts, strict=True)
            spoilt += all(dense) or all(sparse)
        return spoilt / len(self.processes)

    def samples(self) -> Iterator[tuple[float, float]]:
        """Yield what one inference of dense and of sparse took, in seconds or instructions.

        One value per pair, or per process where its fastest blocks tell.
        """
        if self.plan is None:
            return
        unit = (1.0 if self.clock == "instructions" else 1e-9) / self.plan.invocations
        for pairs in self.processes:
            if self.threaded:
                values = [fastest(pairs, self.clock)]
            else:
                values = [pair.medians(self.clock) for pair in pairs]
            for dense, sparse in values:
                yield dense * unit, sparse * unit

    def pairs(self) -> Iterator[Pair]:
        """Yield the pairs of all complete processes."""
        for process in self.processes:
            yield from process

    def preempted_share(self) -> float:
        """Return the share of blocks in which another process took the CPU away."""
        flags = [n > 0 for pair in self.pairs() for block in pair.preempted for n in block]
        return sum(flags) / len(flags) if flags else math.nan

    def wall_over_cpu(self) -> float:
        """Return the median over all blocks of wall time over CPU time."""
        ratios = [r for pair in self.pairs() for r in pair.wall_over_cpu(undisturbed=False)]
        return median(ratios) if ratios else math.nan

    def spread(self) -> float:
        """Return the standard deviation of a process' centre (log ratio), NaN if unknown.

        Three processes alone tell it badly. The pairs inside them, of which there are many, tell
        how large it is at least: that of a mean of pairs. The fastest blocks are not of every pair.
        """
        import numpy as np

        if self.plan is None or len(self.processes) < 2:
            return math.nan
        between = float(np.std([self._centre(pairs) for pairs in self.processes], ddof=1))
        if self.threaded:
            return between
        values = [
            np.array([pair.log_ratio(self.clock) for pair in pairs]) for pairs in self.processes
        ]
        residuals = np.concatenate([value - np.median(value) for value in values])
        # 1.4826 times the median absolute deviation is a normal's standard deviation.
        pair = 1.4826 * float(np.median(np.abs(residuals)))
        return max(between, pair / math.sqrt(self.plan.pairs))


def invocations_per_block(batches: Sequence[Batch], least_ns: int = 0) -> int:
    """Return how many invocations make a block long enough, for the faster model and the worker."""
    tick_ns = math.gcd(*(batch.tick_ns for batch in batches))
    length = max(BLOCK_NS, least_ns, BLOCK_TICKS * tick_ns)
    return math.ceil(length / max(min(batches[-1].per_invocation), 1))


def pairs_per_process(start_seconds: float, pair_seconds: float, room: float) -> int:
    """Return the number of pairs with which the budget resolves the smallest effect.

    More pairs make a process tell more, up to what Kalibera and Jones find best for a given cost,
    sqrt(cost of a process / cost of a pair) times the ratio of their spreads; fewer leave room for
    more processes, hence a later look.

    Args:
        start_seconds: cost of starting and warming up a process.
        pair_seconds: cost of creating and timing a pair.
        room: seconds that are left of the budget.
    """
    best = PAIR_SPREAD * math.sqrt(start_seconds / pair_seconds)

    def effect(pairs: int) -> float:
        spread = math.sqrt(PAIR_SPREAD**2 / pairs + 1)
        return resolvable(spread, start_seconds + pairs * pair_seconds, PLANNED * room)

    return min(range(1, min(max(round(best), 3), PAIRS_MAX) + 1), key=effect)


def choose_clock(pairs: Sequence[Pair], threads: int, clock: str = "cpu") -> tuple[str, str]:
    """Return `"cpu"` or `"wall"`, and why.

    CPU time does not see the neighbours, but it is latency only if the work runs in one thread and
    on the CPU. In blocks that nobody interrupted it must then equal wall time. Where there is no
    such block, the machine is busy, and a thread that waits for work done elsewhere is not what
    gets interrupted.

    Args:
        pairs: of the first process.
        threads: of the models.
        clock: what the worker says that its clock is; "wall" where it has none of CPU time.
    """
    if threads > 1:
        return "wall", "several threads work at once"
    if clock == "wall":
        return "wall", "there is no clock of CPU time there"
    quiet = [ratio for pair in pairs for ratio in pair.wall_over_cpu(undisturbed=True)]
    if not quiet:
        return "cpu", "one thread, interrupted in every block"
    ratio = median(quiet)
    if ratio <= 1 + COVERED:
        return "cpu", "one thread, and CPU time covers the work"
    return "wall", f"CPU time does not cover the work: wall time is {ratio:.3g} times as long"
