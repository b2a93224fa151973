"""Records, terminal lines, the JSON document and the page."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_sparsity.baseline.history import Point, Trend
from pytest_sparsity.baseline.recorded import BaselineComparison
from pytest_sparsity.report import (
    document,
    failure,
    job,
    markdown,
    plot,
    records,
    replay,
    terminal,
)

if TYPE_CHECKING:
    from collections.abc import Callable

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


def model_of(name: str) -> records.Record:
    return {"name": f"{name}.tflite", "nbytes": 1000, "sha256": name * 8}


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
        "metadata": {"pairs": 3, "clock": "cpu", "machine": "CPU", "version": "2.3.0"},
        "resolution": "",
        "inputs": "x (1, 8, 8, 3)",
        "verdict": "faster",
        "remarks": [],
        "dense_model": model_of("dense"),
        "sparse_model": model_of("sparse"),
        "diagnosis": None,
        "no_diagnosis": "",
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
        "file": "test_m.py",
        "line": 3,
        "seconds": 1.5,
        "message": "",
        "variants": [],
        "models": [],
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
    comparison = BaselineComparison("nbytes", "<=", 90, 100, 0.05, "holds", "b/m.json")
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
        "2.00x [1.90, 2.10]  >= 1.5  refuted       litert  test_m.py::test_a",
        "2.00x [1.90, 2.10]  < 12    inconclusive  litert  test_m.py::test_a",
        "2.00x [1.90, 2.10]          not claimed   litert  test_m.py::test_a",
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
        "races: 2 hold, 1 refuted, 1 inconclusive; baselines: 1 holds, 1 refuted, 1 recorded; "
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

    VOID = ("meta", "br", "input", "wbr")

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


RUN = document.Run(
    "2026-01-03T04:05:06+00:00",
    "c0ffee" * 6,
    changed=True,
    versions={"pytest-sparsity": "0.1.0", "Python": "3.11.7", "pytest": "9.2.0"},
    settings={"targets": ["litert"], "require": [], "budget": 10.0, "confidence": 0.95},
)
FORGED = "test_m.py::test_a[<script>alert(1)</script>]"


def layer(**fields: Any) -> records.Record:
    return {
        "index": 0, "op": "CONV_2D", "name": "a;b", "shape": [8, 1, 1, 8], "dtype": "float32",
        "parameters": 64, "sparsity": 0.8, "encoding": "sparse", "nbytes": 70, **fields,
    }  # fmt: skip


def diagnosis(name: str = "sparse", **fields: Any) -> records.Record:
    return {
        "model": model_of(name), "target": "litert", "verdict": "dense", "evidence": "observed",
        "headline": f"{name}.tflite runs no sparse kernel", "outputs_match": True,
        "inputs": "x (1, 8, 8, 3)", "kernels": ["dense", "block"], "nanoseconds": [3000, 0],
        "findings": [{"code": "x86-avx", "message": "this CPU has AVX", "layer": None,
                      "remedy": "claim it on litert-js", "takes": "runtime"}],
        **fields,
    }  # fmt: skip


def files() -> list[records.Record]:
    """A network of which there are two sparse files, with 50 and 80 % zeros."""
    facts = {"gzip_nbytes": 500, "fault": "", "layers": [layer(), layer(index=1, nbytes=0)]}
    shares = {"dense": 0.0, "sparse": 0.8, "half": 0.5}
    return [{**model_of(name), "sparsity": share, **facts} for name, share in shares.items()]


def full() -> records.Record:
    unknown = {"value": None, "low": None, "high": None}
    slower = {"value": 1.5, "low": 1.4, "high": 1.6}
    known = diagnosis()
    tests = [
        run(
            race(claim(), claim("inconclusive", threshold=2.05, text=">= 2.05"), diagnosis=known),
            race(claim("refuted", **unknown), ratio=unknown, target="litert-js"),
            race(
                ratio={"value": 2.0, "low": 2.0, "high": 2.0},
                unit="instructions",
                remarks=["not sparse-encoded"],
                no_diagnosis="nobody knows",
            ),
            baselines=(
                entry(within=0.2),
                entry("recorded", recorded=None, change=None, moved=False),
                entry(today={"value": 2.0, "low": 1.9, "high": 2.1, "confidence": 0.95}),
            ),
            diagnoses=[known, diagnosis(target="litert-js", nanoseconds=[])],
            models=files(),
            nodeid=FORGED,
        ),
        run(
            race(claim(), sparse_model=model_of("half"), ratio=slower),
            outcome="failed",
            message="assert 3 < 2\nwhere 3 = nbytes",
            variants=[{"dense": "dense" * 8, "pruned": "x", "sparse": "half" * 8}],
        ),
        run(
            outcome="skipped",
            not_run={"target": "litert-js", "reason": "no Node", "remedy": "install it",
                     "required": False},
        ),
    ]  # fmt: skip
    points = tuple(Point(f"{n}" * 40, f"2026-01-0{n}T00:00:00+00:00", 100 - n) for n in (1, 2))
    trends = [
        Trend("m.json", "test_a", "nbytes", (*points, Point("", "", 90))),
        Trend("m.json", "test_a", "still", points[:1]),
        Trend("m.json", "test_a", "kernel", (Point("1", "2026", "a"), Point("2", "2026", "b"))),
    ]
    return document.compose(RUN, tests, ["b/m.json  test_gone"], trends)


def test_the_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    document.write(tmp_path / "sub" / "report.html", full())
    html = (tmp_path / "sub" / "report.html").read_text()
    reader = read(html)
    tags = [tag for tag, _ in reader.seen]
    assert tags.count("script") == tags.count("style") == 1
    assert not {"link", "img", "iframe", "object", "use", "form", "base"} & set(tags)
    assert "http" not in html.replace("http-equiv", "")
    assert "url(" not in html
    assert "@import" not in html
    for tag, attributes in reader.seen:
        assert not {"src", "style", "action", "srcset"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
        assert tag != "a" or str(attributes["href"]).startswith("#")
    assert FORGED in "".join(reader.text)
    assert "<script>alert" not in html


def test_the_page_s_policy_allows_its_own_script_and_style_and_nothing_else(tmp_path: Path) -> None:
    document.write(tmp_path / "report.html", full())
    html = (tmp_path / "report.html").read_text()
    policy = html.partition('Security-Policy" content="')[2].partition('"')[0].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; ")
    for tag in ("script", "style"):
        inside = html.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_the_page_shows_everything(tmp_path: Path) -> None:
    document.write(tmp_path / "report.html", full())
    reader = read((tmp_path / "report.html").read_text())
    said = " ".join("".join(reader.text).split())
    for expected in (
        "refuted", "inconclusive", "holds", "recorded", "no claim about this race",
        "speedup >= 1.5", "2.00x [1.90, 2.10]", "unknown", "2.000x instructions",
        "-10 % within 20 %", "this CPU has AVX", "claim it on litert-js", "8x1x1x8", "80.0 %",
        "2026-01-01: 99", "not committed", "2 values", "b/m.json test_gone",
        "1 failed: claims about pruned models", "1 passed test", "1 skipped test",
        "assert 3 < 2 where 3 = nbytes", "test_m.py:3", "1.5 s", "1 not run claim",
        "1 claimlitert-js no Node install it", "with changes that are not committed",
        "2026-01-03T04:05:06+00:00", "Python 3.11.7", "500 bytes after gzip", "not sparse-encoded",
        "nobody knows", "sparse.tflite, 1 kB", "3 processes, 3 pairs, 1 s, clock cpu, 1 thread",
        "litert 2.3.0", "x (1, 8, 8, 3)", "sparse.tflite on litert", "dense 3 µs", "block 0",
        "size of dense.tflite and its sparse files", "speedup over dense.tflite",
        "50.0%litert1.50x [1.40, 1.60]",
        "3 races, 3 claims, 3 baselines, 2 diagnoses",
    ):  # fmt: skip
        assert expected in said, expected
    assert "still" not in said, "what has not moved is no trend"
    classes = [str(attributes.get("class")) for _, attributes in reader.seen]
    assert classes.count("ci") == 4, "the intervals that are known"
    assert classes.count("dot") == 4 + 1, "and one trend"
    assert classes.count("curve-dot") == 3 + 3 + 2, "bytes and gzip of three files, two ratios"


def test_a_refuted_claim_of_a_test_that_passed_is_no_alarm(tmp_path: Path) -> None:
    tests = [
        run(race(claim("refuted")), nodeid="t.py::fine", outcome="passed"),
        run(race(claim("refuted")), nodeid="t.py::bad", outcome="failed", message="no"),
    ]
    document.write(tmp_path / "report.html", document.compose(RUN, tests, [], []))
    html = (tmp_path / "report.html").read_text()
    said = " ".join("".join(read(html).text).split())
    assert "2 refuted claims, 1 of the tests passed" in said
    rows = re.findall(r'data-kind="refuted".*?data-test="t.py::(\w+)"', html)
    assert rows == ["bad", "fine"], "what failed its test comes first"
    assert [row.count("the test passed") for row in html.split("<tbody")[1:3]] == [0, 1]


def test_files_of_a_network_stand_together_from_dense_to_sparse(tmp_path: Path) -> None:
    known = {
        name: model_of(name) | {"sparsity": zeros, "gzip_nbytes": 1, "layers": [], "fault": ""}
        for name, zeros in (
            ("other", 0.0), ("s9", 0.9), ("p5", 0.5), ("dense", 0.0), ("p9", 0.9), ("s5", 0.5),
        )
    }  # fmt: skip
    digest = {name: file["sha256"] for name, file in known.items()}
    variants = [
        {"dense": digest["dense"], "pruned": digest[f"p{n}"], "sparse": digest[f"s{n}"]}
        for n in (9, 5)
    ]
    tests = [run(models=list(known.values()), variants=variants)]
    document.write(tmp_path / "report.html", document.compose(RUN, tests, [], []))
    html = (tmp_path / "report.html").read_text().partition('id="models"')[2]
    assert re.findall(r"<summary>(\w+)\.tflite", html) == [
        "other", "dense", "p5", "s5", "p9", "s9",
    ]  # fmt: skip


def test_what_moved_most_comes_first_and_long_lists_open(tmp_path: Path) -> None:
    def trend(name: str, last: int | str) -> Trend:
        return Trend("m.json", "t", name, (Point("1", "2026", 1000000), Point("2", "2026", last)))

    trends = [trend(f"v{n}", 1000000 + n) for n in range(1, 14)] + [trend("kind", "a")]
    document.write(tmp_path / "report.html", document.compose(RUN, [run()], [], trends))
    html = (tmp_path / "report.html").read_text().partition('id="trends"')[2]
    names = re.findall(r'<tr class="main"><td>(\w+)<', html)
    assert names == ["kind", *(f"v{n}" for n in range(13, 0, -1))]
    assert "<summary>2 more, which moved less</summary>" in html
    assert "1,000,013" in html
    assert html.count("+0.0013 %") == 1


def test_names_of_tests_may_be_broken_between_their_parts(tmp_path: Path) -> None:
    tests = [run(race(claim()), nodeid="a/b.py::test_x[<i>-1]")]
    document.write(tmp_path / "report.html", document.compose(RUN, tests, [], []))
    html = (tmp_path / "report.html").read_text()
    assert "a/<wbr>b.py::<wbr>test_<wbr>x[<wbr>&lt;i&gt;-1]" in html


def test_what_failed_comes_first_in_the_list_of_tests(tmp_path: Path) -> None:
    document.write(tmp_path / "report.html", full())
    html = (tmp_path / "report.html").read_text().partition('id="tests"')[2]
    order = re.findall(r'data-kind="(\w+)"', html)
    assert order == ["failed", "skipped", "passed"]


def test_a_page_without_anything_says_so(tmp_path: Path) -> None:
    document.write(tmp_path / "report.html", document.compose(RUN, [], [], []))
    reader = read((tmp_path / "report.html").read_text())
    said = " ".join("".join(reader.text).split())
    assert "No test of this run used a fixture of pytest-sparsity, so no claim was made." in said


def test_one_share_of_zeros_is_no_curve() -> None:
    from pytest_sparsity.report import curves

    assert [curve.title for curve in curves.of(full())] == [
        "size of dense.tflite and its sparse files", "speedup over dense.tflite",
    ]  # fmt: skip
    tests = [run(race(claim()), models=files())]
    assert curves.of(document.compose(RUN, tests, [], [])) == []


def test_curves_stay_inside() -> None:
    from pytest_sparsity.report import curves

    for curve in curves.of(full()):
        for line in curve.lines:
            for dot in line.dots:
                assert curves.LEFT <= dot.x <= curves.WIDTH - curves.RIGHT
                ends = (dot.high, dot.y, dot.low)
                assert list(ends) == sorted(ends), "larger is higher, and y grows downwards"
                assert all(curves.TOP <= end <= curves.HEIGHT - curves.BOTTOM for end in ends)


def test_the_document_as_json(tmp_path: Path) -> None:
    document.write(tmp_path / "report.json", full())
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["schema"] == 1
    assert found["counts"] == {
        "tests": {"failed": 1, "skipped": 1, "passed": 1},
        "claims": {"refuted": 1, "inconclusive": 1, "holds": 4, "recorded": 1},
        "not_run": 1,
    }
    test = found["tests"][0]
    assert test["races"][0]["claims"][0]["verdict"] == "holds"
    assert test["races"][0]["diagnosis"] == test["diagnoses"][0] == 0, "once, by its number"
    assert len(found["diagnoses"]) == 2
    assert [model["name"] for model in found["models"]] == [
        "dense.tflite", "sparse.tflite", "half.tflite",
    ]  # fmt: skip
    assert found["trends"][0]["points"][2] == {"commit": "", "date": "", "value": 90}
    assert set(found["machine"]) == {"brand", "isa", "cores", "arch"}


def test_of_a_test_that_ran_again_the_last_run_counts() -> None:
    tests = [run(race(claim("refuted")), outcome="rerun"), run(race(claim()))]
    assert document.counts(tests) == {"tests": {"passed": 1}, "claims": {"holds": 1}, "not_run": 0}


# --- the schema ------------------------------------------------------------------------------

SCHEMA = Path(__file__).parent.parent / "docs/reference/report.schema.json"


def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_documents_fit_the_published_schema() -> None:
    for made in (full(), document.compose(RUN, [], [], [])):
        validator().validate(made)


def test_the_schema_refuses_what_it_does_not_name() -> None:
    def spoilt(change: Callable[[records.Record], object]) -> bool:
        made = full()
        change(made)
        return not validator().is_valid(made)

    assert spoilt(lambda made: made.update(more=1))
    assert spoilt(lambda made: made["tests"][0].update(more=1))
    assert spoilt(lambda made: made["tests"][0]["races"][0].update(more=1))
    assert spoilt(lambda made: made["tests"][0]["races"][0]["claims"][0].pop("verdict"))
    assert spoilt(lambda made: made["tests"][0].update(outcome="fine"))
    assert spoilt(lambda made: made["models"][0]["layers"][0].update(sparsity=2))
    assert spoilt(lambda made: made["diagnoses"][0].update(verdict="good"))
    assert spoilt(lambda made: made.update(schema=2))


# --- Markdown, and what GitHub Actions shows -------------------------------------------------


def test_the_document_as_markdown(tmp_path: Path) -> None:
    document.write(tmp_path / "report.md", full())
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert lines[2] == (
        "tests: 1 failed, 1 skipped, 1 passed; "
        "claims: 1 refuted, 1 inconclusive, 4 holds, 1 recorded; not run: 1"
    )
    rows = [line for line in lines if line.startswith("| ")]
    assert rows[2] == f"| **refuted** | unknown | speedup >= 1.5 | litert-js | `{FORGED}` |"
    assert rows[3].startswith(
        "| **inconclusive** | 2.00x [1.90, 2.10] | speedup >= 2.05 | litert |"
    )
    assert "| **failed** | `test_m.py::test_a` | assert 3 \\< 2 |" in rows
    assert "| 1 claim | litert-js | no Node | `install it` |" in rows
    assert "| `sparse.tflite` | 1,000 | 500 | 80.0% |" in rows
    assert "commit c0ffeec0ffee with changes" in lines[-1]


@pytest.mark.parametrize(
    ("text", "cell", "code"),
    [
        ("a|b", "a\\|b", "`a\\|b`"),
        ("<img src=x>\n@you #1", "\\<img src=x\\> \\@you \\#1", "`<img src=x> @you #1`"),
        ("`", "\\`", "`` ` ``"),
        ("\x1b[2J\u202e", "\\\\x1b\\[2J\\\\u202e", "`\\x1b[2J\\u202e`"),
    ],
)
def test_cells_hold_text_and_nothing_else(text: str, cell: str, code: str) -> None:
    assert markdown._cell(text) == cell
    assert markdown._code(text) == code


def test_long_tables_are_cut_and_say_so() -> None:
    tests = [run(race(claim()), nodeid=f"test_m.py::test_{n}") for n in range(150)]
    text = markdown.markdown(document.compose(RUN, tests, [], []))
    assert text.count("| holds |") == markdown.ROWS
    assert "50 more rows in the report." in text


def test_annotations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", "/home/runner")
    assert list(job.commands(full(), Path("/home/runner/sub"))) == [
        (
            "::error file=sub/test_m.py,line=3,title=failed%3A test_m.py%3A%3Atest_a"
            "::assert 3 < 2%0Awhere 3 = nbytes"
        ),
        "::warning title=not run%3A 1 claim on litert-js::no Node: install it",
    ]


def test_no_message_ends_its_annotation_early() -> None:
    forged = "100 %\r\n::set-output name=x::1\n\x1b[2J"
    (test, _) = (run(outcome="failed", message=forged, nodeid="a,b::c"), None)
    (line,) = job.commands(document.compose(RUN, [test], [], []), Path("/r"))
    assert line.partition("::")[2].isprintable()
    assert "title=failed%3A a%2Cb%3A%3Ac::100 %25%0A::set-output" in line


def test_the_eleventh_failure_is_counted() -> None:
    tests = [run(outcome="failed", nodeid=f"t::{n}") for n in range(12)]
    said = list(job.commands(document.compose(RUN, tests, [], []), Path("/r")))
    assert len(said) == 11
    assert said[-1] == "::notice title=pytest-sparsity::2 more tests failed"


def test_a_summary_is_added_to_what_is_there_and_never_too_long(tmp_path: Path) -> None:
    summary = tmp_path / "summary"
    summary.write_text("before\n")
    job.append(summary, full())
    assert summary.read_text().startswith("before\n## Claims about pruned models\n")
    summary.write_text("x" * (job.MOST_BYTES - 100))
    job.append(summary, full())
    assert summary.read_text().endswith("xpytest-sparsity: the summary of this step is full\n")


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
