"""What a kind of finding is."""

from __future__ import annotations

from dataclasses import dataclass

TAKES = {
    "file": "an edit of the file, which computes the same",
    "conversion": "another conversion of the trained network",
    "training": "another network, or other weights",
    "runtime": "another runtime, CPU or option of the run",
    "": "nothing: it is the claim that is to change, or the evidence to be reported",
}
"""What a remedy takes."""


@dataclass(frozen=True)
class Remedy:
    """What to do.

    Attributes:
        text: imperative, with the figures' names in braces.
        takes: one of `TAKES`.
    """

    text: str
    takes: str


@dataclass(frozen=True)
class Kind:
    """One kind of finding.

    Attributes:
        code: stable identifier.
        sentence: what is the case, with the figures' names in braces.
        remedy: what to do, where the producer has no better one.
        about: the explanation in docs/findings.md.
    """

    code: str
    sentence: str
    remedy: Remedy
    about: str
