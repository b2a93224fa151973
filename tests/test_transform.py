"""Rewritten models: the same network to the bit, on real runtimes and when read back."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_sparsity import prunable_layers
from pytest_sparsity.encoding import encode as encode_values
from pytest_sparsity.errors import ModelError
from pytest_sparsity.inference import invoked
from pytest_sparsity.inputs import feed
from pytest_sparsity.model import Graph, Model, Operator, Tensor
from pytest_sparsity.targets import Target
from pytest_sparsity.transform import (
    densify,
    encode,
    flush,
    prune,
    replace_weights,
    rescale_sums,
    widen,
)
from pytest_sparsity.transform.densification import dense_fully_connected_version
from pytest_sparsity.transform.edit import Edit
from pytest_sparsity.writer import Network, Operand

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from pytest_sparsity.writer import DType, Encoding

    Densified: TypeAlias = dict[str, tuple[Model, Model, Model]]

DATA = Path(__file__).parent / "data"
NAMES = ("cnn", "cnn_float16", "cnn_int8", "gru", "mlp")
MODULES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
RUNTIMES = [
    pytest.param(name, marks=pytest.mark.skipif(not find_spec(module), reason=f"no {name}"))
    for name, module in MODULES.items()
]


def weights(*shape: int, sparsity: float = 0.7, seed: int = 0) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape, np.float32)
    return np.where(rng.random(shape) < sparsity, np.float32(0), values)


def data(name: str) -> Model:
    return Model(DATA / f"{name}.tflite")


def decoded(model: Model) -> list[bytes]:
    return [model.weights(x.tensor, x.graph).tobytes() for x in model.layers]


def metadata(model: Model) -> list[tuple[bytes, bytes]]:
    entries = model.flatbuffer().root["metadata"]
    return [(e["name"], model.stored(e["buffer"]).tobytes()) for e in entries]


def share_buffer(model: Model, tensor: int, other: int, path: Path) -> Model:
    """The model with one tensor using the buffer of another."""
    edit = Edit(model)
    edit.tensor(0, tensor)["buffer"] = edit.tensor(0, other)["buffer"]
    return edit.write(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.tflite"


# ----------------------------------------------------------------------------------- densified


def dense_with_what_is_left(name: str, path: Path) -> Model:
    """The converter's dense model, with the weights that its sparse one has not lost."""
    dense, sparse = data(f"{name}_dense"), data(f"{name}_sparse")
    left = {
        (a.graph, a.tensor): sparse.weights(b.tensor, b.graph)
        for a, b in zip(dense.layers, sparse.layers, strict=True)
    }
    return replace_weights(dense, left, path)


@pytest.fixture(scope="module")
def densified(tmp_path_factory: pytest.TempPathFactory) -> Densified:
    """The sparse model, its densified copy, and the dense model with the same weights."""
    folder = tmp_path_factory.mktemp("densified")
    found = {}
    for name in NAMES:
        sparse = data(f"{name}_sparse")
        copy = densify(sparse, folder / f"{name}_copy.tflite")
        found[name] = sparse, copy, dense_with_what_is_left(name, folder / f"{name}.tflite")
    return found


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_copy_computes_what_the_converter_s_dense_model_computes(
    runtime: str, densified: Densified, tmp_path: Path
) -> None:
    archive = tmp_path / "outputs.npz"
    models = [model for name in NAMES for model in densified[name]]
    command: list[str | Path] = [sys.executable, DATA / "run.py", runtime, archive]
    command += [model.path for model in models if model.path.stem != "cnn_int8_sparse"]
    subprocess.run(command, check=True, capture_output=True)
    outputs = np.load(archive)
    positions = iter(range(len(models)))
    for name in NAMES:
        encoded = None if name == "cnn_int8" else next(positions)
        copy, dense = next(positions), next(positions)
        for kernels in ("default", "builtin"):
            expected = outputs[f"{dense}/{kernels}/0"]
            got = outputs[f"{copy}/{kernels}/0"]
            assert expected.std() > 0
            assert got.tobytes() == expected.tobytes(), (name, kernels)
            if encoded is not None:
                np.testing.assert_allclose(
                    outputs[f"{encoded}/{kernels}/0"], got, rtol=1e-5, atol=1e-5
                )


@pytest.mark.parametrize("name", NAMES)
def test_the_copy_holds_the_same_weights_without_encoding(name: str, densified: Densified) -> None:
    sparse, copy, dense = densified[name]
    assert sparse.encoded
    assert not copy.encoded
    assert {x.encoding for x in copy.layers} == {"dense"}
    assert decoded(copy) == decoded(sparse) == decoded(dense)
    assert [x.name for x in copy.layers] == [x.name for x in sparse.layers]
    assert copy.sparsity == sparse.sparsity


