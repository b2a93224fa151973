"""Files of baselines, comparisons with recorded values, and what survives a kill."""
# ruff: noqa: SIM300  (on which side a recorded value stands is what is tested)

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_sparsity.baseline import Baseline, BaselineError, NoBaseline, Store, Suite
from pytest_sparsity.baseline.files import (
    Ratio,
    Recordable,
    RecordedFile,
    dump,
    join,
    parse,
    read,
    write,
)
from pytest_sparsity.baseline.recorded import (
    check_width,
    plain,
    ratio_holds,
    sharpened,
    text,
    value_holds,
)
from pytest_sparsity.baseline.store import Location
from pytest_sparsity.baseline.unused import Known, unused
from pytest_sparsity.errors import Inconclusive
from pytest_sparsity.estimate import Budget, Estimate, Series

DATA = Path(__file__).parent / "data"

scalars = st.one_of(
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text(),
)
ratios = st.builds(
    lambda bounds, confidence: Ratio(bounds[1], bounds[0], bounds[2], confidence),
    st.lists(st.floats(0.01, 100), min_size=3, max_size=3).map(sorted),
    st.floats(0.5, 0.999),
)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: "::" not in name and not name.startswith(":")
)
tests = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(lambda t: f"test_x[{t}]")
values = st.one_of(scalars, st.lists(scalars), ratios)


def estimate(value: float, spread: float = 0.01) -> Estimate:
    """Return a ratio that is known already, with an interval of +- `spread`."""
    return Estimate(value, value * (1 - spread), value * (1 + spread), 0.95)


def baseline(
    folder: Path, *, update: bool = False, test: str = "test_claim", limit: float = 20
) -> Baseline:
    suite = Suite(Store(folder, "baselines"), update, limit, "a-machine")
    return Baseline(suite, "tests/test_claims.py", test, lambda _: None)


def record(folder: Path, test: str = "test_claim", **today: object) -> None:
    kept = baseline(folder, update=True, test=test)
    for name, value in today.items():
        assert kept(name) == value
    kept.commit()


# --- files -----------------------------------------------------------------------------------


def test_a_file_holds_one_value_per_line_and_the_schema_last() -> None:
    text = dump(
        {
            "test_b::speedup": Ratio(1.83456, 1.79, 1.88, 0.95),
            "test_a::nbytes": 6174140,
            "test_a::kernels": ["sparse", "dense"],
            "test_a::sparsity": 0.79999878,
            "test_c::model": RecordedFile("3f9c1a.tflite", 12),
        }
    )
    assert text == (
        "{\n"
        '  "test_a::kernels": ["sparse", "dense"],\n'
        '  "test_a::nbytes": 6174140,\n'
        '  "test_a::sparsity": 0.799999,\n'
        "\n"
        '  "test_b::speedup": '
        '{"value": 1.835, "low": 1.79, "high": 1.88, "confidence": 0.95},\n'
        "\n"
        '  "test_c::model": {"model": "3f9c1a.tflite", "nbytes": 12},\n'
        "\n"
        '  "schema": 1\n'
        "}\n"
    )


