"""The server itself: listings from :mod:`render`, everything else from an object server behind it."""

from __future__ import annotations

import http.client
import http.server
import time
import urllib.parse

from skyplane_core.testing.listserver.keyspace import KeySpace
from skyplane_core.testing.listserver.render import PAGES

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"})
STATE = "/.skyplane/"


class Server(http.server.ThreadingHTTPServer):
    """Listens on loopback.

    Args:
        kind: ``s3`` or ``gcs``.
        behind: host and port of the object server of that kind that everything but a listing goes to, and listings of
            state, which are real objects.
        latency: seconds before each page.
    """

    daemon_threads = True

    def __init__(self, kind: str, count: int, behind: tuple[str, int], latency: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages = PAGES[kind](KeySpace(count))
        self.behind = behind
        self.latency = latency


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def handle_one_request(self) -> None:
        """As its parent, which shows a client that goes away as an error."""
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_arguments: object) -> None:
        """Nothing: a line a page would be what costs most."""

    def do_GET(self) -> None:
        """A page, or what the object server has."""
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        if not self.server.pages.is_listing(url.path, query) or STATE in f"/{query.get('prefix', '')}":
            self._relay()
            return
        if self.server.latency:
            time.sleep(self.server.latency)
        try:
            body, status = self.server.pages.answer(query), 200
        except ValueError as error:
            body, status = str(error).encode(), 400
        self.send_response(status)
        self.send_header("Content-Type", self.server.pages.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """As the object server, whose writes these are."""
        return "skyplane-objectserver"

    def _relay(self) -> None:
        self.pass_on(*self.fetch())

    def fetch(self) -> tuple[http.client.HTTPResponse, bytes]:
        """What the object server answers to this request, and its body."""
        behind = http.client.HTTPConnection(*self.server.behind)
        try:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            behind.request(self.command, self.path, body, headers)
            answer = behind.getresponse()
            return answer, answer.read()
        finally:
            behind.close()

    def pass_on(self, answer: http.client.HTTPResponse, content: bytes) -> None:
        """Answer so."""
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        if answer.status != 204:
            self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(content)

    do_HEAD = _relay  # noqa: N815 - the names of http.server
    do_PUT = _relay  # noqa: N815
    do_POST = _relay  # noqa: N815
    do_DELETE = _relay  # noqa: N815
    do_PATCH = _relay  # noqa: N815
