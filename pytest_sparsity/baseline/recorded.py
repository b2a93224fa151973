"""A value recorded earlier, and today's value compared with it."""

from __future__ import annotations

import math
import numbers
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeGuard

from pytest_sparsity.baseline.files import (
    RATIO_DIGITS,
    BaselineError,
    Ratio,
    Recordable,
    RecordedFile,
    Scalar,
    rounded,
)
from pytest_sparsity.errors import Inconclusive
from pytest_sparsity.estimate import Claim, Estimate

if TYPE_CHECKING:
    from collections.abc import Callable

# A ratio of times of two different models moves by this much within an hour on one machine
# (measured: 1.05 to 1.10 on a 2-core virtual machine), so without `within` this is allowed.
DRIFT = 0.05
LIST = 80  # characters of a list in a message

Today = Scalar | list[Scalar] | Estimate

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
# What `recorded OP value` claims of the value.
_REFLECTED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


@dataclass(frozen=True)
class BaselineComparison:
    """One comparison of today's value with a recorded one, and what came of it.

    Attributes:
        name: of the baseline.
        operator: of the claim about today's value.
        today: today's value, rounded as it would be recorded.
        recorded: what was recorded; in an update what was there before, None if nothing.
        within: the relative tolerance.
        verdict: `"holds"`, `"refuted"`, `"inconclusive"` or `"recorded"`.
        file: where it is recorded, for messages.
        claims: the comparisons with numbers that it took.
    """

    name: str
    operator: str
    today: Recordable
    recorded: Recordable | None
    within: float
    verdict: str
    file: str
    claims: tuple[Claim, ...] = field(default=(), compare=False)

    @property
    def threshold(self) -> float | None:
        """The number that today's value was compared with, the tolerance included."""
        recorded = _number(self.recorded)
        return None if recorded is None else float(_shifted(self.operator, recorded, self.within))

    @property
    def change(self) -> float | None:
        """Today's value relative to the recorded one, minus 1; None unless both are numbers."""
        return relative_change(self.today, self.recorded)

    @property
    def moved(self) -> bool:
        """Whether today's value differs: numbers at all, ratios by more than both intervals."""
        if isinstance(self.today, Ratio) and isinstance(self.recorded, Ratio):
            return self.today.low > self.recorded.high or self.today.high < self.recorded.low
        return self.recorded is not None and self.today != self.recorded

    def __str__(self) -> str:
        tolerance = f", within {100 * self.within:g} %" if self.within else ""
        return f"{self.operator} {text(self.recorded)} (recorded in {self.file}{tolerance})"


class Compare(Protocol):
    """Compares today's value with a recorded one; the sign is that of the claim about today's."""

    def __call__(self, recorded: Recorded, sign: str, value: Today, /) -> BaselineComparison:
        """Return what came of it."""
        ...


class Recorded:
    """The value that a name stands for; compared with today's value it is True or False.

    The operator is the direction of the claim, and either side may be today's value. Numbers in
    lists are compared one by one, all of them must satisfy the claim. With an `Estimate` the
    comparison has three values, and counts both intervals.

    Only `baseline(...)` makes one.
    """

    # numpy scalars and arrays leave the comparison to us.
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]  # it is compared, not looked up

    def __init__(self, name: str, within: float | None, compare: Compare) -> None:
        self.name = name
        self.within = within
        self.comparison: BaselineComparison | None = None
        self._compare = compare

    def __lt__(self, other: object) -> bool:
        return self._claim("<", other)

    def __le__(self, other: object) -> bool:
        return self._claim("<=", other)

    def __gt__(self, other: object) -> bool:
        return self._claim(">", other)

    def __ge__(self, other: object) -> bool:
        return self._claim(">=", other)

    def __eq__(self, other: object) -> bool:
        return self._claim("==", other)

    def __ne__(self, other: object) -> bool:
        return self._claim("!=", other)

    def _claim(self, sign: str, other: object) -> bool:
        value = other if isinstance(other, Estimate) else plain(other)
        if value is None:
            answer: bool = NotImplemented
            return answer
        self.comparison = self._compare(self, _REFLECTED[sign], value)
        return self.comparison.verdict in ("holds", "recorded")

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "a recorded value has no truth value; "
            f"compare it: `assert x <= baseline({self.name!r})`"
        )

    def __repr__(self) -> str:
        if self.comparison is None:
            return f"baseline({self.name!r})"
        return f"{text(self.comparison.recorded)} (recorded in {self.comparison.file})"


