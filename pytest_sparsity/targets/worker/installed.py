"""What a process runs with: the module of a runtime, its version, and the CPU."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import platform
import sys
import types
from importlib import metadata
from pathlib import Path
from typing import Any


def import_interpreter(runtime: dict[str, Any]) -> types.ModuleType:
    """Import the module that has the runtime's `Interpreter`."""
    bare = runtime["bare"]
    if bare:
        # An empty package of that name with the right search path stands in for it.
        spec = importlib.util.find_spec(bare)
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError(f"No module named {bare!r}", name=bare)
        package = types.ModuleType(bare)
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules[bare] = package
    return importlib.import_module(runtime["module"])


def version(runtime: dict[str, Any], module: types.ModuleType) -> str:
    """Return the version of the runtime's distribution, or "unknown".

    Of several that are installed, stable and nightly, it is the one that lies beside the module.
    """
    beside = Path(str(module.__file__)).parents[runtime["module"].count(".")]
    places: list[dict[str, Any]] = [{"path": [str(beside)]}, {}]
    for place in places:
        for name in runtime["packages"]:
            for distribution in metadata.distributions(name=name, **place):
                return str(distribution.version)
    return "unknown"


def cpu() -> str:
    """Return the CPU's name as Linux tells it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    # ARM boards name themselves in their device tree instead.
    with contextlib.suppress(OSError):
        names.append(Path("/proc/device-tree/model").read_text(errors="replace").strip("\0\n "))
    return next(filter(None, names), platform.processor() or platform.machine())
