"""Written models: what real runtimes compute with them, and what is read back."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_sparsity.model import Model
from pytest_sparsity.writer import Network, Operand, Quantization
from pytest_sparsity.writer.values import Operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]
    Reference: TypeAlias = Callable[[Array], Array]
    Case: TypeAlias = Callable[[Network], tuple[Operand, Reference]]

DATA = Path(__file__).parent / "data"
MODULES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
RUNTIMES = [
    pytest.param(name, marks=pytest.mark.skipif(not find_spec(module), reason=f"no {name}"))
    for name, module in MODULES.items()
]
IMAGE = (2, 9, 7, 4)
CASES: dict[str, Case] = {}


def case(build: Case) -> Case:
    CASES[build.__name__] = build
    return build


def weights(*shape: int, sparsity: float = 0.6) -> Array:
    rng = np.random.default_rng(sum(shape))
    values = rng.standard_normal(shape, np.float32)
    return np.where(rng.random(shape) < sparsity, np.float32(0), values)


# ------------------------------------------------------------------------------ numpy's opinion


def patches(x: Array, kernel: tuple[int, int], stride: int, dilation: int, same: bool) -> Array:
    """(kernel height, kernel width, batch, height, width, channels), padded with NaN."""
    (kh, kw), span = kernel, [(k - 1) * dilation + 1 for k in kernel]
    if same:
        missing = [
            max((-(-n // stride) - 1) * stride + s - n, 0)
            for n, s in zip(x.shape[1:3], span, strict=True)
        ]
        sides = [(m // 2, m - m // 2) for m in missing]
        x = np.pad(x, [(0, 0), *sides, (0, 0)], constant_values=np.nan)
    height, width = ((n - s) // stride + 1 for n, s in zip(x.shape[1:3], span, strict=True))
    rows = [
        [
            x[:, i : i + height * stride : stride, j : j + width * stride : stride][
                :, :height, :width
            ]
            for j in range(0, kw * dilation, dilation)
        ]
        for i in range(0, kh * dilation, dilation)
    ]
    return np.array(rows)


def convolve(
    x: Array, w: Array, b: Array, stride: int = 1, dilation: int = 1, same: bool = False
) -> Array:
    around = np.nan_to_num(patches(x, (w.shape[1], w.shape[2]), stride, dilation, same))
    return np.asarray(np.einsum("ijnhwc,oijc->nhwo", around, w) + b)


def depthwise(x: Array, w: Array, b: Array, stride: int = 1, same: bool = False) -> Array:
    multiplier = w.shape[3] // x.shape[3]
    around = np.nan_to_num(patches(x, (w.shape[1], w.shape[2]), stride, 1, same))
    repeated = np.repeat(around, multiplier, axis=-1)
    return np.asarray(np.einsum("ijnhwc,ijc->nhwc", repeated, w[0]) + b)


def relu6(x: Array) -> Array:
    return np.clip(x, 0, 6)


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


# ------------------------------------------------------------------------------------ networks


def convolution(
    stride: int = 1, dilation: int = 1, same: bool = False, kernel: int = 3, **storage: Any
) -> Case:
    def build(net: Network) -> tuple[Operand, Reference]:
        w, b = weights(8, kernel, kernel, 4), weights(8, sparsity=0)
        if storage.get("dtype") == "float16":
            w, b = (v.astype(np.float16).astype(np.float32) for v in (w, b))
        padding: Any = "SAME" if same else "VALID"
        y = net.conv2d(
            net.input, w, b, stride=stride, dilation=dilation, padding=padding, **storage
        )
        return y, lambda x: convolve(x, w, b, stride, dilation, same)

    return build


CASES |= {
    "conv": convolution(),
    "conv_stride": convolution(stride=2),
    "conv_same": convolution(same=True),
    "conv_same_stride": convolution(stride=2, same=True),
    "conv_dilated": convolution(dilation=2),
    "conv_dilated_same": convolution(dilation=2, same=True),
    "conv_sparse": convolution(encoding="sparse"),
    "pointwise_sparse": convolution(kernel=1, encoding="sparse"),
    "conv_float16": convolution(dtype="float16"),
    "conv_float16_sparse": convolution(dtype="float16", encoding="sparse"),
}


@case
def conv_without_bias(net: Network) -> tuple[Operand, Reference]:
    w = weights(8, 3, 2, 4)
    y = net.conv2d(net.input, w, activation="RELU6", stride=(2, 1))
    return y, lambda x: relu6(convolve(x, w, np.zeros(8)))[:, ::2]


@case
def conv_of_zeros(net: Network) -> tuple[Operand, Reference]:
    w, b = np.zeros((8, 1, 1, 4), np.float32), weights(8, sparsity=0)
    y = net.conv2d(net.input, w, b, encoding="sparse")
    return y, lambda x: convolve(x, w, b)


@case
def shared_weights(net: Network) -> tuple[Operand, Reference]:
    w = weights(4, 1, 1, 4)
    shared = net.weights(w, encoding="sparse")
    y = net.conv2d(net.conv2d(net.input, shared), shared)
    return y, lambda x: convolve(convolve(x, w, np.zeros(4)), w, np.zeros(4))


@case
def depthwise_sparse(net: Network) -> tuple[Operand, Reference]:
    w, b = weights(1, 3, 3, 4), weights(4, sparsity=0)
    y = net.depthwise(net.input, w, b, stride=2, padding="SAME", encoding="sparse")
    return y, lambda x: depthwise(x, w, b, 2, same=True)


@case
def depthwise_multiplied(net: Network) -> tuple[Operand, Reference]:
    w = weights(1, 3, 3, 12)
    y = net.depthwise(net.input, w, activation="RELU")
    return y, lambda x: np.maximum(depthwise(x, w, np.zeros(12)), 0)


@case
def padded(net: Network) -> tuple[Operand, Reference]:
    y = net.pad(net.pad(net.input, 1), ((0, 2), (3, 1)))
    return y, lambda x: np.pad(x, ((0, 0), (1, 3), (4, 2), (0, 0)))


@case
def dense_layers(net: Network) -> tuple[Operand, Reference]:
    """All encodings of FULLY_CONNECTED."""
    w = [weights(16, 252), weights(32, 16), weights(8, 32), weights(5, 8, sparsity=0)]
    w[2] = np.repeat(weights(8, 8), 4, axis=1)
    x = net.reshape(net.input, (2, 252))
    x = net.fully_connected(x, w[0], weights(16, sparsity=0), encoding="sparse")
    x = net.fully_connected(x, w[1], encoding="block 1x4", activation="RELU")
    x = net.fully_connected(x, w[2], encoding="block 1x4")
    x = net.fully_connected(x, w[3])

    def reference(x: Array) -> Array:
        hidden = x.reshape(2, 252) @ w[0].T + weights(16, sparsity=0)
        return np.asarray(np.maximum(hidden @ w[1].T, 0) @ w[2].T @ w[3].T)

    return x, reference


@case
def dense_layer(net: Network) -> tuple[Operand, Reference]:
    w, b = weights(16, 252), weights(16, sparsity=0)
    y = net.fully_connected(net.reshape(net.input, (2, 252)), w, b, activation="RELU")
    return y, lambda x: np.maximum(x.reshape(2, 252) @ w.T + b, 0)


@case
def averages(net: Network) -> tuple[Operand, Reference]:
    y = net.mean(net.input, keep_dims=True)
    return net.mean(y), lambda x: x.mean((1, 2))


@case
def arithmetic(net: Network) -> tuple[Operand, Reference]:
    offset = np.arange(1, 5, dtype=np.float32)
    y = net.div(net.mul(net.sub(net.add(net.input, offset), net.input), net.input), offset)
    return y, lambda x: x


@case
def concatenated(net: Network) -> tuple[Operand, Reference]:
    y = net.concat([net.concat([net.input, net.input]), net.unary(net.input, "TANH")])
    return y, lambda x: np.concatenate([x, x, np.tanh(x)], axis=-1)


@case
def pools(net: Network) -> tuple[Operand, Reference]:
    y = net.avg_pool(net.max_pool(net.input, 3, 1, padding="SAME"), 2)

    def reference(x: Array) -> Array:
        largest = np.nanmax(patches(x, (3, 3), 1, 1, same=True), axis=(0, 1))
        return np.asarray(patches(largest, (2, 2), 2, 1, same=False).mean((0, 1)))

    return y, reference


@case
def activations(net: Network) -> tuple[Operand, Reference]:
    x = net.sub(net.input, np.full(4, 0.5, np.float32))
    alpha = weights(1, 1, 4, sparsity=0)
    y = net.leaky_relu(net.prelu(net.unary(net.unary(x, "HARD_SWISH"), "ELU"), alpha), 0.2)

    def reference(x: Array) -> Array:
        x = x - 0.5
        x = x * np.clip(x + 3, 0, 6) / 6
        x = np.where(x > 0, x, np.expm1(x))
        x = np.where(x > 0, x, alpha * x)
        return np.where(x > 0, x, 0.2 * x)

    return y, reference


@case
def softmaxes(net: Network) -> tuple[Operand, Reference]:
    y = net.softmax(net.input, beta=2.0)

    def reference(x: Array) -> Array:
        powers = np.exp(2 * x)
        return np.asarray(powers / powers.sum(-1, keepdims=True))

    return y, reference


@case
def spaces(net: Network) -> tuple[Operand, Reference]:
    y = net.depth_to_space(net.input, 2)

    def reference(x: Array) -> Array:
        blocks = x.reshape(2, 9, 7, 2, 2, 1).transpose(0, 1, 3, 2, 4, 5)
        return blocks.reshape(2, 18, 14, 1)

    return y, reference


@case
def resized(net: Network) -> tuple[Operand, Reference]:
    y = net.resize_bilinear(net.input, (17, 13), align_corners=True, half_pixel_centers=False)

    def reference(x: Array) -> Array:
        x = np.stack([x, x], axis=2).reshape(2, 18, 7, 4)
        x = np.concatenate([x[:, :1], (x[:, 1:-2] + x[:, 2:-1]) / 2, x[:, -1:]], axis=1)
        x = np.stack([x, x], axis=3).reshape(2, 17, 14, 4)
        halves = (x[:, :, 1:-2] + x[:, :, 2:-1]) / 2
        return np.concatenate([x[:, :, :1], halves, x[:, :, -1:]], axis=2)

    return y, reference


@case
def doubled(net: Network) -> tuple[Operand, Reference]:
    """Twice the size, pixels in the middle: a quarter of the neighbour, three of the nearest."""
    y = net.resize_bilinear(net.input, (18, 14))

    def twice(x: Array, axis: int) -> Array:
        x = np.moveaxis(x, axis, 0)
        before, after = np.concatenate([x[:1], x[:-1]]), np.concatenate([x[1:], x[-1:]])
        halves = np.stack([(before + 3 * x) / 4, (3 * x + after) / 4], axis=1)
        return np.moveaxis(halves.reshape(-1, *x.shape[1:]), 0, axis)

    return y, lambda x: twice(twice(x, 1), 2)


@case
def quantized(net: Network) -> tuple[Operand, Reference]:
    """int8 with scales that make every product exact, so that there is one right answer."""
    w = np.clip(np.rint(weights(8, 1, 1, 4) * 40), -126, 126)
    w[:, 0, 0, 0] = 127  # the largest of each channel: the scales are 1
    x = net.quantize(net.input, 1 / 64)
    x = net.conv2d(x, w, weights(8, sparsity=0), scale=2.0, zero_point=3, encoding="sparse")
    y = net.dequantize(x)

    def reference(x: Array) -> Array:
        q = np.clip(np.rint(x * 64), -128, 127)
        total = (convolve(q, w, np.rint(weights(8, sparsity=0) * 64)) / 64) / 2
        return np.asarray((np.clip(np.rint(total) + 3, -128, 127) - 3) * 2)

    return y, reference


@case
def quantized_dense(net: Network) -> tuple[Operand, Reference]:
    w = np.clip(np.rint(weights(16, 252) * 40), -126, 126)
    w[:, 0] = 127
    x = net.quantize(net.reshape(net.input, (2, 252)), 1 / 64)
    y = net.dequantize(net.fully_connected(x, w, scale=8.0, per_channel=False))

    def reference(x: Array) -> Array:
        q = np.clip(np.rint(x.reshape(2, 252) * 64), -128, 127)
        return np.asarray(np.clip(np.rint(q @ w.T / 64 / 8), -128, 127) * 8)

    return y, reference


@case
def dynamic_range(net: Network) -> tuple[Operand, Reference]:
    w = np.clip(np.rint(weights(16, 252) * 40), -126, 126)
    w[:, 0] = 127
    x = net.reshape(net.input, (2, 252))
    y = net.fully_connected(x, w, dtype="int8", per_channel=False)
    return y, lambda x: np.asarray(x.reshape(2, 252) @ w.T)


TOLERANCE = {"quantized": 2.0, "quantized_dense": 8.0, "dynamic_range": 4.0}
"""One step of the output's scale; for dynamic range, 1/510 of the input's 1 times 252 weights of
30 or so, if the errors of the inputs add up like noise, and as much again."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Array]]:
    """Path and expected output of every case."""
    folder = tmp_path_factory.mktemp("written")
    image = np.random.default_rng(0).random(IMAGE, np.float32)
    found = {}
    for name, build in CASES.items():
        net = Network(IMAGE)
        value, reference = build(net)
        net.output(value)
        expected = reference(image.astype(np.float64))
        assert expected.shape == value.shape
        assert expected.std() > 0.01
        found[name] = net.write(folder / f"{name}.tflite"), expected
    return found


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_runtimes_compute_what_numpy_computes(
    runtime: str, built: dict[str, tuple[Path, Array]], tmp_path: Path
) -> None:
    names = list(built)
    archive = tmp_path / "outputs.npz"
    command: list[str | Path] = [
        sys.executable,
        DATA / "run.py",
        runtime,
        archive,
        *(built[n][0] for n in names),
    ]
    subprocess.run(command, check=True, capture_output=True)
    outputs = np.load(archive)
    wrong = []
    for i, name in enumerate(names):
        tolerance = TOLERANCE.get(name, 2e-5)
        for kernels in ("default", "builtin"):
            got = outputs[f"{i}/{kernels}/0"]
            if not np.allclose(got, built[name][1], rtol=1e-5, atol=tolerance):
                wrong.append((name, kernels, float(np.abs(got - built[name][1]).max())))
    assert not wrong


