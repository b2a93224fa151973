"""Rewritten models: the same network to the bit, on real runtimes and when read back."""

from __future__ import annotations

import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_sparsity.encoding import encode
from pytest_sparsity.errors import ModelError
from pytest_sparsity.model import Graph, Model, Operator, Tensor
from pytest_sparsity.twin import (
    dense_fully_connected_version,
    densified,
    flushed,
    replace_weights,
)
from pytest_sparsity.twin.patch import TENSOR_SPARSITY, Patch
from pytest_sparsity.writer import Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_sparsity.writer import DType, Encoding

DATA = Path(__file__).parent / "data"
NAMES = ("cnn", "cnn_float16", "cnn_int8", "gru", "mlp")
MODULES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
RUNTIMES = [
    pytest.param(name, marks=pytest.mark.skipif(not find_spec(module), reason=f"no {name}"))
    for name, module in MODULES.items()
]
TENSOR_BUFFER = 8


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
    patch = Patch(model)
    field = patch.field(patch.tensor(0, tensor), TENSOR_BUFFER)
    assert field
    patch.overwrite(field, struct.pack("<I", model.graph.tensors[other].buffer))
    return patch.write(path)


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
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Model, Model, Model]]:
    """The sparse model, its twin, and the dense model with the same weights."""
    folder = tmp_path_factory.mktemp("twins")
    found = {}
    for name in NAMES:
        sparse = data(f"{name}_sparse")
        twin = densified(sparse, folder / f"{name}_twin.tflite")
        found[name] = sparse, twin, dense_with_what_is_left(name, folder / f"{name}.tflite")
    return found


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_twin_computes_what_the_converter_s_dense_model_computes(
    runtime: str, twins: dict[str, tuple[Model, Model, Model]], tmp_path: Path
) -> None:
    archive = tmp_path / "outputs.npz"
    models = [model for name in NAMES for model in twins[name]]
    command: list[str | Path] = [sys.executable, DATA / "run.py", runtime, archive]
    command += [model.path for model in models if model.path.stem != "cnn_int8_sparse"]
    subprocess.run(command, check=True, capture_output=True)
    outputs = np.load(archive)
    positions = iter(range(len(models)))
    for name in NAMES:
        encoded = None if name == "cnn_int8" else next(positions)
        twin, dense = next(positions), next(positions)
        for kernels in ("default", "builtin"):
            expected = outputs[f"{dense}/{kernels}/0"]
            got = outputs[f"{twin}/{kernels}/0"]
            assert expected.std() > 0
            assert got.tobytes() == expected.tobytes(), (name, kernels)
            if encoded is not None:
                np.testing.assert_allclose(
                    outputs[f"{encoded}/{kernels}/0"], got, rtol=1e-5, atol=1e-5
                )


@pytest.mark.parametrize("name", NAMES)
def test_the_twin_holds_the_same_weights_without_encoding(
    name: str, twins: dict[str, tuple[Model, Model, Model]]
) -> None:
    sparse, twin, dense = twins[name]
    assert sparse.encoded
    assert not twin.encoded
    assert {x.encoding for x in twin.layers} == {"dense"}
    assert decoded(twin) == decoded(sparse) == decoded(dense)
    assert [x.name for x in twin.layers] == [x.name for x in sparse.layers]
    assert twin.sparsity == sparse.sparsity


@pytest.mark.parametrize("name", NAMES)
def test_the_twin_has_the_operators_of_the_converter_s_dense_model(
    name: str, twins: dict[str, tuple[Model, Model, Model]]
) -> None:
    _, twin, dense = twins[name]
    for ours, theirs in zip(twin.graphs, dense.graphs, strict=True):
        described = [[(o.op, o.version, o.options) for o in g.operators] for g in (ours, theirs)]
        assert described[0] == described[1]
        assert "DENSIFY" not in {o.op for o in ours.operators}


@pytest.mark.parametrize("name", NAMES)
def test_all_else_stays(name: str, twins: dict[str, tuple[Model, Model, Model]]) -> None:
    sparse, twin, _ = twins[name]
    assert metadata(twin) == metadata(sparse) != []
    for before, after in zip(sparse.graphs, twin.graphs, strict=True):
        assert (before.inputs, before.outputs) == (after.inputs, after.outputs)
        for a, b in zip(before.tensors, after.tensors, strict=True):
            fields = ("index", "name", "shape", "dtype", "constant", "buffer", "scales")
            assert [getattr(a, f) for f in fields] == [getattr(b, f) for f in fields]
    old, new = sparse.data[:], twin.data[: sparse.nbytes]
    changed = np.count_nonzero(np.frombuffer(old, np.uint8) != np.frombuffer(new, np.uint8))
    operators = sum(len(graph.operators) for graph in sparse.graphs)
    assert 0 < changed < 4 * (3 * len(sparse.layers) + operators + 2)


