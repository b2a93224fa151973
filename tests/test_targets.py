"""The targets on this machine: real runtimes over small models, and words where one is missing."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pytest_sparsity.errors import TargetError, Unsupported
from pytest_sparsity.machine import this_machine
from pytest_sparsity.model import Model
from pytest_sparsity.targets import (
    Launch,
    LoadError,
    Signature,
    Target,
    TensorSpec,
    Worker,
    all_targets,
    available_targets,
    npm,
    sealed,
    seeded_inputs,
)
from pytest_sparsity.targets.python import Environment
from pytest_sparsity.targets.runtimes import RUNTIMES
from pytest_sparsity.targets.worker.interpreter import Counter, time_block
from pytest_sparsity.transform.edit import Edit
from pytest_sparsity.writer import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

NATIVE = ("litert", "tflite-runtime", "tensorflow")
HERE = (*NATIVE, "litert-js", "litert-js-compat")


def ready(name: str) -> Target:
    """Return the target, or skip where it cannot run."""
    target = Target.of(name)
    missing = target.missing()
    if missing is not None:
        pytest.skip(str(missing))
    return target


@pytest.fixture(scope="module", params=[*NATIVE, "litert-js"])
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    with ready(request.param).open() as opened:
        yield opened


@pytest.fixture(scope="module", params=NATIVE)
def native(request: pytest.FixtureRequest) -> Iterator[Worker]:
    with ready(request.param).open() as opened:
        yield opened


@pytest.fixture(scope="module")
def litert() -> Iterator[Worker]:
    with ready("litert").open() as opened:
        yield opened


@pytest.fixture(scope="module")
def litert_js() -> Iterator[Worker]:
    with ready("litert-js").open() as opened:
        yield opened


def random(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(len(shape)).standard_normal(shape, np.float32)


KERNEL = random(16, 1, 1, 8)


@pytest.fixture
def convolution(tmp_path: Path) -> Path:
    """A 1x1 convolution and a ReLU: what it computes is one line of numpy."""
    net = Network((1, 6, 5, 8))
    net.output(net.conv2d(net.input, KERNEL, activation="RELU"))
    return net.write(tmp_path / "convolution.tflite")


def convolved(x: NDArray[Any]) -> NDArray[Any]:
    result: NDArray[Any] = np.maximum(np.einsum("bhwi,oi->bhwo", x, KERNEL[:, 0, 0]), 0)
    return result


# ------------------------------------------------------------------------------- the real runtimes


def test_hello_says_what_runs(worker: Worker) -> None:
    target = Target.of(worker.hello["runtime"])
    assert worker.hello["cpu"]
    more = {"compiles": True} if target.name == "litert-js" else {"forks": sys.platform == "linux"}
    assert worker.hello == {
        "protocol": 2,
        "runtime": target.name,
        "version": target.version(),
        "cpu": worker.hello["cpu"],
        "clock": "cpu",
        **more,
        "engine": worker.hello["engine"],
    }
    assert target.version()[0].isdigit()
    engine = "Node" if target.name == "litert-js" else "CPython"
    assert worker.hello["engine"].startswith(f"{engine} ")


def test_outputs_are_those_of_numpy(worker: Worker, convolution: Path) -> None:
    signature = worker.load("a", convolution)
    assert [(s.shape, s.dtype) for s in signature.inputs] == [((1, 6, 5, 8), "float32")]
    assert [(s.shape, s.dtype) for s in signature.outputs] == [((1, 6, 5, 16), "float32")]
    (x,) = seeded_inputs(signature, 1)
    worker.set_inputs("a", [x])
    (y,) = worker.outputs("a")
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, convolved(x), rtol=1e-5, atol=1e-6)


def test_open_sizes_that_litert_js_does_not_see_are_refused(tmp_path: Path) -> None:
    """Older converters did not note that a shape has a rank: LiteRT reads 1 for what is open."""
    net = Network((1, 9))
    y = net.unary(net.input, "RELU")
    net.output(y)
    net.leave_open(net.input, 1)
    net.leave_open(y, 1)
    edit = Edit(Model(net.write(tmp_path / "open.tflite")))
    for tensor in edit.graph(0)["tensors"]:
        tensor["has_rank"] = False
    model = edit.write(tmp_path / "unseen.tflite")
    with (
        ready("litert-js").open() as worker,
        pytest.raises(Unsupported, match=r"cannot size the output relu_0"),
    ):
        worker.load("a", model, shapes=[(1, 16)])


def test_litert_js_loads_the_build_that_it_would_load_in_a_browser(
    tmp_path: Path, convolution: Path
) -> None:
    """The build with relaxed SIMD where Node has it, else the other one."""
    target = ready("litert-js")
    launch = target.place.launch(target.record, 1)
    engines = []
    older = tmp_path / "older.mjs"
    older.write_text("WebAssembly.validate = () => false;")
    for flags in ((), (f"--import={older.as_uri()}",)):
        command = (launch.command[0], *flags, *launch.command[1:])
        with Worker("litert-js", Launch(command, launch.environment)) as worker:
            (x,) = seeded_inputs(worker.load("a", convolution), 1)
            worker.set_inputs("a", [x])
            np.testing.assert_allclose(worker.outputs("a")[0], convolved(x), rtol=1e-5, atol=1e-6)
            engines.append(worker.hello["engine"].rpartition(", ")[2])
    assert engines == ["normal build", "compat build"]
    with ready("litert-js-compat").open() as worker:
        assert worker.hello["engine"].endswith(", compat build")
        assert worker.hello["runtime"] == "litert-js-compat"


def test_inputs_are_zero_until_they_are_set(worker: Worker, convolution: Path) -> None:
    worker.load("a", convolution)
    assert not worker.outputs("a")[0].any()


def test_inputs_and_outputs_keep_the_order_of_the_file(worker: Worker, tmp_path: Path) -> None:
    net = Network((1, 3))
    second = net.add_input((1, 2))
    first = net.fully_connected(net.input, random(4, 3))
    net.output(net.fully_connected(second, random(5, 2)), first)
    signature = worker.load("a", net.write(tmp_path / "two.tflite"))
    assert [spec.shape for spec in signature.inputs] == [(1, 3), (1, 2)]
    assert [spec.shape for spec in signature.outputs] == [(1, 5), (1, 4)]
    x = seeded_inputs(signature, 2)
    worker.set_inputs("a", x)
    y = worker.outputs("a")
    np.testing.assert_allclose(y[0], x[1] @ random(5, 2).T, rtol=1e-5)
    np.testing.assert_allclose(y[1], x[0] @ random(4, 3).T, rtol=1e-5)


def test_a_dynamic_batch_is_one(worker: Worker, tmp_path: Path) -> None:
    path = with_dynamic_batch(tmp_path)
    signature = worker.load("a", path)
    assert [spec.shape for spec in (*signature.inputs, *signature.outputs)] == [(1, 3), (1, 4)]
    x = seeded_inputs(signature, 3)
    worker.set_inputs("a", x)
    np.testing.assert_allclose(worker.outputs("a")[0], x[0] @ random(4, 3).T, rtol=1e-5)


def with_dynamic_batch(folder: Path) -> Path:
    """Write a network with an open batch, as Keras exports them."""
    net = Network((1, 3))
    y = net.fully_connected(net.input, random(4, 3))
    net.output(y)
    net.leave_open(net.input, 0)
    net.leave_open(y, 0)
    return net.write(folder / "dynamic.tflite")


def averaging(folder: Path) -> Path:
    """Write a network whose input has an open height and width, and whose output has not."""
    net = Network((1, 1, 1, 3))
    net.output(net.mean(net.input))
    net.leave_open(net.input, 1, 2)
    return net.write(folder / "averaging.tflite")


def test_open_dimensions_are_what_is_asked_for(worker: Worker, tmp_path: Path) -> None:
    signature = worker.load("a", averaging(tmp_path), shapes=[(1, 5, 7, 3)])
    assert signature.inputs[0].shape == (1, 5, 7, 3)
    x = random(1, 5, 7, 3)
    worker.set_inputs("a", [x])
    np.testing.assert_allclose(worker.outputs("a")[0], x.mean((1, 2)), rtol=1e-4, atol=1e-6)


def test_outputs_grow_with_the_inputs_or_are_refused(worker: Worker, tmp_path: Path) -> None:
    path, x = with_dynamic_batch(tmp_path), random(6, 3)
    if worker.hello["runtime"] == "litert-js":
        with pytest.raises(Unsupported, match="convert the model with a fixed input shape"):
            worker.load("a", path, shapes=[(6, 3)])
        return
    worker.load("a", path, shapes=[(6, 3)])
    worker.set_inputs("a", [x])
    np.testing.assert_allclose(worker.outputs("a")[0], x @ random(4, 3).T, rtol=1e-5)


def test_integers_go_in_and_out(worker: Worker, tmp_path: Path) -> None:
    net = Network((1, 4, 4, 8), dtype="int8")
    net.output(net.max_pool(net.input, 2))
    signature = worker.load("a", net.write(tmp_path / "int8.tflite"))
    assert {spec.dtype for spec in (*signature.inputs, *signature.outputs)} == {"int8"}
    (x,) = seeded_inputs(signature, 4)
    worker.set_inputs("a", [x])
    (y,) = worker.outputs("a")
    windows = x.reshape(1, 2, 2, 2, 2, 8).max(axis=(2, 4))
    assert np.array_equal(y, windows)


def test_times_grow_with_the_invocations(worker: Worker, convolution: Path) -> None:
    worker.load("a", convolution)
    worker.load("b", convolution, pad=(100, 20000))
    worker.run([("a", 2000), ("b", 2000)])
    blocks = worker.run([("a", 40), ("b", 4000), ("a", 40), ("a", 40)], warm=3)
    assert len(blocks.wall_ns) == len(blocks.cpu_ns) == len(blocks.preempted) == 4
    assert blocks.instructions is None
    assert min(blocks.wall_ns) > 0
    assert min(blocks.preempted) >= 0
    # A hundred times the invocations; the JIT of Node may still be at work beside the short ones.
    assert blocks.cpu_ns[1] > 10 * min(blocks.cpu_ns)
    assert worker.run([]).wall_ns == ()


def test_models_are_replaced_and_unloaded(worker: Worker, convolution: Path) -> None:
    worker.load("a", convolution)
    worker.load("a", convolution)
    worker.unload("a")
    with pytest.raises(KeyError):
        worker.outputs("a")


def test_wrong_inputs_are_refused(worker: Worker, convolution: Path) -> None:
    worker.load("a", convolution)
    for wrong in (np.zeros((1, 6, 5, 7), np.float32), np.zeros((1, 6, 5, 8))):
        with pytest.raises(ValueError, match=r"^convolution\.tflite takes inputs .*, not "):
            worker.set_inputs("a", [wrong])


def test_a_file_that_is_not_a_model(worker: Worker, convolution: Path, tmp_path: Path) -> None:
    (tmp_path / "no.tflite").write_bytes(b"this has never been a model at all")
    with pytest.raises(LoadError) as caught:
        worker.load("a", tmp_path / "no.tflite")
    said = str(caught.value)
    assert said.startswith(f"{worker.hello['runtime']} failed when loading no.tflite: ")
    assert "model" in said.partition(": ")[2]
    with pytest.raises(LoadError, match=r"nowhere\.tflite"):
        worker.load("a", tmp_path / "nowhere.tflite")
    assert worker.load("a", convolution).inputs


def test_kernels_agree(native: Worker, convolution: Path) -> None:
    (x,) = seeded_inputs(native.load("default", convolution), 5)
    for kernels in ("default", "builtin", "reference"):
        native.load(kernels, convolution, kernels=kernels)
        native.set_inputs(kernels, [x])
        np.testing.assert_allclose(native.outputs(kernels)[0], convolved(x), rtol=1e-5, atol=1e-6)


def test_unknown_kernels(litert: Worker, convolution: Path) -> None:
    with pytest.raises(ValueError, match="default, builtin, reference, not 'fast'"):
        litert.load("a", convolution, kernels="fast")


class Idle:
    """A model that does nothing, on so many threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.invoke = self.spoil = self.prove = lambda: None


