"""Which of XNNPACK's microkernels a model really runs on a target, by name: their trace.

A place that can tell which functions of the runtime's library an inference executes says so; the
names are those of the library's symbol table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.errors import CannotTrace, ModelError, Unsupported
from pytest_sparsity.targets import Target

if TYPE_CHECKING:
    import os

# XNNPACK's convention, e.g. xnn_f32_spmm_minmax_ukernel_32x1__neonfma_pipelined.
_MICROKERNEL = re.compile(r"xnn_\w+_ukernel_\w+")


@dataclass(frozen=True)
class Microkernel:
    """A microkernel that ran.

    Attributes:
        name: its name in XNNPACK.
        instructions: how many of its instructions one inference executes; None where it is only
            known that it was reached.
    """

    name: str
    instructions: int | None


def microkernels(target: str | Target, model: str | os.PathLike[str]) -> tuple[Microkernel, ...]:
    """Return the microkernels that run in one inference of a model, those with most work first.

    Args:
        target: an emulated target, or a Python runtime of this machine.
        model: the `.tflite` file.

    Returns:
        Nothing if XNNPACK runs nothing of the model.

    Raises:
        ModelError: there is no such file.
        CannotTrace: the names cannot be had on this target, or a tool is missing.
        Unsupported: the target itself cannot run here.
        TargetError: the target fails on the model.
    """
    target, path = Target.of(target), Path(model)
    if not path.exists():
        raise ModelError(f"{path}: No such file or directory")
    missing = target.missing()
    if missing is not None:
        raise missing
    try:
        counts = target.place.functions(target.record, path)
    except Unsupported as error:
        raise CannotTrace(error.reason, error.remedy, target.name) from None
    found = [Microkernel(name, n) for name, n in counts.items() if _MICROKERNEL.fullmatch(name)]
    return tuple(sorted(found, key=lambda kernel: (-(kernel.instructions or 0), kernel.name)))
