"""A server that gives out access tokens for service accounts, and a Google connection that asks it for them."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


class TokenServer:
    """Answers every request for a token with a new one that is good for ``seconds``. Made by :func:`token_server`."""

    def __init__(self, port: int, seconds: int) -> None:
        self._url = f"http://127.0.0.1:{port}/token"
        self._seconds = seconds
        self.given = 0

    def answer(self) -> dict[str, Any]:
        """The next token."""
        self.given += 1
        return {"access_token": f"token-{self.given}", "expires_in": self._seconds, "token_type": "Bearer"}

    def connection(self) -> str:
        """A Google connection with a key of its own, as JSON for the environment."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        keyfile = {
            "type": "service_account",
            "project_id": "test-project",
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": "somebody@test-project.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": self._url,
        }
        return json.dumps({"conn_type": "google_cloud_platform", "extra": {"keyfile_dict": json.dumps(keyfile)}})


@contextlib.contextmanager
def token_server(seconds: int) -> Iterator[TokenServer]:
    """Run one on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(tokens.answer()).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_what: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        tokens = TokenServer(server.server_port, seconds)
        thread = threading.Thread(target=server.serve_forever, name="tokens")
        thread.start()
        try:
            yield tokens
        finally:
            server.shutdown()
            thread.join()