@pytest.mark.parametrize(("threads", "who"), [(1, "RUSAGE_THREAD"), (2, "RUSAGE_SELF")])
def test_whoever_takes_a_cpu_from_one_of_several_threads_is_counted(
    threads: int, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    switches = iter((10, 13))
    asked: list[int] = []

    def usage(whose: int) -> SimpleNamespace:
        asked.append(whose)
        return SimpleNamespace(ru_nivcsw=next(switches))

    monkeypatch.setattr("pytest_sparsity.targets.worker.interpreter.resource.getrusage", usage)
    model: Any = Idle(threads)
    assert time_block(model, 3, 1)[2] == 3
    assert asked == [getattr(resource, who)] * 2


OPERATORS = """
import json, sys
from pytest_sparsity.targets.worker.installed import import_interpreter
from pytest_sparsity.targets.worker.interpreter import Loaded
runtime, path, kernels = sys.argv[1:]
request = {"path": path, "threads": 1, "kernels": kernels, "pad": []}
interpreter = Loaded(import_interpreter(json.loads(runtime)), request)._interpreter
operators = [detail["op_name"] for detail in interpreter._get_ops_details()]
print(json.dumps([operators, sorted(sys.modules)]))
"""


@pytest.mark.parametrize("runtime", NATIVE)
@pytest.mark.parametrize("kernels", ["default", "builtin", "reference"])
def test_xnnpack_is_the_default_and_only_that(
    runtime: str, kernels: str, convolution: Path
) -> None:
    ready(runtime)
    command = [
        sys.executable,
        "-c",
        OPERATORS,
        RUNTIMES[runtime].worker()[1],
        str(convolution),
    ]
    done = subprocess.run([*command, kernels], capture_output=True, check=True)
    operators, modules = json.loads(done.stdout)
    assert ("DELEGATE" in operators) == (kernels == "default")
    # Executing tensorflow/__init__ would take seconds.
    assert "tensorflow.python.eager.context" not in modules


def test_two_threads(native: Worker, convolution: Path) -> None:
    native.load("a", convolution, threads=2)
    (x,) = seeded_inputs(native._models["a"].signature, 6)
    native.set_inputs("a", [x])
    np.testing.assert_allclose(native.outputs("a")[0], convolved(x), rtol=1e-5, atol=1e-6)
    assert native.run([("a", 10)]).cpu_ns[0] > 0


def test_the_profile_names_what_is_executed(litert: Worker, tmp_path: Path) -> None:
    net = Network((1, 8, 8, 3))
    x = net.conv2d(net.pad(net.input, 1), random(8, 3, 3, 3), stride=2)
    net.output(net.mean(net.conv2d(x, random(16, 1, 1, 8))))
    litert.load("a", net.write(tmp_path / "net.tflite"))
    profile = litert.profile("a", 5)
    names = [name for name, _ in profile]
    assert names[0] == "Convolution (NHWC, F32) IGEMM"
    assert "Fully Connected (NC, F32) GEMM" in names
    assert all(ns >= 0 for _, ns in profile)


def test_the_profile_shows_the_runtimes_own_kernels(litert: Worker, tmp_path: Path) -> None:
    weights = random(64, 64)
    weights.reshape(-1, 4)[np.random.default_rng(0).random(1024) < 0.9] = 0
    net = Network((1, 64))
    net.output(net.fully_connected(net.input, weights, encoding="block 1x4"))
    litert.load("a", net.write(tmp_path / "block.tflite"))
    assert [name for name, _ in litert.profile("a", 3)] == ["FULLY_CONNECTED"]


def test_the_profile_uses_the_inputs(litert: Worker, tmp_path: Path) -> None:
    """Several inputs of different shapes and a dynamic batch reach the compiled model."""
    net = Network((1, 3))
    second = net.add_input((1, 2))
    first = net.fully_connected(net.input, random(4, 3))
    net.output(net.fully_connected(second, random(5, 2)), first)
    litert.load("a", net.write(tmp_path / "two.tflite"))
    names = [name for name, _ in litert.profile("a", 3)]
    assert names.count("Fully Connected (NC, F32) GEMM") == 2


def test_the_profile_of_a_dynamic_batch(litert: Worker, tmp_path: Path) -> None:
    litert.load("a", with_dynamic_batch(tmp_path))
    assert "Fully Connected (NC, F32) GEMM" in [name for name, _ in litert.profile("a", 3)]


@pytest.mark.parametrize("name", ["tflite-runtime", "tensorflow", "litert-js"])
def test_the_others_have_no_profile(name: str, convolution: Path) -> None:
    with ready(name).open() as worker:
        worker.load("a", convolution)
        with pytest.raises(Unsupported, match=f"^{name}: no operator profile$"):
            worker.profile("a")
        assert worker.outputs("a")


def test_what_litert_js_cannot(litert_js: Worker, convolution: Path) -> None:
    with pytest.raises(Unsupported, match=r"^litert-js: no reference kernels$"):
        litert_js.load("a", convolution, kernels="reference")
    with pytest.raises(Unsupported, match=r"^litert-js: one thread only$"):
        litert_js.load("a", convolution, threads=2)
    with pytest.raises(Unsupported, match=r"litert-js runs on one thread, not 2: use threads=1"):
        Target.of("litert-js").open(threads=2)


# ------------------------------------------------------------------------- targets and their names


def test_names_of_targets() -> None:
    cores = ("cortex-a53", "cortex-a76", "nehalem")
    emulated = [f"{runtime}@{core}" for runtime in ("litert", "tflite-runtime") for core in cores]
    browsers = ["litert-js@chromium", "litert-js@firefox"]
    assert [target.name for target in all_targets()] == [*HERE, *emulated, *browsers]
    assert [Target.of(target.name) for target in all_targets()] == list(all_targets())
    litert = Target.of("litert")
    assert Target.of(litert) is litert
    assert litert == Target.of("litert")
    assert (litert.host, litert.unit, str(litert)) == (None, "seconds", "litert")
    arm = Target.of("litert@cortex-a53")
    assert (arm.runtime, arm.host) == ("litert", "cortex-a53")
    assert (arm.unit, arm.arch) == ("instructions", "aarch64")
    with pytest.raises(ValueError, match=r"no target is called 'onnx'; there are litert, tflite-"):
        Target.of("onnx")
    with pytest.raises(ValueError, match=r"'litert_js' \(did you mean 'litert-js'\?\); there are"):
        Target.of("litert_js")


def test_available_targets_are_those_of_which_nothing_is_missing() -> None:
    available = available_targets()
    assert all(target.missing() is None for target in available)
    assert list(available) == [target for target in all_targets() if target.available]


def test_architecture_and_features() -> None:
    assert Target.of("litert").arch in {"x86_64", "aarch64"}
    assert Target.of("litert").features == this_machine().features
    assert Target.of("litert-js").arch == "wasm32"
    assert Target.of("litert-js").features == {"simd128", "relaxed-simd"}
    assert Target.of("litert-js-compat").features == {"simd128"}


def test_nothing_heavy_is_imported() -> None:
    program = "import sys, pytest_sparsity.targets as t; t.available_targets(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    heavy = {"numpy", "tensorflow", "ai_edge_litert", "tflite_runtime"}
    assert not heavy & set(done.stdout.decode().split())


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide every package and all of PATH."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("litert", "litert is not installed: {pip}[litert]'"),
        ("tensorflow", "tensorflow is not installed: {pip}[build]'"),
        ("litert-js", "litert-js needs Node, which is not installed: {pip}[js]'"),
    ],
)
def test_what_is_missing_and_its_remedy(name: str, said: str) -> None:
    target = Target.of(name)
    said = said.format(pip="python -m pip install 'pytest-sparsity")
    assert str(target.missing()) == said
    assert not target.available
    with pytest.raises(Unsupported) as caught:
        target.open()
    assert str(caught.value) == said


