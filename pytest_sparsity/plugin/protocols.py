"""The types of the fixtures, for annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from pytest_sparsity.diagnosis import Diagnosis
    from pytest_sparsity.inputs import InputsLike, Shapes
    from pytest_sparsity.model import Model
    from pytest_sparsity.racing import Race
    from pytest_sparsity.repairing import Repaired
    from pytest_sparsity.targets import Target, Where
    from pytest_sparsity.transform import Shrunk
    from pytest_sparsity.variants import Variants
    from pytest_sparsity.variants.networks import KerasModel
    from pytest_sparsity.variants.schedules import PruningSchedule

    AnyModel = str | os.PathLike[str] | Model


class RaceFixture(Protocol):
    """What the fixture `race` is."""

    def __call__(
        self,
        dense: AnyModel,
        sparse: AnyModel,
        *,
        target: Where | None = None,
        threads: int | None = None,
        budget: float | None = None,
        inputs: InputsLike | None = None,
        shapes: Shapes | None = None,
    ) -> Race:
        """Race two models; what is not given comes from the marker, the flags and the ini file."""
        ...


class DiagnoseFixture(Protocol):
    """What the fixture `diagnose` is."""

    def __call__(
        self,
        model: AnyModel,
        *,
        target: str | Target | None = None,
        observe: bool = True,
        dense: AnyModel | None = None,
        microkernels: bool = False,
        inputs: InputsLike | None = None,
        shapes: Shapes | None = None,
    ) -> Diagnosis:
        """Diagnose a model; without a target on the one of the test."""
        ...


class VariantsFixture(Protocol):
    """What the fixture `variants` is."""

    def __call__(
        self,
        build: Callable[[], KerasModel],
        *,
        sparsity: float = ...,
        pattern: str = ...,
        policy: Any = ...,
        schedule: PruningSchedule | Callable[[], PruningSchedule] | None = ...,
        finetune: Callable[[KerasModel, list[Any]], object] | None = ...,
        quantize: str | None = ...,
        representative: Callable[[], Any] | None = ...,
        clusters: int | None = ...,
        depends: Sequence[str | os.PathLike[str]] = ...,
        seed: int = ...,
        key: str | None = ...,
        encoder: str | None = ...,
        repair: bool = ...,
    ) -> Variants:
        """Return what `build_variants` does, from the project's cache if it is there."""
        ...

    def from_files(
        self,
        dense: AnyModel,
        *,
        pruned: AnyModel | None = ...,
        sparsity: float | None = ...,
        pattern: str = ...,
        layers: str | Sequence[str | int] = ...,
        repair: bool = ...,
    ) -> Variants:
        """Return what `pytest_sparsity.variants.from_files` does, from the project's cache."""
        ...


class StoreFixture(Protocol):
    """What the fixtures `encode` and `densify` are."""

    def __call__(self, model: AnyModel) -> Model:
        """Return the model in a further file, its weights stored in another way."""
        ...


class PruneFixture(Protocol):
    """What the fixture `prune` is."""

    def __call__(
        self,
        model: AnyModel,
        *,
        sparsity: float = ...,
        pattern: str = ...,
        layers: str | Sequence[str | int] = ...,
    ) -> Model:
        """Return the model in a further file, its smallest weights set to zero."""
        ...


class ShrinkFixture(Protocol):
    """What the fixture `shrink` is."""

    def __call__(self, model: AnyModel, *, multiple: int = ...) -> Shrunk:
        """Return the model in a further file, without the channels that nobody needs."""
        ...


class RepairFixture(Protocol):
    """What the fixture `repair` is."""

    def __call__(
        self,
        model: AnyModel,
        *,
        target: str | Target = ...,
        race: bool = ...,
        budget: float | None = ...,
        inputs: InputsLike | None = ...,
        shapes: Shapes | None = ...,
    ) -> Repaired:
        """Return the model in a further file, with what keeps it from running sparse rewritten."""
        ...
