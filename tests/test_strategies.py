"""The strategies: what they can draw, what they never draw, and that examples shrink to little."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_sparsity import prunable_layers, strategies
from pytest_sparsity.encoding import decode, encode
from pytest_sparsity.errors import ModelError
from pytest_sparsity.model import Model, replace_file
from pytest_sparsity.strategies import Chain, Schedule, SingleLayer
from pytest_sparsity.strategies.chains import BAD_ENDS, BAD_ENTRIES, BAD_STEPS, STEPS
from pytest_sparsity.xnnpack import analyse, kernels, verdict

PATTERNS = ("unstructured", "2:4", "1:3", "1x4", "1x16")
DTYPES = ("float32", "float16", "int8")
# Where sparse kernels run.
PLACES = (
    ("litert", "2.3.0", "aarch64", frozenset[str]()),
    ("litert-js", "2.5.3", "wasm32", frozenset[str]()),
    ("tflite-runtime", "2.14.0", "aarch64", frozenset({"asimdhp", "fphp"})),
)
Weights = NDArray[Any]

SEARCH = settings(max_examples=2000, derandomize=True, database=None, deadline=None)


def minimal(strategy: st.SearchStrategy[Any], condition: Callable[[Any], Any]) -> Any:
    return find(strategy, lambda example: bool(condition(example)), settings=SEARCH)


def anything(_example: Any) -> bool:
    return True


def saved(folder: Path, name: str, data: bytes) -> Path:
    """The path of a new file: models that are still open keep the old one."""
    replace_file(folder / name, data)
    return folder / name


def written(build: Chain | SingleLayer, folder: Path) -> Model:
    return Model(build.build().write(folder / "network.tflite"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("strategies")


# --------------------------------------------------------------------------- what is drawn


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_weights_are_finite_and_of_their_type(dtype: str, data: st.DataObject) -> None:
    drawn = data.draw(strategies.weights(dtype=dtype))
    assert drawn.dtype == dtype
    assert drawn.ndim in (2, 4)
    assert np.isfinite(drawn).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    "condition",
    [
        lambda w: (w == 0).any(),
        lambda w: (np.signbit(w) & (w == 0)).any(),
        lambda w: ((w != 0) & (np.abs(w) < np.finfo(w.dtype).tiny)).any(),
        lambda w: (np.abs(w) == np.finfo(w.dtype).max).any(),
    ],
    ids=["zero", "negative zero", "subnormal", "largest"],
)
def test_odd_weights_are_drawn_and_shrink_to_one(
    dtype: str, condition: Callable[[Weights], bool]
) -> None:
    found = minimal(strategies.weights(dtype=dtype), condition)
    assert found.shape == (1, 1)


def test_ties_are_drawn_and_shrink_to_two_weights() -> None:
    found = minimal(
        strategies.weights(), lambda w: np.count_nonzero(w) > len(np.unique(np.abs(w[w != 0])))
    )
    assert np.abs(found).tolist() in ([[1, 1]], [[1], [1]])


def test_weights_wide_enough_for_two_byte_indices_are_drawn() -> None:
    shapes = strategies.shapes(2, widest=300)
    found = minimal(shapes, lambda shape: shape[1] > 256)
    assert found == (1, 257)


def groups(mask: Weights, size: int) -> Weights:
    """The mask's groups of consecutive inputs, the last filled up with False."""
    rest = -mask.shape[-1] % size
    filled = np.pad(mask, [*[(0, 0)] * (mask.ndim - 1), (0, rest)])
    return filled.reshape(-1, size)


@pytest.mark.parametrize("pattern", ["2:4", "1:3"])
@given(data=st.data())
def test_m_of_n_masks_hold_in_every_group(pattern: str, data: st.DataObject) -> None:
    zeros, size = map(int, pattern.split(":"))
    mask = data.draw(strategies.masks(pattern))
    assert groups(mask, size).sum(axis=1).max() <= size - zeros


