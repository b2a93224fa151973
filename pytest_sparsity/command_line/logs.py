"""The command that reads other tools' logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.command_line.printing import put, show

if TYPE_CHECKING:
    import argparse


def command_read(options: argparse.Namespace) -> None:
    """Print what logs of benchmarks say, and what they do not."""
    from pytest_sparsity.logs import read
    from pytest_sparsity.report import logs

    found = [(name, log) for name in options.logs for log in read(name)]
    if options.json:
        put(logs.as_json(found))
    else:
        show(logs.lines(found))
