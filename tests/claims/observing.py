"""What targets do, beside what the rules say of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pytest_sparsity import xnnpack
from pytest_sparsity.diagnosis import Observer
from pytest_sparsity.model import Model
from pytest_sparsity.targets import Target


@contextmanager
def observing(name: str) -> Iterator[Observer]:
    """An observer of a target; `Unsupported` where the target is missing."""
    target = Target.of(name)
    missing = target.missing()
    if missing is not None:
        raise missing
    with Observer(target) as observer:
        yield observer


def rules(model: Model, target: Target) -> xnnpack.Analysis:
    """What the rules alone say."""
    facts = (target.version(), target.arch, target.features)
    return xnnpack.analyse(model, target.record.rules, *facts)