@pytest.mark.parametrize("size", [4, 16])
@given(data=st.data())
def test_block_masks_keep_or_remove_whole_blocks(size: int, data: st.DataObject) -> None:
    mask = data.draw(strategies.masks(f"1x{size}"))
    width = mask.shape[-1] // size * size
    whole = mask[..., :width].reshape(-1, size)
    assert (whole.all(axis=1) | ~whole.any(axis=1)).all()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_masks_shrink_to_the_least_that_keeps_two_weights(pattern: str) -> None:
    found = minimal(strategies.masks(pattern), lambda mask: mask.sum() >= 2)
    assert found.sum() == 2
    assert found.size == 2


@pytest.mark.parametrize("pattern", PATTERNS)
@given(data=st.data())
def test_sparse_weights_are_zero_where_the_mask_removes_them(
    pattern: str, data: st.DataObject
) -> None:
    drawn = data.draw(strategies.sparse_weights(pattern, (3, 16)))
    assert drawn.shape == (3, 16)
    if pattern == "2:4":
        assert (groups(drawn != 0, 4).sum(axis=1) <= 2).all()


# ----------------------------------------------------------------- the encoding of any weights


@pytest.mark.parametrize("block", [1, 4, 16])
@given(data=st.data())
def test_encoding_keeps_every_weight(block: int, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = data.draw(strategies.shapes(widest=300))
    shape = (*shape[:-1], -(-shape[-1] // block) * block)
    dense = data.draw(strategies.sparse_weights(f"1x{block}", shape, dtype=dtype))
    values, sparsity = encode(dense, block)
    decoded = decode(values, dense.shape, sparsity)
    assert (decoded + decoded.dtype.type(0)).tobytes() == (dense + dense.dtype.type(0)).tobytes()


# ------------------------------------------------------------------------------- schedules


@given(strategies.schedules())
def test_schedules_rise_to_their_final_sparsity(schedule: Schedule) -> None:
    sparsities = [schedule.sparsity_at(step) for step in range(120)]
    assert sparsities == sorted(sparsities)
    assert sparsities[-1] == pytest.approx(schedule.final)
    assert all(0 <= sparsity < 1 for sparsity in sparsities)


def test_schedules_shrink_to_a_constant() -> None:
    assert minimal(strategies.schedules(), anything) == Schedule(0.0)
    polynomial = minimal(strategies.schedules(), lambda schedule: schedule.initial is not None)
    assert polynomial == Schedule(0.0, 0.0, begin=0, end=1)


def test_a_schedule_that_ends_before_its_final_sparsity_is_drawn() -> None:
    found = minimal(
        strategies.schedules(),
        lambda s: s.updates(1000) and s.sparsity_at(s.updates(1000)[-1]) < s.final,
    )
    assert found == Schedule(0.5, 0.0, begin=0, end=1, frequency=2)


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(0.8),
        Schedule(0.8, begin=3, frequency=10),
        Schedule(0.8, 0.5, begin=2, end=20, frequency=5),
        Schedule(0.8, 0.5, begin=0, end=50, frequency=100, power=1),
    ],
    ids=repr,
)
def test_schedules_are_those_of_tfmot(schedule: Schedule) -> None:
    from pytest_sparsity.variants import networks

    networks.import_tfmot()
    import tensorflow as tf

    built = schedule.build()
    updates, sparsities = [], []
    for step in range(60):
        updates_masks, sparsity = built(tf.constant(step, tf.int64))
        updates += [step] * bool(updates_masks)
        sparsities.append(float(sparsity))
    assert schedule.updates(60) == tuple(updates)
    assert [schedule.sparsity_at(step) for step in range(60)] == pytest.approx(sparsities, abs=1e-6)


# -------------------------------------------------------------------------------- networks


@given(strategies.layers())
def test_a_layer_reads_back_as_drawn(folder: Path, layer: SingleLayer) -> None:
    model = written(layer, folder)
    [read] = model.layers
    assert (read.op, read.shape, read.encoding) == (layer.op, layer.weights.shape, layer.encoding)
    if layer.dtype != "int8":
        stored = model.weights(read.tensor)
        assert np.array_equal(stored, layer.weights)


@pytest.mark.parametrize("encoding", ["dense", "sparse", "block 1x4", "block 1x16"])
def test_layers_shrink_to_one_group_of_weights(encoding: Any) -> None:
    found = minimal(strategies.layers(encoding=encoding), lambda layer: layer.weights.any())
    width = {"block 1x4": 4, "block 1x16": 16}.get(encoding, 1)
    assert found.weights.shape == (1, width)
    assert found.op == "FULLY_CONNECTED"


@pytest.mark.parametrize("place", PLACES, ids=operator.itemgetter(0))
@given(chain=strategies.networks())
def test_every_pointwise_layer_of_accepted_networks_runs_sparse(
    folder: Path, place: tuple[str, str, str, frozenset[str]], chain: Chain
) -> None:
    analysis = analyse(written(chain, folder), *place)
    found = dict(zip(analysis.model.layers, kernels(analysis), strict=True))
    assert {
        kernel for layer, kernel in found.items() if layer in prunable_layers(analysis.model)
    } == {"sparse"}


@pytest.mark.parametrize("place", PLACES, ids=operator.itemgetter(0))
@given(chain=strategies.networks(accepted=False))
def test_networks_with_a_fault_do_not_run_sparse(
    folder: Path, place: tuple[str, str, str, frozenset[str]], chain: Chain
) -> None:
    assert verdict(analyse(written(chain, folder), *place)) in {"dense", "miscomputes"}


@pytest.mark.parametrize(
    "fault",
    [
        *({"entry": name} for name in BAD_ENTRIES),
        *({"steps": (name,)} for name in BAD_STEPS),
        *({"end": name} for name in BAD_ENDS),
        {"encoding": "dense"},
        {"zeros": 0.5},
    ],
    ids=str,
)
def test_every_fault_is_drawn_and_is_all_that_is_left(fault: dict[str, Any]) -> None:
    [(field, value)] = fault.items()
    found = minimal(
        strategies.networks(accepted=False), lambda chain: getattr(chain, field) == value
    )
    assert found == Chain(**fault)


def test_any_two_steps_fit_together(folder: Path) -> None:
    names = [*STEPS, *BAD_STEPS]
    for steps in itertools.product(names, repeat=2):
        assert written(Chain(steps=steps, channels=8), folder).layers


def test_networks_shrink_to_the_step_that_matters() -> None:
    found = minimal(strategies.networks(), lambda chain: "resize" in chain.steps)
    assert found == Chain(steps=("resize",))


# ----------------------------------------------------------------------------------- files


@given(strategies.pairs())
def test_pairs_hold_the_same_weights(folder: Path, pair: strategies.FilePair) -> None:
    dense = Model(saved(folder, "dense.tflite", pair.dense))
    sparse = Model(saved(folder, "sparse.tflite", pair.sparse))
    assert sparse.encoded
    assert not dense.encoded
    for one, other in zip(dense.layers, sparse.layers, strict=True):
        assert np.array_equal(dense.weights(one.tensor), sparse.weights(other.tensor))


def fault_of(folder: Path, data: bytes) -> str:
    """What `Model` has against a file, empty if it can be read."""
    path = saved(folder, "malformed.tflite", data)
    try:
        model = Model(path)
        _ = model.layers, model.sparsity
    except ModelError as error:
        return str(error)
    return ""


@given(strategies.malformed())
def test_malformed_files_are_read_or_refused_in_words(folder: Path, data: bytes) -> None:
    fault = fault_of(folder, data)
    assert not fault or "malformed.tflite" in fault


def test_most_malformed_files_are_refused_but_not_all(folder: Path) -> None:
    refused = []

    @settings(max_examples=200, derandomize=True, database=None)
    @given(strategies.malformed())
    def read(data: bytes) -> None:
        refused.append(bool(fault_of(folder, data)))

    read()
    assert 0.5 < np.mean(refused) < 1


def test_malformed_files_shrink_to_nothing() -> None:
    assert minimal(strategies.malformed(), anything) == b""
    cut = minimal(strategies.malformed(), lambda data: len(data) > 64)
    assert cut[4:8] == b"TFL3"