@pytest.mark.parametrize("name", NAMES)
def test_the_copy_has_the_operators_of_the_converter_s_dense_model(
    name: str, densified: Densified
) -> None:
    _, copy, dense = densified[name]
    for ours, theirs in zip(copy.graphs, dense.graphs, strict=True):
        described = [[(o.op, o.version, o.options) for o in g.operators] for g in (ours, theirs)]
        assert described[0] == described[1]
        assert "DENSIFY" not in {o.op for o in ours.operators}


def outline(graph: Graph) -> tuple[list[list[str]], list[list[object]]]:
    """What a graph takes and gives, and the tensors that anything refers to."""
    used = {*graph.inputs, *graph.outputs}
    used |= {i for o in graph.operators for i in (*o.inputs, *o.outputs)}
    fields = ("name", "shape", "dtype", "constant", "buffer", "scales")
    tensors = [[getattr(t, f) for f in fields] for t in graph.tensors if t.index in used]
    named = [[graph.tensors[i].name for i in ends] for ends in (graph.inputs, graph.outputs)]
    return named, tensors


@pytest.mark.parametrize("name", NAMES)
def test_all_else_stays(name: str, densified: Densified) -> None:
    sparse, copy, _ = densified[name]
    assert metadata(copy) == metadata(sparse) != []
    for before, after in zip(sparse.graphs, copy.graphs, strict=True):
        unpacked = {o.outputs[0] for o in before.operators if o.op == "DENSIFY"}
        given, tensors = outline(before)
        assert outline(after)[0] == given
        assert len(after.tensors) == len(before.tensors) - len(unpacked)
        names = {before.tensors[i].name for i in unpacked}
        left = [tensor for tensor in tensors if tensor[0] not in names]
        assert [tensor for tensor in outline(after)[1] if tensor[0] not in names] == left


def test_a_dense_model_keeps_all_its_facts(path: Path) -> None:
    model = data("cnn_dense")
    copy = densify(model, path)
    assert copy.graphs == model.graphs
    assert decoded(copy) == decoded(model)
    assert metadata(copy) == metadata(model)
    again = densify(copy, path.with_name("again.tflite"))
    assert again.sha256 == copy.sha256


def test_a_copy_may_replace_its_model(path: Path) -> None:
    path.write_bytes((DATA / "cnn_sparse.tflite").read_bytes())
    model = Model(path)
    copy = densify(model, path)
    assert copy.path == path
    assert decoded(copy) == decoded(data("cnn_sparse"))
    with pytest.raises(ModelError, match="has changed"):
        _ = model.layers


def test_an_output_that_is_densified_becomes_the_constant(path: Path) -> None:
    net = Network((1, 4))
    kernel = net.weights(np.eye(4, dtype=np.float32), "kernel", encoding="sparse")
    net.output(net.unary(net.input, "ABS"), kernel)
    copy = densify(Model(net.write(path)), path)
    graph = copy.graph
    assert [graph.tensors[i].name for i in graph.outputs] == ["abs_1", "kernel"]
    assert [o.op for o in graph.operators] == ["ABS"]


def test_weights_shared_by_encodings_of_both_kinds(path: Path) -> None:
    """One tensor for two layers, and once with DENSIFY and once without."""
    net = Network((1, 8))
    values, sparsity = encode_values(weights(8, 8), 4)
    shared = net.constant(values, "shared", shape=(8, 8), sparsity=sparsity)
    x = net.fully_connected(net.input, shared)
    net.output(net.fully_connected(net.fully_connected(x, shared), net.densify(shared)))
    copy = densify(Model(net.write(path)), path)
    assert [(o.op, o.version, o.inputs[1]) for o in copy.graph.operators] == [
        ("FULLY_CONNECTED", 1, shared.index)
    ] * 3
    np.testing.assert_array_equal(copy.weights(shared.index), weights(8, 8))


def test_one_buffer_for_two_meanings_keeps_both(path: Path) -> None:
    net = Network((1, 8))
    sparse = net.weights(np.eye(8, dtype=np.float32), "sparse", encoding="sparse")
    dense = net.constant(np.full((8, 1), 3, np.float32), "dense")
    net.output(net.add(net.fully_connected(net.input, sparse), net.reshape(dense, (1, 8))))
    model = share_buffer(Model(net.write(path)), dense.index, sparse.index - 1, path)
    copy = densify(model, path.with_name("copy.tflite"))
    index = {tensor.name: tensor.index for tensor in copy.graph.tensors}
    np.testing.assert_array_equal(copy.weights(index["sparse"]), np.eye(8, dtype=np.float32))
    assert copy.weights(index["dense"]).tobytes() == np.ones((8, 1), np.float32).tobytes()


