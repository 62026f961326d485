"""Where secrets are, and where they must not be: looked for in the memory of real gateway processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from skyplane_core.client import Dataplane, Location, SkyplaneClient
from skyplane_core.testing.objectserver import ObjectServer
from tests.servers.process_memory import family, holds

At = Callable[..., Location]
SOURCE = b"source-canary-secret"
DESTINATION = b"destination-canary-token"
MIB = 1024 * 1024


def processes(dataplane: Dataplane, gateway: int) -> list[psutil.Process]:
    return family(dataplane.reference.gateways[gateway].pid)


def test_each_gateway_holds_only_its_own_side_s_credentials_and_shows_none(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient, tmp_path: Path
) -> None:
    for number in range(60):
        s3.put("src", f"p/{number}", os.urandom(2000))
    s3.put("src", "p/large", os.urandom(40 * MIB))
    gcs.set_network(bandwidth=4e6)
    dataplane = client.dataplane()
    with dataplane.auto_deprovision():
        dataplane.provision()
        tracker = dataplane.submit(client.prepare(source("p/"), destination("q/"), recursive=True))
        deadline = time.monotonic() + 60
        while tracker.progress().objects_copied < 10 and time.monotonic() < deadline:
            time.sleep(0.05)
        reader, writer = processes(dataplane, 0), processes(dataplane, 1)
        assert any(holds(process, SOURCE) for process in reader), "the search itself must be able to find something"
        assert any(holds(process, DESTINATION) for process in writer)
        assert not any(holds(process, DESTINATION) for process in reader)
        assert not any(holds(process, SOURCE) for process in writer)
        identity = client.config.secret()
        for process in (*reader, *writer):
            assert not holds(process, identity), "the control secret must stay with the client"
            shown = " ".join(process.cmdline()).encode() + repr(process.environ()).encode()
            for secret in (SOURCE, DESTINATION, identity):
                assert secret not in shown
        logs = [Path(f"/proc/{process.pid}/fd/2").resolve() for process in (reader[0], writer[0])]
        tracker.cancel()
        tracker.wait(timeout=60)
    for log in logs:
        text = log.read_bytes()
        assert b"gateway listens" in text
        for secret in (SOURCE, DESTINATION, identity, b"p/large"):
            assert secret not in text
    for stored in gcs.list("dst", "q/.skyplane/"):
        assert SOURCE not in gcs.get("dst", stored)
        assert DESTINATION not in gcs.get("dst", stored)


def test_no_value_shows_its_secret_when_it_is_printed(client: SkyplaneClient, source: At, destination: At) -> None:
    prepared = client.prepare(source("p/"), destination("q/"), recursive=True)
    for value in (prepared, prepared.source, prepared.destinations, prepared.spec, client.config, source("p/")):
        for text in (repr(value), str(value), f"{value}"):
            for secret in (SOURCE, DESTINATION, client.config.secret()):
                assert secret.decode() not in text
    assert prepared.spec.source.credentials.anonymous
    assert prepared.spec.destinations[0].store.credentials.anonymous
