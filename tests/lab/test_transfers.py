"""Transfers between machines in different regions: SSH starts the gateways, stores are on hosts beside them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from skyplane_core import control_tls, tracker
from skyplane_core.client import ClientConfig, Location, SkyplaneClient
from skyplane_core.errors import GatewayError, ProvisionFailed
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.provision.bundle import this_target
from skyplane_core.provision.bundle_build import build
from skyplane_core.provision.hosts import Role, SshHost, read_hosts
from skyplane_core.spec import TransferOptions
from skyplane_core.testing.lab import FakeVm, Host, Link, Topology, Wan, both_ways
from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer
from tests.lab.traffic import PATIENCE, dial

MIB = 1024 * 1024
CACHE = Path(__file__).resolve().parents[2] / ".work" / "cache"
STORE_PORT = 9000
KEY, SECRET = "AKTEST", "canary-secret"
OBJECTS = {"data/large": os.urandom(41 * MIB + 5), "data/a b": b"text " * 5000, "data/empty": b""}
PART = 5 * MIB
STORES = {("source", STORE_PORT), ("destination", STORE_PORT)}
TOPOLOGY = Topology(
    hosts=(
        Host(name="office", ip="10.9.0.1", region="home"),
        # Its way into the machines is SSH, and nothing else.
        Host(
            name="laptop", ip="10.9.0.2", region="home",
            dials=frozenset({("head", 22), ("worker", 22), ("cellar", 22), *STORES}),
        ),
        Host(name="source", ip="10.1.0.1", region="west"),
        Host(name="head", ip="10.1.0.2", region="west"),
        Host(name="destination", ip="10.2.0.1", region="east"),
        Host(name="worker", ip="10.2.0.2", region="east"),
        # Whoever wants to be sent anything here has to be dialled by it.
        Host(name="cellar", ip="10.2.0.3", region="east", inbound_ports=frozenset({22})),
    ),
    links=(
        *both_ways(Link(source="home", target="west", delay_ms=2)),
        *both_ways(Link(source="home", target="east", delay_ms=10)),
        *both_ways(Link(source="west", target="east", rate_mbit=400, delay_ms=10, loss_percent=0.1)),
    ),
    seed=11,
)  # fmt: skip
CONTROL_PORT_SECONDS = httpx.Timeout(3.0)


class World:
    """The lab with its machines and stores, and what a client of it needs."""

    def __init__(self, wan: Wan, machines: dict[str, FakeVm], stores: dict[str, ObjectServer]) -> None:
        self.wan = wan
        self.machines = machines
        self.source, self.destination = stores["source"], stores["destination"]

    def hosts(self, **settings: str) -> list[dict[str, object]]:
        """As a hosts file has them."""
        roles = {"head": "reader", "worker": "writer", "cellar": "writer"}
        return [
            {
                "name": name, "address": vm.address, "user": "root", "key": str(vm.key_file),
                "host_key": vm.host_key, "role": roles[name], **settings,
            }
            for name, vm in self.machines.items()
        ]  # fmt: skip

    def client(self) -> SkyplaneClient:
        hosts = [SshHost(**{**host, "role": Role(str(host["role"]))}) for host in self.hosts()]
        return SkyplaneClient(ClientConfig(hosts=tuple(hosts), pool_bytes=64 * MIB, expiry_seconds=120))

    def ends(self) -> tuple[Location, Location]:
        def location(server: ObjectServer, bucket: str, prefix: str) -> Location:
            keys = Credentials(access_key=KEY, secret_key=SECRET)
            config = StoreConfig(
                "s3", bucket, endpoint_url=server.endpoint_url, region="us-east-1", path_style=True, credentials=keys
            )
            return Location(config, prefix)

        return location(self.source, "src", "data/"), location(self.destination, "dst", "out/")

    def cli(self, host: str, hosts_file: Path, directory: Path) -> subprocess.CompletedProcess[str]:
        """``skyplane cp`` of the tree, as a program on one of the lab's hosts."""
        words = [sys.executable, "-m", "skyplane_core.cli", "cp", "-r", "s3://src/data/", "s3://dst/out/", "--no-json"]
        words += ["--hosts", str(hosts_file), "--part-size", str(PART)]
        words += ["--endpoint-url-source", self.source.endpoint_url]
        words += ["--endpoint-url-destination", self.destination.endpoint_url]
        environment = {
            **os.environ,
            "PYTHONPATH": str(CACHE.parents[1]),
            "XDG_STATE_HOME": str(directory / "state"),
            "XDG_CONFIG_HOME": str(directory / "config"),
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        return subprocess.run(
            self.wan.command(host, words),
            env=environment, cwd=directory, capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip

    def arrived(self) -> bool:
        """Whether each byte is there, as another program reads it over HTTP."""
        import boto3
        from botocore.config import Config

        with self.wan.inside("destination"):
            s3 = boto3.client(
                "s3", endpoint_url=self.destination.endpoint_url, region_name="us-east-1",
                aws_access_key_id=KEY, aws_secret_access_key=SECRET, config=Config(s3={"addressing_style": "path"}),
            )  # fmt: skip
            with contextlib.closing(s3):
                return all(
                    s3.get_object(Bucket="dst", Key=key.replace("data/", "out/"))["Body"].read() == body
                    for key, body in OBJECTS.items()
                )

    def clean(self) -> bool:
        """Whether the machines are as they were: nobody but sshd, and no file of ours."""
        programs = {process.command.split(":")[0] for vm in self.machines.values() for process in vm.processes()}
        listed = {
            vm.run("ls -A /root /tmp /var/tmp /dev/shm /run/user 2>/dev/null").stdout for vm in self.machines.values()
        }
        return all("sshd" in program for program in programs) and not any("skyplane" in text for text in listed)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Wan, dict[str, FakeVm]]]:
    build(this_target(), CACHE / "skyplane" / "bundles")
    with Wan(TOPOLOGY) as wan, FakeVm(wan, "head") as head, FakeVm(wan, "worker") as worker:
        yield wan, {"head": head, "worker": worker}


