"""Children that crash, hang and talk rubbish: one `TargetError`, one sentence, nothing left."""

from __future__ import annotations

import gc
import math
import os
import signal
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pytest_sparsity import children
from pytest_sparsity.errors import TargetError, Unsupported
from pytest_sparsity.targets import InvocationError, Launch, LoadError, Target, Worker, child, npm
from pytest_sparsity.targets.child import LateError, answers_until, last_line, limit
from pytest_sparsity.targets.runtimes import RUNTIMES, WORKER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., Worker]

# A child that answers properly; what a test adds replaces `answer`.
FAKE = """
import json, os, signal, sys, time
def send(**answer):
    print(json.dumps(answer), flush=True)
def answer(id, do, **request):
    send(id=id, ok=True, inputs=[["x", [1, 2], "float32"]], outputs=[])
{body}
send(protocol=2)
for line in sys.stdin:
    answer(**json.loads(line))
"""


def open_descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


@pytest.fixture(autouse=True)
def no_leak() -> Iterator[None]:
    """Hold that a test leaves no descriptor open."""
    gc.collect()  # What tests before left behind must not be closed in the middle of this one.
    children.scratch_file("kept")  # The lock of its folder, which stays open.
    before = open_descriptors()
    yield
    assert open_descriptors() == before


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a child from a body of Python and hold that it is gone, and reaped, in the end."""
    workers: list[Worker] = []

    def started(body: str, timeout: float = 20.0) -> Worker:
        worker = Worker("fake", launch(FAKE.format(body=textwrap.dedent(body))), timeout=timeout)
        workers.append(worker)
        return worker

    yield started
    for worker in workers:
        worker.close()
        with pytest.raises(ProcessLookupError):
            os.kill(worker.pid, 0)


def launch(script: str) -> Launch:
    # Without site-packages Python starts in a third of the time.
    return Launch((sys.executable, "-I", "-S", "-c", script), os.environ)


def failure(act: Callable[[], object]) -> str:
    """Return what the `TargetError` of an act says."""
    with pytest.raises(TargetError) as caught:
        act()
    return str(caught.value)


def test_a_proper_child_is_heard(start: Start) -> None:
    worker = start("")
    signature = worker.load("a", "net.tflite")
    assert [(spec.name, spec.shape, spec.dtype) for spec in signature.inputs] == [
        ("x", (1, 2), "float32")
    ]
    assert repr(worker) == f"<Worker fake, process {worker.pid}>"
    worker.close()
    worker.close()
    assert repr(worker) == "<Worker fake, ended>"
    assert failure(lambda: worker.unload("a")) == (
        "fake had ended before unloading net.tflite; open it again"
    )


def test_a_program_that_is_not_there() -> None:
    nowhere = Launch(("/nowhere/program",), os.environ)
    said = failure(lambda: Worker("fake", nowhere))
    assert said == (
        "fake ended with exit status 1 when starting: "
        "/nowhere/program cannot be executed: No such file or directory"
    )


def test_death_at_start_shows_the_last_words(start: Start) -> None:
    said = failure(lambda: start("sys.exit('No module named runtime')"))
    assert said == "fake ended with exit status 1 when starting: No module named runtime"


def test_a_hang_at_start(start: Start) -> None:
    said = failure(lambda: start("time.sleep(60)", timeout=0.2))
    assert said == "fake did not answer within 0.2 s when starting, and was killed"


def test_another_protocol(start: Start) -> None:
    said = failure(lambda: start("send(protocol=99)"))
    assert said == "fake speaks protocol 99 instead of 2 when starting"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "fake crashed with SIGSEGV when {doing}"),
        (
            "sys.stderr.write('terminate called\\n\\n'); os.abort()",
            "fake crashed with SIGABRT when {doing}: terminate called",
        ),
        (
            f"os.kill(os.getpid(), {int(signal.SIGRTMIN) + 1})",
            f"fake crashed with signal {int(signal.SIGRTMIN) + 1} when {{doing}}",
        ),
        ("os._exit(3)", "fake ended with exit status 3 when {doing}"),
        (
            "print('Segmentation fault (core dumped)', flush=True)",
            "fake answered outside the protocol, 'Segmentation fault (core dumped)', when {doing}",
        ),
        (
            "print('[1, 2]', flush=True)",
            "fake answered outside the protocol, '[1, 2]', when {doing}",
        ),
        (
            "os.write(1, b'\\xff\\xfe\\n')",
            "fake answered outside the protocol, '\ufffd\ufffd', when {doing}",
        ),
        (
            "print('[' * 100_000, flush=True)",
            f"fake answered outside the protocol, '{'[' * 60}', when {{doing}}",
        ),
        (
            'print(\'{"id": 1, "ok": NaN}\', flush=True)',
            'fake answered outside the protocol, \'{{"id": 1, "ok": NaN}}\', when {doing}',
        ),
        ("send(id=id + 1, ok=True)", "fake answered request 2 instead of 1 when {doing}"),
        ("send(ok=True)", "fake answered request None instead of 1 when {doing}"),
        (
            "send(id=id, ok=False, kind='error', error='KeyError: 7')",
            "fake failed when {doing}: KeyError: 7",
        ),
        ("send(id=id, ok=False)", "fake failed when {doing}: no reason given"),
        (
            "send(id=id, ok=False, kind='load', error='one\\nNode 3 failed to prepare.\\n')",
            "fake failed when {doing}: one; Node 3 failed to prepare",
        ),
        (
            "sys.stderr.write('out of memory\\n'); send(id=id, ok=False, kind='load', error='')",
            "fake failed when {doing}: out of memory",
        ),
    ],
)
def test_one_sentence_for_each_failure(start: Start, body: str, said: str) -> None:
    worker = start(f"def answer(id, **request):\n    {body}")
    heard = failure(lambda: worker.load("a", "/models/net.tflite"))
    assert heard == said.format(doing="loading net.tflite")


def test_an_answer_that_nobody_waits_for_any_more_ends_the_child(start: Start) -> None:
    worker = start(
        """
        def answer(id, do, **request):
            time.sleep(60)
        """
    )
    begun = time.monotonic()
    with answers_until(begun + 0.2), pytest.raises(LateError) as caught:
        worker.load("a", "/models/net.tflite")
    assert str(caught.value) == "fake was too late when loading net.tflite, and was killed"
    assert time.monotonic() - begun < worker_patience(worker)
    assert worker.ended
    assert limit() == math.inf


def worker_patience(worker: Worker) -> float:
    return worker._child.timeout


def test_a_child_that_does_not_quit_is_not_waited_for_beyond_the_limit(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = start("def answer(id, do, **request):\n    time.sleep(60)")
    monkeypatch.setattr(child, "_PATIENCE", 50.0)
    begun = time.monotonic()
    with answers_until(begun):
        worker.close()
    assert time.monotonic() - begun < 40
    assert worker.ended


def test_a_hang_is_killed_at_the_deadline(start: Start) -> None:
    worker = start(
        """
        def answer(id, do, **request):
            send(id=id, ok=True, inputs=[], outputs=[]) if do == "load" else time.sleep(60)
        """
    )
    worker.load("a", "net.tflite")
    worker._child.timeout = 0.2
    assert failure(lambda: worker.run([("a", 7), ("a", 5)])) == (
        "fake did not answer within 0.2 s when running net.tflite (12 timed invocations), "
        "and was killed"
    )


def test_a_child_that_does_not_read_is_killed_too(start: Start) -> None:
    """A request that is longer than the pipe blocks the writer of a deaf child."""
    worker = start("def answer(**request):\n    time.sleep(60)")
    worker._child.timeout = 0.2
    said = failure(lambda: worker.load("a", "net.tflite", pad=range(100000)))
    assert said == "fake did not answer within 0.2 s when loading net.tflite, and was killed"


SLOW = """
def answer(id, do, blocks=(), warm=0, **request):
    times = [n * 100_000_000 for _, n in blocks]
    time.sleep(sum(n + warm for _, n in blocks) * {seconds})
    send(id=id, ok=True, inputs=[], outputs=[], ran={ran}, wall_ns=times, cpu_ns=times,
         preempted={preempted})
