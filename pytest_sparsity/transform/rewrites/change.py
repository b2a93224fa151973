"""What a rewrite would do to one place of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_sparsity.transform.work import Work


@dataclass(frozen=True)
class ProposedRewrite:
    """One exact rewrite of one place.

    Attributes:
        rule: name of the rewrite.
        operator: the operator that it is about, by its place in the file that was read.
        says: what is done, as a clause.
        apply: does it; the argument is the work on the same file.
    """

    rule: str
    operator: int
    says: str
    apply: Callable[[Work], None]
