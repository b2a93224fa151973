"""What is asked of a build, and all that decides about its files."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_sparsity.variants.selection import Network

SPARSITY = 0.8

BUILT_BY = ("tensorflow", "tf-keras", "tensorflow-model-optimization", "numpy")
"""Distributions whose versions decide about the bytes."""

OWN = ("variants", "twin")
"""Packages of ours that decide about the bytes."""


@dataclass(frozen=True)
class Recipe:
    """What `build_variants` was asked for, but where to keep it."""

    build: Callable[[], Network]
    sparsity: float
    pattern: str
    policy: Any
    schedule: Any
    finetune: Callable[[Network, list[Any]], object] | None
    quantize: str | None
    representative: Callable[[], Any] | None
    depends: tuple[Path, ...]
    seed: int

    @property
    def name(self) -> str:
        """The build function's name, fit for a file name."""
        name = getattr(self.build, "__name__", type(self.build).__name__)
        return re.sub(r"\W+", "_", name).strip("_") or "network"


def check(recipe: Recipe) -> None:
    """Raise ValueError if no network could be built so, before anything is imported."""
    if not 0 <= recipe.sparsity < 1:
        raise ValueError(f"sparsity={recipe.sparsity:g} must be in [0, 1)")
    if recipe.pattern != "unstructured":
        raise ValueError(
            f"pattern={recipe.pattern!r} is not supported yet; supported: 'unstructured'"
        )
    if recipe.quantize is not None:
        raise ValueError(f"quantize={recipe.quantize!r} is not supported yet; supported: None")
    if recipe.representative is not None:
        raise ValueError("representative is for quantize='int8', which is not supported yet")


def asked(recipe: Recipe) -> Iterator[object]:
    """Return all that decides about the files, before the network is there."""
    yield from (getattr(recipe, field.name) for field in fields(recipe) if field.name != "depends")
    yield recipe.name
    yield from (content_of(path) for path in recipe.depends)
    yield from builder()


def builder() -> Iterator[object]:
    """Return what decides about all files: versions, and our own code."""
    from importlib import metadata

    for name in BUILT_BY:
        yield name
        yield from (found.version for found in metadata.distributions(name=name))
    for name in OWN:
        folder = Path(__file__).parent.parent / name
        yield from (content_of(path) for path in sorted(folder.glob("*.py")))


def content_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's names and files."""
    digest = hashlib.sha256()
    members = sorted(path.rglob("*")) if path.is_dir() else [path]
    for member in members:
        if member.is_file() or member == path:
            digest.update(f"{member.relative_to(path)}\0".encode())
            digest.update(hashlib.sha256(member.read_bytes()).digest())
    return digest.hexdigest()
