"""The processes of a race: fresh interpreters in pairs, timed block by block.

A process creates several pairs of fresh interpreters and times short blocks of both in random
order. How it measures is decided by the pilot in the first process, and is the same in all.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import CannotMeasure
from pytest_sparsity.estimate import LOOKS, Stop, hodges_lehmann
from pytest_sparsity.targets import seeded_inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pytest_sparsity.targets import Blocks, Target, Worker

# A block lasts at least this long and this many ticks of its clock: reading the clocks costs less
# than 0.5 us, and a tick more or less is then 0.1 %.
BLOCK_NS = 200_000
BLOCK_TICKS = 1000
# Rounds per pair for blocks shorter and longer than 1 ms. More than that only repeats what a
# fresh pair would tell better; fewer leave the median to a preempted block.
ROUNDS_SHORT, ROUNDS_LONG = 10, 5
# Kalibera and Jones: pairs per process = sqrt(cost of a process / cost of a pair) times the ratio
# of the standard deviations of pairs and of processes: 1.8 % and 0.5 % for a 5 us model, 0.7 %
# and 0.2 % for a 7 ms one (measured with tflite-runtime 2.14 and LiteRT 2.3 on a Zen 5).
PAIR_SPREAD = 3.5
PAIRS_MIN, PAIRS_MAX = 3, 24
# Share of the budget that the first look may take; if need be there are fewer pairs for it.
FIRST_LOOK = 0.6
# What is about to be started may take this many times what it took in the pilot.
SLACK = 1.5
# A fresh process is warm once two consecutive batches agree this well for both models. A batch is
# long enough to see a JIT compiler at work, and a process that never settles is used after a while.
SETTLED = 0.03
BATCH_NS = 10_000_000
WARM_UP_LIMIT_NS = 2_000_000_000
# CPU time covers the work if it equals wall time this well in blocks that nobody interrupted.
COVERED = 0.01
# Wall time says little if more than this share of blocks, long enough to be interrupted by a
# neighbour rather than by the kernel, was preempted.
NOISY_SHARE, NOISY_BLOCK_NS = 0.3, 2_000_000

Couple = tuple[int, int]  # (dense, sparse)


@dataclass(frozen=True)
class Plan:
    """How every process of a race measures.

    Attributes:
        invocations: per block, the same for both models.
        rounds: per pair; a round is a block of each model in random order.
        pairs: per process.
        warm_up: untimed invocations of each model in a fresh process.
        clock: `"cpu"` or `"wall"`.
        reason: why this clock.
        pair_seconds: what a pair cost in the pilot.
        start_seconds: what starting and warming up a process costs.
    """

    invocations: int
    rounds: int
    pairs: int
    warm_up: int
    clock: str
    reason: str
    pair_seconds: float
    start_seconds: float

    @property
    def process_seconds(self) -> float:
        """What one process costs."""
        return self.start_seconds + self.pairs * self.pair_seconds


@dataclass(frozen=True)
class Pair:
    """The blocks of two fresh interpreters.

    Attributes:
        blocks: clock (`"wall"`, `"cpu"`, `"instructions"`) to (dense, sparse) per round, ns or
            instructions.
        preempted: involuntary context switches per round.
    """

    blocks: Mapping[str, tuple[Couple, ...]]
    preempted: tuple[Couple, ...]

    def log_ratio(self, clock: str) -> float:
        """Return the median over rounds of ln(dense / sparse)."""
        return median(math.log(dense / sparse) for dense, sparse in self.blocks[clock])

    def per_inference(self, plan: Plan) -> tuple[float, float]:
        """Return the median of both models per inference, in seconds or instructions."""
        dense, sparse = zip(*self.blocks[plan.clock], strict=True)
        unit = (1.0 if plan.clock == "instructions" else 1e-9) / plan.invocations
        return median(dense) * unit, median(sparse) * unit

    def wall_over_cpu(self, *, undisturbed: bool) -> list[float]:
        """Return wall time over CPU time per block, of all blocks or those nobody interrupted."""
        rounds = zip(self.blocks["wall"], self.blocks["cpu"], self.preempted, strict=True)
        return [
            wall / cpu if cpu else math.inf
            for walls, cpus, counts in rounds
            for wall, cpu, switches in zip(walls, cpus, counts, strict=True)
            if not (undisturbed and switches)
        ]


@dataclass
class Trials:
    """The processes of one race, started on demand.

    Attributes:
        plan: how they measure; None before the pilot.
        processes: the pairs of every complete process.
        hello: what the first worker said of itself.
    """

    dense: Path
    sparse: Path
    target: Target
    threads: int
    seed: int
    deadline: float
    clock: Callable[[], float]
    plan: Plan | None = None
    processes: list[list[Pair]] = field(default_factory=list)
    hello: Mapping[str, Any] = field(default_factory=dict)

    def draw(self) -> float:
        """Run one fresh process and return the centre of its pairs' log ratios.

        Raises:
            Stop: the budget has no room for its pairs, or the clock is too noisy to go on.
        """
        if self._noisy():
            raise Stop("noisy clock")
        begun = self.clock()
        if self.plan:
            self._leave_unless_room(self.plan.start_seconds, self.plan)
        rng = random.Random(f"{self.seed} {len(self.processes)}")
        with self.target.open(threads=self.threads) as worker:
            self.hello = self.hello or worker.hello
            lanes = Lanes(worker, self.dense, self.sparse, rng)
            pairs = []
            if self.plan is None:
                self.plan, pair = self._pilot(lanes, begun)
                pairs.append(pair)
            else:
                lanes.warm_up(self.plan.warm_up)
            while len(pairs) < self.plan.pairs:
                self._leave_unless_room(self.plan.pair_seconds, self.plan)
                pairs.append(lanes.pair(self.plan.invocations, self.plan.rounds))
        self.processes.append(pairs)
        return float(hodges_lehmann([pair.log_ratio(self.plan.clock) for pair in pairs]))

    def count(self) -> float:
        """Count the instructions of one invocation of each model; return the log ratio.

        Raises:
            CannotMeasure: a second count of the same model differs.
        """
        with self.target.open(threads=self.threads) as worker:
            self.hello = worker.hello
            lanes = Lanes(worker, self.dense, self.sparse, random.Random(self.seed))
            pair = lanes.pair(1, rounds=2)
        counts = pair.blocks["instructions"]
        if len(set(counts)) > 1:
            raise CannotMeasure(
                f"{self.target} counted {counts[0]} and then {counts[1]} instructions of dense and "
                "sparse: instruction counts must repeat; run with threads=1"
            )
        self.plan = Plan(1, len(counts), 1, 1, "instructions", "counted by the emulator", 0, 0)
        self.processes.append([pair])
        return pair.log_ratio("instructions")

    def _pilot(self, lanes: Lanes, begun: float) -> tuple[Plan, Pair]:
        """Warm up, and choose the plan from what one invocation, one pair and the start cost."""
        warm_up, batch = lanes.settle(self.threads, self.clock, self.deadline)
        invocations = invocations_per_block(batch)
        warm = self.clock()
        fastest = min(batch.per_invocation) * invocations
        rounds = ROUNDS_SHORT if fastest < 1e6 else ROUNDS_LONG
        expected = 2 * (rounds + 1) * (invocations + 1) * max(batch.per_invocation) / 1e9
        if warm + SLACK * expected > self.deadline:
            raise Stop("budget", warm - begun + PAIRS_MIN * expected)
        pair = lanes.pair(invocations, rounds)
        pair_seconds = self.clock() - warm
        clock, reason = choose_clock(pair, self.threads)
        start = warm - begun
        room = self.deadline - begun
        pairs = pairs_per_process(start, pair_seconds, room)
        plan = Plan(invocations, rounds, pairs, warm_up, clock, reason, pair_seconds, start)
        return plan, pair

    def _leave_unless_room(self, seconds: float, plan: Plan) -> None:
        if self.clock() + SLACK * seconds > self.deadline:
            raise Stop("budget", plan.process_seconds)

    def _noisy(self) -> bool:
        if self.plan is None or self.plan.clock == "cpu" or len(self.processes) < LOOKS[0]:
            return False
        long = median(min(block) for pair in self.pairs() for block in pair.blocks["wall"])
        return long > NOISY_BLOCK_NS and self.preempted_share() > NOISY_SHARE

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
        how large it is at least: that of a mean of pairs.
        """
        import numpy as np

        if self.plan is None or len(self.processes) < 2:
            return math.nan
        clock = self.plan.clock
        values = [np.array([pair.log_ratio(clock) for pair in pairs]) for pairs in self.processes]
        between = float(np.std([hodges_lehmann(value) for value in values], ddof=1))
        residuals = np.concatenate([value - np.median(value) for value in values])
        # 1.4826 times the median absolute deviation is a normal's standard deviation.
        pair = 1.4826 * float(np.median(np.abs(residuals)))
        return max(between, pair / math.sqrt(self.plan.pairs))