@pytest.mark.usefixtures("nothing_installed")
def test_tflite_runtime_has_no_wheel_for_newer_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target.of("tflite-runtime")
    monkeypatch.setattr(sys, "version_info", (3, 11, 9))
    assert str(target.missing()) == (
        "tflite-runtime is not installed: python -m pip install 'pytest-sparsity[tflite-runtime]'"
    )
    monkeypatch.setattr(sys, "version_info", (3, 12, 0))
    assert str(target.missing()) == (
        "tflite-runtime has no wheel for Python 3.12 or later: use Python 3.11 or older"
    )


def test_a_missing_version_is_unknown() -> None:
    elsewhere = replace(RUNTIMES["litert"], packages=("no-such-package",))
    assert Environment().version(elsewhere) == "unknown"


@pytest.mark.parametrize("package", ["ai-edge-litert", "ai-edge-litert-nightly"])
def test_worker_and_host_find_the_same_version(package: str, tmp_path: Path) -> None:
    """That of the package that is imported, whatever else is installed."""
    facts = tmp_path / f"{package.replace('-', '_')}-1.2.3.dist-info" / "METADATA"
    facts.parent.mkdir()
    facts.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2.3\n")
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "__init__.py").touch()
    (tmp_path / "ai_edge_litert" / "interpreter.py").touch()
    own = Environment(tmp_path)
    assert own.version(RUNTIMES["litert"]) == "1.2.3"
    with Worker("own", own.launch(RUNTIMES["litert"])) as worker:
        assert worker.hello["version"] == "1.2.3"


