"""Gateways as detached processes of this machine."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from skyplane_core.control import ControlChannel
from skyplane_core.control_tls import connect
from skyplane_core.errors import GatewayError, GatewayRefused, GatewayUnreachable, ProvisionFailed, UsageError
from skyplane_core.identity import DataplaneIdentity
from skyplane_core.provision import local_process
from skyplane_core.provision.base import DataplaneReference, GatewayAddress
from skyplane_core.provision.bootstrap import MIB, Bootstrap, Listening

NAME = "local"
START_SECONDS = 30.0
STOP_SECONDS = 8.0
"""How long a gateway may take to end by itself; it gives its own processes 3."""

LOG_DAYS = 7
"""Logs of dataplanes older than this are removed when a new one starts, so that they do not pile up for ever."""

_HOST = "127.0.0.1"
_POLL_SECONDS = 0.002
_LOG_TAIL = 2000
_LOG_BYTES = 256 * 1024
_MAX_LISTENING = 4096


def default_log_dir() -> Path:
    """``$XDG_STATE_HOME/skyplane/logs``, by default below ``~/.local/state``."""
    configured = Path(os.environ.get("XDG_STATE_HOME", ""))
    base = configured if configured.is_absolute() else Path.home() / ".local" / "state"
    return base / "skyplane" / "logs"


class LocalProvisioner:
    """See :class:`~skyplane_core.provision.base.Provisioner`. The gateways outlive this object and this process.

    Args:
        pool_bytes, expiry_seconds: see :class:`~skyplane_core.provision.bootstrap.Bootstrap`.
        log_dir: gets a directory for each dataplane, and in it one log for each gateway.
        command: what to run instead of this interpreter's gateway.
    """

    notes: Sequence[str] = ()

    def __init__(
        self,
        identity: DataplaneIdentity,
        *,
        pool_bytes: int = 512 * MIB,
        expiry_seconds: float = 900.0,
        log_dir: Path | None = None,
        command: Sequence[str] = local_process.COMMAND,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._identity = identity
        self._pool_bytes = pool_bytes
        self._expiry_seconds = expiry_seconds
        self._logs = (default_log_dir() if log_dir is None else log_dir) / identity.dataplane_id
        self._command = tuple(command)
        self._start_seconds = start_seconds

    def start(self, count: int) -> tuple[GatewayAddress, ...]:
        """Start the gateways ``gateway-0`` to ``gateway-<count - 1>``, all at once.

        Raises:
            ProvisionFailed: one did not start within ``start_seconds``; the others are killed again.
            UsageError: ``count`` is not positive.
        """
        if count < 1:
            raise UsageError(f"a dataplane of {count} gateways")
        started: dict[str, subprocess.Popen[bytes]] = {}
        try:
            self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
            for gateway_id in (f"gateway-{number}" for number in range(count)):
                started[gateway_id] = local_process.spawn(self.log_path(gateway_id), self._command)
                self._tell(gateway_id, started[gateway_id])
            # While they start.
            _prune(self._logs.parent)
            return self._await(started)
        except BaseException as error:
            for process in started.values():
                local_process.destroy(process)
            if isinstance(error, OSError):
                raise ProvisionFailed("a gateway process cannot be started", why=str(error)) from error
            raise
        finally:
            for process in started.values():
                _close_pipes(process)

    def stop(self, gateways: Sequence[GatewayAddress]) -> None:
        """Ask them to end; kill, after :data:`STOP_SECONDS`, those that still run. May be repeated.

        Raises:
            GatewayRefused: one runs and does not accept this identity. It was not killed; the others have ended.
        """
        refusals: list[GatewayError] = []
        asked = []
        for gateway in gateways:
            if not self._running(gateway):
                continue
            with self.channel(gateway) as channel:
                try:
                    channel.shutdown()
                except GatewayUnreachable:
                    pass  # it hangs, or ends just now: what follows tells
                except GatewayRefused as error:
                    refusals.append(error)
                    continue
            asked.append(gateway)
        deadline = time.monotonic() + STOP_SECONDS
        while any(map(self._running, asked)) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        for gateway in asked:
            local_process.kill(gateway.pid, gateway.pid_start_time)
        if refusals:
            raise refusals[0]

    def reference(self, gateways: Sequence[GatewayAddress]) -> DataplaneReference:
        """How these gateways are found again."""
        return DataplaneReference(self._identity.dataplane_id, NAME, tuple(gateways), self._identity.ca_fingerprint())

    def channel(self, gateway: GatewayAddress) -> ControlChannel:
        """A channel to this gateway. Nothing is dialled before the first call."""
        return connect(self._identity, gateway.gateway_id, gateway.host, gateway.control_port)

    def logs(self, gateways: Sequence[GatewayAddress]) -> dict[str, str]:
        """The end of each gateway's log, by gateway id; empty for one that is not there any more."""
        paths = {gateway.gateway_id: self.log_path(gateway.gateway_id) for gateway in gateways}
        return {name: _tail(path, _LOG_BYTES) for name, path in paths.items()}

    def log_path(self, gateway_id: str) -> Path:
        """Where this gateway's log is."""
        return self._logs / f"{gateway_id}.log"

    def _tell(self, gateway_id: str, process: subprocess.Popen[bytes]) -> None:
        pair = self._identity.gateway_certificate(gateway_id)
        bootstrap = Bootstrap(
            dataplane_id=self._identity.dataplane_id,
            gateway_id=gateway_id,
            ca_pem=self._identity.ca_pem,
            certificate_pem=pair.certificate_pem,
            private_key_pem=pair.private_key_pem,
            wire_secret=self._identity.wire_secret(),
            bind_host=_HOST,
            pool_bytes=self._pool_bytes,
            expiry_seconds=self._expiry_seconds,
        )
        if process.stdin is None:
            raise RuntimeError("the process was started without a pipe")
        # A few KiB: the pipe takes them whether or not the process reads already. One that is gone is noticed below.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(msgspec.json.encode(bootstrap))
            process.stdin.flush()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()

    def _await(self, started: dict[str, subprocess.Popen[bytes]]) -> tuple[GatewayAddress, ...]:
        deadline = time.monotonic() + self._start_seconds
        answers = dict.fromkeys(started, b"")
        addresses: dict[str, GatewayAddress] = {}
        with selectors.DefaultSelector() as selector:
            for gateway_id, process in started.items():
                if process.stdout is None:
                    raise RuntimeError("the process was started without a pipe")
                selector.register(process.stdout, selectors.EVENT_READ, gateway_id)
            while len(addresses) < len(started):
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    silent = next(gateway_id for gateway_id in started if gateway_id not in addresses)
                    raise self._failed(silent, f"it did not answer within {self._start_seconds:.0f} s")
                for key, _events in ready:
                    gateway_id = key.data
                    data = os.read(key.fd, _MAX_LISTENING)
                    answers[gateway_id] += data
                    if not data or len(answers[gateway_id]) > _MAX_LISTENING:
                        raise self._failed(gateway_id, _ending(started[gateway_id]))
                    if b"\n" in answers[gateway_id]:
                        selector.unregister(key.fileobj)
                        addresses[gateway_id] = self._address(gateway_id, answers[gateway_id])
        return tuple(addresses[gateway_id] for gateway_id in started)

    def _address(self, gateway_id: str, answer: bytes) -> GatewayAddress:
        try:
            listening = msgspec.json.decode(answer, type=Listening)
        except msgspec.DecodeError as error:
            raise self._failed(gateway_id, f"its answer cannot be understood ({error})") from error
        started = local_process.start_time(listening.pid)
        return GatewayAddress(gateway_id, _HOST, listening.control_port, listening.wire_port, listening.pid, started)

    def _failed(self, gateway_id: str, why: str) -> ProvisionFailed:
        path = self.log_path(gateway_id)
        tail = _tail(path, _LOG_TAIL).strip()
        step = f"Its log is {path}."
        if "No module named" in tail:
            step = "Run: pip install 'airflow-provider-skyplane[gateway]'"
        elif "pip install" in tail:
            step = ""  # the gateway itself has said it
        return ProvisionFailed(
            "a gateway did not start", where=gateway_id, why=f"{why}\n{tail}" if tail else why, next_step=step
        )

    @staticmethod
    def _running(gateway: GatewayAddress) -> bool:
        return local_process.is_running(gateway.pid, gateway.pid_start_time)


def _tail(path: Path, size: int) -> str:
    try:
        return path.read_bytes()[-size:].decode(errors="replace")
    except FileNotFoundError:
        return ""


def _prune(logs: Path) -> None:
    """Remove what was last written to too long ago; what another process removes at the same time is gone, too."""
    oldest = time.time() - LOG_DAYS * 24 * 3600
    for directory in logs.glob("dp-*"):
        files = [*directory.glob("*.log"), directory]
        with contextlib.suppress(FileNotFoundError):
            if max(file.stat().st_mtime for file in files) < oldest:
                shutil.rmtree(directory, ignore_errors=True)


def _ending(process: subprocess.Popen[bytes]) -> str:
    try:
        return f"it ended with exit status {process.wait(1.0)}"
    except subprocess.TimeoutExpired:
        return "it closed its output without an answer"


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