"""


def slow(seconds: float = 0.0, ran: str = "blocks", preempted: str = "times") -> str:
    return SLOW.format(seconds=seconds, ran=ran, preempted=preempted)


def test_a_long_request_is_no_hang_where_its_inferences_are_slow(start: Start) -> None:
    worker = start(slow(0.1), timeout=1.0)
    worker.load("a", "net.tflite")
    worker.load("b", "net.tflite")
    worker.run([("a", 1)])
    assert len(worker.run([("b", 1)] * 8).wall_ns) == 8


@pytest.mark.parametrize(
    ("ran", "preempted"),
    [
        ("[]", "times"),
        ("[['a', 4], ['a', 5]]", "times"),
        ("None", "times"),
        ("blocks", "times[:1]"),
    ],
)
def test_a_child_that_does_less_than_it_was_asked_to(
    start: Start, ran: str, preempted: str
) -> None:
    worker = start(slow(ran=ran, preempted=preempted))
    worker.load("a", "net.tflite")
    assert failure(lambda: worker.run([("a", 5), ("a", 5)])) == (
        "fake did not do what it was asked to when running net.tflite (10 timed invocations)"
    )


ERRS = """
def answer(id, do, key=None, **request):
    if do == {do!r} and key != "b":
        sys.stderr.write("INFO: hm\\nERROR: node 2 failed.\\nERROR: really\\nlast\\n")
        sys.stderr.flush()
    send(id=id, ok=True, inputs=[], outputs=[], arrays=[], operators=[], ran=[], wall_ns=[],
         cpu_ns=[], preempted=[])
