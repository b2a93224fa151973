"""Verdicts on a simulated phone whose times vary by 55 %, by the estimator of races.

    python benchmarks/noisy_phone.py [--races 1000] [--variation 0.55] [--pairs 20]
        [--confidence 0.95]
    python benchmarks/noisy_phone.py --table     (that of docs/how-to/phone.md)

The model takes 4 ms and a block is one run of benchmark_model, of 0.2 s or of 2 s, hence of 50 or
500 invocations; a pair is 3 rounds or 1 of a block of each model, as races plan it for blocks of
that length. What varies is not known of real phones, so there are three: every invocation for
itself; every block as a whole, which more invocations do not help against; and a drift that both
models share, whose neighbouring blocks are alike. A block's value is the median that newer builds
print, or the mean of older ones.

Told per case: of races whose true ratio is 1.05 how many are decided by claims of "> 1" after 20
pairs at most, the looks being those of races, rightly ("faster") and wrongly ("slower"); and of as
many with a true ratio of 1 how many say "faster" or "slower", which is false. An interval of 95 %
is beside the truth in 50 of 1,000, in half of them on the side on which the claim seems refuted.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from pytest_sparsity.estimate.intervals import LOOKS, hodges_lehmann, interval, look_confidence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Invocations of a block, and rounds of a pair of such blocks.
ROUNDS = {50: 3, 500: 1}
EFFECT = 1.05


@dataclass(frozen=True)
class Protocol:
    """How a race is run.

    Attributes:
        pairs: per process.
        most: pairs of a race at most.
        invocations: of a block.
        mean: a block's value is the mean, else the median.
        confidence: of all looks together.
    """

    pairs: int = 1
    most: int = 20
    invocations: int = 500
    mean: bool = False
    confidence: float = 0.95


@dataclass(frozen=True)
class Noise:
    """What varies.

    Attributes:
        name: for the table.
        invocation: standard deviation of the logarithm of one invocation.
        block: of a block as a whole, independent of all others.
        drift: of what neighbouring blocks share.
        memory: correlation of the drift from one block to the next.
    """

    name: str
    invocation: float = 0.0
    block: float = 0.0
    drift: float = 0.0
    memory: float = 0.99


def noises(variation: float) -> tuple[Noise, ...]:
    """Return the three kinds of a coefficient of variation, all log-normal."""
    sigma = math.sqrt(math.log1p(variation**2))
    return (
        Noise("every invocation", invocation=sigma),
        Noise("drift of both", invocation=0.1, drift=sigma),
        Noise("every block", block=sigma),
    )


def blocks(
    rng: np.random.Generator, noise: Noise, races: int, count: int, invocations: int, *, mean: bool
) -> NDArray[np.float64]:
    """Return the logarithms of the values of blocks in their order, one row per race."""
    values = np.empty((races, count))
    drift = rng.normal(0, noise.drift, races)
    for number in range(count):
        fresh = rng.normal(0, noise.drift, races)
        drift = noise.memory * drift + math.sqrt(1 - noise.memory**2) * fresh
        times = rng.normal(0, noise.invocation, (races, invocations))
        value = np.log(np.exp(times).mean(1)) if mean else np.median(times, axis=1)
        values[:, number] = value + drift + rng.normal(0, noise.block, races)
    return values


def centres(
    rng: np.random.Generator, noise: Noise, races: int, protocol: Protocol
) -> NDArray[np.float64]:
    """Return the log ratios of processes, of models that are the same."""
    pairs, invocations = protocol.pairs, protocol.invocations
    processes = min(protocol.most // pairs, LOOKS[-1])
    rounds = ROUNDS[invocations]
    count = processes * pairs * rounds
    values = blocks(rng, noise, races, 2 * count, invocations, mean=protocol.mean)
    values = values.reshape(races, count, 2)
    # The order within a round is drawn.
    swapped = rng.random((races, count)) < 0.5
    ratios = np.where(swapped, -1, 1) * (values[:, :, 0] - values[:, :, 1])
    medians = np.median(ratios.reshape(races, processes, pairs, rounds), axis=3)
    return hodges_lehmann(medians)


def verdicts(
    found: NDArray[np.float64], effect: float, confidence: float
) -> tuple[NDArray[np.bool_], ...]:
    """Return which races say "faster" and which "slower", at the first look that decides."""
    races, processes = found.shape
    faster, slower = np.zeros(races, bool), np.zeros(races, bool)
    for look, most in enumerate(LOOKS):
        if most > processes:
            break
        part = found[:, :most] + math.log(effect)
        _, low, high = interval(part, look_confidence(confidence, look))
        open_ = ~(faster | slower)
        faster |= open_ & (low > 0)
        slower |= open_ & (high < 0)
    return faster, slower


def row(noise: Noise, races: int, seed: int, protocol: Protocol) -> tuple[int, int, int]:
    """Return how many are decided rightly, how many wrongly, and how many equals are told apart."""
    rng = np.random.default_rng(seed)
    found = centres(rng, noise, races, protocol)
    right, wrong = verdicts(found, EFFECT, protocol.confidence)
    equal = centres(rng, noise, races, protocol)
    apart = verdicts(equal, 1.0, protocol.confidence)
    return int(right.sum()), int(wrong.sum()), int((apart[0] | apart[1]).sum())


# What the documentation tells: blocks of 0.2 s, of 2 s, and four times as many of these.
TOLD = (Protocol(invocations=50), Protocol(), Protocol(pairs=4, most=56))
TITLES = {
    "every invocation": "every invocation for itself",
    "drift of both": "a drift that both models share",
    "every block": "every run as a whole",
}


def table() -> Iterator[str]:
    """Yield the rows of the documentation's table."""
    for noise in noises(0.55):
        counts = zip(*(row(noise, 1000, 0, protocol) for protocol in TOLD), strict=True)
        cells = [[f"{count:,}" for count in kind] for kind in counts]
        told = [*cells[0], ", ".join(cells[1]), ", ".join(cells[2])]
        yield f"| {TITLES[noise.name]} | {' | '.join(told)} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--races", type=int, default=1000)
    parser.add_argument("--variation", type=float, default=0.55)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--confidence", type=float, default=0.95)
    options = parser.parse_args()
    if options.table:
        print(*table(), sep="\n")
        return
    head = "decided rightly | wrongly | equals told apart, of each"
    print(f"| what varies by {options.variation:.0%} | a block is | pairs per process | {head} |")
    print("|---|---|---|---|---|---|")
    # With more pairs than processes, as many per process as fill the last look.
    fewest = max(options.pairs // LOOKS[-1], 1)
    cases = product(((50, False), (50, True), (500, False), (500, True)), (fewest, fewest + 1))
    for noise, ((invocations, mean), pairs) in product(noises(options.variation), tuple(cases)):
        protocol = Protocol(pairs, options.pairs, invocations, mean, options.confidence)
        counts = row(noise, options.races, 0, protocol)
        value = "mean" if mean else "median"
        cells = (noise.name, f"{value} of {invocations}", pairs, *counts)
        print("| " + " | ".join(map(str, cells)) + f" of {options.races} |", flush=True)


if __name__ == "__main__":
    main()
