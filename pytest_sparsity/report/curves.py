"""Size and speed against the share of zeros, for networks of which a run had several files."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_sparsity.report.numbers import nbytes
from pytest_sparsity.report.plot import Scale
from pytest_sparsity.report.terminal import ratio
from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_sparsity.report.records import Record

WIDTH, HEIGHT = 520, 220
LEFT, RIGHT, TOP, BOTTOM = 64, 22, 12, 34
# Shares of zeros that are closer than this are one: pruning misses what was asked by ties.
SAME = 0.002
# Lines that are told apart by colour and by dashes.
STYLES = 6


@dataclass(frozen=True)
class Dot:
    """A measured point: places in units of the SVG, and what it says."""

    x: float
    y: float
    low: float
    high: float
    said: str


@dataclass(frozen=True)
class PlotLine:
    """Points of one kind, by their share of zeros.

    Attributes:
        name: a target, or how a size was taken.
        style: number of its colour and dashes.
        dots: its points.
        path: the points as an SVG's `points` attribute.
    """

    name: str
    style: int
    dots: tuple[Dot, ...]

    @property
    def path(self) -> str:
        """The points, joined."""
        return " ".join(f"{dot.x},{dot.y}" for dot in self.dots)


@dataclass(frozen=True)
class Curve:
    """One plot.

    Attributes:
        title: what is shown of which network.
        lines: at least one of two points or more.
        across: places and texts of the ticks of the share of zeros.
        up: likewise of the other axis.
        rows: the same as a table: zeros, what, value.
    """

    title: str
    lines: tuple[PlotLine, ...]
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]
    rows: tuple[tuple[str, str, str], ...]


# By the name of a line: share of zeros, value, low, high, text of the value.
Points = dict[str, list[tuple[float, float, float, float, str]]]


def of(document: Record) -> list[Curve]:
    """Return the plots of all networks of which there are files with different shares of zeros."""
    models: dict[str, Record] = {model["sha256"]: model for model in document["models"]}
    found = []
    for dense, files in _families(document).items():
        known = [models[digest] for digest in files if digest in models]
        known = [model for model in known if model["sparsity"] is not None]
        name = models[dense]["name"] if dense in models else ""
        if _distinct([model["sparsity"] for model in known]) < 2:
            continue
        found.append(_sizes(name, models[dense], known))
        for unit in ("seconds", "instructions"):
            points = _ratios(document, dense, models, unit)
            if any(_distinct([x for x, *_ in line]) > 1 for line in points.values()):
                what = "speedup" if unit == "seconds" else "times fewer instructions"
                found.append(_ratio_curve(f"{what} over {name}", points))
    return found


def _families(document: Record) -> dict[str, list[str]]:
    """Return the hashes of the sparse files by that of their dense one, in order."""
    found: dict[str, dict[str, None]] = {}
    for test in document["tests"]:
        for variants in test["variants"]:
            found.setdefault(variants["dense"], {})[variants["sparse"]] = None
        for race in test["races"]:
            pair = race["dense_model"]["sha256"], race["sparse_model"]["sha256"]
            if all(pair) and pair[0] != pair[1]:
                found.setdefault(pair[0], {})[pair[1]] = None
    known = {model["sha256"] for model in document["models"]}
    return {dense: list(files) for dense, files in found.items() if dense in known}


def _distinct(shares: list[float]) -> int:
    ordered = sorted(shares)
    return sum(b - a > SAME for a, b in pairwise(ordered)) + bool(ordered)


def _sizes(name: str, dense: Record, files: list[Record]) -> Curve:
    lines: Points = {}
    for title, key in (("as it is", "nbytes"), ("after gzip", "gzip_nbytes")):
        for model in [dense, *files]:
            size, share = model[key], model["sparsity"]
            if size is not None and share is not None:
                lines.setdefault(title, []).append((share, size, size, size, nbytes(size)))
    largest = max(size for line in lines.values() for _, size, *_ in line)
    step = _round(largest / 4)
    ticks = [step * number for number in range(int(largest / step) + 1)]

    def place(value: float) -> float:
        return _up(value / largest)

    up = tuple((place(tick), nbytes(tick)) for tick in ticks)
    return _curve(f"size of {name} and its sparse files", lines, place, up)


def _ratios(document: Record, dense: str, models: Mapping[str, Record], unit: str) -> Points:
    points: Points = {}
    for race in (race for test in document["tests"] for race in test["races"]):
        sparse, found = models.get(race["sparse_model"]["sha256"]), race["ratio"]
        bounds = [found[end] for end in ("value", "low", "high")]
        if race["dense_model"]["sha256"] != dense or race["unit"] != unit or sparse is None:
            continue
        if None in bounds or sparse["sparsity"] is None:
            continue
        name = (
            race["target"]
            if race["threads"] == 1
            else f"{race['target']}, {counted(race['threads'], 'thread')}"
        )
        points.setdefault(name, []).append((sparse["sparsity"], *bounds, ratio(found, unit)))
    return points


def _ratio_curve(title: str, points: Points) -> Curve:
    ends = [end for line in points.values() for _, _, low, high, _ in line for end in (low, high)]
    scale = Scale.over(ends, 1.0)
    up = tuple((_up(scale(tick)), f"{tick:g}x") for tick in scale.ticks(5))
    return _curve(title, points, lambda value: _up(scale(value)), up)


def _curve(
    title: str, lines: Points, place: Callable[[float], float], up: tuple[tuple[float, str], ...]
) -> Curve:
    made = []
    for number, (name, points) in enumerate(lines.items()):
        dots = tuple(
            Dot(_across(share), place(value), place(low), place(high), f"{share:.1%} zeros: {said}")
            for share, value, low, high, said in sorted(points)
        )
        made.append(PlotLine(name, number % STYLES, dots))
    rows = tuple(
        (f"{share:.1%}", name, said)
        for name, points in lines.items()
        for share, _, _, _, said in sorted(points)
    )
    across = tuple((_across(tick / 100), f"{tick} %") for tick in range(0, 101, 20))
    return Curve(title, tuple(made), across, up, rows)


def _across(share: float) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * share, 1)


def _up(share: float) -> float:
    """Return where a share of the upward axis is; y grows downwards."""
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share, 1)


def _round(value: float) -> float:
    """Return a value's nearest 1, 2 or 5 times a power of ten above it."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    return next((power * n for n in (1, 2, 5) if power * n >= value), power * 10)
