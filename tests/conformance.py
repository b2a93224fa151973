"""What every target must do with a model that fails, a child that dies and a file that changes.

`test_conformance.py` runs these on the targets of this machine, `claims/test_conformance.py` on the
emulated ones. Each takes a worker, which may not survive it.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from defective import pooled_at_the_end
from pytest_sparsity import xnnpack
from pytest_sparsity.errors import ModelError, TargetError
from pytest_sparsity.inputs import feed
from pytest_sparsity.model import Model
from pytest_sparsity.model.flatbuffer import read
from pytest_sparsity.model.serializer import pieces
from pytest_sparsity.targets import InvocationError, Target, Worker
from pytest_sparsity.writer import DType, Network

Case = Callable[[Worker, Path], None]
CASES: list[Case] = []


def case(function: Case) -> Case:
    CASES.append(function)
    return function


class Workers:
    """One worker per target, as long as it lives."""

    def __init__(self) -> None:
        self._opened: dict[str, Worker] = {}

    def on(self, name: str) -> Worker:
        missing = Target.of(name).missing()
        if missing is not None:
            pytest.skip(str(missing))
        if name not in self._opened or self._opened[name].ended:
            self._opened[name] = Target.of(name).open()
        return self._opened[name]

    def close(self) -> None:
        for worker in self._opened.values():
            worker.close()


def random(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(len(shape)).standard_normal(shape, np.float32)


def working(folder: Path, width: int = 16) -> Model:
    net = Network((1, 8))
    x = net.fully_connected(net.input, random(width, 8), activation="RELU")
    net.output(net.fully_connected(x, random(4, width)))
    return Model(net.write(folder / "working.tflite"))


def ids(folder: Path) -> Model:
    """A table of ten rows, looked up by an input."""
    net = Network((1,), dtype=cast("DType", "int32"))
    table = net.constant(random(10, 8))
    rows = net.operator(
        "GATHER", [table, net.input], (1, 8), "GatherOptions", {"axis": 0}, version=1
    )
    net.output(net.fully_connected(rows, random(4, 8)))
    return Model(net.write(folder / "ids.tflite"))


def constant_id(folder: Path) -> Model:
    """A table looked up behind its end by a shape, which the graph computes."""
    net = Network((1, 8))
    options = ("GatherOptions", {"axis": 0})
    shape = net.operator(
        "SHAPE", [net.input], (2,), "ShapeOptions", {"out_type": 2}, dtype="int32", version=1
    )
    one = net.constant(np.array([1], np.int32))
    width = net.operator("GATHER", [shape, one], (1,), *options, dtype="int32", version=1)
    table = net.constant(random(5, 8))
    row = net.operator("GATHER", [table, width], (1, 8), *options, version=1)
    net.output(net.fully_connected(net.add(net.input, row), random(4, 8)))
    return Model(net.write(folder / "constant_id.tflite"))


def custom(folder: Path) -> Model:
    """An operator that no runtime knows, by the name Mystery."""
    net = Network((1, 8))
    net.output(net.operator("CUSTOM", [net.input], (1, 8), version=1))
    flatbuffer = read(net.to_bytes())
    flatbuffer.root["operator_codes"][0]["custom_code"] = b"Mystery"
    path = folder / "custom.tflite"
    path.write_bytes(b"".join(pieces(flatbuffer)))
    return Model(path)


def unsizable(folder: Path) -> Model:
    """Open height and width, which become 1, under a convolution that needs 5 of each."""
    net = Network((1, 9, 9, 3))
    net.output(net.conv2d(net.input, random(4, 5, 5, 3), padding="VALID"))
    net.leave_open(net.input, 1, 2)
    return Model(net.write(folder / "unsizable.tflite"))


def fails(act: Callable[[], object], kind: type[Exception] = TargetError) -> str:
    with pytest.raises(kind) as caught:
        act()
    said = str(caught.value)
    assert "\n" not in said, "one sentence"
    return said


def of(worker: Worker) -> str:
    return worker._child.target


def loaded(worker: Worker, model: Model) -> None:
    worker.load("a", model)
    worker.set_inputs("a", [random(1, 8)])


@case
def outputs_are_those_of_the_model(worker: Worker, folder: Path) -> None:
    x = random(1, 8)
    expected = np.maximum(x @ random(16, 8).T, 0) @ random(4, 16).T
    loaded(worker, working(folder))
    np.testing.assert_allclose(worker.outputs("a")[0], expected, rtol=1e-4, atol=1e-5)
    assert len(worker.run([("a", 2), ("a", 2)]).wall_ns) == 2
    np.testing.assert_allclose(worker.outputs("a")[0], expected, rtol=1e-4, atol=1e-5)


@case
def an_index_out_of_range(worker: Worker, folder: Path) -> None:
    worker.load("a", ids(folder))
    worker.set_inputs("a", [np.array([3], np.int32)])
    right = worker.outputs("a")
    worker.set_inputs("a", [np.array([99], np.int32)])
    for act in (lambda: worker.outputs("a"), lambda: worker.run([("a", 3)])):
        said = fails(act, InvocationError)
        assert said.startswith(f"{of(worker)} failed when running ids.tflite")
        assert "gather index out of bounds" in said
    worker.load("a", ids(folder))
    worker.set_inputs("a", [np.array([3], np.int32)])
    assert np.array_equal(worker.outputs("a")[0], right[0]), "the child is as good as before"


@case
def a_failed_invocation_is_answered_as_such(worker: Worker, folder: Path) -> None:
    """The child itself says so: its log may not reach whoever asks."""
    worker.load("a", ids(folder))
    worker.set_inputs("a", [np.array([99], np.int32)])
    for request in (
        {"do": "outputs", "key": "a", "file": str(folder / "outputs")},
        {"do": "run", "blocks": [["a", 3]], "warm": 1},
    ):
        answer = worker._child.exchange("running ids.tflite", {"id": 0, **request})
        assert (answer["ok"], answer["kind"]) == (False, "invocation")
        assert "gather index out of bounds" in answer["error"]


@case
def a_constant_index_out_of_range(worker: Worker, folder: Path) -> None:

    def act() -> None:
        worker.load("a", constant_id(folder))
        worker.run([("a", 3)])

    assert "gather index out of bounds" in fails(act)
    loaded(worker, working(folder))


@case
def an_operator_that_it_does_not_know(worker: Worker, folder: Path) -> None:
    def act() -> None:
        worker.load("a", custom(folder))
        worker.run([("a", 3)])

    assert "Encountered unresolved custom op: Mystery" in fails(act)
    loaded(worker, working(folder))


@case
def a_size_that_does_not_fit(worker: Worker, folder: Path) -> None:

    def act() -> None:
        worker.load("a", unsizable(folder))
        worker.run([("a", 3)])

    # TensorFlow 2.21 crashes.
    assert re.match(f"{of(worker)} (failed|crashed with SIGSEGV) when ", fails(act))


@case
def a_crash(worker: Worker, folder: Path) -> None:
    loaded(worker, working(folder))
    os.kill(worker.pid, signal.SIGKILL)
    said = fails(lambda: worker.run([("a", 3)]))
    assert said.startswith(f"{of(worker)} crashed with SIGKILL when running working.tflite")


@case
def a_hang(worker: Worker, folder: Path) -> None:
    loaded(worker, working(folder))
    worker._child.timeout = 0.3
    os.kill(worker.pid, signal.SIGSTOP)
    said = fails(lambda: worker.run([("a", 3)]))
    # Where asking takes time a block may take more than what any answer may.
    late = r" did not answer within 0\.[0-9]+ s when running working\.tflite"
    assert re.match(re.escape(of(worker)) + late, said)


@case
def a_replaced_file(worker: Worker, folder: Path) -> None:
    """Also one with the size and the time of the file that it takes the place of."""
    model = working(folder)
    assert model.sha256
    status = model.path.stat()
    data = bytearray(model.path.read_bytes())
    place = data.find(random(4, 16).tobytes())
    data[place] ^= 1
    worker.load("a", model)
    beside = folder / "beside"
    beside.write_bytes(data)
    os.utime(beside, ns=(status.st_atime_ns, status.st_mtime_ns))
    beside.replace(model.path)
    said = fails(lambda: worker.load("b", model), ModelError)
    assert said.endswith("the file has changed since it was read: make a new Model of it")
    assert worker.load("b", Model(model.path)).inputs


@case
def slow_inferences_are_no_hang(worker: Worker, folder: Path) -> None:
    """A request of many invocations may take longer than any answer otherwise."""
    model = working(folder, width=60_000)
    loaded(worker, model)
    worker.run([("a", 1)])
    (wall_ns,) = worker.run([("a", 10)]).wall_ns
    patient = worker._child.timeout
    worker._child.timeout = 2 * wall_ns / 10 / 1e9
    assert len(worker.run([("a", 1)] * 20).wall_ns) == 20
    worker._child.timeout = patient


@case
def outputs_that_nothing_computes(worker: Worker, folder: Path) -> None:
    """No invocation writes a shape. LiteRT.js 2.5.3 refuses such a model's second invocation."""
    net = Network((1, 8))
    shape = net.operator(
        "SHAPE", [net.input], (2,), "ShapeOptions", {"out_type": 2}, dtype="int32", version=1
    )
    net.output(net.fully_connected(net.input, random(4, 8)), shape)
    loaded(worker, Model(net.write(folder / "shape.tflite")))
    if of(worker).startswith("litert-js"):
        assert "allocation_type" in fails(lambda: worker.run([("a", 2)]), InvocationError)
        return
    worker.run([("a", 2)])
    y, sizes = worker.outputs("a")
    assert sizes.tolist() == [1, 8]
    np.testing.assert_allclose(y, random(1, 8) @ random(4, 8).T, rtol=1e-4, atol=1e-5)


