"""Chromium without a window, driven over a pipe by its DevTools protocol.

Chromium reads commands from descriptor 3 and answers on 4, each message a line of JSON that ends
with a zero byte (`--remote-debugging-pipe`; content/browser/devtools/devtools_pipe_handler.cc).
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 60.0
Message = dict[str, Any]


def find() -> str | None:
    """Return the path of a Chromium."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One Chromium with a profile of its own."""

    def __init__(self, command: str, folder: Path) -> None:
        (read, answer), (ask, write) = os.pipe(), os.pipe()
        # Beyond 3 and 4, which the child's ends become.
        child = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (ask, answer)]
        for end in (ask, answer):
            os.close(end)
        self._read, self._write = read, write
        arguments = [
            command, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-dev-shm-usage", "--remote-debugging-pipe", f"--user-data-dir={folder}",
        ]  # fmt: skip
        null = os.O_RDWR
        self._process = os.posix_spawn(
            command,
            arguments,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, child[0], 3),
                (os.POSIX_SPAWN_DUP2, child[1], 4),
                *((os.POSIX_SPAWN_OPEN, end, os.devnull, null, 0) for end in (0, 1, 2)),
            ],
            setpgroup=0,
        )
        for end in child:
            os.close(end)
        self._numbers = 0
        self._buffer = b""
        self._seen: list[Message] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._read)
        os.close(self._write)

    def ask(self, method: str, session: str = "", **parameters: object) -> Any:
        """Send a command and return its result; events that come before it are kept."""
        self._numbers += 1
        number = self._numbers
        message: Message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self.wait(lambda said: said.get("id") == number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def wait(self, wanted: Callable[[Message], bool]) -> Message:
        """Return the first message from now on that is wanted."""
        until = time.monotonic() + SECONDS
        while True:
            said = self._next(until)
            if "method" in said:
                self._seen.append(said)
            if wanted(said):
                return said

    def events(self, session: str) -> list[Message]:
        """Return what a page has said so far."""
        return [said for said in self._seen if said.get("sessionId") == session]

    def _next(self, until: float) -> Message:
        while b"\0" not in self._buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._read], [], [], left)[0]:
                raise TimeoutError(f"Chromium said nothing for {SECONDS:g} s")
            received = os.read(self._read, 1 << 20)
            if not received:
                raise RuntimeError("Chromium ended")
            self._buffer += received
        message, _, self._buffer = self._buffer.partition(b"\0")
        said: Message = json.loads(message)
        return said

    def open(self, file: Path, *, width: int = 1280, dark: bool = False) -> Page:
        """Return a file as a page that has been loaded."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.ask(f"{domain}.enable")
        page.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=width < 700,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.ask("Emulation.setEmulatedMedia", features=[scheme])
        page.load(file.as_uri())
        return page


class Page:
    """A tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session
        self.seconds = 0.0

    def ask(self, method: str, **parameters: object) -> Any:
        return self._browser.ask(method, self._session, **parameters)

    def load(self, address: str) -> None:
        """Load a page, and note how long that took."""
        begun = time.monotonic()
        self.ask("Page.navigate", url=address)
        self._browser.wait(
            lambda said: (
                said.get("method") == "Page.loadEventFired"
                and said.get("sessionId") == self._session
            )
        )
        self.seconds = time.monotonic() - begun

    def run(self, script: str) -> Any:
        """Return the value of an expression; of a promise, what it is fulfilled with."""
        answer = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        """Return the text of all elements that can be seen."""
        found: list[str] = self.run(
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            ".filter(e => e.checkVisibility()).map(e => e.innerText.trim())"
        )
        return found

    def click(self, selector: str) -> None:
        """Click on the middle of the first such element, as a mouse does."""
        place = self.run(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2] })"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.ask(
                "Input.dispatchMouseEvent",
                type=kind, x=place[0], y=place[1], button="left", clickCount=1,
            )  # fmt: skip

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            code = {"Tab": 9, "Enter": 13}.get(key, 0)
            self.ask(
                "Input.dispatchKeyEvent",
                type=kind, key=key, code=key, windowsVirtualKeyCode=code, **typed,
            )  # fmt: skip

    def write(self, text: str) -> None:
        """Write into what has the focus."""
        self.ask("Input.insertText", text=text)

    def complaints(self) -> list[str]:
        """Return the errors and warnings of the page's console."""
        found = []
        for said in self._browser.events(self._session):
            parameters = said["params"]
            if said["method"] == "Runtime.exceptionThrown":
                found.append(str(parameters["exceptionDetails"]))
            elif said["method"] == "Log.entryAdded":
                found.append(parameters["entry"]["text"])
            elif said["method"] == "Runtime.consoleAPICalled":
                found.append(str(parameters["args"]))
        return found

    def requests(self) -> list[str]:
        """Return the addresses that the page has asked for."""
        return [
            said["params"]["request"]["url"]
            for said in self._browser.events(self._session)
            if said["method"] == "Network.requestWillBeSent"
        ]
