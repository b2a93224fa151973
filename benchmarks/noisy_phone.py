"""Verdicts on a simulated phone whose times vary by 55 %, by the estimator of races.

    python benchmarks/noisy_phone.py [--races 1000] [--variation 0.55]

The model takes 4 ms and a block is one run of benchmark_model, of 0.2 s or of 2 s, hence of 50 or
500 invocations; a pair is 3 rounds or 1 of a block of each model, as races plan it for blocks of
that length. What varies is not known of real phones, so there are three: every invocation for
itself; every block as a whole, which more invocations do not help against; and a drift that both
models share, whose neighbouring blocks are alike. A block's value is the median that newer builds
print, or the mean of older ones.

Told per case: of races whose true ratio is 1.05 how many are decided by claims of "> 1" after 20
pairs at most, the looks being those of races; and of as many with a true ratio of 1 how many say
"faster" or "slower", which is false. Confidence 95 % allows 50 false verdicts in 1,000.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_sparsity.estimate.intervals import LOOKS, hodges_lehmann, interval, look_confidence

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Invocations of a block, and rounds of a pair of such blocks.
ROUNDS = {50: 3, 500: 1}
MOST_PAIRS = 20
CONFIDENCE = 0.95
EFFECT = 1.05


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
    rng: np.random.Generator,
    noise: Noise,
    races: int,
    pairs: int,
    invocations: int = 50,
    *,
    mean: bool = False,
) -> NDArray[np.float64]:
    """Return the log ratios of processes of so many pairs each, of models that are the same."""
    processes = min(MOST_PAIRS // pairs, LOOKS[-1])
    rounds = ROUNDS[invocations]
    count = processes * pairs * rounds
    values = blocks(rng, noise, races, 2 * count, invocations, mean=mean)
    values = values.reshape(races, count, 2)
    # The order within a round is drawn.
    swapped = rng.random((races, count)) < 0.5
    ratios = np.where(swapped, -1, 1) * (values[:, :, 0] - values[:, :, 1])
    medians = np.median(ratios.reshape(races, processes, pairs, rounds), axis=3)
    return hodges_lehmann(medians)


def verdicts(found: NDArray[np.float64], effect: float) -> tuple[NDArray[np.bool_], ...]:
    """Return which races say "faster" and which "slower", at the first look that decides."""
    races, processes = found.shape
    faster, slower = np.zeros(races, bool), np.zeros(races, bool)
    for look, most in enumerate(LOOKS):
        if most > processes:
            break
        part = found[:, :most] + math.log(effect)
        _, low, high = interval(part, look_confidence(CONFIDENCE, look))
        open_ = ~(faster | slower)
        faster |= open_ & (low > 0)
        slower |= open_ & (high < 0)
    return faster, slower


def row(
    noise: Noise, races: int, pairs: int, seed: int, invocations: int = 50, *, mean: bool = False
) -> tuple[int, int, int]:
    """Return how many are decided rightly, how many wrongly, and how many equals are told apart."""
    rng = np.random.default_rng(seed)
    found = centres(rng, noise, races, pairs, invocations, mean=mean)
    right, wrong = verdicts(found, EFFECT)
    apart = verdicts(centres(rng, noise, races, pairs, invocations, mean=mean), 1.0)
    return int(right.sum()), int(wrong.sum()), int((apart[0] | apart[1]).sum())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--races", type=int, default=1000)
    parser.add_argument("--variation", type=float, default=0.55)
    options = parser.parse_args()
    head = "decided rightly | wrongly | equals told apart, of each"
    print(f"| what varies by {options.variation:.0%} | a block is | pairs per process | {head} |")
    print("|---|---|---|---|---|---|")
    for noise in noises(options.variation):
        for invocations, mean in ((50, False), (50, True), (500, False), (500, True)):
            for pairs in (1, 2):
                counts = row(noise, options.races, pairs, 0, invocations, mean=mean)
                value = "mean" if mean else "median"
                cells = (noise.name, f"{value} of {invocations}", pairs, *counts)
                print("| " + " | ".join(map(str, cells)) + f" of {options.races} |", flush=True)


if __name__ == "__main__":
    main()
