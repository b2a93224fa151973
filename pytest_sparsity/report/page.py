"""The report as one page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.errors import printable
from pytest_sparsity.report import plot, terminal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_sparsity.report.records import Record

PLOT_WIDTH, SPARK_WIDTH, SPARK_HEIGHT = 240, 120, 30


def page(document: Record) -> str:
    """Return the HTML of a report; see `document.compose`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: printable(value) if isinstance(value, str) else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": terminal.shown, "number": number, "percent": percent}
    claims = list(_claims(document["tests"]))
    scale = plot.Scale.over(_ends(claims), PLOT_WIDTH)
    for claim in claims:
        claim["plot"] = plot.interval(scale, claim)
    html: str = environment.get_template("page.html").render(
        document=document,
        claims=claims,
        scale=scale,
        baselines=list(_baselines(document)),
        trends=[trend for trend in _trends(document) if len(trend["points"]) > 1],
        diagnoses=_diagnoses(document["tests"]),
        verdicts=_verdicts(document["tests"]),
        spark=(SPARK_WIDTH, SPARK_HEIGHT),
    )
    return html


def number(value: float) -> str:
    """Return a number with few digits."""
    return f"{value:.4g}"


def percent(value: float) -> str:
    """Return a change: `+1.2 %`."""
    return f"{100 * value:+.2g} %"


def _claims(tests: Iterable[Record]) -> Iterable[Record]:
    """Yield every claim about a race with all that its row shows."""
    unclaimed = {"text": "", "threshold": None, "verdict": "not claimed", "reason": ""}
    for test in tests:
        for race in test["races"]:
            for claim in race["claims"] or [{**unclaimed, **race["ratio"]}]:
                yield {
                    **claim,
                    "verdict": terminal.word(claim["verdict"]),
                    "nodeid": test["nodeid"],
                    "race": race,
                    "measured": terminal.ratio(claim, race["unit"]),
                    "dense": _cost(race["dense"]["median"], race["unit"]),
                    "sparse": _cost(race["sparse"]["median"], race["unit"]),
                }


def _ends(claims: Iterable[Record]) -> Iterable[float]:
    """Yield what the axis must show."""
    for claim in claims:
        ends = (claim["low"], claim["high"], claim["threshold"])
        yield from (end for end in ends if end is not None)


def _cost(median: float | None, unit: str) -> str:
    if median is None:
        return "unknown"
    if unit == "instructions":
        return f"{median:,.0f} instr."
    for scale, name in ((1, "s"), (1e-3, "ms"), (1e-6, "us")):
        if median >= scale:
            return f"{median / scale:.3g} {name}"
    return f"{median / 1e-9:.3g} ns"


def _baselines(document: Record) -> Iterable[Record]:
    for test in document["tests"]:
        for entry in test["baselines"]:
            verdict = terminal.word(entry["verdict"])
            yield {**entry, "verdict": verdict, "nodeid": test["nodeid"]}


def _trends(document: Record) -> Iterable[Record]:
    for trend in document["trends"]:
        values = [point["value"] for point in trend["points"]]
        yield {**trend, "spark": plot.sparkline(values, SPARK_WIDTH, SPARK_HEIGHT)}


def _diagnoses(tests: Iterable[Record]) -> list[Record]:
    """Return each diagnosis once, by model and target."""
    found = {(d["model"], d["target"]): d for test in tests for d in test["diagnoses"]}
    return list(found.values())


def _verdicts(tests: Iterable[Record]) -> list[tuple[str, int]]:
    """Return how often each verdict occurs, of races and of baselines, the bad ones first."""
    said = [
        claim["verdict"] for test in tests for race in test["races"] for claim in race["claims"]
        if "baseline" not in claim
    ]  # fmt: skip
    said += [entry["verdict"] for test in tests for entry in test["baselines"]]
    counted = Counter(map(terminal.word, said))
    return [
        (word, counted[word])
        for word in ("refuted", "undecided", "holds", "recorded")
        if counted[word]
    ]
