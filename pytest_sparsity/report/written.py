"""What a command that writes a model says about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.report.failure import table
from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_sparsity.diagnosis import Diagnosis
    from pytest_sparsity.model import Layer, Model
    from pytest_sparsity.repairing import Repaired
    from pytest_sparsity.targets import Target
    from pytest_sparsity.transform import Narrowed, Shrunk

NAME = 40  # longest name of a layer; longer ones lose their beginning


def lines(before: Model, after: Model, harm: Sequence[Diagnosis]) -> list[str]:
    """Return the layers that are stored in another way, the sizes, and where the file is wrong.

    Args:
        before: the model that was read.
        after: the one that was written, with the same layers.
        harm: diagnoses of it on targets where it computes wrong outputs or does not load.
    """
    rows = [
        [
            str(new.index),
            new.op,
            "x".join(map(str, new.shape)),
            _from_to(f"{old.sparsity:.1%}", f"{new.sparsity:.1%}"),
            _from_to(old.encoding, new.encoding),
            _from_to(f"{old.nbytes:,}", f"{new.nbytes:,}"),
            _short(new.name),
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
        f"{len(rows)} of {counted(len(after.layers), 'layer')} changed; {before.path.name} has "
        f"{before.nbytes:,} bytes"
    )
    for diagnosis in harm:
        said.append(f"on {diagnosis.target.name} the file cannot be used: {diagnosis.headline}")
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


def shrunk_lines(before: Model, shrunk: Shrunk, left: int) -> list[str]:
    """Return what `shrink` removed, and what it left.

    Args:
        before: the model that was read.
        shrunk: what was made of it.
        left: dead channels that stay, since layers keep a multiple of some number.
    """
    said = [_narrowed(layer) for layer in shrunk.layers]
    channels = counted(shrunk.channels, "channel")
    removed = f"removed: {channels} of {counted(len(shrunk.layers), 'layer')}"
    if not shrunk.layers:
        removed = "no channel was removed: " + ("all are needed" if not left else "few are dead")
    if left:
        said.append(
            f"{counted(left, 'more channel is dead and stays', 'more channels are dead and stay')},"
            " so that layers keep a multiple of channels (--multiple)"
        )
    said.append(f"{_sizes(before, shrunk.model)}; {removed}")
    return said


def _narrowed(layer: Narrowed) -> str:
    """Return one narrowed layer, its name short enough for a line."""
    return f"{_short(layer.name)}: {layer.before} channels became {layer.after}"


def shrunk_json(before: Model, shrunk: Shrunk, left: int) -> dict[str, object]:
    """Return the same as plain values."""
    return {
        "model": str(before.path),
        "output": str(shrunk.model.path),
        "nbytes": {"before": before.nbytes, "after": shrunk.model.nbytes},
        "channels": {"removed": shrunk.channels, "left": left},
        "layers": [
            {"name": layer.name, "channels": {"before": layer.before, "after": layer.after}}
            for layer in shrunk.layers
        ],
    }


def repaired_lines(before: Model, repaired: Repaired, target: Target) -> list[str]:
    """Return what `repair` did, what it could not do, and which file was written."""
    done = repaired.repair
    said = [f"{x.rule}: {_short(x.name)}: {x.says}" for x in done.rewrites]
    if not done.exact:
        said.append("float32 sums are added in another order; all else keeps every bit")
    after = "" if done.before == done.after else f"; after: {done.after}"
    said.append(f"on {target.name} by the rules: {done.before}{after}")
    for finding in repaired.left:
        takes = f" [{finding.takes}]" if finding.takes else ""
        cure = f"; {finding.remedy}{takes}" if finding.remedy else ""
        said.append(f"left as it is: {finding.code}: {finding.message}{cure}")
    said.append(f"{_sizes(before, repaired.model)}; {KEPT[repaired.kept]}: {repaired.reason}")
    return said


KEPT = {
    "repaired": "repaired",
    "original": "the original is kept",
    "densified": "its weights are stored densely",
}
"""What was written, in words."""


def repaired_json(before: Model, repaired: Repaired, target: Target) -> dict[str, object]:
    """Return the same as plain values."""
    done = repaired.repair
    return {
        "model": str(before.path),
        "output": str(repaired.model.path),
        "target": target.name,
        "nbytes": {"before": before.nbytes, "after": repaired.model.nbytes},
        "kept": repaired.kept,
        "reason": repaired.reason,
        "exact": done.exact,
        "rewrites": [vars(rewrite) for rewrite in done.rewrites],
        "rules": {"before": vars(done.before), "after": vars(done.after)},
        "race": None if repaired.race is None else repaired.race.as_json(),
        "left": [vars(finding) for finding in repaired.left],
    }


def _sizes(before: Model, after: Model) -> str:
    return f"{after.path}: {after.nbytes:,} bytes; {before.path.name} has {before.nbytes:,}"


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"...{name[3 - NAME :]}"