@pytest.mark.parametrize("name", NAMES)
def test_new_values_are_aligned(name: str, twins: dict[str, tuple[Model, Model, Model]]) -> None:
    """Which the converter's are not, although the schema asks for 16 bytes."""
    sparse, twin, _ = twins[name]
    new = [t for graph in sparse.graphs for t in graph.tensors if t.sparsity is not None]
    starts = {twin.span(tensor.buffer)[0] for tensor in new}
    assert len(starts) >= 3
    assert all(start >= sparse.nbytes and start % 16 == 0 for start in starts)


def test_a_dense_model_is_copied(path: Path) -> None:
    assert densified(data("cnn_dense"), path).sha256 == data("cnn_dense").sha256


def test_a_twin_may_replace_its_model(path: Path) -> None:
    path.write_bytes((DATA / "cnn_sparse.tflite").read_bytes())
    model = Model(path)
    twin = densified(model, path)
    assert twin.path == path
    assert decoded(twin) == decoded(data("cnn_sparse"))
    with pytest.raises(ModelError, match="has changed"):
        _ = model.layers


def test_an_output_that_is_densified_becomes_the_constant(path: Path) -> None:
    net = Network((1, 4))
    kernel = net.weights(np.eye(4, dtype=np.float32), "kernel", encoding="sparse")
    net.output(net.unary(net.input, "ABS"), kernel)
    twin = densified(Model(net.write(path)), path)
    graph = twin.graph
    assert [graph.tensors[i].name for i in graph.outputs] == ["abs_1", "kernel"]
    assert [o.op for o in graph.operators] == ["ABS"]


def test_weights_shared_by_encodings_of_both_kinds(path: Path) -> None:
    """One tensor for two layers, and once with DENSIFY and once without."""
    net = Network((1, 8))
    values, sparsity = encode(weights(8, 8), 4)
    shared = net.constant(values, "shared", shape=(8, 8), sparsity=sparsity)
    x = net.fully_connected(net.input, shared)
    net.output(net.fully_connected(net.fully_connected(x, shared), net.densify(shared)))
    twin = densified(Model(net.write(path)), path)
    assert [(o.op, o.version, o.inputs[1]) for o in twin.graph.operators] == [
        ("FULLY_CONNECTED", 1, shared.index)
    ] * 3
    np.testing.assert_array_equal(twin.weights(shared.index), weights(8, 8))


def test_one_buffer_for_two_meanings_is_refused(path: Path) -> None:
    net = Network((1, 8))
    sparse = net.weights(np.eye(8, dtype=np.float32), "sparse", encoding="sparse")
    dense = net.constant(np.ones((8, 1), np.float32), "dense")
    net.output(net.add(net.fully_connected(net.input, sparse), net.reshape(dense, (1, 8))))
    model = share_buffer(Model(net.write(path)), dense.index, sparse.index - 1, path)
    with pytest.raises(ModelError, match=r"'sparse', 'dense' share stored values but not what"):
        densified(model, path)


def test_tables_that_share_a_vtable_keep_what_is_removed_from_one() -> None:
    patch = Patch(data("cnn_sparse"))
    tables = [patch.tensor(0, layer.tensor) for layer in data("cnn_sparse").layers[1:]]
    assert len({patch.vtable(table) for table in tables}) == 1
    patch.remove_field(tables[0], TENSOR_SPARSITY)
    patch.remove_field(tables[1], TENSOR_SPARSITY)
    have = [bool(patch.field(table, TENSOR_SPARSITY)) for table in tables]
    assert have == [False, False, True, True]
    assert patch.vtable(tables[0]) == patch.vtable(tables[1])


def test_an_inconsistent_encoding_has_no_twin(path: Path) -> None:
    net = Network((1, 8))
    values, sparsity = encode(np.eye(8, dtype=np.float32))
    kernel = net.constant(values[:-1], "kernel", shape=(8, 8), sparsity=sparsity)
    net.output(net.fully_connected(net.input, net.densify(kernel)))
    model = Model(net.write(path))
    before = model.sha256
    with pytest.raises(ModelError, match="'kernel' are damaged"):
        densified(model, path)
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
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_network_has_a_twin(path: Path, net: Network) -> None:
    model = Model(net.write(path))
    twin = densified(model, path.with_name("twin.tflite"))
    assert not twin.encoded
    assert decoded(twin) == decoded(model)
    ops = [o.op for o in model.graph.operators if o.op != "DENSIFY"]
    assert [o.op for o in twin.graph.operators] == ops
    assert {o.version for o in twin.graph.operators if o.op == "FULLY_CONNECTED"} <= {1}


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
    twin = flushed(model, path.with_name("twin.tflite"))
    assert (model.layers[0].subnormals, twin.layers[0].subnormals) == (3, 0)
    expected = values.copy()
    expected.reshape(-1)[:3] = (0.0, -0.0, 0.0)
    assert twin.weights(1).tobytes() == expected.tobytes()
    bias = twin.weights(2)
    assert not bias.any()
    assert np.signbit(bias).all()
    assert twin.nbytes == model.nbytes


