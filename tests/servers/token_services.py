"""Services that give out tokens, in a few lines each: Google's and Azure's, as their SDKs ask them.

Each answers by path, remembers what it was asked, and can be told to refuse.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit


class Asked(NamedTuple):
    """One request: its path, its query's or form's fields, its headers in lower case."""

    path: str
    fields: dict[str, str]
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Asked], tuple[int, Any]]


class TokenServer:
    """Answers with JSON, or with bytes as they are."""

    def __init__(self, answer: Answer, certificate: Path | None = None) -> None:
        self.asked: list[Asked] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                form = body.decode() if "urlencoded" in self.headers.get("Content-Type", "") else ""
                fields = {name: values[0] for name, values in parse_qs(f"{url.query}&{form}").items()}
                asked = Asked(url.path, fields, {name.lower(): value for name, value in self.headers.items()}, body)
                server.asked.append(asked)
                status, told = answer(asked)
                content = told if isinstance(told, bytes) else json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/xml" if isinstance(told, bytes) else "application/json")
                self.send_header("Metadata-Flavor", "Google")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_arguments: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.host}"
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.url = f"https://{self.host}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def token_server(answer: Answer, certificate: Path | None = None) -> Iterator[TokenServer]:
    """A server that runs inside the ``with`` block; with a certificate and its key it speaks HTTPS."""
    server = TokenServer(answer, certificate)
    try:
        yield server
    finally:
        server.close()
