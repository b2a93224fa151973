"""Logs of `benchmark_model` and `litert-benchmark`: every form is read, and its limits told."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import benchmark_logs
from benchmark_logs import FORMS, LOGCAT, Form, log
from pytest_sparsity.__main__ import main
from pytest_sparsity.logs import Log, LogError, Operator, Statistics, compared, parse, read

SPARSE = ("Convolution (NCHW, F32) SPMM", "Delegate/Convolution (NCHW, F32) SPMM:2", 0.278)
DENSE = ("Fully Connected (NC, F32) GEMM", "Delegate/Fully Connected (NC, F32) GEMM:3", 1.2)
PLAIN = ("CONV_2D", "[a, b]:0", 0.5)
OPAQUE = ("TfLiteXNNPackDelegate", "[out]:31", 3.1)
RUNS = [3801, 3700, 3900, 3799] * 5


@pytest.fixture(params=list(FORMS.values()), ids=list(FORMS))
def form(request: pytest.FixtureRequest) -> Form:
    found: Form = request.param
    return found


def one(text: str) -> Log:
    (found,) = parse(text)
    return found


def test_there_are_at_least_eight_forms() -> None:
    assert len({log(form, RUNS, rows=[SPARSE]) for form in FORMS.values()}) >= 8


def test_every_form(form: Form) -> None:
    found = one(log(form, RUNS, rows=[SPARSE, PLAIN, DENSE]))
    assert found.runs.count == 20
    assert (found.runs.first, found.runs.curr) == (3801, 3799)
    assert (found.runs.min, found.runs.max, found.runs.avg) == (3700, 3900, 3800)
    assert found.runs.std == benchmark_logs.deviation(RUNS)
    assert (found.runs.median == 3801) is form.quantiles
    assert found.warm_up is not None
    assert found.warm_up.count == 2
    assert found.init_us == 9500
    assert found.model == "net.tflite"
    assert found.replaced == (29, 31, "TfLiteXNNPackDelegate")
    assert found.peak_mb == (109.8 if form.memory else None)
    assert found.operators == tuple(
        Operator(kind, name, ms, 1) for kind, name, ms in (SPARSE, PLAIN, DENSE)
    )
    assert found.sparse_kernels is True
    assert found.errors == ()


def test_no_sparse_kernels(form: Form) -> None:
    assert one(log(form, RUNS, rows=[PLAIN, DENSE])).sparse_kernels is False


def test_what_shows_no_kernels(form: Form) -> None:
    bare, opaque = one(log(form, RUNS)), one(log(form, RUNS, rows=[OPAQUE]))
    assert bare.sparse_kernels is None
    assert opaque.sparse_kernels is None
    assert any("there is no profile" in limit for limit in bare.limits)
    assert any("the delegate is one row" in limit for limit in opaque.limits)


def test_one_sample_has_no_average(form: Form) -> None:
    found = one(log(form, [3_500_000], warm_up=[4_000_000]))
    assert found.runs.count == 1
    assert (found.runs.avg, found.runs.min, found.runs.std) == (3_500_000, 3_500_000, 0)
    assert "1 invocation is too few for a deviation" in found.limits


def test_all_the_same(form: Form) -> None:
    found = one(log(form, [12] * 50, warm_up=[12, 12]))
    assert (found.runs.count, found.runs.avg, found.runs.std) == (50, 12, 0)
    assert "times are in steps of 1 us, which is 8 % of one inference" in found.limits


def test_large_averages_have_lost_digits(form: Form) -> None:
    found = one(log(form, [2_950_001, 2_950_003] * 10))
    assert found.runs.avg == 2_950_000


def test_no_warm_up(form: Form) -> None:
    found = one(log(form, RUNS, warm_up=[]))
    assert found.warm_up is None
    assert found.runs.count == 20


def test_a_log_that_ends_after_the_warm_up(form: Form) -> None:
    text = log(form, RUNS)
    cut = text[: text.index("Running benchmark for at least 50")]
    with pytest.raises(LogError, match="no run of benchmark_model"):
        parse(cut)


def test_several_runs_in_one_file(form: Form) -> None:
    first, second = parse(log(form, RUNS, model="a.tflite") + log(form, RUNS, model="b.tflite"))
    assert (first.model, second.model) == ("a.tflite", "b.tflite")


def test_only_the_line_that_people_paste() -> None:
    assert one("count=50 first=1 curr=2 min=1 max=3 avg=1.5 std=0").runs.avg == 1.5
    summary = (
        "Inference timings in us: Init: 1, First inference: 2, Warmup (avg): 3, "
        "Inference (avg): 2.95e+06"
    )
    assert one(summary).runs == Statistics(0, 2.95e6, first=2)


def test_errors_are_kept() -> None:
    run = log(FORMS["2024"], RUNS)
    for prefix in ("ERROR: ", "E/tflite  (12): ", LOGCAT.replace(" I ", " E ")):
        line = f"{prefix}gather index out of bounds\n"
        begin, rest = run[: len("INFO: STARTING!\n")], run[len("INFO: STARTING!\n") :]
        for text in (f"{line}{run}", f"{begin}{line}{rest}", f"{run}{line}"):
            assert one(text).errors == ("gather index out of bounds",), prefix
        first, second = parse(f"{run}{line}{run}")
        assert (len(first.errors), second.errors) == (1, ())


def test_noise_is_told() -> None:
    found = one(log(FORMS["2025"], [1000, 3000] * 20))
    assert "noisy: the deviation is 50 % of the mean" in found.limits


VALUES = st.lists(st.integers(1, 10**7), min_size=2, max_size=60)
WORDS = st.from_regex(
    r"[A-Z][A-Za-z_0-9]{0,9}( \([A-Z]{2,4}, [A-Z0-9]{3}\))?( [A-Z]{4})?", fullmatch=True
)
ROWS = st.lists(
    st.tuples(WORDS, WORDS.map(lambda word: f"Delegate/{word}:7"), st.integers(1, 10**6)),
    max_size=6,
).map(lambda rows: [(kind, name, us / 1000) for kind, name, us in rows])


@given(st.sampled_from(sorted(FORMS)), VALUES, VALUES, ROWS)
def test_what_is_written_is_read(
    name: str, runs: list[int], warm_up: list[int], rows: list[benchmark_logs.Row]
) -> None:
    form = FORMS[name]
    found = one(log(form, runs, warm_up, rows))
    assert found.runs.count == len(runs)
    assert (found.runs.min, found.runs.max) == (min(runs), max(runs))
    assert found.runs.avg == pytest.approx(benchmark_logs.mean(runs), rel=1e-5)
    assert found.warm_up is not None
    assert found.warm_up.max == max(warm_up)
    assert [(row.type, row.name) for row in found.operators] == [row[:2] for row in rows]
    for row, (_, _, ms) in zip(found.operators, rows, strict=True):
        assert row.avg_ms == pytest.approx(ms, rel=1e-5)


@given(st.text(max_size=400))
def test_anything_else_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(LogError, match=r"\A[^\n]+\Z"):
        parse(text)


# ------------------------------------------------------------------------------ litert-benchmark

RESULT = {
    "model": "/home/user/net.tflite",
    "num_threads": 4,
    "latency": {
        "init_ms": 12.5,
        "warmup_first_ms": 5.0,
        "avg_ms": 3.81,
        "min_ms": 3.7,
        "max_ms": 3.9,
        "median_ms": 3.8,
        "std_ms": 0.04,
        "p5_ms": 3.71,
        "p95_ms": 3.88,
        "num_runs": 50,
    },
}
PRINTED = """
========================================
 BENCHMARK RESULTS
