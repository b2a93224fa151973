"""Warming up: invoking both models until neither changes any more."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_sparsity.targets import Blocks, Worker

# The pilot warms up in batches of blocks, each twice as long as the one before. It is warm once the
# last, of some length, no longer changes either model by more than this while no other thread (a
# JIT compiler's) uses more CPU time than this beside them. A process that does not settle in the
# limit is used as it is: its noise is in the interval.
SETTLED = 0.05
WARM_UP_BLOCK_NS = 2_000_000
WARM_UP_BATCH_NS = 30_000_000
WARM_UP_LIMIT_NS = 2_000_000_000
# The same where nothing is compiled while it runs: there is no more to wait for than caches, and
# with several threads and neighbours wall times never agree.
NATIVE_LIMIT_NS = 200_000_000


@dataclass(frozen=True)
class Batch:
    """One batch of equal blocks that alternate between the models.

    Attributes:
        invocations: of each model.
        per_invocation: lower quartile of ns of both models; neighbours only ever slow a block down.
        wall_ns: wall time of all blocks.
        tick_ns: what all times are multiples of: the clock's tick, seen often enough.
        calm: whether no other thread of the process was at work; taken for granted with several.
    """

    invocations: int
    per_invocation: tuple[float, float]
    wall_ns: int
    tick_ns: int
    calm: bool

    @classmethod
    def of(cls, blocks: Blocks, invocations: int, threads: int) -> Batch:
        """Return the batch; one thread is judged by CPU time, several by wall time."""
        times = blocks.cpu_ns if threads == 1 else blocks.wall_ns
        wall = sum(blocks.wall_ns)
        # What is beyond wall time is that of other threads, see `Pair.times`.
        spent = tuple(map(min, times, blocks.wall_ns))
        dense, sparse = (sorted(part)[len(part) // 4] for part in (spent[::2], spent[1::2]))
        return cls(
            invocations * len(times) // 2,
            (dense / invocations, sparse / invocations),
            wall,
            math.gcd(*times),
            threads > 1 or sum(times) <= (1 + SETTLED) * wall,
        )

    def agrees(self, other: Batch) -> bool:
        """Return whether both models took the same in both batches, nearly."""
        both = zip(self.per_invocation, other.per_invocation, strict=True)
        return all(abs(ours - theirs) <= SETTLED * theirs for ours, theirs in both)


def settled(batches: Sequence[Batch], limit_ns: float = WARM_UP_LIMIT_NS) -> bool:
    """Return whether the last batch was long and calm and changed nothing, or time is up."""
    if len(batches) < 2:
        return False
    *_, before, last = batches
    if sum(batch.wall_ns for batch in batches) + 2 * last.wall_ns > limit_ns:
        return True
    return last.wall_ns >= 2 * WARM_UP_BATCH_NS and last.calm and last.agrees(before)


def warm_up_needed(batches: Sequence[Batch]) -> int:
    """Return the invocations through the first batch from which all agree with the last."""
    unsettled = [k for k, batch in enumerate(batches) if not batch.agrees(batches[-1])]
    first = min(max(unsettled, default=-1) + 2, len(batches))
    return sum(batch.invocations for batch in batches[:first])


def settle(
    worker: Worker, keys: Sequence[str], threads: int, needs: Callable[[float], None]
) -> list[Batch]:
    """Invoke both models in batches that double until they settle; return the batches.

    A JIT compiler replaces functions one by one, so equal neighbours prove little; that the
    second half of all invocations took what the quarter before took does.

    Args:
        worker: has both models loaded.
        keys: their names.
        threads: threads of the runtime.
        needs: is told how many seconds the next batch will take, and may raise.
    """
    batches: list[Batch] = []
    compiles = worker.hello.get("compiles") is True
    block_ns = max(WARM_UP_BLOCK_NS, worker.block_ns)
    while not settled(batches, WARM_UP_LIMIT_NS if compiles else NATIVE_LIMIT_NS):
        needs(2e-9 * batches[-1].wall_ns if batches else 0.0)
        fastest = min(batches[-1].per_invocation) if batches else block_ns
        invocations = math.ceil(block_ns / max(fastest, 1))
        blocks = 2 ** max(len(batches) - 1, 0)
        timed = worker.run([(key, invocations) for key in keys] * blocks, warm=0)
        batches.append(Batch.of(timed, invocations, threads))
    return batches
