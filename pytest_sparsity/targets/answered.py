"""What a worker's answers are on the host's side: what a model takes, what was measured, errors."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_sparsity.errors import TargetError


class LoadError(TargetError):
    """The runtime refuses the model; the message ends with the runtime's own last line."""


class InvocationError(TargetError):
    """The runtime reports that an invocation failed; the worker lives."""


class UnwrittenOutput(InvocationError):  # noqa: N818  (an error of the runtime, whatever it is fed)
    """The runtime reports no failure, but an invocation left an output as it was."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and numpy dtype name of an input or an output."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a loaded model, in the order of the file."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Blocks:
    """What `Worker.run` measured: one value per block, of the whole block.

    Attributes:
        wall_ns: wall time, ns.
        cpu_ns: CPU time, ns: of the thread for a model on one thread in Python, else of the child.
        preempted: involuntary context switches, of the same.
        instructions: instructions of the runtime, or None where they are not counted.
    """

    wall_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]
    preempted: tuple[int, ...]
    instructions: tuple[int, ...] | None = None