# ------------------------------------------------------------------------------------ read back


def versions(path: Path) -> dict[str, int]:
    return {o.op: o.version for graph in Model(path).graphs for o in graph.operators}


def written(net: Network, value: Operand, path: Path) -> Model:
    net.output(value)
    return Model(net.write(path / "model.tflite"))


def test_operators_have_the_versions_of_the_converter(
    built: dict[str, tuple[Path, Array]],
) -> None:
    theirs: dict[str, set[int]] = {}
    for path in sorted(DATA.glob("*.tflite")):
        for op, version in versions(path).items():
            theirs.setdefault(op, set()).add(version)
    compared = set()
    for name, (path, _) in built.items():
        for op, version in versions(path).items():
            if name not in ("dynamic_range", "resized") and op in theirs:
                assert version in theirs[op], (name, op)
                compared.add((op, version))
    assert compared >= {
        ("CONV_2D", 1),
        ("CONV_2D", 3),
        ("DEQUANTIZE", 2),
        ("DEQUANTIZE", 3),
        ("FULLY_CONNECTED", 1),
        ("FULLY_CONNECTED", 4),
        ("FULLY_CONNECTED", 8),
        ("RESIZE_BILINEAR", 3),
    }


@pytest.mark.parametrize(
    ("per_channel", "encoding", "version"),
    [(False, "dense", 9), (True, "dense", 12), (False, "block 1x16", 8), (True, "block 1x16", 12)],
)
def test_dynamic_range_versions(
    per_channel: bool, encoding: Any, version: int, tmp_path: Path
) -> None:
    """op_version.cc asks for scales per channel before it asks for sparse weights."""
    net = Network((1, 32))
    y = net.fully_connected(
        net.input, weights(4, 32), dtype="int8", per_channel=per_channel, encoding=encoding
    )
    model = written(net, y, tmp_path)
    assert versions(model.path) == {"FULLY_CONNECTED": version}
    assert model.layers[0].encoding == encoding
    assert len(model.graph.tensors[1].scales) == (4 if per_channel else 1)


