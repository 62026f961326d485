"""Gateways for tests of the daemon: real processes with real mutual TLS, and stand-ins inside (standin_gateway.py)."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from skyplane_core.control_tls import connect
from skyplane_core.identity import DataplaneIdentity, new_dataplane_id
from skyplane_core.model import Credentials, GatewayTransfer, StoreConfig, TransferKeys
from skyplane_core.provision import local_process
from skyplane_core.provision.bootstrap import MIB
from skyplane_core.provision.local import LocalProvisioner
from skyplane_core.tls import client_context

SECRET = b"canary-control-secret-of-32-bytes-or-more"
STANDIN = (sys.executable, "-I", str(Path(__file__).with_name("standin_gateway.py")))
REAL = local_process.COMMAND


class Gateways:
    """Gateways of one dataplane, and what a test asks about them."""

    def __init__(self, log_dir: Path, command=STANDIN, **settings) -> None:
        self.identity = DataplaneIdentity(SECRET, new_dataplane_id())
        settings = {"pool_bytes": 16 * MIB, "expiry_seconds": 60.0, **settings}
        self.provisioner = LocalProvisioner(self.identity, log_dir=log_dir, command=command, **settings)
        self.addresses = ()

    def start(self, count: int = 1):
        self.addresses = self.provisioner.start(count)
        return self.addresses

    def channel(self, number: int = 0, identity=None, gateway_id=None):
        address = self.addresses[number]
        return connect(identity or self.identity, gateway_id or address.gateway_id, address.host, address.control_port)

    def log(self, number: int = 0) -> list[dict]:
        text = self.provisioner.log_path(f"gateway-{number}").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def url(self, path: str) -> str:
        return f"https://{self.addresses[0].host}:{self.addresses[0].control_port}{path}"

    def http(self, identity=None) -> httpx.Client:
        context = client_context(self.identity.ca_pem, (identity or self.identity).client_certificate())
        return httpx.Client(verify=context, trust_env=False)

    @property
    def names(self) -> dict:
        return {"sni_hostname": self.identity.server_name("gateway-0")}


def gone(*pids: int, seconds: float = 8.0) -> bool:
    """Whether these processes end in time; a zombie has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for process in list(local_process._children.values()):
            process.poll()
        if not any(local_process.start_time(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def secret_transfer(transfer_id: str = "t1") -> GatewayTransfer:
    credentials = Credentials("canary-access", "canary-secret-key", "canary-session")
    return GatewayTransfer(
        transfer_id, TransferKeys(b"canary-transfer-key-of-32-bytes!"), StoreConfig("s3", "b", credentials=credentials)
    )


@contextlib.contextmanager
def building(log_dir: Path) -> Iterator[Callable[..., Gateways]]:
    """Makes gateways with settings, and stops them in the end."""
    made = []

    def build(**settings) -> Gateways:
        made.append(Gateways(log_dir, **settings))
        return made[-1]

    try:
        yield build
    finally:
        for gateways in made:
            gateways.provisioner.stop(gateways.addresses)
