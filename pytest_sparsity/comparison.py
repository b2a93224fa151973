"""How far outputs are from those that they are compared with, value by value.

A model has outputs y_s for the sets of inputs s = 1, 2, ...; t_s are those that they should be, of
the same weights with other kernels. A value j is one number in them. It is right if

    |y_sj - t_sj| <= max(tolerance * scale_j, floor, 8 * noise_j)    for every s

    scale_j = max(range of t_sj over s, largest |t_sj| / 100, widest range in the tensor / 1000)
    noise_j = max(largest |t'_sj - t_sj|, scale_j * median of that over scale in the tensor)

Every value is measured in what *it* varies by, so that a box in pixels beside a score in [0, 1]
does not hide the score. The two shares keep values that hardly vary, since a sum of large terms has
the rounding of its terms. The noise is the model's own: t' are outputs of the same weights and
inputs, each moved to a neighbouring float32 at random (biases by the rounding of the sums that
begin with them), with sums of what was computed taken of other multiples of their terms; and the
difference between TFLite's two sets of kernels. An ill-conditioned model cannot be held to more
digits than it has.

That a program's rounding is told by perturbing its operands in their last bit is Vignes' CESTAC
method (Mathematics and Computers in Simulation 35, 1993, 233-261) and Parker's Monte Carlo
arithmetic (UCLA CSD-970002, 1997). The factor 8 was measured, see docs/comparison.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Outputs = Sequence[Array]
    Noise = Sequence[Array]

TOLERANCE = 1e-4
"""Largest deviation that is still rounding of float32, in what a value varies by.

Between XNNPACK's kernels and TFLite's reference kernels 2e-5 were seen (MobileNetV1, LiteRT 2.3.0);
the defects that this is to find begin at 1e-2.
"""

QUANTIZED_TOLERANCE = 2 / 127
"""The same for models with quantized tensors: two steps of an int8 output.

