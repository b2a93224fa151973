"""Node on this machine: the runtimes in WebAssembly, in a child that runs `worker.mjs`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.targets import npm
from pytest_sparsity.targets.child import Launch
from pytest_sparsity.targets.places import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_sparsity.targets.runtimes import Runtime

# worker.mjs uses what LiteRT.js needs of Node (SIMD, top-level await) in its oldest version that
# still gets fixes.
_OLDEST_NODE = 20
_REMEDY = "python -m pip install 'pytest-sparsity[js]'"
# Variables that would change what is measured: V8's flags, coverage.
_UNWANTED = ("NODE_OPTIONS", "NODE_V8_COVERAGE")


@dataclass(frozen=True)
class Node(Place):
    """Node on this machine.

    Attributes:
        release: the release of the npm package, "" for the pinned one.
    """

    release: str = ""

    def missing(self, runtime: Runtime, /) -> Unsupported | None:
        """Say what the runtime lacks here, or None; installs and starts nothing."""
        if npm.find_node() is None:
            return Unsupported(f"{runtime.name} needs Node, which is not installed", _REMEDY)
        if self.release and not npm.is_installed(self.release):
            name = self.named(runtime)
            return Unsupported(
                f"{name} is not installed", f"pytest-sparsity targets --install {name}"
            )
        return npm.failure(self.release)

    def version(self, runtime: Runtime, /) -> str:  # noqa: ARG002  (a place answers per runtime)
        """Return the version of the npm package."""
        return self.release or npm.version()

    def arch(self, runtime: Runtime, /) -> str:  # noqa: ARG002
        """Return the architecture of WebAssembly."""
        return "wasm32"

    def features(self, runtime: Runtime, /) -> frozenset[str]:
        """Return the WebAssembly features that the build uses where Node has them."""
        return frozenset({"simd128", "relaxed-simd"} if runtime.build == "normal" else {"simd128"})

    def launch(self, runtime: Runtime, threads: int, /) -> Launch:
        """Return how to start the worker; installs the npm package if need be.

        Raises:
            Unsupported: several threads are asked for, Node is too old, or the package cannot be
                had.
        """
        if threads != 1:
            raise Unsupported(f"{runtime.name} runs on one thread, not {threads}", "use threads=1")
        node = npm.find_node()
        if node is None:
            raise Unsupported(f"{runtime.name} needs Node, which is not installed", _REMEDY)
        major = npm.node_major(node)
        if major < _OLDEST_NODE:
            raise Unsupported(
                f"{runtime.name} needs Node {_OLDEST_NODE} or later, not {major}", _REMEDY
            )
        package = npm.installed(node, self.release)
        environment = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
        # No flags: V8 compiles with its quick compiler first and recompiles what proves hot, as for
        # any user of LiteRT.js. --no-liftoff makes times steady at once, but a process then takes
        # 1.0 s instead of 0.25 s to get there (measured with Node 24 and `xnnpack_cnn`), and no
        # difference in the ratio of dense to sparse was seen beyond the noise of single runs.
        return Launch((node, *runtime.worker(), str(package)), environment)

    def install(self, runtime: Runtime, progress: Callable[[str], None], /) -> None:
        """Install the npm package."""
        node = npm.find_node()
        if node is None:
            raise self.missing(runtime) or Unsupported("Node is not installed", _REMEDY)
        progress(f"{runtime.packages[0]} {self.version(runtime)}: installing")
        npm.installed(node, self.release, thoroughly=True)

    def published(self, runtime: Runtime, /) -> tuple[str, ...]:  # noqa: ARG002
        """Return the releases of the npm package."""
        node = npm.find_node()
        if node is None:
            raise Unsupported("npm comes with Node, which is not installed", _REMEDY)
        return npm.published(node)

    def at(self, release: str, /) -> Node:
        """Return Node with a release."""
        return Node(release)

    def discard(self, runtime: Runtime, /) -> bool:  # noqa: ARG002
        """Remove the npm package, so that installing it begins anew."""
        npm.discard(self.release)
        return True
