"""The reason: which layers of a model run sparse on a target, why others do not, what is wrong."""

from __future__ import annotations

from pytest_sparsity.diagnosis.diagnosis import Diagnosis, diagnose
from pytest_sparsity.diagnosis.observation import Observation, Observer
from pytest_sparsity.diagnosis.outputs import check_outputs
from pytest_sparsity.diagnosis.probes import skips_zeros
from pytest_sparsity.diagnosis.text import explanation, finding_lines, layer_table, lines

__all__ = [
    "Diagnosis",
    "Observation",
    "Observer",
    "check_outputs",
    "diagnose",
    "explanation",
    "finding_lines",
    "layer_table",
    "lines",
    "skips_zeros",
]
