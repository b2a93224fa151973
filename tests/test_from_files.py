"""Variants of files that are there: what is made of which, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_sparsity.model import Model
from pytest_sparsity.transform import densify, encode, prune
from pytest_sparsity.variants import from_files
from pytest_sparsity.writer import Network

DATA = Path(__file__).parent / "data"


def network(path: Path, width: int = 32) -> Model:
    rng = np.random.default_rng(0)
    net = Network((1, 16, 16, 3))
    x = net.conv2d(net.input, rng.standard_normal((16, 3, 3, 3), np.float32), padding="SAME")
    x = net.conv2d(x, rng.standard_normal((width, 1, 1, 16), np.float32), name="wide")
    net.output(net.mean(net.conv2d(x, rng.standard_normal((16, 1, 1, width), np.float32))))
    return Model(net.write(path))


@pytest.fixture
def dense(tmp_path: Path) -> Model:
    return network(tmp_path / "net.tflite")


def made(tmp_path: Path, *arguments: Any, **options: Any) -> Any:
    return from_files(*arguments, cache=tmp_path / "cache", **options)


def test_what_is_not_pruned_yet_is_pruned_by_magnitude(dense: Model, tmp_path: Path) -> None:
    files = made(tmp_path, dense, sparsity=0.9)
    assert bytes(files.dense.data) == bytes(dense.data)
    assert [round(x.sparsity, 1) for x in files.pruned.layers] == [0.0, 0.9, 0.9]
    assert [x.encoding for x in files.sparse.layers] == ["dense", "sparse", "sparse"]
    assert files.sparse.nbytes < files.pruned.nbytes
    assert [weight.layer for weight in files.weights] == [x.name for x in files.pruned.layers[1:]]
    assert all(weight.as_asked for weight in files.weights)
    expected = prune(dense, tmp_path / "expected.tflite", sparsity=0.9)
    assert bytes(files.pruned.data) == bytes(expected.data)


def test_what_its_owner_pruned_stays_as_it_is(dense: Model, tmp_path: Path) -> None:
    theirs = prune(dense, tmp_path / "theirs.tflite", sparsity=0.7)
    files = made(tmp_path, dense=dense.path, pruned=theirs.path, sparsity=0.7)
    assert bytes(files.pruned.data) == bytes(theirs.data)
    assert {weight.asked for weight in files.weights} == {0.7}
    stored = encode(theirs, tmp_path / "stored.tflite")
    again = made(tmp_path, dense=dense, pruned=stored)
    assert not again.pruned.encoded
    assert bytes(again.pruned.data) == bytes(densify(stored, tmp_path / "d.tflite").data)
    assert [x.encoding for x in again.sparse.layers] == ["dense", "sparse", "sparse"]
    assert all(weight.as_asked for weight in again.weights)


def test_files_are_kept_by_content(dense: Model, tmp_path: Path) -> None:
    first = made(tmp_path, dense)
    before = first.sparse.path.stat().st_mtime_ns
    assert made(tmp_path, dense).sparse.path.stat().st_mtime_ns == before
    assert made(tmp_path, dense, sparsity=0.81).sparse.path != first.sparse.path
    assert made(tmp_path, dense, rebuild=True).sparse.sha256 == first.sparse.sha256
    other = network(tmp_path / "net.tflite", width=64)
    assert made(tmp_path, other).sparse.path != first.sparse.path


def test_the_sparse_file_is_repaired_if_asked(dense: Model, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    net = Network((1, 16, 16, 3))
    x = net.conv2d(
        net.input, rng.standard_normal((16, 3, 3, 3), np.float32), stride=2, padding="SAME"
    )
    x = net.conv2d(x, rng.standard_normal((64, 1, 1, 16), np.float32))
    net.output(net.mean(x))
    model = Model(net.write(tmp_path / "same.tflite"))
    plain, repaired = (made(tmp_path, model, repair=each) for each in (False, True))
    assert bytes(plain.pruned.data) == bytes(repaired.pruned.data)
    ops = [[o.op for o in files.sparse.graph.operators] for files in (plain, repaired)]
    assert "REVERSE_V2" in ops[1]
    assert "REVERSE_V2" not in ops[0]


def test_blocks_and_named_layers(dense: Model, tmp_path: Path) -> None:
    files = made(tmp_path, dense, pattern="2:4", layers=["wide"])
    wide = next(x.index for x in dense.layers if "wide" in x.name)
    assert [x.sparsity for x in files.pruned.layers] == [
        0.5 if x.index == wide else 0.0 for x in dense.layers
    ]
    (weight,) = files.weights
    assert weight.asked == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("wider", "net2.tflite is not net.tflite pruned: their layers differ"),
        ("same", "net.tflite has no more zeros than net.tflite: was it converted before pruning"),
        ("fewer", "of the weights of fewer.tflite that were pruned 50.0% are zero, not 80.0%"),
    ],
)
def test_files_that_are_no_pair(change: str, message: str, dense: Model, tmp_path: Path) -> None:
    others = {
        "wider": lambda: network(tmp_path / "net2.tflite", width=64),
        "same": lambda: dense,
        "fewer": lambda: prune(dense, tmp_path / "fewer.tflite", sparsity=0.5),
    }
    with pytest.raises(ValueError, match=message):
        made(tmp_path, dense, pruned=others[change](), sparsity=0.8)