def plain(value: Any) -> Scalar | list[Scalar] | None:
    """Return a value as it can be written, or None if it cannot.

    Truth values, integers, real numbers, names, lists and tuples of them; numpy's by `tolist`.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        items = [plain(item) for item in value]
        kept: list[Scalar] = [item for item in items if isinstance(item, Scalar)]
        return kept if len(kept) == len(items) else None
    if isinstance(value, bool | str):
        return value if isinstance(value, bool) else str(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else None


def as_value(value: Today) -> Recordable:
    """Return today's value rounded as it is recorded.

    Raises:
        ValueError: it is not finite.
    """
    if isinstance(value, Estimate):
        now = value.latest()
        if now.low == now.high:
            return float(rounded(now.value))
        bounds = (now.value, now.low, now.high, now.confidence)
        return Ratio(*(rounded(bound, RATIO_DIGITS) for bound in bounds))
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError(f"{item} cannot be recorded or compared with a baseline")
    return rounded(value)  # type: ignore[no-any-return]  # of the type that it is given


def holds(name: str, sign: str, today: Today, recorded: Recordable, within: float) -> bool:
    """Return whether today's value satisfies the claim about a recorded one.

    Raises:
        Inconclusive: an interval leaves it open, and there is no further look.
        BaselineError: they are not of one kind, or have no order.
    """
    if isinstance(today, Estimate) and isinstance(recorded, Ratio):
        return ratio_holds(name, sign, today, recorded, within)
    return value_holds(sign, as_value(today), recorded, within)


def value_holds(sign: str, today: Recordable, recorded: Recordable, within: float) -> bool:
    """Return the same for values without an interval."""
    if isinstance(today, list) and isinstance(recorded, list):
        each = "==" if sign == "!=" else sign
        satisfied = len(today) == len(recorded) and all(
            value_holds(each, a, b, within) for a, b in zip(today, recorded, strict=True)
        )
        return satisfied != (sign == "!=")
    numbers_both = _is_number(today) and _is_number(recorded)
    if not numbers_both and type(today) is not type(recorded):
        raise BaselineError(f"{text(recorded)} was recorded and today's value is {text(today)}")
    if sign in ("==", "!="):
        return _equal(today, recorded, within) == (sign == "==")
    if not numbers_both:
        raise BaselineError(f"{text(today)} {sign} {text(recorded)}: names have no order, use ==")
    return _ORDER[sign](today, _shifted(sign, recorded, within))


def ratio_holds(name: str, sign: str, estimate: Estimate, recorded: Ratio, within: float) -> bool:
    """Return the same for two intervals.

    The claim holds if it holds against the whole recorded interval and is refuted if it is refuted
    against the whole of it. By the union bound such a verdict is wrong at most as often as one of
    the two intervals is.
    """
    ends = (recorded.high, recorded.low) if sign in (">", ">=") else (recorded.low, recorded.high)
    hard, easy = (_shifted(sign, end, within) for end in ends)
    claim = f"{name!r} {sign} {recorded}, as recorded, within {100 * within:g} %"
    try:
        if _ORDER[sign](estimate, hard):
            return True
        if not _ORDER[sign](estimate, easy):
            return False
    except Inconclusive as error:
        raise Inconclusive(f"{claim}: {error}") from None
    raise Inconclusive(
        f"{claim} is inconclusive: measured {estimate.latest()}, and the recorded interval is too "
        "wide to tell; record it again with a larger --sparsity-budget, or allow more with within="
    )


def check_width(name: str, ratio: Ratio, within: float) -> None:
    """Raise BaselineError if later ratios, as uncertain as this one, would mostly be inconclusive.

    A claim holds against the whole recorded interval, so a tolerance that is narrower than that
    interval leaves no room for today's.
    """
    width = (ratio.high - ratio.low) / ratio.value
    if width > within:
        raise BaselineError(
            f"{name!r} is not recorded: the interval of {ratio} is {100 * width:.3g} % wide, more "
            f"than the tolerance of {100 * within:g} %, so claims against it would mostly be "
            "inconclusive; record it on a quieter machine or with a larger --sparsity-budget, or "
            "allow more with within="
        )


def sharpened(estimate: Estimate) -> Estimate:
    """Take all looks that the budget has room for, and return the last."""
    while True:
        now = estimate.latest()
        if now.low == now.high:
            return now
        try:
            _ = now >= now.value
        except Inconclusive:
            return estimate.latest()


def relative_change(now: Recordable | None, before: Recordable | None) -> float | None:
    """Return the quotient of two numbers or ratios, minus 1; None for all else."""
    new, old = _number(now), _number(before)
    return None if new is None or not old else new / old - 1


def text(value: Recordable | None) -> str:
    """Return a value for messages; a long list is cut short."""
    if isinstance(value, Ratio | RecordedFile):
        return str(value)
    if isinstance(value, list):
        whole = ", ".join(text(item) for item in value)
        return f"[{whole}]" if len(whole) <= LIST else f"[{whole[:LIST]}..., {len(value)} in all]"
    if isinstance(value, float):
        return f"{value:g}" if value != int(value) else f"{value}"
    return "nothing" if value is None else repr(value)


def _shifted(sign: str, recorded: Any, within: float) -> Any:
    """Return the recorded number moved by the tolerance in favour of the claim."""
    if not within:
        return recorded
    favour = within if sign in ("<", "<=") else -within
    return recorded + favour * abs(recorded)


def _equal(today: Any, recorded: Any, within: float) -> bool:
    if within and _number(recorded) is not None:
        return bool(abs(today - recorded) <= within * abs(recorded))
    return bool(today == recorded)


def _number(value: Recordable | None) -> float | None:
    if isinstance(value, Ratio):
        return value.value
    return value if _is_number(value) else None


def _is_number(value: Recordable | None) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
