"""A finding: one reason why a claim about a model holds or fails, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One reason, for people and for programs.

    Attributes:
        code: stable identifier, e.g. `"x86-avx"`; part of the command line's JSON contract.
        message: one sentence that says what is the case.
        layer: index of the layer in `Model.layers`, or None if the finding is about the whole file.
        remedy: what to do about it, imperative; empty if nothing can be done.
    """

    code: str
    message: str
    layer: int | None = None
    remedy: str = ""