@given(st.dictionaries(st.builds(join, tests, names), values))
def test_what_is_written_is_read(entries: dict[str, Recordable]) -> None:
    once = parse(dump(entries), "f.json")
    assert list(once) == sorted(once, key=lambda key: key.rpartition("::")[::2])
    assert once.keys() == entries.keys()
    assert parse(dump(once), "f.json") == once, "rounding twice is rounding once"
    assert json.loads(dump(entries))["schema"] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is damaged at line 1 column 1: Expecting value; restore it with: git checkout -- f"),
        ('{"a::b": 1', "is damaged at line 1 column 11: *"),
        ("[]", "is damaged at $: expected an object, found a list"),
        ("{}", "is damaged at $.schema: expected a schema number, found nothing"),
        ('{"schema": "1"}', 'is damaged at $.schema: expected a schema number, found "1"'),
        ('{"schema": true}', "is damaged at $.schema: expected a schema number, found true"),
        ('{"schema": 2}', "has schema 2 and this pytest-sparsity reads up to 1; upgrade it: *"),
        ('{"x": 1, "schema": 1}', "is damaged at $[*x*]: expected a key of the form 'TEST::NAME'"),
        ('{"t::": 1, "schema": 1}', "is damaged at $[*t::*]: expected a key of the form *"),
        ('{"t::n": null, "schema": 1}', 'is damaged at $["t::n"]: expected a value, found nothing'),
        (
            '{"t::n": [1, {}], "schema": 1}',
            'is damaged at $["t::n"][1]: expected a number, a name or a truth value, found an *',
        ),
        (
            '{"t::n": {"value": 1, "low": "x"}, "schema": 1}',
            'is damaged at $["t::n"].low: expected a number above 0, found "x"',
        ),
        (
            '{"t::n": {"value": 1, "low": 1, "high": 1}, "schema": 1}',
            'is damaged at $["t::n"].confidence: expected a number above 0, found nothing',
        ),
        (
            '{"t::n": {"value": 3, "low": 1, "high": 2, "confidence": 0.9}, "schema": 1}',
            'is damaged at $["t::n"].value: expected a number from 1.0 to 2.0, found 3.0',
        ),
        (
            '{"t::n": {"value": 1, "low": 1, "high": 1, "confidence": 0.9, "x": 1}, "schema": 1}',
            'is damaged at $["t::n"].x: expected nothing of that name, found 1',
        ),
        (
            '{"t::n": {"model": "../etc/passwd", "nbytes": 1}, "schema": 1}',
            'is damaged at $["t::n"].model: expected the name of a file in models/, found *',
        ),
        (
            '{"t::n": {"model": "a.tflite"}, "schema": 1}',
            'is damaged at $["t::n"].nbytes: expected a number of bytes, found nothing',
        ),
        (
            '{"t::n": {"model": "a.tflite", "nbytes": -3}, "schema": 1}',
            'is damaged at $["t::n"].nbytes: expected a number of bytes, found -3',
        ),
        (
            '{"t::n": {"value": 1, "low": 1, "high": 1, "confidence": 17}, "schema": 1}',
            'is damaged at $["t::n"].confidence: expected a number from 0 to below 1, found 17',
        ),
        ('{"t::n": Infinity, "schema": 1}', "is damaged: Infinity is not a JSON number; restore *"),
        (
            '{"t::n": 1,\n "t::n": 2, "schema": 1}',
            'is damaged at $["t::n"]: recorded twice, as happens when branches are merged; keep *',
        ),
        (
            '{\n<<<<<<< HEAD\n"t::n": 1\n=======\n"t::n": 2\n>>>>>>> b\n}',
            "has conflict markers: keep the lines of both sides, each key once",
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(text: str, said: str) -> None:
    with pytest.raises(BaselineError) as raised:
        parse(text, "f.json")
    pattern = said.replace("[", "[[]") if "*x*" not in said else said.replace("$[", "$[[]")
    message = str(raised.value)
    assert Path(message.replace("/", "|")).match(f"f.json {pattern}*".replace("/", "|")), message


def test_bytes_that_are_no_text_are_a_damaged_file_too(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_bytes(b"\xff\xfe")
    with pytest.raises(BaselineError, match=r"f\.json cannot be read: .*decode"):
        read(tmp_path / "f.json")
    assert read(tmp_path / "absent.json") == {}


@pytest.mark.parametrize("name", ["", "a::b", "::", ":a"])
def test_names_that_cannot_be_told_from_the_test(name: str) -> None:
    with pytest.raises(ValueError, match="a baseline's name must not be empty, contain '::' or"):
        join("test", name)


def test_writing_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    write(tmp_path / "sub" / "f.json", {"t::n": 1})
    write(tmp_path / "sub" / "f.json", {"t::n": 2})
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["f.json"]


# --- comparisons -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (True, True),
        (np.bool_(False), False),
        (3, 3),
        (np.int64(3), 3),
        (0.5, 0.5),
        (np.float32(0.5), 0.5),
        (Fraction(1, 4), 0.25),
        ("dense", "dense"),
        (("a", 1), ["a", 1]),
        (np.array([0.5, 0.25]), [0.5, 0.25]),
        (None, None),
        ({"a": 1}, None),
        ([None], None),
        (object(), None),
    ],
)
def test_what_can_be_recorded(value: object, kept: object) -> None:
    assert plain(value) == kept
    assert type(plain(value)) is type(kept)


