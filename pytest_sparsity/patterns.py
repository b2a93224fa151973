"""Where the zeros go: what `pattern` means, and which weights can have it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCKS = (4, 16)
"""Inputs per block that TFLite has kernels for: 4 for float weights, 16 for int8 ones."""

KINDS = "'unstructured', '1x4', '1x16', 'm:n' such as '2:4', 'channels'"


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
    def ranks(self) -> tuple[int, ...]:
        """Ranks of the weights that TFMOT 0.8.1 prunes so; empty for any."""
        if self.block > 1:
            return (2,)
        return (2, 4) if self.zeros else ()

    @property
    def width(self) -> int:
        """What the number of inputs must be a multiple of."""
        return max(self.block, self.group)

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether TFMOT prunes a weight of this shape in Keras' order so at all."""
        return not self.ranks or len(shape) in self.ranks

    @property
    def sparsity(self) -> float | None:
        """The fraction of zeros that follows from the pattern; None if that is free."""
        return self.zeros / self.group if self.zeros else None

    def tfmot(self) -> dict[str, Any]:
        """Return the arguments of `prune_low_magnitude`; Keras' order is inputs, outputs."""
        return {
            "block_size": (self.block, 1),
            "sparsity_m_by_n": (self.zeros, self.group) if self.zeros else None,
        }

    def zeros_together(self, shape: Sequence[int]) -> int:
        """Return how many weights of a shape become zero in one step."""
        return math.prod(shape[:-1]) if self.channels else self.block


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
    if block := re.fullmatch(r"1x(\d+)", pattern):
        if int(block[1]) in BLOCKS:
            return Pattern(pattern, block=int(block[1]))
        raise ValueError(
            f"pattern={pattern!r}: TFLite has kernels for blocks of 1x4 (float weights) and 1x16"
            " (int8 weights) only"
        )
    if groups := re.fullmatch(r"(\d+):(\d+)", pattern):
        zeros, group = int(groups[1]), int(groups[2])
        if 0 < zeros < group:
            return Pattern(pattern, zeros=zeros, group=group)
        raise ValueError(f"pattern={pattern!r}: m zeros in n consecutive inputs needs 0 < m < n")
    raise ValueError(f"pattern={pattern!r} is unknown: use {KINDS}")


def check_widths(weights: Sequence[tuple[str, tuple[int, ...]]], pattern: Pattern) -> None:
    """Raise ValueError if a weight's inputs are no multiple of the pattern's width.

    TFMOT 0.8.1 prunes less than m:n in what is left over, and pools blocks off their places; the
    converter of TensorFlow 2.21 drops what is left over of blocks.

    Args:
        weights: name and shape, in Keras' order, of all that is to be pruned.
        pattern: asked for.
    """
    unfit = [
        f"{name} has {shape[-2]} inputs" for name, shape in weights if shape[-2] % pattern.width
    ]
    if pattern.width > 1 and unfit:
        raise ValueError(
            f"pattern={pattern.name!r} needs inputs in multiples of {pattern.width}:"
            f" {', '.join(unfit)}; leave them out with policy=[names of the layers to prune]"
        )
