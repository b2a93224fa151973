"""What takes long in a test, shown behind pytest's own line while it does."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from pytest_sparsity import progress

if TYPE_CHECKING:
    from contextvars import Token

    import pytest


class Watch:
    """Shows steps on the terminal of a run, if it has one and is not quiet."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._stream: Any = None
        self._before: Token[progress.Sink | None] | None = None

    def pytest_sessionstart(self) -> None:
        """Take the terminal, which tests do not have while their output is captured."""
        if self._config.get_verbosity() < 0 or hasattr(self._config, "workerinput"):
            return
        reporter: Any = self._config.pluginmanager.getplugin("terminalreporter")
        if reporter is None or not reporter.isatty or os.environ.get("TERM", "dumb") == "dumb":
            return
        capture: Any = self._config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
        line = progress.ProgressLine(self._stream, lambda: reporter._tw.width_of_current_line)  # noqa: SLF001
        self._before = progress.SINK.set(line)

    def pytest_unconfigure(self) -> None:
        """Leave the terminal."""
        if self._before is not None:
            progress.SINK.reset(self._before)
            self._stream.close()