@pytest.mark.parametrize(
    ("today", "sign", "recorded", "within", "holds"),
    [
        (5, "<=", 5, 0.0, True),
        (6, "<=", 5, 0.0, False),
        (6, "<=", 5, 0.2, True),
        (7, "<=", 5, 0.2, False),
        (5, "<", 5, 0.0, False),
        (5, "<", 5, 0.01, True),
        (95, ">=", 100, 0.05, True),
        (94, ">=", 100, 0.05, False),
        (-105, ">=", -100, 0.05, True),
        (-106, ">=", -100, 0.05, False),
        (0.8, "==", 0.8, 0.0, True),
        (0.81, "==", 0.8, 0.0, False),
        (0.81, "==", 0.8, 0.02, True),
        (0.81, "!=", 0.8, 0.02, False),
        (1, "==", 1.0, 0.0, True),
        ("sparse", "==", "sparse", 0.0, True),
        ("dense", "!=", "sparse", 0.0, True),
        (True, "==", True, 0.0, True),
        ([1, 2], "==", [1, 2], 0.0, True),
        ([1, 2], "!=", [1, 2], 0.0, False),
        ([1, 2], "==", [1, 2, 3], 0.0, False),
        ([0.9, 0.7], ">=", [0.8, 0.8], 0.0, False),
        ([0.9, 0.8], ">=", [0.8, 0.8], 0.0, True),
        ([0.9, 0.79], ">=", [0.8, 0.8], 0.02, True),
        ([0.9], ">=", [0.8, 0.8], 0.0, False),
        (["a", "b"], "==", ["a", "b"], 0.0, True),
    ],
)
def test_verdicts(
    today: Recordable, sign: str, recorded: Recordable, within: float, holds: bool
) -> None:
    assert value_holds(sign, today, recorded, within) is holds


@pytest.mark.parametrize(
    ("today", "recorded", "said"),
    [
        ("dense", 5, "5 was recorded and today's value is 'dense'"),
        (5, [5], r"\[5\] was recorded and today's value is 5"),
        (True, 1, "1 was recorded and today's value is True"),
        ("a", "b", "'a' <= 'b': names have no order, use =="),
        (5, Ratio(2, 1, 3, 0.95), r"2 \[1, 3\] was recorded and today's value is 5"),
    ],
)
def test_values_of_two_kinds_are_not_compared(
    today: Recordable, recorded: Recordable, said: str
) -> None:
    with pytest.raises(BaselineError, match=said):
        value_holds("<=", today, recorded, 0.0)


def test_the_operator_is_the_direction_and_either_side_may_be_today_s(tmp_path: Path) -> None:
    record(tmp_path, nbytes=100)
    kept = baseline(tmp_path)
    assert 100 <= kept("nbytes")
    assert kept("nbytes") >= 100
    assert not 101 <= kept("nbytes")
    assert not kept("nbytes") >= 101
    assert 101 > kept("nbytes")
    assert kept("nbytes") < 101
    assert 100 == kept("nbytes")
    assert 99 != kept("nbytes")
    assert np.int64(99) <= kept("nbytes")
    assert Fraction(100) <= kept("nbytes")
    assert 104 <= kept("nbytes", within=0.05)
    assert not 106 <= kept("nbytes", within=0.05)
    signs = [comparison.operator for comparison in kept.comparisons]
    assert signs == ["<=", "<=", "<=", "<=", ">", ">", "==", "!=", "<=", "<=", "<=", "<="]


