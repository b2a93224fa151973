"""The clocks and the heat of a machine during a race, as far as it tells of them.

A ratio of two models that alternate hardly minds a clock that is slow. It minds one that changes
while they run, and a CPU that is throttled by its heat changes its clock all the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Told = Mapping[str, Any]

REMEDY = "cool it, or give it pauses"


def doubts(told: Sequence[Told]) -> tuple[str, ...]:
    """Return what a reader of a ratio should know of these readings, the oldest first.

    A race throttled if, in any reading, clocks were lowered for the heat's sake or for want of
    voltage, or if a cap fell or the CPU's own count of throttling rose between two.
    """
    signs = []
    if any(each.get("cooling") for each in told):
        signs.append("its clocks were lowered to cool it")
    counts = [each["throttles"] for each in told if each.get("throttles") is not None]
    if counts and max(counts) > counts[0]:
        signs.append(f"its CPU throttled {counted(max(counts) - counts[0], 'time')}")
    caps = [each["cap_khz"] for each in told if each.get("cap_khz")]
    if any(now < first for each in caps for now, first in zip(each, caps[0], strict=False)):
        signs.append("the cap of its clocks fell")
    if any(each.get("undervoltage") for each in told):
        signs.append("its supply had too little voltage")
    if any(each.get("status", 0) > 0 for each in told):
        signs.append(f"its thermal status was {max(each.get('status', 0) for each in told)}")
    if not signs:
        return ()
    heat = [each["celsius"] for each in told if each.get("celsius") is not None]
    hottest = f" at up to {max(heat):.0f} degrees Celsius" if heat else ""
    return (f"noisy, the machine throttled{hottest}: {', '.join(signs)}; {REMEDY}",)


def summary(told: Sequence[Told]) -> dict[str, object]:
    """Return what a report says of these readings: what each value was at first, and its range."""
    facts: dict[str, object] = {"readings": len(told)}
    heat = [each["celsius"] for each in told if each.get("celsius") is not None]
    if heat:
        facts["celsius"] = [heat[0], min(heat), max(heat)]
    for name in ("khz", "cap_khz", "max_khz"):
        values = [value for each in told for value in each.get(name, ())]
        if values:
            facts[name] = [min(values), max(values)]
    facts["governors"] = sorted({name for each in told for name in each.get("governors", ())})
    facts["throttled"] = bool(doubts(told))
    return facts
