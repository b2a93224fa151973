"""Performance claims about pruned TFLite models, as tests that say why they fail.

Everything works without pytest too: `race("dense.tflite", "sparse.tflite", target="litert-js")`.

Public are the names in `__all__`, those without an underscore in the modules of `PUBLIC_MODULES`,
the fixtures, options and hooks of the plugin, and the command line. All else may change in any
release.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_sparsity.baseline import BaselineError, NoBaseline
    from pytest_sparsity.diagnosis import Diagnosis, diagnose
    from pytest_sparsity.errors import (
        CannotMeasure,
        CannotTrace,
        Inconclusive,
        ModelError,
        NeedsInputs,
        NotRecorded,
        SparsityWarning,
        TargetError,
        Unsupported,
        WrongOutputs,
    )
    from pytest_sparsity.estimate import Estimate
    from pytest_sparsity.findings import Finding
    from pytest_sparsity.model import Layer, Model
    from pytest_sparsity.racing import Race, race
    from pytest_sparsity.targets import (
        EndedError,
        InvocationError,
        Launch,
        LoadError,
        Native,
        Place,
        Runtime,
        Target,
        UnwrittenOutput,
    )
    from pytest_sparsity.targets.microkernels import microkernels
    from pytest_sparsity.variants import Variants, build_variants
    from pytest_sparsity.variants.converter import ConversionError
    from pytest_sparsity.variants.isolation import CrashError
    from pytest_sparsity.xnnpack import prunable_layers

__version__ = "0.1.0"

PUBLIC_MODULES = ("accuracy", "properties", "repairing", "strategies", "transform", "zoo")

_MODULES = {
    "BaselineError": "baseline",
    "CannotMeasure": "errors",
    "CannotTrace": "errors",
    "ConversionError": "variants.converter",
    "CrashError": "variants.isolation",
    "Diagnosis": "diagnosis",
    "EndedError": "targets",
    "Estimate": "estimate",
    "Finding": "findings",
    "Inconclusive": "errors",
    "InvocationError": "targets",
    "Launch": "targets",
    "Layer": "model",
    "LoadError": "targets",
    "Model": "model",
    "ModelError": "errors",
    "Native": "targets",
    "NeedsInputs": "errors",
    "NoBaseline": "baseline",
    "NotRecorded": "errors",
    "Place": "targets",
    "Race": "racing",
    "Runtime": "targets",
    "SparsityWarning": "errors",
    "Target": "targets",
    "TargetError": "errors",
    "Unsupported": "errors",
    "UnwrittenOutput": "targets",
    "Variants": "variants",
    "WrongOutputs": "errors",
    "build_variants": "variants",
    "diagnose": "diagnosis",
    "microkernels": "targets.microkernels",
    "prunable_layers": "xnnpack",
    "race": "racing",
}

__all__ = [
    "PUBLIC_MODULES",
    "BaselineError",
    "CannotMeasure",
    "CannotTrace",
    "ConversionError",
    "CrashError",
    "Diagnosis",
    "EndedError",
    "Estimate",
    "Finding",
    "Inconclusive",
    "InvocationError",
    "Launch",
    "Layer",
    "LoadError",
    "Model",
    "ModelError",
    "Native",
    "NeedsInputs",
    "NoBaseline",
    "NotRecorded",
    "Place",
    "Race",
    "Runtime",
    "SparsityWarning",
    "Target",
    "TargetError",
    "Unsupported",
    "UnwrittenOutput",
    "Variants",
    "WrongOutputs",
    "build_variants",
    "diagnose",
    "microkernels",
    "prunable_layers",
    "race",
]


if not TYPE_CHECKING:  # To a type checker it would say that any name is there.

    def __getattr__(name: str) -> object:
        """Import a public name when it is asked for.

        pytest imports this package in every run of everybody who has the plugin installed, and all
        of it takes three times as long as the plugin alone.
        """
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