def test_blocks_in_float16_lack_densify_as_the_converter_s_do(tmp_path: Path) -> None:
    net = Network((1, 32))
    y = net.fully_connected(net.input, weights(4, 32), dtype="float16", encoding="block 1x4")
    model = written(net, y, tmp_path)
    assert [o.op for o in model.graph.operators] == ["DEQUANTIZE", "FULLY_CONNECTED"]
    assert (model.layers[0].dtype, model.layers[0].encoding) == ("float16", "block 1x4")


def test_quantization_is_written(tmp_path: Path) -> None:
    net = Network((1, 4, 4, 3))
    x = net.quantize(net.input, 0.5, -3)
    x = net.conv2d(x, weights(8, 1, 1, 3, sparsity=0), scale=0.25, zero_point=7)
    x = net.softmax(x)
    model = written(net, net.unary(x, "LOGISTIC"), tmp_path)
    tensors = {t.index: t for t in model.graph.tensors}
    quantize, conv, softmax, logistic = model.graph.operators
    image, filters, bias = (tensors[i] for i in conv.inputs)
    assert (quantize.op, image.dtype, image.scales, image.zero_points) == (
        "QUANTIZE",
        "int8",
        (0.5,),
        (-3,),
    )
    assert filters.zero_points == (0,) * 8
    assert filters.quantized_dimension == 0
    np.testing.assert_allclose(bias.scales, np.multiply(filters.scales, 0.5))
    assert tensors[conv.outputs[0]].scales == (0.25,)
    assert tensors[conv.outputs[0]].zero_points == (7,)
    assert tensors[softmax.outputs[0]].scales == (1 / 256,)
    assert tensors[logistic.outputs[0]].zero_points == (-128,)


