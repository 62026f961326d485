"""What a daemon answers, to whom, and what can be seen of it from outside: real processes and real mutual TLS."""

import asyncio
import base64
import logging
import os
import time
from pathlib import Path

import httpx
import msgspec
import pytest

from skyplane_core.control import PeerAddress
from skyplane_core.control_calls import MAX_BODY_BYTES
from skyplane_core.control_tls import connect, connect_async
from skyplane_core.errors import ErrorRecord, GatewayRefused, GatewayUnreachable, TransferNotFound
from skyplane_core.identity import DataplaneIdentity
from skyplane_core.model import GatewayTransfer
from skyplane_core.provision.base import DataplaneReference
from skyplane_core.provision.local import LocalProvisioner
from skyplane_core.spec import TransferState
from skyplane_core.tls import client_context
from tests.integration.daemons import SECRET, building, gone, secret_transfer


@pytest.fixture
def make(tmp_path):
    with building(tmp_path / "logs") as build:
        yield build


@pytest.fixture
def gateway(make):
    gateways = make()
    gateways.start()
    return gateways


# --- the API ---------------------------------------------------------------------------------------------------------


def test_calls_reach_the_agent_and_reports_come_back(gateway):
    with gateway.channel() as channel:
        channel.set_peers((PeerAddress("gateway-1", "127.0.0.1", 1),))
        with pytest.raises(TransferNotFound):
            channel.progress("t1")
        channel.put_transfer(secret_transfer())
        assert channel.progress("t1").bytes_acked > 0
        status = channel.status()
        assert status.transfers == {"t1": TransferState.RUNNING}
        assert set(status.pids) == {"control", "data", "agent"}
        assert 0 < status.expires_in_seconds <= 60
        assert status.dataplane_id == gateway.identity.dataplane_id
        channel.cancel("t1")
        channel.delete("t1")
        with pytest.raises(TransferNotFound):
            channel.progress("t1")
        with pytest.raises(TransferNotFound, match="Put it first"):
            channel.delete("unknown")


def test_the_async_twin_calls_concurrently(gateway):
    address = gateway.addresses[0]

    async def run():
        async with connect_async(gateway.identity, "gateway-0", address.host, address.control_port) as channel:
            await channel.put_transfer(secret_transfer())
            answers = await asyncio.gather(*(channel.progress("t1") for _ in range(8)), channel.status())
            with pytest.raises(TransferNotFound):
                await channel.progress("t2")
            return answers

    assert len(asyncio.run(run())) == 9


def test_polls_are_no_lines_in_the_log_of_who_polls(gateway, caplog):
    caplog.set_level(logging.INFO, "httpx")
    address = gateway.addresses[0]

    async def poll():
        async with connect_async(gateway.identity, "gateway-0", address.host, address.control_port) as channel:
            await channel.status()

    asyncio.run(poll())
    with connect(gateway.identity, "gateway-0", address.host, address.control_port) as channel:
        channel.status()
    assert caplog.messages == []
    with httpx.Client(transport=httpx.MockTransport(lambda _request: httpx.Response(204)), trust_env=False) as others:
        others.get("http://elsewhere")
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/transfers/a%2Fb", 404),
        ("GET", f"/transfers/{'x' * 129}", 404),
        ("HEAD", "/status", 405),
        ("POST", "/status", 405),
        ("GET", "/transfers/nobody", 404),
    ],
)
def test_every_refusal_is_an_error_record(gateway, method, path, status):
    with gateway.http() as client:
        answer = client.request(method, gateway.url(path), extensions=gateway.names)
    assert answer.status_code == status
    if method != "HEAD":
        assert msgspec.json.decode(answer.content, type=ErrorRecord).what


def test_a_body_is_bounded(gateway):
    with gateway.http() as client:
        url = gateway.url("/transfers/t1")
        answer = client.put(url, content=bytes(MAX_BODY_BYTES + 1), extensions=gateway.names)
        assert answer.status_code == 413
        answer = client.put(url, content=bytes(MAX_BODY_BYTES - 1), extensions=gateway.names)
        assert answer.status_code == 200


def test_an_agent_that_does_not_answer_holds_up_nobody(gateway):
    with gateway.http() as client, gateway.channel() as channel:
        with pytest.raises(httpx.ReadTimeout):
            client.put(gateway.url("/transfers/mute"), content=b"{}", extensions=gateway.names, timeout=0.3)
        assert channel.status().transfers == {}


# --- who may call ----------------------------------------------------------------------------------------------------


