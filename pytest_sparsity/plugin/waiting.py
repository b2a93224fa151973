"""A test that waits for its turn to race: said once, and not counted by pytest-timeout."""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from pytest_sparsity import progress
from pytest_sparsity.plugin.state import record_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from contextvars import Token


class Waits:
    """What a run does while other races run on the machine."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._said = False
        # What pytest-timeout was last asked to watch; None while it watches nothing.
        self._watched: tuple[pytest.Item, Any] | None = None
        self._before: Token[progress.Waiting] = progress.WAITING.set(self._wait)

    def pytest_unconfigure(self) -> None:
        """Leave the telling to whoever did it before."""
        progress.WAITING.reset(self._before)

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_timeout_set_timer(
        self, item: pytest.Item, settings: Any
    ) -> Generator[None, object, object]:
        """Note what pytest-timeout watches."""
        self._watched = item, settings
        return (yield)

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_timeout_cancel_timer(self) -> Generator[None, object, object]:
        """Note that it does not any more."""
        self._watched = None
        return (yield)

    @contextmanager
    def _wait(self, sentence: str) -> Iterator[None]:
        """Say what is waited for, and give the test its whole time once its turn has come."""
        self._say(sentence)
        begun, watched, hook = time.monotonic(), self._watched, self._config.hook
        if watched:
            hook.pytest_timeout_cancel_timer(item=watched[0])
        try:
            yield
        finally:
            record_of(self._config).waited += time.monotonic() - begun
            if watched:
                hook.pytest_timeout_set_timer(item=watched[0], settings=watched[1])

    def _say(self, sentence: str) -> None:
        """Say it on the terminal if this process has it: a worker of xdist waits all the time."""
        manager = self._config.pluginmanager
        reporter: Any = manager.getplugin("terminalreporter")
        if reporter is None or self._said:
            return
        self._said = True
        capture: Any = manager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            reporter.ensure_newline()
            reporter.write_line(f"pytest-sparsity: {sentence}")
