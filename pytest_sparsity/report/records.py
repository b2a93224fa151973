"""What a test leaves behind, in JSON's own types."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from typing import TYPE_CHECKING, Any

from pytest_sparsity.baseline.recorded import text
from pytest_sparsity.diagnosis import Diagnosis
from pytest_sparsity.errors import ModelError, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.baseline import BaselineComparison
    from pytest_sparsity.errors import Unsupported
    from pytest_sparsity.estimate import Claim, Estimate
    from pytest_sparsity.model import Model
    from pytest_sparsity.racing import Race
    from pytest_sparsity.variants import Variants

Record = dict[str, Any]

# Of zlib and the gzip command by default; 9 takes twice as long for a thousandth.
GZIP_LEVEL = 6


def plain(value: Any) -> Any:
    """Return a value in JSON's types; what is not finite becomes None, what is unknown its text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: plain(getattr(value, name)) for name in names if not name.startswith("_")}
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def of_model(model: Model) -> Record:
    """Return what a report says of a model's file; without its hash if it has changed."""
    try:
        digest = model.sha256
    except (ModelError, OSError):
        digest = ""
    return {"name": model.path.name, "nbytes": model.nbytes, "sha256": digest}


def of_file(model: Model) -> Record:
    """Return a model's size, its size after gzip, and its layers.

    A file that has changed since it was read has a `fault` that says so, and no layers.
    """
    try:
        return _facts(model)
    except (ModelError, OSError) as error:
        unknown: Record = {
            "sparsity": None,
            "gzip_nbytes": None,
            "layers": [],
            "fault": one_line(error),
        }
        return {**of_model(model), **unknown}


@functools.lru_cache(maxsize=256)
def _facts(model: Model) -> Record:
    from pytest_sparsity.properties import gzip_nbytes

    facts = {
        **of_model(model),
        "sparsity": model.sparsity,
        "gzip_nbytes": gzip_nbytes(model, GZIP_LEVEL),
        "layers": [
            {
                "index": layer.index,
                "op": layer.op,
                "name": layer.name,
                "shape": layer.shape,
                "dtype": layer.dtype,
                "parameters": layer.parameters,
                "sparsity": layer.sparsity,
                "encoding": layer.encoding,
                "nbytes": layer.nbytes,
            }
            for layer in model.layers
        ],
        "fault": "",
    }
    return dict(plain(facts))


def of_variants(variants: Variants) -> Record:
    """Return which files belong to one network, by their hashes."""
    files = {"dense": variants.dense, "pruned": variants.pruned, "sparse": variants.sparse}
    return {role: of_model(model)["sha256"] for role, model in files.items()}


def of_race(
    race: Race,
    dense: Model,
    sparse: Model,
    comparisons: Sequence[BaselineComparison],
    resolution: str,
    diagnosis: Diagnosis | str | None = None,
) -> Record:
    """Return what a report says of a race.

    Args:
        race: the race.
        dense: the model that was compared with.
        sparse: the model that was claimed to be better.
        comparisons: the test's comparisons with baselines; those that asked this race are its
            claims, instead of the comparisons with numbers that they took.
        resolution: which effect the budget resolves, as the control says.
        diagnosis: of the sparse model on the race's target, or why there is none; None if nobody
            asked.
    """
    asked = {id(claim) for claim in race.claims}
    baselines = [c for c in comparisons if any(id(claim) in asked for claim in c.claims)]
    probes = {id(claim) for comparison in baselines for claim in comparison.claims}
    claims = [_of_claim(claim) for claim in race.claims if id(claim) not in probes]
    claims += [_of_baseline_claim(comparison) for comparison in baselines]
    record = {
        **race.as_json(),
        "quantity": "speedup" if race.unit == "seconds" else "instruction ratio",
        "dense_model": of_model(dense),
        "sparse_model": of_model(sparse),
        "claims": claims,
        "metadata": race.metadata,
        "resolution": resolution,
        "diagnosis": of_diagnosis(diagnosis) if isinstance(diagnosis, Diagnosis) else None,
        "no_diagnosis": diagnosis if isinstance(diagnosis, str) else "",
    }
    return dict(plain(record))


def of_comparison(comparison: BaselineComparison) -> Record:
    """Return what a report says of a comparison with a baseline."""
    record: Record = plain(
        {
            field.name: getattr(comparison, field.name)
            for field in dataclasses.fields(comparison)
            if field.name != "claims"
        }
    )
    return {**record, "change": plain(comparison.change), "moved": comparison.moved}


def of_diagnosis(diagnosis: Diagnosis) -> Record:
    """Return what a report says of a diagnosis; the layers are with the model."""
    return dict(
        plain(
            {
                "model": of_model(diagnosis.model),
                "target": diagnosis.target.name,
                "verdict": diagnosis.verdict,
                "evidence": diagnosis.evidence,
                "headline": diagnosis.headline,
                "outputs_match": diagnosis.outputs_match,
                "inputs": diagnosis.inputs,
                "kernels": diagnosis.kernels,
                "nanoseconds": diagnosis.nanoseconds,
                "findings": diagnosis.findings,
            }
        )
    )


def of_not_run(lacking: Unsupported, *, required: bool) -> Record:
    """Return what a report says of a claim that did not run.

    Args:
        lacking: what the environment lacks.
        required: whether the claim's target must run.
    """
    return {
        "target": lacking.target,
        "reason": one_line(lacking.reason),
        "remedy": one_line(lacking.remedy),
        "required": required,
    }


def _of_claim(claim: Claim) -> Record:
    return {
        "text": f"{claim.operator} {claim.threshold:g}",
        "threshold": claim.threshold,
        "verdict": claim.verdict,
        "reason": claim.reason,
        **_bounds(claim.estimate),
    }


def _of_baseline_claim(comparison: BaselineComparison) -> Record:
    estimate = comparison.claims[-1].estimate
    return {
        "text": _baseline_claim(comparison),
        "threshold": comparison.threshold,
        "verdict": comparison.verdict,
        "reason": "",
        "baseline": comparison.name,
        **_bounds(estimate),
    }


def _baseline_claim(comparison: BaselineComparison) -> str:
    if comparison.verdict == "recorded":
        return f"recorded as {comparison.name!r}"
    tolerance = f" within {100 * comparison.within:g} %" if comparison.within else ""
    return f"{comparison.operator} {comparison.name!r} {text(comparison.recorded)}{tolerance}"


def _bounds(estimate: Estimate) -> Record:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
