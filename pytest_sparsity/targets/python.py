"""Where this process's Python finds a runtime, and how it starts a worker with it."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.targets.child import Launch

if TYPE_CHECKING:
    from pytest_sparsity.targets.runtimes import Runtime

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


@dataclass(frozen=True)
class Environment:
    """This process's Python and what it finds installed.

    Attributes:
        folder: is searched before everything else that is installed; None for no such folder.
    """

    folder: Path | None = None

    def missing(self, runtime: Runtime) -> Unsupported | None:
        """Say what the runtime lacks here, or None; imports and starts nothing."""
        if self.package(runtime) is not None:
            return None
        newest = runtime.newest_python
        if newest is not None and sys.version_info[:2] > newest:
            return Unsupported(
                f"{runtime.name} has no wheel for Python {newest[0]}.{newest[1] + 1} or later",
                f"use Python {newest[0]}.{newest[1]} or older",
            )
        held = (
            f"pytest-sparsity[{runtime.extra}]" if runtime.extra else "".join(runtime.packages[:1])
        )
        remedy = f"python -m pip install '{held}'" if held else f"install {runtime.package}"
        return Unsupported(f"{runtime.name} is not installed", remedy)

    def version(self, runtime: Runtime) -> str:
        """Return the version of the installed runtime, or "unknown"; does not import it.

        Of several that are installed, stable and nightly, it is the one that lies beside the
        package, as for the worker.
        """
        package = self.package(runtime)
        beside: dict[str, Any] = {} if package is None else {"path": [str(package.parent)]}
        for path in (beside, {}):
            for name in runtime.packages:
                for distribution in metadata.distributions(name=name, **path):
                    return distribution.version
        return "unknown"

    def package(self, runtime: Runtime) -> Path | None:
        """Return the folder of the runtime's Python package; None if it is not installed."""
        if self.folder is not None:
            package = self.folder / runtime.package
            return package if package.is_dir() else None
        spec = importlib.util.find_spec(runtime.package)
        folders = (spec and spec.submodule_search_locations) or ()
        return next(map(Path, folders), None)

    def launch(self, runtime: Runtime) -> Launch:
        """Return how to start the worker."""
        environment = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
        environment["TF_CPP_MIN_LOG_LEVEL"] = "2"
        if sys.flags.no_user_site:
            # The child has to find the packages that this process finds.
            environment["PYTHONNOUSERSITE"] = "1"
        if self.folder is not None:
            given = environment.get("PYTHONPATH")
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(self.folder), given)))
        return Launch((sys.executable, *runtime.worker()), environment)
