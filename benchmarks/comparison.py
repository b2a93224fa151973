"""False accusations and missed wrong outputs of the comparison of outputs, on a target.

    python benchmarks/comparison.py [--target litert-js] [--random 150] [--every 1]
        [--kernels reference] [--output FILE] [FILES]

Right models are those of the corpus (`tests/corpus.py`), of random networks
(`pytest_sparsity.strategies`) and of FILES, such as the zoo's, that the rules of sparse inference
call right on the target; wrong ones those that they call wrong (claims hold the rules to what is
observed). Each is stored sparsely
and compared with its densely stored copy, for three sets of drawn inputs; with `--kernels
reference` or `builtin` the copy runs with these, which is what there is to tell where the target's
own kernels are the same for both.

Errors are planted in the right ones: in one value, for one set of inputs, e times what that value
varies by, with e from 1e-3 to 1; first in the outputs as they are, then in outputs that have
boxes of some hundreds in the same tensor (three values that both sides share).

Two rules are compared:

- value by value: the difference over what is allowed, of `pytest_sparsity.comparison`;
- of the largest: the largest difference over the largest output, at most 1e-4.

Of each: how many right models are accused, how many errors are missed, and the area under the
receiver operating characteristic (1: some threshold separates all errors from all right models).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_sparsity import xnnpack
from pytest_sparsity.comparison import TOLERANCE, beyond, scale_of, share_of_largest
from pytest_sparsity.diagnosis.noise import own_noise
from pytest_sparsity.diagnosis.outputs import is_float
from pytest_sparsity.errors import TargetError
from pytest_sparsity.inference import invoked
from pytest_sparsity.inputs import feed
from pytest_sparsity.model import Model
from pytest_sparsity.targets import Target, Worker
from pytest_sparsity.transform import densify, encode, prune
from pytest_sparsity.xnnpack import prunable_layers

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

ERRORS = (1e-3, 1e-2, 1e-1, 1.0)
SETS = 3


@dataclass(frozen=True)
class Measured:
    """Outputs of a model and of its copy as sets by values, and the model's own noise."""

    name: str
    ours: Any
    theirs: Any
    noise: Any

    def value_by_value(self, ours: Any = None, *, boxes: bool = False) -> float:
        """Largest difference over what is allowed; above 1 is an accusation."""
        mine, theirs, noise = self._parts(ours, boxes=boxes)
        allowed = beyond(scale_of(list(theirs)), TOLERANCE, noise)
        difference = np.abs(mine - theirs)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(difference > 0, difference / allowed, 0.0)
        finite = np.isfinite(mine) == np.isfinite(theirs)
        return float("inf") if not finite.all() else float(np.nanmax(share, initial=0.0))

    def of_the_largest(self, ours: Any = None, *, boxes: bool = False) -> float:
        """Largest difference over the largest output, in units of what is allowed."""
        mine, theirs, _ = self._parts(ours, boxes=boxes)
        return max(share_of_largest(a, b) for a, b in zip(mine, theirs, strict=True)) / TOLERANCE

    def _parts(self, ours: Any, *, boxes: bool) -> tuple[Any, Any, Any]:
        mine = self.ours if ours is None else ours
        if not boxes:
            return mine, self.theirs, self.noise
        shared = 600 + 40 * np.arange(3 * SETS, dtype=float).reshape(SETS, 3)[: len(mine)]
        ours, theirs = (np.hstack([shared, each]) for each in (mine, self.theirs))
        return ours, theirs, np.concatenate([np.zeros(3), self.noise])

    def planted(self, error: float, rng: np.random.Generator) -> Any:
        """The outputs with one value wrong, or None if no value varies."""
        varies = np.flatnonzero(np.ptp(self.theirs, axis=0) > 0)
        if not varies.size:
            return None
        value, number = rng.choice(varies), rng.integers(len(self.theirs))
        wrong = self.ours.copy()
        wrong[number, value] += rng.choice([-1, 1]) * error * np.ptp(self.theirs[:, value])
        return wrong


def models(folder: Path, random: int, every: int) -> Iterator[tuple[str, Model]]:
    """The corpus, and random networks."""
    import corpus
    from pytest_sparsity.strategies import chains

    for case in corpus.CASES[::every]:
        yield f"corpus: {case.name}", Model(case.write(folder))
    rng = np.random.default_rng(0)
    good, bad = chains.STEPS, chains.STEPS | chains.BAD_STEPS
    for number in range(random):
        steps = good if number % 3 else bad
        chain = chains.Chain(
            steps=tuple(rng.choice(list(steps), rng.integers(0, 4)).tolist()),
            end=str(rng.choice(list(chains.ENDS))),
            zeros=float(rng.choice([0.7, 0.75, 0.9])),
            channels=int(rng.choice([4, 8, 12])),
            size=int(rng.choice([16, 18, 24])),
            seed=number,
        )
        try:
            path = chain.build().write(folder / f"random_{number}.tflite")
        except ValueError:
            continue  # A layer does not fit the size that is left.
        yield f"random: {number}", Model(path)


def files(given: list[Path], folder: Path) -> Iterator[tuple[str, Model]]:
    """Files that were built elsewhere, such as the zoo's; those stored densely pruned to 80 %."""
    for number, path in enumerate(given):
        model = Model(path)
        if not model.encoded and is_float(model) and prunable_layers(model):
            pruned = prune(model, folder / f"pruned_{number}.tflite", sparsity=0.8)
            model = encode(pruned, folder / f"encoded_{number}.tflite")
        yield f"file: {path.name}", model