========================================
Model initialization:  12.50 ms
Warmup (first):        5.00 ms
Warmup (avg):          4.10 ms (5 runs)
Inference (avg):       3.81 ms (50 runs)
Inference (min):       3.70 ms
Inference (max):       3.90 ms
Inference (median):    3.80 ms
Inference (std):       0.04 ms
Inference (p5):        3.71 ms
Inference (p95):       3.88 ms
Fully accelerated:     False
"""


@pytest.mark.parametrize("text", [json.dumps(RESULT), json.dumps([RESULT]), PRINTED])
def test_litert_benchmark(text: str) -> None:
    found = one(text)
    assert found.tool == "litert-benchmark"
    assert found.runs.count == 50
    assert found.runs.avg == pytest.approx(3810)
    assert found.centre_us == pytest.approx(3800)
    assert found.init_us == pytest.approx(12500)
    assert found.sparse_kernels is None


@pytest.mark.parametrize("text", ["{}", "[1]", '{"latency": {"avg_ms": "3"}}', "[]", "nothing", ""])
def test_what_is_no_log(text: str) -> None:
    with pytest.raises(LogError) as caught:
        assert parse(text), "an empty list of results is no result"
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------- two models


def test_two_logs_have_no_interval() -> None:
    slow, fast = (one(log(FORMS["2025"], [us] * 9 + [us + 1])) for us in (4000, 2000))
    found = compared([slow], [fast])
    assert found.value == pytest.approx(2.0)
    assert (found.low, found.high) == (0.0, math.inf)
    assert "no interval: that takes 3 logs of each" in found.limit


def test_three_logs_of_each_have_one() -> None:
    slow = [one(log(FORMS["2025"], [us] * 9 + [us + 1])) for us in (3900, 4000, 4100)]
    fast = [one(log(FORMS["2025"], [us] * 9 + [us + 1])) for us in (1950, 2000, 2050)]
    found = compared(slow, fast)
    assert found.low < 2.0 < found.high
    assert found.high / found.low < 1.2
    assert "did not run side by side" in found.limit


def test_welchs_interval_covers_the_truth() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        sides = [
            [Log(Statistics(50, median=float(us))) for us in np.exp(rng.normal(c, s, 4))]
            for c, s in ((8.0, 0.02), (7.5, 0.1))
        ]
        found = compared(sides[0], sides[1])
        covered += found.low <= math.exp(0.5) <= found.high
    assert 0.92 <= covered / 400 <= 0.99


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for name, us, row in (("dense", 4000, DENSE), ("sparse", 2000, SPARSE)):
        file = tmp_path / f"{name}.txt"
        text = log(FORMS["2025"], [us] * 20 + [us + 1], rows=[row], model=f"{name}.tflite")
        file.write_text(text)
        files.append(str(file))
    assert main(["read", *files]) == 0
    said = capsys.readouterr().out
    assert "dense.tflite / sparse.tflite: 2; no interval" in said
    assert [line.split()[-1] for line in said.splitlines()[1:4] if ".txt " in line] == [
        "dense",
        "sparse",
    ]
    assert main(["read", "--json", *files]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["sparse_kernels"] for each in told["logs"]] == [False, True]
    assert told["ratio"]["value"] == pytest.approx(2.0)
    assert told["ratio"]["high"] is None


def test_the_command_says_what_is_no_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "no.txt"
    file.write_text("nothing")
    assert main(["read", str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["read", str(tmp_path / "nowhere")]) == 2
    with pytest.raises(LogError, match=r"no\.txt: no run"):
        read(file)
