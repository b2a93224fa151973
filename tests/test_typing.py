"""What type checkers say to those who use the fixtures: a line that they accept fails in mypy.

An unused `type: ignore` is an error in this project's settings.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pytest_sparsity.plugin.protocols import VariantsFixture
from pytest_sparsity.variants import build_variants

if TYPE_CHECKING:

    def build() -> Any: ...

    def _rejected(variants: VariantsFixture) -> None:
        variants(build, sparsty=0.9)  # type: ignore[call-arg]
        variants(build, sparsity="ninety")  # type: ignore[arg-type]
        variants(build, 0.9)  # type: ignore[call-arg]
        variants(build, cache="here")  # type: ignore[call-arg]
        variants("network.tflite")  # type: ignore[arg-type]

    def _accepted(variants: VariantsFixture) -> None:
        variants(build, sparsity=0.9, pattern="2:4", policy=["dense"], depends=["weights.npz"])


def test_the_fixture_takes_what_the_function_takes_but_where_to_keep_it() -> None:
    function = inspect.signature(build_variants).parameters
    fixture = inspect.signature(VariantsFixture.__call__).parameters
    of_the_plugin = {"cache", "rebuild"}
    wanted = {name: p for name, p in function.items() if name not in of_the_plugin}
    assert list(fixture) == ["self", *wanted]
    for name, parameter in wanted.items():
        assert fixture[name].kind == parameter.kind, name
