"""Repaired files: which of several is written, and what is said of what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus import CASES
from pytest_sparsity import repairing
from pytest_sparsity.errors import Inconclusive, Unsupported, WrongOutputs
from pytest_sparsity.model import Model
from pytest_sparsity.repairing import repair
from pytest_sparsity.targets import Target

CORPUS = {case.name: case for case in CASES}


class Ratio:
    """A race's answer to whether it is more than one."""

    def __init__(self, answer: bool | None) -> None:
        self.answer = answer

    def __gt__(self, threshold: float) -> bool:
        assert threshold == 1
        if self.answer is None:
            raise Inconclusive("inconclusive")
        return self.answer

    def __str__(self) -> str:
        return "1.7"


class Raced:
    def __init__(self, answer: bool | None) -> None:
        self.ratio = Ratio(answer)


Races = list[tuple[Model, Model]]


@pytest.fixture
def races(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace the race by one that ends as it is told to."""
    seen: Races = []

    def end(answer: bool | Exception | None) -> Races:
        def race(before: Model, after: Model, **_: Any) -> Any:
            seen.append((before, after))
            if isinstance(answer, Exception):
                raise answer
            return Raced(answer)

        monkeypatch.setattr(repairing, "run_race", race)
        return seen

    return end


def written(name: str, folder: Path) -> Model:
    return Model(CORPUS[name].write(folder))


def test_a_faster_file_is_kept(races: Any, tmp_path: Path) -> None:
    seen = races(True)
    model = written("entry same padding", tmp_path)
    done = repair(model, tmp_path / "out.tflite")
    assert [each[0] for each in seen] == [model]
    assert (done.kept, done.model.path) == ("repaired", tmp_path / "out.tflite")
    assert done.reason == "in a race the repaired file was 1.7 times as fast"
    assert done.repair.after.verdict == "sparse"
    assert done.repair.model is done.model
    assert done.left == ()


@pytest.mark.parametrize("answer", [False, None], ids=["slower", "inconclusive"])
def test_the_original_is_kept_unless_a_race_shows_a_gain(
    answer: bool | None, races: Any, tmp_path: Path
) -> None:
    races(answer)
    model = written("entry same padding", tmp_path)
    done = repair(model, tmp_path / "out.tflite", budget=7)
    assert done.kept == "original"
    assert bytes(done.model.data) == bytes(model.data)
    assert done.race is not None
    if answer is None:
        assert done.reason == "7 s of racing do not show that the repaired file is faster"


def test_no_race_keeps_what_the_rules_say(races: Any, tmp_path: Path) -> None:
    seen = races(False)
    done = repair(written("entry same padding", tmp_path), tmp_path / "out.tflite", race=False)
    assert (seen, done.kept, done.race) == ([], "repaired", None)
    assert done.reason == "no race was run"


def test_a_wrong_file_is_raced_as_it_would_be_right(races: Any, tmp_path: Path) -> None:
    seen = races(False)
    model = written("prelu", tmp_path)
    done = repair(model, tmp_path / "out.tflite")
    assert done.repair.before.verdict == "miscomputes"
    assert not seen[0][0].encoded
    assert done.kept == "densified"
    assert not done.model.encoded
    races(True)
    assert repair(model, tmp_path / "out.tflite").kept == "repaired"


def test_what_no_rewrite_repairs_is_stored_densely_and_says_why(races: Any, tmp_path: Path) -> None:
    seen = races(True)
    done = repair(written("max pool", tmp_path), tmp_path / "out.tflite")
    assert (seen, done.kept) == ([], "densified")
    assert "wrong-layout" in {finding.code for finding in done.left}
    assert "max-pooling" in " ".join(finding.message for finding in done.left)


def test_what_is_left_is_not_to_be_repaired_again(races: Any, tmp_path: Path) -> None:
    races(True)
    model = written("entry valid", tmp_path)
    done = repair(model, tmp_path / "out.tflite")
    assert done.kept == "original"
    assert done.reason == "no rewrite lets more of it run sparse"
    assert [finding.code for finding in done.left] == ["entry"]
    assert not any("pytest-sparsity repair" in finding.remedy for finding in done.left)


def test_answers_that_are_wrong_after_all_keep_the_original(races: Any, tmp_path: Path) -> None:
    races(WrongOutputs("wrong by 0.3"))
    done = repair(written("entry same padding", tmp_path), tmp_path / "out.tflite")
    assert (done.kept, done.race) == ("original", None)
    assert done.reason.endswith("they are not: wrong by 0.3")


def test_a_target_that_is_not_here_names_the_way_without_it(races: Any, tmp_path: Path) -> None:
    races(Unsupported("no Node", "install it", "litert-js"))
    with pytest.raises(Unsupported, match=r"no Node: install it; or pass race=False \(--no-race"):
        repair(written("entry same padding", tmp_path), tmp_path / "out.tflite")
    assert not (tmp_path / "out.tflite").exists()


def test_a_file_may_be_replaced_by_itself(races: Any, tmp_path: Path) -> None:
    races(True)
    model = written("subtract block", tmp_path)
    done = repair(model, model.path)
    assert done.kept == "repaired"
    assert [o.op for o in Model(model.path).graph.operators].count("SUB") == 0


def test_instructions_are_no_time(races: Any, tmp_path: Path) -> None:
    races(True)
    done = repair(written("prelu", tmp_path), tmp_path / "o.tflite", target="litert@cortex-a53")
    assert done.reason.endswith("1.7 times fewer instructions")


def test_a_real_race_decides(tmp_path: Path) -> None:
    """Repair gains a lot here: most of the work is in 1x1 layers with 90 % zeros."""
    missing = Target.of("litert-js").missing()
    if missing is not None:
        pytest.skip(str(missing))
    from pytest_sparsity.writer import Network

    rng = np.random.default_rng(0)
    net = Network((1, 64, 64, 3))
    entry = rng.standard_normal((32, 3, 3, 3), np.float32) / 5
    x = net.conv2d(net.input, entry, stride=2, padding="SAME", activation="RELU")
    for width in (256, 256, 256):
        kernel = rng.standard_normal((width, 1, 1, x.shape[3]), np.float32)
        kernel = kernel / np.float32(np.sqrt(x.shape[3] / 10))
        kernel[np.abs(kernel) < np.quantile(np.abs(kernel), 0.9)] = 0
        x = net.conv2d(x, kernel, encoding="sparse", activation="RELU")
    net.output(net.mean(x))
    model = Model(net.write(tmp_path / "model.tflite"))
    done = repair(model, tmp_path / "out.tflite", budget=30)
    assert done.kept == "repaired"
    assert done.race is not None
    assert done.race.ratio.value > 1