def test_without_a_certificate_there_is_no_conversation(gateway):
    context = client_context(gateway.identity.ca_pem, gateway.identity.client_certificate())
    bare = type(context)(context.protocol)
    bare.load_verify_locations(cadata=gateway.identity.ca_pem)
    with httpx.Client(verify=bare, trust_env=False) as client, pytest.raises(httpx.TransportError):
        client.get(gateway.url("/status"), extensions=gateway.names)


def test_plain_http_gets_no_answer(gateway):
    with httpx.Client(trust_env=False) as client, pytest.raises(httpx.TransportError):
        client.get(gateway.url("/status").replace("https", "http"))


def test_a_foreign_certificate_is_refused(gateway):
    foreign = DataplaneIdentity(SECRET[::-1], gateway.identity.dataplane_id)
    with gateway.http(foreign) as client, pytest.raises(httpx.TransportError):
        client.get(gateway.url("/status"), extensions=gateway.names)
    with gateway.channel(identity=foreign) as channel, pytest.raises(GatewayRefused, match="control secret"):
        channel.status()


def test_another_gateways_name_is_refused(gateway):
    with gateway.channel(gateway_id="gateway-1") as channel, pytest.raises(GatewayRefused, match="TLS handshake"):
        channel.status()


def test_nobody_there_is_unreachable(gateway, free_port):
    with (
        connect(gateway.identity, "gateway-0", "127.0.0.1", free_port()) as channel,
        pytest.raises(GatewayUnreachable, match="gateway-0"),
    ):
        channel.status()


# --- what can be seen from outside -----------------------------------------------------------------------------------


def test_nothing_secret_can_be_seen(make, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-of-the-environment")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:canary-of-the-proxy@proxy")
    monkeypatch.setattr(DataplaneIdentity, "wire_secret", lambda _self: b"canary-wire-secret-of-32-bytes!!")
    gateways = make()
    gateways.start()
    with gateways.channel() as channel:
        channel.put_transfer(secret_transfer())
        with pytest.raises(TransferNotFound):
            channel.put_transfer(secret_transfer("unknown"))
        pids = channel.status().pids.values()
        seen = "".join(
            Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
            for pid in pids
            for name in ("cmdline", "environ", "comm")
            if os.access(f"/proc/{pid}/{name}", os.R_OK)
        )
    seen += gateways.provisioner.log_path("gateway-0").read_text()
    seen += msgspec.json.encode(gateways.provisioner.reference(gateways.addresses)).decode()
    encoded = [base64.b64encode(b"canary-wire-secret-of-32-bytes!!").decode()[:-4], "PRIVATE KEY"]
    assert "skyplane" in seen
    for secret in ("canary", *encoded):
        assert secret not in seen


def test_the_processes_are_detached_and_leave_no_core(gateway):
    with gateway.channel() as channel:
        pids = channel.status().pids
    assert {os.getsid(pid) for pid in pids.values()} == {pids["control"]}
    assert os.getsid(0) != pids["control"]
    for pid in pids.values():
        limits = Path(f"/proc/{pid}/limits").read_text()
        (core,) = [line.split() for line in limits.splitlines() if line.startswith("Max core")]
        assert core[4:6] == ["0", "0"]
    assert Path(f"/proc/{pids['control']}/cwd").readlink() == Path("/")
    assert gateway.provisioner.log_path("gateway-0").stat().st_mode & 0o777 == 0o600


def test_a_reference_finds_the_dataplane_again(gateway):
    reference = gateway.provisioner.reference(gateway.addresses)
    again = msgspec.json.decode(msgspec.json.encode(reference), type=DataplaneReference)
    identity = DataplaneIdentity(SECRET, again.dataplane_id)
    assert identity.ca_fingerprint() == again.ca_fingerprint
    address = again.gateways[0]
    with connect(identity, address.gateway_id, address.host, address.control_port) as channel:
        assert channel.status().gateway_id == "gateway-0"
    LocalProvisioner(identity).stop(again.gateways)
    assert gone(address.pid, seconds=0.5)
    LocalProvisioner(identity).stop(again.gateways)


# --- under load -------------------------------------------------------------------------------------------------------


def test_status_is_quick_while_the_agent_burns_the_cpu(gateway):
    with gateway.channel() as channel:
        channel.put_transfer(GatewayTransfer("burn"))
        took = []
        for _ in range(200):
            started = time.perf_counter()
            channel.status()
            took.append(time.perf_counter() - started)
            time.sleep(0.005)
    assert sorted(took)[197] < 0.2
