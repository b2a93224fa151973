"""The server of the page: on this machine's loopback, for one browser, and only while it runs."""

from __future__ import annotations

import itertools
import secrets
import shutil
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

_HERE = Path(__file__).parent
_TYPES = {".html": "text/html", ".mjs": "text/javascript", ".js": "text/javascript",
          ".wasm": "application/wasm"}  # fmt: skip
# With these the page is isolated from other origins: it may share memory between threads, and its
# clock ticks in steps of 5 us in Chromium and 20 us in Firefox instead of 100 us and 1 ms.
_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-store",
}


@dataclass
class Pages:
    """What the page may have.

    Every address begins with a secret, so that nobody else on this machine gets anything.

    Attributes:
        wasm: the folder with the package's WebAssembly modules.
    """

    wasm: Path
    _secret: str = field(default_factory=secrets.token_urlsafe)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _files: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pages = self

        class Handler(_Handler):
            owner = pages

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """The page's address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{self._secret}/page.html"

    def lend(self, path: str) -> str:
        """Return the name under which the page may read and write a file, until another is lent."""
        name = f"data/{next(self._numbers)}"
        self._files = {name: Path(path)}
        return name

    def find(self, address: str) -> Path | None:
        """Return the file that an address stands for, None if the page may not have any such."""
        _, secret, *names = urlsplit(address).path.split("/")
        if not secrets.compare_digest(secret.encode(), self._secret.encode()):
            return None
        if len(names) == 2 and names[0] == "wasm" and Path(names[1]).name == names[1]:
            return self.wasm / names[1]
        name = "/".join(names)
        ours = {
            "page.html": _HERE / "page.html",
            "page.mjs": _HERE / "page.mjs",
            "litert.mjs": _HERE.parent.parent / "litert.mjs",
        }
        return (ours | self._files).get(name)


class _Handler(BaseHTTPRequestHandler):
    owner: Pages
    protocol_version = "HTTP/1.1"
    # An answer goes out in one piece, and at once.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer with a file."""
        path = self.owner.find(self.path)
        try:
            if path is None:
                raise FileNotFoundError
            with path.open("rb") as file:
                size = path.stat().st_size
                self._begin(
                    HTTPStatus.OK, _TYPES.get(path.suffix, "application/octet-stream"), size
                )
                shutil.copyfileobj(file, self.wfile)
        except OSError as error:
            self._refuse(error)

    def do_PUT(self) -> None:
        """Write a file."""
        left = int(self.headers["Content-Length"])
        path = self.owner.find(self.path)
        try:
            if path is None:
                raise FileNotFoundError
            with path.open("wb") as file:
                while left and (part := self.rfile.read(min(left, 1 << 20))):
                    left -= len(part)
                    file.write(part)
        except OSError as error:
            self.close_connection = True
            self._refuse(error)
            return
        self._begin(HTTPStatus.NO_CONTENT, "text/plain", 0)

    def _refuse(self, error: OSError) -> None:
        body = (error.strerror or "there is no such file").encode()
        self._begin(HTTPStatus.NOT_FOUND, "text/plain", len(body))
        self.wfile.write(body)

    def _begin(self, status: HTTPStatus, kind: str, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002
        """Print nothing: standard error is for the page's own words."""
