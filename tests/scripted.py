"""A `conftest.py` for projects under test: targets whose workers answer what a script says.

`script.json` beside it says how long one inference of a file takes in each process, which targets
lack something, and what a diagnosis finds. Everything above the workers is the real thing.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import pytest_sparsity.diagnosis
from pytest_sparsity import turns
from pytest_sparsity.diagnosis import Diagnosis
from pytest_sparsity.errors import TargetError, Unsupported, WrongOutputs
from pytest_sparsity.findings import Finding
from pytest_sparsity.model import Model
from pytest_sparsity.targets import Blocks, Signature, Target, TensorSpec

if TYPE_CHECKING:
    from typing_extensions import Self

patches = pytest.MonkeyPatch()


class ScriptedWorker:
    """Answers from the script instead of a child process."""

    def __init__(self, target: Target, script: dict[str, Any], process: int) -> None:
        self.hello = {
            "protocol": 2,
            "runtime": target.runtime,
            "version": script.get("version", "2.3.0"),
            "engine": script.get("engine", "CPython 3.11"),
            "cpu": "scripted",
            "clock": "instructions" if target.unit == "instructions" else "cpu",
        }
        self.conditions: list[dict[str, Any]] = []
        self._script = script
        self._begun = time.monotonic()
        self._unit = target.unit
        self._process = process
        self._names: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        time.sleep(self._script.get("pause", 0))
        if "root" in self._script:
            with (Path(self._script["root"]) / "processes.txt").open("a") as file:
                file.write(f"{os.getpid()} {self._begun} {time.monotonic()}\n")

    def load(self, key: str, path: str | Path | Model, **_: object) -> Signature:
        self._names[key] = Model.of(path).path.name
        if self._names[key] in self._script.get("crashes", ()):
            raise TargetError(f"litert crashed when loading {self._names[key]}: SIGSEGV")
        spec = (TensorSpec("x", (2,), "float32"),)
        return Signature(spec, spec)

    def set_inputs(self, key: str, arrays: Sequence[Any]) -> None:
        pass

    def outputs(self, _key: str) -> tuple[Any, ...]:
        return (np.array([1.0, 2.0], np.float32),)

    def unload(self, key: str) -> None:
        del self._names[key]

    block_ns = 0

    def run(self, blocks: Sequence[tuple[str, int]], **_: object) -> Blocks:
        exact = tuple(round(self._cost(key) * n * 1e9) for key, n in blocks)
        # Odd numbers of ns, or the race would take the clock for a coarse one.
        times = tuple(time + number % 3 for number, time in enumerate(exact))
        counts = exact if self._unit == "instructions" else None
        return Blocks(times, times, (0,) * len(times), counts)

    def _cost(self, key: str) -> float:
        costs: list[float] = self._script["seconds"][self._names[key]]
        # A model that is raced against itself is in the same file under both names.
        control = len({self._names[name] for name in self._names}) == 1
        drift = self._script.get("control", 1.0) if control and key.startswith("dense") else 1.0
        return costs[self._process % len(costs)] * drift


def pytest_configure(config: pytest.Config) -> None:
    numbers = itertools.count()

    def script() -> dict[str, Any]:
        said: dict[str, Any] = json.loads((config.rootpath / "script.json").read_text())
        return {**said, "root": str(config.rootpath)}

    def open_(target: Target, **_: object) -> ScriptedWorker:
        lacking(target)
        return ScriptedWorker(target, script(), next(numbers))

    def lacking(target: Target) -> None:
        found = target.missing()
        if found is not None:
            raise found

    def diagnose(model: Any, target: Any = "litert", **_: object) -> Diagnosis:
        lacking(Target.of(target))
        return scripted_diagnosis(Model.of(model), Target.of(target), script())

    def check_outputs(model: Model, target: Target, **_: object) -> None:
        if model.path.name in script().get("wrong", ()):
            raise WrongOutputs(f"{model.path.name} computes wrong outputs on {target}")

    # Real races on this machine are not what these wait for.
    patches.setattr(turns, "place", lambda: config.rootpath / "turns.lock")
    patches.setattr(Target, "open", open_)
    patches.setattr(Target, "missing", lambda target: missing(script(), target))
    patches.setattr(Target, "cannot_count", lambda _: None)
    patches.setattr(Target, "version", lambda _: "2.3.0")
    patches.setattr(pytest_sparsity.diagnosis, "diagnose", diagnose)
    patches.setattr(pytest_sparsity.diagnosis, "check_outputs", check_outputs)


def scripted_diagnosis(model: Model, target: Target, script: dict[str, Any]) -> Diagnosis:
    said = script.get("diagnosis", {})
    findings = tuple(Finding(**finding) for finding in said.get("findings", ()))
    kernels = (said.get("kernel", "sparse"),) * len(model.layers)
    return Diagnosis(
        model,
        target,
        said.get("verdict", "sparse"),
        "observed",
        kernels,
        findings,
        said.get("outputs_match", True),
        0.0,
    )


def missing(script: dict[str, Any], target: Target) -> Unsupported | None:
    said = script.get("missing", {}).get(target.name)
    return Unsupported(*said).on(target.name) if said else None


def pytest_unconfigure() -> None:
    patches.undo()