def test_an_inconsistent_encoding_has_no_copy(path: Path) -> None:
    net = Network((1, 8))
    values, sparsity = encode_values(np.eye(8, dtype=np.float32))
    kernel = net.constant(values[:-1], "kernel", shape=(8, 8), sparsity=sparsity)
    net.output(net.fully_connected(net.input, net.densify(kernel)))
    model = Model(net.write(path))
    before = model.sha256
    with pytest.raises(ModelError, match="'kernel' are damaged"):
        densify(model, path)
    assert Model(path).sha256 == before


@st.composite
def networks(draw: st.DrawFn) -> Network:
    net = Network((1, 4, 4, 8))
    x = net.input
    seeds = st.integers(0, 2**16)
    for _ in range(draw(st.integers(1, 4))):
        dtype: DType = draw(st.sampled_from(("float32", "float16")))
        encoding: Encoding = draw(st.sampled_from(("dense", "sparse")))
        kernel = weights(8, 1, 1, 8, sparsity=draw(st.floats(0, 1)), seed=draw(seeds))
        x = net.conv2d(x, kernel, encoding=encoding, dtype=dtype)
    x = net.mean(x)
    for _ in range(draw(st.integers(0, 3))):
        block: Encoding = draw(st.sampled_from(("dense", "sparse", "block 1x4")))
        kernel = weights(8, 8, sparsity=draw(st.floats(0, 1)), seed=draw(seeds))
        x = net.fully_connected(x, kernel, encoding=block)
    net.output(x)
    return net


@given(networks())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_network_has_a_copy(path: Path, net: Network) -> None:
    model = Model(net.write(path))
    copy = densify(model, path.with_name("copy.tflite"))
    assert not copy.encoded
    assert decoded(copy) == decoded(model)
    ops = [o.op for o in model.graph.operators if o.op != "DENSIFY"]
    assert [o.op for o in copy.graph.operators] == ops
    assert {o.version for o in copy.graph.operators if o.op == "FULLY_CONNECTED"} <= {1}


@pytest.mark.parametrize(
    ("x", "kernel", "operands", "options", "version"),
    [
        ("float32", "float32", 3, {}, 1),
        ("float32", "float32", 2, {}, 6),
        ("float32", "float32", 3, {"keep_num_dims": True}, 5),
        ("int8", "int8", 3, {}, 4),
        ("float32", "int8", 3, {}, 3),
        ("float32", "int8", 3, {"asymmetric_quantize_inputs": True}, 9),
    ],
)
def test_versions_of_fully_connected(
    x: str, kernel: str, operands: int, options: dict[str, object], version: int
) -> None:
    tensors = tuple(
        Tensor(i, "", (1, 1), dtype, False, 0, None, False, (), (), 0, False)
        for i, dtype in enumerate((x, kernel, "float32"))
    )
    operator = Operator(0, "FULLY_CONNECTED", 8, tuple(range(operands)), (2,), options)
    graph = Graph(tensors, (operator,), (0,), (2,))
    assert dense_fully_connected_version(graph, operator) == version


# ------------------------------------------------------------------------------------- flushed


def subnormal(*shape: int) -> NDArray[Any]:
    values = weights(*shape)
    values.reshape(-1)[:6] = (1e-40, -1e-40, 1.1754942e-38, 1.17549435e-38, -0.0, np.inf)
    return values


def test_subnormals_become_zeros_of_their_sign(path: Path) -> None:
    values = subnormal(8, 8)
    net = Network((1, 8))
    net.output(net.fully_connected(net.input, values, np.full(8, -1e-39, np.float32)))
    model = Model(net.write(path))
    copy = flush(model, path.with_name("copy.tflite"))
    assert (model.layers[0].subnormals, copy.layers[0].subnormals) == (3, 0)
    expected = values.copy()
    expected.reshape(-1)[:3] = (0.0, -0.0, 0.0)
    assert copy.weights(1).tobytes() == expected.tobytes()
    bias = copy.weights(2)
    assert not bias.any()
    assert np.signbit(bias).all()
    assert copy.nbytes == model.nbytes


