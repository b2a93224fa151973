"""Chromium without a window, and what a test does with its pages."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from pytest_sparsity.targets.places.browser.driver import Chromium, Message

SECONDS = 60.0


class Browser(Chromium):
    """One Chromium with a profile of its own, which keeps what its pages have said."""

    silence = SECONDS

    def __init__(self, command: str, folder: Path) -> None:
        self._seen: list[Message] = []
        super().__init__(command, folder, SECONDS)

    def arguments(self, profile: Path) -> tuple[str, ...]:
        """Return the arguments: our own page needs no sandbox, which a container may not have."""
        return ("--no-sandbox", *super().arguments(profile))

    def notice(self, said: Message) -> None:
        """Keep what a page says."""
        super().notice(said)
        if "method" in said:
            self._seen.append(said)

    def events(self, session: str) -> list[Message]:
        """Return what a page has said so far."""
        return [said for said in self._seen if said.get("sessionId") == session]

    def page(self, file: Path, *, width: int = 1280, dark: bool = False) -> Page:
        """Return a file as a page that has been loaded."""
        page = Page(self, self.attach())
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
        return self._browser.send(method, parameters, self._session)

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