def test_every_name_of_a_package_is_found(tmp_path: Path) -> None:
    for runtime in NATIVE:
        for name in RUNTIMES[runtime].packages:
            folder = tmp_path / name / f"{name.replace('-', '_')}-0.0.7.dist-info"
            folder.mkdir(parents=True)
            (folder.parent / RUNTIMES[runtime].package).mkdir()
            (folder / "METADATA").write_text(f"Name: {name}\nVersion: 0.0.7\n")
            assert Environment(folder.parent).version(RUNTIMES[runtime]) == "0.0.7"


def test_the_environment_of_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("COVERAGE_PROCESS_START", "x")
    monkeypatch.setenv("PYTHONDEVMODE", "1")
    environment = Environment().launch(RUNTIMES["litert"]).environment
    assert environment["PYTHONPATH"] == "/somewhere"
    assert environment["TF_CPP_MIN_LOG_LEVEL"] == "2"
    assert not {"COVERAGE_PROCESS_START", "PYTHONDEVMODE"} & set(environment)


# ----------------------------------------------------------------------------------- seeded inputs


def specs(*described: tuple[Sequence[int], str]) -> Signature:
    return Signature(tuple(TensorSpec("x", tuple(s), d) for s, d in described), ())


def test_seeded_inputs_cover_their_ranges() -> None:
    signature = specs(
        ((1, 5000), "float32"), ((5000,), "int8"), ((64,), "bool"), ((20000,), "float16")
    )
    x, i, b, h = seeded_inputs(signature, 7)
    assert x.shape == (1, 5000)
    assert [array.dtype.name for array in (x, i, b, h)] == ["float32", "int8", "bool", "float16"]
    assert 0 <= x.min() < 0.01 < 0.99 < x.max() < 1
    assert (i.min(), i.max()) == (-128, 127)
    assert set(b.tolist()) == {True, False}
    assert 0.99 < h.max() < 1, "rounding must not make a one"


