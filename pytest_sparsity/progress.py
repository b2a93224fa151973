"""What is being done at the moment: one line on a terminal, rewritten, and nothing anywhere else.

Whoever takes long says so with `step`; whoever has a terminal sets `SINK` to what shows it. The
processes that are forked for a build say it themselves, since they have the same terminal. A race
that waits for its turn says it to `WAITING`, which is stderr's if nobody else listens.
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, TextIO

from pytest_sparsity.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Sink = Callable[[str], None]
    Waiting = Callable[[str], AbstractContextManager[object]]

# Columns below which a line says too little to be shown.
NARROW = 20
SAVE, RESTORE, ERASE = "\x1b7", "\x1b8", "\x1b[K"

SINK: ContextVar[Sink | None] = ContextVar("sink", default=None)
"""Shows a text; an empty one takes away what is shown."""
_STEPS: ContextVar[tuple[str, ...]] = ContextVar("steps", default=())


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say for as long as it lasts what is being done, as a part of what is being done around it."""
    sink = SINK.get()
    if sink is None:
        yield
        return
    outside = _STEPS.set((*_STEPS.get(), text))
    try:
        sink(": ".join(_STEPS.get()))
        yield
    finally:
        _STEPS.reset(outside)
        sink(": ".join(_STEPS.get()))


@contextmanager
def shown(sink: Sink | None) -> Iterator[None]:
    """Show steps by a sink, None for not at all."""
    before = SINK.set(sink)
    try:
        yield
    finally:
        SINK.reset(before)


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether lines on a stream can be rewritten."""
    return stream is not None and stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class ProgressLine:
    """Writes on a terminal, behind the cursor, and puts it back: what was there before stays.

    Args:
        stream: a terminal.
        column: returns where the cursor is.
    """

    def __init__(self, stream: TextIO, column: Callable[[], int] = lambda: 0) -> None:
        self._stream = stream
        self._column = column

    def __call__(self, text: str) -> None:
        """Show a text in place of the one before, as far as there is room on the line."""
        column = self._column()
        room = shutil.get_terminal_size().columns - column - 2
        said = printable(text)
        if len(said) > room:
            said = f"{said[: room - 3]}..." if room >= NARROW else ""
        if said and column:
            said = f" {said}"
        self._stream.write(f"{SAVE}{said}{ERASE}{RESTORE}")
        self._stream.flush()


_told: set[str] = set()


def _say(sentence: str) -> AbstractContextManager[object]:
    """Say it on stderr, the first time in this process."""
    if not _told:
        _told.add(sentence)
        sys.stderr.write(f"pytest-sparsity: {sentence}\n")
        sys.stderr.flush()
    return nullcontext()


WAITING: ContextVar[Waiting] = ContextVar("waiting", default=_say)
"""Is told what is waited for, a sentence; what it returns is left when the turn has come."""