@dataclass(frozen=True)
class Batch:
    """One batch of invocations of both models: ns per invocation, and the clock's tick in ns."""

    per_invocation: tuple[float, float]
    tick_ns: int


class Lanes:
    """Pairs of fresh interpreters in one worker.

    Two interpreters of one file differ by a per cent or two for their lifetime, with where the
    allocator happened to put them. So addresses are varied: sizes of padding are random, and the
    pair before is unloaded now before, now after the next is created.
    """

    def __init__(self, worker: Worker, dense: Path, sparse: Path, rng: random.Random) -> None:
        self._worker = worker
        self._paths = {"dense": dense, "sparse": sparse}
        self._rng = rng
        self._created = 0
        self._dense_first = rng.random() < 0.5
        self._loaded: tuple[str, ...] = ()
        self._inputs: dict[str, tuple[NDArray[Any], ...]] = {}

    def settle(
        self, threads: int, clock: Callable[[], float], deadline: float
    ) -> tuple[int, Batch]:
        """Invoke both models until two consecutive batches agree; return how often, and the last.

        Raises:
            Stop: the deadline has passed.
        """
        keys = self._fresh()
        invocations, total, spent = 1, 0, 0
        last: tuple[float, float] | None = None
        while True:
            blocks = self._worker.run([(key, invocations) for key in keys], warm=0)
            times = blocks.cpu_ns if threads == 1 else blocks.wall_ns
            now = (times[0] / invocations, times[1] / invocations)
            total += invocations
            spent += sum(blocks.wall_ns)
            settled = last and all(
                abs(a - b) <= SETTLED * b for a, b in zip(now, last, strict=True)
            )
            if settled or spent > WARM_UP_LIMIT_NS:
                return total, Batch(now, math.gcd(*times))
            if clock() > deadline:
                raise Stop("budget", spent / 1e9)
            invocations = max(1, math.ceil(BATCH_NS / max(min(now), 1)))
            last = now

    def warm_up(self, invocations: int) -> None:
        """Invoke both models in a fresh process as often as the pilot needed."""
        self._worker.run([(key, invocations) for key in self._fresh()], warm=0)

    def pair(self, invocations: int, rounds: int) -> Pair:
        """Create two fresh interpreters and time their rounds; the first round is thrown away."""
        dense, sparse = self._fresh()
        orders = [self._rng.random() < 0.5 for _ in range(rounds + 1)]
        blocks = self._worker.run(
            [
                (key, invocations)
                for dense_first in orders
                for key in ((dense, sparse) if dense_first else (sparse, dense))
            ]
        )
        return _as_pair(blocks, orders)

    def _fresh(self) -> tuple[str, str]:
        """Load both models under new names, the first now dense, now sparse."""
        old, late = self._loaded, self._rng.random() < 0.5
        if not late:
            self._unload(old)
        keys = {role: f"{role} {self._created}" for role in self._paths}
        roles = ("dense", "sparse") if self._dense_first else ("sparse", "dense")
        for role in roles:
            sizes = [self._rng.randrange(16, 20_000) for _ in range(self._rng.randrange(1, 8))]
            signature = self._worker.load(keys[role], self._paths[role], pad=sizes)
            if role not in self._inputs:
                self._inputs[role] = seeded_inputs(signature, 0)
            self._worker.set_inputs(keys[role], self._inputs[role])
        if late:
            self._unload(old)
        self._created += 1
        self._dense_first = not self._dense_first
        self._loaded = (keys["dense"], keys["sparse"])
        return keys["dense"], keys["sparse"]

    def _unload(self, keys: tuple[str, ...]) -> None:
        for key in keys:
            self._worker.unload(key)


