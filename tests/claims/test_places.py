"""The same models side by side in Node and in the browsers of this machine.

LiteRT.js is one WebAssembly module, so that what it gains is the CPU's and the compiler's: V8's in
Node and Chromium, SpiderMonkey's in Firefox. The thresholds are those of `networks`, whose reason
holds in every engine: the sparse kernels take fewer instructions. That the engines agree is no
claim of ours; what was seen stands in docs/how-to/browser.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from claims.networks import CONVOLUTIONAL, Network, Row
from claims.test_networks import build, decide, runnable
from pytest_sparsity import Race, Variants

BUILDS = ("litert-js", "litert-js-compat")
ENGINES = ("", "@chromium", "@firefox")
TARGETS = [f"{build}{engine}" for build in BUILDS for engine in ENGINES]
# The tutorial's network at 90 % too.
NETWORKS = (*CONVOLUTIONAL, replace(CONVOLUTIONAL[0], sparsity=0.90))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Chromium runs without its sandbox"),
]


@pytest.fixture(params=NETWORKS, ids=str)
def network(request: pytest.FixtureRequest) -> Network:
    chosen: Network = request.param
    return chosen


@pytest.mark.race(budget=120)
@pytest.mark.parametrize("target", TARGETS)
def test_sparse_beats_dense_in_every_engine(
    network: Network,
    variants: Callable[..., Variants],
    race: Callable[..., Race],
    row: Row,
    target: str,
) -> None:
    runnable(target)
    files = build(variants, network)
    result = race(files.dense, files.sparse, target=target)
    assert result.clock == "cpu"
    assert decide(
        result.speedup,
        network.browser_speedup,
        lambda speedup, verdict: row(network, target, files, speedup, verdict),
    )


@pytest.mark.race(budget=120)
@pytest.mark.parametrize("target", ["litert-js@chromium", "litert-js@firefox"])
def test_two_threads_run_in_the_threaded_build(
    variants: Callable[..., Variants], race: Callable[..., Race], target: str
) -> None:
    """Where a page is isolated from other origins it may have threads, which share memory."""
    runnable(target)
    files = build(variants, CONVOLUTIONAL[0])
    result = race(files.dense, files.sparse, target=target, threads=2)
    assert result.clock == "wall"
    assert "threaded build" in str(result.as_json())
