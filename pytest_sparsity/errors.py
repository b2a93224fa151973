"""What can go wrong, one class per outcome.

pytest's outcomes follow from these: `Unsupported` skips, an `AssertionError` fails, all else is an
error of the test.
"""

from __future__ import annotations

from typing import Any


class SparsityWarning(UserWarning):
    """Something that does not decide a claim but that its author should know."""


class ModelError(ValueError):
    """The file is not a model that can be read; the message names the file and the fault."""


class Unsupported(Exception):  # noqa: N818  (a condition of the environment, not an error of the model)
    """The environment lacks something that the claim needs.

    Attributes:
        reason: what is missing, one clause without a full stop.
        remedy: the command or setting that brings it, empty if nothing does.
        target: the name of the target that cannot run the claim, empty if it is none's fault.
    """

    def __init__(self, reason: str, remedy: str = "", target: str = "") -> None:
        super().__init__(reason, remedy, target)
        self.reason = reason
        self.remedy = remedy
        self.target = target

    def on(self, target: str) -> Unsupported:
        """Return the same of a target, unless one is named already."""
        return type(self)(self.reason, self.remedy, self.target or target)

    def __str__(self) -> str:
        return f"{self.reason}: {self.remedy}" if self.remedy else self.reason


class NeedsInputs(Unsupported):
    """Nothing can be said without inputs of the user's: those made up are not what it takes."""


class NotRecorded(Unsupported):
    """No value of this kind of machine was recorded, so there is nothing to compare with."""


class CannotTrace(Unsupported):
    """The microkernels that run cannot be named; the target runs all the same."""


class TargetError(RuntimeError):
    """A target's worker crashed, hung, or answered outside the protocol."""


class CannotMeasure(RuntimeError):  # noqa: N818
    """A race of a model against itself was not 1: this machine cannot measure."""


class Inconclusive(AssertionError):  # noqa: N818
    """The interval still contains the threshold and no further look is to be had.

    Attributes:
        claim: the comparison (`estimate.Claim`) with its estimate, reason and the seconds that
            would decide it; None if it is one with a recorded value.
        why: the message without what to set, which a command names otherwise than pytest.
        budget: seconds, of the whole race, that would probably decide; None if none would.
    """

    def __init__(self, why: str, claim: Any = None, budget: int | None = None) -> None:
        setting = f"set --sparsity-budget={budget} (or budget={budget})"
        super().__init__(why if budget is None else f"{why}: {setting}")
        self.why, self.claim, self.budget = why, claim, budget


class WrongOutputs(AssertionError):  # noqa: N818
    """The model's outputs are wrong on the target, so its speed means nothing."""


def one_line(error: object) -> str:
    """Return a message with every run of white space as one space, safe to print."""
    return printable(" ".join(str(error).split()))


def printable(text: str) -> str:
    """Return text in which what is not to be seen is spelt out by its number.

    Names come from files, tests and children: a line break would forge a line of a table, an
    escape sequence would act on the terminal, a change of direction would show another name. Line
    breaks are spelt out too, so text of several lines is escaped line by line.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
