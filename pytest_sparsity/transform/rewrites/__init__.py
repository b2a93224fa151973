"""Exact rewrites that make a graph run sparse, and right, on a target.

Each rewrite computes the same numbers by other operators (`windows`, `arithmetic`, `means`,
`mirror`). Which of them a file needs is not guessed: all that apply are tried, XNNPACK's rules say
what becomes of the result, and a rewrite without which the result is no worse is taken back.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity import defaults, xnnpack
from pytest_sparsity.model import Model, replace_file
from pytest_sparsity.targets import Target
from pytest_sparsity.transform.densification import densify
from pytest_sparsity.transform.rewrites.arithmetic import constant_operand, difference, prelu
from pytest_sparsity.transform.rewrites.means import global_pool, keeping_dimensions, transposed
from pytest_sparsity.transform.rewrites.mirror import mirror
from pytest_sparsity.transform.rewrites.windows import (
    average_pool,
    depthwise,
    entry,
    strided_pointwise,
)
from pytest_sparsity.transform.work import Work
from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike

    from pytest_sparsity.transform.rewrites.change import ProposedRewrite

__all__ = ["REORDERED", "Repair", "Rewritten", "repair"]

REWRITES: tuple[Callable[[Work], Iterator[ProposedRewrite]], ...] = (
    depthwise,
    entry,
    strided_pointwise,
    average_pool,
    prelu,
    difference,
    constant_operand,
    transposed,
    global_pool,
    keeping_dimensions,
)
REORDERED = frozenset({"mirror", "average-pool", "global-pool"})
"""Rewrites that add the same numbers in another order; all others keep every bit."""

INSIDE = "kept-dimensions"
"""What repairs an average at the end of a chain breaks one inside it (squeeze and excite), whose
dimensions are kept rightly; so all is tried with it and without."""
ANY = ""
"""Stands for the names of all operators."""

PASSES = 8
"""More than any chain of rewrites, each of which makes the next one possible, has needed."""


@dataclass(frozen=True)
class Rewritten:
    """A rewrite that was made.

    Attributes:
        rule: its name.
        name: of the output of the operator that it is about.
        says: what was done, as a clause.
    """

    rule: str
    name: str
    says: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.name}: {self.says}"


@dataclass(frozen=True)
class Outlook:
    """What XNNPACK's rules say of a file on a target.

    Attributes:
        verdict: `"sparse"`, `"dense"`, `"miscomputes"` or `"fails"`.
        sparse: layers that run a sparse kernel, and rightly.
        prunable: layers that could.
        work: multiplications of the first, before their zeros.
    """

    verdict: str
    sparse: int
    prunable: int
    work: int

    @property
    def gain(self) -> int:
        """What is gained, to compare two files; below zero if the file is of no use."""
        return -1 if self.verdict in xnnpack.WRONG else self.work

    def __str__(self) -> str:
        return f"{self.verdict}, {self.sparse} of {counted(self.prunable, 'prunable layer')} sparse"


@dataclass(frozen=True)
class Repair:
    """What was done to a file.

    Attributes:
        model: the file that was written: repaired, or densely stored, or as it was.
        rewrites: in order; empty if none gained anything.
        before, after: what the rules say on the target.
        densified: the weights are stored densely, since the file was wrong and no rewrite repaired
            it: right everywhere, and no faster than before it was pruned.
    """

    model: Model
    rewrites: tuple[Rewritten, ...]
    before: Outlook
    after: Outlook
    densified: bool = False

    @property
    def exact(self) -> bool:
        """Every bit of the outputs is kept, not only every number but for rounding."""
        return not any(rewrite.rule in REORDERED for rewrite in self.rewrites)


def repair(
    model: Model | str | PathLike[str], path: Path, *, target: str | Target = defaults.SPARSE_TARGET
) -> Repair:
    """Write a file that computes the same and runs sparse kernels, rightly, on a target.

    Outputs are the same to the bit under one set of dense kernels, but for the rewrites in
    `REORDERED`, which add the same float32 numbers in another order. Values that are not finite
    are not kept where a rewrite multiplies by zero (`strided-pointwise`, windows).

    Args:
        model: any model; its weights should be stored sparsely (`encode`).
        path: of the file to write, which is replaced if it exists.
        target: where it is to run sparse; it need not be installed.

    Raises:
        ModelError: the file is damaged.
        ValueError: no rules of sparse inference are known for the target.
    """
    model, target = Model.of(model), Target.of(target)
    if not target.record.rules:
        raise ValueError(f"no rules of sparse inference are known for {target.name}")
    before = outlook(model, target)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        best, made, after = _best(model, target, before, folder)
        if made:
            written = Work(best).write(path)
            return Repair(written, made, before, after)
        if before.verdict in xnnpack.WRONG and model.encoded:
            dense = densify(model, path)
            outcome = outlook(dense, target)
            if outcome.verdict not in xnnpack.WRONG:
                return Repair(dense, (), before, outcome, densified=True)
    replace_file(path, [model.data])
    return Repair(Model(path), (), before, before)


def outlook(model: Model, target: Target) -> Outlook:
    """Apply XNNPACK's rules to a file."""
    analysis = xnnpack.analyse(
        model, target.record.rules, target.version(), target.arch, target.features
    )
    kernels = xnnpack.kernels(analysis)
    sparse = [
        layer
        for layer, kernel in zip(model.layers, kernels, strict=True)
        if kernel == "sparse" and layer.graph == 0
    ]
    pixels = (
        prod(model.graph.tensors[model.graph.operators[layer.operator].outputs[0]].shape[:-1])
        for layer in sparse
    )
    work = sum(layer.parameters * count for layer, count in zip(sparse, pixels, strict=True))
    prunable = len(xnnpack.prunable_layers(model))
    return Outlook(xnnpack.verdict(analysis), len(sparse), prunable, work)


