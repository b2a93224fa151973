"""Which TensorFlow Lite brought which version of an operator.

The data is `operator_releases.json`, which `tools/operator_releases.py` makes from the list that
the converter itself uses (`FindMinimumRuntimeVersionForOp` in its runtime_version.cc).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.model import schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CUSTOM = ("AudioSpectrogram", "Mfcc", "NumericVerify", "TFLite_Detection_PostProcess")
"""Custom operators that every TensorFlow Lite registers (its kernels/register.cc)."""


@cache
def _releases() -> Mapping[str, Sequence[str | None]]:
    path = Path(__file__).with_name("operator_releases.json")
    found: Mapping[str, Sequence[str | None]] = json.loads(path.read_bytes())["releases"]
    return found


def release_of(op: str, version: int) -> str | None:
    """The least TensorFlow Lite that has an operator in a version, such as `"2.3.0"`.

    Empty for a custom one that all have; None if the list does not have it.
    """
    if op in CUSTOM:
        return ""
    releases = _releases().get(op, ())
    return releases[version - 1] if 0 < version <= len(releases) else None


def is_custom(op: str) -> bool:
    """Whether an operator is neither builtin nor one that TensorFlow Lite registers besides."""
    return op not in CUSTOM and op not in schema.numbers("BuiltinOperator")