Kernels round a product to the next step in different ways. TFLite's 1x16 block kernel is one step
(0.0079) off XNNPACK's dense one (LiteRT 2.3.0); the defects that this is to find begin at 0.1.
"""

MAGNITUDE = 0.01
"""Of a value itself: 1e-6 of it are 17 units of rounding, 2^-24 each."""
TENSOR = 1e-3
QUANTIZED_TENSOR = 1.0
"""Of the widest range in its tensor: all values of a quantized tensor have the same steps."""
FACTOR = 8.0
"""Noise is seen in a few draws only, and kernels round in more places than it moves."""


@dataclass(frozen=True)
class Comparison:
    """How far a model's outputs are from those they are compared with.

    Attributes:
        against: what they are compared with, as a noun phrase.
        deviation: the largest difference in what the value varies by, of the value that is furthest
            beyond its tolerance; inf if one side is not finite where the other is, if the sizes
            differ, or if a value differs that does not vary.
        identical: every bit is equal.
        finite: for some inputs all outputs are finite.
        number: of the set of inputs with the largest deviation.
        place: the output and the place in it of that value; None if sizes differ.
        constant: the outputs are the same for all inputs, so that they can hide anything.
        tolerance: largest deviation of that value that is still rounding.
        top: the places of the largest value of that output, here and there, if they differ.
    """

    against: str
    deviation: float
    identical: bool
    finite: bool
    number: int
    place: tuple[int, int] | None = None
    constant: bool = False
    tolerance: float = TOLERANCE
    top: tuple[int, int] | None = None

    @property
    def right(self) -> bool:
        """The outputs are finite and differ by rounding at most."""
        return self.finite and self.deviation <= self.tolerance

    def __str__(self) -> str:
        if not self.finite:
            return f"its outputs are not finite (inputs {self.number})"
        which = f"output {self.place[0]}, value {self.place[1]}, " if self.place else ""
        text = (
            f"its outputs differ from {self.against} by {self.deviation:.2g} of what the value"
            f" varies by, more than {self.tolerance:.2g} ({which}inputs {self.number})"
        )
        if self.top is None:
            return text
        return f"{text}; the largest value is number {self.top[0]} instead of {self.top[1]}"


@dataclass(frozen=True)
class Rules:
    """What is rounding, for outputs of a model.

    Attributes:
        tolerance: share of a value's scale.
        tensor: least scale of a value, as a share of the widest range in its tensor.
    """

    tolerance: float = TOLERANCE
    tensor: float = TENSOR


FLOAT = Rules()
QUANTIZED = Rules(QUANTIZED_TOLERANCE, QUANTIZED_TENSOR)


def compare(
    against: str,
    ours: Sequence[Outputs],
    theirs: Sequence[Outputs],
    *,
    rules: Rules = FLOAT,
    noise: Noise | None = None,
    scales: Sequence[Outputs] | None = None,
) -> Comparison:
    """Compare outputs, one entry per set of inputs.

    Args:
        against: what they are compared with, as a noun phrase.
        ours: the outputs.
        theirs: what they should be. Shapes may differ in ones and in their order: XNNPACK announces
            some outputs with permuted dimensions.
        rules: tolerance and scale.
        noise: the model's own, of each output, see `noise_between`.
        scales: outputs for more sets of inputs, from which the values' ranges are taken; by
            default `theirs`.

    Integers that are not quantized, truth values and text must be equal, but for the noise.
    """
    pairs = list(zip(ours, theirs, strict=True))
    identical = all(
        a.tobytes() == b.tobytes() for one, other in pairs for a, b in zip(one, other, strict=True)
    )
    finite = any(all(map(_finite, outputs)) for outputs in ours) or not ours
    worst = _Worst()
    for output in range(len(ours[0]) if ours else 0):
        mine, other = [o[output] for o in ours], [o[output] for o in theirs]
        ranges = other if scales is None else [o[output] for o in scales]
        around = None if noise is None else noise[output]
        _look(worst, output, mine, other, ranges, rules, around)
    if not finite:
        number = next(n for n, outputs in enumerate(ours) if not all(map(_finite, outputs)))
        return Comparison(against, worst.deviation, identical, finite, number)
    return Comparison(
        against,
        worst.deviation,
        identical,
        finite,
        worst.number,
        worst.place,
        tolerance=worst.tolerance if worst.excess else rules.tolerance,
        top=worst.top,
    )


@dataclass
class _Worst:
    """The value that is furthest beyond what is allowed."""

    excess: float = 0.0
    deviation: float = 0.0
    tolerance: float = TOLERANCE
    number: int = 0
    place: tuple[int, int] | None = None
    top: tuple[int, int] | None = None


def _look(
    worst: _Worst,
    output: int,
    ours: Sequence[Array],
    theirs: Sequence[Array],
    ranges: Sequence[Array],
    rules: Rules,
    noise: Array | None,
) -> None:
    """Find the worst value of one output over all sets of inputs."""
    import numpy as np

    if any(a.size != b.size or a.dtype != b.dtype for a, b in zip(ours, theirs, strict=True)):
        worst.excess, worst.deviation, worst.place = np.inf, np.inf, None
        return
    if not ours[0].size:
        return
    scale = scale_of(ranges, rules)
    discrete = ours[0].dtype.kind not in "fc" and rules is FLOAT
    allowed = beyond(scale, 0.0 if discrete else rules.tolerance, noise)
    if ours[0].dtype.kind in "iu" and not discrete:
        allowed = np.maximum(allowed, 2.0)  # steps
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        difference = _difference(a, b)
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = np.where(difference > 0, difference / allowed, 0.0)
            place = int(np.argmax(excess))
            if excess[place] > worst.excess:
                worst.excess = float(excess[place])
                worst.deviation = float(difference[place] / scale[place])
                worst.tolerance = float(allowed[place] / scale[place]) if scale[place] else 0.0
                worst.number, worst.place = number, (output, place)
                worst.top = _top(a, b)


def beyond(scale: Array, tolerance: float, noise: Array | None) -> Array:
    """The difference beyond which each value is wrong.

    Of a few draws one value's noise may be small by luck; the others tell what is usual.
    """
    import numpy as np

    allowed: Array = scale * tolerance
    if noise is None:
        return allowed
    varying = scale > 0
    usual = np.median(noise[varying] / scale[varying]) if varying.any() else 0.0
    return np.maximum(allowed, FACTOR * np.maximum(noise, usual * scale))


def values(array: Array) -> Array:
    """The values as float64 in one row; the two parts of a complex one below each other."""
    import numpy as np

    flat: Array = array.ravel()
    if flat.dtype.kind == "c":
        flat = np.stack([np.real(flat), np.imag(flat)])
        return flat.astype(np.float64)
    if flat.dtype.kind not in "fiub":
        _, places = np.unique(flat, return_inverse=True)
        flat = places
    return flat.astype(np.float64)[None]


def _difference(ours: Array, theirs: Array) -> Array:
    """Of each value; inf where one side is not finite and the other is, or is otherwise."""
    import numpy as np

    if ours.dtype.kind not in "fciub":
        return np.where(ours.ravel() == theirs.ravel(), 0.0, np.inf)
    one, other = values(ours), values(theirs)
    with np.errstate(invalid="ignore"):
        difference = np.abs(one - other)
    both = np.isfinite(one) & np.isfinite(other)
    # Where both are infinite or NaN, the sets show nothing; see `finite`.
    neither = ~np.isfinite(one) & ~np.isfinite(other)
    whole: Array = np.where(both, difference, np.where(neither, 0.0, np.inf)).max(axis=0)
    return whole


def scale_of(outputs: Sequence[Array], rules: Rules = FLOAT) -> Array:
    """What each value of an output is measured in, from its values for several inputs.

    With one set of inputs, the widest range in the tensor stands for what each value varies by.
    """
    import numpy as np

    stacked = np.stack([values(array) for array in outputs])
    stacked = np.where(np.isfinite(stacked), stacked, np.nan)
    with np.errstate(invalid="ignore"):
        low = np.fmin.reduce(stacked, axis=0)
        high = np.fmax.reduce(stacked, axis=0)
    spread = np.nan_to_num(high - low).max(axis=0)
    magnitude = np.nan_to_num(np.fmax(np.abs(low), np.abs(high))).max(axis=0)
    if len(outputs) == 1:
        spread = np.full_like(spread, magnitude.max())
    scale: Array = np.maximum(spread, MAGNITUDE * magnitude)
    floored: Array = np.maximum(scale, rules.tensor * spread.max())
    return floored


def noise_between(ours: Sequence[Outputs], theirs: Sequence[Outputs]) -> list[Array]:
    """The largest difference of each value of each output, over the sets of inputs."""
    import numpy as np

    found = []
    for one, other in zip(zip(*ours, strict=True), zip(*theirs, strict=True), strict=True):
        if any(a.size != b.size for a, b in zip(one, other, strict=True)):
            found.append(np.zeros(one[0].size))
            continue
        largest = np.max([_difference(a, b) for a, b in zip(one, other, strict=True)], axis=0)
        found.append(np.where(np.isfinite(largest), largest, 0.0))
    return found


def louder(noises: Sequence[Noise]) -> list[Array]:
    """The larger one of each value."""
    import numpy as np

    return [np.max(each, axis=0) for each in zip(*noises, strict=True)]


def _top(ours: Array, theirs: Array) -> tuple[int, int] | None:
    """Where the largest values are, if an output of several values has them in other places."""
    if ours.dtype.kind not in "fiu" or ours.size < 2:
        return None
    found = int(ours.argmax()), int(theirs.argmax())
    return found if found[0] != found[1] else None


def _finite(array: Array) -> bool:
    import numpy as np

    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())


def share_of_largest(ours: Array, theirs: Array) -> float:
    """The largest difference over the largest magnitude of `theirs`; inf where only one is finite.

    For tolerances that a test states itself, such as that of a conversion.
    """
    import numpy as np

    if ours.size != theirs.size:
        return float("inf")
    if not ours.size:
        return 0.0
    difference = float(_difference(ours, theirs).max())
    numbers = np.abs(values(theirs))
    largest = float(np.nanmax(np.where(np.isfinite(numbers), numbers, 0.0), initial=0.0))
    return difference / largest if largest else (float("inf") if difference else 0.0)
