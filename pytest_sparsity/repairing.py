"""Repair a file, and keep the repaired one only where a race shows that it is faster.

The rewrites are `transform.repair`'s. They cost operations of their own, so whether they pay is
not for rules to say.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity import defaults
from pytest_sparsity.diagnosis import diagnose
from pytest_sparsity.errors import Inconclusive, Unsupported, WrongOutputs, one_line
from pytest_sparsity.findings import dense, wrong
from pytest_sparsity.model import Model, replace_file
from pytest_sparsity.racing import race as run_race
from pytest_sparsity.targets import Target
from pytest_sparsity.transform import densify
from pytest_sparsity.transform import repair as rewrite
from pytest_sparsity.xnnpack import WRONG
from pytest_sparsity.xnnpack.misfits import REPAIR

if TYPE_CHECKING:
    from os import PathLike

    from pytest_sparsity.findings import Finding
    from pytest_sparsity.inputs import InputsLike, Shapes
    from pytest_sparsity.racing import Controls, Race
    from pytest_sparsity.transform import Repair

OF_KERNELS = frozenset(kind.code for kind in (*dense.KINDS, *wrong.KINDS))
NO_RACE = "pass race=False (--no-race on the command line) to keep what the rules say"


@dataclass(frozen=True)
class Repaired:
    """What became of a file.

    Attributes:
        model: the file that was written.
        repair: what was done, and what the rules say before and after it.
        kept: what was written: `"repaired"`, `"original"`, or `"densified"`: the same weights
            stored densely, right everywhere and no faster than before pruning.
        reason: why that one, one clause.
        race: of what there was, stored densely if it computes wrong outputs, against the repaired
            file; None if there was none.
        left: what no exact rewrite repairs, by the rules: why layers of the repaired file stay
            dense or go wrong on the target, or those of the original, if nothing was rewritten.
    """

    model: Model
    repair: Repair
    kept: str
    reason: str
    race: Race | None
    left: tuple[Finding, ...]


def repair(
    model: Model | str | PathLike[str],
    path: str | PathLike[str],
    *,
    target: str | Target = defaults.SPARSE_TARGET,
    race: bool = True,
    budget: float = defaults.BUDGET,
    controls: Controls | None = None,
    inputs: InputsLike | None = None,
    shapes: Shapes | None = None,
) -> Repaired:
    """Write a file that computes the same and runs sparse kernels, rightly and faster, on a target.

    The rewrites are exact, but for the order of some float32 sums (`Repair.exact`). What they
    repaired is raced against what there was: the file as it is, or, where it computes wrong
    outputs, its weights stored densely. Unless that shows that the repaired file is faster, what
    there was is written. Where no rewrite repairs a wrong file, its weights are stored densely.

    Args:
        model: any model; its weights should be stored sparsely (`transform.encode`).
        path: of the file to write, which is replaced if it exists.
        target: where it is to run sparse. Without a race it need not be installed.
        race: whether a race decides; else the rules alone do.
        budget: seconds of the race.
        controls: of the race, those raced so far, which are reused and added to.
        inputs: of the race: what both files are run on; by default drawn.
        shapes: of the inputs: needed where the file leaves sizes other than the batch open.

    Raises:
        ModelError: the file is damaged.
        ValueError: no rules of sparse inference are known for the target, or the inputs do not fit.
        Unsupported: the target cannot run here, or does not take the inputs that were drawn, and
            a race is to decide. Nothing is written then.
    """
    model, path, target = Model.of(model), Path(path), Target.of(target)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        done = rewrite(model, folder / f"{path.stem}-repaired.tflite", target=target)
        kept, chosen, reason, raced = "repaired", done.model, "no race was run", None
        if done.densified:
            kept, reason = "densified", "it computes wrong outputs there, and no rewrite repairs it"
        elif not done.rewrites:
            kept, chosen, reason = "original", model, _nothing(done)
        elif race:
            other = _opponent(model, done, folder / f"{path.stem}-before.tflite")
            raced, faster, reason = _raced(
                other, done.model, target, budget, controls, inputs, shapes
            )
            if not faster:
                kept, chosen = ("original" if other is model else "densified"), other
        about = done.model if done.rewrites else model
        left = diagnose(about, target, observe=False).findings
        replace_file(path, [chosen.data])
    written = Model(path)
    return Repaired(
        written,
        replace(done, model=written),
        kept,
        reason,
        raced,
        tuple(_without_repair(finding) for finding in left if finding.code in OF_KERNELS),
    )


def _without_repair(finding: Finding) -> Finding:
    """The finding with what its remedy has beside a repair, which has just been tried."""
    text = finding.remedy.removeprefix(f"{REPAIR}, or ")
    return finding if text == finding.remedy else replace(finding, remedy=text, takes="training")


def _nothing(done: Repair) -> str:
    if done.before.verdict in WRONG:
        return "no rewrite repairs it, and its weights are stored densely already"
    return "no rewrite lets more of it run sparse"


def _opponent(model: Model, done: Repair, path: Path) -> Model:
    """What there is without the rewrites, and computes the right outputs."""
    return densify(model, path) if done.before.verdict in WRONG else model


def _raced(
    before: Model,
    after: Model,
    target: Target,
    budget: float,
    controls: Controls | None,
    inputs: InputsLike | None,
    shapes: Shapes | None,
) -> tuple[Race | None, bool, str]:
    """The race, whether it shows that the repaired file is faster, and what it says."""
    unit = "fewer instructions" if target.unit == "instructions" else "as fast"
    try:
        raced = run_race(
            before,
            after,
            target=target,
            budget=budget,
            controls=controls,
            inputs=inputs,
            shapes=shapes,
        )
    except WrongOutputs as error:
        return None, False, f"the rules expect right outputs, and they are not: {one_line(error)}"
    except Unsupported as missing:
        remedy = f"{missing.remedy}; or {NO_RACE}" if missing.remedy else NO_RACE
        raise type(missing)(missing.reason, remedy, missing.target) from missing
    try:
        faster = raced.ratio > 1
    except Inconclusive:
        return raced, False, f"{budget:g} s of racing do not show that the repaired file is faster"
    return raced, bool(faster), f"in a race the repaired file was {raced.ratio} times {unit}"