"""


@pytest.mark.parametrize(
    ("do", "act", "kind", "doing"),
    [
        ("load", Worker.close, LoadError, "loading net.tflite"),
        ("outputs", lambda worker: worker.outputs("a"), InvocationError, "running net.tflite"),
        ("profile", lambda worker: worker.profile("a"), InvocationError, "profiling net.tflite"),
        ("run", lambda worker: worker.run([]), InvocationError, "running  (0 timed invocations)"),
    ],
)
def test_what_the_runtime_logs_as_an_error_is_a_failure(
    start: Start, do: str, act: Callable[[Worker], object], kind: type[TargetError], doing: str
) -> None:
    worker = start(ERRS.replace("{do!r}", repr(do)))
    with pytest.raises(kind) as caught:  # noqa: PT012  (either may be what fails)
        worker.load("a", "net.tflite")
        act(worker)
    assert str(caught.value) == f"fake failed when {doing}: node 2 failed; really"
    assert not worker.ended
    assert worker.load("b", "net.tflite").inputs == ()


def test_a_child_that_closes_its_side_but_lives(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_PATIENCE", 0.1)
    worker = start("def answer(**request):\n    os.close(1)\n    time.sleep(60)")
    said = failure(lambda: worker.load("a", "net.tflite"))
    assert said == "fake closed its output when loading net.tflite"


def test_rubbish_without_end(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_LONGEST_LINE", 1 << 20)
    worker = start("def answer(**request):\n    while True: os.write(1, b'lorem ' * 999)")
    said = failure(lambda: worker.load("a", "net.tflite"))
    assert said.startswith("fake answered outside the protocol, 'lorem lorem ")


def test_a_line_too_many_is_noticed_at_the_next_answer(start: Start) -> None:
    worker = start(
        """
        def answer(id, **request):
            send(id=id, ok=True, inputs=[], outputs=[])
            print("by the way", flush=True)
        """
    )
    worker.load("a", "net.tflite")
    assert failure(lambda: worker.unload("a")) == (
        "fake answered outside the protocol, 'by the way', when unloading net.tflite"
    )


def test_a_refusal_leaves_the_child_usable(start: Start) -> None:
    worker = start(
        """
        def answer(id, do, key=None, **request):
            if key == "a":
                send(id=id, ok=False, kind="load", error="bad model")
            elif key == "b":
                send(id=id, ok=False, kind="unsupported", error="no reference kernels")
            else:
                send(id=id, ok=True, inputs=[], outputs=[])
        """
    )
    with pytest.raises(LoadError, match=r"^fake failed when loading net\.tflite: bad model$"):
        worker.load("a", "net.tflite")
    with pytest.raises(Unsupported, match=r"^fake: no reference kernels$"):
        worker.load("b", "net.tflite")
    assert worker.load("c", "net.tflite").outputs == ()


def test_last_words_are_those_of_the_failed_request(start: Start) -> None:
    worker = start(
        """
        def answer(id, do, key, **request):
            if key == "b":
                os._exit(9)
            sys.stderr.write("about a\\n")
            sys.stderr.flush()
            send(id=id, ok=True, inputs=[], outputs=[])
        """
    )
    worker.load("a", "net.tflite")
    said = failure(lambda: worker.load("b", "net.tflite"))
    assert said == "fake ended with exit status 9 when loading net.tflite"


def test_long_last_words_are_cut(start: Start) -> None:
    worker = start(
        "def answer(**request):\n    sys.stderr.write('x' * 100000 + 'end'); sys.exit(4)"
    )
    said = failure(lambda: worker.load("a", "net.tflite"))
    assert said.endswith("xend")
    assert len(said) < 400


def test_requests_and_answers_longer_than_a_pipe(start: Start) -> None:
    worker = start(
        """
        def answer(id, do, pad=(), **request):
            names = [["x" * 100000, [1], "float32"]]
            send(id=id, ok=len(pad) == 100000, inputs=names, outputs=[])
        """
    )
    (spec,) = worker.load("a", "net.tflite", pad=range(100000)).inputs
    assert len(spec.name) == 100000


def test_large_data_goes_through_a_file_that_is_removed(start: Start) -> None:
    worker = start(
        """
        def answer(id, do, file=None, **request):
            global kept
            if do == "inputs":
                kept = open(file, "rb").read()
            if do == "outputs":
                open(file, "wb").write(kept[4:] + kept[:4])
            specs = [["x", [3, 500000], "float32"], ["y", [], "int32"]]
            arrays = [[[], "int32"], [[3, 500000], "float32"]]
            send(id=id, ok=True, inputs=specs, outputs=[], arrays=arrays)
        """
    )
    worker.load("a", "net.tflite")
    x, y = np.random.default_rng(0).random((3, 500000), np.float32), np.array(7, np.int32)
    worker.set_inputs("a", [x, y])
    first, second = worker.outputs("a")
    assert first.tobytes() + second.tobytes() == x.tobytes()[4:] + y.tobytes() + x.tobytes()[:4]
    file = worker._file
    assert file is not None
    assert file.exists()
    worker.close()
    assert not file.exists()


def test_an_interrupt_ends_the_child(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = start("")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(child, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        worker.load("a", "net.tflite")
    assert repr(worker) == "<Worker fake, ended>"


def test_a_child_that_does_not_quit_is_killed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_PATIENCE", 0.1)
    worker = start("def answer(**request):\n    time.sleep(60)")
    worker.close()
    assert repr(worker) == "<Worker fake, ended>"


def test_leaving_the_block_ends_the_child(start: Start) -> None:
    with pytest.raises(ZeroDivisionError), start("") as worker:
        raise ZeroDivisionError
    assert repr(worker) == "<Worker fake, ended>"


def test_last_line_skips_blanks_and_mere_information() -> None:
    text = "ERROR: no\n  why \nINFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n\n"
    assert last_line(text) == "why"
    assert last_line("\n") == ""


# ------------------------------------------------------------ the real child, a fake runtime

RUNTIME = """
import os, sys
import numpy as np
os.write(1, b"native noise on descriptor 1\\n")
print("noise from Python")
assert sys.stdin.read() == "", "the requests are not the runtime's to read"
class Interpreter:
    def __init__(self, model_path, num_threads):
        os.write(1, b"more noise\\n")
        self._interpreter = self
        self.x, self.y = np.zeros((2, 1, 3), np.float32)
    def resize_tensor_input(self, index, shape):
        self.x = np.zeros(shape, np.float32)
    def allocate_tensors(self):
        {allocate}
    def get_input_details(self):
        signature = np.array([-1, 3])
        return [dict(name="x", index=0, shape=np.array(self.x.shape), shape_signature=signature,
                     dtype=np.float32)]
    def set_tensor(self, index, array):
        self.x = array
    def _get_ops_details(self):
        return [dict(op_name="ADD", inputs=[0], outputs=[1])]
    def get_output_details(self):
        return [dict(self.get_input_details()[0], name="y", index=1, shape_signature=[1, 3])]
    def tensor(self, index):
        return lambda: self.y if index else self.x
    def get_tensor(self, index):
        return self.y
    def Invoke(self):
        os.write(1, b"noise in every invocation\\n")
        {invoke}
