"""The reason: which layers of a model run sparse on a target, why others do not, what is wrong."""

from __future__ import annotations

from pytest_sparsity.diagnosis.answers import check_answers
from pytest_sparsity.diagnosis.conclusion import Diagnosis, diagnose
from pytest_sparsity.diagnosis.observation import Observation, Observer
from pytest_sparsity.diagnosis.probes import skips_zeros
from pytest_sparsity.diagnosis.text import explanation, finding_lines, layer_table, lines

__all__ = [
    "Diagnosis",
    "Observation",
    "Observer",
    "check_answers",
    "diagnose",
    "explanation",
    "finding_lines",
    "layer_table",
    "lines",
    "skips_zeros",
]
