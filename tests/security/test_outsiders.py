"""Whoever can reach the ports of real gateways and knows no secret: gets nothing, changes nothing, stops nothing."""

from __future__ import annotations

import base64
import contextlib
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from gateway import handshake
from gateway.doorman import HANDSHAKE_SECONDS
from gateway.strangers import MOST_STRANGERS
from skyplane_core.client import Dataplane, Location, SkyplaneClient
from skyplane_core.identity import DataplaneIdentity
from skyplane_core.testing.objectserver import ObjectServer
from skyplane_core.tls import KeyPair, client_context
from skyplane_core.tracker import Tracker

At = Callable[..., Location]
MIB = 1024 * 1024
SOURCE, DESTINATION = "source-canary-secret", "destination-canary-token"


class Running:
    """Two gateways with a transfer under way, slow enough to still be so at the end of an attack."""

    def __init__(self, dataplane: Dataplane, s3: ObjectServer, gcs: ObjectServer, source: At, destination: At) -> None:
        self.dataplane, self._gcs = dataplane, gcs
        self._source, self._destination = source, destination
        self.identity = DataplaneIdentity(dataplane._config.secret(), dataplane.reference.dataplane_id)
        self.objects = {f"p/canary-{n}": os.urandom(30_000 + n) for n in range(60)}
        for key, content in self.objects.items():
            s3.put("src", key, content)
        self.born = self.pids()
        gcs.set_network(bandwidth=1e6)
        self.tracker = self.submit("q/")

    def submit(self, into: str) -> Tracker:
        client = SkyplaneClient(self.dataplane._config)
        return self.dataplane.submit(client.prepare(self._source("p/"), self._destination(into), recursive=True))

    def pids(self) -> list[dict[str, int]]:
        return [gateway.status().pids for gateway in self.dataplane.gateways]

    def ports(self) -> list[tuple[str, int]]:
        gateways = self.dataplane.reference.gateways
        return [(g.host, port) for g in gateways for port in (g.control_port, g.wire_port)]

    def processes(self) -> list[psutil.Process]:
        return [psutil.Process(pid) for pids in self.pids() for pid in pids.values()]

    def assert_it_ends_well(self) -> None:
        self._gcs.set_network(bandwidth=None)
        self.tracker.wait(timeout=120).raise_for_state()
        self.assert_whole("q/")
        assert self.pids() == self.born

    def assert_whole(self, into: str) -> None:
        there = {key: self._gcs.get("dst", key) for key in self._gcs.list("dst", into) if "/.skyplane/" not in key}
        assert there == {into + key.removeprefix("p/"): content for key, content in self.objects.items()}


@pytest.fixture
def running(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> Iterator[Running]:
    dataplane = client.dataplane()
    with dataplane.auto_deprovision():
        dataplane.provision()
        yield Running(dataplane, s3, gcs, source, destination)


def answer_to(address: tuple[str, int], sent: bytes) -> bytes:
    """What comes back until the port hangs up."""
    got = b""
    with socket.create_connection(address, 60) as sock, contextlib.suppress(OSError):
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        while piece := sock.recv(65536):
            got += piece
    return got


HELLO = handshake._encode(handshake._Hello(1, "link", "gateway-0", "gateway-1", bytes(32), b"\x09" + bytes(31)))


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /status HTTP/1.1\r\nHost: g\r\n\r\n",
        b"PUT /peers HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n[]",
        b"SSH-2.0-scanner\r\n",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03" + bytes(100),
        b"\xff" * 4000,
        len(HELLO).to_bytes(2, "big") + HELLO,
        len(HELLO).to_bytes(2, "big") + HELLO + b"\x00\x23\x91\xc4\x20" + bytes(32) + b"SKYW" * 100,
    ],
    ids=["port scan", "status", "peers", "banner", "bad TLS", "noise", "hello", "guessed proof"],
)
def test_strangers_learn_and_change_nothing(running: Running, sent: bytes) -> None:
    for address in running.ports():
        got = answer_to(address, sent)
        # A TLS alert, or a challenge: random bytes, and a proof of knowing what the stranger does not know.
        assert len(got) <= 160
        assert b"canary" not in got
        assert b"HTTP" not in got
    running.assert_it_ends_well()


ROUTES = [
    ("GET", "/status"), ("PUT", "/peers"), ("GET", "/transfers/{id}"), ("PUT", "/transfers/{id}"),
    ("POST", "/transfers/{id}/start"), ("POST", "/transfers/{id}/cancel"), ("DELETE", "/transfers/{id}"),
    ("POST", "/shutdown"),
]  # fmt: skip


