"""Models without channels that nobody needs: the same outputs by fewer numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_sparsity.encoding import encode
from pytest_sparsity.model import Model
from pytest_sparsity.targets import Target
from pytest_sparsity.transform.narrowing import Narrowed, dead_channels, shrink
from pytest_sparsity.writer import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from pytest_sparsity.targets import Worker
    from pytest_sparsity.writer import DType, Encoding, Operand

    Array = NDArray[Any]


@pytest.fixture(scope="module")
def reference() -> Iterator[Worker]:
    pytest.importorskip("ai_edge_litert")
    with Target.of("litert").open() as worker:
        yield worker


def weights(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def ignoring(values: Array, *channels: int) -> Array:
    """Weights that read nothing of some inputs."""
    values[..., list(channels)] = 0
    return values


def network(
    middle: Callable[[Network, Operand], Operand],
    folder: Path,
    dead: tuple[int, ...] = (1, 5, 6),
    encoding: Encoding = "dense",
    dtype: DType = "float32",
) -> Model:
    """A convolution to 8 channels, the middle, and one that ignores some of them."""
    net = Network((1, 8, 8, 3))
    x = net.conv2d(net.input, weights(8, 3, 3, 3), weights(8), activation="RELU", dtype=dtype)
    x = middle(net, x)
    last = ignoring(weights(8, 1, 1, x.shape[3], seed=1), *dead)
    net.output(net.mean(net.conv2d(x, last, encoding=encoding, dtype=dtype)))
    return Model(net.write(folder / "model.tflite"))


def outputs(worker: Worker, model: Model, kernels: str = "reference") -> list[Array]:
    signature = worker.load("model", model, kernels=kernels)
    found: list[Array] = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        inputs = []
        for spec in signature.inputs:
            drawn = rng.normal(size=spec.shape)
            scaled = drawn if np.dtype(spec.dtype).kind == "f" else 40 * drawn
            inputs.append(scaled.astype(spec.dtype))
        worker.set_inputs("model", inputs)
        found += worker.outputs("model")
    return found


def assert_same(worker: Worker, one: Model, other: Model) -> None:
    """To the bit: the terms that are left out of the sums are products with zero."""
    for a, b in zip(outputs(worker, one), outputs(worker, other), strict=True):
        assert a.shape == b.shape
        assert np.array_equal(a, b)


def widths(model: Model) -> list[int]:
    return [layer.shape[0] for layer in model.layers if layer.op == "CONV_2D"]


MIDDLES: dict[str, Callable[[Network, Operand], Operand]] = {
    "directly": lambda _, x: x,
    "depthwise": lambda net, x: net.depthwise(x, weights(1, 3, 3, 8, seed=2), weights(8, seed=3)),
    "activation": lambda net, x: net.unary(x, "HARD_SWISH"),
    "pool": lambda net, x: net.max_pool(x, 2),
    "pad": lambda net, x: net.pad(x, 1),
    "prelu": lambda net, x: net.prelu(x, weights(1, 1, 8, seed=4)),
    "scaled": lambda net, x: net.mul(x, weights(1, 1, 1, 8, seed=5)),
    "scalar": lambda net, x: net.add(x, np.full((), 0.5, np.float32)),
    "residual": lambda net, x: net.add(
        x, net.conv2d(x, ignoring(weights(8, 1, 1, 8, seed=6), 1, 5, 6))
    ),
}


@pytest.mark.parametrize("name", MIDDLES)
def test_channels_that_every_reader_ignores_are_removed(
    name: str, tmp_path: Path, reference: Worker
) -> None:
    model = network(MIDDLES[name], tmp_path)
    result = shrink(model, tmp_path / "shrunk.tflite", multiple=1)
    assert widths(result.model)[0] == 5
    assert result.layers[0].before - result.layers[0].after == 3
    assert result.model.nbytes < model.nbytes
    assert_same(reference, model, result.model)


@pytest.mark.parametrize("encoding", ["dense", "sparse"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_weights_stay_stored_as_they_were(
    dtype: DType, encoding: Encoding, tmp_path: Path, reference: Worker
) -> None:
    model = network(MIDDLES["directly"], tmp_path, encoding=encoding, dtype=dtype)
    result = shrink(model, tmp_path / "shrunk.tflite", multiple=1)
    stored = [(layer.dtype, layer.encoding) for layer in result.model.layers]
    assert stored == [(layer.dtype, layer.encoding) for layer in model.layers]
    assert widths(result.model) == [5, 8]
    assert_same(reference, model, result.model)


def test_of_a_layer_that_nobody_reads_one_block_stays(tmp_path: Path, reference: Worker) -> None:
    net = Network((1, 8))
    x = net.fully_connected(net.input, weights(8, 8), encoding="block 1x4")
    net.output(net.fully_connected(x, np.zeros((3, 8), np.float32), encoding="block 1x4"))
    model = Model(net.write(tmp_path / "model.tflite"))
    shrunk = shrink(model, tmp_path / "shrunk.tflite", multiple=1).model
    assert [layer.shape for layer in shrunk.layers] == [(4, 8), (3, 4)]


def test_blocks_are_not_cut(tmp_path: Path, reference: Worker) -> None:
    net = Network((1, 16))
    x = net.fully_connected(net.input, weights(16, 16), activation="RELU")
    last = ignoring(weights(8, 16, seed=1), 0, 1, 2, 3, 4, 5)
    net.output(net.fully_connected(x, last, encoding="block 1x4"))
    model = Model(net.write(tmp_path / "model.tflite"))
    result = shrink(model, tmp_path / "shrunk.tflite", multiple=1)
    assert result.layers == (Narrowed(result.layers[0].name, 16, 12),)
    assert_same(reference, model, result.model)


def test_a_width_that_the_blocks_do_not_fill_is_left_alone(tmp_path: Path) -> None:
    """As the converter writes it, which drops the columns behind the last whole block."""
    net = Network((1, 16))
    x = net.fully_connected(net.input, weights(6, 16), activation="RELU")
    values, sparsity = encode(weights(8, 4, seed=1), 4)
    cut = net.constant(values, "cut", shape=(8, 6), sparsity=sparsity)
    net.output(net.fully_connected(x, cut))
    model = Model(net.write(tmp_path / "model.tflite"))
    assert dead_channels(model, 1) == ()
    assert bytes(shrink(model, tmp_path / "shrunk.tflite", multiple=1).model.data) == bytes(
        model.data
    )


@pytest.mark.parametrize("per_channel", [False, True])
def test_int8(per_channel: bool, tmp_path: Path, reference: Worker) -> None:
    net = Network((1, 8, 8, 3))
    x = net.quantize(net.input, 1 / 127)
    options: dict[str, Any] = {"dtype": "int8", "per_channel": per_channel, "scale": 0.1}
    x = net.conv2d(x, weights(8, 3, 3, 3), weights(8), activation="RELU", **options)
    x = net.conv2d(x, ignoring(weights(8, 1, 1, 8, seed=1), 2, 3), **options)
    net.output(net.dequantize(net.mean(x)))
    model = Model(net.write(tmp_path / "model.tflite"))
    result = shrink(model, tmp_path / "shrunk.tflite", multiple=1)
    assert widths(result.model) == [6, 8]
    assert_same(reference, model, result.model)


def test_a_flattened_image_loses_its_columns(tmp_path: Path, reference: Worker) -> None:
    net = Network((1, 4, 4, 3))
    x = net.conv2d(net.input, weights(8, 1, 1, 3), activation="RELU")
    x = net.reshape(x, (1, 4 * 4 * 8))
    read = weights(5, 4, 4, 8, seed=1)
    read[..., [0, 7]] = 0
    net.output(net.fully_connected(x, read.reshape(5, -1)))
    model = Model(net.write(tmp_path / "model.tflite"))
    result = shrink(model, tmp_path / "shrunk.tflite", multiple=1)
    assert [layer.shape for layer in result.model.layers] == [(6, 1, 1, 3), (5, 96)]
    assert_same(reference, model, result.model)


def test_parts_of_a_concatenation(tmp_path: Path, reference: Worker) -> None:
    net = Network((1, 8, 8, 3))
    parts = [net.conv2d(net.input, weights(8, 1, 1, 3, seed=seed)) for seed in (0, 1)]
    last = ignoring(weights(4, 1, 1, 16, seed=2), 0, 9, 10)
    net.output(net.conv2d(net.concat(parts), last))
    model = Model(net.write(tmp_path / "model.tflite"))
    result = shrink(model, tmp_path / "shrunk.tflite", multiple=1)
    assert widths(result.model) == [7, 6, 4]
    assert_same(reference, model, result.model)


def test_channels_that_are_zero_are_removed_although_they_are_read(
    tmp_path: Path, reference: Worker
) -> None:
    net = Network((1, 8, 8, 3))
    first, bias = weights(8, 3, 3, 3), weights(8)
    first[[2, 4]] = 0
    bias[2], bias[4] = -1.0, 0.5  # the second one is not zero behind its RELU
    x = net.conv2d(net.input, first, bias, activation="RELU")
    net.output(net.mean(net.conv2d(x, weights(8, 1, 1, 8, seed=1))))
    model = Model(net.write(tmp_path / "model.tflite"))
    result = shrink(model, tmp_path / "shrunk.tflite", multiple=1)
    assert widths(result.model) == [7, 8]
    assert_same(reference, model, result.model)


def test_what_reads_only_dead_channels_is_dead(tmp_path: Path, reference: Worker) -> None:
    net = Network((1, 8, 8, 3))
    x = net.conv2d(net.input, weights(8, 1, 1, 3))
    middle = np.zeros((8, 1, 1, 8), np.float32)
    middle[0, 0, 0, 0] = middle[1, 0, 0, 1] = 1
    x = net.conv2d(x, middle)
    net.output(net.conv2d(x, ignoring(weights(4, 1, 1, 8, seed=1), 1, 2, 3, 4, 5, 6, 7)))
    model = Model(net.write(tmp_path / "model.tflite"))
    result = shrink(model, tmp_path / "shrunk.tflite", multiple=1)
    assert widths(result.model) == [1, 1, 4]
    assert_same(reference, model, result.model)


def test_channels_are_left_in_eights(tmp_path: Path) -> None:
    net = Network((1, 8, 8, 3))
    x = net.conv2d(net.input, weights(24, 1, 1, 3))
    net.output(net.conv2d(x, ignoring(weights(4, 1, 1, 24, seed=1), *range(11))))
    model = Model(net.write(tmp_path / "model.tflite"))
    assert [(n.before, n.after) for n in dead_channels(model)] == [(24, 16)]
    assert widths(shrink(model, tmp_path / "shrunk.tflite").model) == [16, 4]


@pytest.mark.parametrize(
    "keep",
    [
        lambda net, x: net.softmax(x),
        lambda net, x: net.mean(x, (3,), keep_dims=True),
        lambda net, x: net.depth_to_space(x, 2),
        lambda net, x: net.reshape(x, (1, 6, 3, 16)),
    ],
    ids=["softmax", "mean of channels", "depth to space", "reshape"],
)
def test_what_mixes_channels_keeps_them(
    keep: Callable[[Network, Operand], Operand], tmp_path: Path
) -> None:
    model = network(keep, tmp_path, dead=())
    assert dead_channels(model) == ()
    result = shrink(model, tmp_path / "shrunk.tflite", multiple=1)
    assert bytes(result.model.data) == bytes(model.data)


def test_an_output_keeps_its_channels(tmp_path: Path) -> None:
    net = Network((1, 8, 8, 3))
    x = net.conv2d(net.input, weights(8, 1, 1, 3))
    net.output(net.conv2d(x, ignoring(weights(4, 1, 1, 8, seed=1), 3)), x)
    assert dead_channels(Model(net.write(tmp_path / "model.tflite")), 1) == ()


def test_a_multiple_below_one_is_refused(tmp_path: Path) -> None:
    model = network(MIDDLES["directly"], tmp_path)
    with pytest.raises(ValueError, match="at least 1"):
        shrink(model, tmp_path / "shrunk.tflite", multiple=0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.sampled_from(["layer", *MIDDLES]), max_size=5),
    seed=st.integers(0, 2**16),
    multiple=st.sampled_from([1, 2, 4, 8]),
)
def test_outputs_never_change(
    steps: list[str], seed: int, multiple: int, tmp_path: Path, reference: Worker
) -> None:
    rng = np.random.default_rng(seed)

    def sparse(*shape: int) -> Array:
        """Weights with whole rows and columns of zeros."""
        values = weights(*shape, seed=seed)
        values[rng.random(shape[0]) < 0.3] = 0
        return ignoring(values, *np.flatnonzero(rng.random(shape[-1]) < 0.4).tolist())

    net = Network((1, 12, 12, 3))
    x = net.conv2d(net.input, sparse(8, 3, 3, 3), activation="RELU")
    for step in steps:
        if step == "layer":
            x = net.conv2d(x, sparse(8, 1, 1, 8), -np.abs(weights(8)), activation="RELU")
        elif min(x.shape[1:3]) > 3:
            x = MIDDLES[step](net, x)
    net.output(net.mean(net.conv2d(x, sparse(8, 1, 1, 8))))
    model = Model(net.write(tmp_path / "model.tflite"))
    result = shrink(model, tmp_path / "shrunk.tflite", multiple=multiple)
    assert result.channels == sum(
        layer.before - layer.after for layer in dead_channels(model, multiple)
    )
    assert dead_channels(result.model, multiple) == ()
    assert_same(reference, model, result.model)


def test_more_channels_than_are_followed_stay(tmp_path: Path) -> None:
    """A vector of 5 million values is no damage, and one of 2^31 takes no memory."""
    net = Network((1, 5_000_000))
    net.output(net.unary(net.input, "RELU"))
    model = Model(net.write(tmp_path / "long.tflite"))
    assert dead_channels(model) == ()
    assert shrink(model, tmp_path / "short.tflite").channels == 0
    assert (tmp_path / "short.tflite").read_bytes() == model.path.read_bytes()
