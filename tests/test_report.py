"""Records, terminal lines, the JSON document and the page."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_sparsity.baseline.history import Point, Trend
from pytest_sparsity.baseline.recorded import Comparison
from pytest_sparsity.report import document, failure, plot, records, replay, terminal

if TYPE_CHECKING:
    from plugin.conftest import Project
else:
    Project = Any

ratios = st.floats(0.01, 100)


def claim(verdict: str = "holds", **fields: Any) -> records.Record:
    bounds = {"value": 2.0, "low": 1.9, "high": 2.1}
    return {
        "text": ">= 1.5",
        "threshold": 1.5,
        "verdict": verdict,
        "reason": "",
        **bounds,
        **fields,
    }


def race(*claims: records.Record, **fields: Any) -> records.Record:
    timing = {"median": 2e-3, "low": 1.9e-3, "high": 2.1e-3}
    return {
        "target": "litert",
        "unit": "seconds",
        "threads": 1,
        "trials": 3,
        "wall_seconds": 1.0,
        "dense": timing,
        "sparse": timing,
        "ratio": {"value": 2.0, "low": 1.9, "high": 2.1, "confidence": 0.95},
        "quantity": "speedup",
        "claims": list(claims),
        "evidence": {},
        "resolution": "",
        **fields,
    }


def entry(verdict: str = "holds", **fields: Any) -> records.Record:
    values = {"today": 90, "recorded": 100, "within": 0.0, "change": -0.1, "moved": True}
    return {
        "name": "nbytes", "operator": "<=", "file": "b/m.json", "verdict": verdict,
        **values, **fields,
    }  # fmt: skip


def run(
    *races: records.Record, baselines: tuple[records.Record, ...] = (), **fields: Any
) -> records.Record:
    return {
        "nodeid": "test_m.py::test_a",
        "outcome": "passed",
        "races": list(races),
        "baselines": list(baselines),
        "diagnoses": [],
        "cannot_measure": False,
        "not_run": None,
        "waited": 0.0,
        **fields,
    }


def texts(lines: Any) -> list[str]:
    return [text for _, text in lines]


# --- records ---------------------------------------------------------------------------------


def test_records_hold_json_s_types_only() -> None:
    from pytest_sparsity.findings import Finding

    value = {
        "path": Path("a/b"),
        "nan": math.nan,
        "tuple": (1, 2.5, None, True),
        "finding": Finding("code", "message", 1),
        3: {"x"},
    }
    found = records.plain(value)
    assert found == {
        "path": "a/b",
        "nan": None,
        "tuple": [1, 2.5, None, True],
        "finding": {"code": "code", "message": "message", "layer": 1, "remedy": "", "takes": ""},
        "3": ["x"],
    }
    json.dumps(found, allow_nan=False)


def test_a_comparison_s_record_says_how_it_moved() -> None:
    comparison = Comparison("nbytes", "<=", 90, 100, 0.05, "holds", "b/m.json")
    record = records.of_comparison(comparison)
    assert record == {
        "name": "nbytes", "operator": "<=", "today": 90, "recorded": 100, "within": 0.05,
        "verdict": "holds", "file": "b/m.json", "change": pytest.approx(-0.1), "moved": True,
    }  # fmt: skip


# --- terminal --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounds", "unit", "said"),
    [
        ((1.834, 1.79, 1.881), "seconds", "1.83x [1.79, 1.88]"),
        ((2.0, 1.9, 2.1), "seconds", "2.00x [1.90, 2.10]"),
        ((123.4, 120.0, 130.0), "seconds", "123x [120, 130]"),
        ((2.7614, 2.7614, 2.7614), "instructions", "2.761x instructions"),
        ((None, None, None), "seconds", "unknown"),
    ],
)
def test_ratios(bounds: tuple[float, float, float], unit: str, said: str) -> None:
    value, low, high = bounds
    assert terminal.ratio({"value": value, "low": low, "high": high}, unit) == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (1.0, "+100 %"),
        (12.345, "+1,200 %"),
        (-0.17, "-17 %"),
        (0.00123, "+0.12 %"),
        (1e-7, "+0.00001 %"),
    ],
)
def test_a_change_is_never_a_power_of_ten(change: float, said: str) -> None:
    assert failure._percent(change) == said


def test_claims_line_up() -> None:
    tests = [run(race(claim("refuted"), claim("inconclusive", text="< 12"))), run(race())]
    assert texts(terminal.claims(tests)) == [
        "2.00x [1.90, 2.10]  >= 1.5  refuted      litert  test_m.py::test_a",
        "2.00x [1.90, 2.10]  < 12    undecided    litert  test_m.py::test_a",
        "2.00x [1.90, 2.10]          not claimed  litert  test_m.py::test_a",
    ]
    assert texts(terminal.claims(tests, ["refuted"])) == [
        "2.00x [1.90, 2.10]  >= 1.5  refuted  litert  test_m.py::test_a"
    ]
    assert texts(terminal.claims([])) == []


@pytest.mark.parametrize(
    ("record", "outcome", "said"),
    [
        (entry("recorded", recorded=None, change=None), "passed", "recorded: {} = 90"),
        (entry("recorded"), "passed", "recorded: {} = 90 (was 100, -10 %)"),
        (entry("recorded", moved=False, today=100), "passed", "unchanged: {} = 100"),
        (entry("recorded"), "failed", "not recorded, the test failed: {} = 90"),
        (
            entry("recorded", recorded=["a"], today=["b"], change=None),
            "passed",
            "recorded: {} = ['b'] (was ['a'])",
        ),
        (
            entry("recorded", recorded=None, today={"model": "ab.tflite", "nbytes": 12345}),
            "passed",
            "recorded: {} = ab.tflite (12,345 bytes)",
        ),
    ],
)
def test_what_was_recorded(record: records.Record, outcome: str, said: str) -> None:
    tests = [run(baselines=(record,), outcome=outcome)]
    (line,) = texts(terminal.recorded(tests, everything=True))
    few = texts(terminal.recorded(tests, everything=False))
    assert few == ([] if line.startswith("unchanged") else [line])
    assert line == said.format("b/m.json  test_a::nbytes")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (entry(), "moved: {} 100 -> 90 (-10 %)"),
        (entry(within=0.2), "moved: {} 100 -> 90 (-10 %, within 20 %)"),
        (entry(today="a", recorded="b", change=None), "moved: {} 'b' -> 'a'"),
    ],
)
def test_what_moved(record: records.Record, said: str) -> None:
    moved = terminal.moved([run(baselines=(record,))], everything=False)
    assert texts(moved) == [said.format("test_m.py::test_a  nbytes")]


def test_what_does_not_hold_or_is_the_same_has_not_moved() -> None:
    entries = (entry("refuted"), entry(moved=False), entry("recorded"))
    assert texts(terminal.moved([run(baselines=entries)], everything=True)) == []


def test_counts() -> None:
    tests = [
        run(
            race(claim(), claim(), claim("refuted"), claim("holds", baseline="x")),
            race(claim("inconclusive")),
            baselines=(entry(), entry("refuted"), entry("recorded")),
        )
    ]
    assert terminal.counts(tests, ["x"]) == (
        "races: 2 hold, 1 refuted, 1 undecided; baselines: 1 holds, 1 refuted, 1 recorded; "
        "unused baselines: 1"
    )
    assert terminal.counts([run(race(claim()))], []) == "races: 1 holds"
    assert terminal.counts([], []) == ""


# --- plots -----------------------------------------------------------------------------------


@given(st.lists(ratios, max_size=5))
def test_an_axis_shows_every_value_and_one(values: list[float]) -> None:
    scale = plot.Scale.over(values, 240)
    for value in (1.0, *values):
        assert 0 < scale(value) < 240
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 7
    assert 1.0 in ticks
    assert ticks == sorted(ticks)
    assert all(0 <= scale(tick) <= 240 for tick in ticks)


@given(ratios, ratios)
def test_an_axis_is_monotone_and_as_far_for_a_ratio_as_for_its_inverse(a: float, b: float) -> None:
    scale = plot.Scale.over([a, b, 1 / a, 1 / b], 240)
    assert (scale(a) <= scale(b)) == (a <= b) or abs(scale(a) - scale(b)) <= 0.01
    middle = scale(1)
    assert scale(a) - middle == pytest.approx(middle - scale(1 / a), abs=0.05)


def test_what_is_off_the_axis_is_at_its_end() -> None:
    scale = plot.Scale.over([2.0], 240)
    assert (scale(1e9), scale(1e-9)) == (240, 0)


def test_an_unknown_interval_has_no_place() -> None:
    scale = plot.Scale.over([], 240)
    assert plot.interval(scale, claim(value=None, low=None, high=None)) is None
    found = plot.interval(scale, claim(threshold=None))
    assert found is not None
    assert found.threshold is None


@given(st.lists(st.one_of(st.integers(-1000, 1000), st.floats(-1e3, 1e3)), min_size=2))
def test_a_sparkline_stays_inside(values: list[float]) -> None:
    found = plot.sparkline(values, 120, 30)
    assert found is not None
    assert not found.band
    xs, ys = zip(*found.points, strict=True)
    assert list(xs) == sorted(xs)
    assert (min(xs), max(xs)) == (4, 116)
    assert 4 <= min(ys) <= max(ys) <= 26
    if values[0] < values[-1]:
        assert ys[0] >= ys[-1], "larger is higher, and y grows downwards"


def test_sparklines_of_ratios_have_a_band_and_of_names_there_are_none() -> None:
    ratio = {"value": 2.0, "low": 1.9, "high": 2.1, "confidence": 0.95}
    found = plot.sparkline([ratio, {**ratio, "value": 2.05}], 120, 30)
    assert found is not None
    assert len(found.band) == 4
    assert found.area.count(",") == 4
    assert plot.sparkline(["a", "b"], 120, 30) is None
    assert plot.sparkline([1, "b"], 120, 30) is None
    assert plot.sparkline([1], 120, 30) is None
    assert plot.sparkline([True, False], 120, 30) is None


# --- the document and the page ---------------------------------------------------------------


class Reader(HTMLParser):
    """Checks that tags close in order, and gathers text and attributes."""

    VOID = ("meta", "br", "line", "circle", "polyline", "polygon")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("tr", "td", "th"):
            while self.open[-1] != tag:
                assert self.open.pop() in ("td", "th")
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def full() -> records.Record:
    diagnosis = {
        "model": "m.tflite", "nbytes": 1, "sparsity": 0.8, "target": "litert", "verdict": "dense",
        "evidence": "observed", "headline": "m.tflite runs no sparse kernel",
        "layers": [{"index": 0, "op": "CONV_2D", "name": "a;b", "shape": [8, 1, 1, 8],
                    "sparsity": 0.8, "encoding": "sparse", "kernel": "dense"}],
        "findings": [{"code": "x86-avx", "message": "this CPU has AVX", "layer": None,
                      "remedy": "claim it on litert-js", "takes": "runtime"}],
    }  # fmt: skip
    unknown = {"value": None, "low": None, "high": None}
    tests = [
        run(
            race(claim(), claim("inconclusive", threshold=2.05, text=">= 2.05")),
            race(claim("refuted", **unknown), ratio=unknown, target="litert-js"),
            race(ratio={"value": 2.0, "low": 2.0, "high": 2.0}, unit="instructions"),
            baselines=(
                entry(within=0.2),
                entry("recorded", recorded=None, change=None, moved=False),
                entry(today={"value": 2.0, "low": 1.9, "high": 2.1, "confidence": 0.95}),
            ),
            diagnoses=[diagnosis],
            nodeid="test_m.py::test_a[<script>alert(1)</script>]",
        )
    ]
    points = tuple(Point(f"{n}" * 40, f"2026-01-0{n}T00:00:00+00:00", 100 - n) for n in (1, 2))
    trends = [
        Trend("m.json", "test_a", "nbytes", (*points, Point("", "", 90))),
        Trend("m.json", "test_a", "still", points[:1]),
        Trend("m.json", "test_a", "kernel", (Point("1", "2026", "a"), Point("2", "2026", "b"))),
    ]
    return document.compose(tests, ["b/m.json  test_gone"], trends)


def test_the_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    document.write(tmp_path / "sub" / "report.html", full())
    html = (tmp_path / "sub" / "report.html").read_text()
    reader = read(html)
    tags = {tag for tag, _ in reader.seen}
    assert not tags & {"script", "link", "img", "iframe", "object", "use"}
    assert "http" not in html.replace("http://www.w3.org", "")
    assert "url(" not in html
    assert "@import" not in html
    for _, attributes in reader.seen:
        assert not {"src", "href", "onclick", "style"} & set(attributes)
    assert "test_m.py::test_a[<script>alert(1)</script>]" in "".join(reader.text)
    assert "<script>" not in html


def test_the_page_shows_everything(tmp_path: Path) -> None:
    document.write(tmp_path / "report.html", full())
    reader = read((tmp_path / "report.html").read_text())
    said = " ".join("".join(reader.text).split())
    for expected in (
        "refuted", "undecided", "holds", "recorded", "not claimed",
        "speedup >= 1.5", "2.00x [1.90, 2.10]", "unknown", "2.000x instructions",
        "-10 % within 20 %", "this CPU has AVX", "claim it on litert-js", "8x1x1x8", "80.0 %",
        "2026-01-01: 99", "not committed", "2 values", "b/m.json test_gone",
    ):  # fmt: skip
        assert expected in said, expected
    assert "still" not in said, "what has not moved is no trend"
    kinds = [tag for tag, _ in reader.seen]
    assert kinds.count("circle") == 4, "three known intervals and one trend"
    assert kinds.count("polyline") == 1


def test_a_page_without_anything_says_so(tmp_path: Path) -> None:
    document.write(tmp_path / "report.html", document.compose([], [], []))
    reader = read((tmp_path / "report.html").read_text())
    assert "No claim was made in this run." in " ".join("".join(reader.text).split())


def test_the_document_as_json(tmp_path: Path) -> None:
    document.write(tmp_path / "report.json", full())
    found = json.loads((tmp_path / "report.json").read_text())
    assert set(found) == {"schema", "version", "machine", "tests", "unused", "trends"}
    assert found["schema"] == 1
    assert found["tests"][0]["races"][0]["claims"][0]["verdict"] == "holds"
    assert found["trends"][0]["points"][2] == {"commit": "", "date": "", "value": 90}
    assert {"brand", "isa", "cores"} <= set(found["machine"])


# --- replay ----------------------------------------------------------------------------------


class Benchmark:
    """What pytest-benchmark documents of `pedantic`, with its untimed call at the end."""

    def __init__(self, clock: replay.ReplayClock) -> None:
        self.clock, self.timed, self.extra_info = clock, [0.0][:0], dict[str, Any]()

    def pedantic(self, target: Any, setup: Any, rounds: int) -> None:
        for _ in range(rounds):
            setup()
            start = self.clock()
            target()
            self.timed.append(self.clock() - start)
        setup()
        target()


@given(st.lists(st.floats(1e-9, 1e3), min_size=1))
def test_replayed_samples_are_the_samples_to_the_last_digit(samples: list[float]) -> None:
    benchmark = Benchmark(clock := replay.ReplayClock())
    replay.replay(benchmark, clock, samples, {"sparsity": 1})
    assert benchmark.timed == samples
    assert benchmark.extra_info == {"sparsity": 1}
