"""What the flags of `pytest_sparsity.suite` say, which claims the usual things of two files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_sparsity.errors import ModelError, one_line, printable
from pytest_sparsity.plugin.options import SUITE_MODULE, demand

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_sparsity.model import Model


@dataclass(frozen=True, repr=False)
class TwoFiles:
    """What the suite is to claim of which files.

    Attributes:
        dense: the file to compare with.
        sparse: the file that is to be better.
        inputs: an `.npz` file of what they are run on; None to draw it.
        shapes: of inputs whose sizes the files leave open, by name.
        min_zeros: the least share of zeros in the weights of the sparse file.
        min_shrink: how many times as large the dense file is, at least.
        min_ratio: how many times as long, or as many instructions, the dense one takes, at least.
    """

    dense: Path
    sparse: Path
    inputs: Path | None
    shapes: Mapping[str, tuple[int, ...]]
    min_zeros: float
    min_shrink: float
    min_ratio: float

    def __repr__(self) -> str:
        return f"TwoFiles({self.dense.name!r}, {self.sparse.name!r})"

    @classmethod
    def of(cls, config: pytest.Config) -> TwoFiles:
        """Read and check the flags.

        Raises:
            pytest.UsageError: a file is not named, not there or no model, the two are one or stand
                in each other's place, or a number is off.
        """
        from pytest_sparsity.inputs import parse_shape

        given = config.getoption("sparsity_inputs")
        try:
            shapes = dict(map(parse_shape, config.getoption("sparsity_shape") or ()))
        except ValueError as error:
            raise pytest.UsageError(f"--sparsity-shape: {error}") from error
        zeros = _number(config, "sparsity_min_zeros")
        shrink = _number(config, "sparsity_min_shrink")
        ratio = _number(config, "sparsity_min_ratio")
        demand(0 <= zeros <= 1, "--sparsity-min-zeros", zeros, "a share, from 0 to 1")
        demand(shrink > 0, "--sparsity-min-shrink", shrink, "more than 0")
        demand(ratio > 0, "--sparsity-min-ratio", ratio, "more than 0")
        dense = _model(config, "--sparsity-dense", config.getoption("sparsity_dense"))
        sparse = _model(config, "--sparsity-sparse", config.getoption("sparsity_sparse"))
        _check_places(dense, sparse)
        return cls(
            dense=dense.path,
            sparse=sparse.path,
            inputs=_file(config, "--sparsity-inputs", given) if given else None,
            shapes=shapes,
            min_zeros=zeros,
            min_shrink=shrink,
            min_ratio=ratio,
        )


def _number(config: pytest.Config, name: str) -> float:
    value: Any = config.getoption(name)
    return float(value)


def _check_places(dense: Model, sparse: Model) -> None:
    """Raise `pytest.UsageError` if the flags name one file twice, or the files the wrong way."""
    if dense.path.samefile(sparse.path):
        raise pytest.UsageError(
            "--sparsity-dense and --sparsity-sparse are the same file,"
            f" {printable(str(dense.path))}"
        )
    if dense.encoded and not sparse.encoded:
        raise pytest.UsageError(
            f"--sparsity-dense {printable(dense.path.name)} stores weights sparsely, and"
            f" --sparsity-sparse {printable(sparse.path.name)} none: are they the wrong way round?"
        )


def _model(config: pytest.Config, flag: str, named: str | None) -> Model:
    from pytest_sparsity.model import Model

    if not named:
        raise pytest.UsageError(
            f"{SUITE_MODULE} needs two files: --sparsity-dense=D.tflite --sparsity-sparse=S.tflite"
        )
    try:
        return Model(_file(config, flag, named))
    except ModelError as error:
        raise pytest.UsageError(f"{flag}: {one_line(error)}") from error


def _file(config: pytest.Config, flag: str, named: str) -> Path:
    path = config.invocation_params.dir / named
    if not path.is_file():
        raise pytest.UsageError(f"{flag}: there is no file {printable(str(path))}")
    return path