@pytest.mark.parametrize("value", [None, {"a": 1}, object()])
def test_what_cannot_be_recorded_is_not_compared(tmp_path: Path, value: Any) -> None:
    record(tmp_path, nbytes=100)
    with pytest.raises(TypeError, match="not supported between instances"):
        _ = value <= baseline(tmp_path)("nbytes")


@pytest.mark.parametrize("value", [math.nan, math.inf, [1.0, math.nan]])
def test_what_is_not_finite_is_an_error_and_is_not_recorded(tmp_path: Path, value: Any) -> None:
    record(tmp_path, zeros=0.5)
    for update in (False, True):
        with pytest.raises(ValueError, match=r"(nan|inf) cannot be recorded or compared"):
            _ = value == baseline(tmp_path, update=update)("zeros")


def test_a_recorded_value_has_no_truth_value_and_no_hash(tmp_path: Path) -> None:
    kept = baseline(tmp_path)("nbytes")
    with pytest.raises(TypeError, match=r"compare it: `assert x <= baseline\('nbytes'\)`"):
        bool(kept)
    with pytest.raises(TypeError, match="unhashable"):
        hash(kept)


@pytest.mark.parametrize("within", [-0.1, 1, math.nan])
def test_a_tolerance_is_a_fraction(tmp_path: Path, within: float) -> None:
    with pytest.raises(ValueError, match="within is a fraction from 0 to below 1"):
        baseline(tmp_path)("nbytes", within=within)


def test_nothing_recorded_names_the_command(tmp_path: Path) -> None:
    said = (
        "no baseline for 'nbytes'; record it with: "
        "pytest --sparsity-update 'tests/test_claims.py::test_claim[[]a b[]]'"
    )
    with pytest.raises(NoBaseline) as raised:
        _ = 5 <= baseline(tmp_path, test="test_claim[a b]")("nbytes")
    assert str(raised.value) == said.replace("[[]", "[").replace("[]]", "]")
    assert isinstance(raised.value, AssertionError)


@given(scalars.filter(lambda x: not isinstance(x, str)), st.sampled_from(["<=", ">=", "=="]))
def test_a_value_holds_against_its_own_record(value: Recordable, sign: str) -> None:
    text = dump({"t::n": value})
    from pytest_sparsity.baseline.files import rounded

    kept = parse(text, "f")["t::n"]
    if isinstance(value, bool) and sign != "==":
        return
    assert value_holds(sign, rounded(value), kept, 0.0)


def test_an_update_records_and_keeps_what_is_there(tmp_path: Path) -> None:
    record(tmp_path, "test_a", nbytes=100, zeros=0.5)
    record(tmp_path, "test_b", nbytes=7)
    record(tmp_path, "test_a", nbytes=101)
    assert read(tmp_path / "tests/test_claims.json") == {
        "test_a::nbytes": 101,
        "test_a::zeros": 0.5,
        "test_b::nbytes": 7,
    }


@pytest.mark.parametrize(("spread", "within"), [(0.03, 0.05), (0.01, 0.01)])
def test_a_ratio_that_is_too_uncertain_for_its_tolerance_is_refused(
    spread: float, within: float
) -> None:
    ratio = Ratio(2.0, 2.0 - 2 * spread, 2.0 + 2 * spread, 0.95)
    with pytest.raises(
        BaselineError, match=r"'speedup' is not recorded: the interval of 2 .* wide"
    ):
        check_width("speedup", ratio, within)
    check_width("speedup", ratio, 2.1 * spread)


