"""Gateways on hosts after their start: logs, stop, expiry, crashes, and control through SSH."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from skyplane_core.errors import GatewayError, GatewayUnreachable, ProvisionFailed
from skyplane_core.provision.hosts import Control
from tests.integration.ssh.conftest import CACHE, ROOT, SECRET, Provision, Serve, processes_of
from tests.servers.sshd import SshServer

MIB = 1024 * 1024


def until(true: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def empty(server: SshServer) -> bool:
    return not list(server.home.iterdir()) and not processes_of(server)


def listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


def gateway_of(server: SshServer) -> psutil.Process:
    """The gateway's first process on this host."""
    ours = [process for process in processes_of(server) if process.cmdline()[-1].endswith("/lib")]
    return next(process for process in ours if process.ppid() not in {other.pid for other in ours})


def test_stop_leaves_no_file_process_or_port_and_may_be_repeated(serve: Serve, provision: Provision) -> None:
    servers = [serve(), serve()]
    provisioner = provision(*(server.host for server in servers))
    addresses = provisioner.start(2)
    assert [address.dialled for address in addresses] == [server.address for server in servers]
    logs = provisioner.logs(addresses)
    assert all("gateway listens" in text for text in logs.values())
    provisioner.stop(addresses)
    assert all(map(empty, servers))
    for address in addresses:
        assert not listens(address.host, address.control_port)
        assert not listens(address.host, address.wire_port)
    provisioner.stop(addresses)
    with pytest.raises(GatewayError, match="nothing of this gateway"):
        provisioner.logs(addresses)


def test_a_gateway_that_expires_removes_what_it_had(serve: Serve, provision: Provision) -> None:
    server = serve()
    provision(server.host, expiry_seconds=2.0).start(1)
    assert until(lambda: empty(server))


def test_a_killed_client_leaves_a_gateway_that_ends_itself(serve: Serve) -> None:
    server = serve()
    program = (
        "import sys, time\n"
        "from skyplane_core.identity import DataplaneIdentity, new_dataplane_id\n"
        "from skyplane_core.provision.hosts import SshHost\n"
        "from skyplane_core.provision.ssh import SshProvisioner\n"
        "import msgspec\n"
        "host = msgspec.json.decode(sys.argv[1], type=SshHost)\n"
        f"identity = DataplaneIdentity({SECRET!r}, new_dataplane_id())\n"
        "SshProvisioner(identity, [host], pool_bytes=1 << 24, expiry_seconds=4.0).start(1)\n"
        "print('started', flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, msgspec.json.encode(server.host).decode()],
        cwd=ROOT, env={**os.environ, "XDG_CACHE_HOME": str(CACHE)}, stdout=subprocess.PIPE, text=True,
    ) as client:  # fmt: skip
        assert client.stdout is not None
        assert client.stdout.readline() == "started\n"
        client.send_signal(signal.SIGKILL)
    assert not empty(server)
    assert until(lambda: empty(server))


def test_the_log_of_a_gateway_that_died_can_be_read_until_it_is_stopped(serve: Serve, provision: Provision) -> None:
    server = serve()
    provisioner = provision(server.host)
    addresses = provisioner.start(1)
    gateway_of(server).kill()
    assert until(lambda: not (Path(addresses[0].directory) / "lib").exists())
    assert "gateway listens" in provisioner.logs(addresses)["gateway-0"]
    provisioner.stop(addresses)
    assert empty(server)


def test_the_log_of_a_gateway_that_died_goes_in_the_end(serve: Serve, provision: Provision) -> None:
    server = serve()
    provision(server.host, expiry_seconds=5.0).start(1)
    gateway_of(server).kill()
    assert until(lambda: empty(server))


def test_a_gateway_that_hangs_is_killed(serve: Serve, provision: Provision) -> None:
    server = serve()
    provisioner = provision(server.host)
    addresses = provisioner.start(1)
    gateway_of(server).suspend()
    provisioner.stop(addresses)
    assert empty(server)


def test_what_a_killed_keeper_left_is_removed_by_the_next_start(serve: Serve, provision: Provision) -> None:
    server = serve()
    first = provision(server.host)
    [address] = first.start(1)
    pids = json.loads(Path(address.directory, "processes").read_text())
    for name in ("keeper", "gateway"):
        psutil.Process(pids[name][0]).kill()
    assert until(lambda: not processes_of(server))
    old = time.time() - 3600
    os.utime(address.directory, (old, old))
    second = provision(server.host)
    [other] = second.start(1)
    assert [str(path) for path in server.home.iterdir()] == [other.directory]


