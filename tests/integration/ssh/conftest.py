"""Hosts to be reached by SSH, and a bundle for them."""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from skyplane_core.identity import DataplaneIdentity, new_dataplane_id
from skyplane_core.provision.base import GatewayAddress
from skyplane_core.provision.bootstrap import MIB
from skyplane_core.provision.bundle import Bundle, this_target
from skyplane_core.provision.bundle_build import build
from skyplane_core.provision.hosts import SshHost
from skyplane_core.provision.ssh import SshProvisioner
from tests.servers.sshd import SshServer, keypair, serving

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / ".work" / "cache"
SECRET = b"canary-control-secret-of-32-bytes-or-more"

Serve = Callable[..., SshServer]
Provision = Callable[..., SshProvisioner]


@pytest.fixture(scope="session")
def built() -> Bundle:
    """The bundle for this very interpreter; its wheels are fetched once and kept with the checkout."""
    return build(this_target(), CACHE / "skyplane" / "bundles")


@pytest.fixture(autouse=True)
def bundle(built: Bundle, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("XDG_CACHE_HOME", str(CACHE))
    return built


@pytest.fixture(scope="session")
def client_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keypair(tmp_path_factory.mktemp("client") / "id_ed25519")


@pytest.fixture
def serve(tmp_path: Path, client_key: Path) -> Iterator[Serve]:
    """Makes hosts, each with an address of its own, that run until the test ends."""
    numbers = itertools.count(1)
    with ExitStack() as servers:

        def make(**settings: bool) -> SshServer:
            number = next(numbers)
            made = serving(tmp_path / f"host-{number}", f"127.10.0.{number}", client_key, **settings)
            return servers.enter_context(made)

        yield make


@pytest.fixture
def provision() -> Iterator[Provision]:
    """Makes provisioners whose gateways are small, and ends the gateways that they started."""
    made: list[tuple[SshProvisioner, list[GatewayAddress]]] = []

    def make(*hosts: SshHost, **settings: float) -> SshProvisioner:
        identity = DataplaneIdentity(SECRET, new_dataplane_id())
        settings = {"pool_bytes": 16 * MIB, "expiry_seconds": 120.0, **settings}
        provisioner = SshProvisioner(identity, hosts, **settings)
        started: list[GatewayAddress] = []
        start = provisioner.start

        @functools.wraps(start)
        def remember(count: int) -> tuple[GatewayAddress, ...]:
            started.extend(addresses := start(count))
            return addresses

        provisioner.start = remember
        made.append((provisioner, started))
        return provisioner

    yield make
    for provisioner, started in made:
        provisioner.stop(started)


def processes_of(server: SshServer) -> list[psutil.Process]:
    """The gateway's processes on this host, and their keeper: all that have its home in their command or files."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and any(str(server.home) in word for word in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def pretend(server: SshServer, statements: str) -> None:
    """Have the host's ``python3`` claim to be something else."""
    stub = server.bin / "python3"
    stub.unlink()
    stub.write_text(
        f'#!/bin/sh\nexec {os.path.realpath(sys.executable)} "$1" "$2" -c '
        f"'import os, sys; {statements}; exec(sys.argv[1])' \"$4\"\n"
    )
    stub.chmod(0o755)
