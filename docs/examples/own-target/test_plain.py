"""What a sparse file does where XNNPACK is not applied: the same answers, and no gain."""

import pytest

from pytest_sparsity import zoo


@pytest.fixture(scope="session")
def tutorial(variants):
    return variants(zoo.xnnpack_cnn, sparsity=0.75)


@pytest.mark.race(target="litert-plain")
def test_nothing_is_won_without_xnnpack(tutorial, race):
    assert race(tutorial.dense, tutorial.sparse).ratio < 1.1


def test_answers_are_right_without_it(tutorial, diagnose):
    seen = diagnose(tutorial.sparse, target="litert-plain")
    assert (seen.verdict, seen.outputs_match) == ("dense", True)
