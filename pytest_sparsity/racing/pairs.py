"""Pairs: two fresh interpreters, timed against each other in short blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from pytest_sparsity.racing.entrants import check_finite, check_signatures

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_sparsity.inputs import Feed
    from pytest_sparsity.targets import Blocks, Signature, Worker

Couple = tuple[int, int]  # (dense, sparse)
# Share of a process' blocks that tell what several threads take; see `fastest`.
FASTEST = 0.1


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

    def times(self, clock: str) -> tuple[Couple, ...]:
        """Return (dense, sparse) per round by a clock; by CPU time, no more than by wall time.

        What the CPU time of a whole process, as in Node, has beyond wall time is that of other
        threads: a JIT compiler's, or a garbage collector's.
        """
        if clock != "cpu":
            return self.blocks[clock]
        rounds = zip(self.blocks["cpu"], self.blocks["wall"], strict=True)
        return tuple((min(a, x), min(b, y)) for (a, b), (x, y) in rounds)

    def log_ratio(self, clock: str) -> float:
        """Return the median over rounds of ln(dense / sparse)."""
        return median(math.log(dense / sparse) for dense, sparse in self.times(clock))

    def medians(self, clock: str) -> tuple[float, float]:
        """Return the median over rounds of what a block took, of dense and of sparse."""
        dense, sparse = zip(*self.times(clock), strict=True)
        return median(dense), median(sparse)

    def wall_over_cpu(self, *, undisturbed: bool) -> list[float]:
        """Return wall time over CPU time per block, of all blocks or those nobody interrupted."""
        rounds = zip(self.blocks["wall"], self.blocks["cpu"], self.preempted, strict=True)
        return [
            wall / cpu if cpu else math.inf
            for walls, cpus, counts in rounds
            for wall, cpu, switches in zip(walls, cpus, counts, strict=True)
            if not (undisturbed and switches)
        ]


def fastest(pairs: Sequence[Pair], clock: str) -> tuple[float, float]:
    """Return the mean of the fastest tenth of dense's blocks, and of sparse's, one at least.

    Neighbours only ever add to wall time, and what they add to several threads can stay for a whole
    pair, so that the blocks they left alone tell more than a median (Chen and Revels 2016, "Robust
    benchmarking in noisy environments", take the least one). Of a model with itself in two threads,
    a process' value had a standard deviation of 9.6 % by medians and of 1.5 % by these beside a
    load generator, and of 0.35 and 0.37 % on a quiet machine (LiteRT 2.3.0, two CPUs of a Zen 5).
    """
    dense, sparse = zip(*(block for pair in pairs for block in pair.blocks[clock]), strict=True)
    count = max(round(FASTEST * len(dense)), 1)
    return fmean(sorted(dense)[:count]), fmean(sorted(sparse)[:count])


class Interpreters:
    """The interpreters of one worker, a fresh one of each model at a time.

    Two interpreters of one file differ by a per cent or two for their lifetime, with where the
    allocator happened to put them. So addresses are varied: sizes of padding are random, and the
    pair before is unloaded now before, now after the next is created.
    """

    def __init__(self, worker: Worker, dense: Feed, sparse: Feed, rng: random.Random) -> None:
        self.worker = worker
        self._feeds = {"dense": dense, "sparse": sparse}
        self._rng = rng
        self._created = 0
        self._dense_first = rng.random() < 0.5
        self._loaded: tuple[str, ...] = ()
        self._inputs: dict[str, tuple[NDArray[Any], ...]] = {}
        self._signatures: dict[str, Signature] = {}

    def check(self, target: str) -> None:
        """Make sure that both models can be compared and give numbers.

        Raises:
            ValueError, WrongOutputs: see `entrants`.
        """
        keys = self.fresh()
        models = [fed.model for fed in self._feeds.values()]
        check_signatures(models, [self._signatures[role] for role in self._feeds])
        if self.worker.hello.get("outputs") is False:
            self.worker.run([(key, 1) for key in keys], warm=0)
            return
        for key, model in zip(keys, models, strict=True):
            check_finite(model, self.worker.outputs(key), target)

    def pair(self, invocations: int, rounds: int, refresh: int) -> Pair:
        """Create two fresh interpreters and time their rounds.

        Args:
            invocations: per block.
            rounds: blocks of each model.
            refresh: untimed invocations before every block.
        """
        dense, sparse = self.fresh()
        orders = [self._rng.random() < 0.5 for _ in range(rounds)]
        blocks = self.worker.run(
            [
                (key, invocations)
                for dense_first in orders
                for key in ((dense, sparse) if dense_first else (sparse, dense))
            ],
            warm=refresh,
        )
        return _as_pair(blocks, orders)

    def fresh(self) -> tuple[str, str]:
        """Load both models under new names, the first now dense, now sparse."""
        old, late = self._loaded, self._rng.random() < 0.5
        if not late:
            self._unload(old)
        keys = {role: f"{role} {self._created}" for role in self._feeds}
        roles = ("dense", "sparse") if self._dense_first else ("sparse", "dense")
        for role in roles:
            sizes = [self._rng.randrange(16, 20_000) for _ in range(self._rng.randrange(1, 8))]
            fed = self._feeds[role]
            signature = self.worker.load(keys[role], fed.model, pad=sizes, shapes=fed.shapes)
            if role not in self._inputs:
                self._signatures[role] = signature
                self._inputs[role] = fed.arrays(0)
            self.worker.set_inputs(keys[role], self._inputs[role])
        if late:
            self._unload(old)
        self._created += 1
        self._dense_first = not self._dense_first
        self._loaded = (keys["dense"], keys["sparse"])
        return keys["dense"], keys["sparse"]

    def _unload(self, keys: tuple[str, ...]) -> None:
        for key in keys:
            self.worker.unload(key)


def _as_pair(blocks: Blocks, orders: Sequence[bool]) -> Pair:
    """Sort blocks into rounds of (dense, sparse)."""

    def rounds(values: Sequence[int]) -> tuple[Couple, ...]:
        couples = zip(values[::2], values[1::2], orders, strict=True)
        return tuple((a, b) if first else (b, a) for a, b, first in couples)

    times = {"wall": rounds(blocks.wall_ns), "cpu": rounds(blocks.cpu_ns)}
    if blocks.instructions:
        times["instructions"] = rounds(blocks.instructions)
    return Pair(times, rounds(blocks.preempted))