def test_several_inputs_and_outputs_keep_their_order(tmp_path: Path) -> None:
    net = Network((1, 4))
    other = net.add_input((3, 4))
    total = net.add(other, net.input)
    net.output(total, net.unary(net.input, "ABS"))
    graph = Model(net.write(tmp_path / "model.tflite")).graph
    assert [graph.tensors[i].shape for i in graph.inputs] == [(1, 4), (3, 4)]
    assert [graph.tensors[i].shape for i in graph.outputs] == [(3, 4), (1, 4)]


def test_an_operator_may_lack_an_input_and_have_any_options(tmp_path: Path) -> None:
    net = Network((1, 4))
    x = net.operator("CUMSUM", [net.input, None], (1, 4), "CumsumOptions", {"reverse": True})
    model = written(net, x, tmp_path)
    assert model.graph.operators[0].inputs == (0, -1)
    assert model.graph.operators[0].op == "CUMSUM"


def test_buffers_are_aligned(built: dict[str, tuple[Path, Array]]) -> None:
    for path, _ in built.values():
        model = Model(path)
        spans = [model.span(t.buffer) for t in model.graph.tensors if t.constant]
        assert all(start % 16 == 0 for start, length in spans if length >= 16)
        assert all(start % length == 0 for start, length in spans if length in {4, 8})


