"""The child process of the targets in browsers: relay.py JSON.

Starts a browser, shows it the page that runs LiteRT.js, and hands over what is asked: the requests
of the protocol of worker come as lines of JSON on standard input, the page answers them, and the
answers go to standard output. Files go to the page and come from it by a server on the loopback.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from pytest_sparsity.children import PREFIX
from pytest_sparsity.machine import this_machine
from pytest_sparsity.targets.places.answering import put
from pytest_sparsity.targets.places.browser import clocks
from pytest_sparsity.targets.places.browser.driver import BROWSERS, CRASHED, Browser, BrowserError
from pytest_sparsity.targets.places.browser.pages import Pages

# Milliseconds that the page computes for its process to be known, and how often at most.
BURN_MS, BURNS = 100, 30
# Empty blocks, whose least CPU time is what asking costs: 0.1 ms in Chromium, 0.6 ms in Firefox.
# Not their median: while a browser still starts, that is of other work.
EMPTY = 21
# ns of a block below which reading the clocks, or their steps, would show in the ratio.
BLOCK_NS = 20_000_000


class Relay:
    """A browser with the page."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self._asked = asked
        self._clock: clocks.CpuClock | None = None
        self._asking_ns = 0
        self.pages = Pages(Path(asked["wasm"]))

    def start(self, browser: Browser) -> dict[str, Any]:
        """Show the page and return its hello."""
        self._browser = browser
        browser.open(self.pages.address)
        browser.run("begun")
        hello = self._told("start", self._asked["runtime"])
        burn = f"burn({BURN_MS})"
        self._clock = clocks.busiest(browser.keeper, lambda: browser.run(burn), BURNS)
        if self._clock is None:
            known: dict[str, Any] = {"clock": "wall"}
        else:
            known = {"clock": "cpu", "answering": self._clock.pid}
            self._asking_ns = min(self._block(None, 0)["cpu_ns"][0] for _ in range(EMPTY))
        return {
            **hello,
            **known,
            "engine": f"{browser.version()}, {hello.pop('build')} build",
            "cpu": this_machine().brand,
            "block_ns": BLOCK_NS,
        }

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Hand a request to the page and return its answer."""
        if request["do"] == "run":
            return self._run(request)
        lent = {
            name: self.pages.lend(path)
            for name, path in request.items()
            if name in {"path", "file"}
        }
        return self._told("ask", {**request, **lent})

    def _run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Time blocks; the clock is read here, while the page stands still."""
        done: dict[str, Any] = {"ran": [], "wall_ns": [], "cpu_ns": [], "preempted": []}
        for key, n in request["blocks"]:
            answer: dict[str, Any] = {}
            for number in (request["warm"], n) if request["warm"] else (n,):
                answer = self._block(key, number)
                if not answer["ok"]:
                    return {**answer, "id": request["id"]}
            for name, column in done.items():
                column.extend(answer[name])
        return {"id": request["id"], "ok": True, **done}

    def _block(self, key: str | None, n: int) -> dict[str, Any]:
        """Time one block, or none: that is what asking the page costs."""
        blocks = [] if key is None else [[key, n]]
        before = self._time()
        answer = self._told("ask", {"do": "run", "blocks": blocks, "warm": 0})
        if not answer["ok"]:
            return answer
        after = self._time()
        if before is None or after is None:
            answer["cpu_ns"] = answer["wall_ns"]
        else:
            answer["cpu_ns"] = [max(after[0] - before[0] - self._asking_ns, 0)]
            answer["preempted"] = [after[1] - before[1]]
        return answer

    def _time(self) -> tuple[int, int] | None:
        """Return CPU time, ns, and interruptions of the page's process; None without a clock."""
        if self._clock is None:
            return None
        try:
            return self._clock.ns(), self._clock.preempted()
        except OSError:
            raise BrowserError(CRASHED) from None

    def _told(self, function: str, argument: object) -> dict[str, Any]:
        told = self._browser.run(f"{function}({json.dumps(argument)})")
        for line in told["said"]:
            print(line, file=sys.stderr, flush=True)
        if "fatal" in told:
            raise BrowserError(told["fatal"])
        answer: dict[str, Any] = told["answer"]
        return answer


def main(asked: dict[str, Any]) -> int:
    """Answer until nobody asks; return the exit status."""
    kind = BROWSERS[asked["browser"]]
    # Not a folder of this process, which may be killed: the browser's keeper removes it.
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    relay = Relay(asked)
    try:
        with kind(asked["command"], folder) as browser:
            put(relay.start(browser))
            for line in sys.stdin:
                request = json.loads(line)
                if request["do"] == "quit":
                    put({"id": request["id"], "ok": True})
                    break
                put(relay.answer(request))
    except BrowserError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    finally:
        relay.pages.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
