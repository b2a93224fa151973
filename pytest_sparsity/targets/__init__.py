"""Where a model runs: the targets, and the workers that they open.

A target is `RUNTIME` or `RUNTIME@HOST`. Every target starts a child process that answers the
protocol of `worker.py`; they differ only in how the child is started. What differs is one module
per kind of target with the functions of `Kind`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pytest_sparsity.targets import emulated, node, python
from pytest_sparsity.targets.child import Launch
from pytest_sparsity.targets.worker_process import (
    Blocks,
    LoadError,
    Signature,
    TensorSpec,
    Worker,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pytest_sparsity.errors import Unsupported

__all__ = [
    "TARGETS",
    "Blocks",
    "Launch",
    "LoadError",
    "Signature",
    "Target",
    "TensorSpec",
    "Worker",
    "available_targets",
    "install",
    "seeded_inputs",
]


class Kind(Protocol):
    """What the module of a kind of target provides; the argument is the target's runtime."""

    def missing(self, runtime: str, /) -> Unsupported | None:
        """Say what is missing and the command that installs it; starts nothing."""
        ...

    def version(self, runtime: str, /) -> str:
        """Return the runtime's version without importing the runtime."""
        ...

    def arch(self, runtime: str, /) -> str:
        """Return `"x86_64"`, `"aarch64"`, `"wasm32"`, ..."""
        ...

    def features(self, runtime: str, /) -> frozenset[str]:
        """Return the CPU features that the runtime sees, as Linux spells them."""
        ...

    def launch(self, runtime: str, threads: int, /) -> Launch:
        """Return how to start the child, after preparing what that needs."""
        ...


_KINDS: dict[str, Kind] = {
    "litert": python,
    "tflite-runtime": python,
    "tensorflow": python,
    "litert-js": node,
    **emulated.KINDS,
}
TARGETS = tuple(_KINDS)

TIMEOUT = 60.0
EMULATED_TIMEOUT = 600.0
"""Seconds; on a busy machine MobileNetV1 took longer than 60 for one answer under QEMU."""


@dataclass(frozen=True)
class Target:
    """Where a model runs.

    Attributes:
        name: e.g. `"litert"` or `"litert@cortex-a53"`.
        runtime: `"litert"`, `"tflite-runtime"`, `"tensorflow"` or `"litert-js"`.
        host: the emulated CPU, or None for this machine.
        unit: what a race counts there, `"seconds"` or `"instructions"`.
    """

    name: str
    runtime: str
    host: str | None = None
    unit: str = "seconds"

    @classmethod
    def of(cls, target: str | Target) -> Target:
        """Return the target of that name, or the target itself.

        Raises:
            ValueError: there is no such target; the message lists them.
        """
        if isinstance(target, Target):
            return target
        if target not in _KINDS:
            raise ValueError(f"no target is called {target!r}; there are {', '.join(TARGETS)}")
        runtime, _, host = target.partition("@")
        return cls(target, runtime, host or None, "instructions" if host else "seconds")

    def __str__(self) -> str:
        return self.name

    def missing(self) -> Unsupported | None:
        """Return what is missing with the command that installs it, or None; starts nothing."""
        return _KINDS[self.name].missing(self.runtime)

    @property
    def available(self) -> bool:
        """Whether nothing is known to be missing."""
        return self.missing() is None

    def cannot_count(self) -> Unsupported | None:
        """Say why an emulated target cannot count instructions although it runs, or None."""
        kind = emulated.KINDS.get(self.name)
        return kind.cannot_count() if kind else None

    def version(self) -> str:
        """Return the runtime's version, or "unknown"; the runtime is not imported."""
        return _KINDS[self.name].version(self.runtime)

    @property
    def arch(self) -> str:
        """The architecture that the runtime's code is for: `"x86_64"`, `"aarch64"`, `"wasm32"`."""
        return _KINDS[self.name].arch(self.runtime)

    @property
    def features(self) -> frozenset[str]:
        """The CPU features that the runtime sees, as Linux spells them."""
        return _KINDS[self.name].features(self.runtime)

    def open(self, *, threads: int = 1, timeout: float | None = None) -> Worker:
        """Start a worker.

        Args:
            threads: threads of the models that the worker loads.
            timeout: seconds that any one answer may take; by default 60, and 600 on an emulated
                CPU.

        Raises:
            Unsupported: something is missing.
            TargetError: the worker does not start.
        """
        missing = self.missing()
        if missing is not None:
            raise missing
        launch = _KINDS[self.name].launch(self.runtime, threads)
        if timeout is None:
            timeout = TIMEOUT if self.host is None else EMULATED_TIMEOUT
        return Worker(self.name, launch, threads=threads, timeout=timeout)


def available_targets() -> tuple[Target, ...]:
    """Return the targets of which nothing is known to be missing."""
    return tuple(target for target in map(Target.of, TARGETS) if target.available)


def install(target: str | Target, progress: Callable[[str], None]) -> None:
    """Set up what a target lacks, as far as that needs no root, and try it.

    Args:
        target: a target or its name.
        progress: gets one line before every step and one at the end.

    Raises:
        ValueError: there is no such target.
        Unsupported: something is missing that only the user can bring; with the command.
        TargetError: everything is there and the worker does not start all the same.
    """
    where = Target.of(target)
    if where.name in emulated.KINDS:
        emulated.install(where.name, progress)
        return
    with where.open() as worker:
        progress(f"{where}: {where.runtime} {worker.hello['version']} runs")


def seeded_inputs(signature: Signature, seed: int) -> tuple[NDArray[Any], ...]:
    """Return inputs drawn by numpy's PCG64: floats from [0, 1), integers from their whole range.

    Raises:
        ValueError: an input is neither of numbers nor of truth values.
    """
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(seed))

    def drawn(spec: TensorSpec) -> NDArray[Any]:
        dtype = np.dtype(spec.dtype)
        if dtype.kind == "f":
            values: NDArray[Any] = rng.random(spec.shape).astype(dtype)
            # Rounding to fewer digits makes a one of what lies just below it.
            return np.minimum(values, np.nextafter(dtype.type(1), dtype.type(0)))
        if dtype.kind in "iu":
            info = np.iinfo(dtype)
            return rng.integers(info.min, info.max, spec.shape, dtype, endpoint=True)
        if dtype.kind == "b":
            return rng.integers(0, 1, spec.shape, np.uint8, endpoint=True).astype(np.bool_)
        raise ValueError(f"cannot draw values of {spec.dtype} for the input {spec.name!r}")

    return tuple(drawn(spec) for spec in signature.inputs)
