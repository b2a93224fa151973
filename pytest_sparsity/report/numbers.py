"""Numbers with their units, for people."""

from __future__ import annotations


def number(value: float) -> str:
    """Return a number with few digits."""
    return f"{value:.4g}"


def percent(value: float) -> str:
    """Return a change: `+1.2 %`."""
    return f"{100 * value:+.2g} %"


def nbytes(value: float | None) -> str:
    """Return a size: `9.02 MB`."""
    if value is None:
        return "unknown"
    for scale, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= scale:
            return f"{value / scale:.3g} {name}"
    return f"{value:,.0f} bytes"


def duration(seconds: float) -> str:
    """Return a time: `5.16 ms`."""
    if not seconds:
        return "0 s"
    for scale, name in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {name}"
    return f"{seconds / 1e-9:.3g} ns"
