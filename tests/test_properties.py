"""The properties: each holds where it should, and each finds the fault that is planted for it."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from typing_extensions import Self

from pytest_sparsity import properties, strategies, transform
from pytest_sparsity.encoding import encode
from pytest_sparsity.model import Model, replace_file, schema
from pytest_sparsity.strategies import Chain, FilePair, SingleLayer
from pytest_sparsity.targets import Target
from pytest_sparsity.transform import replace_weights
from pytest_sparsity.transform.edit import Edit
from pytest_sparsity.writer import Network

DATA = Path(__file__).parent / "data"
CONVERTED = sorted(
    path.name.removesuffix("_sparse.tflite") for path in DATA.glob("*_sparse.tflite")
)
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Files:
    """What `Variants` has of it."""

    dense: Path | Model
    pruned: Path | Model
    sparse: Path | Model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("properties")


def written(folder: Path, name: str, data: bytes) -> Model:
    replace_file(folder / f"{name}.tflite", data)
    return Model(folder / f"{name}.tflite")


def linear(folder: Path, weights: Any, name: str = "linear", **stored: Any) -> Model:
    """A file with one fully connected layer."""
    layer = SingleLayer("FULLY_CONNECTED", np.array(weights, np.float32), **stored)
    return written(folder, name, layer.build().to_bytes())


def both(folder: Path, pair: FilePair) -> tuple[Model, Model]:
    return written(folder, "pruned", pair.dense), written(folder, "sparse", pair.sparse)


def random(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def pruned(weights: Floats, sparsity: float) -> Floats:
    """The smallest weights of the whole array set to zero."""
    gone = np.argsort(np.abs(weights), axis=None)[: round(sparsity * weights.size)]
    left = weights.copy()
    left.reshape(-1)[gone] = 0
    return left


def pointwise(folder: Path, weights: Any, name: str = "pointwise") -> Model:
    return written(
        folder, name, SingleLayer("CONV_2D", np.array(weights, np.float32)).build().to_bytes()
    )


# ---------------------------------------------------------------------------- zeros as asked


@given(
    weights=strategies.sparse_weights("unstructured", strategies.shapes(2)), share=st.floats(-1, 1)
)
def test_zeros_may_be_off_by_one_weight(folder: Path, weights: Floats, share: float) -> None:
    model = linear(folder, weights)
    zeros = np.count_nonzero(weights == 0)
    properties.zeros_as_asked(model, (zeros + 0.99 * share) / weights.size)


@given(weights=strategies.sparse_weights("unstructured", strategies.shapes(2)), more=st.booleans())
def test_zeros_may_not_be_off_by_two(folder: Path, weights: Floats, more: bool) -> None:
    model = linear(folder, weights)
    zeros = np.count_nonzero(weights == 0)
    with pytest.raises(AssertionError, match=f"has {zeros} zeros in {weights.size} weights"):
        properties.zeros_as_asked(model, (zeros + (2 if more else -2)) / weights.size)


def test_quantized_layers_may_have_more_zeros_but_not_fewer(folder: Path) -> None:
    weights = np.linspace(-1, 1, 256, dtype=np.float32).reshape(4, 64) ** 9
    model = linear(folder, weights, dtype="int8")
    assert model.layers[0].sparsity > 0.2
    properties.zeros_as_asked(model, 0.1)
    with pytest.raises(AssertionError, match=r"152 fewer than the 90\.\d+% asked for"):
        properties.zeros_as_asked(model, 0.9)


def test_zeros_come_in_blocks(folder: Path) -> None:
    weights = np.repeat([[1.0, 0, 1, 0, 1]], 4, axis=1)
    model = linear(folder, weights, encoding="block 1x4")
    properties.zeros_as_asked(model, 0.5, within=4)
    with pytest.raises(AssertionError, match="8 zeros in 20 weights"):
        properties.zeros_as_asked(model, 0.5)


def test_a_model_without_prunable_layers_is_not_as_asked(folder: Path) -> None:
    layer = SingleLayer("DEPTHWISE_CONV_2D", random(1, 3, 3, 4))
    model = written(folder, "depthwise", layer.build().to_bytes())
    with pytest.raises(
        AssertionError, match=r"no layer to check \(its layers: DEPTHWISE_CONV_2D\)"
    ):
        properties.zeros_as_asked(model, 0.5)
    properties.zeros_as_asked(model, 0.0, layers=lambda layer: layer.op == "DEPTHWISE_CONV_2D")


# ---------------------------------------------------------------------------------- patterns


@pytest.mark.parametrize("pattern", ["2:4", "1:3", "3:4", "1x4", "1x16"])
@given(data=st.data())
def test_patterns_hold_on_every_row(folder: Path, pattern: str, data: st.DataObject) -> None:
    shape = data.draw(st.one_of(strategies.shapes(2), st.just((3, 1, 1, 20))))
    kept = data.draw(strategies.masks(pattern, shape))
    weights = kept.astype(np.float32)
    model = linear(folder, weights) if weights.ndim == 2 else pointwise(folder, weights)
    properties.pattern_holds(model, pattern)


@pytest.mark.parametrize(
    ("pattern", "row", "group"),
    [
        ("2:4", [1, 1, 0, 0, 1, 1, 0, 1], "inputs from 4 on in row 1 keep 3 weights"),
        ("2:4", [1, 1, 0, 0, 0, 1, 1, 1], "inputs from 4 on in row 1 keep 3 weights"),
        ("1:2", [0, 1, 1, 1, 0, 0, 1, 0], "inputs from 2 on in row 1 keep 2 weights"),
        ("1x4", [1, 1, 1, 1, 0, 0, 1, 0], "inputs from 4 on in row 1 keep 1 weight;"),
    ],
)
def test_a_broken_group_is_found(folder: Path, pattern: str, row: list[int], group: str) -> None:
    model = linear(folder, [[0] * 8, row])
    groups = 16 // int(pattern[-1])
    with pytest.raises(
        AssertionError, match=f"breaks the pattern {pattern} in 1 of {groups} groups: {group}"
    ):
        properties.pattern_holds(model, pattern)


def test_a_last_group_may_be_shorter(folder: Path) -> None:
    properties.pattern_holds(linear(folder, [[1, 0, 0, 1, 1, 1]]), "2:4")
    with pytest.raises(AssertionError, match="inputs from 4 on"):
        properties.pattern_holds(linear(folder, [[1, 0, 0, 1, 1, 1, 1]]), "2:4")
    properties.pattern_holds(linear(folder, [[1, 1, 1, 1, 1, 0]]), "1x4")


def test_half_of_a_quantized_block_may_be_rounded_to_zero(folder: Path) -> None:
    properties.pattern_holds(linear(folder, [[1, 1, 1e-6, 1e-6, 0, 0, 0, 0]], dtype="int8"), "1x4")
    with pytest.raises(AssertionError, match="keep 1 weight;"):
        properties.pattern_holds(
            linear(folder, [[1, 1e-6, 1e-6, 1e-6, 0, 0, 0, 0]], dtype="int8"), "1x4"
        )


def test_an_unknown_pattern_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="is for channels_are_removed"):
        properties.pattern_holds(linear(folder, [[1]]), "channels")


# ------------------------------------------------------------------------------ the largest


@given(sparsity=st.floats(0, 1), seed=st.integers(0, 100))
def test_magnitude_pruning_keeps_the_largest(folder: Path, sparsity: float, seed: int) -> None:
    before = random(6, 20, seed=seed)
    after = pruned(before, sparsity)
    properties.keeps_the_largest({"w": before}, {"w": after})
    scale = 10.0 ** np.arange(-3, 3, dtype=np.float32)[:, None]  # as of a folded normalization
    properties.keeps_the_largest(
        linear(folder, before * scale, "before"), linear(folder, after * scale, "after")
    )


def test_a_larger_weight_that_was_removed_is_found(folder: Path) -> None:
    before, after = [[5.0, 1, 2], [3, 4, 6]], [[5, 0, 2], [0, 4, 6]]
    with pytest.raises(AssertionError, match="w lost a weight of magnitude 3 and kept one of 2"):
        properties.keeps_the_largest({"w": np.array(before)}, {"w": np.array(after)})
    properties.keeps_the_largest(linear(folder, before, "a"), linear(folder, after, "b"))
    after[0][:2] = 0, 1
    with pytest.raises(AssertionError, match=r"lost a weight of magnitude 5 .* 1 of 2 groups"):
        properties.keeps_the_largest(linear(folder, before, "a"), linear(folder, after, "b"))


def test_the_largest_of_each_group_or_block_are_kept(folder: Path) -> None:
    before = linear(folder, [[4, 3, 2, 1, 10, 20, 30, 40]], "before")
    grouped = linear(folder, [[4, 3, 0, 0, 0, 0, 30, 40]], "grouped")
    blocked = linear(folder, [[0, 0, 0, 0, 10, 20, 30, 40]], "blocked")
    properties.keeps_the_largest(before, grouped, pattern="2:4")
    properties.keeps_the_largest(before, blocked, pattern="1x4")
    with pytest.raises(AssertionError, match="lost a weight of magnitude 20 and kept one of 3"):
        properties.keeps_the_largest(before, grouped)
    wrong = linear(folder, [[4, 3, 2, 1, 0, 0, 0, 0]], "wrong")
    with pytest.raises(AssertionError, match=r"magnitude 25 and kept one of 2\.5"):
        properties.keeps_the_largest(before, wrong, pattern="1x4")
    with pytest.raises(AssertionError, match="in 1 of 2 groups"):
        properties.keeps_the_largest(
            before, linear(folder, [[4, 0, 2, 0, 0, 0, 30, 40]], "w"), pattern="2:4"
        )


def test_depthwise_channels_are_the_last_dimension(folder: Path) -> None:
    weights = random(1, 3, 3, 4) * np.array([1e-3, 1, 1e3, 1e6], np.float32)
    kept = np.abs(weights) >= np.median(np.abs(weights), axis=(1, 2))
    models = [
        written(folder, name, SingleLayer("DEPTHWISE_CONV_2D", w).build().to_bytes())
        for name, w in (("before", weights), ("after", weights * kept))
    ]
    properties.keeps_the_largest(*models)


def test_other_layers_cannot_be_compared(folder: Path) -> None:
    with pytest.raises(ValueError, match="not the same layers"):
        properties.keeps_the_largest({"a": np.ones(2)}, {"a": np.ones(3)})
    with pytest.raises(ValueError, match="the layout of arrays is not known"):
        properties.keeps_the_largest({"a": np.ones(2)}, {"a": np.ones(2)}, pattern="2:4")


# ------------------------------------------------------------------------------------- masks


def test_masks_may_grow_and_may_not_shrink(folder: Path) -> None:
    dense, half, more = ({"w": np.array(w)} for w in ([3, 2, 1.0], [3, 2, 0.0], [3.5, 0, 0.0]))
    properties.masks_only_grow([dense, half, half, more])
    with pytest.raises(
        AssertionError, match="w has 1 weight that is zero in checkpoint 1 and not in checkpoint 2;"
    ):
        properties.masks_only_grow([dense, more, half])
    files = [
        linear(folder, [[3, 2, 1.0]], "a"),
        linear(folder, [[3, 0, 1.0]], "b", encoding="sparse"),
    ]
    properties.masks_only_grow(files)
    with pytest.raises(AssertionError, match="FULLY_CONNECTED"):
        properties.masks_only_grow(files[::-1])
    with pytest.raises(ValueError, match="at least two"):
        properties.masks_only_grow(files[:1])


# ---------------------------------------------------------------------------------- channels


def test_channels_that_are_still_there_are_found(folder: Path) -> None:
    masked = linear(folder, [[1, 2, 3], [0, 0, 0], [4, 5, 6]], "masked")
    removed = linear(folder, [[1, 2, 3], [4, 5, 6]], "removed")
    properties.channels_are_removed(masked, removed)
    with pytest.raises(AssertionError, match=r"has 9 weights and .* has 9: no channel is gone"):
        properties.channels_are_removed(masked, masked)
    half = linear(folder, [[1, 2, 3], [0, 0, 0]], "half")
    with pytest.raises(AssertionError, match=r"has 1 output of zeros only in \(2, 3\)"):
        properties.channels_are_removed(masked, half)


def test_a_network_without_its_channels_has_all_properties(folder: Path) -> None:
    first, second = random(6, 8), random(3, 6, seed=1)
    first[2] = 0
    files = []
    for name, kept in (("dense", np.arange(6)), ("removed", np.array([0, 1, 3, 4, 5]))):
        net = Network((1, 8))
        hidden = net.fully_connected(net.input, first[kept], activation="RELU")
        net.output(net.fully_connected(hidden, second[:, kept]))
        files.append(written(folder, name, net.to_bytes()))
    dense, removed = files
    held = properties.check(Files(dense, dense, removed), pattern="channels", sparsity=0.1)
    assert "channels_are_removed" in held
    assert "zeros_are_encoded" not in held
    with pytest.raises(AssertionError, match="no channel is gone"):
        properties.check(Files(dense, dense, dense), pattern="channels")


# ------------------------------------------------------------------------------ odd numbers


@given(weights=strategies.weights(strategies.shapes(2)))
def test_negative_zeros_and_subnormals_are_found(folder: Path, weights: Floats) -> None:
    model = linear(folder, weights)
    negative = np.count_nonzero((weights == 0) & np.signbit(weights))
    tiny = np.count_nonzero((weights != 0) & (np.abs(weights) < np.finfo(np.float32).tiny))
    for holds, count, words in (
        (
            properties.no_negative_zeros,
            negative,
            f"stores {negative} of its {weights.size} weights",
        ),
        (properties.no_subnormals, tiny, f"has {tiny} subnormal weights"),
    ):
        if count:
            with pytest.raises(AssertionError, match=words):
                holds(model)
        else:
            holds(model)


# --------------------------------------------------------------------------------- encoding


@given(strategies.pairs())
def test_sparse_files_hold_what_the_dense_ones_do(folder: Path, pair: FilePair) -> None:
    dense, sparse = both(folder, pair)
    properties.decodes_to_the_same(dense, sparse)
    properties.blocks_divide_the_inputs(sparse)
    properties.masks_only_grow([dense, sparse])
    assert properties.only_removes(dense, sparse) == (dense.layers[-1].dtype != "int8")


@given(data=st.data())
def test_one_other_weight_is_found(folder: Path, data: st.DataObject) -> None:
    layer = data.draw(strategies.layers(encoding="sparse"))
    dense, sparse = both(folder, FilePair(layer))
    [stored] = dense.layers
    weights = dense.weights(stored.tensor).copy()
    place = data.draw(st.integers(0, weights.size - 1))
    weights.reshape(-1)[place] = 1 if weights.reshape(-1)[place] != 1 else 2
    other = replace_weights(dense, {stored.tensor: weights}, folder / "other.tflite")
    with pytest.raises(AssertionError, match=f"1 of {weights.size} differ, [01] of them are lost"):
        properties.decodes_to_the_same(other, sparse)


@pytest.mark.parametrize("name", CONVERTED)
def test_weights_that_the_converter_lost_are_found(name: str) -> None:
    """The converter drops what is left over from a block (TensorFlow 2.21)."""
    dense, sparse = (DATA / f"{name}_{kind}.tflite" for kind in ("dense", "sparse"))
    blocks = [x for x in Model(sparse).layers if x.encoding.startswith("block")]
    broken = [x for x in blocks if x.shape[-1] % int(x.encoding.rpartition("x")[2])]
    assert bool(broken) == (name in {"mlp", "cnn_int8"})
    if not broken:
        properties.decodes_to_the_same(dense, sparse)
        properties.blocks_divide_the_inputs(sparse)
        return
    with pytest.raises(AssertionError, match="of them are lost; make its"):
        properties.decodes_to_the_same(dense, sparse)
    with pytest.raises(AssertionError, match=r"the weights of the last \d+ are not in the file"):
        properties.blocks_divide_the_inputs(sparse)


def test_different_networks_are_not_compared(folder: Path) -> None:
    one, other = linear(folder, [[1, 0]], "one"), linear(folder, [[1], [0]], "other")
    with pytest.raises(AssertionError, match="do not hold the same layers"):
        properties.decodes_to_the_same(one, other)
    with pytest.raises(AssertionError, match="do not hold the same layers"):
        properties.size_as_predicted(one, other)


def test_zeros_that_were_not_encoded_are_found(folder: Path) -> None:
    dense, sparse = both(folder, FilePair(Chain()))
    properties.zeros_are_encoded(sparse)
    with pytest.raises(AssertionError, match=r"stores its 75\.0% zeros densely; convert with"):
        properties.zeros_are_encoded(dense)
    with pytest.raises(AssertionError, match="no sparse-encoded weights at all"):
        properties.zeros_are_encoded(linear(folder, random(4, 4)))


def test_what_encode_leaves_dense_may_be_dense(folder: Path) -> None:
    """A small layer beside one that pays; alone it is a file that nobody stored sparsely."""

    def network(name: str, *encodings: Any) -> Model:
        net, width = Network((1, 8, 8, 8)), 8
        x = net.input
        for outputs, encoding in zip((8, 256, 64), encodings, strict=True):
            x = net.conv2d(x, pruned(random(outputs, 1, 1, width), 0.75), encoding=encoding)
            width = outputs
        net.output(net.mean(x))
        return Model(net.write(folder / f"{name}.tflite"))

    plain = network("plain", "dense", "dense", "dense")
    encoded = transform.encode(plain, folder / "encoded.tflite")
    assert [layer.encoding for layer in encoded.layers] == ["dense", "sparse", "sparse"]
    properties.zeros_are_encoded(encoded)
    with pytest.raises(AssertionError, match=r"layer 0 .* stores its 75\.0% zeros densely"):
        properties.zeros_are_encoded(plain)
    with pytest.raises(AssertionError, match=r"layer 1 .* stores its 75\.0% zeros densely"):
        properties.zeros_are_encoded(network("forgotten", "dense", "dense", "sparse"))


# ------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("block", [1, 4, 16])
@given(data=st.data())
def test_the_formula_knows_the_size_of_the_encoding(block: int, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(["float32", "float16", "int8"]))
    out, width = data.draw(strategies.shapes(2, widest=600))
    dense = data.draw(strategies.sparse_weights(f"1x{block}", (out, block * width), dtype=dtype))
    dense[-1, -block:] = 1  # the largest index decides on the bytes of all
    values, sparsity = encode(dense, block)
    expected = properties.sparse_nbytes(dense.shape, values.size, dtype, block)
    assert values.nbytes + sparsity.nbytes == expected


@pytest.mark.parametrize("name", CONVERTED)
def test_the_formula_predicts_the_converter_s_files(name: str) -> None:
    properties.size_as_predicted(DATA / f"{name}_dense.tflite", DATA / f"{name}_sparse.tflite")


def test_a_file_that_is_too_large_or_too_small_is_found(folder: Path) -> None:
    pruned = DATA / "cnn_dense.tflite"
    data = (DATA / "cnn_sparse.tflite").read_bytes()
    with pytest.raises(AssertionError, match=r"\+2\.0% from the"):
        properties.size_as_predicted(
            pruned, written(folder, "large", data + bytes(len(data) // 50))
        )
    with pytest.raises(AssertionError, match="bytes, -"):
        properties.size_as_predicted(
            written(folder, "p", pruned.read_bytes() + bytes(1000)), DATA / "cnn_sparse.tflite"
        )


@pytest.mark.parametrize(
    ("shape", "dtype", "measured"),
    [
        # facts measured on a grid of 1 % with TensorFlow 2.21's converter; inf: never pays
        ((8, 16), "float32", 0.71),
        ((8, 16), "int8", np.inf),
        ((16, 32), "float16", 0.57),
        ((10, 64), "int8", 0.83),
        ((64, 128), "int8", 0.57),
        ((64, 260), "float32", 0.33),
        ((64, 260), "float16", 0.50),
        ((64, 260), "int8", 0.69),
        ((16, 1, 1, 8), "float32", 0.80),
        ((16, 1, 1, 8), "float16", np.inf),
        ((32, 1, 1, 16), "float32", 0.36),
        ((32, 1, 1, 16), "float16", 0.60),
        ((32, 1, 1, 16), "int8", np.inf),
        ((128, 1, 1, 64), "int8", 0.63),
        ((512, 1, 1, 512), "float32", 0.33),
        ((512, 1, 1, 512), "float16", 0.50),
        ((512, 1, 1, 512), "int8", 0.67),
        ((32, 3, 3, 1), "float32", 0.65),
        ((32, 3, 3, 1), "int8", np.inf),
        ((32, 3, 3, 3), "float32", 0.41),
        ((32, 3, 3, 3), "float16", 0.70),
        ((1, 3, 3, 64), "float32", 0.33),
        ((1, 3, 3, 64), "float16", 0.55),
        ((1, 3, 3, 64), "int8", np.inf),
    ],
)
def test_the_break_even_is_where_it_was_measured(
    shape: tuple[int, ...], dtype: str, measured: float
) -> None:
    assert properties.break_even(shape, dtype) == pytest.approx(measured, abs=0.04)


@given(shape=strategies.shapes(widest=300), dtype=st.sampled_from(["float32", "float16", "int8"]))
def test_beyond_the_break_even_the_size_only_falls(shape: tuple[int, ...], dtype: str) -> None:
    elements = int(np.prod(shape))
    sizes = [properties.sparse_nbytes(shape, stored, dtype) for stored in range(elements, -1, -1)]
    assert sizes == sorted(sizes, reverse=True)
    zeros = properties.break_even(shape, dtype)
    dense = elements * np.dtype(dtype).itemsize
    if np.isfinite(zeros):
        assert properties.sparse_nbytes(shape, round((1 - zeros) * elements), dtype) <= dense


def test_blocks_pay_earlier_than_single_weights() -> None:
    assert properties.break_even((64, 256), "float32", 4) < properties.break_even((64, 256))


def test_a_size_that_rises_with_the_zeros_is_found(folder: Path) -> None:
    files = [
        written(folder, f"z{zeros}", Chain(zeros=zeros, channels=32).build().to_bytes())
        for zeros in (0.9, 0.7)
    ]
    properties.size_falls_with_sparsity(files)
    dense = written(folder, "dense", Chain(zeros=0.95, channels=32).build("dense").to_bytes())
    with pytest.raises(
        AssertionError, match=r"dense\.tflite with 66\.8% zeros has \d+ bytes, more than z0\.9"
    ):
        properties.size_falls_with_sparsity([*files, dense])
    with pytest.raises(ValueError, match="at least two"):
        properties.size_falls_with_sparsity(files[:1])


def test_negative_zeros_spoil_the_compression(folder: Path) -> None:
    weights = random(64, 64)
    left = pruned(weights, 0.9)
    signed = np.where(left == 0, np.copysign(np.float32(0), weights), left)
    dense, clean, spoilt = (
        linear(folder, w, name) for name, w in (("d", weights), ("c", left), ("s", signed))
    )
    share = properties.gzip_nbytes(clean) / properties.gzip_nbytes(dense)
    assert share < 0.2
    properties.compresses_to(clean, dense, 0.2)
    with pytest.raises(
        AssertionError, match=r"after gzip, 0\.\d+ of the \d+ of d\.tflite, not 0\.2"
    ):
        properties.compresses_to(spoilt, dense, 0.2)


def test_the_least_version_of_the_runtime_is_read(folder: Path) -> None:
    properties.runs_since(DATA / "mlp_sparse.tflite", "2.14.0")
    assert properties.minimum_runtime(DATA / "mlp_sparse.tflite") == "2.3.0"
    with pytest.raises(AssertionError, match=r"needs TensorFlow Lite 2\.3\.0, not 2\.2.*version 8"):
        properties.runs_since(DATA / "mlp_sparse.tflite", "2.2")
    silent = linear(folder, [[1]])
    properties.runs_since(silent, "1.5.0")
    with pytest.raises(AssertionError, match=r"1\.5\.0, not 1\.4: for example FULLY_CONN"):
        properties.runs_since(silent, "1.4")


@pytest.mark.parametrize("path", sorted(DATA.glob("*.tflite")), ids=lambda path: path.stem)
def test_versions_of_operators_tell_what_the_converter_noted(path: Path, tmp_path: Path) -> None:
    """A copy without the note needs the version that the note has named."""
    edit = Edit(Model(path))
    [note] = [e for e in edit.root["metadata"] if e["name"] == b"min_runtime_version"]
    noted = bytes(edit.root["buffers"][note["buffer"]]["data"]).rstrip(b"\0").decode()
    edit.root["metadata"].remove(note)
    assert properties.minimum_runtime(edit.write(tmp_path / path.name)) == noted


@pytest.mark.parametrize(("noted", "needed"), [("1.5.0", "2.3.0"), ("2.9.0", "2.9.0")])
def test_the_newer_one_of_note_and_operators_counts(
    noted: str, needed: str, tmp_path: Path
) -> None:
    """Old converters compared versions as text, so that 1.5.0 came behind 1.14.0."""
    edit = Edit(Model(DATA / "mlp_sparse.tflite"))
    for entry in edit.root["metadata"]:
        if entry["name"] == b"min_runtime_version":
            edit.root["buffers"][entry["buffer"]]["data"] = np.frombuffer(noted.encode(), np.uint8)
    model = edit.write(tmp_path / "noted.tflite")
    assert properties.minimum_runtime(model) == needed
    with pytest.raises(AssertionError, match="version 8" if needed == "2.3.0" else "noted that"):
        properties.runs_since(model, "2.2.0")


@pytest.mark.parametrize(
    ("op", "version", "says"),
    [
        ("Convolution2DTransposeBias", 1, r"no part of TensorFlow Lite \(Convolution2DTranspose"),
        ("RELU", 99, "has RELU in version 99, which TensorFlow Lite's list"),
        ("TFLite_Detection_PostProcess", 1, ""),
    ],
)
def test_operators_for_which_no_version_can_be_told(
    op: str, version: int, says: str, tmp_path: Path
) -> None:
    net = Network((1, 4))
    net.output(net.unary(net.input, "RELU"))
    edit = Edit(Model(net.write(tmp_path / "relu.tflite")))
    [code] = edit.root["operator_codes"]
    code["version"] = version
    if op != "RELU":
        custom = schema.numbers("BuiltinOperator")["CUSTOM"]
        code["builtin_code"] = code["deprecated_builtin_code"] = custom
        code["custom_code"] = op.encode()
    model = edit.write(tmp_path / "other.tflite")
    if says:
        assert properties.minimum_runtime(model) == ""
        with pytest.raises(AssertionError, match=says):
            properties.runs_since(model, "2.14.0")
    else:
        properties.runs_since(model, "2.14.0")


# ----------------------------------------------------------------------------------- outputs


@pytest.fixture(scope="module")
def pair(folder: Path) -> tuple[Model, Model]:
    chain = Chain(steps=("depthwise same", "residual"), channels=8)
    return (
        written(folder, "chain_dense", chain.build("dense").to_bytes()),
        written(folder, "chain_sparse", chain.build().to_bytes()),
    )


def test_a_sound_model_runs_and_answers(pair: tuple[Model, Model]) -> None:
    dense, sparse = pair
    properties.runs(sparse)
    properties.same_outputs(dense, sparse, tolerance=1e-6)
    properties.outputs_vary(sparse)
    properties.repeatable(sparse)


def test_a_model_of_an_unknown_version_does_not_run(folder: Path) -> None:
    net = Network((1, 4))
    net.output(net.operator("RELU", [net.input], (1, 4), version=99))
    model = written(folder, "new", net.to_bytes())
    with pytest.raises(
        AssertionError,
        match=r"new\.tflite does not run on litert: .*nor does it with the runtime's own",
    ):
        properties.runs(model)


def test_a_model_that_only_the_delegate_refuses_is_told_apart(folder: Path) -> None:
    """LiteRT 2.3.0 cannot set up int8 FULLY_CONNECTED layers with sparse-encoded weights."""
    net = Network((1, 16))
    x = net.quantize(net.input, 1 / 127)
    weights = pruned(random(8, 16), 0.5)
    net.output(net.dequantize(net.fully_connected(x, weights, encoding="sparse", scale=0.1)))
    with pytest.raises(AssertionError, match="it does with the runtime's own kernels: store"):
        properties.runs(written(folder, "int8", net.to_bytes()))


def test_infinite_answers_are_found(folder: Path) -> None:
    model = linear(folder, np.full((2, 64), np.finfo(np.float32).max))
    with pytest.raises(AssertionError, match=r"gives NaN or infinity on litert \(inputs 0\)"):
        properties.runs(model)


def test_a_model_is_compared_with_a_function(folder: Path) -> None:
    weights = random(3, 8)
    model = linear(folder, weights)
    properties.same_outputs(lambda x: x @ weights.T, model)
    properties.same_outputs(lambda x: [x @ weights.T], model)
    with pytest.raises(AssertionError, match=r"differs from .*lambda.* by 1 of the largest output"):
        properties.same_outputs(lambda x: x @ weights.T / 2, model)


def test_one_other_weight_changes_the_outputs(folder: Path) -> None:
    weights = random(3, 8)
    one = linear(folder, weights, "one")
    weights[2, 5] += 0.01
    other = linear(folder, weights, "other")
    with pytest.raises(
        AssertionError, match=r"other\.tflite differs from one\.tflite on litert by"
    ):
        properties.same_outputs(one, other)
    properties.same_outputs(one, other, tolerance=0.1)


def test_the_tolerance_follows_the_type_of_the_weights(folder: Path) -> None:
    weights = random(3, 64)
    exact = linear(folder, weights, "exact")
    for dtype, smallest in (("float16", 1e-4), ("int8", 1e-3)):
        rounded = linear(folder, weights, dtype, dtype=dtype)
        properties.same_outputs(exact, rounded)
        with pytest.raises(AssertionError, match="differs"):
            properties.same_outputs(exact, rounded, tolerance=smallest)


def test_outputs_of_any_size_vary(folder: Path) -> None:
    properties.outputs_vary(linear(folder, random(2, 4) * np.float32(1e37)))
    with pytest.raises(AssertionError, match="deviation of an output is nan"):
        properties.outputs_vary(linear(folder, np.full((2, 64), np.finfo(np.float32).max)))


def test_constant_outputs_are_found(folder: Path) -> None:
    model = linear(folder, random(2, 4) * np.float32(1e-20))
    with pytest.raises(
        AssertionError,
        match=r"the same outputs for all inputs on litert: .* is .*e-2., below 1e-06",
    ):
        properties.outputs_vary(model)
    properties.outputs_vary(model, at_least=1e-30)


@dataclass
class Forgetful:
    """A target and its worker, whose model counts its invocations."""

    answers: int = 0

    def open(self) -> Forgetful:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def load(self, *_: object, **__: object) -> Any:
        return SimpleNamespace(inputs=())

    def set_inputs(self, *_: object) -> None: ...

    def outputs(self, _key: str) -> tuple[Floats, ...]:
        self.answers += 1
        return (np.array([self.answers], np.float32),)


def test_another_second_answer_is_found(
    pair: tuple[Model, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Target, "of", lambda _: Forgetful())
    with pytest.raises(
        AssertionError, match=r"when it is invoked again .* \(by 1 of the largest output"
    ):
        properties.repeatable(pair[0])


@pytest.mark.slow
def test_a_fused_lstm_is_not_repeatable(recurrent: Path) -> None:
    with pytest.raises(AssertionError, match="it keeps a state"):
        properties.repeatable(recurrent)


# -------------------------------------------------------------------------------- all at once


def test_all_properties_of_a_sound_pair(pair: tuple[Model, Model]) -> None:
    dense, sparse = pair
    files = Files(dense, dense, sparse)
    with pytest.raises(AssertionError) as raised:
        properties.check(files, sparsity=0.75)
    # Not the converter's file: our writer has shorter names and no metadata.
    assert str(raised.value).startswith("1 of 18 properties do not hold:\n- size_as_predicted: ")


def test_a_sound_conversion_has_all_properties() -> None:
    dense, sparse = DATA / "cnn_dense.tflite", DATA / "cnn_sparse.tflite"
    held = properties.check(Files(dense, dense, sparse))
    assert held == (
        "no_negative_zeros",
        "no_subnormals",
        "keeps_the_largest",
        "zeros_are_encoded",
        "decodes_to_the_same",
        "blocks_divide_the_inputs",
        "size_as_predicted",
        "compresses_to",
        "runs",
        "same_outputs",
        "outputs_vary",
        "repeatable",
    )


def test_every_property_that_does_not_hold_is_named() -> None:
    dense, sparse = DATA / "mlp_dense.tflite", DATA / "mlp_sparse.tflite"
    files = Files(dense, dense, sparse)
    with pytest.raises(AssertionError) as raised:
        properties.check(files, sparsity=0.8, pattern="2:4")
    named = [line.split(":")[0] for line in str(raised.value).split("\n- ")]
    assert named == [
        "5 of 19 properties do not hold",
        "zeros_as_asked",
        "pattern_holds",
        "decodes_to_the_same",
        "blocks_divide_the_inputs",
        "same_outputs",
    ]


def test_the_layers_that_were_pruned_can_be_chosen() -> None:
    dense, sparse = DATA / "mlp_dense.tflite", DATA / "mlp_sparse.tflite"
    with pytest.raises(AssertionError, match=r"- zeros_as_asked: .* no layer to check"):
        properties.check(Files(dense, dense, sparse), sparsity=0.8, layers=lambda _: False)


def test_a_model_that_does_not_load_fails_and_does_not_break_the_check(folder: Path) -> None:
    net = Network((1, 4))
    net.output(net.operator("RELU", [net.input], (1, 4), version=99))
    model = written(folder, "new", net.to_bytes())
    with pytest.raises(
        AssertionError, match=r"- repeatable: litert failed when loading new\.tflite"
    ):
        properties.check(Files(model, model, model))


# ---------------------------------------------------------------------------------- the how-to


def test_the_how_to_runs(pytester: pytest.Pytester) -> None:
    text = (DATA.parent.parent / "docs" / "properties.md").read_text()
    blocks = re.findall(r"```python\n# (test_\w+\.py)\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in blocks] == ["test_release.py", "test_packer.py"]
    for name, code in blocks:
        (pytester.path / name).write_text(code)
    for role, kind in (("dense", "dense"), ("pruned", "dense"), ("sparse", "sparse")):
        shutil.copy(DATA / f"cnn_{kind}.tflite", pytester.path / f"{role}.tflite")
    pytester.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=4)


def test_the_how_to_names_every_property() -> None:
    text = (DATA.parent.parent / "docs" / "properties.md").read_text()
    named = set(re.findall(r"`(\w+)\(", text)) | {"check"}
    helpers = {"minimum_runtime", "only_removes"}
    assert set(properties.__all__) - helpers <= named
    drawn = set(strategies.__all__) - {"Chain", "FilePair", "Schedule", "SingleLayer"}
    assert drawn <= named


def test_the_how_to_s_figures() -> None:
    figures = [
        ((128, 1, 1, 64), "float32", 0.21),
        ((128, 1, 1, 64), "float16", 0.36),
        ((128, 1, 1, 64), "int8", 0.63),
        ((16, 1, 1, 8), "float32", 0.77),
        ((16, 1, 1, 8), "float16", np.inf),
        ((16, 1, 1, 8), "int8", np.inf),
    ]
    for shape, dtype, figure in figures:
        assert properties.break_even(shape, dtype) == pytest.approx(figure, abs=0.005)
