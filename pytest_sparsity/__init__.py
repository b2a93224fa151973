"""Performance claims about pruned TFLite models, as tests that say why they fail.

Everything works without pytest too: `race("dense.tflite", "sparse.tflite", target="litert-js")`.
"""

# ruff: noqa: TC004  (they are public names, imported when they are asked for)
from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_sparsity.diagnosis import Diagnosis, diagnose
    from pytest_sparsity.errors import Inconclusive, ModelError, SparsityWarning, Unsupported
    from pytest_sparsity.estimate import Estimate
    from pytest_sparsity.findings import Finding
    from pytest_sparsity.model import Layer, Model
    from pytest_sparsity.race import Race, race
    from pytest_sparsity.targets import Launch, Native, Place, Runtime, Target
    from pytest_sparsity.variants import Variants, build_variants

__version__ = "0.1.0"

__all__ = [
    "Diagnosis",
    "Estimate",
    "Finding",
    "Inconclusive",
    "Launch",
    "Layer",
    "Model",
    "ModelError",
    "Native",
    "Place",
    "Race",
    "Runtime",
    "SparsityWarning",
    "Target",
    "Unsupported",
    "Variants",
    "build_variants",
    "diagnose",
    "race",
]

_MODULES = {
    "Diagnosis": "diagnosis",
    "Estimate": "estimate",
    "Finding": "findings",
    "Inconclusive": "errors",
    "Launch": "targets",
    "Layer": "model",
    "Model": "model",
    "ModelError": "errors",
    "Native": "targets",
    "Place": "targets",
    "Race": "race",
    "Runtime": "targets",
    "SparsityWarning": "errors",
    "Target": "targets",
    "Unsupported": "errors",
    "Variants": "variants",
    "build_variants": "variants",
    "diagnose": "diagnosis",
}


class _Package(ModuleType):
    """A package whose names are imported when they are asked for.

    pytest imports this package in every run of everybody who has the plugin installed, and all of
    it takes three times as long as the plugin alone. `race` is the name of a function and of the
    module that it is in, and importing that module would bind the name to it.
    """

    def __getattr__(self, name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{self.__name__}.{_MODULES[name]}"), name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})

    @property
    def race(self) -> object:
        """The function."""
        return import_module(f"{self.__name__}.race").race

    @race.setter
    def race(self, module: ModuleType) -> None:
        """Leave the name to the function."""


sys.modules[__name__].__class__ = _Package