def test_a_host_that_cannot_be_reached_any_more_is_named_and_the_others_are_cleaned(
    serve: Serve, provision: Provision
) -> None:
    dead, alive = serve(), serve()
    provisioner = provision(dead.host, alive.host)
    addresses = provisioner.start(2)
    dead.stop()
    gateway = gateway_of(dead)
    gateway.suspend()
    # Neither SSH nor the control port answers.
    shorter = pytest.MonkeyPatch()
    try:
        shorter.setattr("skyplane_core.control_tls.TIMEOUT", __import__("httpx").Timeout(1.0))
        with pytest.raises(GatewayUnreachable, match="gateway-0 could not be stopped") as failure:
            provisioner.stop(addresses)
    finally:
        shorter.undo()
        gateway.resume()
    assert dead.host.label in str(failure.value)
    assert "ends itself" in str(failure.value)
    assert empty(alive)
    dead.start()
    provisioner.stop(addresses)
    assert empty(dead)


def test_without_ssh_a_gateway_is_ended_over_its_control_port(serve: Serve, provision: Provision) -> None:
    server = serve()
    provisioner = provision(server.host)
    addresses = provisioner.start(1)
    server.stop()
    provisioner.stop(addresses)
    assert until(lambda: empty(server))
    server.start()


def test_control_goes_through_ssh_alone(serve: Serve, provision: Provision) -> None:
    server = serve()
    provisioner = provision(server.host_with(control=Control.SSH))
    [address] = provisioner.start(1)
    assert not listens(server.address, address.control_port)
    with provisioner.channel(address) as channel:
        assert channel.status().gateway_id == "gateway-0"
        # The SSH connection ends; the next call makes another.
        sessions = [p for p in psutil.process_iter() if p.name() == "sshd" and address.ssh and is_session(p, server)]
        assert sessions
        for session in sessions:
            session.kill()
        assert until(lambda: answers(channel))
        server.stop()
        for session in [p for p in psutil.process_iter() if p.name() == "sshd" and is_session(p, server)]:
            session.kill()
        assert until(lambda: "cannot be reached by SSH" in complaint(channel))
        server.start()
        assert until(lambda: answers(channel))


def is_session(process: psutil.Process, server: SshServer) -> bool:
    try:
        return any(c.laddr[0] == server.address and c.raddr for c in process.net_connections("tcp"))
    except psutil.Error:
        return False


def answers(channel) -> bool:
    return not complaint(channel)


def complaint(channel) -> str:
    try:
        channel.status()
    except GatewayUnreachable as error:
        return str(error)
    return ""


def test_control_falls_back_to_ssh_where_the_port_cannot_be_reached(serve: Serve, provision: Provision) -> None:
    server = serve()
    # It listens at another address than the one that the client knows: to the client, a port behind a firewall.
    provisioner = provision(server.host_with(bind="127.10.9.1"))
    [address] = provisioner.start(1)
    assert not listens(address.host, address.control_port)
    with provisioner.channel(address) as channel:
        assert channel.status().gateway_id == "gateway-0"


def test_direct_control_does_not_fall_back(serve: Serve, provision: Provision) -> None:
    server = serve()
    with pytest.raises(ProvisionFailed, match="got no answer"):
        provision(server.host_with(bind="127.10.9.2", control=Control.DIRECT)).start(1)
    assert empty(server)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_start_that_is_broken_off_leaves_nothing(serve: Serve, number: signal.Signals) -> None:
    servers = [serve(), serve()]
    hosts = [msgspec.json.encode(server.host).decode() for server in servers]
    # Killed at the wrong moment, what ends a gateway is its expiry.
    expiry = 600 if number == signal.SIGINT else 4
    program = (
        "import sys, msgspec\n"
        "from skyplane_core.identity import DataplaneIdentity, new_dataplane_id\n"
        "from skyplane_core.provision.hosts import SshHost\n"
        "from skyplane_core.provision.ssh import SshProvisioner\n"
        "hosts = [msgspec.json.decode(text, type=SshHost) for text in sys.argv[1:]]\n"
        f"identity = DataplaneIdentity({SECRET!r}, new_dataplane_id())\n"
        "print('starting', flush=True)\n"
        f"SshProvisioner(identity, hosts, pool_bytes=1 << 24, expiry_seconds={expiry}).start(2)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, *hosts], cwd=ROOT, env={**os.environ, "XDG_CACHE_HOME": str(CACHE)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as client:  # fmt: skip
        assert client.stdout is not None
        client.stdout.readline()
        until(lambda: any(list(server.home.iterdir()) for server in servers))
        client.send_signal(number)
        _, err = client.communicate(timeout=120)
    assert ("KeyboardInterrupt" in err) == (number == signal.SIGINT)
    assert until(lambda: all(map(empty, servers)))
