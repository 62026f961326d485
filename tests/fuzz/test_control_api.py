"""What an authenticated but broken client may send to a real gateway: it gets answers and errors of the tree."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import zlib
from collections.abc import Iterator

import httpx
import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core import errors
from skyplane_core.control_calls import MAX_BODY_BYTES
from skyplane_core.control_tls import connect
from skyplane_core.errors import ErrorRecord
from skyplane_core.identity import DataplaneIdentity, new_dataplane_id
from skyplane_core.provision.bootstrap import MIB
from skyplane_core.provision.local import LocalProvisioner
from skyplane_core.tls import client_context
from tests.fuzz.mutation import corpus, effort, mutated

SECRET = b"a control secret for tests, 32 bytes or more"


class Gateway:
    """One real gateway and a client of it that sends what it likes."""

    def __init__(self, provisioner: LocalProvisioner, identity: DataplaneIdentity) -> None:
        (self.address,) = provisioner.start(1)
        self._provisioner = provisioner
        self._identity = identity
        self._context = client_context(identity.ca_pem, identity.client_certificate())
        self._names = {"sni_hostname": identity.server_name("gateway-0")}
        self.http = httpx.Client(
            verify=self._context,
            trust_env=False,
            timeout=60,
            base_url=f"https://{self.address.host}:{self.address.control_port}",
        )
        self.born = self.pids()

    def pids(self) -> dict[str, int]:
        with connect(self._identity, "gateway-0", self.address.host, self.address.control_port) as channel:
            return channel.status().pids

    def request(self, method: str, path: str, **body: object) -> httpx.Response:
        return self.http.request(method, path, extensions=self._names, **body)  # type: ignore[arg-type]

    def connection(self) -> ssl.SSLSocket:
        plain = socket.create_connection((self.address.host, self.address.control_port), 60)
        return self._context.wrap_socket(plain, server_hostname=self._names["sni_hostname"])

    def log(self) -> str:
        return self._provisioner.log_path("gateway-0").read_text()

    def complaints(self) -> list[str]:
        """Log lines that speak of a bug."""
        lines = map(json.loads, self.log().splitlines())
        return [str(line) for line in lines if line["level"] in {"error", "critical"}]

    def stop(self) -> None:
        self.http.close()
        self._provisioner.stop([self.address])


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    identity = DataplaneIdentity(SECRET, new_dataplane_id())
    log_dir = tmp_path_factory.mktemp("logs")
    running = Gateway(LocalProvisioner(identity, pool_bytes=16 * MIB, expiry_seconds=600, log_dir=log_dir), identity)
    yield running
    running.stop()


def check(answer: httpx.Response) -> None:
    """An answer that succeeds, or an error of the tree that speaks of no bug of ours."""
    if answer.status_code < 300:
        return
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    record = msgspec.json.decode(answer.content, type=ErrorRecord)
    assert issubclass(getattr(errors, record.kind), errors.SkyplaneError)
    assert "internal" not in record.what, record


CALLS = [("PUT", "/transfers/t1", "transfer"), ("POST", "/transfers/t1/start", "spec"), ("PUT", "/peers", "peers")]


@pytest.mark.parametrize(("method", "path", "seed"), CALLS)
def test_bodies_of_wrong_types(gateway: Gateway, method: str, path: str, seed: str) -> None:
    seeds = [next(content for content in corpus("calls") if content.startswith(start)) for start in (STARTS[seed],)]

    @effort(120)
    @given(mutated(seeds))
    def run(body: bytes) -> None:
        check(gateway.request(method, path, content=body))
        if method == "POST":
            check(gateway.request("DELETE", "/transfers/t1"))

    run()
    check(gateway.request("PUT", "/peers", content=b"[]"))
    check(gateway.request("DELETE", "/transfers/t1"))
    assert gateway.pids() == gateway.born
    assert gateway.complaints() == []


STARTS = {"transfer": b'{"transfer_id":"t1","keys"', "spec": b'{"transfer_id":"t1","source"', "peers": b"["}
EXTREMES = [0, -1, 1, 2**31, 2**53, 2**63, 2**64, 1e300, 0.5, "", "x" * 300, "\0", "..", None, [], {}, True]


@pytest.mark.parametrize(("method", "path", "seed"), CALLS)
def test_every_field_at_its_extremes(gateway: Gateway, method: str, path: str, seed: str) -> None:
    (body,) = [content for content in corpus("calls") if content.startswith(STARTS[seed])]
    for where in leaves(json.loads(body)):
        for value in EXTREMES:
            changed = json.loads(body)
            inner = changed
            for step in where[:-1]:
                inner = inner[step]
            inner[where[-1]] = value
            check(gateway.request(method, path, content=json.dumps(changed)))
        check(gateway.request("DELETE", "/transfers/t1"))
    assert gateway.pids() == gateway.born
    assert gateway.complaints() == []


def leaves(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if path:
        yield path
    for name, inner in items:
        yield from leaves(inner, (*path, name))


@effort(150)
@given(data=mutated(corpus("http")), cut=st.integers(0, 400))
def test_malformed_http(gateway: Gateway, data: bytes, cut: int) -> None:
    with gateway.connection() as connection, contextlib.suppress(OSError):
        connection.sendall(data[:cut])
        connection.sendall(data[cut:])
        # Whatever is there: a server that waits for the rest of a request has a right to.
        connection.settimeout(0.01)
        connection.recv(65536)


def test_malformed_http_has_left_no_trace(gateway: Gateway) -> None:
    assert gateway.pids() == gateway.born
    assert gateway.complaints() == []


def test_huge_bodies_are_refused_before_they_are_kept(gateway: Gateway) -> None:
    control = psutil.Process(gateway.address.pid)
    before = control.memory_info().rss

    def endless() -> Iterator[bytes]:
        for _ in range(MAX_BODY_BYTES // MIB + 100):
            yield bytes(MIB)

    with contextlib.suppress(httpx.WriteError):
        # It may hang up before all of it is sent.
        assert gateway.request("PUT", "/peers", content=endless()).status_code == 413
    bomb = zlib.compress(bytes(200 * MIB))
    answer = gateway.request("PUT", "/peers", content=bomb, headers={"Content-Encoding": "deflate"})
    assert answer.status_code == 409, "it is no JSON as it stands"
    # A body that is being collected exists at most twice at one moment.
    assert control.memory_info().rss - before < 2.5 * MAX_BODY_BYTES
    assert gateway.pids() == gateway.born


def test_slow_requests_hold_up_nobody(gateway: Gateway) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(gateway.connection())
            connection.sendall(b"PUT /peers HTTP/1.1\r\nHost: g\r\nContent-Length: 100\r\n\r\n[")
        assert gateway.pids() == gateway.born
    assert gateway.complaints() == []


def test_no_refusal_quotes_a_credential(gateway: Gateway) -> None:
    body = b'{"transfer_id":"t1","source":{"kind":"s3","bucket":"b","credentials":{"secret_key":"canary\xff"}}}'
    answer = gateway.request("PUT", "/transfers/t1", content=body)
    check(answer)
    assert "canary" not in answer.text
    with gateway.connection() as connection, contextlib.suppress(OSError):
        connection.sendall(b"PUT /peers HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\ncanary\r\n")
        connection.recv(65536)
    with gateway.connection() as connection, contextlib.suppress(OSError):
        connection.sendall(b"GET /canary\xff HTTP/1.canary\r\nAuthorization canary\r\n\r\n")
        connection.recv(65536)
    assert gateway.pids() == gateway.born
    assert "canary" not in gateway.log()
