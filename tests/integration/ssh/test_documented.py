"""What docs/ssh.md shows: the file that names hosts, and the commands that make gateways of them."""

from __future__ import annotations

import json
from pathlib import Path

from skyplane_core.provision.hosts import Role, read_hosts
from skyplane_core.testing.objectserver import ObjectServer
from tests.docs.pages import on_page
from tests.docs.running import SOURCE, environment_for, shell
from tests.integration.ssh.conftest import CACHE, Serve

COMMANDS, HOSTS = on_page("ssh.md", "hosts")


def test_the_file(tmp_path: Path) -> None:
    file = tmp_path / "hosts.toml"
    file.write_text(HOSTS.text)
    reader, writer = read_hosts(file)
    assert (reader.address, reader.role, reader.region, reader.user) == (
        "198.51.100.7", Role.READER, "us-east-1", "ubuntu",
    )  # fmt: skip
    assert (writer.advertise, writer.port_range) == ("10.0.0.9", (40000, 40010))


def test_the_commands(serve: Serve, tmp_path: Path) -> None:
    servers = [serve(), serve()]
    entries = [
        {
            "address": s.address,
            "port": s.port,
            "bind": s.address,
            "key": f"{s.client_key}",
            "known_hosts": f"{s.known_hosts}",
        }
        for s in servers
    ]
    lines = []
    for entry in entries:
        lines += ["[[hosts]]", *(f"{name} = {json.dumps(value)}" for name, value in entry.items())]
    work = tmp_path / "work"
    work.mkdir()
    (work / "hosts.toml").write_text("\n".join(lines))
    with (
        ObjectServer("s3", buckets=["source-bucket"], in_process=False) as s3,
        ObjectServer("gcs", buckets=["destination-bucket"], in_process=False) as gcs,
    ):
        for key, body in SOURCE.items():
            s3.put("source-bucket", key, body)
        environment = environment_for(s3.endpoint_url, gcs.endpoint_url)
        shell(COMMANDS.text, environment | {"XDG_CACHE_HOME": str(CACHE)}, work)
        for key, body in SOURCE.items():
            assert gcs.get("destination-bucket", key) == body
    for server in servers:
        assert list(server.home.iterdir()) == []
