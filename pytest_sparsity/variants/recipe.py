"""What is asked of a build, and all that decides about its files."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity import patterns
from pytest_sparsity.variants import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_sparsity.patterns import Pattern
    from pytest_sparsity.variants.networks import KerasModel

SPARSITY = 0.8

BUILT_BY = (
    *("tensorflow", "tf-keras", "tensorflow-model-optimization", "keras", "numpy"),
    *("torch", "litert-torch"),
)
"""Distributions whose versions decide about the bytes."""

QUANTIZATIONS = (None, "float16", "dynamic", "int8", "qat")

FEWEST_CLUSTERS = 3
"""TFMOT 0.8.1 refuses two clusters if one of them is to be zero (cluster_wrapper.py)."""

OWN = ("variants", "transform", "encoding.py", "patterns.py", "xnnpack")
"""What of this package decides about the bytes."""

OF_NETWORKS = ("get_weights", "state_dict")
"""What an object has that is called and yet builds no network, but is one: of Keras, of PyTorch."""

ENCODERS = ("tensorflow", "own")
"""What stores zeros sparsely: TensorFlow's converter, or `transform.encode`."""

REPAIRED_FOR = "litert-js"
"""The target whose rules say what is to be repaired; it need not be here."""

CODE = ("build", "finetune", "representative")
"""What a key of the user's stands for."""

BUILT_BLOCKS = (4, 16)
"""Inputs per block that TFLite has kernels for: 4 for float weights, 16 for int8 ones."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What `build_variants` was asked for, but where to keep it."""

    build: Callable[[], KerasModel]
    sparsity: float
    pattern: str
    policy: Any
    schedule: Any
    finetune: Callable[[KerasModel, list[Any]], object] | None
    quantize: str | None
    representative: Callable[[], Any] | None
    clusters: int | None
    depends: tuple[Path, ...]
    seed: int
    key: str | None = None
    encoder: str | None = None
    repair: bool = False

    @property
    def name(self) -> str:
        """The build function's name, fit for a file name."""
        name = getattr(self.build, "__name__", type(self.build).__name__)
        return re.sub(r"\W+", "_", name).strip("_") or "network"


def check(recipe: Recipe) -> None:
    """Raise an error if no network could be built so, before anything is imported.

    Raises:
        TypeError: what is to build the network is no function.
        ValueError: an argument is none of the valid ones.
    """
    _check_build(recipe.build)
    if not 0 <= recipe.sparsity < 1:
        raise ValueError(
            f"sparsity={recipe.sparsity:g} must be in [0, 1){patterns.per_cent(recipe.sparsity)}"
        )
    _check_finetune(recipe.finetune)
    zeros = patterns.parse(recipe.pattern)
    if zeros.block > 1 and zeros.block not in BUILT_BLOCKS:
        raise ValueError(
            f"pattern={zeros.name!r}: TFLite has kernels for blocks of 1x4 (float weights) and 1x16"
            " (int8 weights) only"
        )
    if zeros.sparsity is not None and recipe.sparsity not in (SPARSITY, zeros.sparsity):
        raise ValueError(
            f"sparsity={recipe.sparsity:g} contradicts pattern={zeros.name!r}, which is"
            f" {zeros.sparsity:g}; leave sparsity out"
        )
    if zeros.sparsity is not None and recipe.schedule is not None:
        raise ValueError(f"TFMOT ignores the schedule for pattern={zeros.name!r}; leave it out")
    if zeros.channels and recipe.schedule is not None:
        raise ValueError(
            "pattern='channels' removes outputs from the network as it is built, and finetune"
            " trains what is left; leave schedule out, which is for TFMOT's patterns"
        )
    clusters: object = recipe.clusters
    if clusters is not None and not (isinstance(clusters, int) and clusters >= FEWEST_CLUSTERS):
        raise ValueError(
            f"clusters={clusters!r} must be {FEWEST_CLUSTERS} or more, since one of them is 0"
        )
    if zeros.channels and (recipe.clusters is not None or recipe.quantize == "qat"):
        raise ValueError(
            "pattern='channels' with clusters or quantize='qat' would go on with two networks, the"
            " one with zeros and the one without; return the smaller one from the build function,"
            " or use quantize='int8'"
        )
    if recipe.encoder not in (None, *ENCODERS):
        raise ValueError(f"encoder={recipe.encoder!r} is unknown: use 'tensorflow' or 'own'")
    _check_quantization(recipe, zeros)


