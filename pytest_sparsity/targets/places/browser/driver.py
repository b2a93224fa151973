"""Browsers without a window, each over the protocol that it speaks by itself.

Chromium speaks the DevTools protocol, Firefox WebDriver BiDi (from version 129 on by itself, with
no driver program); both over a WebSocket whose address they print at their start.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import printable
from pytest_sparsity.targets.places.browser.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self
    from websockets.sync.client import ClientConnection

Message = dict[str, Any]
KEEPER = Path(__file__).with_name("keeper.py")
# Seconds that a browser may take to print its address; Firefox took 5 on a loaded machine.
PATIENCE = 45.0
CRASHED = (
    "the page crashed; it may have needed more memory than it may have, or the engine has a "
    "defect: run the model on litert-js too"
)


class BrowserError(Exception):
    """The browser does not do what it is there for; the message is a sentence with a remedy."""


class Browser:
    """One browser with a profile of its own, and the connection to it.

    Attributes:
        name: as people call it, e.g. `"Chromium"`.
        keeper: the id of the process below which its processes are.
        silence: seconds without a message after which it counts as hung; None if others look after
            that.
    """

    name = ""
    announcement = ""
    oldest = ""
    silence: float | None = None

    def __init__(self, command: str, folder: Path, patience: float = PATIENCE) -> None:
        """Start the browser and connect.

        Args:
            command: the program.
            folder: that is its own and is gone when it has ended.
            patience: seconds that it may take to print its address.

        Raises:
            BrowserError: it does not start.
        """
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        self.command = command
        self._numbers = itertools.count(1)
        self._connection = contextlib.ExitStack()
        self._socket: ClientConnection | None = None
        for part in ("profile", "home", "tmp"):
            (folder / part).mkdir(parents=True)
        self._prepare(folder / "profile")
        keeper = (sys.executable, "-I", "-S", str(KEEPER), str(folder))
        self._process = subprocess.Popen(
            (*keeper, command, *self.arguments(folder / "profile")),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(folder),
        )
        self.keeper = self._process.pid
        assert self._process.stderr is not None
        self._log = Log(self._process.stderr)
        try:
            address = self._address(patience)
            # Neither a proxy nor pings: who is at work cannot answer them.
            connection = connect(
                address,
                proxy=None,
                compression=None,
                max_size=None,
                ping_interval=None,
                close_timeout=1,
            )
            self._socket = self._connection.enter_context(connection)
        except (OSError, WebSocketException) as error:
            self.close()
            raise BrowserError(
                f"{self.name} refuses the connection ({error}); {self.try_it}"
            ) from None
        except BaseException:
            self.close()
            raise
        self._log.drain()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def try_it(self) -> str:
        """What to do about a browser that does not start."""
        return f"see what `{self.command} --headless about:blank` says, or install it again"

    def arguments(self, profile: Path) -> tuple[str, ...]:
        """Return the browser's arguments."""
        raise NotImplementedError

    def _prepare(self, profile: Path) -> None:
        """Write into the profile what the browser is to find there."""

    def _address(self, patience: float) -> str:
        """Return the address that the browser prints.

        Raises:
            BrowserError: it ended, or printed none in time.
        """
        deadline = time.monotonic() + patience
        while (line := self._log.line(deadline)) is not None:
            if not line:
                said = self._log.last
                words = f" ({said})" if said else ""
                raise BrowserError(f"{self.name} ended at its start{words}; {self.try_it}")
            found = re.search(rf"{self.announcement} (ws://\S+)", line)
            if found:
                return found[1]
        raise BrowserError(
            f"{self.name} did not print '{self.announcement}' within {patience:g} s; "
            f"{self.try_it}, {self.oldest} or later"
        )

    def send(self, method: str, parameters: Message, session: str = "") -> Any:
        """Send a command and return its result; events that come before it are kept.

        Raises:
            BrowserError: the browser refuses, or has ended.
        """
        number = next(self._numbers)
        message: Message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._say(message)
        said = self.wait(lambda said: said.get("id") == number)
        if "error" in said:
            raise BrowserError(f"{self.name} refuses {method}: {_told(said)}")
        return said["result"]

    def wait(self, wanted: Callable[[Message], bool]) -> Message:
        """Return the next message that is wanted."""
        while True:
            said = self._hear()
            self.notice(said)
            if wanted(said):
                return said

    def notice(self, said: Message) -> None:
        """Look at a message before anybody else does."""

    def _say(self, message: Message) -> None:
        from websockets.exceptions import WebSocketException

        assert self._socket is not None
        try:
            self._socket.send(json.dumps(message))
        except (OSError, WebSocketException):
            raise self._gone() from None

    def _hear(self) -> Message:
        from websockets.exceptions import WebSocketException

        assert self._socket is not None
        try:
            said: Message = json.loads(self._socket.recv(self.silence))
        except ValueError:
            raise BrowserError(f"{self.name} speaks no JSON; {self.try_it}") from None
        except TimeoutError:
            raise BrowserError(f"{self.name} said nothing for {self.silence} s") from None
        except (OSError, WebSocketException):
            raise self._gone() from None
        return said

    def _gone(self) -> BrowserError:
        return BrowserError(
            f"{self.name} closed its connection; see whether it crashed or was killed, for want of "
            "memory perhaps, and run again"
        )

    def open(self, address: str) -> None:
        """Show a page, and wait until it has been loaded."""
        raise NotImplementedError

    def run(self, script: str) -> Any:
        """Return the value of an expression, of a promise what it is fulfilled with.

        Raises:
            BrowserError: it throws, or the page has ended.
        """
        raise NotImplementedError

    def version(self) -> str:
        """Return name and version, and those of its engine."""
        raise NotImplementedError

    def close(self) -> None:
        """End the browser with all its processes and wait for that."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._log.close()
        self._connection.close()


class Chromium(Browser):
    """Chromium, and what is made of it."""

    name = "Chromium"
    announcement = "DevTools listening on"
    oldest = "it takes Chromium 112"

    def arguments(self, profile: Path) -> tuple[str, ...]:
        """Return the arguments; as root it refuses its sandbox."""
        return (
            "--headless=new",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            *(("--no-sandbox",) if os.geteuid() == 0 else ()),
            "--no-first-run",
            "--no-default-browser-check",
            "--no-proxy-server",
            "--disable-gpu",
            "--disable-extensions",
            "--disable-sync",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-default-apps",
            "--disable-breakpad",
            # Not in /dev/shm, which in containers is small, and which is not cleared by us.
            "--disable-dev-shm-usage",
            "--password-store=basic",
            "about:blank",
        )

    def open(self, address: str) -> None:
        """Show a page in a tab of its own."""
        self._session = self.attach()
        for domain in ("Page", "Runtime", "Inspector"):
            self.send(f"{domain}.enable", {}, self._session)
        shown = self.send("Page.navigate", {"url": address}, self._session)
        if shown.get("errorText"):
            raise BrowserError(f"{self.name} cannot show the page: {shown['errorText']}")
        self.wait(lambda said: said.get("method") == "Page.loadEventFired")

    def attach(self) -> str:
        """Return the session of a new and empty tab."""
        target = self.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        session: str = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})[
            "sessionId"
        ]
        return session

    def run(self, script: str) -> Any:
        """Return the value of an expression."""
        asked = {"expression": script, "awaitPromise": True, "returnByValue": True}
        answer = self.send("Runtime.evaluate", asked, self._session)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            thrown = details.get("exception", {}).get("description") or details.get("text", "")
            raise BrowserError(f"the page failed: {_first(thrown)}")
        return answer["result"].get("value")

    def notice(self, said: Message) -> None:
        """Raise where the page has crashed: Chromium then never answers what the page was asked."""
        if said.get("method") in {"Inspector.targetCrashed", "Inspector.detached"}:
            raise BrowserError(CRASHED)

    def version(self) -> str:
        """Return the versions of Chromium and of V8."""
        told = self.send("Browser.getVersion", {})
        return (
            f"{told['product'].replace('/', ' ').replace('Headless', '')} (V8 {told['jsVersion']})"
        )


class Firefox(Browser):
    """Firefox, with its remote agent."""

    name = "Firefox"
    announcement = "WebDriver BiDi listening on"
    oldest = "it takes Firefox 129"

    def arguments(self, profile: Path) -> tuple[str, ...]:
        """Return the arguments."""
        return (
            "--headless",
            "--no-remote",
            "--profile",
            str(profile),
            "--remote-debugging-port",
            "0",
            "about:blank",
        )

    def _prepare(self, profile: Path) -> None:
        preferences = {
            "app.update.enabled": False,
            "browser.shell.checkDefaultBrowser": False,
            "datareporting.policy.dataSubmissionEnabled": False,
            "network.proxy.type": 0,
            "remote.prefs.recommended": True,
            "toolkit.telemetry.reportingpolicy.firstRun": False,
        }
        lines = [f'user_pref("{key}", {json.dumps(to)});\n' for key, to in preferences.items()]
        (profile / "user.js").write_text("".join(lines), encoding="utf-8")

    def _address(self, patience: float) -> str:
        return f"{super()._address(patience)}/session"

    def open(self, address: str) -> None:
        """Show a page in the tab that is there."""
        capabilities = self.send("session.new", {"capabilities": {}})["capabilities"]
        self._version = f"Firefox {capabilities['browserVersion']}"
        self._tab = self.send("browsingContext.getTree", {})["contexts"][0]["context"]
        shown = {"context": self._tab, "url": address, "wait": "complete"}
        self.send("browsingContext.navigate", shown)

    def run(self, script: str) -> Any:
        """Return the value of an expression; it comes as JSON, which BiDi itself is not."""
        asked = {
            "expression": f"(async () => JSON.stringify(await ({script})))()",
            "target": {"context": self._tab},
            "awaitPromise": True,
        }
        answer = self.send("script.evaluate", asked)
        if answer["type"] != "success":
            said = answer["exceptionDetails"]["text"]
            # Firefox shows an empty page where one has crashed.
            gone = "ReferenceError: ask is not defined" in said
            raise BrowserError(CRASHED if gone else f"the page failed: {_first(said)}")
        value = answer["result"].get("value")
        return None if value is None else json.loads(value)

    def version(self) -> str:
        """Return the version of Firefox, which is that of its engine."""
        return self._version


BROWSERS: dict[str, type[Browser]] = {"chromium": Chromium, "firefox": Firefox}


def _told(said: Message) -> str:
    error = said["error"]
    return _first(
        error["message"] if isinstance(error, dict) else f"{error}, {said.get('message')}"
    )


def _first(text: str) -> str:
    """Return the first line of what a page or a browser says."""
    return printable(next(iter(str(text).splitlines()), "no reason given"))


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of a browser that leaves nothing outside its folder."""
    unwanted = ("XDG_", "MOZ_", "DBUS_", "PYTHON")
    kept = {name: to for name, to in os.environ.items() if not name.startswith(unwanted)}
    return {**kept, "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