"""


@pytest.fixture
def fake_litert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Open the target litert with a runtime whose methods have the given bodies."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.tflite").write_bytes(b"model")
    package = tmp_path / "ai_edge_litert"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def opened(allocate: str = "pass", invoke: str = "self.y[:] = self.x * 2") -> Worker:
        text = RUNTIME.replace("{allocate}", allocate).replace("{invoke}", invoke)
        (package / "interpreter.py").write_text(text)
        return Target.of("litert").open(timeout=20)

    return opened


def test_noise_of_native_code_stays_out_of_the_protocol(
    fake_litert: Start,
) -> None:
    with fake_litert("pass") as worker:
        assert worker.load("a", "net.tflite").inputs[0].shape == (1, 3)
        worker.set_inputs("a", [np.array([[1, 2, 3]], np.float32)])
        assert worker.outputs("a")[0].tolist() == [[2, 4, 6]]
        assert len(worker.run([("a", 5), ("a", 6)]).wall_ns) == 2


@pytest.mark.parametrize(
    ("invoke", "fault"),
    [
        ("pass", "an invocation left the output 'y' unwritten"),
        (
            "raise RuntimeError('Node number 2 (GATHER) failed to invoke.')",
            "Node number 2 (GATHER)",
        ),
    ],
)
def test_an_invocation_that_computes_nothing(fake_litert: Start, invoke: str, fault: str) -> None:
    with fake_litert(invoke=invoke) as worker:
        worker.load("a", "net.tflite")
        for act in (
            lambda: worker.outputs("a"),
            lambda: worker.run([("a", 5)]),
            lambda: worker.run([("a", 5)], warm=0),
        ):
            with pytest.raises(InvocationError) as caught:
                act()
            assert fault in str(caught.value)


def test_an_output_may_be_the_very_pattern(fake_litert: Start) -> None:
    """Whatever an output is filled with to see that it is written can be its value."""
    for pattern in (0x5A, 0xA5):
        with fake_litert(invoke=f"self.y.view(np.uint8)[:] = {pattern}") as worker:
            worker.load("a", "net.tflite")
            assert worker.outputs("a")[0].tobytes() == bytes([pattern] * 12)
            assert worker.run([("a", 5)]).wall_ns


def test_a_runtime_that_refuses_to_allocate(fake_litert: Start) -> None:
    refusal = "raise RuntimeError('CONV_2D\\n Node number 3 failed to prepare.')"
    with fake_litert(refusal) as worker, pytest.raises(LoadError) as caught:
        worker.load("a", "net.tflite")
    assert str(caught.value) == (
        "litert failed when loading net.tflite: CONV_2D; Node number 3 failed to prepare"
    )


def test_a_file_that_is_replaced_while_it_is_loaded(fake_litert: Start) -> None:
    replacing = "open('net.tflite', 'w').write('another')"
    with fake_litert(replacing) as worker, pytest.raises(LoadError) as caught:
        worker.load("a", "net.tflite")
    assert "the file was replaced while it was loaded" in str(caught.value)


def test_a_runtime_that_crashes_when_it_allocates(fake_litert: Start) -> None:
    with fake_litert("os.abort()") as worker:
        said = failure(lambda: worker.load("a", "net.tflite"))
    assert said == "litert crashed with SIGABRT when loading net.tflite: more noise"


def test_a_runtime_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "__init__.py").write_text("import nothing_of_that_name")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said = failure(lambda: Target.of("litert").open())
    assert said == (
        "litert ended with exit status 1 when starting: "
        "ModuleNotFoundError: No module named 'nothing_of_that_name'"
    )


def test_a_request_that_the_child_does_not_know(fake_litert: Start) -> None:
    with fake_litert("pass") as worker:
        said = failure(lambda: worker._request("dance", "dancing"))
        assert said == "litert failed when dancing: unknown request 'dance'"
        assert worker.load("a", "net.tflite").inputs


GLUE = """
module.exports = async ({print}) => {
  console.log('noise');
  process.stdout.write('noise');
  print('noise of native code');
  return {
    setupLogging() {}, HEAPU8: new Uint8Array(1000), _malloc: () => 8, _free() {},
    LiteRtEnvironment: {create: () => ({})},
    loadModel() { {act} },
    compileModel: () => ({delete() {}}),
  };
};
"""


@pytest.fixture
def fake_litert_js(tmp_path: Path) -> Callable[[str], Worker]:
    """Start worker.mjs over a package whose `loadModel` has the given body."""
    program = npm.find_node()
    if program is None:
        pytest.skip("Node is not installed")
    (tmp_path / "wasm").mkdir()
    (tmp_path / "package.json").write_text('{"version": "1.2.3"}')
    (tmp_path / "net.tflite").write_bytes(b"model")

    def opened(act: str) -> Worker:
        glue = tmp_path / "wasm" / "litert_wasm_internal.js"
        glue.write_text(GLUE.replace("{act}", act))
        return Worker(
            "litert-js",
            Launch((program, *RUNTIMES["litert-js"].worker(), str(tmp_path)), os.environ),
        )

    return opened


@pytest.mark.parametrize(
    ("act", "said"),
    [
        ("throw new Error('not compiled\\n└ node 3 failed')", "not compiled; node 3 failed"),
        ("throw 5242880", "5242880"),
    ],
)
def test_what_litert_js_throws_is_a_refusal(
    fake_litert_js: Callable[[str], Worker], tmp_path: Path, act: str, said: str
) -> None:
    with fake_litert_js(act) as worker:
        assert worker.hello["version"] == "1.2.3"
        for _ in range(2):
            with pytest.raises(LoadError) as caught:
                worker.load("a", tmp_path / "net.tflite")
            assert str(caught.value) == f"litert-js failed when loading net.tflite: {said}"
        said = failure(lambda: worker._request("dance", "dancing"))
        assert said == "litert-js failed when dancing: unknown request dance"


def test_what_litert_js_prints_as_an_error_is_a_refusal(
    fake_litert_js: Callable[[str], Worker], tmp_path: Path
) -> None:
    """The child itself says so: its log may not reach whoever asks."""
    none = "({size: () => 0, delete() {}})"
    signature = f"{{inputNames: () => {none}, outputNames: () => {none}, delete() {{}}}}"
    act = (
        f"print('ERROR: half loaded'); return {{getSignature: () => ({signature}), delete() {{}}}}"
    )
    request = {"do": "load", "key": "a", "path": str(tmp_path / "net.tflite"), "pad": []}
    with fake_litert_js(act) as worker:
        for number in range(2):
            asked = {"id": number, "kernels": "default", "threads": 1, **request}
            answer = worker._child.exchange("loading net.tflite", asked)
            assert (answer["ok"], answer.get("kind")) == (False, "load")
            assert answer["error"] == "half loaded"


def test_a_trap_in_webassembly_ends_the_child(
    fake_litert_js: Callable[[str], Worker], tmp_path: Path
) -> None:
    with fake_litert_js("throw new WebAssembly.RuntimeError('unreachable')") as worker:
        said = failure(lambda: worker.load("a", tmp_path / "net.tflite"))
    assert said == "litert-js ended with exit status 1 when loading net.tflite: unreachable"


def test_the_child_has_the_grammar_of_python_3_9() -> None:
    import ast

    files = sorted(WORKER.glob("*.py"))
    assert {"__main__.py", "server.py"} <= {path.name for path in files}
    for path in files:
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
