"""The reason: which layers of a model run sparse on a target, why others do not, what is wrong."""

from __future__ import annotations

from pytest_sparsity.diagnosis.answers import check_answers

__all__ = ["check_answers"]
