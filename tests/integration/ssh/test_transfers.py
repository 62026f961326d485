"""Transfers from S3 to GCS by gateways on two hosts, which get nothing but what a bundle brings."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from skyplane_core.client import ClientConfig, Location, SkyplaneClient
from skyplane_core.errors import UsageError
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.provision.base import DataplaneReference
from skyplane_core.provision.bundle import Bundle
from skyplane_core.provision.hosts import Control, Role
from skyplane_core.spec import TransferOptions
from skyplane_core.testing.objectserver import ObjectServer
from tests.integration.ssh.conftest import CACHE, ROOT, SECRET, Serve, processes_of

MIB = 1024 * 1024
OBJECTS = {"data/large": os.urandom(17 * MIB + 5), "data/a b": b"text " * 5000, "data/empty": b""}
OPTIONS = TransferOptions(part_size=5 * MIB, multipart_threshold=6 * MIB)


@pytest.fixture
def stores() -> Iterator[tuple[ObjectServer, ObjectServer]]:
    with (
        ObjectServer("s3", buckets=["src"], credentials={"AKTEST": "source-canary-secret"}, in_process=False) as s3,
        ObjectServer("gcs", buckets=["dst"], tokens=["destination-canary-token"], in_process=False) as gcs,
    ):
        for key, body in OBJECTS.items():
            s3.put("src", key, body)
        yield s3, gcs


def ends(stores: tuple[ObjectServer, ObjectServer]) -> tuple[Location, Location]:
    s3, gcs = stores
    keys = Credentials(access_key="AKTEST", secret_key="source-canary-secret")
    source = StoreConfig(
        "s3", "src", endpoint_url=s3.endpoint_url, region="us-east-1", path_style=True, credentials=keys
    )
    token = Credentials(token="destination-canary-token")
    destination = StoreConfig("gcs", "dst", endpoint_url=gcs.endpoint_url, credentials=token)
    return Location(source, "data/"), Location(destination, "out/")


def arrived(stores: tuple[ObjectServer, ObjectServer]) -> None:
    for key, body in OBJECTS.items():
        assert stores[1].get("dst", key.replace("data/", "out/")) == body


def config(*hosts, **settings) -> ClientConfig:
    return ClientConfig(hosts=hosts, pool_bytes=64 * MIB, control_secret=SECRET, expiry_seconds=120, **settings)


def test_two_hosts_move_a_tree_and_another_client_watches_and_stops_it(serve: Serve, stores) -> None:
    writer, reader = serve(), serve()
    hosts = (writer.host_with(role=Role.WRITER), reader.host_with(role=Role.READER, region="west"))
    client = SkyplaneClient(config(*hosts))
    source, destination = ends(stores)
    prepared = client.prepare(source, destination, recursive=True, options=OPTIONS)
    dataplane = client.dataplane()
    lines = dataplane.plan(prepared).render()
    assert lines[0] == "Plan: direct, 2 gateways"
    assert "  gateway gateway-0: ssh west, reader" in lines
    assert f"  gateway gateway-1: ssh {writer.host.target}, writer" in lines
    dataplane.provision()
    try:
        assert [address.host for address in dataplane.reference.gateways] == [reader.address, writer.address]
        assert len(dataplane.notes) == 2
        tracker = dataplane.submit(prepared)
        kept = msgspec.json.encode(dataplane.reference)
        assert b"PRIVATE" not in kept
        # Somebody else, with the reference, the control secret and the hosts' settings.
        other = SkyplaneClient(config(*hosts)).attach(msgspec.json.decode(kept, type=DataplaneReference))
        assert other.alive()
        result = other.tracker(tracker.transfer_id, prepared).wait()
        result.raise_for_state()
        arrived(stores)
        reads = {channel.status().gateway_id: channel.status().counters for channel in other.gateways}
        assert reads["gateway-0"] != reads["gateway-1"]
        assert {"gateway-0", "gateway-1"} == set(other.logs())
        other.deprovision()
        other.deprovision()
    finally:
        dataplane.deprovision()
    for server in (writer, reader):
        assert list(server.home.iterdir()) == []
        assert processes_of(server) == []


def test_one_host_reads_and_writes_and_is_controlled_through_ssh_alone(serve: Serve, stores) -> None:
    server = serve()
    client = SkyplaneClient(config(server.host_with(control=Control.SSH)))
    result = client.copy(*ends(stores), recursive=True, options=OPTIONS)
    assert result.ok
    arrived(stores)
    assert list(server.home.iterdir()) == []


def test_hosts_relay_and_several_write(serve: Serve, stores) -> None:
    roles = (Role.WRITER, Role.RELAY, Role.READER, Role.WRITER)
    client = SkyplaneClient(config(*(serve().host_with(role=role) for role in roles)))
    dataplane = client.dataplane()
    with dataplane.auto_deprovision():
        dataplane.provision()
        given = [address.role for address in dataplane.reference.gateways]
        assert given == [Role.READER, Role.RELAY, Role.WRITER, Role.WRITER]
        kept = msgspec.json.decode(msgspec.json.encode(dataplane.reference), type=DataplaneReference)
        assert kept == dataplane.reference
        prepared = client.prepare(*ends(stores), recursive=True, options=OPTIONS)
        assert dataplane.plan(prepared).kind == "relayed"
        dataplane.submit(prepared).wait().raise_for_state()
        relay = dataplane.gateways[1].status().counters
        assert relay["wire_bytes_relayed"] > 17 * MIB // 2
    arrived(stores)


def test_two_hosts_are_controlled_through_ssh_alone(serve: Serve, stores) -> None:
    servers = [serve(), serve()]
    client = SkyplaneClient(config(*(server.host_with(control=Control.SSH) for server in servers)))
    assert client.copy(*ends(stores), recursive=True, options=OPTIONS).ok
    arrived(stores)


def test_the_command_line_takes_a_hosts_file(serve: Serve, stores, tmp_path: Path) -> None:
    servers = [serve(), serve()]
    hosts = [
        {"address": s.address, "port": s.port, "bind": s.address, "known_hosts": f"{s.directory.name}/known_hosts"}
        for s in servers
    ]
    file = tmp_path / "hosts.json"
    file.write_text(json.dumps({"defaults": {"key": str(servers[0].client_key)}, "hosts": hosts}))
    s3, _gcs = stores
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_CACHE_HOME": str(CACHE),
        "AWS_ACCESS_KEY_ID": "AKTEST",
        "AWS_SECRET_ACCESS_KEY": "source-canary-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": s3.endpoint_url,
        "SKYPLANE_HOSTS": str(file),
    }

    def skyplane(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "skyplane_core.cli", *argv, "--no-json"],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip

    done = skyplane("cp", "-r", "s3://src/data/", "s3://src/copy/")
    assert done.returncode == 0, done.stderr
    assert "MB sent in" in done.stderr
    for key, body in OBJECTS.items():
        assert s3.get("src", key.replace("data/", "copy/")) == body
    assert "No dataplanes" in skyplane("status").stdout
    for server in servers:
        assert list(server.home.iterdir()) == []
    refused = skyplane("cp", "-r", str(tmp_path), "s3://src/copy/")
    assert refused.returncode == 2
    assert "do not see the files of this machine" in refused.stderr


def test_a_path_of_this_machine_is_refused_before_anything_happens(serve: Serve, tmp_path: Path) -> None:
    client = SkyplaneClient(config(serve().host))
    with pytest.raises(UsageError, match="do not see the files of this machine"):
        client.prepare(str(tmp_path), "s3://bucket/x", recursive=True)
    with pytest.raises(UsageError, match="do not see the files of this machine"):
        client.prepare(Location(StoreConfig("local", str(tmp_path)), "x"), "s3://bucket/x")


def test_all_that_runs_comes_from_the_bundle(serve: Serve, provision, bundle: Bundle) -> None:
    """What is mapped into the gateway's processes, and every module that they could import."""
    server = serve()
    provisioner = provision(server.host)
    [address] = provisioner.start(1)
    running = [process for process in processes_of(server) if process.cmdline()[-1].endswith("/lib")]
    assert len(running) == 3
    for process in running:
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert "site-packages" not in maps
        assert str(ROOT) not in maps
        assert f"{address.directory}/lib/" in maps
    modules = "gateway.daemon gateway.agent gateway.data gateway.control_process skyplane_core.stores.s3_auth "
    modules += "skyplane_core.stores.s3 skyplane_core.stores.gcs skyplane_core.stores.local"
    program = (
        f"import sys; sys.path.insert(0, {address.directory + '/lib'!r})\n"
        f"for name in {modules.split()!r}: __import__(name)\n"
        "files = {getattr(module, '__file__', None) for module in sys.modules.values()} - {None}\n"
        "print(sys.path, *files, sep='\\n')\n"
    )
    done = subprocess.run(
        [server.bin / "python3", "-I", "-S", "-c", program],
        env={"HOME": str(server.home)}, cwd="/", capture_output=True, text=True, check=True,
    )  # fmt: skip
    path, *files = done.stdout.splitlines()
    assert len(files) > 300
    standard = Path(os.__file__).parent
    strangers = [f for f in files if not Path(f).is_relative_to(address.directory) and standard not in Path(f).parents]
    assert strangers == []
    assert not [file for file in files if "site-packages" in file or "dist-packages" in file]
    assert "site-packages" not in path


def test_secrets_are_in_no_argument_environment_or_file(serve: Serve, provision) -> None:
    server = serve()
    provisioner = provision(server.host)
    [address] = provisioner.start(1)
    secret = provisioner._identity.wire_secret()
    files = [Path(root, name) for root, _, names in os.walk(address.directory) for name in names]
    contents = {str(path): path.read_bytes() for path in files}
    for process in processes_of(server):
        for name in ("cmdline", "environ"):
            contents[f"{process.pid} {name}"] = Path(f"/proc/{process.pid}/{name}").read_bytes()
    forms = (secret, secret.hex().encode(), base64.b64encode(secret))
    assert not [name for name, content in contents.items() if any(form in content for form in forms)]
    # The libraries know the words; nothing else does.
    ours = {name: content for name, content in contents.items() if "/lib/" not in name}
    assert len(ours) >= 10
    assert not [name for name, content in ours.items() if b"PRIVATE KEY" in content]
    assert {Path(name).name for name in ours if name.startswith("/")} == {"lock", "log", "processes", "started"}
