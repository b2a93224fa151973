"""Tiny models whose outputs tell what a runtime does on a CPU, whatever it is built from."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.children import scratch_folder
from pytest_sparsity.writer import Network

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pytest_sparsity.targets import Target, Worker

CHANNELS = 8
HUGE = 3e38
"""Times a positive input of one or more: infinite in float32."""
SUBNORMAL = 1e-40
AMPLIFIER = 1e5
"""Makes a normal number of `SUBNORMAL`, and 0 of a subnormal that a kernel flushed."""

_answers: dict[tuple[str, str, str], bool] = {}


@cache
def zero_skip_model() -> bytes:
    """A sparse chain in which one channel becomes infinite and the next layer has zeros for it.

    A kernel that skips zeros never sees the infinity and gives finite numbers; one that
    multiplies gets 0 * inf = nan.
    """
    import numpy as np

    net = Network((1, 8, 8, 3))
    identity = np.eye(CHANNELS, dtype=np.float32)
    overflowing, ignoring = identity.copy(), identity.copy()
    overflowing[0, 0], ignoring[0, 0] = HUGE, 0.0
    x = net.pad(net.input, 1)
    x = net.conv2d(x, np.full((CHANNELS, 3, 3, 3), 0.5, np.float32), stride=2)
    for weights in (overflowing, ignoring):
        x = net.conv2d(x, weights[:, None, None, :], encoding="sparse")
    net.output(net.mean(x))
    return net.to_bytes()


@cache
def flush_model() -> bytes:
    """A fully connected layer with one subnormal weight, whose input is made large first."""
    import numpy as np

    net = Network((1, CHANNELS))
    weights = np.zeros((1, CHANNELS), np.float32)
    weights[0, 0] = SUBNORMAL
    amplified = net.mul(net.input, np.full((CHANNELS,), AMPLIFIER, np.float32))
    net.output(net.fully_connected(amplified, weights))
    return net.to_bytes()


def skips_zeros(target: Target, worker: Worker | None = None) -> bool:
    """Whether the target runs sparse kernels when a model qualifies for them.

    Asked once per target and version; a worker is started unless one is given.

    Raises:
        TargetError: the target does not run the probe.
        Unsupported: the target cannot run here.
    """
    import numpy as np

    return _ask(target, worker, "zero-skip", zero_skip_model(), lambda y: np.isfinite(y).all())


def flushes_subnormals(target: Target, worker: Worker | None = None) -> bool:
    """Whether the target's default kernels take subnormal weights for zero. Else as above."""
    return _ask(target, worker, "flush", flush_model(), lambda y: not y.any())


def _ask(
    target: Target,
    worker: Worker | None,
    name: str,
    model: bytes,
    judge: Callable[[NDArray[Any]], object],
) -> bool:
    key = (target.name, target.version(), name)
    if key not in _answers:
        if worker is None:
            with target.open() as fresh:
                return _ask(target, fresh, name, model, judge)
        with scratch_folder("models") as folder:
            path = Path(folder) / f"{name}.tflite"
            path.write_bytes(model)
            _answers[key] = bool(judge(_output(worker, name, path)))
    return _answers[key]


def _output(worker: Worker, key: str, path: Path) -> NDArray[Any]:
    import numpy as np

    signature = worker.load(key, path)
    worker.set_inputs(key, [np.ones(spec.shape, spec.dtype) for spec in signature.inputs])
    (output,) = worker.outputs(key)
    worker.unload(key)
    return output