def measured(worker: Worker, name: str, model: Model, folder: Path, kernels: str) -> Measured:
    """Run a model and its copy."""
    fed = feed(model)
    copy = fed.like(densify(model, folder / "copy.tflite"))
    found = []
    for each, chosen in ((fed, "default"), (copy, kernels)):
        worker.load("model", each.model, shapes=each.shapes, kernels=chosen)
        found.append(invoked(worker, "model", each, range(SETS), kernels=chosen))
        worker.unload("model")
    noise = own_noise(worker, copy, found[1], folder, kernels=kernels)
    ours, theirs = (
        np.array([np.concatenate([array.ravel() for array in outputs]) for outputs in sets], float)
        for sets in found
    )
    return Measured(name, ours, theirs, np.concatenate(noise))


def area(right: list[float], wrong: list[float]) -> float:
    """The probability that a wrong one has a larger value than a right one (Mann and Whitney)."""
    if not right or not wrong:
        return float("nan")
    low, high = np.array(right)[:, None], np.array(wrong)[None]
    return float(np.mean((high > low) + 0.5 * (high == low)))


def main() -> None:
    """Measure one target and print a table, or write it as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="litert")
    parser.add_argument("--random", type=int, default=150, help="random networks")
    parser.add_argument("--every", type=int, default=1, help="take every n-th of the corpus")
    parser.add_argument("--kernels", default="default", help="of the densely stored copy")
    parser.add_argument("--output", type=Path, help="write what was measured, JSON")
    parser.add_argument("files", nargs="*", type=Path, help="further right models")
    options = parser.parse_args()
    target, rng = Target.of(options.target), np.random.default_rng(0)
    facts = (target.record.rules, target.version(), target.arch, target.features)
    values: dict[str, list[float]] = defaultdict(list)
    accused: dict[str, list[str]] = defaultdict(list)
    skipped = 0
    with tempfile.TemporaryDirectory() as name:
        folder, worker = Path(name), target.open()
        given = [*models(folder, options.random, options.every), *files(options.files, folder)]
        for label, model in given:
            verdict = xnnpack.verdict(xnnpack.analyse(model, *facts))
            if verdict == "fails" or not is_float(model) or not model.encoded:
                skipped += 1
                continue
            try:
                found = measured(worker, label, model, folder, options.kernels)
            except TargetError:
                worker.close()
                worker, skipped = target.open(), skipped + 1
                continue
            kind = "wrong" if verdict == "miscomputes" else "right"
            take(values, accused, found, kind, rng)
            if kind == "wrong" and target.runtime == "litert-js":
                worker.close()  # what it has written over must not be met by the next
                worker = target.open()
        worker.close()
    report(options, values, accused, skipped)


def take(
    values: dict[str, list[float]],
    accused: dict[str, list[str]],
    found: Measured,
    kind: str,
    rng: np.random.Generator,
) -> None:
    """Add what both rules say of one model, and of errors planted in it."""
    rules = {"values": found.value_by_value, "largest": found.of_the_largest}
    for rule, judge in rules.items():
        values[f"{rule} {kind}"].append(judge())
        if kind == "right" and judge() > 1:
            accused[rule].append(found.name)
        if kind == "wrong" and judge() <= 1:
            accused[f"{rule} missed"].append(found.name)
    if kind == "wrong":
        return
    for rule, judge in rules.items():
        values[f"{rule} right boxes"].append(judge(boxes=True))
    for error in ERRORS:
        wrong = found.planted(error, rng)
        if wrong is None:
            return
        for rule, judge in rules.items():
            values[f"{rule} {error:g}"].append(judge(wrong))
            values[f"{rule} {error:g} boxes"].append(judge(wrong, boxes=True))


def report(
    options: argparse.Namespace,
    values: dict[str, list[float]],
    accused: dict[str, list[str]],
    skipped: int,
) -> None:
    """Print the table."""
    right, wrong = len(values["values right"]), len(values["values wrong"])
    print(f"{options.target}: {right} right models, {wrong} wrong ones, {skipped} left out")
    rows = []
    for rule in ("values", "largest"):
        base = {"": values[f"{rule} right"], " boxes": values[f"{rule} right boxes"]}
        false = {beside: sum(v > 1 for v in each) for beside, each in base.items()}
        print(f"{rule}: accused {false['']} (with boxes {false[' boxes']}), {accused[rule]}")
        print(f"{rule}: missed of the wrong {accused[f'{rule} missed']}")
        cases = [("known wrong", "wrong", "")]
        cases += [(f"{e:g}{b}", f"{e:g}{b}", b) for e in ERRORS for b in ("", " boxes")]
        for label, key, beside in cases:
            found = values[f"{rule} {key}"]
            row = {
                "target": options.target,
                "rule": rule,
                "errors": label,
                "planted": len(found),
                "missed": sum(v <= 1 for v in found),
                "area": area(base[beside], found),
                "accused": false[beside],
                "right": right,
            }
            rows.append(row)
            missed = f"missed {row['missed']} of {row['planted']}"
            print(f"  {label:12} {missed:22} area {row['area']:.4f}")
    if options.output:
        options.output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
