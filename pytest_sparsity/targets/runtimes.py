"""The runtimes that run models: one record each, which its places and its worker read."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

NIGHTLY = "nightly"
WORKER = Path(__file__).with_name("worker")
WASM_WORKER = Path(__file__).with_name("worker.mjs")


@dataclass(frozen=True)
class Runtime:
    """A runtime: where it comes from, how it is imported, and whose rules it follows.

    Attributes:
        name: e.g. `"litert"`; the first part of its targets' names.
        packages: the packages that may hold it, of Python or of npm; the first one found counts.
        module: the Python module with its `Interpreter`, which has the interface of TFLite's; ""
            for a runtime that is not Python's.
        rules: the runtime whose rules of sparse inference it follows, as `xnnpack.RELEASES` calls
            it; "" if none are known, so that observation alone decides.
        wheel: the package of which one release is installed alone, if it is not the first.
        extra: the extra of pytest-sparsity that installs it, "" if none does.
        bare: an outer package whose `__init__` is not executed, since it takes seconds and the
            interpreter needs nothing of it; "" if there is none.
        profile: the worker can name the operators that run (`worker/profile.py`).
        symbols: its library has a symbol table, so that the microkernels that run can be named.
        build: the build of the runtime's WebAssembly module, "normal" (relaxed SIMD where the
            engine has it) or "compat"; "" for others.
        guest_version: the version that emulated CPUs run, whose hashes stand in `guest-NAME.txt`;
            "" if none does.
        guest_pythons: the CPythons that have a wheel of it.
        sparse_arch: an architecture on every CPU of which it has sparse kernels, as Linux calls
            it; "" if there is none.
        newest_python: the last version of Python that it has wheels for, None for no such limit.
        tainted: after a model that computes wrong outputs the memory of its process is not to be
            trusted, and the next model needs another one.
    """

    name: str
    packages: tuple[str, ...] = ()
    module: str = ""
    rules: str = ""
    wheel: str = ""
    extra: str = ""
    bare: str = ""
    profile: bool = False
    symbols: bool = False
    build: str = ""
    guest_version: str = ""
    guest_pythons: tuple[str, ...] = ()
    sparse_arch: str = ""
    newest_python: tuple[int, int] | None = None
    tainted: bool = False

    @property
    def package(self) -> str:
        """The Python package that is imported, e.g. `"ai_edge_litert"`."""
        return self.module.partition(".")[0]

    def worker(self) -> tuple[str, str]:
        """Return the arguments with which a Python, or Node, starts the runtime's worker."""
        script = WASM_WORKER if self.build else WORKER
        names = (
            ("name", "build") if self.build else ("name", "packages", "module", "bare", "profile")
        )
        return str(script), json.dumps({name: getattr(self, name) for name in names})


_LITERT_JS = Runtime(
    "litert-js",
    packages=("@litertjs/core",),
    rules="litert-js",
    extra="js",
    build="normal",
    sparse_arch="wasm32",
    # Its outputs have a fixed size, which XNNPACK may have written over: the next model would meet
    # what is left of the heap.
    tainted=True,
)

RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime(
            "litert",
            packages=("ai-edge-litert", "ai-edge-litert-nightly"),
            module="ai_edge_litert.interpreter",
            rules="litert",
            extra="litert",
            profile=True,
            symbols=True,
            guest_version="2.3.0",
            guest_pythons=("3.10", "3.11", "3.12", "3.13"),
            sparse_arch="aarch64",
        ),
        Runtime(
            "tflite-runtime",
            packages=("tflite-runtime", "tflite-runtime-nightly"),
            module="tflite_runtime.interpreter",
            rules="tflite-runtime",
            extra="tflite-runtime",
            symbols=True,
            guest_version="2.14.0",
            guest_pythons=("3.10", "3.11"),
            newest_python=(3, 11),
        ),
        Runtime(
            "tensorflow",
            packages=("tensorflow", "tensorflow-cpu", "tf-nightly"),
            module="tensorflow.lite.python.interpreter",
            rules="tensorflow",
            wheel="tensorflow-cpu",  # the same kernels in a third of the size
            extra="build",
            bare="tensorflow",
        ),
        _LITERT_JS,
        replace(_LITERT_JS, name="litert-js-compat", build="compat", sparse_arch=""),
    )
}

TOOLS = {"benchmark_model": Runtime("benchmark_model")}
"""Programs that run models in their own way, known to the places where they do."""


def named(runtime: str, release: str, host: str | None = None) -> str:
    """Return the name of the target of a release: `"litert==2.1.6@cortex-a53"`."""
    middle = {"": "", NIGHTLY: f"-{NIGHTLY}"}.get(release, f"=={release}")
    return f"{runtime}{middle}@{host}" if host else f"{runtime}{middle}"
