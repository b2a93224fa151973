"""A worker: the host's side of the conversation with the child process of a target."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import TargetError, Unsupported
from pytest_sparsity.targets.child import Child, Launch, all_lines

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from numpy.typing import NDArray
    from typing_extensions import Self

# The version of the protocol, as in worker.py and worker.mjs.
PROTOCOL = 1
KERNELS = ("default", "builtin", "reference")


class LoadError(TargetError):
    """The runtime refuses the model; the message ends with the runtime's own last line."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and numpy dtype name of an input or an output."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a loaded model, in the order of the file."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Blocks:
    """What `Worker.run` measured: one value per block, of the whole block.

    Attributes:
        wall_ns: wall time, ns.
        cpu_ns: CPU time, ns: of the thread for a model on one thread in Python, else of the child.
        preempted: involuntary context switches.
        instructions: instructions of the runtime, or None where they are not counted.
    """

    wall_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]
    preempted: tuple[int, ...]
    instructions: tuple[int, ...] | None = None


class Worker:
    """One child process that runs models on one target. Use it as a context manager.

    Every method raises `TargetError` if the child crashes, hangs or talks rubbish; the child is
    gone by then and the worker of no more use.

    Attributes:
        hello: what the child said of itself: protocol, runtime, version, cpu, clock, engine.
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
        """
        self.threads = threads
        self._names: dict[str, str] = {}
        self._signatures: dict[str, Signature] = {}
        self._last_id = 0
        self._child = Child(target, launch, timeout)
        self.hello: dict[str, Any] = self._child.exchange("starting", None)
        if self.hello.get("protocol") != PROTOCOL:
            spoken = self.hello.get("protocol")
            self._child.fail(f"speaks protocol {spoken!r} instead of {PROTOCOL} when starting")

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

    def __repr__(self) -> str:
        state = "ended" if self._child.ended else f"process {self.pid}"
        return f"<Worker {self._child.target}, {state}>"

    def load(
        self,
        key: str,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        kernels: str = "default",
        pad: Sequence[int] = (),
        shapes: Sequence[Sequence[int]] | None = None,
    ) -> Signature:
        """Load a model under a name. Its inputs are zero.

        Args:
            key: the name in later calls; a model of that name is unloaded first.
            path: the `.tflite` file.
            threads: threads of the runtime; by default the worker's.
            kernels: `"default"` (with the delegate that the runtime applies by itself, XNNPACK),
                `"builtin"` (the runtime's own optimised kernels) or `"reference"`.
            pad: sizes of blocks of memory, bytes, that are allocated before the model and kept with
                it; random sizes keep fresh interpreters from getting the same addresses.
            shapes: of the inputs, in the order of the file; by default what the file says, with 1
                for every open dimension.

        Raises:
            LoadError: the runtime refuses the model.
            Unsupported: the runtime has no such kernels, or not that many threads.
        """
        if kernels not in KERNELS:
            raise ValueError(f"kernels must be one of {', '.join(KERNELS)}, not {kernels!r}")
        if key in self._names:
            self.unload(key)
        name = Path(path).name
        answer = self._request(
            "load",
            f"loading {name}",
            key=key,
            path=str(Path(path).resolve()),
            threads=self.threads if threads is None else threads,
            kernels=kernels,
            pad=list(pad),
            shapes=None if shapes is None else [list(shape) for shape in shapes],
        )
        signature = Signature(_specs(answer["inputs"]), _specs(answer["outputs"]))
        self._names[key] = name
        self._signatures[key] = signature
        return signature

    def set_inputs(self, key: str, arrays: Sequence[NDArray[Any]]) -> None:
        """Set the inputs of a model.

        Raises:
            ValueError: number, shapes or dtypes of the arrays are not those of the signature.
        """
        wanted = [(spec.shape, spec.dtype) for spec in self._signatures[key].inputs]
        given = [(tuple(array.shape), array.dtype.name) for array in arrays]
        if given != wanted:
            raise ValueError(f"{self._names[key]} takes inputs {wanted}, not {given}")
        data = [base64.b64encode(array.tobytes()).decode() for array in arrays]
        self._request("inputs", f"setting the inputs of {self._names[key]}", key=key, arrays=data)

    def outputs(self, key: str) -> tuple[NDArray[Any], ...]:
        """Invoke a model once and return its outputs, in the order of the file."""
        import numpy as np

        answer = self._request("outputs", f"running {self._names[key]}", key=key)
        return tuple(
            np.frombuffer(base64.b64decode(data), dtype).reshape(shape)
            for data, shape, dtype in answer["arrays"]
        )

    def run(self, blocks: Sequence[tuple[str, int]], warm: int = 1) -> Blocks:
        """Time blocks of invocations, in the order given and back to back in the child.

        Args:
            blocks: pairs of key and number of invocations.
            warm: untimed invocations of the same model before every block.
        """
        names = ", ".join(sorted({self._names[key] for key, _ in blocks}))
        doing = f"running {names} ({sum(n for _, n in blocks)} timed invocations)"
        answer = self._request("run", doing, blocks=[list(block) for block in blocks], warm=warm)
        counts = answer.get("instructions")
        return Blocks(
            tuple(answer["wall_ns"]),
            tuple(answer["cpu_ns"]),
            tuple(answer["preempted"]),
            None if counts is None else tuple(counts),
        )

    def profile(self, key: str, invocations: int = 10) -> list[tuple[str, int]]:
        """Return the operators that the runtime executes by default, in order.

        Returns:
            Pairs of the operator's name and its median time over the invocations, ns, from a clock
            that cuts off below one microsecond.

        Raises:
            Unsupported: the runtime has no operator profile.
        """
        doing = f"profiling {self._names[key]}"
        answer = self._request("profile", doing, key=key, invocations=invocations)
        return [(name, ns) for name, ns in answer["operators"]]

    def unload(self, key: str) -> None:
        """Free a model."""
        del self._signatures[key]
        self._request("unload", f"unloading {self._names.pop(key)}", key=key)

    def close(self) -> None:
        """End the child; kill it if it does not end by itself. May be called again."""
        self._child.close()

    def _request(self, do: str, doing: str, **fields: object) -> dict[str, Any]:
        """Ask and return the answer; raise what a refusal means."""
        self._last_id += 1
        answer = self._child.exchange(doing, {"id": self._last_id, "do": do, **fields})
        if answer.get("id") != self._last_id:
            wrong = f"answered request {answer.get('id')!r} instead of {self._last_id}"
            self._child.fail(f"{wrong} when {doing}")
        if answer.get("ok") is True:
            return answer
        target, kind, error = self._child.target, answer.get("kind"), str(answer.get("error", ""))
        if kind == "unsupported":
            raise Unsupported(f"{target}: {error}", target=target)
        reason = all_lines(error) or self._child.last_words() or "no reason given"
        failure = LoadError if kind == "load" else TargetError
        raise failure(f"{target} failed when {doing}: {reason}")


def _specs(described: Iterable[tuple[str, Iterable[int], str]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, tuple(shape), dtype) for name, shape, dtype in described)
