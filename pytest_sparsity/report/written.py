"""What a command that writes a model says about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.report.failure import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.diagnosis import Diagnosis
    from pytest_sparsity.model import Layer, Model

NAME = 40  # longest name of a layer; longer ones lose their beginning


def lines(before: Model, after: Model, harm: Sequence[Diagnosis]) -> list[str]:
    """Return the layers that are stored in another way, the sizes, and where the file is wrong.

    Args:
        before: the model that was read.
        after: the one that was written, with the same layers.
        harm: diagnoses of it on targets where it computes wrong answers or does not load.
    """
    rows = [
        [
            str(new.index),
            new.op,
            "x".join(map(str, new.shape)),
            _from_to(f"{old.sparsity:.1%}", f"{new.sparsity:.1%}"),
            _from_to(old.encoding, new.encoding),
            _from_to(f"{old.nbytes:,}", f"{new.nbytes:,}"),
            new.name if len(new.name) <= NAME else f"...{new.name[3 - NAME :]}",
        ]
        for old, new in _changed(before, after)
    ]
    said = []
    if rows:
        said += [
            *table(["layer", "operator", "shape", "zeros", "stored", "bytes", "name"], rows),
            "",
        ]
    said.append(
        f"{after.path}: {after.nbytes:,} bytes, {after.sparsity:.1%} zeros; "
        f"{len(rows)} of {len(after.layers)} layers changed; {before.path.name} has "
        f"{before.nbytes:,} bytes"
    )
    for diagnosis in harm:
        said.append(f"on {diagnosis.target.name} the file is of no use: {diagnosis.headline}")
    if harm:
        said.append(f"see pytest-sparsity explain {after.path}")
    return said


def as_json(before: Model, after: Model, harm: Sequence[Diagnosis]) -> dict[str, object]:
    """Return the same as plain values; every layer is listed."""
    return {
        "model": str(before.path),
        "output": str(after.path),
        "nbytes": {"before": before.nbytes, "after": after.nbytes},
        "sparsity": {"before": before.sparsity, "after": after.sparsity},
        "layers": [
            {
                "index": new.index,
                "op": new.op,
                "name": new.name,
                "shape": list(new.shape),
                "sparsity": {"before": old.sparsity, "after": new.sparsity},
                "encoding": {"before": old.encoding, "after": new.encoding},
                "nbytes": {"before": old.nbytes, "after": new.nbytes},
            }
            for old, new in zip(before.layers, after.layers, strict=True)
        ],
        "harm": [{"target": d.target.name, "verdict": d.verdict} for d in harm],
    }


def _from_to(old: str, new: str) -> str:
    return new if old == new else f"{old} to {new}"


def _changed(before: Model, after: Model) -> list[tuple[Layer, Layer]]:
    pairs = zip(before.layers, after.layers, strict=True)
    return [(a, b) for a, b in pairs if (a.encoding, a.sparsity) != (b.encoding, b.sparsity)]
