"""What is claimed of any two files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_sparsity import Model, properties
from pytest_sparsity.diagnosis import lines
from pytest_sparsity.plugin.state import TWO_FILES
from pytest_sparsity.properties import gzip_nbytes

if TYPE_CHECKING:
    from pytest_sparsity.plugin.protocols import DiagnoseFixture, RaceFixture
    from pytest_sparsity.plugin.two_files import TwoFiles


@pytest.fixture(scope="session")
def files(request: pytest.FixtureRequest) -> TwoFiles:
    """Return what the flags say."""
    return request.config.stash[TWO_FILES]


@pytest.fixture(scope="session")
def dense(files: TwoFiles) -> Model:
    """Return the network as it was trained."""
    return Model(files.dense)


@pytest.fixture(scope="session")
def sparse(files: TwoFiles) -> Model:
    """Return the same one, pruned."""
    return Model(files.sparse)


def test_weights_are_zero(sparse: Model, files: TwoFiles) -> None:
    """At least `--sparsity-min-zeros` of all weights of layers are zero."""
    assert sparse.sparsity >= files.min_zeros


def test_zeros_are_stored_sparsely(sparse: Model) -> None:
    """Every layer that has zeros stores them sparsely, or kernels do not know of them."""
    properties.zeros_are_encoded(sparse)


def test_the_file_is_smaller(dense: Model, sparse: Model, files: TwoFiles) -> None:
    """The dense file is `--sparsity-min-shrink` times as large at least."""
    assert dense.nbytes >= files.min_shrink * sparse.nbytes


def test_the_file_is_smaller_after_gzip(dense: Model, sparse: Model, files: TwoFiles) -> None:
    """Likewise after gzip: many are shipped compressed, where zeros are small in any case."""
    least = files.min_shrink * gzip_nbytes(sparse)
    assert gzip_nbytes(dense) >= least


def test_no_weight_is_subnormal(sparse: Model) -> None:
    """No weight is smaller than 1.2e-38 and not zero, on which some kernels are slow."""
    properties.no_subnormals(sparse)


def test_the_answers_are_right(sparse: Model, files: TwoFiles, diagnose: DiagnoseFixture) -> None:
    """On the target the file gives what its weights, stored densely, give."""
    diagnosis = diagnose(sparse, inputs=files.inputs, shapes=files.shapes)
    assert diagnosis.outputs_match, "\n".join(lines(diagnosis))


def test_sparse_kernels_run(sparse: Model, files: TwoFiles, diagnose: DiagnoseFixture) -> None:
    """On the target at least one layer runs a kernel that skips zeros."""
    assert diagnose(sparse, inputs=files.inputs, shapes=files.shapes).verdict == "sparse"


def test_it_is_faster(dense: Model, sparse: Model, files: TwoFiles, race: RaceFixture) -> None:
    """It is `--sparsity-min-ratio` times as fast; where instructions are counted, takes fewer."""
    result = race(dense, sparse, inputs=files.inputs, shapes=files.shapes)
    assert result.ratio >= files.min_ratio
