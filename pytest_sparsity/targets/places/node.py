"""Node on this machine: the runtimes in WebAssembly, in a child that runs `worker.mjs`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.targets import npm
from pytest_sparsity.targets.child import Launch
from pytest_sparsity.targets.places.webassembly import REMEDY, InWebAssembly

if TYPE_CHECKING:
    from pytest_sparsity.targets.runtimes import Runtime

# worker.mjs uses what LiteRT.js needs of Node (SIMD, top-level await) in its oldest version that
# still gets fixes.
_OLDEST_NODE = 20
# Variables that would change what is measured: V8's flags, coverage.
_UNWANTED = ("NODE_OPTIONS", "NODE_V8_COVERAGE")


@dataclass(frozen=True)
class Node(InWebAssembly):
    """Node on this machine."""

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
            raise Unsupported(f"{runtime.name} needs Node, which is not installed", REMEDY)
        major = npm.node_major(node)
        if major < _OLDEST_NODE:
            raise Unsupported(
                f"{runtime.name} needs Node {_OLDEST_NODE} or later, not {major}", REMEDY
            )
        package = npm.installed(node, self.release)
        environment = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
        # No flags: V8 compiles with its quick compiler first and recompiles what proves hot, as for
        # any user of LiteRT.js. --no-liftoff makes times steady at once, but a process then takes
        # 1.0 s instead of 0.25 s to get there (measured with Node 24 and `xnnpack_cnn`), and no
        # difference in the ratio of dense to sparse was seen beyond the noise of single runs.
        return Launch((node, *runtime.worker(), str(package)), environment)

    def at(self, release: str, /) -> Node:
        """Return Node with a release."""
        return Node(release)
