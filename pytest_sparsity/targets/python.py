"""The Python runtimes on this machine: a child of the same Python."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from importlib import metadata
from pathlib import Path

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.machine import this_machine
from pytest_sparsity.targets.child import Launch

WORKER = Path(__file__).with_name("worker.py")
# Runtime -> (package, distributions that may hold it, extra of ours that installs it).
_RUNTIMES = {
    "litert": ("ai_edge_litert", ("ai-edge-litert", "ai-edge-litert-nightly"), "litert"),
    "tflite-runtime": (
        "tflite_runtime",
        ("tflite-runtime", "tflite-runtime-nightly"),
        "tflite-runtime",
    ),
    "tensorflow": ("tensorflow", ("tensorflow", "tensorflow-cpu", "tf-nightly"), "build"),
}
# Variables that would change what is measured in the child: coverage and the debugging allocators
# slow every invocation down, and an interactive interpreter never ends.
_UNWANTED = (
    "COV_CORE_SOURCE",
    "COVERAGE_PROCESS_CONFIG",
    "COVERAGE_PROCESS_START",
    "PYTHONDEVMODE",
    "PYTHONINSPECT",
    "PYTHONMALLOC",
    "PYTHONTRACEMALLOC",
    "PYTHONWARNINGS",
)


def missing(runtime: str) -> Unsupported | None:
    """Say what the runtime lacks here, or None; imports and starts nothing."""
    package, _, extra = _RUNTIMES[runtime]
    if importlib.util.find_spec(package) is not None:
        return None
    if runtime == "tflite-runtime" and sys.version_info >= (3, 12):
        return Unsupported(
            "tflite-runtime has no wheel for Python 3.12 or later", "use Python 3.11 or older"
        )
    return Unsupported(
        f"{runtime} is not installed", f"python -m pip install 'pytest-sparsity[{extra}]'"
    )


def version(runtime: str) -> str:
    """Return the version of the installed runtime, or "unknown"; does not import it."""
    for name in _RUNTIMES[runtime][1]:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return "unknown"


def arch(runtime: str) -> str:  # noqa: ARG001  (every kind of target answers per runtime)
    """Return this machine's architecture in Linux' spelling."""
    spelt = {"AMD64": "x86_64", "arm64": "aarch64"}
    return spelt.get(this_machine().arch, this_machine().arch)


def features(runtime: str) -> frozenset[str]:  # noqa: ARG001
    """Return this machine's CPU features in Linux' spelling."""
    return this_machine().features


def launch(runtime: str, threads: int) -> Launch:  # noqa: ARG001  (threads come with `load`)
    """Return how to start the child."""
    environment = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "2"
    if sys.flags.no_user_site:
        # The child has to find the packages that this process finds.
        environment["PYTHONNOUSERSITE"] = "1"
    return Launch((sys.executable, str(WORKER), runtime), environment)