def test_an_update_is_true_whatever_is_claimed(tmp_path: Path) -> None:
    kept = baseline(tmp_path, update=True)
    assert 100 <= kept("nbytes")
    assert 100 > kept("nbytes")
    assert 100 != kept("nbytes")
    assert [c.verdict for c in kept.comparisons] == ["recorded"]


def test_two_values_under_one_name_are_refused(tmp_path: Path) -> None:
    kept = baseline(tmp_path, update=True)
    assert kept("nbytes") == 1
    with pytest.raises(ValueError, match="baseline 'nbytes' got two values in one test, 1 and 2"):
        _ = kept("nbytes") == 2


def test_a_test_that_does_not_pass_records_nothing(tmp_path: Path) -> None:
    kept = baseline(tmp_path, update=True)
    assert kept("nbytes") == 1
    assert not (tmp_path / "tests").exists(), "it is `commit` that writes"


def test_an_update_without_a_change_touches_no_file(tmp_path: Path) -> None:
    record(tmp_path, nbytes=100)
    path = tmp_path / "tests/test_claims.json"
    before = path.stat()
    record(tmp_path, nbytes=100)
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_modules_of_one_name_in_two_folders_have_a_file_each() -> None:
    assert Location.of("tests/a/test_x.py").file == PurePosixPath("tests/a/test_x.json")
    assert Location.of("tests/b/test_x.py").file == PurePosixPath("tests/b/test_x.json")
    assert Location.of("../other/test_x.py").file == PurePosixPath("_/other/test_x.json")
    assert Location.of("test_x.py", "machine").file == PurePosixPath("machine/test_x.json")


def test_a_damaged_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "tests/test_claims.json"
    path.parent.mkdir()
    path.write_text('{"a::b": 1,')
    kept = baseline(tmp_path, update=True)
    with pytest.raises(
        BaselineError, match=r"baselines/tests/test_claims\.json is damaged at line"
    ):
        _ = kept("nbytes") == 1
    assert path.read_text() == '{"a::b": 1,'


def test_a_thousand_comparisons_cost_less_than_a_second(tmp_path: Path) -> None:
    write(tmp_path / "tests/test_claims.json", {f"test_{n}::nbytes": n for n in range(1000)})
    store = Store(tmp_path)
    started = time.process_time()
    for number in range(1000):
        suite = Suite(store, machine="m")
        kept = Baseline(suite, "tests/test_claims.py", f"test_{number}", lambda _: None)
        assert number <= kept("nbytes")
    assert time.process_time() - started < 1


def test_long_lists_are_cut_short_in_messages(tmp_path: Path) -> None:
    assert text([1, "a", 0.5, 2.0, True]) == "[1, 'a', 0.5, 2.0, True]"
    assert text(list(range(100, 200))) == (
        "[100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, ..., "
        "100 in all]"
    )


# --- ratios of times -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "sign", "within", "holds"),
    [
        (2.0, ">=", 0.05, True),
        (1.95, ">=", 0.05, True),
        (1.8, ">=", 0.05, False),
        (1.91, ">=", 0.05, None),
        (2.0, "<=", 0.05, True),
        (2.2, "<=", 0.05, False),
        (2.1, "<=", 0.05, None),
        (2.0, ">=", 0.0, None),
        (2.1, ">", 0.0, True),
        (1.9, ">", 0.0, False),
    ],
)
def test_both_intervals_count(value: float, sign: str, within: float, holds: bool | None) -> None:
    recorded = Ratio(2.0, 1.98, 2.02, 0.95)
    if holds is None:
        with pytest.raises(Inconclusive):
            ratio_holds("speedup", sign, estimate(value), recorded, within)
    else:
        assert ratio_holds("speedup", sign, estimate(value), recorded, within) is holds


def test_an_interval_between_the_recorded_ends_says_that_the_record_is_too_wide() -> None:
    recorded = Ratio(2.0, 1.5, 2.5, 0.95)
    with pytest.raises(Inconclusive, match="the recorded interval is too wide to tell; record it"):
        ratio_holds("speedup", ">=", estimate(2.0, 0.001), recorded, 0.05)