def test_what_does_not_fit_is_refused() -> None:
    net = Network((1, 4, 4, 3))
    with pytest.raises(ValueError, match="do not fit the input"):
        net.conv2d(net.input, weights(8, 1, 1, 4))
    with pytest.raises(ValueError, match="do not fit the input"):
        net.depthwise(net.input, weights(1, 3, 3, 4))
    with pytest.raises(ValueError, match="do not fit the input"):
        net.fully_connected(net.input, weights(2, 5))
    with pytest.raises(ValueError, match="a kernel of 5 does not fit a size of 4"):
        net.conv2d(net.input, weights(8, 5, 5, 3))
    with pytest.raises(ValueError, match="cannot become"):
        net.reshape(net.input, (1, 47))
    with pytest.raises(ValueError, match="multiple of the block"):
        net.fully_connected(net.input, weights(2, 6), encoding="block 1x4")
    with pytest.raises(ValueError, match="no output"):
        net.to_bytes()
    quantized = Network((1, 4), "int8")
    with pytest.raises(ValueError, match="needs a quantized input"):
        quantized.fully_connected(quantized.input, weights(2, 4), weights(2))


def test_the_same_network_gives_the_same_bytes(built: dict[str, tuple[Path, Array]]) -> None:
    for name, build in CASES.items():
        net = Network(IMAGE)
        net.output(build(net)[0])
        assert net.to_bytes() == built[name][0].read_bytes()


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    shape = (
        draw(st.integers(1, 2)),
        draw(st.integers(5, 9)),
        draw(st.integers(5, 9)),
        draw(st.integers(1, 5)),
    )
    options = {
        "stride": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "dilation": draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        "padding": draw(st.sampled_from(("SAME", "VALID"))),
        "activation": draw(st.sampled_from(("NONE", "RELU", "RELU6", "RELU_N1_TO_1"))),
        "encoding": draw(st.sampled_from(("dense", "sparse"))),
        "dtype": draw(st.sampled_from(("float32", "float16"))),
    }
    return shape, (draw(st.integers(1, 6)), *kernel, shape[3]), options


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(convolutions())
def test_a_convolution_is_read_back_as_it_was_written(
    tmp_path: Path, drawn: tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]
) -> None:
    shape, weights_shape, options = drawn
    stored = weights(*weights_shape).astype(options["dtype"])
    net = Network(shape)
    model = written(net, net.conv2d(net.input, stored, name="w", **options), tmp_path)
    (layer,) = model.layers
    read = model.graph.operators[layer.operator].options
    assert (read["stride_h"], read["stride_w"]) == options["stride"]
    assert (read["dilation_h"], read["dilation_w"]) == options["dilation"]
    assert read["padding"] == options["padding"]
    assert read["activation"] == options["activation"]
    assert (layer.op, layer.name, layer.shape) == ("CONV_2D", "w", weights_shape)
    assert (layer.dtype, layer.encoding) == (options["dtype"], options["encoding"])
    np.testing.assert_array_equal(model.weights(layer.tensor), stored, strict=True)