def test_seeded_inputs_are_those_of_the_seed() -> None:
    signature = specs(((3, 4), "float32"), ((3,), "uint8"), ((2,), "int64"))
    one, same, other = (seeded_inputs(signature, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[0], other[0])
    # numpy's documented stream: default_rng(1).random() is 0.5118...
    assert one[0][0, 0] == np.float32(0.5118216247002567)


def test_seeded_inputs_refuse_text() -> None:
    with pytest.raises(ValueError, match="cannot draw values of bytes_ for the input 'x'"):
        seeded_inputs(specs(((1,), "bytes_")), 0)


# ------------------------------------------------------------------------ Node and the npm package


def test_the_lock_file_pins_and_names_no_registry() -> None:
    folder = Path(npm.__file__).parent
    manifest = json.loads((folder / "package.json").read_text())
    lock = json.loads((folder / "package-lock.json").read_text())
    assert lock["packages"][""]["dependencies"] == manifest["dependencies"]
    packages = {name: p for name, p in lock["packages"].items() if name}
    assert packages["node_modules/@litertjs/core"]["version"] == npm.version()
    for package in packages.values():
        assert package["integrity"].startswith("sha512-")
        assert "resolved" not in package


FAKE_NPM = """#!/bin/sh
if [ "$1" = --version ]; then echo {version}; exit; fi
echo "$@" >> {log}
sleep 0.1
while [ "$1" != --prefix ]; do shift; done
{act}
"""
INSTALLS = 'mkdir -p "$2/node_modules/@litertjs/core"'
FAILS = 'echo "npm error code ENOTFOUND" >&2; echo "npm error a log of this" >&2; exit 1'


@pytest.fixture
def real_node() -> str:
    """Node; asked for before `fake_node`, which hides the wheel's."""
    found = npm.find_node()
    if found is None:
        pytest.skip("Node is not installed")
    return found


@pytest.fixture
def fake_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put a Node on PATH that only does what a test wants; the cache is empty."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(npm, "_failures", {})
    (tmp_path / "bin").mkdir()

    def written(act: str = INSTALLS, version: str = "v20.1.0") -> Path:
        log = tmp_path / "log"
        log.touch()
        for name in ("node", "npm"):
            script = tmp_path / "bin" / name
            script.write_text(FAKE_NPM.format(version=version, log=log, act=act))
            script.chmod(0o755)
        return log

    return written


def test_the_package_is_installed_once(
    fake_node: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    log = fake_node()
    target = Target.of("litert-js")
    assert target.missing() is None
    assert log.read_text() == "", "asking what is missing must not install"
    command = Target.of("litert-js").place.launch(RUNTIMES["litert-js"], 1).command
    assert Path(command[-1]).is_dir()
    assert capsys.readouterr().err == (
        f"pytest-sparsity: installing @litertjs/core {target.version()} "
        f"into {npm.cache_folder()} ...\n"
    )
    assert Target.of("litert-js").place.launch(RUNTIMES["litert-js"], 1).command == command
    (call,) = log.read_text().splitlines()
    assert call.startswith("ci --ignore-scripts --prefix ")
    assert sorted(p.name for p in npm.cache_folder().iterdir()) == [
        "lock",
        "node_modules",
        "package-lock.json",
        "package.json",
    ]


def test_a_changed_package_is_installed_again(
    fake_node: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    log = fake_node(f'{INSTALLS}; echo wasm > "$2/node_modules/@litertjs/core/a.wasm"')
    wasm = npm.installed("node") / "a.wasm"
    wasm.write_text("was")
    sealed.forget()
    capsys.readouterr()
    assert npm.installed("node") == wasm.parent
    assert f" again, since {wasm} has changed ...\n" in capsys.readouterr().err
    assert wasm.read_text() == "wasm\n"
    before = wasm.stat()
    wasm.write_text("mawS\n")
    os.utime(wasm, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert wasm.read_text() == "mawS\n"
    npm.installed("node", thoroughly=True)  # as `targets --install` does
    assert wasm.read_text() == "wasm\n"
    assert len(log.read_text().splitlines()) == 3


def test_processes_that_install_at_once_install_once(fake_node: Callable[..., Path]) -> None:
    log = fake_node()
    program = "from pytest_sparsity.targets import npm; print(npm.installed('node'))"
    command = [sys.executable, "-c", program]
    several = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)
    ]
    folders = {child.communicate(timeout=30)[0].decode().strip() for child in several}
    assert [child.returncode for child in several] == [0, 0, 0]
    assert folders == {str(npm.cache_folder() / "node_modules" / "@litertjs" / "core")}
    assert len(log.read_text().splitlines()) == 1


def test_a_failed_installation_says_the_command_and_is_not_repeated(
    fake_node: Callable[..., Path],
) -> None:
    log = fake_node(FAILS)
    target = Target.of("litert-js")
    said = (
        f"@litertjs/core {target.version()} cannot be installed, "
        "npm says 'npm error code ENOTFOUND': "
        "let npm reach its registry (npm_config_registry, HTTPS_PROXY) "
        "and run: pytest-sparsity targets --install litert-js"
    )
    for _ in range(2):
        with pytest.raises(Unsupported) as caught:
            target.open()
        assert str(caught.value) == said
    assert len(log.read_text().splitlines()) == 1
    assert str(target.missing()) == said
    assert not (npm.cache_folder() / "node_modules").exists()


def test_what_failed_is_tried_again_by_the_next_process(fake_node: Callable[..., Path]) -> None:
    fake_node(FAILS)
    with pytest.raises(Unsupported):
        npm.installed("node")
    fake_node(INSTALLS)
    npm._failures.clear()
    assert npm.installed("node").is_dir()
    assert Target.of("litert-js").missing() is None


# An npm that meets a proxy with a certificate of its own until Node takes the system's.
DISTRUSTS = """
echo "options:$NODE_OPTIONS" >> {log}
case $NODE_OPTIONS in *--use-system-ca*) {then} ;; esac
echo "npm error code {code}" >&2; exit 1
"""


@pytest.mark.parametrize("code", ["SELF_SIGNED_CERT_IN_CHAIN", "UNABLE_TO_GET_ISSUER_CERT_LOCALLY"])
def test_a_certificate_of_the_system_s_is_taken_the_second_time(
    fake_node: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setenv("NODE_OPTIONS", "--no-warnings")
    then = INSTALLS + "; exit"
    log = fake_node()
    fake_node(DISTRUSTS.format(log=log, code=code, then=then))
    assert npm.installed("node").is_dir()
    said = [line for line in log.read_text().splitlines() if line.startswith("options:")]
    assert said == ["options:--no-warnings", "options:--no-warnings --use-system-ca"]


@pytest.mark.parametrize(
    ("code", "tries", "remedy"),
    [
        ("SELF_SIGNED_CERT_IN_CHAIN", 2, "certificates in NODE_EXTRA_CA_CERTS and run: "),
        ("ECONNREFUSED", 1, "let npm reach its registry "),
        ("CERT_HAS_EXPIRED", 1, "let npm reach its registry "),
    ],
)
def test_npm_is_not_asked_again_for_nothing(
    fake_node: Callable[..., Path], code: str, tries: int, remedy: str
) -> None:
    # An older Node takes no such option and says so: the certificate stays the reason.
    then = "echo 'node: --use-system-ca is not allowed in NODE_OPTIONS' >&2; exit 9"
    log = fake_node()
    fake_node(DISTRUSTS.format(log=log, code=code, then=then))
    with pytest.raises(Unsupported, match=f"npm says 'npm error code {code}': .*{remedy}"):
        npm.installed("node")
    assert log.read_text().count("options:") == tries


def test_leftovers_of_an_interrupted_installation(fake_node: Callable[..., Path]) -> None:
    fake_node()
    (npm.cache_folder() / "node_modules" / ".half").mkdir(parents=True)
    assert npm.installed("node").is_dir()
    assert not (npm.cache_folder() / "node_modules" / ".half").exists()


def test_without_npm(fake_node: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    fake_node()
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(
        Unsupported, match=r"npm is not found: python -m pip install 'pytest-sparsity\[js\]'"
    ):
        npm.installed("node")


def test_npm_that_hangs(fake_node: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    fake_node("exec sleep 60")
    monkeypatch.setattr(npm, "_INSTALL_TIMEOUT", 0.3)
    with pytest.raises(Unsupported, match=r"npm says 'nothing for 0\.3 s'"):
        npm.installed("node")


def test_a_cache_that_cannot_be_written(
    fake_node: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_node()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(Unsupported, match="set XDG_CACHE_HOME to a writable folder"):
        npm.installed("node")


@pytest.mark.parametrize(("version", "major"), [("v18.19.0", 18), ("nonsense", 0)])
def test_an_old_node(fake_node: Callable[..., Path], version: str, major: int) -> None:
    fake_node(version=version)
    with pytest.raises(Unsupported) as caught:
        Target.of("litert-js").open()
    assert str(caught.value) == (
        f"litert-js needs Node 20 or later, not {major}: "
        "python -m pip install 'pytest-sparsity[js]'"
    )


def test_the_wheels_node_comes_first(
    fake_node: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_node()
    assert npm.find_node() == str(tmp_path / "bin" / "node")
    wheel = tmp_path / "wheel"
    for file in ("bin/node", "lib/node_modules/npm/bin/npm-cli.js"):
        (wheel / file).parent.mkdir(parents=True)
        (wheel / file).touch()

    class Spec:
        submodule_search_locations = (str(wheel),)

    monkeypatch.setattr("importlib.util.find_spec", lambda _: Spec)
    found = str(wheel / "bin" / "node")
    assert npm.find_node() == found
    assert npm._npm(found) == (found, str(wheel / "lib/node_modules/npm/bin/npm-cli.js"))


def test_flags_for_node_are_not_inherited(
    fake_node: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_node()
    monkeypatch.setenv("NODE_OPTIONS", "--jitless")
    assert (
        "NODE_OPTIONS"
        not in Target.of("litert-js").place.launch(RUNTIMES["litert-js"], 1).environment
    )


def test_a_broken_package_is_one_clear_failure(
    real_node: str, fake_node: Callable[..., Path]
) -> None:
    fake_node()
    folder = npm.installed("node")
    launch = Launch((real_node, *RUNTIMES["litert-js"].worker(), str(folder)), {})
    with pytest.raises(TargetError) as caught:
        Worker("litert-js", launch)
    said = str(caught.value)
    assert said.startswith("litert-js ended with exit status 1 when starting: ENOENT: ")
    assert "package.json" in said


# ---------------------------------------------------------------------------------- counting marks


def test_counts_are_differences_of_the_last_two_marks(tmp_path: Path) -> None:
    counter = Counter(tmp_path / "counts")
    counter.mark()
    (tmp_path / "counts").write_text("mark 0 total 5\nmark 1 total 100\nmark 2 total 342\n")
    assert counter.between_last_two() == 242
