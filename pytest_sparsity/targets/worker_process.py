"""A worker: the host's side of the conversation with the child process of a target."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.children import scratch_file
from pytest_sparsity.errors import CannotMeasure, ModelError, TargetError, Unsupported
from pytest_sparsity.model import Model
from pytest_sparsity.targets.answered import (
    Blocks,
    InvocationError,
    LoadError,
    Signature,
    TensorSpec,
    UnwrittenOutput,
)
from pytest_sparsity.targets.child import MEMORY, Child, Launch, all_lines
from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from numpy.typing import NDArray
    from typing_extensions import Self

# The version of the protocol, as in worker and worker.mjs.
PROTOCOL = 2
# Times all tensors of its models that a child may have as memory beside what it needs itself:
# kernels pack weights and unfold windows of pixels, which for a 3x3 convolution takes nine times
# its input.
MEMORY_SHARE = 10
# A request may take so many times what its invocations took before, beyond the time for any answer.
SLOWER = 10
# Bytes of a model that a child reads, and hashes, in a second at least; an emulated one takes long.
BYTES_PER_SECOND = 5e6
CHANGED = "the file has changed since it was read: make a new Model of it"
NOT_UTF_8 = "runtimes read no file whose path is not UTF-8: rename it, or the folder that it is in"
KERNELS = ("default", "builtin", "reference")


FAILURES: dict[str, type[Exception]] = {
    "load": LoadError,
    "invocation": InvocationError,
    "unwritten": UnwrittenOutput,
    # The models are not to blame: there is no room, or the line to the machine is cut.
    "machine": CannotMeasure,
}


@dataclass(frozen=True)
class _Loaded:
    """What is known of a loaded model."""

    path: Path
    signature: Signature
    nbytes: int = 0

    @property
    def name(self) -> str:
        return self.path.name


class Worker:
    """One child process that runs models on one target. Use it as a context manager.

    Every method raises `TargetError` if the child crashes, hangs or talks rubbish; the child is
    gone by then and the worker of no more use.

    Attributes:
        hello: what the child said of itself: protocol, runtime, version, cpu, clock, engine; or
            what it `lacks`, with a `remedy`.
        conditions: what the machine told of its clocks and its heat, the oldest first, as
            `racing.conditions` reads it; nothing where a place does not tell.
        threads: threads of the models that are loaded without saying otherwise.
    """

    def __init__(
        self, target: str, launch: Launch, *, threads: int = 1, timeout: float = 60.0
    ) -> None:
        """Start the child and wait for its hello.

        Args:
            target: the target's name, for messages.
            launch: how to start the child.
            threads: threads of the models that are loaded without saying otherwise.
            timeout: seconds that any one answer may take, the hello included.

        Raises:
            Unsupported: the child says what it lacks.
        """
        self.threads = threads
        self._models: dict[str, _Loaded] = {}
        # Seconds per invocation of a file, the slowest seen.
        self._pace: dict[Path, float] = {}
        self._file: Path | None = None
        self._last_id = 0
        self._child = Child(target, launch, timeout)
        self.conditions: list[dict[str, Any]] = []
        self.hello: dict[str, Any] = self._child.exchange("starting", None)
        self._note(self.hello)
        if "lacks" in self.hello:
            self._child.close()
            raise Unsupported(self.hello["lacks"], self.hello.get("remedy", ""), target)
        if self.hello.get("protocol") != PROTOCOL:
            spoken = self.hello.get("protocol")
            self._child.fail(f"speaks protocol {spoken!r} instead of {PROTOCOL} when starting")
        self._child.answering = self.hello.get("answering", self._child.answering)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    @property
    def ended(self) -> bool:
        """Whether the child is gone, so that nothing may be asked any more."""
        return self._child.ended

    @property
    def alive(self) -> bool:
        """Whether the child runs; also tells when it has ended between two requests."""
        return self._child.alive

    @property
    def block_ns(self) -> int:
        """The shortest block that its clocks can time, ns; 0 if it does not say."""
        return int(self.hello.get("block_ns", 0))

    def __repr__(self) -> str:
        state = "ended" if self._child.ended else f"process {self.pid}"
        return f"<Worker {self._child.target}, {state}>"

    def load(
        self,
        key: str,
        model: str | os.PathLike[str] | Model,
        *,
        threads: int | None = None,
        kernels: str = "default",
        pad: Sequence[int] = (),
        shapes: Sequence[Sequence[int]] | None = None,
    ) -> Signature:
        """Load a model under a name. Its inputs are zero.

        Args:
            key: the name in later calls; a model of that name is unloaded first.
            model: the model, or a `.tflite` file that is loaded whatever it contains.
            threads: threads of the runtime; by default the worker's.
            kernels: `"default"` (with the delegate that the runtime applies by itself, XNNPACK),
                `"builtin"` (the runtime's own optimised kernels) or `"reference"`.
            pad: sizes of blocks of memory, bytes, that are allocated before the model and kept with
                it; random sizes keep fresh interpreters from getting the same addresses.
            shapes: of the inputs, in the order of the file; by default what the file says, with 1
                for every open dimension.

        Raises:
            ModelError: the file has been replaced, describes tensors that cannot be, or its path
                is not UTF-8, which all that runtimes take.
            LoadError: the runtime refuses the model.
            Unsupported: the runtime has no such kernels, or not that many threads.
        """
        if kernels not in KERNELS:
            raise ValueError(f"kernels must be one of {', '.join(KERNELS)}, not {kernels!r}")
        if key in self._models:
            self.unload(key)
        known = model if isinstance(model, Model) else None
        path = Path(model.path if isinstance(model, Model) else model).resolve()
        if str(path).encode(errors="replace").decode() != str(path):
            raise ModelError(f"{path}: {NOT_UTF_8}")
        nbytes = _nbytes(known, shapes) if known else 0
        self._child.limit_memory(MEMORY + MEMORY_SHARE * (nbytes + self._held()))
        answer = self._request(
            "load",
            f"loading {path.name}",
            seconds=known.nbytes / BYTES_PER_SECOND if known else 0,
            key=key,
            path=str(path),
            threads=self.threads if threads is None else threads,
            kernels=kernels,
            pad=list(pad),
            shapes=None if shapes is None else [list(shape) for shape in shapes],
        )
        signature = Signature(_specs(answer["inputs"]), _specs(answer["outputs"]))
        self._models[key] = _Loaded(path, signature, nbytes)
        fault = self._child.errors()
        if fault:
            self.unload(key)
            raise LoadError(f"{self._child.target} failed when loading {path.name}: {fault}")
        if known and answer["sha256"] != known.sha256:
            self.unload(key)
            raise ModelError(f"{path}: {CHANGED}")
        return signature

    def _held(self) -> int:
        return sum(model.nbytes for model in self._models.values())

    def set_inputs(self, key: str, arrays: Sequence[NDArray[Any]]) -> None:
        """Set the inputs of a model.

        Raises:
            ValueError: number, shapes or dtypes of the arrays are not those of the signature.
            CannotMeasure: the folder for temporary files has no room for them.
        """
        model = self._models[key]
        wanted = [(spec.shape, spec.dtype) for spec in model.signature.inputs]
        given = [(tuple(array.shape), array.dtype.name) for array in arrays]
        if given != wanted:
            raise ValueError(f"{model.name} takes inputs {wanted}, not {given}")
        file = self._data_file()
        try:
            with file.open("wb") as data:
                data.writelines(array.tobytes() for array in arrays)
        except OSError as error:
            raise CannotMeasure(
                f"the inputs of {model.name} cannot be written to {file}: {error.strerror}; "
                "free some space, or set TMPDIR to a folder that has room"
            ) from None
        self._request("inputs", f"setting the inputs of {model.name}", key=key, file=str(file))

    def outputs(self, key: str) -> tuple[NDArray[Any], ...]:
        """Invoke a model once and return its outputs, in the order of the file."""
        import numpy as np

        file, begun = self._data_file(), time.monotonic()
        doing = f"running {self._models[key].name}"
        answer = self._invoke("outputs", doing, [(key, 1)], key=key, file=str(file))
        self._learn(key, time.monotonic() - begun)
        data, start, arrays = file.read_bytes(), 0, []
        for shape, dtype in answer["arrays"]:
            array = np.frombuffer(data, dtype, prod(shape), start).reshape(shape)
            arrays.append(array)
            start += array.nbytes
        return tuple(arrays)

    def run(self, blocks: Sequence[tuple[str, int]], warm: int = 1) -> Blocks:
        """Time blocks of invocations, in the order given and back to back in the child.

        Args:
            blocks: pairs of key and number of invocations.
            warm: untimed invocations of the same model before every block.
        """
        asked = [list(block) for block in blocks]
        planned = [(key, n + warm) for key, n in blocks]
        names = f"{self._names(planned)} ({counted(sum(n for _, n in blocks), 'timed invocation')})"
        answer = self._invoke("run", f"running {names}", planned, blocks=asked, warm=warm)
        counts = answer.get("instructions")
        timed = Blocks(
            tuple(answer["wall_ns"]),
            tuple(answer["cpu_ns"]),
            tuple(answer["preempted"]),
            None if counts is None else tuple(counts),
        )
        lengths = {len(column) for column in vars(timed).values() if column is not None}
        if answer.get("ran") != asked or lengths != {len(asked)}:
            self._child.fail(f"did not do what it was asked to when running {names}")
        for (key, n), wall_ns in zip(blocks, timed.wall_ns, strict=True):
            self._learn(key, wall_ns / n / 1e9)
        return timed

    def profile(self, key: str, invocations: int = 10) -> list[tuple[str, int]]:
        """Return the operators that the runtime executes by default, in order.

        Returns:
            Pairs of the operator's name and its median time over the invocations, ns, from a clock
            that cuts off below one microsecond.

        Raises:
            Unsupported: the runtime has no operator profile.
        """
        planned = [(key, invocations + 1)]
        doing = f"profiling {self._models[key].name}"
        answer = self._invoke("profile", doing, planned, key=key, invocations=invocations)
        return [(name, ns) for name, ns in answer["operators"]]

    def unload(self, key: str) -> None:
        """Free a model."""
        self._request("unload", f"unloading {self._models.pop(key).name}", key=key)

    @contextmanager
    def copy(self) -> Iterator[None]:
        """Let a copy of the child, as fresh as when it started, answer until the block is left.

        Only for a child whose hello says `forks`, and before it has loaded any model.
        """
        self._child.answering = self._request("fork", "copying itself")["pid"]
        try:
            yield
        finally:
            if not self.ended:
                self._models.clear()
                self._request("join", "ending a copy of itself")
                self._child.answering = self.pid

    def close(self) -> None:
        """End the child; kill it if it does not end by itself. May be called again."""
        self._child.close()
        if self._file is not None:
            self._file.unlink(missing_ok=True)
            self._file = None

    def _data_file(self) -> Path:
        """Return the file that carries inputs and outputs."""
        self._file = self._file or scratch_file("data")
        return self._file

    def _learn(self, key: str, seconds: float) -> None:
        path = self._models[key].path
        self._pace[path] = max(seconds, self._pace.get(path, 0.0))

    def _note(self, answer: Mapping[str, Any]) -> None:
        told = answer.get("conditions")
        if isinstance(told, dict):
            self.conditions.append(told)

    def _names(self, invocations: Sequence[tuple[str, int]]) -> str:
        return ", ".join(sorted({self._models[key].name for key, _ in invocations}))

    def _invoke(
        self, do: str, doing: str, planned: Sequence[tuple[str, int]], /, **fields: object
    ) -> dict[str, Any]:
        """Ask for something that invokes models so often; their pace tells how long it may take.

        Raises:
            InvocationError: the runtime refuses, or has logged an error.
        """
        seconds = len(planned) * self.block_ns / 1e9
        seconds += sum(n * self._pace.get(self._models[key].path, 0.0) for key, n in planned)
        answer = self._request(do, doing, seconds=SLOWER * seconds, **fields)
        fault = self._child.errors()
        if fault:
            raise InvocationError(f"{self._child.target} failed when {doing}: {fault}")
        return answer

    def _request(
        self, do: str, doing: str, *, seconds: float = 0.0, **fields: object
    ) -> dict[str, Any]:
        """Ask and return the answer, within `seconds` and what any answer may take.

        Raises what a refusal means.
        """
        self._last_id += 1
        request = {"id": self._last_id, "do": do, **fields}
        answer = self._child.exchange(doing, request, seconds)
        self._note(answer)
        if answer.get("id") is None and answer.get("kind") == "machine":
            self._child.fail(f"cannot go on with {doing}: {answer.get('error')}", CannotMeasure)
        if answer.get("id") != self._last_id:
            wrong = f"answered request {answer.get('id')!r} instead of {self._last_id}"
            self._child.fail(f"{wrong} when {doing}")
        if answer.get("ok") is True:
            return answer
        target, kind, error = self._child.target, answer.get("kind"), str(answer.get("error", ""))
        if kind == "unsupported":
            raise Unsupported(f"{target}: {error}", target=target)
        reason = all_lines(error) or self._child.last_words() or "no reason given"
        failure = FAILURES.get(str(kind), TargetError)
        raise failure(f"{target} failed when {doing}: {reason}")


def _nbytes(model: Model, shapes: Sequence[Sequence[int]] | None) -> int:
    """Bytes of all tensors; they grow like the largest of the inputs grows by other shapes."""
    sizes = [max(prod(model.graph.tensors[i].shape), 1) for i in model.graph.inputs]
    pairs = zip(shapes or (), sizes, strict=False)
    return math.ceil(model.decoded_nbytes * max((prod(s) / n for s, n in pairs), default=1))


def _specs(described: Iterable[tuple[str, Iterable[int], str]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, tuple(shape), dtype) for name, shape, dtype in described)
