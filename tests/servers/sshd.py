"""A host to be reached by SSH: a real sshd on a loopback address of its own, with its own host key, home and PATH.

All such hosts share this machine's file system and network. A test that only uses :attr:`SshServer.host` runs as well
against a machine somewhere else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from skyplane_core.provision.hosts import SshHost

SSHD = "/usr/sbin/sshd"
READY_SECONDS = 30.0
_MARK = "SKYPLANE_TEST_RUN"


def keypair(path: Path) -> Path:
    """A new key at ``path``, its public half beside it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path


class SshServer:
    """One host. Its home directory is empty, and the only ``python3`` on its PATH is the interpreter without this venv.

    Args:
        directory: gets its files.
        address: a loopback address.
        client_key: path of the private key that may log in.
        forwarding: whether connections may be made through it.
    """

    def __init__(self, directory: Path, address: str, client_key: Path, *, forwarding: bool = True) -> None:
        self.address = address
        self.directory = directory
        self.home = directory / "home"
        self.bin = directory / "bin"
        self.client_key = client_key
        self.known_hosts = directory / "known_hosts"
        for path in (self.home, self.bin):
            path.mkdir(parents=True)
        self.use_python(Path(os.path.realpath(sys.executable)))
        self.host_key = keypair(directory / "host_key")
        with socket.socket() as probe:
            probe.bind((address, 0))
            self.port = int(probe.getsockname()[1])
        # The mark shows the suite what this server leaves behind.
        variables = f"HOME={self.home} PATH={self.bin}:/usr/bin:/bin {_MARK}={os.environ.get(_MARK, '')}"
        self.config = directory / "sshd_config"
        self.config.write_text(
            f"Port {self.port}\nListenAddress {address}\nHostKey {self.host_key}\nPidFile none\n"
            f"AuthorizedKeysFile {client_key}.pub\nStrictModes no\nUsePAM no\nUseDNS no\nMaxStartups 100\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
            f"AllowTcpForwarding {'yes' if forwarding else 'no'}\nSetEnv {variables}\n"
        )
        self.write_known_hosts()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> SshHost:
        """How this project reaches it."""
        return SshHost(
            self.address,
            port=self.port,
            key=str(self.client_key),
            known_hosts=str(self.known_hosts),
            bind=self.address,
        )

    def host_with(self, **settings: object) -> SshHost:
        """The same, with other settings."""
        return msgspec.structs.replace(self.host, **settings)

    def use_python(self, interpreter: Path) -> None:
        """Have ``python3`` be this interpreter."""
        (self.bin / "python3").unlink(missing_ok=True)
        (self.bin / "python3").symlink_to(interpreter)

    def write_known_hosts(self) -> None:
        """Note the present host key as known."""
        public = Path(f"{self.host_key}.pub").read_text()
        self.known_hosts.write_text(f"[{self.address}]:{self.port} {public}")

    def new_host_key(self) -> None:
        """What a host does that was installed anew. Call before :meth:`start`."""
        for path in (self.host_key, Path(f"{self.host_key}.pub")):
            path.unlink()
        keypair(self.host_key)

    def start(self) -> None:
        """Serve, and return once it answers."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        with (self.directory / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(self.config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + READY_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), timeout=1):
                return
            assert self._process.poll() is None, (self.directory / "sshd.log").read_text()
            assert time.monotonic() < deadline, "sshd does not answer"
            time.sleep(0.02)

    def stop(self) -> None:
        """End the server, not what was started through it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def serving(directory: Path, address: str, client_key: Path, **settings: bool) -> Iterator[SshServer]:
    """A server that runs inside the ``with`` block."""
    server = SshServer(directory, address, client_key, **settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
