"""Findings from what was seen on a target, and where that contradicts the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity import xnnpack
from pytest_sparsity.diagnosis import costs
from pytest_sparsity.findings import Finding, Remedy, finding
from pytest_sparsity.xnnpack import WRONG
from pytest_sparsity.xnnpack.names import layer_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_sparsity.diagnosis.observation import Observation
    from pytest_sparsity.targets import Target
    from pytest_sparsity.xnnpack import Analysis

OTHER_INPUTS = Remedy("give inputs that matter to the model: inputs= or --inputs FILE.npz", "")
FAILS_DENSELY = Remedy(
    "use another target: stored densely the model does not run here either", "runtime"
)
WITHOUT_XNNPACK = Remedy(
    "use a build of the runtime with XNNPACK, which its wheels have", "runtime"
)


def agree(analysis: Analysis, seen: Observation) -> bool:
    """The rules' verdict is the observed one, as far as it can be observed.

    Where the rules say that memory is read that means something else, a crash is one way in which
    that shows. TFLite's kernels for blocks add in the order in which dense ones may add too, so the
    same bits do not contradict them; nor do those of outputs that are always the same. A model that
    does not load with dense weights either fails for other reasons than these rules are about.
    """
    rules = xnnpack.verdict(analysis)
    if seen.unrelated or seen.verdict == "unknown":
        return True
    if seen.crashed:
        return rules in WRONG
    if seen.verdict == "dense" and seen.constant:
        return rules != "fails"
    if rules == "sparse" and not analysis.rewritten:
        return seen.verdict in {"sparse", "dense"}
    return rules == seen.verdict


def contradictions(analysis: Analysis, target: Target, seen: Observation) -> Iterator[Finding]:
    """Where the rules, or what is known of the target, say something else than was seen."""
    if not agree(analysis, seen):
        ruled, remedy, told = xnnpack.verdict(analysis), None, ""
        if ruled == "miscomputes" and seen.verdict in {"sparse", "dense"}:
            drawn = ", drawn" if seen.made_up else ""
            told, remedy = f"; the inputs ({seen.inputs}{drawn}) may not tell", OTHER_INPUTS
        observed = f"{seen.verdict!r} was observed on {target.name}{told}"
        yield finding("rules-disagree", ruled=repr(ruled), seen=observed, remedy=remedy)
    profiled = costs.profiled_kernels(analysis, seen.profile)
    nodes = xnnpack.sparse_nodes(analysis)
    if profiled is not None and profiled != nodes:
        place = next(i for i, (a, b) in enumerate(zip(profiled, nodes, strict=True)) if a != b)
        name = layer_name(analysis.model.layers[place])
        observed = f"{target.name}'s profile says {profiled[place]}"
        yield finding(
            "rules-disagree", place, ruled=f"that {name} runs {nodes[place]}", seen=observed
        )
    builtin = seen.profile and all(name.upper() == name for name, _ in seen.profile)
    if builtin and any(partition.graph.nodes for partition in analysis.partitions):
        cause = (
            f"all operators ran in TFLite's own kernels on {target.name}: XNNPACK is not applied"
        )
        yield finding("delegate-off", cause=cause, remedy=WITHOUT_XNNPACK)
    if seen.skips_zeros == bool(analysis.closed):
        expected, found = "sparse kernels", "does not skip"
        if analysis.closed:
            expected, found = "no sparse kernels", "does skip"
        yield finding("probe-disagrees", target=target.name, expected=expected, found=found)


def outcome(target: Target, seen: Observation) -> Iterator[Finding]:
    """What was seen, whatever the rules say."""
    if seen.constant:
        yield finding("constant-output", target=target.name)
    if seen.verdict == "unknown":
        yield finding("needs-inputs", fault=seen.fault)
    if seen.not_compared:
        yield finding("not-compared", target=target.name, cause=seen.not_compared)
    if seen.verdict == "fails":
        code = "crashes" if seen.crashed else "does-not-load"
        remedy = FAILS_DENSELY if seen.unrelated else None
        yield finding(code, fault=seen.fault, remedy=remedy)
    for comparison in seen.comparisons:
        if not comparison.right:
            yield finding("outputs-differ", target=target.name, comparison=comparison)
