"""The fixtures that make a file of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plugin.conftest import Project


def test_files_are_made_for_fixtures_of_the_session(project: Project) -> None:
    project.test_file(
        """
        import pytest


        @pytest.fixture(scope="session")
        def made(prune, encode, densify, shrink, repair):
            pruned = prune("dense.tflite", sparsity=0.9)
            sparse = encode(pruned)
            repaired = repair(sparse, target="litert-js", race=False)
            return pruned, sparse, densify(sparse), shrink(pruned), repaired


        def test_they_are_files_of_their_own(made):
            pruned, sparse, dense, shrunk, repaired = made
            models = [pruned, sparse, dense, shrunk.model, repaired.model]
            names = "pruned", "pruned-encoded", "pruned-encoded-dense", "pruned-shrunk"
            names += ("pruned-encoded-repaired",)
            assert [m.path.stem for m in models] == [f"dense-{name}" for name in names]
            assert len({m.path.parent for m in models}) == 5
            assert sparse.encoded and not dense.encoded
            assert sparse.nbytes < pruned.nbytes
            assert shrunk.channels > 0
            assert repaired.kept == "original"
        """
    )
    project.run().assert_outcomes(passed=1)


def test_a_bad_argument_is_the_test_s_error(project: Project) -> None:
    project.test_file(
        """
        def test_nothing(prune):
            prune("dense.tflite", pattern="channels")
        """
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ValueError: pattern='channels' removes outputs*"])
