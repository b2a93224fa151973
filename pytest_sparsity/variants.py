"""From a Keras network to three `.tflite` files that differ in one thing each."""

from __future__ import annotations

import io
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity import pruning, selection
from pytest_sparsity.converter import Converter
from pytest_sparsity.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from os import PathLike

    from pytest_sparsity.pruning import PrunedWeight, Schedule
    from pytest_sparsity.selection import Network


@dataclass(frozen=True)
class Variants:
    """The three files of one network.

    From `dense` to `pruned` only weights change, from `pruned` to `sparse` only how they are
    stored, and with that the kernels that can run.

    Attributes:
        dense: the network as it was built.
        pruned: with zeros, stored densely.
        sparse: with the same zeros, stored sparsely.
        weights: what became of each weight tensor selected for pruning.
    """

    dense: Model
    pruned: Model
    sparse: Model
    weights: tuple[PrunedWeight, ...]


def _export(model: Network, folder: Path) -> Path:
    """Write a SavedModel; Keras prints its signature, which nobody asked for."""
    with selection.quiet(), redirect_stdout(io.StringIO()):
        model.export(str(folder))
    return folder


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Start Keras afresh and seed all generators; put Python's and numpy's back afterwards."""
    import random

    import numpy as np
    import tf_keras

    states = random.getstate(), np.random.get_state()
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def build_variants(
    build: Callable[[], Network],
    *,
    sparsity: float = 0.8,
    pattern: str = "unstructured",
    policy: Any = "xnnpack",
    schedule: Schedule | Callable[[], Schedule] | None = None,
    finetune: Callable[[Network, list[Any]], object] | None = None,
    quantize: str | None = None,
    representative: Callable[[], Any] | None = None,
    depends: Sequence[str | PathLike[str]] = (),
    seed: int = 0,
    cache: Path | None = None,
    rebuild: bool = False,
) -> Variants:
    """Build, prune and convert a network."""
    import tempfile

    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=cache))
    with closing(Converter()) as converter:
        selection.import_tfmot()
        with seeded(seed):
            model = build()
            selection.check_network(model)
            layers = selection.select_layers(model, policy)
            plan, asked = pruning.resolve_schedule(schedule, sparsity)
            pruning.check_schedule(plan, asked, layers)
            converter.convert(_export(model, folder / "dense"), folder / "dense.tflite")
            before = pruning.values(layers)
            if finetune is None:
                pruning.apply_masks(layers, plan)
                wrappers: dict[int, Any] = {}
            else:
                model, wrappers = pruning.train(model, layers, plan, finetune)
            report = pruning.check_zeros(layers, asked, before, plan, wrappers)
            converter.convert(_export(model, folder / "pruned"), folder / "pruned.tflite")
            converter.sparsify(folder / "pruned.tflite", folder / "sparse.tflite")
    names = ("dense", "pruned", "sparse")
    return Variants(*(Model(folder / f"{name}.tflite") for name in names), report)
