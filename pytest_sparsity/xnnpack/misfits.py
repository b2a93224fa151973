"""A rule that a layer breaks, with the figures that break it.

`check_nchw_compatibility` (rewrite.py) and `delegate` (delegate.py) say which rule a node or an
operator breaks; the words, and what to do, stand in `node_rules` and `operator_rules` alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_sparsity.findings import Remedy
from pytest_sparsity.xnnpack.node_rules import NODES
from pytest_sparsity.xnnpack.operator_rules import OPERATORS

REPAIR = "run `pytest-sparsity repair`"

RULES = {rule.name: rule for rule in (*NODES, *OPERATORS)}


@dataclass(frozen=True)
class Misfit:
    """A rule that a node or an operator breaks.

    Attributes:
        rule: name of the rule.
        figures: of the node, for the rule's words.
    """

    rule: str
    figures: tuple[object, ...] = ()

    def __str__(self) -> str:
        return RULES[self.rule].clause.format(*self.figures)

    @property
    def remedy(self) -> Remedy:
        """What to do about it."""
        rule = RULES[self.rule]
        text = rule.remedy.text.format(*self.figures)
        if rule.rewritten(self.figures):
            return Remedy(f"{REPAIR}, or {text}", "file")
        return Remedy(text, rule.remedy.takes)
