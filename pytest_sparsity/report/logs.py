"""What `pytest-sparsity read` prints of logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity.logs import compared
from pytest_sparsity.report.failure import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_sparsity.logs import Compared, Log

KERNELS = {True: "sparse", False: "dense", None: "unknown"}


def grouped(found: Sequence[tuple[str, Log]]) -> Mapping[str, list[Log]]:
    """Return the logs by model; one without a name of its model is called by its file."""
    groups: dict[str, list[Log]] = {}
    for file, log in found:
        groups.setdefault(log.model or file, []).append(log)
    return groups


def comparison(found: Sequence[tuple[str, Log]]) -> Compared | None:
    """Compare two models, the first that was read with the second; None unless there are two."""
    groups = list(grouped(found).values())
    return compared(groups[0], groups[1]) if len(groups) == 2 else None


def lines(found: Sequence[tuple[str, Log]]) -> list[str]:
    """Return a row per run, what limits the numbers, and the ratio of two models."""
    rows = [
        (
            file,
            log.model or "?",
            str(log.runs.count or "?"),
            f"{log.centre_us:,.6g} us",
            "?" if log.runs.std is None else f"{log.runs.std:,.3g} us",
            KERNELS[log.sparse_kernels],
        )
        for file, log in found
    ]
    said = table(("log", "model", "runs", "one inference", "deviation", "kernels"), rows)
    for file, log in found:
        said += [f"{file}: {limit}" for limit in log.limits]
    ratio = comparison(found)
    if ratio is not None:
        first, second = grouped(found)
        shown = f"{first} / {second}: {ratio.value:.4g}"
        if ratio.low:
            shown += (
                f", {100 * ratio.confidence:g} % interval [{ratio.low:.4g}, {ratio.high:.4g}] over "
                f"{ratio.logs[0]} and {ratio.logs[1]} logs"
            )
        said.append(f"{shown}; {ratio.limit}")
    return said


def as_json(found: Sequence[tuple[str, Log]]) -> dict[str, Any]:
    """Return what `pytest-sparsity read --json` prints."""
    ratio = comparison(found)
    return {
        "logs": [{"file": file, **log.as_json()} for file, log in found],
        "ratio": ratio and {**vars(ratio), "logs": list(ratio.logs), "limit": ratio.limit},
    }
