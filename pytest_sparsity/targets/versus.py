"""Two targets at once: the first model of a race runs on one, the second on the other."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pytest_sparsity.targets.answered import Blocks
from pytest_sparsity.targets.target import Target
from pytest_sparsity.targets.worker_process import Worker

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pytest_sparsity.errors import Unsupported
    from pytest_sparsity.model import Model
    from pytest_sparsity.targets.answered import Signature

# What a race calls the interpreters of its first model begins with this.
FIRST = "dense"


@dataclass(frozen=True)
class Versus(Target):
    """Two targets on which two models are raced; for all else it is the second one.

    Attributes:
        pair: the targets of the first and of the second model.
    """

    pair: tuple[Target, Target] = field(kw_only=True, compare=False)

    @classmethod
    def between(cls, first: Target, second: Target) -> Versus:
        """Return the two as one.

        Raises:
            ValueError: one counts instructions and the other measures time.
        """
        if first.unit != second.unit:
            raise ValueError(
                f"{first} counts {first.unit} and {second} {second.unit}, so no race is possible"
            )
        name = f"{first} vs {second}"
        return cls(name, second.record, second.place, pair=(first, second))

    @property
    def sides(self) -> tuple[Target, Target]:
        """The targets of the first and of the second model."""
        return self.pair

    @property
    def control(self) -> Target:
        """Where a model raced against itself must give 1: twice the first target."""
        return Versus.between(self.pair[0], self.pair[0])

    def missing(self) -> Unsupported | None:
        """Return what either of them lacks."""
        return self.pair[0].missing() or self.pair[1].missing()

    def cannot_count(self) -> Unsupported | None:
        """Say why either of them cannot count, or None."""
        return self.pair[0].cannot_count() or self.pair[1].cannot_count()

    def version(self) -> str:
        """Return the versions of both."""
        return _both(*(side.version() for side in self.pair))

    def open(self, *, threads: int = 1, timeout: float | None = None) -> Worker:
        """Start a worker on each, and return them as one."""
        first, second = self.pair
        one = first.open(threads=threads, timeout=timeout)
        try:
            return _Workers(one, second.open(threads=threads, timeout=timeout))
        except BaseException:
            one.close()
            raise


def _both(first: str, second: str) -> str:
    return first if first == second else f"{first} vs {second}"


class _Workers(Worker):
    """Two workers that are used like one: the name of a model says whose it is."""

    def __init__(self, first: Worker, second: Worker) -> None:
        self._first, self._second = first, second
        self.threads = first.threads
        self.hello: dict[str, Any] = {
            name: _both(str(value), str(second.hello.get(name)))
            for name, value in first.hello.items()
        }

    def _of(self, key: str) -> Worker:
        return self._first if key.startswith(FIRST) else self._second

    @property
    def pid(self) -> int:
        """The second child's process id."""
        return self._second.pid

    @property
    def ended(self) -> bool:
        """Whether one of them is gone."""
        return self._first.ended or self._second.ended

    @property
    def conditions(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """What either machine told; those of two are not compared with each other."""
        return self._first.conditions or self._second.conditions

    def __repr__(self) -> str:
        return f"<{self._first!r} and {self._second!r}>"

    def load(self, key: str, model: str | os.PathLike[str] | Model, **options: Any) -> Signature:
        """Load a model where it belongs."""
        return self._of(key).load(key, model, **options)

    def set_inputs(self, key: str, arrays: Sequence[NDArray[Any]]) -> None:
        """Set the inputs of a model."""
        self._of(key).set_inputs(key, arrays)

    def outputs(self, key: str) -> tuple[NDArray[Any], ...]:
        """Invoke a model once and return its outputs."""
        return self._of(key).outputs(key)

    def run(self, blocks: Sequence[tuple[str, int]], warm: int = 1) -> Blocks:
        """Time blocks in the order given; the worker whose turn it is not waits."""
        parts = [
            worker.run(list(mine), warm)
            for worker, mine in groupby(blocks, key=lambda block: self._of(block[0]))
        ]
        columns: dict[str, Any] = {}
        for column in dataclasses.fields(Blocks):
            values = [getattr(part, column.name) for part in parts]
            columns[column.name] = None if None in values else sum(values, ())
        return Blocks(**columns)

    def profile(self, key: str, invocations: int = 10) -> list[tuple[str, int]]:
        """Return the operators of a model."""
        return self._of(key).profile(key, invocations)

    def unload(self, key: str) -> None:
        """Free a model."""
        self._of(key).unload(key)

    def close(self) -> None:
        """End both children."""
        self._first.close()
        self._second.close()
