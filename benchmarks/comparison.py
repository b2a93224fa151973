"""False accusations and missed wrong outputs of the comparison of outputs, on a target.

    python benchmarks/comparison.py [--target litert-js] [--random 150] [--every 1]
        [--kernels reference] [--keep FOLDER] [--output FILE] [FILES]

Right models are those of the corpus (`tests/corpus.py`), of the files with a known defect
(`tests/claims/test_runtime_defects.py`), of random networks (`pytest_sparsity.strategies`) and of
FILES, such as the zoo's and published ones, that the rules of sparse inference call right on the
target; wrong ones those that they call wrong (claims hold the rules to what is observed). Each is
compared as `diagnose` does: with its densely stored copy, for three sets of drawn inputs, more if
the outputs are the same for all. With `--kernels reference` the copy runs with these, which is what
there is to tell where the target's own kernels are the same for both; then FILES are also compared
as they are, stored densely. What the runtime itself refuses is counted as caught if it is wrong.

Errors are planted in the right ones without quantized tensors: in one value, for one set of inputs,
e times what that value varies by, with e from 1e-3 to 1; first in the outputs as they are, then in
outputs that have boxes of some hundreds in the same tensor (three values that both sides share).

Two rules are compared:

- value by value: the difference over what is allowed, of `pytest_sparsity.comparison`;
- of the largest: the largest difference over the largest output, at most 1e-4.

Of each: how many right models are accused, how many errors are missed, and the area under the
receiver operating characteristic (1: some threshold separates all errors from all right models).
A right model that is accused and a wrong one that is missed are also given to `diagnose`, whose
verdict is printed.

With `--keep` what was measured is kept, one file per model, and not measured again: an interrupted
run goes on where it was, and rules can be judged again without running anything.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
import zlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_sparsity import diagnose, xnnpack
from pytest_sparsity.comparison import FLOAT, QUANTIZED, compare, louder, share_of_largest
from pytest_sparsity.diagnosis import outputs as diagnosis
from pytest_sparsity.diagnosis.noise import DRAWS, FURTHER_DRAWS, own_noise
from pytest_sparsity.diagnosis.outputs import is_float, varying
from pytest_sparsity.errors import NeedsInputs, TargetError, Unsupported
from pytest_sparsity.inference import invoked
from pytest_sparsity.inputs import feed
from pytest_sparsity.model import Model
from pytest_sparsity.targets import Target, Worker
from pytest_sparsity.transform import densify, encode, prune
from pytest_sparsity.xnnpack import prunable_layers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_sparsity.comparison import Comparison

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

ERRORS = (1e-3, 1e-2, 1e-1, 1.0)
BOXES = 3


@dataclass(frozen=True)
class Measured:
    """Outputs of a model and of its copy, and the model's own noise.

    Attributes:
        name: of the model.
        kind: "right" or "wrong", as the rules say.
        quantized: some of its tensors are.
        ours: outputs by sets of inputs; none if the runtime refuses the model.
        theirs: those of its copy.
        few: noise of each output, in the first draws.
        every: the same in all draws.
        refused: what the runtime said, or "".
    """

    name: str
    kind: str
    quantized: bool
    ours: list[list[Any]]
    theirs: list[list[Any]]
    few: list[Any]
    every: list[Any]
    refused: str = ""

    def value_by_value(self, ours: Any = None, *, boxes: bool = False) -> float:
        """Largest difference over what is allowed; above 1 is an accusation."""
        if self.refused:
            return float("inf")
        rules = QUANTIZED if self.quantized else FLOAT
        mine, theirs = self._parts(ours, boxes=boxes)
        found = 0.0
        for seen in (self.few, self.every):
            shared = [np.zeros(BOXES if boxes and not place else 0) for place in range(len(seen))]
            noise = list(map(np.concatenate, zip(shared, seen, strict=True)))
            found = _share(compare("", mine, theirs, rules=rules, noise=noise))
            if not 1 < found <= diagnosis.BEYOND_LUCK:
                break
        return found

    def of_the_largest(self, ours: Any = None, *, boxes: bool = False) -> float:
        """Largest difference over the largest output, in units of what is allowed."""
        if self.refused:
            return float("inf")
        mine, theirs = self._parts(ours, boxes=boxes)
        sets = zip(mine, theirs, strict=True)
        pairs = [pair for one, other in sets for pair in zip(one, other, strict=True)]
        allowed = (QUANTIZED if self.quantized else FLOAT).tolerance
        return max(share_of_largest(a, b) for a, b in pairs) / allowed

    def _parts(self, ours: Any, *, boxes: bool) -> tuple[Any, Any]:
        mine = self.ours if ours is None else ours
        if not boxes:
            return mine, self.theirs
        return _with_boxes(mine), _with_boxes(self.theirs)

    def planted(self, error: float, rng: np.random.Generator) -> Any:
        """The outputs with one value wrong, or None if no value varies."""
        places = []
        for output, arrays in enumerate(zip(*self.theirs, strict=True)):
            if arrays[0].dtype.kind == "f":
                flat = np.stack([array.ravel() for array in arrays]).astype(float)
                ranges = np.ptp(flat, axis=0)
                places += [(output, value, ranges[value]) for value in np.flatnonzero(ranges > 0)]
        if not places:
            return None
        output, value, spread = places[rng.integers(len(places))]
        number = rng.integers(len(self.theirs))
        wrong = [[array.copy() for array in arrays] for arrays in self.ours]
        wrong[number][output].reshape(-1)[value] += rng.choice([-1, 1]) * error * spread
        return wrong

    def write(self, path: Path) -> None:
        """Keep everything in one file."""
        arrays = {
            f"{key} {number} {output}": array
            for key, sets in (("ours", self.ours), ("theirs", self.theirs))
            for number, arrays in enumerate(sets)
            for output, array in enumerate(arrays)
        }
        arrays |= {f"few 0 {output}": array for output, array in enumerate(self.few)}
        arrays |= {f"every 0 {output}": array for output, array in enumerate(self.every)}
        facts = [self.name, self.kind, self.quantized, self.refused]
        with path.open("wb") as file:
            np.savez(file, facts=np.array(json.dumps(facts)), **arrays)

    @staticmethod
    def read(path: Path) -> Measured:
        """What was kept."""
        found: dict[str, dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))
        with np.load(path) as file:
            name, kind, quantized, refused = json.loads(str(file["facts"]))
            for key in file.files:
                if key != "facts":
                    which, number, _ = key.split(" ")
                    found[which][int(number)].append(file[key])
        ours, theirs = list(found["ours"].values()), list(found["theirs"].values())
        few, every = found["few"][0], found["every"][0]
        return Measured(name, kind, quantized, ours, theirs, few, every, refused)


def _share(found: Comparison) -> float:
    """The largest difference over what is allowed of it."""
    if not found.finite:
        return float("inf")
    with np.errstate(divide="ignore"):
        return float(np.float64(found.deviation) / found.tolerance) if found.deviation else 0.0


def _with_boxes(sets: list[list[Any]]) -> list[list[Any]]:
    """The first output behind boxes that are the same on both sides."""
    found = []
    for number, arrays in enumerate(sets):
        boxes = 600 + 40.0 * np.arange(BOXES * number, BOXES * (number + 1)) % 320
        first = np.concatenate([boxes, arrays[0].ravel().astype(float)])
        found.append([first, *arrays[1:]])
    return found


def models(folder: Path, random: int, every: int) -> Iterator[tuple[str, Model]]:
    """The corpus, files with a known defect, and random networks."""
    import corpus
    from claims import test_runtime_defects as defects
    from pytest_sparsity.strategies import chains

    for case in corpus.CASES[::every]:
        yield f"corpus: {case.name}", Model(case.write(folder))
    for name in defects.FILES:
        yield f"defect: {name}", defects.written(name, folder)
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


def files(given: list[Path], folder: Path, *, dense: bool) -> Iterator[tuple[str, Model]]:
    """Files that were built elsewhere, such as the zoo's; those stored densely pruned to 80 %.

    Args:
        given: their paths.
        folder: where pruned ones are written.
        dense: give those that are stored densely as they are, too.
    """
    for number, path in enumerate(given):
        model = Model(path)
        if dense or model.encoded:
            yield f"file: {path.name}", model
        if not model.encoded and is_float(model) and prunable_layers(model):
            pruned = prune(model, folder / f"pruned_{number}.tflite", sparsity=0.8)
            yield f"pruned: {path.name}", encode(pruned, folder / f"encoded_{number}.tflite")


class Measuring:
    """Measures models on a target, in a worker that is replaced after what may have broken it."""

    def __init__(self, target: Target, folder: Path, kernels: str) -> None:
        self.target = target
        self.folder = folder
        self.kernels = kernels
        self.worker: Worker | None = None

    def close(self) -> None:
        """End the worker."""
        if self.worker is not None:
            self.worker.close()
        self.worker = None

    def measure(self, name: str, model: Model, kind: str) -> Measured:
        """Run a model and its copy.

        Raises:
            TargetError: a right model fails.
            ValueError: its inputs cannot be drawn.
        """
        try:
            return self._measure(name, model, kind)
        except TargetError as error:
            self.close()
            if kind == "right":
                raise
            return Measured(name, kind, not is_float(model), [], [], [], [], str(error))
        finally:
            if kind == "wrong" and self.target.runtime == "litert-js":
                self.close()  # what it has written over must not be met by the next

    def _measure(self, name: str, model: Model, kind: str) -> Measured:
        worker = self.worker = self.worker or self.target.open()
        fed = feed(model)
        copy = fed.like(densify(model, self.folder / "copy.tflite"))

        def run(each: Any, numbers: Any, kernels: str) -> list[Any]:
            worker.load("model", each.model, shapes=each.shapes, kernels=kernels)
            found = invoked(worker, "model", each, numbers, kernels=kernels)
            worker.unload("model")
            return list(map(list, found))

        start = time.monotonic()
        run(fed, (0,), "default")
        slow = time.monotonic() - start > diagnosis.SLOW
        count = min(diagnosis.SLOW_SETS if slow else diagnosis.SETS, fed.count)
        few, more = (diagnosis.SLOW_DRAWS,) * 2 if slow else (DRAWS, FURTHER_DRAWS)
        kernels = self.kernels if is_float(model) else "default"
        if kernels == "reference" and slow:
            kernels = "builtin"
        ours = run(fed, range(count), "default")
        if not varying(ours) and not slow:
            ours += run(fed, range(count, fed.count), "default")
        theirs = run(copy, range(len(ours)), kernels)
        first: Any = theirs[: diagnosis.SETS]
        noises = []
        for draws in (range(few), range(few, few + more)):
            options: Any = {"kernels": kernels, "draws": draws}
            noises.append(own_noise(worker, copy, first, self.folder, **options))
        quantized = not is_float(model)
        return Measured(name, kind, quantized, ours, theirs, noises[0], louder(noises))


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
    parser.add_argument("--keep", type=Path, help="folder of what was measured, to go on with")
    parser.add_argument("--output", type=Path, help="write what was measured, JSON")
    parser.add_argument("files", nargs="*", type=Path, help="further right models")
    options = parser.parse_args()
    values: dict[str, list[float]] = defaultdict(list)
    judged: dict[str, list[str]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        for found, model in measured(options, Path(name), judged["left out"]):
            take(values, found)
            share = found.value_by_value()
            if (share > 1) == (found.kind == "right"):
                verdict = diagnose(model, target=options.target)
                told = f"{found.name} ({share:.2g}; diagnose: {verdict.verdict})"
                judged["accused" if found.kind == "right" else "missed"].append(told)
    report(options, values, judged)


def measured(
    options: argparse.Namespace, folder: Path, left_out: list[str]
) -> Iterator[tuple[Measured, Model]]:
    """What was measured of every model, now or before."""
    target = Target.of(options.target)
    facts = (target.record.rules, target.version(), target.arch, target.features)
    measuring = Measuring(target, folder, options.kernels)
    keep = options.keep or folder / "kept"
    keep.mkdir(parents=True, exist_ok=True)
    plain = options.kernels == "default"
    for family in (
        models(folder, options.random, options.every),
        files(options.files, folder, dense=not plain),
    ):
        for name, model in family:
            kept = keep / f"{re.sub(r'[^A-Za-z0-9.]+', '-', name)}-{model.sha256[:8]}.npz"
            if not kept.exists():
                verdict = xnnpack.verdict(xnnpack.analyse(model, *facts))
                kind = "wrong" if verdict == "miscomputes" else "right"
                if verdict == "fails" or (not model.encoded and (plain or not is_float(model))):
                    left_out.append(f"{name} ({'fails' if verdict == 'fails' else 'dense'})")
                    continue
                try:
                    measuring.measure(name, model, kind).write(kept)
                except (TargetError, Unsupported, NeedsInputs, ValueError) as error:
                    left_out.append(f"{name} ({str(error)[:150]})")
                    continue
            yield Measured.read(kept), model
    measuring.close()


def take(values: dict[str, list[float]], found: Measured) -> None:
    """Add what both rules say of one model, and of errors planted in it."""
    rules = {"values": found.value_by_value, "largest": found.of_the_largest}
    for rule, judge in rules.items():
        values[f"{rule} {found.kind}"].append(judge())
    if found.kind == "wrong":
        return
    for rule, judge in rules.items():
        values[f"{rule} right boxes"].append(judge(boxes=True))
    rng = np.random.default_rng(zlib.crc32(found.name.encode()))
    for error in ERRORS:
        wrong = None if found.quantized else found.planted(error, rng)
        if wrong is None:
            return
        for rule, judge in rules.items():
            values[f"{rule} {error:g}"].append(judge(wrong))
            values[f"{rule} {error:g} boxes"].append(judge(wrong, boxes=True))


def report(
    options: argparse.Namespace, values: dict[str, list[float]], judged: dict[str, list[str]]
) -> None:
    """Print the table."""
    right, wrong = len(values["values right"]), len(values["values wrong"])
    left_out = judged["left out"]
    print(f"{options.target}: {right} right models, {wrong} wrong ones, {len(left_out)} left out")
    for what in ("left out", "accused", "missed"):
        for told in judged[what]:
            print(f"{what}: {told}")
    rows = []
    for rule in ("values", "largest"):
        base = {"": values[f"{rule} right"], " boxes": values[f"{rule} right boxes"]}
        false = {beside: sum(v > 1 for v in each) for beside, each in base.items()}
        largest = sorted(base[""])[-3:]
        print(f"{rule}: accused {false['']} (with boxes {false[' boxes']}), largest {largest}")
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
