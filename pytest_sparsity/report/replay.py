"""A race's samples fed into pytest-benchmark, through what it documents and nothing else.

pytest-benchmark times a function itself. With a timer of our own, which the marker `benchmark`
sets, and `pedantic`'s `setup`, it times a function that takes exactly as long as a sample did:

    timer=clock; per round: setup() sets the clock to 0, the target sets it to the next sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class ReplayClock:
    """A timer that reads what the last replayed sample took, in seconds."""

    __name__ = "pytest_sparsity.replay"  # what pytest-benchmark's JSON calls the timer

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def replay(
    benchmark: Any, clock: ReplayClock, samples: Sequence[float], extra_info: dict[str, Any]
) -> None:
    """Let pytest-benchmark time `samples`, in seconds, one per round, and note `extra_info`."""
    waiting = iter(samples)

    def rewind() -> None:
        clock.now = 0.0

    def pass_by() -> None:
        # After the last round pytest-benchmark calls once more, untimed.
        clock.now = next(waiting, 0.0)

    benchmark.extra_info.update(extra_info)
    benchmark.pedantic(pass_by, setup=rewind, rounds=len(samples))
