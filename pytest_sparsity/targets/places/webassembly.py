"""What Node and the browsers have in common: the npm package, and the WebAssembly in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.targets import npm
from pytest_sparsity.targets.places import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_sparsity.targets.runtimes import Runtime

REMEDY = "python -m pip install 'pytest-sparsity[js]'"


@dataclass(frozen=True)
class InWebAssembly(Place):
    """Where LiteRT.js runs.

    Attributes:
        release: the release of the npm package, "" for the pinned one.
    """

    release: str = ""

    def missing(self, runtime: Runtime, /) -> Unsupported | None:
        """Say what the runtime lacks here, or None; installs and starts nothing."""
        if npm.find_node() is None:
            return Unsupported(f"{runtime.name} needs Node, which is not installed", REMEDY)
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
        """Return the WebAssembly features that the build uses where the engine has them."""
        return frozenset({"simd128", "relaxed-simd"} if runtime.build == "normal" else {"simd128"})

    def install(self, runtime: Runtime, progress: Callable[[str], None], /) -> None:
        """Install the npm package."""
        node = npm.find_node()
        if node is None:
            raise self.missing(runtime) or Unsupported("Node is not installed", REMEDY)
        progress(f"{runtime.packages[0]} {self.version(runtime)}: installing")
        npm.installed(node, self.release, thoroughly=True)

    def published(self, runtime: Runtime, /) -> tuple[str, ...]:  # noqa: ARG002
        """Return the releases of the npm package."""
        node = npm.find_node()
        if node is None:
            raise Unsupported("npm comes with Node, which is not installed", REMEDY)
        return npm.published(node)

    def discard(self, runtime: Runtime, /) -> bool:  # noqa: ARG002
        """Remove the npm package, so that installing it begins again."""
        npm.discard(self.release)
        return True
