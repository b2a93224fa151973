"""The global state of Keras and TensorFlow: fresh for a build, and afterwards as it was.

A network must not depend on what was set before it was built, nor leave anything behind. Most
builds run in a process of their own (`isolation`), and then only the first half matters; where
TensorFlow already runs in this process they cannot, and both do.

Not put back, since TensorFlow has no way to: how far the generators of operations with a seed of
their own have gone (`tf.random.normal(..., seed=1)`), and devices that were configured.
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_sparsity.variants.networks import LEGACY, import_tfmot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

SETTINGS: dict[tuple[str, str], object] = {
    ("tf_keras.src.backend_config", "_FLOATX"): "float32",
    ("tf_keras.src.backend_config", "_EPSILON"): 1e-7,
    ("tf_keras.src.backend_config", "_IMAGE_DATA_FORMAT"): "channels_last",
    ("tf_keras.src.mixed_precision.policy", "_global_policy"): None,
    ("tf_keras.src.backend", "_USE_GENERATOR_FOR_RNG"): False,
    ("keras.src.backend.config", "_FLOATX"): "float32",
    ("keras.src.backend.config", "_EPSILON"): 1e-7,
    ("keras.src.backend.config", "_IMAGE_DATA_FORMAT"): "channels_last",
    (
        "tensorflow.python.eager.polymorphic_function.eager_function_run",
        "RUN_FUNCTIONS_EAGERLY",
    ): False,
    ("tensorflow.python.data.ops.debug_mode", "DEBUG_MODE"): False,
}
"""What a build may set, by module and name, and Keras' defaults: tf-keras and TensorFlow 2.19 to
2.21, Keras 3.10 to 3.15. There is no public way to put a policy back that was never set."""

POSITIONS = (
    ("tf_keras.src.backend", "_GRAPH.graph"),
    ("tf_keras.src.backend", "_SEED_GENERATOR.generator"),
    ("keras.src.backend.common.global_state", "GLOBAL_STATE_TRACKER"),
    ("keras.src.backend.common.global_state", "GLOBAL_SETTINGS_TRACKER"),
    ("tensorflow.python.eager.context", "_context._seed"),
    ("tensorflow.python.eager.context", "_context._rng"),
    ("tensorflow.python.framework.ops", "_default_graph_stack._global_default_graph"),
    ("tensorflow.python.ops.stateful_random_ops", "global_generator"),
)
"""Where seeding and `clear_session` put new objects."""

NAMES = (
    ("tf_keras.src.backend", "PER_GRAPH_OBJECT_NAME_UIDS"),
    ("tf_keras.src.backend", "OBSERVED_NAMES"),
)
"""What `clear_session` empties: the numbers in the names of layers."""

_MISSING = object()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """`fresh`; without TensorFlow, for which there is no state then, only seed the generators.

    PyTorch's generator is seeded if it is imported; else it begins as always.
    """
    torch = sys.modules.get("torch")
    with _without_tensorflow(seed) if not _installed() else fresh(seed):
        if torch is None:
            yield
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield


def _installed() -> bool:
    return "tensorflow" in sys.modules or importlib.util.find_spec("tensorflow") is not None


@contextmanager
def _without_tensorflow(seed: int) -> Iterator[None]:
    import numpy as np

    with _generators_kept():
        random.seed(seed)
        np.random.seed(seed)
        yield


@contextmanager
def fresh(seed: int) -> Iterator[None]:
    """Set Keras' defaults, seed all generators, and put everything back afterwards.

    Raises:
        Unsupported: TensorFlow, tf-keras or TFMOT is not installed.
    """
    environment = dict(os.environ)
    untouched = _untouched_loaders()
    try:
        import_tfmot()
        os.environ[LEGACY] = "1"
        _renew(untouched)
        with _generators_kept(), _state_kept():
            _set_defaults(seed)
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        _renew(untouched)


def settings() -> list[object]:
    """Return what the settings are now that are not Keras' defaults, as plain data."""
    return [
        [module, name, repr(value)]
        for (module, name), default in SETTINGS.items()
        if module in sys.modules and (value := _get(module, name)) != default
    ]


def tensorflow_runs() -> bool:
    """Whether TensorFlow has started its threads in this process, which a fork does not take over.

    An import alone starts none that matter (TensorFlow 2.19 to 2.21).
    """
    context = getattr(sys.modules.get("tensorflow.python.eager.context"), "_context", None)
    return context is not None and context._context_handle is not None  # noqa: SLF001


def threads_run() -> bool:
    """Whether threads run in this process that a fork would lack: TensorFlow's, or PyTorch's."""
    return tensorflow_runs() or "torch" in sys.modules


def _set_defaults(seed: int) -> None:
    import tf_keras

    for (module, name), default in SETTINGS.items():
        if module in sys.modules:
            setattr(sys.modules[module], name, default)
    for keras in filter(None, (tf_keras, sys.modules.get("keras"))):
        if hasattr(keras, "backend"):
            keras.backend.clear_session()
            keras.utils.set_random_seed(seed)


@contextmanager
def _generators_kept() -> Iterator[None]:
    import numpy as np

    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@contextmanager
def _state_kept() -> Iterator[None]:
    import tensorflow as tf

    tf.constant(0)  # starts TensorFlow, so that there is a seed to be kept
    before = {key: _get(*key) for key in (*SETTINGS, *POSITIONS) if key[0] in sys.modules}
    names = [_get(*key).copy() for key in NAMES]
    try:
        yield
    finally:
        for key, value in {**_defaults_of_new(before), **before}.items():
            _set(*key, value)
        for key, held in zip(NAMES, names, strict=True):
            _get(*key).clear()
            _get(*key).update(held)


def _defaults_of_new(before: dict[tuple[str, str], object]) -> dict[tuple[str, str], object]:
    """Return the settings of modules that the build was the first to import."""
    return {
        key: default
        for key, default in SETTINGS.items()
        if key not in before and key[0] in sys.modules
    }


def _owner(module: str, path: str) -> tuple[Any, str]:
    owner: Any = sys.modules[module]
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name


def _get(module: str, path: str) -> Any:
    owner, name = _owner(module, path)
    return getattr(owner, name, _MISSING)


def _set(module: str, path: str, value: object) -> None:
    owner, name = _owner(module, path)
    if value is not _MISSING:
        setattr(owner, name, value)
    elif hasattr(owner, name):
        delattr(owner, name)


def _untouched_loaders() -> dict[str, Any]:
    """Return TensorFlow's lazy loaders of `tf.keras` and the like that have loaded nothing yet."""
    tensorflow: ModuleType | None = sys.modules.get("tensorflow")
    return {
        name: value
        for name, value in vars(tensorflow or object).items()
        if type(value).__name__ == "KerasLazyLoader"
        and not object.__getattribute__(value, "__dict__")["_tfll_initialized"]
    }


def _renew(loaders: dict[str, Any]) -> None:
    """Let TensorFlow's lazy loaders decide between Keras 2 and 3, as TF_USE_LEGACY_KERAS says.

    A loader that has loaded a module has put that in its own place.
    """
    for name, loader in loaders.items():
        state = object.__getattribute__(loader, "__dict__")
        fresh_loader = type(loader)(
            state["_tfll_parent_module_globals"],
            mode=state["_tfll_mode"],
            submodule=state["_tfll_submodule"],
            name=state["_tfll_name"],
        )
        setattr(sys.modules["tensorflow"], name, fresh_loader)