def _as_pair(blocks: Blocks, orders: Sequence[bool], dropped: int = 1) -> Pair:
    """Sort blocks into rounds of (dense, sparse), without the first `dropped` rounds."""

    def rounds(values: Sequence[int]) -> tuple[Couple, ...]:
        couples = zip(values[::2], values[1::2], orders, strict=True)
        return tuple((a, b) if first else (b, a) for a, b, first in couples)[dropped:]

    times = {"wall": rounds(blocks.wall_ns), "cpu": rounds(blocks.cpu_ns)}
    if blocks.instructions:
        times["instructions"] = rounds(blocks.instructions)
    return Pair(times, rounds(blocks.preempted))


def invocations_per_block(batch: Batch) -> int:
    """Return how many invocations make a block long enough, for the faster model."""
    length = max(BLOCK_NS, BLOCK_TICKS * batch.tick_ns)
    return math.ceil(length / max(min(batch.per_invocation), 1))


def pairs_per_process(start_seconds: float, pair_seconds: float, room: float) -> int:
    """Return the number of pairs that tells most per second, as far as the first look has room.

    Args:
        start_seconds: cost of starting and warming up a process.
        pair_seconds: cost of creating and timing a pair.
        room: seconds that are left of the budget.
    """
    wanted = round(PAIR_SPREAD * math.sqrt(start_seconds / pair_seconds))
    affordable = int((FIRST_LOOK * room / LOOKS[0] - start_seconds) / pair_seconds)
    return max(1, min(max(wanted, PAIRS_MIN), PAIRS_MAX, affordable))


def choose_clock(pair: Pair, threads: int) -> tuple[str, str]:
    """Return `"cpu"` or `"wall"`, and why.

    CPU time does not see the neighbours, but it is latency only if the work runs in one thread and
    on the CPU. In blocks that nobody interrupted it must then equal wall time; if every block was
    interrupted, the least disturbed one is asked.
    """
    if threads > 1:
        return "wall", "several threads work at once"
    quiet = pair.wall_over_cpu(undisturbed=True)
    ratio = median(quiet) if quiet else min(pair.wall_over_cpu(undisturbed=False))
    if abs(ratio - 1) <= COVERED:
        return "cpu", "one thread, and CPU time covers the work"
    return "wall", f"CPU time does not cover the work: wall time is {ratio:.3g} times as long"