def called(running: Running, context: ssl.SSLContext) -> list[httpx.Response | None]:
    """The answers to every route at every gateway's control port; None where there was none."""
    answers: list[httpx.Response | None] = []
    for gateway in running.dataplane.reference.gateways:
        names = {"sni_hostname": running.identity.server_name(gateway.gateway_id)}
        for method, path in ROUTES:
            url = f"https://{gateway.host}:{gateway.control_port}{path.format(id=running.tracker.transfer_id)}"
            with httpx.Client(verify=context, trust_env=False, timeout=60) as client:
                try:
                    answers.append(client.request(method, url, content=b"[]", extensions=names))
                except httpx.TransportError:
                    answers.append(None)
    return answers


def test_no_certificate_or_one_of_another_authority_gets_no_answer(running: Running) -> None:
    foreign = DataplaneIdentity(b"somebody else's secret of 32 bytes or more", running.identity.dataplane_id)
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(cadata=running.identity.ca_pem)
    wrong = client_context(running.identity.ca_pem, foreign.client_certificate())
    for context in (bare, wrong):
        assert set(called(running, context)) == {None}
    running.assert_it_ends_well()


def test_a_gateway_s_certificate_makes_no_client(running: Running) -> None:
    """Gateways have certificates of the same authority, and another role."""
    pair: KeyPair = running.identity.gateway_certificate("gateway-1")
    context = client_context(running.identity.ca_pem, pair)
    statuses = {answer.status_code if answer is not None else None for answer in called(running, context)}
    assert statuses <= {None, 403}
    running.assert_it_ends_well()


def still_open(sockets: list[socket.socket]) -> list[socket.socket]:
    """Those that the other side has neither closed nor reset."""
    poll = select.poll()
    for sock in sockets:
        poll.register(sock, select.POLLIN | select.POLLHUP)
    gone = {fd for fd, _event in poll.poll(0)}
    return [sock for sock in sockets if sock.fileno() not in gone]


def settles(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize(
    "first", [b"", b"\x00", b"\x16\x03\x01\x02"], ids=["nothing", "half a length", "half a TLS record"]
)
def test_half_open_handshakes_by_the_hundred(running: Running, first: bytes) -> None:
    """They cost a bounded amount, have an end, and keep nobody out: a transfer that starts meanwhile ends well."""
    before = {
        process.pid: (process.num_threads(), process.num_fds(), process.memory_info().rss)
        for process in running.processes()
    }
    with contextlib.ExitStack() as stack:
        held: dict[tuple[str, int], list[socket.socket]] = {address: [] for address in running.ports()}
        for _ in range(300):
            for address, sockets in held.items():
                sockets.append(stack.enter_context(socket.create_connection(address, 60)))
                with contextlib.suppress(OSError):
                    sockets[-1].sendall(first)
        second = running.submit("second/")
        for sockets in held.values():
            assert settles(lambda sockets=sockets: len(still_open(sockets)) <= MOST_STRANGERS)  # type: ignore[misc]
        for process in running.processes():
            threads, files, memory = before[process.pid]
            assert process.num_threads() <= threads + MOST_STRANGERS + 140, (
                "those of both transfers' workers are among them"
            )
            assert process.num_fds() <= files + MOST_STRANGERS + 100
            assert process.memory_info().rss <= memory + 100 * MIB
        running.assert_it_ends_well()
        second.wait(timeout=120).raise_for_state()
        running.assert_whole("second/")
        # Whoever says nothing more is not waited for.
        last = [sockets[-1] for sockets in held.values()]
        assert settles(lambda: not still_open(last), HANDSHAKE_SECONDS + 60)


def test_nothing_secret_can_be_seen_from_outside_during_a_transfer(running: Running) -> None:
    identity = running.dataplane._config.secret()
    secrets = [SOURCE.encode(), DESTINATION.encode(), identity, running.identity.wire_secret(), b"PRIVATE KEY"]
    secrets += [base64.b64encode(secret)[:-4] for secret in secrets[:4]] + [
        secret.hex().encode() for secret in secrets[:4]
    ]
    seen = b""
    for process in running.processes():
        proc = Path(f"/proc/{process.pid}")
        seen += b"".join((proc / name).read_bytes() for name in ("cmdline", "environ", "comm", "status"))
        seen += b"".join((task / "comm").read_bytes() for task in (proc / "task").iterdir())
    logs = [Path(f"/proc/{pids['control']}/fd/2").resolve() for pids in running.born]
    running.assert_it_ends_well()
    seen += b"".join(log.read_bytes() for log in logs)
    assert b"gateway listens" in seen
    for secret in (*secrets, b"p/canary-"):
        assert secret not in seen