@pytest.mark.parametrize("encoding", ["sparse", "block 1x4"])
def test_subnormals_of_encoded_weights_are_flushed_where_they_are(
    encoding: Any, path: Path
) -> None:
    net = Network((1, 8))
    net.output(net.fully_connected(net.input, subnormal(8, 8), encoding=encoding))
    model = Model(net.write(path))
    copy = flush(model, path.with_name("copy.tflite"))
    assert (model.layers[0].subnormals, copy.layers[0].subnormals) == (3, 0)
    assert copy.layers[0].encoding == encoding
    before, after = model.weights(1), copy.weights(1)
    tiny = (before != 0) & (np.abs(before) < np.finfo(np.float32).tiny)
    assert not after[tiny].any()
    np.testing.assert_array_equal(after[~tiny], before[~tiny])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_widened_constants_compute_the_same(path: Path, runtime: str) -> None:
    model = data("cnn_float16_dense")
    wide = widen(model, path)
    assert not [t for t in wide.graph.tensors if t.constant and t.dtype == "float16"]
    assert not [o for o in wide.graph.operators if o.op == "DEQUANTIZE"]
    fed = feed(model)
    with Target.of(runtime).open() as worker:
        found = []
        for each in (model, wide):
            worker.load("model", each)
            found.append(invoked(worker, "model", fed.like(each), range(2)))
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_without_halves_stays_as_it_is(path: Path) -> None:
    model = data("cnn_dense")
    assert decoded(widen(model, path)) == decoded(model)


def pooled(net: Network, x: Operand, activation: str) -> Operand:
    """The averages of an image of 8x8x4 in four quarters."""
    sizes = dict.fromkeys(("stride_h", "stride_w", "filter_height", "filter_width"), 4)
    options = {"padding": "VALID", "fused_activation_function": activation, **sizes}
    return net.operator("AVERAGE_POOL_2D", [x], (1, 2, 2, 4), "Pool2DOptions", options)


def sums(net: Network, x: Operand, op: str) -> Operand:
    """Of an image of 8x8x4: an operator that adds up what was computed."""
    if op == "MEAN":
        return net.mean(x)
    if op == "SUM":
        axes = net.constant(np.array([0, 1, 2, 3], np.int32))
        return net.operator("SUM", [x, axes], (), "ReducerOptions", {"keep_dims": False})
    if op == "CUMSUM":
        axis = net.constant(np.array(1, np.int32))
        return net.operator("CUMSUM", [x, axis], x.shape, "CumsumOptions", {})
    if op == "BATCH_MATMUL":
        return net.operator(
            "BATCH_MATMUL", [x, x], (1, 8, 8, 8), "BatchMatMulOptions", {"adj_y": True}
        )
    return pooled(net, x, op)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("op", ["MEAN", "SUM", "CUMSUM", "BATCH_MATMUL", "NONE", "RELU"])
def test_rescaled_sums_are_the_same_but_for_rounding(path: Path, runtime: str, op: str) -> None:
    net = Network((1, 8, 8, 4))
    net.output(net.unary(sums(net, net.unary(net.input, "NEG"), op), "TANH"))
    model = Model(net.write(path))
    drawn = np.random.default_rng(0).uniform(-1, 1, (3, 1, 8, 8, 4)).astype(np.float32)
    fed, factors = feed(model, drawn), []

    def factor() -> float:
        factors.append(1.37)
        return 1.37

    copy = rescale_sums(model, factor, path.with_name("copy.tflite"))
    assert len(factors) == 1
    assert [operator.op for operator in copy.graph.operators].count("MUL") == 2
    with Target.of(runtime).open() as worker:
        found = []
        for each in (model, copy):
            worker.load("model", each)
            found.append(
                np.stack([o for [o] in invoked(worker, "model", fed.like(each), range(3))])
            )
    assert found[0].shape == found[1].shape
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)
    assert (found[1] != found[0]).any(), "it is rounded as before"


def test_what_is_no_plain_sum_stays_as_it_is(path: Path) -> None:
    """A clipped one has no factor that it could be divided by; weights can be moved instead."""
    net = Network((1, 8, 8, 4))
    x = net.conv2d(net.input, weights(4, 1, 1, 4))
    net.output(net.softmax(pooled(net, x, "RELU6")))
    model = Model(net.write(path))
    copy = rescale_sums(model, pytest.fail, path.with_name("copy.tflite"))
    assert copy.graph.operators == model.graph.operators
    assert decoded(copy) == decoded(model)