def scripted(centres: Iterable[float]) -> Estimate:
    drawn = iter(centres)
    series = Series(
        lambda *_: next(drawn), name="speedup", budget=Budget(10, lambda: 0.0), confidence=0.95
    )
    series.look()
    return series.latest()


def test_recording_takes_all_looks() -> None:
    rng = np.random.default_rng(1)
    first = scripted(math.log(2) + rng.normal(0, 0.02, 14))
    last = sharpened(first)
    assert (last.high - last.low) < 0.5 * (first.high - first.low)
    assert sharpened(estimate(2.0, 0.0)).value == 2.0, "nothing to sharpen in what is exact"


# --- the recorded model ----------------------------------------------------------------------


def test_the_recorded_model_comes_back_and_is_checked(tmp_path: Path) -> None:
    kept = baseline(tmp_path, update=True)
    recorded = kept.model(DATA / "cnn_sparse.tflite")
    kept.commit()
    assert recorded.path.parent == tmp_path / "models"
    again = baseline(tmp_path).model(DATA / "mlp_sparse.tflite")
    assert again.path.read_bytes() == (DATA / "cnn_sparse.tflite").read_bytes()
    assert not (tmp_path / "models" / "mlp_sparse.tflite").exists()

    again.path.write_bytes((DATA / "mlp_sparse.tflite").read_bytes())
    with pytest.raises(BaselineError, match="is not the model that was recorded"):
        baseline(tmp_path).model(DATA / "mlp_sparse.tflite")
    again.path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(BaselineError, match="is a Git LFS pointer; fetch it with: git lfs pull"):
        baseline(tmp_path).model(DATA / "mlp_sparse.tflite")
    again.path.unlink()
    with pytest.raises(BaselineError, match=r"is missing; restore it with: git checkout -- base"):
        baseline(tmp_path).model(DATA / "mlp_sparse.tflite")


def test_a_model_that_was_not_recorded(tmp_path: Path) -> None:
    with pytest.raises(NoBaseline, match="no baseline for 'model'; record it with: pytest --spa"):
        baseline(tmp_path).model(DATA / "cnn_sparse.tflite")
    record(tmp_path, model=5)
    with pytest.raises(BaselineError, match="'model' is recorded as 5 and not as a model"):
        baseline(tmp_path).model(DATA / "cnn_sparse.tflite")


def test_a_model_that_is_too_large_for_git(tmp_path: Path) -> None:
    kept = baseline(tmp_path, update=True, limit=0.005)
    with pytest.raises(BaselineError) as raised:
        kept.model(DATA / "cnn_sparse.tflite")
    assert "sparsity_baseline_model_limit allows 0.005 MB in git" in str(raised.value)
    assert "git lfs track 'baselines/models/*.tflite'" in str(raised.value)
    assert not (tmp_path / "models").exists()


# --- unused ----------------------------------------------------------------------------------


class module:  # noqa: N801  (stands for one)
    def test_kept(self) -> None: ...

    class TestGroup:
        def test_kept(self) -> None: ...


def test_unused_entries_by_what_is_known(tmp_path: Path) -> None:
    store = Store(tmp_path / "baselines", "baselines")
    tests = ("test_kept[a]", "test_kept[b]", "TestGroup::test_kept", "test_gone", "TestGone::test")
    write(store.folder / "tests/test_m.json", {f"{test}::n": 1 for test in tests})
    write(store.folder / "tests/test_other.json", {"test_x::n": 1})
    write(store.folder / "tests/test_deleted.json", {"test_x::n": 1})
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_other.py").touch()
    (tmp_path / "tests/test_m.py").touch()
    collected = {"test_kept[a]", "TestGroup::test_kept"}
    deleted = "baselines/tests/test_deleted.json  test_x"
    file = "baselines/tests/test_m.json"

    whole = unused(store, tmp_path, {"tests/test_m": Known(module, collected, True)})
    assert whole == [
        deleted,
        f"{file}  TestGone::test",
        f"{file}  test_gone",
        f"{file}  test_kept[b]",
    ]
    part = unused(store, tmp_path, {"tests/test_m": Known(module, {"test_kept[a]"}, False)})
    assert part == [deleted, f"{file}  TestGone::test", f"{file}  test_gone"]
    assert unused(store, tmp_path, {}) == [deleted], "modules that were not looked at are left out"