def _check_build(build: object) -> None:
    if isinstance(build, str | os.PathLike):
        path = os.fspath(build)
        if str(path).endswith(".tflite"):
            raise TypeError(f"a .tflite file is none to build: variants.from_files({path!r}, ...)")
        raise TypeError(
            "what builds the network must be a function, also if it returns a path:"
            f" variants(lambda: {path!r}, depends=[{path!r}])"
        )
    if not callable(build) or any(hasattr(build, name) for name in OF_NETWORKS):
        raise TypeError(
            "what builds the network must be a function that returns it, not"
            f" {type(build).__name__}: it is called in a process of its own, if no cached file fits"
        )


def _check_finetune(finetune: object) -> None:
    if finetune is None:
        return
    if not callable(finetune):
        raise ValueError(f"finetune must be a function of (model, callbacks), not {finetune!r}")
    try:
        inspect.signature(finetune).bind(None, [])
    except TypeError:
        raise ValueError(
            "finetune must take two arguments, the network and the callbacks of its training:"
            f" finetune(model, callbacks), not finetune{inspect.signature(finetune)}"
        ) from None
    except ValueError:  # a builtin that does not tell
        return


def _check_quantization(recipe: Recipe, zeros: Pattern) -> None:
    if recipe.quantize not in QUANTIZATIONS:
        names = ", ".join(map(repr, QUANTIZATIONS))
        raise ValueError(f"quantize={recipe.quantize!r} is unknown: use {names}")
    if (recipe.quantize == "int8") != (recipe.representative is not None):
        raise ValueError(
            "quantize='int8' needs representative, a function that returns inputs to calibrate"
            " with, and nothing else takes it"
        )
    if recipe.quantize == "qat" and recipe.finetune is None:
        raise ValueError(
            "quantize='qat' trains the network quantized and needs finetune(model, callbacks);"
            " quantize='int8' needs no training"
        )
    if recipe.quantize == "float16" and zeros.block > 1:
        raise ValueError(
            f"quantize='float16' with pattern={zeros.name!r} is broken (fp16-blocks): TensorFlow"
            " 2.21's converter leaves out the DENSIFY of float16 blocks, and every runtime gives"
            " NaN or crashes; use pattern='unstructured', or no quantize"
        )


def asked(recipe: Recipe) -> Iterator[object]:
    """Return all that decides about the files, before the network is there."""
    left_out = {"depends", *(CODE if recipe.key is not None else ())}
    for field in fields(recipe):
        if field.name not in left_out:
            yield fingerprint.Named(field.name, getattr(recipe, field.name))
    yield recipe.name
    yield from (content_of(path) for path in recipe.depends)
    yield from builder()


def builder() -> Iterator[object]:
    """Return what decides about all files: versions, and our own code."""
    from importlib import metadata

    for name in BUILT_BY:
        yield name
        yield from (found.version for found in metadata.distributions(name=name))
    yield from own_code()


def own_code() -> Iterator[str]:
    """Return the content of what of this package decides about the bytes."""
    for name in OWN:
        path = Path(__file__).parent.parent / name
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        yield from (content_of(file) for file in files)


def content_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's names and files."""
    digest = hashlib.sha256()
    members = sorted(path.rglob("*")) if path.is_dir() else [path]
    for member in members:
        if member.is_file() or member == path:
            digest.update(f"{member.relative_to(path)}\0".encode())
            digest.update(hashlib.sha256(member.read_bytes()).digest())
    return digest.hexdigest()
