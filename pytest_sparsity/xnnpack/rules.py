"""What a rule is that decides whether a layer can be part of a sparse chain."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_sparsity.findings import Remedy

ALL: frozenset[object] = frozenset({"all"})
MANY = 5
"""Figures from which on only the first and the last are listed."""


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: what `Misfit.rule` has.
        clause: what is the case, with the figures' places in braces.
        remedy: likewise.
        upstream: the function and the field or flag that it looks at.
        repaired: which of its figures `pytest-sparsity repair` has an exact rewrite for: `ALL`,
            or those of which one is the figure; empty if there is none.
        unrepaired: among them those for which there is none after all.
    """

    name: str
    clause: str
    remedy: Remedy
    upstream: str
    repaired: frozenset[object] = frozenset()
    unrepaired: frozenset[object] = frozenset()

    @property
    def takes(self) -> str:
        """What its remedy takes, for people: "file" where a rewrite exists."""
        if not self.repaired:
            return self.remedy.takes
        if self.repaired == ALL and not self.unrepaired:
            return "file"
        figures, but = self.repaired, ""
        if self.repaired == ALL:
            figures, but = self.unrepaired, "not "
        named = sorted(map(str, figures))
        listed = ", ".join(named if len(named) < MANY else (named[0], "...", named[-1]))
        return f"file ({but}{listed}), else {self.remedy.takes}"

    def rewritten(self, figures: tuple[object, ...]) -> bool:
        """Whether `pytest-sparsity repair` has an exact rewrite for a misfit with these figures."""
        return not self.unrepaired & set(figures) and (
            self.repaired == ALL or bool(self.repaired & set(figures))
        )


def training(text: str) -> Remedy:
    """Return a remedy after which the network is to be trained again."""
    return Remedy(text, "training")


def conversion(text: str) -> Remedy:
    """Return a remedy in what the file is converted from, which needs no training."""
    return Remedy(text, "conversion")


NEWER = Remedy("use a newer runtime", "runtime")
