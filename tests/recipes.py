"""What a build is asked for where a test says nothing."""

from __future__ import annotations

from typing import Any

from pytest_sparsity.variants.recipe import Recipe


def recipe_of(build: Any, **options: Any) -> Recipe:
    """The recipe of a build function, with the options and the defaults of `variants`."""
    defaults: dict[str, Any] = {
        "sparsity": 0.8,
        "pattern": "unstructured",
        "policy": "auto",
        "schedule": None,
        "finetune": None,
        "quantize": None,
        "representative": None,
        "clusters": None,
        "depends": (),
        "seed": 0,
    }
    return Recipe(build=build, **{**defaults, **options})