def test_other_types_and_models_without_subnormals_stay_as_they_are(path: Path) -> None:
    net = Network((1, 8))
    kernel = weights(8, 8) * np.float32(1e-6)  # subnormal as float16
    y = net.fully_connected(net.input, kernel, dtype="float16")
    net.output(net.reshape(y, (8,)))  # its shape is an int32 of 8: as a float32, subnormal
    for model in (Model(net.write(path)), data("cnn_dense")):
        copy = flush(model, path.with_name("copy.tflite"))
        assert copy.graphs == model.graphs
        assert decoded(copy) == decoded(model)


def test_values_that_are_not_only_float_are_flushed_for_those_that_are(path: Path) -> None:
    net = Network((1, 8))
    tiny = net.constant(np.full(1, 1e-40, np.float32), "tiny")
    y = net.reshape(net.add(net.input, tiny), (8,))
    net.output(y)
    shape = y.index - 1
    model = share_buffer(Model(net.write(path)), tiny.index, shape, path)
    copy = flush(model, path.with_name("copy.tflite"))
    assert model.weights(tiny.index).view(np.int32) == copy.weights(shape) == 8
    assert not copy.weights(tiny.index).view(np.int32).any()


# ----------------------------------------------------------------------------- replace_weights


def test_only_the_replaced_values_change(path: Path) -> None:
    model = data("cnn_dense")
    layer = model.layers[2]
    values = weights(*layer.shape, seed=9)
    copy = replace_weights(model, {layer.tensor: values}, path)
    assert copy.weights(layer.tensor).tobytes() == values.tobytes()
    assert copy.graphs == model.graphs
    others = [t.index for t in model.graph.tensors if t.constant and t.index != layer.tensor]
    for index in others:
        assert copy.weights(index).tobytes() == model.weights(index).tobytes()


def test_weights_of_subgraphs_are_replaced(path: Path) -> None:
    model = data("gru_dense")
    layer = model.layers[1]
    values = weights(*layer.shape)
    copy = replace_weights(model, {(layer.graph, layer.tensor): values}, path)
    assert layer.graph == 2
    assert copy.weights(layer.tensor, 2).tobytes() == values.tobytes()


def test_values_need_not_be_contiguous(path: Path) -> None:
    net = Network((1, 8))
    net.output(net.fully_connected(net.input, weights(4, 8)))
    values = weights(8, 4, seed=3).T
    copy = replace_weights(Model(net.write(path)), {1: values}, path)
    np.testing.assert_array_equal(copy.weights(1), values)


def test_what_cannot_be_replaced_is_refused(path: Path) -> None:
    net = Network((1, 8))
    sparse = net.weights(weights(8, 8), encoding="sparse")
    net.output(net.fully_connected(net.fully_connected(net.input, sparse), weights(4, 8)))
    model = Model(net.write(path))
    dense = model.layers[1].tensor
    for index, values, message in (
        (0, weights(1, 8), "'input_0' is not a densely stored constant"),
        (sparse.index - 1, weights(8, 8), "is not a densely stored constant"),
        (dense, weights(8, 4), r"is float32 \(4, 8\), not float32 \(8, 4\)"),
        (dense, weights(4, 8).astype(np.float64), "not float64"),
    ):
        with pytest.raises(ValueError, match=message):
            replace_weights(model, {index: values}, path)


def test_values_shared_by_tensors_change_for_the_one_that_is_replaced(path: Path) -> None:
    net = Network((1, 8))
    old, new, other = (weights(8, 8, seed=seed) for seed in range(3))
    x = net.fully_connected(net.input, old, name="first")
    net.output(net.fully_connected(x, new, name="second"))
    model = share_buffer(Model(net.write(path)), 3, 1, path)
    assert decoded(model) == [old.tobytes()] * 2
    for replaced in ({1: new}, {3: new}, {1: new, 3: other}, {1: new, 3: new}):
        copy = replace_weights(model, replaced, path.with_name("copy.tflite"))
        assert decoded(copy) == [replaced.get(tensor, old).tobytes() for tensor in (1, 3)]


# -------------------------------------------------------------------------------------- encode


