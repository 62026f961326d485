"""A transfer over a host that cannot be a gateway, from Python and as a command: named, and nothing done anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skyplane_core.client import ClientConfig, Location, SkyplaneClient
from skyplane_core.errors import ProvisionFailed
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.provision.hosts import SshHost
from skyplane_core.testing.objectserver import ObjectServer
from tests.integration.ssh.conftest import CACHE, ROOT, SECRET, Serve, pretend, processes_of
from tests.servers.sshd import SshServer

KEY, STORE_SECRET = "AKTEST", "source-canary-secret"


def refuses_connections(server: SshServer) -> None:
    server.stop()


def has_no_python(server: SshServer) -> None:
    server.bin.joinpath("python3").unlink()
    # Without /usr/bin, where this machine may have one.
    words = server.config.read_text().replace(f"PATH={server.bin}:/usr/bin:/bin", f"PATH={server.bin}")
    server.stop()
    server.config.write_text(words)
    server.start()


def has_an_old_python(server: SshServer) -> None:
    pretend(server, "sys.version_info = (3, 9, 18)")


def has_another_python(server: SshServer) -> None:
    pretend(server, 'sys.implementation.name = "pypy"')


def has_another_host_key(server: SshServer) -> None:
    server.stop()
    server.new_host_key()
    server.start()


CASES: list[tuple[Callable[[SshServer], None], str]] = [
    (refuses_connections, "cannot be reached by SSH"),
    (has_no_python, "has no python3"),
    (has_an_old_python, "cpython 3.9.18"),
    (has_another_python, "CPython on Linux is needed"),
    (has_another_host_key, "SHA256:"),
]


@pytest.fixture
def store() -> Iterator[ObjectServer]:
    with ObjectServer("s3", buckets=["src", "dst"], credentials={KEY: STORE_SECRET}, in_process=False) as server:
        server.put("src", "data/a", b"x")
        yield server


@pytest.fixture(params=CASES, ids=lambda case: case[0].__name__)
def refused(request: pytest.FixtureRequest, serve: Serve, store: ObjectServer) -> Iterator[tuple[list[SshHost], str]]:
    """Two hosts, of which the second cannot be a gateway, and what is to be told of it; both are clean afterwards."""
    good, bad = serve(), serve()
    spoil, told = request.param
    spoil(bad)
    yield [good.host, bad.host], told
    for server in (good, bad):
        assert list(server.home.iterdir()) == []
        assert processes_of(server) == []
    assert (store.list("src"), store.list("dst")) == (["data/a"], [])
    assert (store.uploads("src"), store.uploads("dst")) == ([], [])
    assert not [name for name in store.requests if name.startswith(("Put", "Create", "Upload", "Copy"))]


def test_from_python(refused: tuple[list[SshHost], str], store: ObjectServer) -> None:
    hosts, told = refused
    keys = Credentials(access_key=KEY, secret_key=STORE_SECRET)
    ends = [
        Location(
            StoreConfig(
                "s3", bucket, endpoint_url=store.endpoint_url, region="us-east-1", path_style=True, credentials=keys
            ),
            "data/",
        )
        for bucket in ("src", "dst")
    ]
    client = SkyplaneClient(ClientConfig(hosts=tuple(hosts), control_secret=SECRET, expiry_seconds=120))
    with pytest.raises(ProvisionFailed) as failure:
        client.copy(*ends, recursive=True)
    assert f"[{hosts[1].label}]" in str(failure.value)
    assert told in str(failure.value)


def test_as_a_command(refused: tuple[list[SshHost], str], store: ObjectServer, tmp_path: Path) -> None:
    hosts, told = refused
    fields = ("address", "port", "key", "known_hosts", "bind")
    file = tmp_path / "hosts.json"
    file.write_text(json.dumps({"hosts": [{name: getattr(host, name) for name in fields} for host in hosts]}))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_CACHE_HOME": str(CACHE),
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": STORE_SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": store.endpoint_url,
    }
    words = ["cp", "-r", "s3://src/data/", "s3://dst/data/", "--hosts", str(file), "--no-json"]
    done = subprocess.run(
        [sys.executable, "-m", "skyplane_core.cli", *words],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    *plan, error = done.stderr.splitlines()
    assert all(line.startswith(("Plan: ", "  ")) for line in plan), done.stderr
    assert error.startswith("Error: ")
    assert f"[{hosts[1].label}]" in error
    assert told in error
    assert not list((tmp_path / "state").rglob("*.json"))
