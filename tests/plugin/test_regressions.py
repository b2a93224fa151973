"""Regressions planted in a model: the baselines catch them and name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from plugin.conftest import Project

from pytest_sparsity.writer import Encoding
from pytest_sparsity.writer.parts import Parts

CLAIMS = """
    from pytest_sparsity import Model, prunable_layers

    MODEL = Model("model.tflite")
    PRUNABLE = prunable_layers(MODEL)

    def test_the_zeros_are_there(baseline):
        assert [layer.sparsity for layer in PRUNABLE] >= baseline("zeros")

    def test_the_file_has_not_grown(baseline):
        assert MODEL.nbytes <= baseline("nbytes", within=0.01)

    def test_the_weights_are_stored_sparsely(baseline):
        assert [f"{x.index} {x.op}: {x.encoding}" for x in PRUNABLE] == baseline("encodings")

    def test_sparse_kernels_run(diagnose, baseline):
        diagnosis = diagnose(MODEL, target="litert-js", observe=False)
        assert diagnosis.verdict == baseline("verdict")
"""


def write(
    project: Project, *, zeros: float = 0.8, encoding: Encoding = "sparse", **middle: Any
) -> None:
    parts = Parts(encoding, seed=1, zeros=zeros)
    x = parts.pointwise(parts.entry(parts.net.input))
    x = parts.depthwise(x, stride=2, **(middle or {"pad": 1}))
    parts.finish(parts.pointwise(parts.pointwise(x)))
    parts.net.write(project.path / "model.tflite")


@pytest.fixture
def recorded(project: Project) -> Project:
    project.pytester.makeconftest("")
    write(project)
    project.test_file(CLAIMS)
    project.run("--sparsity-update").assert_outcomes(passed=4)
    project.run().assert_outcomes(passed=4)
    return project


def test_lost_zeros(recorded: Project) -> None:
    write(recorded, zeros=0.72)
    result = recorded.run()
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*test_the_zeros_are_there*",
            "E       *assert [[]0.71*, 0.71*, 0.71*[]] >= [[]0.79*, 0.80*, 0.80*[]] (recorded in *",
            "E         differing: [[]0[]] 0.79* -> 0.71*, [[]1[]] 0.80* -> 0.71*, [[]2[]] *",
            "*test_the_file_has_not_grown*",
            "E         'nbytes' moved by +* % (+*)",
        ]
    )


def test_a_dropped_encoding(recorded: Project) -> None:
    write(recorded, encoding="dense")
    result = recorded.run()
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(
        [
            "*test_the_weights_are_stored_sparsely*",
            "E         differing: [[]0[]] '1 CONV_2D: sparse' -> '1 CONV_2D: dense', [[]1[]] *",
            "*test_sparse_kernels_run*",
            "E       *assert 'dense' == 'sparse' (recorded in baselines/test_claims.json)",
            "E         because   model.tflite on litert-js runs no sparse kernel: *",
            "-* sparsity: model.tflite on litert-js -*",
            "model.tflite on litert-js runs no sparse kernel: *",
        ]
    )


def test_a_layer_of_stride_2_with_padding_same(recorded: Project) -> None:
    write(recorded, padding="SAME")
    result = recorded.run()
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_sparse_kernels_run*",
            "E       *assert 'miscomputes' == 'sparse' (recorded in baselines/test_claims.json)",
            "E         because   model.tflite on litert-js computes wrong outputs: *'same' *",
            "E             -> run `pytest-sparsity repair`, or put ZeroPadding2D(1) before it *",
            "-* sparsity: model.tflite on litert-js -*",
            "model.tflite on litert-js computes wrong outputs: *",
            "    -> *",
        ]
    )


VERDICTS = """
    def test_sparse(diagnose):
        assert diagnose("model.tflite", target="litert-js", observe=False).verdict == "sparse"

    def test_right(diagnose):
        assert diagnose("model.tflite", target="litert-js", observe=False).outputs_match

    def test_words_of_others():
        assert "dense" == "sparse"
"""


def test_a_verdict_has_its_reason_at_the_e_line(project: Project) -> None:
    project.pytester.makeconftest("")
    write(project, encoding="dense")
    project.test_file(VERDICTS)
    result = project.run()
    result.assert_outcomes(failed=3)
    because = "model.tflite on litert-js runs no sparse kernel: the zeros are stored densely*"
    result.stdout.fnmatch_lines(
        [
            "E       AssertionError: assert 'dense' == 'sparse'",
            f"E         because   {because}",
            "E             -> run `pytest-sparsity encode`, or convert with *file*",
            "layer  operator *",
            "E       AssertionError: assert None",
            f"E        +  where None = <{because}*>.outputs_match",
            "*test_words_of_others*",
            "E       AssertionError: assert 'dense' == 'sparse'",
            "E         *",
            "E         - sparse",
        ]
    )


SIZES = """
    import pytest
    import pytest_sparsity.variants
    from pytest_sparsity import Model, Variants

    @pytest.fixture(scope="session")
    def network(variants):
        return variants(None)

    @pytest.fixture(scope="session", autouse=True)
    def built():
        with pytest.MonkeyPatch.context() as patch:
            files = map(Model, ("dense.tflite", "dense.tflite", "sparse.tflite"))
            made = Variants(*files, ())
            patch.setattr(pytest_sparsity.variants, "build_variants", lambda *_, **__: made)
            yield

    def test_first(network):
        assert network.sparse.nbytes > 0

    def test_size(network):
        assert network.sparse.nbytes < network.dense.nbytes / 2

    def test_other():
        assert 1 == 2
"""


def test_a_failed_size_claim_shows_the_files_and_their_layers(project: Project) -> None:
    project.test_file(SIZES)
    result = project.run()
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "E       AssertionError: assert 15332 < (23288 / 2)",
            "-* sparsity: variants -*",
            "file    bytes   zeros  path",
            "dense   23,288  *dense.tflite",
            "pruned  23,288  *dense.tflite",
            "sparse  15,332  70.0%  *sparse.tflite",
            "",
            "layer  operator           shape      zeros  stored  kernel  name",
        ]
    )
    assert str(result.stdout).count("sparsity: variants") == 1, "of the test that used them only"


def test_a_failed_race_explains_itself_once(project: Project) -> None:
    body = """
    def test_speed(network, race):
        assert race(network.dense, network.sparse).speedup >= 100
"""
    project.test_file(SIZES[: SIZES.index("    def test_first")] + body.lstrip("\n"))
    result = project.run()
    result.assert_outcomes(failed=1)
    text = str(result.stdout)
    assert text.count("sparsity: variants") == 1
    assert text.count("layer  operator") == 1