@pytest.fixture
def world(lab: tuple[Wan, dict[str, FakeVm]], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(CACHE))
    wan, machines = lab
    with contextlib.ExitStack() as stack:
        stores = {}
        for host, bucket in (("source", "src"), ("destination", "dst")):
            with wan.inside(host):
                server = ObjectServer(
                    "s3", buckets=[bucket], host=wan.topology.host(host).ip, port=STORE_PORT,
                    credentials={KEY: SECRET}, in_process=False,
                )  # fmt: skip
                stores[host] = stack.enter_context(server)
        for key, body in OBJECTS.items():
            stores["source"].put("src", key, body)
        yield World(wan, machines, stores)


@pytest.mark.parametrize(("client", "control"), [("office", "direct"), ("laptop", "ssh")])
def test_the_command_line_copies_a_tree_between_regions(world: World, tmp_path: Path, client: str, control: str):
    file = tmp_path / "hosts.json"
    file.write_text(json.dumps({"hosts": world.hosts(control=control)}))
    before = world.wan.counters("west", "east").bytes
    done = world.cli(client, file, tmp_path)
    assert done.returncode == 0, done.stderr
    assert world.arrived()
    moved = world.wan.counters("west", "east").bytes - before
    assert moved > len(OBJECTS["data/large"])
    assert world.destination.uploads("dst") == []
    assert world.clean()


@pytest.fixture
def behind_a_firewall(world: World) -> Iterator[World]:
    """The same with another writer, into which only SSH leads."""
    with FakeVm(world.wan, "cellar") as cellar:
        machines = {"head": world.machines["head"], "cellar": cellar}
        yield World(world.wan, machines, {"source": world.source, "destination": world.destination})


