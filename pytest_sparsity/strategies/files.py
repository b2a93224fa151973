"""Files: pairs of one network, and damaged ones."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from pytest_sparsity.strategies.chains import Chain, SingleLayer, layers, networks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import SearchStrategy

    from pytest_sparsity.writer import Encoding


@dataclass(frozen=True)
class FilePair:
    """Two `.tflite` files of one network, with the same zeros stored densely and sparsely.

    Attributes:
        network: what they hold.
    """

    network: Chain | SingleLayer

    @property
    def dense(self) -> bytes:
        """The file with all weights stored densely."""
        return self.network.build("dense").to_bytes()

    @property
    def sparse(self) -> bytes:
        """The file with the weights stored in the network's own encoding."""
        return self.network.build().to_bytes()


def pairs() -> SearchStrategy[FilePair]:
    """Pairs of files of single layers and of networks that XNNPACK's rules accept."""
    sparse: list[Encoding] = ["sparse", "block 1x4", "block 1x16"]
    single = st.sampled_from(sparse).flatmap(lambda encoding: layers(encoding=encoding))
    return st.builds(FilePair, st.one_of(single, networks()))


def malformed() -> SearchStrategy[bytes]:
    """Damaged `.tflite` files and files that never were any.

    Cut short, with numbers overwritten, bytes removed or put in. A few are still readable, since
    the damage may hit a weight or a name: whatever reads them must either succeed or say what is
    wrong in its own words.
    """
    damaged = st.builds(
        _damaged, st.sampled_from(_whole_files()), st.lists(_edits(), min_size=1, max_size=3)
    )
    return st.one_of(st.binary(max_size=64), damaged)


@cache
def _whole_files() -> list[bytes]:
    kept = np.ones((4, 16), np.float32)
    encodings: list[Encoding] = ["sparse", "dense", "block 1x4"]
    single = [SingleLayer("FULLY_CONNECTED", kept, encoding).build() for encoding in encodings]
    return [network.to_bytes() for network in (*single, Chain().build())]


def _edits() -> SearchStrategy[tuple[str, float, int]]:
    """What is done, where as a share of the file, and with which number."""
    kinds = st.sampled_from(["cut", "number", "byte", "remove", "insert"])
    corners = st.sampled_from([0, 1, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
    return st.tuples(kinds, st.floats(0, 1), st.one_of(corners, st.integers(0, 2**32 - 1)))


def _damaged(data: bytes, edits: Sequence[tuple[str, float, int]]) -> bytes:
    for kind, share, number in edits:
        place = int(share * max(len(data) - 1, 0))
        aligned = place // 4 * 4
        data = {
            "cut": data[:place],
            "number": data[:aligned] + struct.pack("<I", number) + data[aligned + 4 :],
            "byte": data[:place] + bytes([number % 256]) + data[place + 1 :],
            "remove": data[:place] + data[place + number % 16 :],
            "insert": data[:place] + struct.pack("<I", number) + data[place:],
        }[kind]
    return data