def in_blocks(*shape: int, block: int, sparsity: float, seed: int = 0) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape, np.float32)
    kept = rng.random((*shape[:-1], shape[-1] // block)) >= sparsity
    return values * np.repeat(kept, block, axis=-1)


def encodings(model: Model) -> list[str]:
    return [layer.encoding for layer in model.layers]


def lossless(before: Model, after: Model) -> bool:
    pairs = zip(before.layers, after.layers, strict=True)
    return all(
        np.array_equal(before.weights(a.tensor, a.graph), after.weights(b.tensor, b.graph))
        for a, b in pairs
    )


@pytest.mark.parametrize("name", NAMES)
def test_encoding_is_never_larger_than_the_converter_s(name: str, path: Path) -> None:
    dense = data(f"{name}_dense")
    ours = encode(dense, path)
    assert ours.nbytes <= data(f"{name}_sparse").nbytes
    assert ours.nbytes <= 1.01 * dense.nbytes
    assert lossless(dense, ours)
    assert metadata(ours) == metadata(dense)
    assert [(o.op, o.version) for o in ours.graph.operators if o.op not in CHANGED] == [
        (o.op, o.version) for o in dense.graph.operators if o.op not in CHANGED
    ]


CHANGED = {"DENSIFY", "FULLY_CONNECTED"}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_encoded_models_compute_the_same(runtime: str, tmp_path: Path) -> None:
    pairs = []
    for name in NAMES:
        dense = densify(data(f"{name}_dense"), tmp_path / f"{name}_dense.tflite")
        pairs.append((dense, encode(dense, tmp_path / f"{name}.tflite")))
    archive = tmp_path / "outputs.npz"
    command: list[str | Path] = [sys.executable, DATA / "run.py", runtime, archive]
    command += [model.path for pair in pairs for model in pair]
    subprocess.run(command, check=True, capture_output=True)
    outputs = np.load(archive)
    for i, name in enumerate(NAMES):
        for kernels in ("default", "builtin"):
            expected, got = (outputs[f"{2 * i + j}/{kernels}/0"] for j in (0, 1))
            assert expected.std() > 0
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_encoding_can_be_undone(name: str, path: Path) -> None:
    dense = data(f"{name}_dense")
    back = densify(encode(dense, path), path.with_name("back.tflite"))
    assert back.graphs == dense.graphs
    assert lossless(dense, back)


@pytest.mark.parametrize(
    ("zeros", "block", "width", "dtype", "encoding"),
    [
        (0.1, 1, 64, "float32", "dense"),
        (0.5, 1, 64, "float32", "sparse"),
        (0.95, 1, 64, "float32", "sparse"),
        (0.99, 1, 64, "float32", "block 1x4"),
        (0.99, 1, 63, "float32", "sparse"),
        (0.6, 4, 64, "float32", "block 1x4"),
        (0.99, 1, 64, "float16", "sparse"),
        (0.9, 4, 64, "float16", "sparse"),
        (0.9, 1, 64, "int8", "dense"),
        (0.9, 16, 64, "int8", "block 1x16"),
        (0.9, 16, 72, "int8", "dense"),
    ],
)
def test_which_encoding_linear_layers_get(
    zeros: float, block: int, width: int, dtype: DType, encoding: str, path: Path
) -> None:
    kernel = in_blocks(128, width + -width % block, block=block, sparsity=zeros)[:, :width]
    int8 = dtype == "int8"
    net = Network((1, width), "int8" if int8 else "float32")
    x = net.quantize(net.add_input((1, width)), 0.1) if int8 else net.input
    y = net.fully_connected(x, kernel, dtype=dtype, per_channel=False, name="kernel", scale=0.1)
    net.output(y)
    dense = Model(net.write(path))
    ours = encode(dense, path.with_name("encoded.tflite"))
    assert encodings(ours) == [encoding]
    assert lossless(dense, ours)
    versions = {o.version for o in ours.graph.operators if o.op == "FULLY_CONNECTED"}
    assert versions == ({8} if encoding.startswith("block") else {4 if int8 else 1})


def test_int8_weights_of_a_float_layer_stay_dense(path: Path) -> None:
    """Of convolutions and linear layers alike: their encoded files do not load."""
    net = Network((1, 4, 4, 64))
    x = net.conv2d(net.input, weights(64, 1, 1, 64, sparsity=0.9), dtype="int8")
    net.output(net.fully_connected(net.mean(x), weights(64, 64, sparsity=0.9), dtype="int8"))
    model = Model(net.write(path))
    assert encodings(encode(model, path.with_name("encoded.tflite"))) == ["dense", "dense"]


def test_int8_blocks_with_a_scale_per_channel_stay_dense(path: Path) -> None:
    net = Network((1, 64))
    kernel = in_blocks(64, 64, block=16, sparsity=0.9)
    x = net.quantize(net.input, 0.1)
    net.output(net.fully_connected(x, kernel, per_channel=True))
    assert encodings(encode(Model(net.write(path)), path)) == ["dense"]


def test_only_the_layer_with_blocks_leaves_xnnpack(path: Path) -> None:
    """The converter gives all of them the version for blocks, which XNNPACK does not take."""
    net = Network((1, 64))
    x = net.fully_connected(net.input, in_blocks(64, 64, block=4, sparsity=0.95))
    net.output(net.fully_connected(x, weights(64, 64, sparsity=0.1)))
    ours = encode(Model(net.write(path)), path)
    assert [o.version for o in ours.graph.operators] == [8, 1]


def test_one_small_layer_is_encoded_so_that_the_rest_runs_sparse(path: Path) -> None:
    def pointwise(zeros: float) -> Model:
        net = Network((1, 8, 8, 3))
        x = net.conv2d(net.pad(net.input, 1), weights(8, 3, 3, 3, sparsity=0), stride=2)
        for seed in range(3):
            x = net.conv2d(x, weights(8, 1, 1, 8, sparsity=zeros, seed=seed))
        net.output(net.mean(x))
        return Model(net.write(path.with_name(f"{zeros}.tflite")))

    few, many = pointwise(0.5), pointwise(0.8)
    assert encodings(encode(few, path)) == ["dense"] * 4
    ours = encode(many, path)
    assert sorted(encodings(ours)) == ["dense"] * 3 + ["sparse"]
    assert ours.nbytes > many.nbytes


def test_weights_that_something_else_reads_stay_dense(path: Path) -> None:
    net = Network((1, 64))
    kernel = net.constant(weights(64, 64, sparsity=0.9), "kernel")
    y = net.fully_connected(net.input, kernel)
    net.output(net.add(y, net.mean(kernel, axes=(0,), keep_dims=True)))
    assert encodings(encode(Model(net.write(path)), path)) == ["dense"]


def test_values_shared_by_tensors_of_two_shapes_stay_dense(path: Path) -> None:
    net = Network((1, 4, 4, 8))
    wide = weights(16, 1, 1, 8, sparsity=0.9)
    narrow = np.ones((8, 1, 1, 16), np.float32)
    net.output(net.conv2d(net.conv2d(net.input, wide), narrow))
    model = Model(net.write(path))
    first, second = (layer.tensor for layer in model.layers)
    shared = share_buffer(model, second, first, path.with_name("shared.tflite"))
    copy = encode(shared, path)
    assert [layer.encoding for layer in copy.layers] == ["dense", "dense"]
    assert decoded(copy) == decoded(shared)


def test_shared_weights_are_encoded_once(path: Path) -> None:
    net = Network((1, 64))
    shared = net.constant(weights(64, 64, sparsity=0.9), "shared")
    x = net.fully_connected(net.input, shared)
    net.output(net.fully_connected(x, net.constant(weights(64, 64, sparsity=0.9), "other")))
    model = Model(net.write(path))
    both = share_buffer(model, model.layers[1].tensor, shared.index, path.with_name("both.tflite"))
    ours = encode(both, path.with_name("encoded.tflite"))
    assert encodings(ours) == ["sparse", "sparse"]
    assert len({ours.graph.tensors[layer.tensor].buffer for layer in ours.layers}) == 1
    alone = encode(model, path.with_name("alone.tflite"))
    orphan = 64 * 64 * 4  # the buffer that nobody uses any more is kept as it was
    assert ours.nbytes - orphan < alone.nbytes - ours.layers[0].nbytes // 2
    assert lossless(both, ours)


def test_what_is_encoded_stays_so(path: Path) -> None:
    model = data("cnn_sparse")
    assert encodings(encode(model, path)) == encodings(model)


@given(networks())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_encoding_and_densifying_change_no_weight(path: Path, net: Network) -> None:
    model = Model(net.write(path))
    ours = encode(model, path.with_name("encoded.tflite"))
    back = densify(ours, path.with_name("back.tflite"))
    assert lossless(model, ours)
    assert lossless(model, back)
    assert not back.encoded
    assert [o.op for o in back.graph.operators] == [
        o.op for o in model.graph.operators if o.op != "DENSIFY"
    ]


# --------------------------------------------------------------------------------------- prune


def test_the_smallest_weights_of_each_layer_become_zero(path: Path) -> None:
    dense = data("cnn_dense")
    pruned = prune(dense, path, sparsity=0.9)
    for before, after in zip(dense.layers, pruned.layers, strict=True):
        old, new = dense.weights(before.tensor), pruned.weights(after.tensor)
        if before not in prunable_layers(dense):
            assert new.tobytes() == old.tobytes()
            continue
        assert after.sparsity == round(0.9 * old.size) / old.size
        kept = new != 0
        np.testing.assert_array_equal(new[kept], old[kept])
        assert np.abs(old[~kept]).max() <= np.abs(old[kept]).min()
    assert metadata(pruned) == metadata(dense)


@pytest.mark.parametrize(("pattern", "group", "zeros"), [("1x4", 4, 4), ("2:4", 4, 2)])
def test_patterns_of_zeros(pattern: str, group: int, zeros: int, path: Path) -> None:
    net = Network((1, 64))
    kernel = weights(32, 64, sparsity=0)
    net.output(net.fully_connected(net.input, kernel))
    pruned = prune(Model(net.write(path)), path, sparsity=0.75, pattern=pattern).weights(1)
    gone = (pruned == 0).reshape(-1, group).sum(axis=1)
    means = np.abs(kernel).reshape(-1, group).mean(axis=1)
    if zeros == group:
        assert set(gone.tolist()) == {0, 4}
        assert (gone == 4).mean() == 0.75
        assert means[gone == 4].max() <= means[gone == 0].min()
    else:
        assert set(gone.tolist()) == {2}
    np.testing.assert_array_equal(pruned[pruned != 0], kernel[pruned != 0])


def test_quantized_weights_are_compared_in_the_network_s_units(path: Path) -> None:
    net = Network((1, 1, 1, 4))
    kernel = np.array([[100, 90, 80, 70], [4, 3, 2, 1]], np.float32).reshape(2, 1, 1, 4)
    net.output(net.conv2d(net.quantize(net.input, 0.1), kernel, scale=1.0))
    pruned = prune(Model(net.write(path)), path, sparsity=0.5)
    assert (pruned.weights(pruned.layers[0].tensor) == 0).reshape(2, 4).tolist() == [
        [False] * 4,
        [True] * 4,
    ]


def test_layers_by_name_and_index(path: Path) -> None:
    dense = data("cnn_dense")
    names = [layer.name for layer in dense.layers]
    for chosen in ([0], ["0"], [names[0]]):
        pruned = prune(dense, path, sparsity=1, layers=chosen)
        assert [layer.sparsity == 1 for layer in pruned.layers] == [True] + [False] * 4
    everything = prune(dense, path, sparsity=0.9, layers="all")
    assert min(layer.sparsity for layer in everything.layers) > 0.85


def test_shared_weights_stay_shared_when_pruned(path: Path) -> None:
    net = Network((1, 64))
    x = net.fully_connected(net.input, weights(64, 64, sparsity=0), name="first")
    net.output(net.fully_connected(x, weights(64, 64, sparsity=0), name="second"))
    model = share_buffer(Model(net.write(path)), 3, 1, path)
    pruned = prune(model, path.with_name("pruned.tflite"))
    assert len(set(decoded(pruned))) == 1
    assert pruned.nbytes <= model.nbytes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 1.2}, r"sparsity=1\.2 is not between 0 and 1"),
        ({"pattern": "channels"}, "'channels' removes outputs"),
        ({"sparsity": 80}, r"sparsity=80 is not between 0 and 1: 80 % is 0\.8"),
        ({"pattern": "4:2"}, "0 < m < n"),
        ({"pattern": "4x1"}, "'channels'; blocks lie along the inputs here: '1x4'"),
        ({"layers": ["none"]}, r"has no layer 'none'; it has 0 'model/conv2d/Conv2D'"),
        ({"layers": [2], "pattern": "1x16"}, r"has 8 inputs, no multiple of 16, which 1x16 needs"),
        ({"pattern": "1x32"}, r"has no layer to prune so; name some of these: 0 'model"),
    ],
)
def test_what_cannot_be_pruned_is_said(arguments: dict[str, Any], message: str, path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        prune(data("cnn_dense"), path, **arguments)
    with pytest.raises(ValueError, match="is sparse-encoded: densify the file first"):
        prune(data("cnn_sparse"), path)
    assert not path.exists()


@pytest.mark.parametrize(
    "transform",
    [densify, encode, flush, widen, lambda model, path: rescale_sums(model, lambda: 1.0, path)],
)
def test_what_branches_are_handed_survives(path: Path, transform: Any) -> None:
    model = data("branches")
    fed = feed(model, np.random.default_rng(0).standard_normal((2, 1, 16)).astype(np.float32))
    found = []
    with Target.of("litert").open() as worker:
        for each in (model, Model.of(getattr(transform(model, path), "model", path))):
            worker.load("model", each)
            found.append(invoked(worker, "model", fed.like(each), range(2)))
    np.testing.assert_array_equal(found[0], found[1])