@pytest.mark.parametrize("encoding", ["sparse", "block 1x4"])
def test_subnormals_of_encoded_weights_are_flushed_where_they_are(
    encoding: Any, path: Path
) -> None:
    net = Network((1, 8))
    net.output(net.fully_connected(net.input, subnormal(8, 8), encoding=encoding))
    model = Model(net.write(path))
    twin = flushed(model, path.with_name("twin.tflite"))
    assert (model.layers[0].subnormals, twin.layers[0].subnormals) == (3, 0)
    assert twin.layers[0].encoding == encoding
    before, after = model.weights(1), twin.weights(1)
    tiny = (before != 0) & (np.abs(before) < np.finfo(np.float32).tiny)
    assert not after[tiny].any()
    np.testing.assert_array_equal(after[~tiny], before[~tiny])


def test_other_types_and_models_without_subnormals_stay_as_they_are(path: Path) -> None:
    net = Network((1, 8))
    kernel = weights(8, 8) * np.float32(1e-6)  # subnormal as float16
    y = net.fully_connected(net.input, kernel, dtype="float16")
    net.output(net.reshape(y, (8,)))  # its shape is an int32 of 8: as a float32, subnormal
    model = Model(net.write(path))
    assert flushed(model, path.with_name("twin.tflite")).sha256 == model.sha256
    assert flushed(data("cnn_dense"), path).sha256 == data("cnn_dense").sha256


def test_values_that_are_not_only_float_are_not_flushed(path: Path) -> None:
    net = Network((1, 8))
    tiny = net.constant(np.full(1, 1e-40, np.float32), "tiny")
    y = net.reshape(net.add(net.input, tiny), (8,))
    net.output(y)
    written = Model(net.write(path))
    model = share_buffer(written, tiny.index, y.index - 1, path)
    with pytest.raises(ModelError, match=r"'tiny', '.*' share values, not a type"):
        flushed(model, path)


# ----------------------------------------------------------------------------- replace_weights


def test_only_the_replaced_values_change(path: Path) -> None:
    model = data("cnn_dense")
    layer = model.layers[2]
    values = weights(*layer.shape, seed=9)
    twin = replace_weights(model, {layer.tensor: values}, path)
    assert twin.weights(layer.tensor).tobytes() == values.tobytes()
    start, length = model.span(model.graph.tensors[layer.tensor].buffer)
    assert twin.data[:start] == model.data[:start]
    assert twin.data[start + length :] == model.data[start + length :]


def test_weights_of_subgraphs_are_replaced(path: Path) -> None:
    model = data("gru_dense")
    layer = model.layers[1]
    values = weights(*layer.shape)
    twin = replace_weights(model, {(layer.graph, layer.tensor): values}, path)
    assert layer.graph == 2
    assert twin.weights(layer.tensor, 2).tobytes() == values.tobytes()


def test_values_need_not_be_contiguous(path: Path) -> None:
    net = Network((1, 8))
    net.output(net.fully_connected(net.input, weights(4, 8)))
    values = weights(8, 4, seed=3).T
    twin = replace_weights(Model(net.write(path)), {1: values}, path)
    np.testing.assert_array_equal(twin.weights(1), values)


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


def test_values_shared_by_tensors_change_for_all_or_not_at_all(path: Path) -> None:
    net = Network((1, 8))
    x = net.fully_connected(net.input, weights(8, 8), name="first")
    net.output(net.fully_connected(x, weights(8, 8, seed=1), name="second"))
    model = share_buffer(Model(net.write(path)), 3, 1, path)
    assert [x.name for x in model.layers] == ["first", "second"]
    new, other = weights(8, 8, seed=2), weights(8, 8, seed=3)
    for replaced in ({1: new}, {3: new}, {1: new, 3: other}):
        with pytest.raises(ModelError, match="'first', 'second' share their values"):
            replace_weights(model, replaced, path)
    twin = replace_weights(model, {1: new, 3: new}, path)
    assert decoded(twin) == [new.tobytes()] * 2