def test_a_constant_says_what_it_is_told(tmp_path: Path) -> None:
    net = Network((1, 4))
    scale = Quantization((0.1, 0.2, 0.3), (1, 2, 3), 1)
    value = net.constant(np.ones((3, 2), np.int8), "told", shape=(2, 3), quantization=scale)
    tensor = written(net, value, tmp_path).graph.tensors[1]
    assert (tensor.name, tensor.shape, tensor.dtype) == ("told", (2, 3), "int8")
    np.testing.assert_allclose(tensor.scales, (0.1, 0.2, 0.3), rtol=1e-6)
    assert (tensor.zero_points, tensor.quantized_dimension) == ((1, 2, 3), 1)


# ------------------------------------------------------------------- names and open dimensions


def test_a_signature_names_inputs_and_outputs(tmp_path: Path) -> None:
    net = Network((1, 4))
    other = net.add_input((1, 4))
    total, difference = net.add(net.input, other), net.sub(net.input, other)
    net.output(total, difference)
    net.sign({"b": other, "a": net.input}, {"output_0": difference, "output_1": total})
    model = Model(net.write(tmp_path / "model.tflite"))
    assert model.signature is not None
    assert model.signature.inputs == (("b", other.index), ("a", net.input.index))
    assert model.signature.outputs == (("output_0", difference.index), ("output_1", total.index))


def test_a_signature_that_does_not_cover_the_graph_names_nothing(tmp_path: Path) -> None:
    net = Network((1, 4))
    net.output(net.unary(net.input, "RELU"))
    net.sign({}, {})
    assert Model(net.write(tmp_path / "model.tflite")).signature is None


def test_open_dimensions_are_read(tmp_path: Path) -> None:
    net = Network((1, 8, 1, 3))
    net.output(net.unary(net.input, "RELU"))
    net.leave_open(net.input, 0, 2)
    tensor = Model(net.write(tmp_path / "model.tflite")).graph.tensors[0]
    assert (tensor.shape, tensor.shape_signature) == ((1, 8, 1, 3), (-1, 8, -1, 3))
    assert tensor.open_dimensions == (0, 2)


def test_no_dimension_is_open_without_a_word(tmp_path: Path) -> None:
    net = Network((1, 8))
    net.output(net.unary(net.input, "RELU"))
    assert Model(net.write(tmp_path / "model.tflite")).graph.tensors[0].open_dimensions == ()


# --------------------------------------------------------------------------------------- state


def with_a_resource(*, assigned: bool) -> Network:
    """A network that reads a variable by its handle, and may write it."""
    net = Network((1, 4))
    handle = net._tensor("handle", (), "resource")
    net._operators.append(Operation("VAR_HANDLE", 1, (), (handle.index,), "VarHandleOptions", {}))
    kept = net._tensor("kept", (1, 4), "float32")
    net._operators.append(
        Operation("READ_VARIABLE", 1, (handle.index,), (kept.index,), "ReadVariableOptions", {})
    )
    total = net.add(net.input, kept)
    if assigned:
        operands = (handle.index, total.index)
        net._operators.append(
            Operation("ASSIGN_VARIABLE", 1, operands, (), "AssignVariableOptions", {})
        )
    net.output(total)
    return net


@pytest.mark.parametrize("assigned", [True, False])
def test_a_model_that_assigns_variables_keeps_a_state(tmp_path: Path, assigned: bool) -> None:
    model = Model(with_a_resource(assigned=assigned).write(tmp_path / "model.tflite"))
    assert model.stateful is assigned
