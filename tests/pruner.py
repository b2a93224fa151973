from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_sparsity.strategies import Schedule
from pytest_sparsity.variants import networks

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Pruner:
    """TFMOT's own masks, without a training around them."""

    keras: Any

    def prune(
        self, weights: Floats, schedule: Schedule, steps: Sequence[int] = (1,), **options: Any
    ) -> list[Floats]:
        """The weights after the masks are updated at each of the steps."""
        from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl

        tf: Any = import_module("tensorflow")
        with networks.quiet():
            step = tf.Variable(0, dtype=tf.int64)
            weight = tf.Variable(weights)
            states = [(weight, tf.Variable(tf.ones_like(weight)), tf.Variable(0.0))]
            settings = {"block_size": (1, 1), "block_pooling_type": "AVG"} | options
            pruning = pruning_impl.Pruning(lambda: step, states, schedule.build(), **settings)
            found = []
            for number in steps:
                step.assign(number)
                pruning.conditional_mask_update()
                pruning.weight_mask_op()
                found.append(weight.numpy())
        return found