def test_a_writer_that_cannot_be_dialled_dials_out(behind_a_firewall: World, tmp_path: Path):
    world = behind_a_firewall
    head, cellar = world.hosts(control="ssh")
    file = tmp_path / "hosts.json"
    file.write_text(json.dumps({"hosts": [head, {**cellar, "dials_out": True}]}))
    before = world.wan.counters("west", "east").bytes
    with world.wan.inside("laptop"):
        client = SkyplaneClient(ClientConfig(hosts=read_hosts(file), pool_bytes=64 * MIB, expiry_seconds=120))
        dataplane = client.dataplane()
        with dataplane.auto_deprovision():
            dataplane.provision()
            reader, writer = dataplane.reference.gateways
            for dialled in (writer.wire_port, writer.control_port):
                with pytest.raises(TimeoutError):
                    dial(world.wan, "head", "cellar", dialled, timeout=3)
            # It listens all the same, and so does the reader, for the writer to dial.
            dial(world.wan, "cellar", "cellar", writer.wire_port, timeout=PATIENCE)
            dial(world.wan, "cellar", "head", reader.wire_port, timeout=PATIENCE)
            prepared = client.prepare(*world.ends(), recursive=True, options=TransferOptions(part_size=PART))
            dataplane.submit(prepared).wait(timeout=150).raise_for_state()
    assert world.arrived()
    assert world.wan.counters("west", "east").bytes - before > len(OBJECTS["data/large"])
    assert world.destination.uploads("dst") == []
    assert world.clean()


def test_a_reader_that_loses_power_is_named_and_the_transfer_goes_on_with_a_new_machine(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tracker, "UNREACHABLE_SECONDS", 5.0)
    monkeypatch.setattr(control_tls, "TIMEOUT", CONTROL_PORT_SECONDS)
    monkeypatch.setattr("skyplane_core.provision.ssh_client.CONNECT_SECONDS", 3.0)
    head = world.machines["head"]
    options = TransferOptions(part_size=PART)
    with world.wan.inside("office"):
        client = world.client()
        prepared = client.prepare(*world.ends(), recursive=True, options=options)
        dataplane = client.dataplane()
        dataplane.provision()
        world.destination.set_faults(Faults(Fault("UploadPart", "hold-before", nth=(4,))))
        moving = dataplane.submit(prepared)
        world.destination.wait_held()
        head.kill()
        world.destination.set_faults(None)
        world.destination.release()
        with pytest.raises(GatewayError, match=head.address):
            moving.wait(timeout=90)
        with pytest.raises(GatewayError, match=r"gateway-0 could not be stopped.*\[head\]"):
            dataplane.deprovision()
        assert [vm.name for vm in world.machines.values() if len(vm.processes()) > 1] == []
        head.start()
        stored = world.destination.requests["UploadPart"]
        again = client.prepare(
            *world.ends(), recursive=True, options=options, transfer_id=prepared.spec.transfer_id, resume=True
        )
        with client.dataplane().auto_deprovision() as second:
            second.provision()
            second.submit(again).wait().raise_for_state()
    assert world.arrived()
    assert world.destination.requests["UploadPart"] - stored <= 9
    assert world.destination.uploads("dst") == []
    assert world.clean()


def test_a_host_with_an_old_python_is_refused_by_name(world: World):
    worker = world.machines["worker"]
    old = "import sys; sys.version_info = (3, 9, 2); exec(sys.argv[1])"
    worker.run(
        "rm /usr/bin/python3; cat > /usr/bin/python3 <<'END'\n"
        f'#!/bin/sh\nexec /usr/bin/python3.{sys.version_info[1]} "$1" "$2" -c \'{old}\' "$4"\n'
        "END\nchmod 755 /usr/bin/python3"
    )
    try:
        with world.wan.inside("office"), pytest.raises(ProvisionFailed, match=r"worker") as refused:
            world.client().dataplane().provision()
        assert "3.9" in str(refused.value)
        assert world.clean()
    finally:
        worker.kill()
        worker.start()


def test_a_host_without_python_is_refused_by_name(world: World):
    worker = world.machines["worker"]
    worker.run("rm /usr/bin/python3")
    try:
        with world.wan.inside("office"), pytest.raises(ProvisionFailed, match=r"worker\W.*python3"):
            world.client().dataplane().provision()
        assert world.clean()
    finally:
        worker.kill()
        worker.start()
