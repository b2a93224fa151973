"""Where a model runs: the targets, and the workers that they open.

A target is `RUNTIME` or `RUNTIME@HOST`: a runtime at a place. A runtime is a record (`runtimes`); a
place is an object that says how a worker is started there (`places`); every worker is a child
process that answers the protocol of `worker`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity.targets.answered import (
    Blocks,
    InvocationError,
    LoadError,
    Signature,
    TensorSpec,
    UnwrittenOutput,
)
from pytest_sparsity.targets.child import EndedError, Launch
from pytest_sparsity.targets.places import Place
from pytest_sparsity.targets.places.native import Native
from pytest_sparsity.targets.runtimes import Runtime
from pytest_sparsity.targets.target import (
    Target,
    Where,
    all_targets,
    available_targets,
    connected_targets,
    install,
    register,
    unregister,
)
from pytest_sparsity.targets.worker_process import Worker

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Blocks",
    "EndedError",
    "InvocationError",
    "Launch",
    "LoadError",
    "Native",
    "Place",
    "Runtime",
    "Signature",
    "Target",
    "TensorSpec",
    "UnwrittenOutput",
    "Where",
    "Worker",
    "all_targets",
    "available_targets",
    "connected_targets",
    "install",
    "register",
    "seeded_inputs",
    "unregister",
]


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
            np.minimum(values, np.nextafter(dtype.type(1), dtype.type(0)), out=values)
            return values
        if dtype.kind in "iu":
            info = np.iinfo(dtype)
            return rng.integers(info.min, info.max, spec.shape, dtype, endpoint=True)
        if dtype.kind == "b":
            return rng.integers(0, 1, spec.shape, np.uint8, endpoint=True).astype(np.bool_)
        raise ValueError(f"cannot draw values of {spec.dtype} for the input {spec.name!r}")

    return tuple(drawn(spec) for spec in signature.inputs)
