"""How often a model is right, with an interval, and how much two models differ in it.

    loss = accuracy(variants.dense, images, labels) - accuracy(variants.sparse, images, labels)
    assert loss <= 0.01

Both are `Estimate`s: a comparison is True or False where it is so on the whole interval, and
raises `Inconclusive` where the samples are too few to tell. The interval answers for the choice of
samples: it says what to expect of further samples drawn alike, not of another training.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_sparsity import defaults
from pytest_sparsity.errors import Inconclusive, WrongOutputs
from pytest_sparsity.estimate import LIKELY, Claim, Estimate
from pytest_sparsity.inference import outputs
from pytest_sparsity.inputs import by_input
from pytest_sparsity.model import Model
from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray

    from pytest_sparsity.inputs import Shapes
    from pytest_sparsity.targets import Target

    Array = NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class FromSamples(Estimate):
    """An estimate from a fixed set of samples, which no further look can sharpen.

    Attributes:
        samples: how many.
        name: what is estimated.
    """

    samples: int = field(default=0, kw_only=True)
    name: str = field(default="", kw_only=True)

    _instead_of_comparing_two: ClassVar[str] = (
        "two accuracies are not compared but subtracted:"
        " `assert accuracy(dense, x, y) - accuracy(sparse, x, y) <= 0.01`"
    )

    def _inconclusive(self, sign: str, threshold: float) -> Inconclusive:
        claim = Claim(self.name, sign, threshold, "inconclusive", self, "near threshold")
        needed = self._samples_to_decide(threshold)
        remedy = "claim a threshold further away"
        if needed < math.inf:
            remedy = f"about {needed:.2g} samples like these would probably decide, or {remedy}"
        samples = counted(self.samples, "sample")
        said = f"{claim} is inconclusive: measured {self} with {samples}; {remedy}"
        return Inconclusive(said, claim)

    def _samples_to_decide(self, threshold: float) -> float:
        """Samples with which the interval would probably exclude the threshold.

        An interval is as wide as one over the root of the samples.
        """
        gap = self.value - threshold
        half = self.value - self.low if gap > 0 else self.high - self.value
        quantile = _quantile(self.confidence)
        if gap == 0:
            return math.inf
        return self.samples * (half / gap * (1 + LIKELY / quantile)) ** 2


@dataclass(frozen=True, eq=False, repr=False)
class Accuracy(FromSamples):
    """The share of samples whose label a model tells; subtract two of them to compare models.

    The interval is Wilson's (1927), as Brown, Cai and DasGupta (2001) recommend.

    Attributes:
        right: per sample, whether the model told its label.
        data: identifies samples and labels.
    """

    right: tuple[bool, ...] = field(default=(), kw_only=True)
    data: str = field(default="", kw_only=True)

    def __sub__(self, other: object) -> AccuracyDifference:
        """The difference, estimated from the samples on which the two models disagree.

        Raises:
            ValueError: the other is of other samples, labels or confidence.
        """
        if not isinstance(other, Accuracy):
            return NotImplemented
        if (self.data, self.confidence) != (other.data, other.confidence):
            raise ValueError("accuracies are subtracted if measured on the same samples and labels")
        pairs = list(zip(self.right, other.right, strict=True))
        gained, lost = pairs.count((True, False)), pairs.count((False, True))
        both, neither = pairs.count((True, True)), pairs.count((False, False))
        bounds = newcombe(both, gained, lost, neither, self.confidence)
        return AccuracyDifference(
            *bounds,
            self.confidence,
            samples=len(pairs),
            name="accuracy difference",
            gained=gained,
            lost=lost,
        )


@dataclass(frozen=True, eq=False, repr=False)
class AccuracyDifference(FromSamples):
    """How much more often one model is right than another one, on the same samples.

    The interval is method 10 of Newcombe (1998), Statistics in Medicine 17, 2635-2650: it counts
    the samples, not the runs, and uses that both models saw the same ones.

    Attributes:
        gained: samples on which only the first model is right.
        lost: samples on which only the second model is right.
    """

    gained: int = field(default=0, kw_only=True)
    lost: int = field(default=0, kw_only=True)

    def __str__(self) -> str:
        interval = f"{100 * self.confidence:g} % interval [{self.low:+.4f}, {self.high:+.4f}]"
        sides = f"{self.gained} right by the first alone, {self.lost} by the second"
        return f"{self.value:+.4f}, {interval} ({sides})"


def accuracy(
    model: str | PathLike[str] | Model,
    samples: Mapping[str, Array] | Array | Sequence[Array],
    labels: ArrayLike,
    *,
    target: str | Target = defaults.TARGET,
    shapes: Shapes | None = None,
    confidence: float = defaults.CONFIDENCE,
    classify: Callable[[Array], Array] | None = None,
) -> Accuracy:
    """Measure on a target how often a model tells the label of a sample.

    Args:
        model: a model or the path of one.
        samples: of shape (n, ...), where ... is the shape of the input without its batch; if there
            are several inputs, such arrays by name, or in the order of the signature. Real numbers
            for a quantized input.
        labels: of shape (n,).
        target: where to run.
        confidence: of the intervals, between 0 and 1.
        shapes: of the inputs, where the file leaves sizes open and the samples do not tell.
        classify: from the first output, of shape (n, ...), to labels of shape (n,); by default the
            place of the largest number of each sample.

    Raises:
        ValueError: samples or labels do not fit the model, or there is but one number per sample
            and no `classify`.
        WrongOutputs: an output is NaN.
        LoadError: the target refuses the model.
        Unsupported: the target cannot run here.
    """
    import numpy as np

    model, wanted = Model.of(model), np.asarray(labels)
    arrays = by_input(model, samples)
    if wanted.shape != arrays[0].shape[:1]:
        raise ValueError(
            f"{counted(len(arrays[0]), 'sample needs', 'samples need')} as many labels, not"
            f" {wanted.shape}"
        )
    first = outputs(model, samples, target=target, shapes=shapes)[0]
    broken = np.isnan(first.reshape(len(first), -1)).any(axis=1)
    if broken.any():
        raise WrongOutputs(
            f"{model.path.name} gives NaN for sample {int(np.argmax(broken))} on {target}; run"
            f" `pytest-sparsity explain {model.path.name} --target {target}`"
        )
    right = (_largest if classify is None else classify)(first) == wanted
    low, high = wilson(int(right.sum()), right.size, confidence)
    return Accuracy(
        float(right.mean()),
        low,
        high,
        confidence,
        samples=right.size,
        name="accuracy",
        right=tuple(right.tolist()),
        data=_digest([*arrays, wanted]),
    )


def _largest(output: Array) -> Array:
    if output[0].size < 2:
        raise ValueError(
            "the model gives one number per sample: say what it means with classify=, for example"
            " classify=lambda output: output[:, 0] > 0.5"
        )
    classes: Array = output.reshape(len(output), -1).argmax(axis=1)
    return classes


def _digest(arrays: Sequence[Array]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def wilson(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927, JASA 22, 209-212)."""
    share, square = successes / trials, _quantile(confidence) ** 2 / trials
    centre = (share + square / 2) / (1 + square)
    half = math.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def newcombe(
    both: int, first: int, second: int, neither: int, confidence: float
) -> tuple[float, float, float]:
    """The difference of two proportions in the same sample, and its interval.

    Newcombe (1998), Statistics in Medicine 17, 2635-2650, method 10: the Wilson intervals of the
    two proportions, joined with the correlation between them.

    Args:
        both: successes of both.
        first: successes of the first alone.
        second: successes of the second alone.
        neither: failures of both.
        confidence: between 0 and 1.

    Returns:
        The difference first - second, and the ends of its interval.
    """
    trials = both + first + second + neither
    margins = (both + first, both + second)
    (p, p_low, p_high), (q, q_low, q_high) = (
        (margin / trials, *wilson(margin, trials, confidence)) for margin in margins
    )
    spread = math.prod(m * (trials - m) for m in margins)
    excess = float(both * neither - first * second)
    if excess > 0:  # the paper's correction for continuity
        excess = max(excess - trials / 2, 0.0)
    correlation = excess / math.sqrt(spread) if spread else 0.0

    def joined(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * correlation * a * b + b * b, 0.0))

    difference = p - q
    low = difference - joined(p - p_low, q_high - q)
    high = difference + joined(p_high - p, q - q_low)
    return difference, low, high


def _quantile(confidence: float) -> float:
    """Of the normal distribution, two-sided."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)
