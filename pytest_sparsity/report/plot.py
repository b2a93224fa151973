"""The geometry of the report's plots: where points, lines and ticks are, in the units of an SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_sparsity.report.records import Record

NICE = (1, 1.5, 2, 3, 5, 7)
# Space between the outermost value and the edge, as a share of the width.
MARGIN = 0.06


@dataclass(frozen=True)
class Scale:
    """A logarithmic axis for ratios: 2x and 0.5x are equally far from 1.

    Attributes:
        low: the value at 0.
        high: the value at `width`.
        width: of the axis.
    """

    low: float
    high: float
    width: float

    @classmethod
    def over(cls, values: Iterable[float], width: float) -> Scale:
        """Return an axis that shows all values, and 1."""
        logs = [math.log(value) for value in (1.0, *values) if value > 0]
        low, high = min(logs), max(logs)
        margin = MARGIN * max(high - low, 0.1)
        return cls(math.exp(low - margin), math.exp(high + margin), width)

    def __call__(self, value: float) -> float:
        """Return the place of a value; what is off the axis is at its end."""
        kept = min(max(value, self.low), self.high)
        return round(self.width * math.log(kept / self.low) / math.log(self.high / self.low), 2)

    def ticks(self, most: int = 6) -> list[float]:
        """Return at most `most` round values on the axis, 1 among them."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found = [digit * 10.0**decade for decade in decades for digit in NICE]
        found = [value for value in found if self.low <= value <= self.high]
        step = math.ceil(len(found) / most)
        first = found.index(1.0) % step if 1.0 in found else 0
        return found[first::step]


@dataclass(frozen=True)
class Interval:
    """A ratio's place on an axis; None for what is not known."""

    low: float
    value: float
    high: float
    threshold: float | None


def interval(scale: Scale, claim: Record) -> Interval | None:
    """Return where a claim's interval and threshold are; None before the first look."""
    low, value, high = (claim.get(name) for name in ("low", "value", "high"))
    if low is None or value is None or high is None:
        return None
    threshold = claim.get("threshold")
    return Interval(
        scale(low), scale(value), scale(high), None if threshold is None else scale(threshold)
    )


@dataclass(frozen=True)
class Sparkline:
    """A value over time.

    Attributes:
        points: x and y of each recorded value, oldest first.
        band: the corners of the area between the ends of the intervals, empty without intervals.
    """

    points: tuple[tuple[float, float], ...]
    band: tuple[tuple[float, float], ...]

    @property
    def line(self) -> str:
        """The points as an SVG's `points` attribute."""
        return _joined(self.points)

    @property
    def area(self) -> str:
        """The band as an SVG's `points` attribute."""
        return _joined(self.band)


def sparkline(values: Sequence[object], width: float, height: float) -> Sparkline | None:
    """Return the line through numbers or ratios; None if there are fewer than two, or others."""
    bounds = [_bounds(value) for value in values]
    known = [bound for bound in bounds if bound is not None]
    if len(known) < 2 or len(known) < len(bounds):
        return None
    lowest, highest = min(low for low, _, _ in known), max(high for _, _, high in known)
    span = (highest - lowest) or 1.0

    def place(index: int, value: float) -> tuple[float, float]:
        x = 4 + (width - 8) * index / (len(known) - 1)
        return round(x, 2), round(height - 4 - (height - 8) * (value - lowest) / span, 2)

    points = tuple(place(index, value) for index, (_, value, _) in enumerate(known))
    if all(low == high for low, _, high in known):
        return Sparkline(points, ())
    lows = [place(index, low) for index, (low, _, _) in enumerate(known)]
    highs = [place(index, high) for index, (_, _, high) in enumerate(known)]
    return Sparkline(points, (*highs, *reversed(lows)))


def _bounds(value: object) -> tuple[float, float, float] | None:
    if isinstance(value, dict) and "low" in value:
        return value["low"], value["value"], value["high"]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value, value, value
    return None


def _joined(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)


def share(value: float, whole: float, width: float) -> float:
    """Return how long the bar of a part is; one that is not nothing can be seen."""
    if not value or not whole:
        return 0
    return max(1.0, round(width * value / whole, 1))
