"""What commands print."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from pytest_sparsity.errors import one_line, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

DONE, REFUTED, UNUSABLE, CANNOT_RUN = 0, 1, 2, 3
"""Exit statuses: see `__main__`."""
INTERNAL = 1


def put(value: object) -> None:
    """Print JSON; what is not finite is null."""
    from pytest_sparsity.report.records import plain

    print(json.dumps(plain(value), indent=2, allow_nan=False))


def show(lines: Iterable[str]) -> None:
    """Print lines."""
    print("\n".join(map(printable, lines)))


def refuse(error: object, status: int) -> int:
    """Say what is wrong in one line."""
    print(f"pytest-sparsity: {one_line(error)}", file=sys.stderr)
    return status
