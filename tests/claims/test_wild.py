"""The diagnosis of other people's networks, on every target, against plain code.

Each file's outputs on a target are held against those of TFLite's reference kernels for the same
weights stored densely, by a norm and a number of steps rather than by our comparison; and the
diagnosis against what is known of the file. No file may be accused of what it does not do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from claims import wild
from pytest_sparsity.diagnosis import Diagnosis, Observer, diagnose
from pytest_sparsity.errors import Unsupported
from pytest_sparsity.inputs import feed
from pytest_sparsity.machine import this_machine
from pytest_sparsity.model import Model
from pytest_sparsity.targets import LoadError, Target, Worker
from pytest_sparsity.transform import densify, replace_weights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NATIVE = ("litert", "tflite-runtime", "tensorflow")
HERE = (*NATIVE, "litert-js")
EMULATED = "litert@cortex-a53"
# Bytes from which a file is left out on an emulated CPU, where one inference takes seconds.
SMALL = 700_000
SHAPES = {"melspectrogram": (1, 16000)}
SPARSE = ("face_detection_full_range_sparse", "pose_detection")
# Operators of MediaPipe's own, which its build of the runtime has; XNNPACK knows some of them.
BROKEN = "face_landmark_with_attention"
OF_XNNPACK = ("selfie_segmentation", "selfie_segmentation_landscape")
# Outputs that depend on the first invocation's memory: LiteRT.js 2.5.3 refuses the second one.
ONCE = "nmp"
ACCUSING = {
    *("rules-disagree", "probe-disagrees", "outputs-differ", "constant-output", "needs-inputs"),
    *("crashes", "does-not-load", "wrong-layout", "not-stripped", "computed-weights"),
}
# Share of an output's norm about its mean. Wrong outputs of sparse kernels begin at 0.01.
APART = 1e-3
# Of eight bits. Kernels round each of some thirty layers in ways of their own.
STEPS = 0.1

CASES = [
    pytest.param(package, name, target, id=f"{package.name}-{name}-{target}")
    for target in (*HERE, EMULATED)
    for package, name in wild.NETWORKS
]


class Targets:
    """One observer and one worker per target, and the reference outputs of each file."""

    def __init__(self) -> None:
        self.observers: dict[str, Observer] = {}
        self.reference: dict[Path, list[Any] | None] = {}

    def observer(self, name: str) -> Observer:
        missing = Target.of(name).missing()
        if missing is not None:
            pytest.skip(str(missing))
        return self.observers.setdefault(name, Observer(Target.of(name)))

    def expected(self, model: Model, shapes: Any, folder: Path) -> list[Any] | None:
        """What TFLite's reference kernels give; None where they lack an operator."""
        if model.path not in self.reference:
            copy = densify(model, folder / "copy.tflite")
            self.reference[model.path] = None
            with Target.of("litert").open() as worker:
                try:
                    found = plain_outputs(worker, copy, shapes, "reference")
                except (LoadError, Unsupported):
                    return None
            self.reference[model.path] = found
        return self.reference[model.path]

    def close(self) -> None:
        for observer in self.observers.values():
            observer.close()


@pytest.fixture(scope="module")
def targets() -> Iterator[Targets]:
    with closing(Targets()) as opened:
        yield opened


def plain_outputs(worker: Worker, model: Model, shapes: Any, kernels: str = "default") -> list[Any]:
    """The outputs for one drawn set of inputs."""
    fed = feed(model, shapes=shapes)
    worker.load("wild", model, kernels=kernels, shapes=fed.shapes)
    worker.set_inputs("wild", fed.arrays(0))
    found = list(worker.outputs("wild"))
    worker.unload("wild")
    return found


