"""What a browser writes to its standard error."""

from __future__ import annotations

import os
import select
import threading
import time
from typing import IO

from pytest_sparsity.errors import printable

_WORDS = 200


class Log:
    """The lines that a browser writes to its standard error; read on, so that it never waits."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._rest = b""
        self._reader: threading.Thread | None = None
        self.last = ""

    def line(self, deadline: float) -> str | None:
        """Return the next line, "" at the end, None at the deadline."""
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._pipe], [], [], left)[0]:
                return None
            read = os.read(self._pipe.fileno(), 1 << 16)
            if not read:
                return ""
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        text = printable(line.decode(errors="replace").strip())
        self.last = text[:_WORDS] or self.last
        return text or " "

    def drain(self) -> None:
        """Read from now on what nobody wants."""

        def read() -> None:
            while os.read(self._pipe.fileno(), 1 << 16):
                pass

        self._reader = threading.Thread(target=read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Close the pipe, at whose end it is read already."""
        if self._reader is not None:
            self._reader.join()
        self._pipe.close()
