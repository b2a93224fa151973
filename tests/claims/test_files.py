"""Files in, files out: what encode, densify, shrink and repair bring on networks that people have.

The thresholds hold on every CPU: what is raced on litert-js is the same WebAssembly everywhere, and
they are far below what was seen.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from claims.published import published
from pytest_sparsity import Model, Variants, diagnose, race
from pytest_sparsity.errors import Unsupported
from pytest_sparsity.inference import outputs
from pytest_sparsity.properties import decodes_to_the_same
from pytest_sparsity.repairing import repair
from pytest_sparsity.targets import Target
from pytest_sparsity.transform import dead_channels, densify, encode, prune, shrink
from pytest_sparsity.transform.rewrites import Outlook, outlook
from pytest_sparsity.variants import build_variants
from pytest_sparsity.variants.converter import Converter

DATA = Path(__file__).resolve().parents[1] / "data"
BROWSER = Target.of("litert-js")


def runs(target: str) -> None:
    missing = Target.of(target).missing()
    if missing is not None:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


# ------------------------------------------------------------------------ Keras' own networks


@dataclass(frozen=True)
class Application:
    """A network of Keras' own, and what must come of it.

    Attributes:
        name: in `keras.applications`.
        sparse: least share of the pruned layers that run sparse after the repair.
        speedup: on LiteRT.js.
        instructions: dense / sparse, on a Cortex-A53.
    """

    name: str
    sparse: float
    speedup: float
    instructions: float

    def __str__(self) -> str:
        return self.name

    def build(self) -> str:
        """Export it, so that it is pruned in its file."""
        import tempfile

        import keras

        from pytest_sparsity.variants import keras3

        image = keras.Input((224, 224, 3), batch_size=1)
        options: dict[str, Any] = {"weights": None, "classifier_activation": None}
        model = getattr(keras.applications, self.name)(input_tensor=image, **options)
        folder = tempfile.mkdtemp()
        keras3.export(model, Path(folder))
        return folder


APPLICATIONS = (
    Application("MobileNet", 0.8, 1.5, 2.0),
    Application("MobileNetV2", 0.8, 1.5, 2.0),
    Application("MobileNetV3Small", 0.8, 1.1, 1.2),
    Application("EfficientNetB0", 0.8, 1.1, 1.2),
)


def application(each: Application) -> Variants:
    """Pruned at 80 % in the file, stored sparsely by us, repaired by the rules."""
    pytest.importorskip("keras", minversion="3")
    key = f"{each.name} in 224x224"
    return build_variants(each.build, sparsity=0.8, encoder="own", repair=True, key=key)


def share(outlook: Outlook) -> float:
    return outlook.sparse / outlook.prunable


@pytest.mark.slow
@pytest.mark.parametrize("each", APPLICATIONS, ids=str)
def test_most_of_keras_own_networks_runs_sparse(
    each: Application, folder: Path, record_property: Callable[[str, object], None]
) -> None:
    files = application(each)
    encoded = encode(files.pruned, folder / f"{each.name}.tflite")
    before, after = outlook(encoded, BROWSER), outlook(files.sparse, BROWSER)
    record_property("sparse", f"{before} -> {after}")
    assert share(before) == 0
    assert after.verdict == "sparse"
    assert share(after) >= each.sparse
    assert files.sparse.nbytes < 0.6 * files.dense.nbytes
    left = repair(encoded, folder / f"{each.name}-r.tflite", race=False).left
    assert bool(left) == (after.sparse < after.prunable), "each layer that stays has a reason"


@pytest.mark.slow
@pytest.mark.parametrize("each", APPLICATIONS, ids=str)
def test_keras_own_networks_are_faster_in_the_browser(each: Application) -> None:
    runs("litert-js")
    files = application(each)
    result = race(files.dense, files.sparse, target="litert-js", budget=60, controls={})
    assert result.speedup >= each.speedup


@pytest.mark.slow
@pytest.mark.parametrize("each", APPLICATIONS, ids=str)
def test_keras_own_networks_take_fewer_instructions(each: Application) -> None:
    runs("litert@cortex-a53")
    files = application(each)
    result = race(files.dense, files.sparse, target="litert@cortex-a53")
    assert result.instruction_ratio >= each.instructions


# ---------------------------------------------------------------------- from module to verdict


def of_keras_3() -> Any:
    import keras

    layers = keras.layers
    image = keras.Input((64, 64, 3), batch_size=1)
    x = layers.Conv2D(32, 3, strides=2, activation="relu")(layers.ZeroPadding2D(1)(image))
    for width in (128, 128, 256):
        x = layers.Conv2D(width, 1, activation="relu")(x)
    return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.slow
def test_a_network_of_keras_3_is_faster_in_the_browser(folder: Path) -> None:
    pytest.importorskip("keras", minversion="3")
    runs("litert-js")
    files = build_variants(of_keras_3, sparsity=0.9, cache=folder)
    result = race(files.dense, files.sparse, target="litert-js", budget=60, controls={})
    assert result.speedup >= 1.5


def of_torch() -> Any:
    """Pruned with PyTorch's own tools; its average leaves a TRANSPOSE, which ends no chain."""
    torch: Any = importlib.import_module("torch")
    torch_prune: Any = importlib.import_module("torch.nn.utils.prune")
    nn = torch.nn

    class Net(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            layers: list[Any] = [nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU6()]
            width = 32
            for out, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
                layers += [nn.Conv2d(width, width, 3, stride, 1, groups=width), nn.ReLU6()]
                layers += [nn.Conv2d(width, out, 1), nn.ReLU6()]
                width = out
            self.features = nn.Sequential(*layers)
            self.head = nn.Linear(width, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.features(x).mean((2, 3)))

    torch.manual_seed(0)
    net = Net().eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            torch_prune.l1_unstructured(module, "weight", amount=0.9)
            torch_prune.remove(module, "weight")
    return net, (torch.rand(1, 3, 128, 128),)


@pytest.mark.slow
def test_a_module_of_pytorch_is_faster_in_the_browser(folder: Path) -> None:
    runs("litert-js")
    pytest.importorskip("torch")
    try:
        files = build_variants(of_torch, sparsity=0.5, repair=True, key="torch", cache=folder)
    except Unsupported as missing:
        pytest.skip(str(missing))
    pointwise = [x for x in files.dense.layers if x.shape[1:3] == (1, 1)]
    assert min(x.sparsity for x in pointwise) == pytest.approx(0.9, abs=0.01)
    assert files.pruned.sparsity == files.dense.sparsity, "its own zeros are enough"
    assert "TRANSPOSE" not in [o.op for o in files.sparse.graph.operators][-3:]
    result = race(files.dense, files.sparse, target="litert-js", budget=60, controls={})
    assert result.speedup >= 1.5


# ---------------------------------------------------------------------------- files of MediaPipe


def same_outputs(one: Model, other: Model, seeds: int = 2) -> None:
    shape = one.graph.tensors[one.graph.inputs[0]].shape
    for seed in range(seeds):
        given = np.random.default_rng(seed).random(shape, np.float32)
        for a, b in zip(outputs(one, given), outputs(other, given), strict=True):
            assert np.array_equal(a, b)


@pytest.fixture(scope="module")
def hand(folder: Path) -> tuple[Model, Model]:
    """MediaPipe's hand landmarks, and what shrink leaves of them."""
    model = Model(published("hand_landmark_full.tflite"))
    shrunk = shrink(model, folder / "hand.tflite")
    assert shrunk.channels == sum(x.before - x.after for x in dead_channels(model)) == 2128
    return model, shrunk.model


@pytest.mark.slow
def test_hand_landmarks_lose_their_dead_channels(hand: tuple[Model, Model]) -> None:
    runs("litert")
    model, shrunk = hand
    assert (model.nbytes, dead_channels(shrunk)) == (5_478_917, ())
    assert shrunk.nbytes < 0.71 * model.nbytes
    same_outputs(model, shrunk)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["litert", "litert-js"])