def _best(
    model: Model, target: Target, before: Outlook, folder: Path
) -> tuple[Model, tuple[Rewritten, ...], Outlook]:
    """The file with the fewest rewrites that gains the most; without any if none gains."""
    attempt = _Attempt(model, target, folder)
    ways = [
        (mirrored, without)
        for mirrored in (False, True)
        for without in (frozenset[tuple[str, str]](), frozenset({(INSIDE, ANY)}))
    ]
    found = [attempt.run(mirrored=mirrored, without=without) for mirrored, without in ways]
    best = max(found, key=lambda result: result[2].gain)
    if best[2].gain <= before.gain:
        return model, (), before
    mirrored, without = ways[found.index(best)]
    for keys in _groups(best[1]):
        less = attempt.run(mirrored=mirrored, without=without | keys)
        if less[2].gain >= best[2].gain:
            best, without = less, without | keys
    return best


def _groups(made: tuple[Rewritten, ...]) -> Iterator[frozenset[tuple[str, str]]]:
    """What may be done without: all rewrites of one rule, then each of several alone."""
    for rule in dict.fromkeys(rewrite.rule for rewrite in made):
        if rule != "mirror":
            keys = [(rule, rewrite.name) for rewrite in made if rewrite.rule == rule]
            yield frozenset(keys)
            if len(keys) > 1:
                yield from (frozenset({key}) for key in keys)


class _Attempt:
    """Files with some of the rewrites, in a folder."""

    def __init__(self, model: Model, target: Target, folder: Path) -> None:
        self.model, self.target, self.folder = model, target, folder
        self.count = 0

    def run(
        self, *, mirrored: bool, without: frozenset[tuple[str, str]]
    ) -> tuple[Model, tuple[Rewritten, ...], Outlook]:
        """Make all rewrites but some until none applies any more."""
        model, made = self.model, list[Rewritten]()
        if mirrored:
            model = self.step(model, (mirror,), without, made)
        for _ in range(PASSES):
            number = len(made)
            model = self.step(model, REWRITES, without, made)
            if len(made) == number:
                break
        return model, tuple(made), outlook(model, self.target)

    def step(
        self,
        model: Model,
        rewrites: tuple[Callable[[Work], Iterator[ProposedRewrite]], ...],
        without: frozenset[tuple[str, str]],
        made: list[Rewritten],
    ) -> Model:
        """Make every rewrite that applies, one for an operator; the same model if none does."""
        work, touched = Work(model), set[int]()
        for rewrite in rewrites:
            for change in rewrite(work):
                output = work.operators[change.operator].outputs[0]
                name = work.tensor(output).name
                left_out = {(change.rule, name), (change.rule, ANY)} & without
                if left_out or change.operator in touched:
                    continue
                touched.add(change.operator)
                change.apply(work)
                made.append(Rewritten(change.rule, name, change.says))
        if not touched:
            return model
        self.count += 1
        return work.write(self.folder / f"{self.count}.tflite")