def apart(ours: Any, theirs: Any, *, quantized: bool) -> float:
    """How far two outputs are apart, in units of what is allowed."""
    a, b = ours.astype(float).ravel(), theirs.astype(float).ravel()
    if quantized:
        spread = max(float(np.ptp(b)), 255.0 if theirs.dtype.kind in "iu" else 0.0)
        return float(np.abs(a - b).max()) / (STEPS * spread) if spread else 0.0
    about = float(np.linalg.norm(b - b.mean())) or float(np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / (APART * about) if about else float(np.abs(a).max())


def breaks(name: str, target: str) -> bool:
    """Whether a target lacks what a file needs."""
    return (
        name == BROKEN
        or (name in OF_XNNPACK and target.startswith("tflite-runtime"))
        or (name == ONCE and target == "litert-js")
    )


def runs_sparse(name: str, target: Target) -> bool:
    """Whether sparse kernels are to run; x86 with AVX has none."""
    avx = "avx" in this_machine().features and target.name in NATIVE
    return name in SPARSE and not avx and target.record.name != "tflite-runtime"


@pytest.mark.parametrize(("package", "name", "target"), CASES)
def test_wild(
    package: wild.Package,
    name: str,
    target: str,
    targets: Targets,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    model = Model(wild.path(package, name))
    if target == EMULATED and model.nbytes > SMALL:
        pytest.skip("emulation would take minutes")
    observer, shapes, start = targets.observer(target), SHAPES.get(name), time.monotonic()
    if name in SHAPES and target == "litert-js":
        with pytest.raises(Unsupported, match="cannot size the output"):
            diagnose(model, target, observer=observer, shapes=shapes)
        return
    diagnosis = diagnose(model, target, observer=observer, shapes=shapes)
    record_property("wild", [diagnosis.verdict, round(time.monotonic() - start, 1)])
    if breaks(name, target):
        check_broken(diagnosis)
        return
    codes = {finding.code for finding in diagnosis.findings}
    assert not codes & ACCUSING
    assert diagnosis.verdict == ("sparse" if runs_sparse(name, observer.target) else "dense")
    assert diagnosis.evidence == "observed"
    assert diagnosis.outputs_match is (None if "not-compared" in codes else True)
    if model.encoded:
        assert diagnosis.outputs_match
    check_outputs(model, targets, observer, shapes, tmp_path)


def check_broken(diagnosis: Diagnosis) -> None:
    assert diagnosis.verdict == "fails"
    assert diagnosis.outputs_match is False
    assert diagnosis.findings[0].code in {"does-not-load", "crashes"}


def check_outputs(
    model: Model, targets: Targets, observer: Observer, shapes: Any, folder: Path
) -> None:
    """Hold the outputs against the reference kernels', or against the densely stored copy's."""
    expected = targets.expected(model, shapes, folder)
    if expected is None:
        return
    ours = plain_outputs(observer.worker, model, shapes)
    quantized = any(tensor.quantized for tensor in model.graph.tensors)
    assert len(ours) == len(expected)
    for a, b in zip(ours, expected, strict=True):
        assert (a.size, a.dtype) == (b.size, b.dtype)
        assert apart(a, b, quantized=quantized) <= 1


def test_forty_files_at_least() -> None:
    assert len(wild.NETWORKS) == len(set(wild.NETWORKS)) >= 40


@pytest.mark.parametrize("name", ["pose_detection", "face_landmark"])
def test_the_independent_check_sees_what_is_wrong(
    name: str, targets: Targets, tmp_path: Path
) -> None:
    """The largest layer's weights, two hundredths larger."""
    package = next(p for p in wild.PACKAGES if p.name == "mediapipe")
    model = Model(wild.path(package, name))
    observer = targets.observer("litert")
    layer = max(model.layers, key=lambda layer: layer.parameters)
    copy = densify(model, tmp_path / "dense.tflite")
    tensor = copy.layers[layer.index].tensor
    weights = (1.02 * copy.weights(tensor)).astype(copy.weights(tensor).dtype)
    wrong = replace_weights(copy, {tensor: weights}, tmp_path / "wrong.tflite")
    expected = targets.expected(model, None, tmp_path)
    assert expected is not None
    ours = plain_outputs(observer.worker, wrong, None)
    assert max(apart(a, b, quantized=False) for a, b in zip(ours, expected, strict=True)) > 1
