"""Where zeros go: the one grammar of patterns, for pruning, properties, strategies and encodings.

    unstructured    any weight
    1xn             n consecutive inputs of one output together
    m:n             m of every n consecutive inputs, or more
    channels        whole outputs

Consecutive inputs are counted along the last axis of TFLite's layout: (outputs, ..., inputs).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

KINDS = "'unstructured', '1x4', '1x16', 'm:n' such as '2:4', 'channels'"

TIED = 1e-3
"""The share of a tensor's weights that may tie at the threshold and stay. Magnitudes of float32 tie
by themselves: a uniform draw has 2**23 values, so millions of weights cannot all differ."""


@dataclass(frozen=True)
class Pattern:
    """A pattern of zeros.

    Attributes:
        name: as the user writes it.
        block: consecutive inputs of one output that are zero together.
        zeros: of m:n, so many in every `group` of consecutive inputs; 0 if that is free.
        group: of m:n; 1 otherwise.
        channels: whether whole outputs are zero together, and can be removed.
    """

    name: str
    block: int = 1
    zeros: int = 0
    group: int = 1
    channels: bool = False

    @property
    def width(self) -> int:
        """Consecutive inputs that the pattern is about: of a block, or of a group."""
        return max(self.block, self.group)

    @property
    def sparsity(self) -> float | None:
        """The fraction of zeros that follows from the pattern; None if that is free."""
        return self.zeros / self.group if self.zeros else None

    def zeros_together(self, shape: Sequence[int]) -> int:
        """Return how many weights of a shape in Keras' order become zero in one step."""
        return math.prod(shape[:-1]) if self.channels else self.block

    def slack(self, shape: Sequence[int]) -> float:
        """Return by how many the zeros of a tensor may differ from what was asked for.

        One step of the pattern, or a share `TIED` of weights that are equal in magnitude.
        """
        return max(self.zeros_together(shape), TIED * math.prod(shape))

    def groups(self, rows: Array) -> Array:
        """Return rows in groups of `width` inputs, the last one filled up with zeros.

        Args:
            rows: of any type, the inputs along the last axis.

        Returns:
            Of shape (rows, groups, width).
        """
        import numpy as np

        flat = rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1])
        count = -(-flat.shape[1] // self.width)
        padded = np.pad(flat, ((0, 0), (0, count * self.width - flat.shape[1])))
        return padded.reshape(len(flat), count, self.width)

    def breaches(self, kept: Array, *, rounded: bool = False) -> tuple[Array, Array]:
        """Return where weights break the pattern.

        Args:
            kept: whether a weight is not zero, the inputs along the last axis. What is left over
                behind the last whole block is free.
            rounded: whether quantization may have rounded up to half of a block to zero.

        Returns:
            For each group of each row how many weights it keeps, int, and whether that breaks the
            pattern, bool; both of shape (rows, groups).
        """
        whole = kept.shape[-1] // self.block * self.block
        counts = self.groups(kept[..., :whole]).sum(axis=-1)
        if self.zeros:
            return counts, counts > self.group - self.zeros
        fewest = self.block / 2 if rounded else self.block
        return counts, (counts > 0) & (counts < fewest)


UNSTRUCTURED = Pattern("unstructured")


def parse(pattern: str) -> Pattern:
    """Return what a name means.

    Raises:
        ValueError: it means nothing.
    """
    if pattern == UNSTRUCTURED.name:
        return UNSTRUCTURED
    if pattern == "channels":
        return Pattern(pattern, channels=True)
    if block := re.fullmatch(r"1x([1-9]\d*)", pattern):
        return Pattern(pattern, block=int(block[1]))
    if groups := re.fullmatch(r"(\d+):(\d+)", pattern):
        zeros, group = int(groups[1]), int(groups[2])
        if 0 < zeros < group:
            return Pattern(pattern, zeros=zeros, group=group)
        raise ValueError(f"pattern={pattern!r}: m zeros in n consecutive inputs needs 0 < m < n")
    turned = re.fullmatch(r"([1-9]\d*)x1", pattern)
    meant = f"; blocks lie along the inputs here: '1x{turned[1]}'" if turned else ""
    raise ValueError(f"pattern={pattern!r} is unknown: use {KINDS}{meant}")


def per_cent(share: float) -> str:
    """Say how a share is written that was given in per cent; empty if it was not."""
    return f": {share:g} % is {share / 100:g}" if 1 < share <= 100 else ""