def test_machines_folders_belong_to_the_same_modules(tmp_path: Path) -> None:
    store = Store(tmp_path, "baselines")
    place = Location.of("test_m.py", "amd-x", {"brand": "AMD X"})
    store.save(place, {"test_gone::speedup": Ratio(2, 1.9, 2.1, 0.95)})
    assert json.loads((tmp_path / "amd-x/machine.json").read_text()) == {"brand": "AMD X"}
    assert store.knows("amd-x")
    assert not store.knows("intel-y")
    assert unused(Store(tmp_path, "b"), tmp_path, {"test_m": Known()}) == [
        "b/amd-x/test_m.json  test_gone"
    ]


# --- kill ------------------------------------------------------------------------------------

NURSERY = """
import os, sys
from pathlib import Path
from pytest_sparsity.baseline import Baseline, Store, Suite, files, store

def careless(path, content):
    with path.open("wb", buffering=0) as file:
        for line in content.splitlines(keepends=True):
            file.write(line)

if sys.argv[2] == "careless":
    files.replace = careless
for line in sys.stdin:
    generation = int(line)
    child = os.fork()
    if not child:
        suite = Suite(Store(Path(sys.argv[1])), True, 20.0, "m")
        for number in range(1000):
            kept = Baseline(suite, "test_m.py", f"test_{number:03}", lambda _: None)
            assert kept("value") == generation * 1000 + number
            kept.commit()
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


def killed_updates(folder: Path, kills: int, way: str = "") -> Iterator[dict[str, Recordable]]:
    """Kill an update of 1,000 tests at a random moment; yield what is there then."""
    path = folder / "test_m.json"
    write(path, {f"test_{number:03}::value": number for number in range(1000)})
    rng = random.Random(0)
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY, str(folder), way],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for generation in range(1, kills + 1):
            print(generation, file=nursery.stdin, flush=True)
            before = path.stat().st_mtime_ns
            updater = int(nursery.stdout.readline())
            while path.stat().st_mtime_ns == before:  # however busy the machine is
                time.sleep(0.001)
            time.sleep(rng.uniform(0.001, 0.03))
            os.kill(updater, signal.SIGKILL)
            assert nursery.stdout.readline() == "gone\n"
            yield read(path)
        nursery.stdin.close()


def test_a_kill_at_any_moment_damages_nothing_and_loses_nothing(tmp_path: Path) -> None:
    halfway = 0
    for found in killed_updates(tmp_path, 200):
        assert len(found) == 1000
        halfway += len({int(str(value)) // 1000 for value in found.values()}) > 1
        for key, value in found.items():
            assert int(str(value)) % 1000 == int(key[5:8])
    assert halfway > 100, "the kills came in the middle of updates"


def test_kills_do_damage_files_that_are_written_in_place(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="is damaged"):
        list(killed_updates(tmp_path, 200, "careless"))


def test_hidden_files_hold_no_values(tmp_path: Path) -> None:
    write(tmp_path / "test_a.json", {"t::n": 1})
    write(tmp_path / ".test_b.json", {"t::n": 1})
    assert [str(file) for file in Store(tmp_path, "b").files()] == ["test_a.json"]


def test_a_test_that_was_collected_exists_whatever_its_module_says() -> None:
    assert Known(None, {"test_made_by_a_plugin"}, complete=False).has("test_made_by_a_plugin")