def test_hand_landmarks_are_not_slower_without_them(hand: tuple[Model, Model], target: str) -> None:
    runs(target)
    assert race(*hand, target=target, budget=60, controls={}).speedup >= 0.98


@pytest.mark.slow
def test_a_sparse_detector_computes_the_same_without_densify(folder: Path) -> None:
    runs("litert")
    model = Model(published("face_detection_full_range_sparse.tflite"))
    assert "DENSIFY" in {o.op for o in model.graph.operators}
    dense = densify(model, folder / "detector.tflite")
    assert "DENSIFY" not in {o.op for o in dense.graph.operators}
    assert not dense.encoded
    same_outputs(model, dense)


# ------------------------------------------------------------------ encode against the converter

ZOO = ("cnn_dense", "cnn_float16_dense", "cnn_int8_dense", "mlp_dense", "gru_dense")
WILD = (
    "hand_landmark_lite",
    "palm_detection_lite",
    "face_landmark",
    "selfie_segmentation",
    "face_detection_short_range",
)


@pytest.fixture(scope="module")
def converter() -> Iterator[Converter]:
    pytest.importorskip("tensorflow")
    with closing(Converter()) as started:
        yield started


def source(name: str) -> Path:
    return DATA / f"{name}.tflite" if name in ZOO else published(f"{name}.tflite")


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["unstructured", "1x4", "1x16"])
@pytest.mark.parametrize("name", [*ZOO, *WILD])
def test_encode_is_never_larger_than_the_converter_s(
    name: str, pattern: str, converter: Converter, folder: Path
) -> None:
    model = Model(source(name))
    for sparsity in (0.5, 0.8, 0.95):
        stem = f"{name}-{pattern}-{sparsity}"
        pruned = pruned_or_skipped(model, folder / f"{stem}.tflite", sparsity, pattern)
        ours = encode(pruned, folder / f"{stem}-ours.tflite")
        theirs = folder / f"{stem}-theirs.tflite"
        converter.sparsify(pruned.path, theirs)
        if _is_right(pruned, Model(theirs)):
            assert ours.nbytes - len(ours.flatbuffer().tail) <= Model(theirs).nbytes
        decodes_to_the_same(pruned, ours)
        _assert_right(pruned, ours)