@case
def an_input_that_is_an_output(worker: Worker, folder: Path) -> None:
    net = Network((1, 8))
    net.output(net.reshape(net.input, (8,)), net.fully_connected(net.input, random(4, 8)))
    loaded(worker, Model(net.write(folder / "reshape.tflite")))
    worker.run([("a", 2)])
    flat, y = worker.outputs("a")
    assert np.array_equal(flat, random(1, 8)[0])
    np.testing.assert_allclose(y, random(1, 8) @ random(4, 8).T, rtol=1e-4, atol=1e-5)


@case
def an_output_that_no_kernel_writes(worker: Worker, folder: Path) -> None:
    """XNNPACK's sparse kernels leave the output of a ReLU behind the pool as it was."""
    model = pooled_at_the_end("relu")
    path = Model(model.write(folder / "unwritten.tflite"))
    target = Target.of(of(worker))
    facts = (target.record.rules, target.version(), target.arch, target.features)
    defects = {defect.code for defect in xnnpack.analyse(path, *facts).defects}
    fed = feed(path)
    worker.load("a", path, shapes=fed.shapes)
    worker.set_inputs("a", fed.arrays(0))
    if "unwritten-output" not in defects:
        assert np.isfinite(worker.outputs("a")[0]).all()
        return
    answer = worker._child.exchange(
        "running", {"id": 0, "do": "outputs", "key": "a", "file": str(folder / "outputs")}
    )
    assert (answer["ok"], answer.get("kind")) == (False, "unwritten")


@case
def an_output_may_be_what_outputs_are_filled_with(worker: Worker, folder: Path) -> None:
    """Outputs are filled with a byte before an invocation, to see whether it writes them."""
    net = Network((1, 64))
    net.output(net.unary(net.input, "RELU"))
    worker.load("a", Model(net.write(folder / "pattern.tflite")))
    x = np.full((1, 64), np.frombuffer(b"\x5a" * 4, np.float32)[0], np.float32)
    worker.set_inputs("a", [x])
    assert np.array_equal(worker.outputs("a")[0], x)
    assert len(worker.run([("a", 2)]).wall_ns) == 1
