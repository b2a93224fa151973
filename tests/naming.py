"""Names of parametrized tests."""

from __future__ import annotations

import re


def without_addresses(value: object) -> str:
    """The text of a value without where its functions lie: workers of xdist collect the same."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
