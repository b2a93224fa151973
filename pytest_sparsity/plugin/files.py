"""The fixtures `encode`, `densify`, `prune`, `shrink` and `repair`: a file in, a file out.

They are of the session, so that fixtures of the session may use them. What they write is in a
folder of pytest's, one for each file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_sparsity.plugin.state import CONTROLS, OPTIONS, called

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_sparsity.model import Model
    from pytest_sparsity.plugin.protocols import (
        AnyModel,
        PruneFixture,
        RepairFixture,
        ShrinkFixture,
        StoreFixture,
    )
    from pytest_sparsity.repairing import Repaired
    from pytest_sparsity.transform import Shrunk


def _further(factory: pytest.TempPathFactory, given: AnyModel, made: str) -> tuple[Model, Path]:
    """The model, and where to write what is made of it."""
    from pytest_sparsity.model import Model

    model = Model.of(given)
    return model, factory.mktemp("sparsity") / f"{model.path.stem}-{made}.tflite"


@pytest.fixture(scope="session")
def encode(tmp_path_factory: pytest.TempPathFactory) -> StoreFixture:
    """Store a model's zeros sparsely, where that pays.

    `encode(model) -> Model`
    """

    @called("encode")
    def run(model: AnyModel) -> Model:
        from pytest_sparsity.transform import encode

        return encode(*_further(tmp_path_factory, model, "encoded"))

    return run


@pytest.fixture(scope="session")
def densify(tmp_path_factory: pytest.TempPathFactory) -> StoreFixture:
    """Store all weights of a model densely, without DENSIFY.

    `densify(model) -> Model`
    """

    @called("densify")
    def run(model: AnyModel) -> Model:
        from pytest_sparsity.transform import densify

        return densify(*_further(tmp_path_factory, model, "dense"))

    return run


@pytest.fixture(scope="session")
def prune(tmp_path_factory: pytest.TempPathFactory) -> PruneFixture:
    """Set the smallest weights of a model to zero; nothing is trained.

    `prune(model, *, sparsity=0.8, pattern="unstructured", layers="prunable") -> Model`
    """

    @called("prune")
    def run(model: AnyModel, **options: Any) -> Model:
        from pytest_sparsity.transform import prune

        return prune(*_further(tmp_path_factory, model, "pruned"), **options)

    return run


@pytest.fixture(scope="session")
def shrink(tmp_path_factory: pytest.TempPathFactory) -> ShrinkFixture:
    """Remove the channels of a model that nobody needs.

    `shrink(model, *, multiple=8) -> Shrunk`; `.model` is the file.
    """

    @called("shrink")
    def run(model: AnyModel, **options: Any) -> Shrunk:
        from pytest_sparsity.transform import shrink

        return shrink(*_further(tmp_path_factory, model, "shrunk"), **options)

    return run


@pytest.fixture(scope="session")
def repair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> RepairFixture:
    """Rewrite exactly what keeps a model from running sparse, rightly and faster.

    `repair(model, *, target="litert-js", race=True, budget=None, inputs=None, shapes=None) ->
    Repaired`; `.model` is the file. Without a race that shows it to be faster, it is as it was.
    """
    config = request.config

    @called("repair")
    def run(model: AnyModel, *, budget: float | None = None, **options: Any) -> Repaired:
        from pytest_sparsity.repairing import repair

        return repair(
            *_further(tmp_path_factory, model, "repaired"),
            budget=config.stash[OPTIONS].budget if budget is None else budget,
            controls=config.stash.setdefault(CONTROLS, {}),
            **options,
        )

    return run
