"""Reading models: the facts of real and written ones, and the fault of every unreadable one."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patching import (
    MODEL_BUFFERS,
    MODEL_SUBGRAPHS,
    OPERATOR_CODE_INDEX,
    OPERATOR_INPUTS,
    Patch,
)
from pytest_sparsity import prunable_layers
from pytest_sparsity.encoding import Sparsity, encode
from pytest_sparsity.errors import ModelError
from pytest_sparsity.model import Layer, Model, replace_file
from pytest_sparsity.model.flatbuffer import Table
from pytest_sparsity.model.serializer import pieces
from pytest_sparsity.transform.edit import Edit
from pytest_sparsity.writer import Network, Operand, Quantization
from pytest_sparsity.xnnpack import analyse

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

T = TypeVar("T")
DATA = Path(__file__).parent / "data"
PAIRS = ("cnn", "cnn_float16", "gru")

# Positions of fields in the schema's tables, as in `patching`.
MODEL_VERSION, TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_NAME = 4, 4, 6, 8, 10
FLOAT16, INT32, INT4 = 1, 2, 17  # numbers of the schema's TensorType


def network(**weights: Any) -> Network:
    """A pointwise convolution; `weights` go to `Network.conv2d`."""
    net = Network((1, 4, 4, 8))
    values = weights.pop("values", np.eye(8, dtype=np.float32).reshape(8, 1, 1, 8))
    net.output(net.conv2d(net.input, values, name="kernel", **weights))
    return net


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.tflite"


def layer_of(net: Network, path: Path) -> Layer:
    (layer,) = Model(net.write(path)).layers
    return layer


def patched(model: Model, change: Callable[[Patch], None], path: Path) -> Path:
    patch = Patch(model)
    change(patch)
    path.write_bytes(patch.data)
    return path


def with_type(model: Model, number: int) -> Model:
    """The model with another type of its first constant, which must not be float32."""

    def change(patch: Patch) -> None:
        field = patch.field(patch.tensor(0, 1), TENSOR_TYPE)
        assert field
        patch.overwrite(field, struct.pack("b", number))

    return Model(patched(model, change, model.path))


# -------------------------------------------------------------------------------- real models


@pytest.mark.parametrize("name", PAIRS)
def test_sparse_and_dense_files_hold_the_same_weights(name: str) -> None:
    dense, sparse = Model(DATA / f"{name}_dense.tflite"), Model(DATA / f"{name}_sparse.tflite")
    assert sparse.encoded
    assert not dense.encoded
    assert {x.encoding for x in dense.layers} == {"dense"}
    assert {x.encoding for x in sparse.layers} == {"sparse"}
    assert 0.6 < dense.sparsity < 0.8
    assert sparse.sparsity == dense.sparsity
    for a, b in zip(dense.layers, sparse.layers, strict=True):
        facts = ("op", "shape", "dtype", "parameters", "graph", "subnormals")
        assert [getattr(a, f) for f in facts] == [getattr(b, f) for f in facts]
        ours, theirs = sparse.weights(b.tensor, b.graph), dense.weights(a.tensor, a.graph)
        np.testing.assert_array_equal(ours, theirs, strict=True)
        assert a.sparsity == b.sparsity == np.count_nonzero(theirs == 0) / theirs.size


def test_layers_of_a_real_network() -> None:
    model = Model(DATA / "cnn_sparse.tflite")
    facts = [(x.op, x.shape, x.encoding) for x in model.layers]
    assert facts == [
        ("CONV_2D", (8, 3, 3, 3), "sparse"),
        ("DEPTHWISE_CONV_2D", (1, 3, 3, 8), "sparse"),
        ("CONV_2D", (260, 1, 1, 8), "sparse"),
        ("CONV_2D", (8, 1, 1, 260), "sparse"),
        ("FULLY_CONNECTED", (6, 8), "sparse"),
    ]
    assert [x.index for x in model.layers] == list(range(5))
    assert all(model.graph.operators[x.operator].op == x.op for x in model.layers)
    kept = np.count_nonzero(model.weights(model.layers[3].tensor))
    assert model.layers[3].nbytes == kept * (4 + 2) + 9 * 2


def test_columns_dropped_by_the_converter_are_missing_when_decoded() -> None:
    """A 1x4 block does not fit a width of 6; the converter writes it all the same."""
    dense, sparse = Model(DATA / "mlp_dense.tflite"), Model(DATA / "mlp_sparse.tflite")
    assert [x.encoding for x in sparse.layers] == [
        "block 1x4",
        "sparse",
        *["block 1x4"] * 2,
        "dense",
    ]
    pairs = [
        (dense.weights(a.tensor), sparse.weights(b.tensor))
        for a, b in zip(dense.layers, sparse.layers, strict=True)
    ]
    assert [np.array_equal(a, b) for a, b in pairs] == [True, True, False, True, True]
    a, b = pairs[2]
    assert a.shape == b.shape == (40, 6)
    np.testing.assert_array_equal(a[:, :4], b[:, :4])
    assert a[:, 4:].any()
    assert not b[:, 4:].any()


def test_a_block_wider_than_the_layer_loses_all_but_the_first_row() -> None:
    """A 1x16 block does not fit a width of 8: the converter stores one, and it spans two rows."""
    dense, sparse = Model(DATA / "cnn_int8_dense.tflite"), Model(DATA / "cnn_int8_sparse.tflite")
    assert [x.encoding for x in sparse.layers] == [*["sparse"] * 4, "block 1x16"]
    for a, b in zip(dense.layers[:4], sparse.layers[:4], strict=True):
        np.testing.assert_array_equal(dense.weights(a.tensor), sparse.weights(b.tensor))
    right, left = dense.weights(dense.layers[4].tensor), sparse.weights(sparse.layers[4].tensor)
    stored = sparse.stored(sparse.graph.tensors[sparse.layers[4].tensor].buffer).view(np.int8)
    np.testing.assert_array_equal(stored, right[:2].reshape(-1))
    np.testing.assert_array_equal(left[0], right[0])
    assert right[1:].any()
    assert not left[1:].any()
    assert sparse.layers[4].sparsity == np.count_nonzero(left == 0) / 48 == 47 / 48


def test_a_layer_of_zeros_stores_nothing_and_is_a_layer() -> None:
    model = Model(DATA / "mlp_sparse.tflite")
    layer = model.layers[3]
    tensor = model.graph.tensors[layer.tensor]
    assert model.stored(tensor.buffer).size == 0
    assert tensor.constant
    assert (layer.sparsity, layer.nbytes) == (1.0, 41)
    assert not model.weights(layer.tensor).any()


def test_layers_of_subgraphs_are_found() -> None:
    model = Model(DATA / "gru_sparse.tflite")
    assert [(x.graph, x.op, x.shape) for x in model.layers] == [
        (0, "FULLY_CONNECTED", (4, 8)),
        (2, "FULLY_CONNECTED", (24, 8)),
        (2, "FULLY_CONNECTED", (24, 6)),
    ]
    assert model.graph is model.graphs[0]
    assert model.graph.operators[1].options == {"cond_subgraph_index": 1, "body_subgraph_index": 2}


def test_options_of_real_operators() -> None:
    options = {o.op: o.options for o in Model(DATA / "ops.tflite").graph.operators}
    conv = {"padding": "SAME", "stride_w": 1, "stride_h": 1, "activation": "NONE"}
    assert options["DEPTHWISE_CONV_2D"] == {
        **conv,
        "dilation_w": 1,
        "dilation_h": 1,
        "depth_multiplier": 1,
    }
    bias = {"quantized_bias_type": "FLOAT32"}
    assert options["TRANSPOSE_CONV"] == {**conv, **bias, "stride_w": 2, "stride_h": 2}
    assert options["MAX_POOL_2D"] == {**conv, "filter_width": 3, "filter_height": 3}
    assert options["CONCATENATION"] == {"axis": 3, "activation": "NONE"}
    resize = {"align_corners": False, "half_pixel_centers": True}
    assert options["RESIZE_BILINEAR"] == {**resize, "new_height": 0, "new_width": 0}
    assert options["DEPTH_TO_SPACE"] == {"block_size": 2}
    assert options["MUL"] == {"activation": "NONE"}
    assert options["ADD"] == options["SUB"] == {"activation": "NONE", "pot_scale_int16": True}
    assert options["TANH"] == {}
    first = Model(DATA / "ops.tflite").graph.operators[0].options
    assert first == {**conv, **bias, "activation": "RELU", "dilation_w": 2, "dilation_h": 2}
    cnn = {o.op: o.options for o in Model(DATA / "cnn_dense.tflite").graph.operators}
    assert cnn["LEAKY_RELU"] == {"alpha": pytest.approx(0.1)}
    assert cnn["MEAN"] == {"keep_dims": True}
    assert cnn["SOFTMAX"] == {"beta": 1.0}
    assert cnn["FULLY_CONNECTED"]["keep_num_dims"] is False


def test_tensors_of_a_real_quantized_network() -> None:
    model = Model(DATA / "cnn_int8_dense.tflite")
    conv = next(o for o in model.graph.operators if o.op == "CONV_2D")
    image, kernel, bias = (model.graph.tensors[i] for i in conv.inputs)
    assert (image.dtype, image.constant, len(image.scales)) == ("int8", False, 1)
    assert (kernel.dtype, kernel.constant, len(kernel.scales)) == ("int8", True, 8)
    assert (bias.dtype, bias.quantized, bias.zero_points) == ("int32", True, (0,) * 8)
    float_input = model.graph.tensors[model.graph.inputs[0]]
    assert (float_input.quantized, float_input.scales) == (False, ())


# --------------------------------------------------------------------------------------- counts


@given(seed=st.integers(0, 2**32), rate=st.floats(0, 1), dtype=st.sampled_from(("<f4", "<f2")))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_are_exact(path: Path, seed: int, rate: float, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2 ** (8 * np.dtype(dtype).itemsize), 3 * 5 * 7, np.uint32)
    values = bits.astype(f"<u{np.dtype(dtype).itemsize}").view(dtype)
    special = np.array([0.0, -0.0, 1e-40, -1e-40, 1e-7, np.inf, np.nan]).astype(dtype)
    chosen = special[rng.integers(0, special.size, values.size)]
    values = np.where(rng.random(values.size) < rate, chosen, values).reshape(3, 1, 5, 7)
    net = Network((1, 1, 5, 7))
    net.output(net.conv2d(net.input, net.constant(values, "kernel")))
    layer = layer_of(net, path)
    negative = (values == 0) & np.signbit(values)
    subnormal = (values != 0) & (np.abs(values) < np.finfo(np.float32).tiny)
    assert layer.sparsity == np.count_nonzero(values == 0) / values.size
    assert layer.negative_zeros == np.count_nonzero(negative)
    assert layer.subnormals == (np.count_nonzero(subnormal) if dtype == "<f4" else 0)
    assert layer.nbytes == values.nbytes


def test_weights_larger_than_a_chunk_are_counted_whole(path: Path) -> None:
    values = np.zeros((700, 800), np.float32)
    values[::7, ::5] = 1
    values[3, :100] = -0.0
    values[699, 799] = 1e-42
    net = Network((1, 800))
    net.output(net.fully_connected(net.input, values))
    layer = layer_of(net, path)
    assert values.nbytes > 2**21
    assert layer.sparsity == np.count_nonzero(values == 0) / values.size
    assert (layer.negative_zeros, layer.subnormals) == (100, 1)


def test_subnormals_and_negative_zeros_inside_blocks_are_counted(path: Path) -> None:
    values = np.array([[0, 0, 0, 0, 1, -0.0, 1e-40, 0]], np.float32)
    net = Network((1, 8))
    net.output(net.fully_connected(net.input, values, encoding="block 1x4"))
    layer = layer_of(net, path)
    assert (layer.sparsity, layer.subnormals, layer.negative_zeros) == (0.75, 1, 1)
    assert layer.nbytes == 4 * 4 + 2 + 1


def test_a_quantized_zero_is_the_zero_point(path: Path) -> None:
    net = Network((1, 4))
    scale = Quantization((0.1,), (128,))
    weights = net.constant(np.array([[128, 0, 128, 5]], np.uint8), quantization=scale)
    net.output(net.fully_connected(net.input, weights))
    assert layer_of(net, path).sparsity == 0.5


def test_int4_is_two_to_a_byte_the_low_half_first(path: Path) -> None:
    net = Network((1, 3))
    packed = np.array([[0xF1, 0x80, 0xE7]], np.uint8)  # 1, -1, 0, -8, 7 and half a byte left over
    net.output(net.fully_connected(net.input, net.constant(packed)))

    def as_int4(patch: Patch) -> None:
        tensor = patch.tensor(0, 1)
        patch.overwrite(patch.field(tensor, TENSOR_TYPE), struct.pack("b", INT4))
        patch.replace_numbers(tensor, TENSOR_SHAPE, {3: 5})

    model = Model(patched(Model(net.write(path)), as_int4, path))
    assert model.weights(1).tolist() == [[1, -1, 0, -8, 7]]
    (layer,) = model.layers
    assert (layer.dtype, layer.sparsity, layer.nbytes) == ("int4", 0.2, 3)


def test_a_type_that_is_not_known_is_named(path: Path) -> None:
    model = with_type(Model(network(dtype="float16").write(path)), 100)
    assert model.graph.tensors[1].dtype == "type100"
    with pytest.raises(ModelError, match="'kernel' is of type100, which cannot be read"):
        _ = model.layers


def test_a_constant_of_another_size_than_its_shape_is_refused(path: Path) -> None:
    model = Model(network(dtype="float16").write(path))
    with pytest.raises(ModelError, match=r"'kernel' has 128 bytes .* of int32 needs 256"):
        with_type(model, INT32)


# -------------------------------------------------------------------------------------- layers


def test_without_pointwise_convolution_fully_connected_is_prunable(path: Path) -> None:
    net = Network((1, 4, 4, 8))
    x = net.conv2d(net.input, np.ones((8, 3, 3, 8), np.float32))
    net.output(net.fully_connected(net.mean(x), np.ones((2, 8), np.float32)))
    assert [x.index for x in prunable_layers(net.write(path))] == [1]
    assert [x.index for x in prunable_layers(DATA / "cnn_dense.tflite")] == [2, 3]


def test_shared_weights_are_several_layers_but_count_once(path: Path) -> None:
    net = Network((1, 4, 4, 8))
    shared = net.weights(np.eye(8, dtype=np.float32).reshape(8, 1, 1, 8), "shared")
    x = net.conv2d(net.conv2d(net.input, shared), shared)
    net.output(net.conv2d(x, np.ones((8, 1, 1, 8), np.float32)))
    model = Model(net.write(path))
    assert [x.name for x in model.layers[:2]] == ["shared", "shared"]
    assert [x.tensor for x in model.layers[:2]] == [shared.index] * 2
    assert model.sparsity == 56 / 128


def test_every_weight_of_an_lstm_is_a_layer(path: Path) -> None:
    net = Network((1, 3, 4))
    inputs = [net.constant(np.ones((5, 4), np.float32)) for _ in range(4)]
    recurrent = [net.constant(np.zeros((5, 5), np.float32)) for _ in range(4)]
    biases = [net.constant(np.zeros(5, np.float32)) for _ in range(4)]
    states = [net.add_input((1, 5)) for _ in range(2)]
    operands = [net.input, *inputs, *recurrent, None, None, None, *biases, None, None, *states]
    op = "UNIDIRECTIONAL_SEQUENCE_LSTM"
    net.output(net.operator(op, operands, (1, 3, 5), "UnidirectionalSequenceLSTMOptions"))
    model = Model(net.write(path))
    assert [(x.op, x.shape) for x in model.layers] == [(op, (5, 4))] * 4 + [(op, (5, 5))] * 4
    assert {x.operator for x in model.layers} == {0}
    assert model.sparsity == 100 / 180


def test_weights_that_are_computed_make_no_layer(path: Path) -> None:
    net = Network((1, 8))
    net.output(net.fully_connected(net.input, net.add_input((4, 8))))
    model = Model(net.write(path))
    assert model.layers == ()
    assert model.sparsity == 0


def test_weights_are_only_those_of_constants(path: Path) -> None:
    model = Model(network().write(path))
    with pytest.raises(ValueError, match=r"'input_0'\) is not constant"):
        model.weights(0)
    copy = model.weights(1)
    copy[:] = 7
    assert model.weights(1).max() == 1


# --------------------------------------------------------------------------------- the value


def test_models_are_values(path: Path, tmp_path: Path) -> None:
    model = Model(network().write(path))
    other = Model(network().write(tmp_path / "other.tflite"))
    assert model == Model(str(path))
    assert hash(model) == hash(Model(path))
    assert model != other
    assert model != "model"
    assert model.sha256 == other.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (model.path, model.nbytes) == (path, path.stat().st_size)
    assert repr(model) == f"Model('model.tflite', {model.nbytes / 1e3:.1f} kB)"
    assert Model.of(model) is model
    assert Model.of(path) == model
    with pytest.raises(AttributeError):
        model.nbytes = 3  # type: ignore[misc]


def test_sizes_from_a_million_bytes_are_in_megabytes(path: Path) -> None:
    values = np.zeros((625, 1000), np.float32)
    net = Network((1, 1000))
    net.output(net.fully_connected(net.input, values))
    assert repr(Model(net.write(path))) == "Model('model.tflite', 2.5 MB)"


def test_the_path_stays_valid_in_another_folder(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network().write(path)
    monkeypatch.chdir(path.parent)
    model = Model(path.name)
    monkeypatch.chdir("/")
    assert model.path == path
    assert len(model.layers) == 1


@pytest.mark.parametrize("look", ["layers", "sparsity", "sha256", "data"])
def test_a_file_that_changed_is_not_read_on(look: str, path: Path) -> None:
    model = Model(network().write(path))
    network(encoding="sparse").write(path)
    with pytest.raises(ModelError, match=r"model\.tflite: the file has changed since"):
        getattr(model, look)
    with pytest.raises(ModelError, match="has changed"):
        model.weights(1)
    path.unlink()
    with pytest.raises(ModelError, match="No such file"):
        getattr(model, look)


def test_replacing_a_file_leaves_its_readers_their_data(path: Path) -> None:
    model = Model(network().write(path))
    values = model.stored(model.graph.tensors[1].buffer)
    before = values.tobytes()
    replace_file(path, b"short")
    assert values.tobytes() == before
    assert path.read_bytes() == b"short"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(path, b"")
    assert list(path.parent.iterdir()) == [path]


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, pytest_sparsity.model; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "tflite", "flatbuffers"} & set(run.stdout.split())


# -------------------------------------------------------------------------------------- faults


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.tflite", b"")


def outside(path: Path) -> None:
    """A buffer that says its bytes are elsewhere, as in files over 2 GB."""
    model = Model(network().write(path))

    def move(patch: Patch) -> None:
        entries, _ = patch.vector(patch.root, MODEL_BUFFERS)
        table = patch.append(struct.pack("<HHHHxxxxiQxxxx", 8, 16, 0, 4, 8, 4096), 8) + 12
        patch.overwrite(table, struct.pack("<iQ", 12, 4096))
        patch.point(entries + 4, table)

    patched(model, move, path)


def version_2(path: Path) -> None:
    model = Model(network().write(path))
    number = struct.pack("<I", 2)
    patched(model, lambda p: p.overwrite(p.field(p.root, MODEL_VERSION), number), path)


def damage(where: Callable[[Patch], int]) -> Callable[[Path], object]:
    """Write a 9 over a field of the model with two operators."""

    def change(patch: Patch) -> None:
        field = where(patch)
        assert field
        patch.overwrite(field, struct.pack("<I", 9))

    def make(path: Path) -> None:
        net = network()
        net.output(net.unary(net.input, "FLOOR"))
        patched(Model(net.write(path)), change, path)

    return make


def damage_indices(path: Path) -> None:
    model = Model(network().write(path))
    patched(model, lambda p: p.replace_numbers(p.operator(0, 0), OPERATOR_INPUTS, {1: 99}), path)


def damage_length(path: Path) -> None:
    def change(patch: Patch) -> None:
        start, _ = patch.vector(patch.tensor(0, 1), TENSOR_SHAPE)
        patch.overwrite(start - 4, struct.pack("<I", 2**20))

    patched(Model(network().write(path)), change, path)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (str, "No such file or directory"),
    "folder": (lambda path: path.mkdir(), "not a file"),
    "pipe": (os.mkfifo, "not a file"),
    "empty": (lambda path: path.touch(), "the file is empty"),
    "pointer": (
        lambda path: path.write_bytes(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
        ),
        r"a pointer of Git LFS instead of the file .*; run `git lfs pull`",
    ),
    "tiny": (lambda path: path.write_bytes(b"TF"), r"not a \.tflite file: bytes 4 to 8 are b''"),
    "text": (lambda path: path.write_text("a model"), r"not a \.tflite file"),
    "zip": (zipped, r"not a \.tflite file: .*TFL3"),
    "header": (lambda path: path.write_bytes(b"\x1c\0\0\0TFL3"), "points behind its end"),
    "zeros": (
        lambda path: path.write_bytes(b"\x08\0\0\0TFL3" + bytes(99)),
        "is damaged: it has a v",
    ),
    "outside": (outside, "points behind its end"),
    "version": (version_2, "schema version 2 is not 3"),
    "code": (
        damage(lambda p: p.field(p.operator(0, 1), OPERATOR_CODE_INDEX)),
        "it has an operator of code 9, of 2",
    ),
    "buffer": (
        damage(lambda p: p.field(p.tensor(0, 1), TENSOR_BUFFER)),
        "it has a tensor of buffer 9, of 3",
    ),
    "indices": (damage_indices, r"with tensors \(0, 99, 2\), of 4"),
    "long": (damage_length, "points behind its end"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_named_with_the_file(fault: str, path: Path) -> None:
    make, message = FAULTS[fault]
    make(path)
    with pytest.raises(ModelError, match=message) as caught:
        Model(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network().write(path)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModelError, match=r"model\.tflite: Permission denied"):
        Model(path)


def test_a_model_without_a_graph_is_refused(path: Path) -> None:
    model = Model(network().write(path))
    patched(model, lambda p: p.remove_elements(p.root, MODEL_SUBGRAPHS, {0}), path)
    with pytest.raises(ModelError, match="holds no graph"):
        Model(path)


def test_every_cut_is_noticed(path: Path) -> None:
    whole = network(encoding="sparse").to_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            Model(path)


def test_a_name_that_is_longer_than_the_file_is_refused(path: Path) -> None:
    def lengthen(patch: Patch) -> None:
        start, length = patch.vector(patch.tensor(0, 1), TENSOR_NAME)
        assert length == len("kernel")
        patch.overwrite(start - 4, struct.pack("<I", len(patch.data)))

    model = Model(network().write(path))
    patched(model, lengthen, path)
    with pytest.raises(ModelError, match="points behind its end"):
        Model(path)


def test_an_operator_without_its_operands_is_refused(path: Path) -> None:
    net = Network((1, 4, 4, 8))
    kernel = net.constant(np.ones((8, 1, 1, 8), np.float32))
    net.output(net.operator("CONV_2D", [net.input, None, kernel], (1, 4, 4, 8)))
    with pytest.raises(ModelError, match=r"operator 0 \(CONV_2D\) has the inputs \(0, -1, 1\)"):
        Model(net.write(path))
    net = Network((1, 4, 4, 8))
    flat = net.constant(np.ones((8, 8), np.float32))
    net.output(net.operator("CONV_2D", [net.input, flat], (1, 4, 4, 8)))
    with pytest.raises(ModelError, match=r"weights of the shape \(8, 8\), it needs 4 dimensions"):
        Model(net.write(path))


CONTRADICTIONS: dict[str, tuple[Callable[[Network], Operand], str]] = {
    "a convolution of three dimensions": (
        lambda net: net.operator(
            "CONV_2D",
            [net.reshape(net.input, (4, 4, 8)), net.constant(np.ones((8, 1, 1, 8), np.float32))],
            (1, 4, 4, 8),
        ),
        r"operator 1 \(CONV_2D\) has operand 0 of the shape \(4, 4, 8\), it needs 4 dimensions",
    ),
    "an output of two dimensions": (
        lambda net: net.operator("MAX_POOL_2D", [net.input], (4, 8), "Pool2DOptions"),
        r"\(MAX_POOL_2D\) has output of the shape \(4, 8\), it needs 4 dimensions",
    ),
    "weights of no size": (
        lambda net: net.operator(
            "CONV_2D",
            [net.input, net.constant(np.ones((0, 1, 1, 8), np.float32), shape=(8, 1, 1, 0))],
            (1, 4, 4, 8),
        ),
        r"\(CONV_2D\) has weights of the shape \(8, 1, 1, 0\)",
    ),
    "an axis that is not there": (
        lambda net: net.operator(
            "MEAN", [net.input, net.constant(np.array([1, 4], np.int32))], (1, 8), "ReducerOptions"
        ),
        r"\(MEAN\) has the axes \[1, 4\] for 4 dimensions",
    ),
    "axes that are fractions": (
        lambda net: net.operator("SUM", [net.input, net.constant(np.ones(2, np.float32))], (1, 8)),
        r"\(SUM\) has an operand 1 of float32, it needs whole numbers",
    ),
    "paddings of three dimensions": (
        lambda net: net.operator(
            "PAD", [net.input, net.constant(np.zeros((3, 2), np.int32))], (1, 4, 4, 8)
        ),
        r"\(PAD\) has paddings \(3, 2\) for 4 dimensions",
    ),
    "a split with one operand": (
        lambda net: net.operator("SPLIT", [net.input], (1, 4, 4, 8)),
        r"\(SPLIT\) has the inputs \(0,\) and outputs \(1,\), it needs 2 and one",
    ),
    "a convolution without options": (
        lambda net: net.operator(
            "CONV_2D", [net.input, net.constant(np.ones((8, 1, 1, 8), np.float32))], (1, 4, 4, 8)
        ),
        r"\(CONV_2D\) has no Conv2DOptions",
    ),
    "a step of 0": (
        lambda net: net.operator(
            "MAX_POOL_2D", [net.input], (1, 4, 4, 8), "Pool2DOptions", {"stride_h": 1}
        ),
        r"\(MAX_POOL_2D\) has stride_w 0, it needs at least 1",
    ),
    "a short bias": (
        lambda net: net.operator(
            "FULLY_CONNECTED",
            [
                net.reshape(net.input, (16, 8)),
                net.constant(np.ones((4, 8), np.float32)),
                net.constant(np.ones(3, np.float32)),
            ],
            (16, 4),
        ),
        r"\(FULLY_CONNECTED\) has a bias of the shape \(3,\) for 4 channels",
    ),
    "a computed bias of another length": (
        lambda net: net.operator(
            "FULLY_CONNECTED",
            [
                net.reshape(net.input, (16, 8)),
                net.constant(np.ones((4, 8), np.float32)),
                net.unary(net.constant(np.ones(5, np.float32)), "ABS"),
            ],
            (16, 4),
        ),
        r"\(FULLY_CONNECTED\) has a bias of the shape \(5,\) for 4 channels",
    ),
    "an order that leaves one out": (
        lambda net: net.operator(
            "TRANSPOSE", [net.input, net.constant(np.array([0, 1, 2, 2], np.int32))], (1, 4, 4, 8)
        ),
        r"\(TRANSPOSE\) has the order \[0, 1, 2, 2\] for 4 dimensions",
    ),
    "a difference of three": (
        lambda net: net.operator("SUB", [net.input] * 3, (1, 4, 4, 8), "SubOptions"),
        r"\(SUB\) has the inputs \(0, 0, 0\) and outputs \(1,\), it needs 2 and one",
    ),
    "a constant that another shape is unpacked from": (
        lambda net: net.operator(
            "DEQUANTIZE", [net.constant(np.ones((8, 2), np.float16))], (8, 3), "DequantizeOptions"
        ),
        r"\(DEQUANTIZE\) unpacks a constant \(8, 2\) as one of \(8, 3\)",
    ),
    "a slice without strides": (
        lambda net: net.operator("STRIDED_SLICE", [net.input] * 3, (1, 4, 4, 8)),
        r"\(STRIDED_SLICE\) has the inputs \(0, 0, 0\) and outputs \(1,\), it needs 4 and one",
    ),
}


@pytest.mark.parametrize("fault", CONTRADICTIONS)
def test_operators_that_no_kernel_can_run_are_refused(fault: str, path: Path) -> None:
    build, message = CONTRADICTIONS[fault]
    net = Network((1, 4, 4, 8))
    net.output(build(net))
    with pytest.raises(ModelError, match=message) as caught:
        Model(net.write(path))
    assert str(caught.value).startswith(f"{path}: operator ")


def test_a_tensor_that_is_read_before_it_is_written_is_refused(path: Path) -> None:
    net = Network((1, 4))
    net.output(net.unary(net.unary(net.input, "ABS"), "TANH"))
    flatbuffer = Model(net.write(path)).flatbuffer()
    flatbuffer.root["subgraphs"][0]["operators"].reverse()
    replace_file(path, pieces(flatbuffer))
    with pytest.raises(ModelError, match=r"\(TANH\) reads tensor 1, which is written only later"):
        Model(path)


@pytest.mark.parametrize(
    ("scales", "zeros", "dimension", "message"),
    [
        ([0.5, 0.5, 0.5], [0, 0, 0], 0, r"'kernel' has 3 scales for 8 entries"),
        ([0.5] * 8, [0], 0, r"'kernel' has 8 scales and 1 zero point"),
        ([0.5] * 8, [0] * 8, 7, r"'kernel' is quantized along dimension 7 of 4"),
        ([0.5] * 8, [0] * 8, 0, ""),
        ([0.5], [0], 0, ""),
        ([0.5, 0.5, 0.5], [], 0, ""),
    ],
)
def test_scales_that_no_runtime_takes_are_refused(
    scales: list[float], zeros: list[int], dimension: int, message: str, path: Path
) -> None:
    net = Network((1, 4, 4, 8))
    kernel = np.ones((8, 1, 1, 8), np.float32)
    net.output(net.conv2d(net.input, kernel, name="kernel"))
    flatbuffer = Model(net.write(path)).flatbuffer()
    tensors = flatbuffer.root["subgraphs"][0]["tensors"]
    (weights,) = (tensor for tensor in tensors if list(tensor["shape"]) == [8, 1, 1, 8])
    weights["name"] = b"kernel"
    weights["quantization"] = Table(
        "QuantizationParameters",
        scale=np.array(scales, np.float32),
        zero_point=np.array(zeros, np.int64),
        quantized_dimension=dimension,
    )
    replace_file(path, pieces(flatbuffer))
    if not message:
        assert len(Model(path).graph.operators) == 1
        return
    with pytest.raises(ModelError, match=message):
        Model(path)


def test_a_call_of_a_graph_that_is_not_there_is_refused(path: Path) -> None:
    flatbuffer = Model(DATA / "gru_sparse.tflite").flatbuffer()
    (loop,) = (
        operator
        for graph in flatbuffer.root["subgraphs"]
        for operator in graph["operators"]
        if operator["builtin_options"] and operator["builtin_options"].kind == "WhileOptions"
    )
    loop["builtin_options"]["body_subgraph_index"] = 7
    replace_file(path, pieces(flatbuffer))
    with pytest.raises(ModelError, match=r"\(WHILE\) has body_subgraph_index 7, of 3 graphs"):
        Model(path)
    del loop["builtin_options"]
    replace_file(path, pieces(flatbuffer))
    assert Model(path).layers is not None


def test_a_constant_that_is_written_is_refused(path: Path) -> None:
    net = Network((1, 4))
    net.output(net.add(net.input, net.constant(np.ones((1, 4), np.float32))))
    flatbuffer = Model(net.write(path)).flatbuffer()
    flatbuffer.root["subgraphs"][0]["operators"][0]["outputs"] = [1]
    replace_file(path, pieces(flatbuffer))
    with pytest.raises(ModelError, match=r"0 \(ADD\) writes tensor 1, which is constant"):
        Model(path)


def test_options_of_another_kind_are_not_read(path: Path) -> None:
    net = Network((1, 4))
    net.output(net.add(net.input, net.input))
    flatbuffer = Model(net.write(path)).flatbuffer()
    operator = flatbuffer.root["subgraphs"][0]["operators"][0]
    operator["builtin_options"] = Table("SoftmaxOptions", beta=2.0)
    replace_file(path, pieces(flatbuffer))
    assert Model(path).graph.operators[0].options == {"activation": "NONE", "pot_scale_int16": True}


def test_a_tensor_that_is_written_twice_is_refused(path: Path) -> None:
    net = Network((1, 4))
    net.output(net.unary(net.unary(net.input, "ABS"), "TANH"))
    flatbuffer = Model(net.write(path)).flatbuffer()
    flatbuffer.root["subgraphs"][0]["operators"][1]["outputs"] = [1]
    replace_file(path, pieces(flatbuffer))
    with pytest.raises(ModelError, match=r"1 \(TANH\) writes tensor 1, as operator 0 does"):
        Model(path)


def test_an_operator_with_a_second_output_is_refused(path: Path) -> None:
    flatbuffer = Model(network().write(path)).flatbuffer()
    flatbuffer.root["subgraphs"][0]["operators"][0]["outputs"] = [3, 0]
    replace_file(path, pieces(flatbuffer))
    with pytest.raises(ModelError, match=r"outputs \(3, 0\), it needs 2 and one"):
        Model(path)


def test_a_shape_that_is_not_known_yet_is_no_contradiction(path: Path) -> None:
    """The converter writes no dimensions for a tensor whose rank it does not know."""
    net = Network((1, 4, 4, 8))
    x = net.reshape(net.input, (1, 4, 4, 8))
    net.output(net.conv2d(x, np.ones((8, 1, 1, 8), np.float32)))
    flatbuffer = Model(net.write(path)).flatbuffer()
    flatbuffer.root["subgraphs"][0]["tensors"][x.index]["shape"] = []
    replace_file(path, pieces(flatbuffer))
    model = Model(path)
    assert len(model.layers) == 1
    analysis = analyse(model, "litert-js", "2.5.3", "wasm32", frozenset())
    assert str(analysis.delegation.refused[1]) == "the shape of a tensor is known only when it runs"


def damaged(sparsity: Sparsity, values: NDArray[Any], path: Path) -> Path:
    net = Network((1, 4, 4, 8))
    kernel = net.constant(values, "kernel", shape=(8, 1, 1, 8), sparsity=sparsity)
    net.output(net.conv2d(net.input, net.densify(kernel)))
    return net.write(path)


def test_an_inconsistent_encoding_is_named_with_its_tensor(path: Path) -> None:
    values, good = encode(np.eye(8, dtype=np.float32).reshape(8, 1, 1, 8))
    assert Model(damaged(good, values, path)).layers[0].sparsity == 0.875
    model = Model(damaged(good, values[:7], path))
    with pytest.raises(
        ModelError,
        match=r"model\.tflite: the weights of tensor 'kernel' are damaged: 7 values are stored, "
        r"the encoding needs 8",
    ):
        _ = model.layers
    with pytest.raises(ModelError, match="'kernel' are damaged: 7 values"):
        model.weights(1)


def test_a_fraction_of_a_value_is_damage(path: Path) -> None:
    values, good = encode(np.eye(8, dtype=np.float16).reshape(8, 1, 1, 8))
    bytes_ = values.view(np.uint8)[:15]
    half = with_type(Model(damaged(good, bytes_, path)), FLOAT16)
    with pytest.raises(ModelError, match="'kernel' are damaged: 15 bytes are no whole number of"):
        _ = half.layers


SOURCES = (
    network(encoding="sparse", dtype="float16").to_bytes(),
    (DATA / "mlp_sparse.tflite").read_bytes(),
    (DATA / "gru_sparse.tflite").read_bytes(),
)


@given(
    source=st.sampled_from(SOURCES),
    cut=st.none() | st.integers(0, 10**6),
    changes=st.lists(
        st.tuples(st.integers(0, 10**6), st.sampled_from((0, 1, 4, 127, 128, 255))), max_size=8
    ),
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_gives_a_model_or_a_model_error_and_takes_no_memory(
    path: Path, source: bytes, cut: int | None, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(source)
    for position, value in changes:
        content[position % len(content)] = value
    path.write_bytes(content if cut is None else content[: cut % len(content)])
    tracemalloc.start()
    try:
        read_everything(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**27


def read_everything(path: Path) -> None:
    model = attempt(path, lambda: Model(path))
    if model is None:
        return
    attempt(path, lambda: (model.layers, model.sparsity))
    for g, graph in enumerate(model.graphs):
        for tensor in graph.tensors:
            if tensor.constant:
                attempt(path, partial(model.weights, tensor.index, g))


def attempt(path: Path, look: Callable[[], T]) -> T | None:
    try:
        return look()
    except ModelError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    return None


# ------------------------------------------------------------------- weights that a call hands over


def test_weights_that_branches_are_handed_are_layers() -> None:
    model = Model(DATA / "branches.tflite")
    assert [(x.op, x.name, x.shape) for x in model.layers] == [
        ("FULLY_CONNECTED", "cond/input_2", (16, 8)),
        ("BATCH_MATMUL", "cond/input_0", (16, 8)),
    ]
    assert {(x.graph, model.graph.operators[x.operator].op) for x in model.layers} == {(0, "IF")}
    for layer in model.layers:
        weights = model.weights(layer.tensor, layer.graph)
        assert layer.sparsity == np.mean(weights == 0)
    assert model.sparsity == pytest.approx(165 / 256)


def test_what_a_branch_is_handed_may_be_computed(tmp_path: Path) -> None:
    """Then nothing is stored: the operand is the input here."""
    model = Model(DATA / "branches.tflite")
    edit = Edit(model)
    call = next(o for o in model.graph.operators if o.op == "IF")
    edit.operator(0, call.index)["inputs"] = [call.inputs[0], *[model.graph.inputs[0]] * 3]
    assert [x.name for x in edit.write(tmp_path / "handed.tflite").layers] == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_many_small_models_hold_no_descriptors(path: Path) -> None:
    net = Network((1, 4))
    net.output(net.unary(net.input, "ABS"))
    net.write(path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    models = [Model(path) for _ in range(5)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert len(models) == 5