def pruned_or_skipped(model: Model, path: Path, sparsity: float, pattern: str) -> Model:
    try:
        return prune(model, path, sparsity=sparsity, pattern=pattern, layers="all")
    except ValueError as error:
        if "no layer to prune so" not in str(error):
            raise
        pytest.skip(f"{model.path.name} has no layer for {pattern}")


def _is_right(pruned: Model, theirs: Model) -> bool:
    """The converter drops columns of narrow layers, and float16 blocks have no DENSIFY."""
    try:
        decodes_to_the_same(pruned, theirs)
    except AssertionError:
        return False
    codes = {finding.code for finding in diagnose(theirs, "litert", observe=False).findings}
    return not codes & {"fp16-blocks", "dropped-columns"}


def _assert_right(pruned: Model, encoded: Model) -> None:
    """On every target by the rules; on LiteRT the same numbers as stored densely."""
    for target in ("litert", "litert-js", "litert@cortex-a53"):
        before, after = (outlook(model, Target.of(target)) for model in (pruned, encoded))
        assert before.verdict == "fails" or after.verdict != "fails", target
    given = _drawn(pruned)
    for a, b in zip(outputs(pruned, given), outputs(encoded, given), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4 * max(float(np.abs(a).max()), 1e-6))


def _drawn(model: Model) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    found = {}
    for index in model.graph.inputs:
        tensor = model.graph.tensors[index]
        values = (
            rng.random(tensor.shape)
            if tensor.dtype == "float32"
            else rng.integers(-100, 100, tensor.shape)
        )
        found[tensor.name] = values.astype(tensor.dtype)
    return found
