"""What is done on one host, each over one short SSH connection: start a gateway, read its log, end it.

The other side is :mod:`skyplane_core.provision.ssh_remote`, which is sent along each time and is all of ours that
the host runs before it has a bundle.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec

from skyplane_core.errors import ProvisionFailed
from skyplane_core.provision.bootstrap import Bootstrap, Listening
from skyplane_core.provision.bundle import Bundle, Target
from skyplane_core.provision.hosts import SshHost
from skyplane_core.provision.local_process import GLIBC_TUNABLES, INHERITED
from skyplane_core.provision.ssh_client import SshConnection
from skyplane_core.provision.ssh_talk import ANSWER_SECONDS, FAILURES, Conversation

log = logging.getLogger(__name__)

T = TypeVar("T")

STOP_SECONDS = 8.0
"""How long a gateway may take to end by itself; it gives its own processes 3."""

_CHUNK = 256 * 1024
_LOG_TAIL = 4000
_SPARE_BYTES = 16 * 1024 * 1024


class Probe(msgspec.Struct, frozen=True):
    """What a host is. ``ports``: two free ones of the range that was asked for, 0 for any."""

    platform: str
    implementation: str
    python: tuple[int, int, int]
    arch: str
    libc: str
    free_bytes: int
    base: str
    ports: tuple[int, int]

    @property
    def target(self) -> Target:
        """The bundle that it needs."""
        return Target(f"{self.python[0]}.{self.python[1]}", self.arch)

    @property
    def glibc(self) -> tuple[int, int] | None:
        """The version of its C library; None if that is another one."""
        name, _, version = self.libc.partition(" ")
        numbers = version.split(".")
        return (int(numbers[0]), int(numbers[1])) if name == "glibc" and len(numbers) > 1 else None


class Started(msgspec.Struct, frozen=True):
    """A gateway that listens. ``directory`` is its own, on its host; seconds are of the copy, and from then on."""

    listening: Listening
    directory: str
    sent_bytes: int
    copy_seconds: float
    start_seconds: float


class Stopped(msgspec.Struct, frozen=True):
    """``stopped``: there was something to stop. ``killed``: it did not end by itself."""

    stopped: bool
    killed: bool
    log: str = ""


class _Directory(msgspec.Struct, frozen=True):
    directory: str


class _Listens(msgspec.Struct, frozen=True):
    listening: Listening


class _Log(msgspec.Struct, frozen=True):
    log: str
    running: bool


def start(
    host: SshHost,
    name: str,
    choose: Callable[[Probe], Bundle],
    bootstrap: Callable[[Probe], Bootstrap],
    *,
    start_seconds: float,
    log_seconds: float,
    abandoned: threading.Event,
) -> Started:
    """Start a gateway on ``host``, in a directory ``name``.

    Args:
        choose: the bundle for this host; may raise.
        bootstrap: what the gateway is told.
        start_seconds: how long it may take from its process's start to its answer.
        log_seconds: how long the log of a gateway that died is kept there.
        abandoned: set when it is no longer wanted.

    Raises:
        ProvisionFailed: it did not start, for a reason that names the host; nothing of it is left there.
        GatewayUnreachable, GatewayRefused: see :class:`SshConnection`.
    """
    with SshConnection(host) as connection:
        request = _request(host, name, start_seconds, log_seconds)
        talk = Conversation(host, connection, request)
        try:
            probe = talk.answer(Probe)
            bundle = choose(probe)
            _check_space(host, probe, bundle)
            told = bootstrap(probe)
            began = time.monotonic()
            talk.tell({"size": bundle.info.size, "sha256": bundle.info.sha256})
            for chunk in _chunks(bundle):
                _check_wanted(host, abandoned)
                talk.send(chunk)
            directory = talk.answer(_Directory).directory
            _check_wanted(host, abandoned)
            copied = time.monotonic()
            secrets = msgspec.json.encode(told)
            talk.tell({"bootstrap": len(secrets)})
            talk.send(secrets)
            listening = talk.answer(_Listens, start_seconds + ANSWER_SECONDS).listening
        except BaseException:
            talk.give_up()
            raise
        finally:
            talk.close()
    seconds = (round(copied - began, 3), round(time.monotonic() - copied, 3))
    log.info(
        "gateway started over SSH",
        extra={
            "fields": {
                "host": host.label,
                "bytes": bundle.info.size,
                "copy_seconds": seconds[0],
                "start_seconds": seconds[1],
            }
        },
    )
    return Started(listening, directory, bundle.info.size, *seconds)


def look(host: SshHost, choose: Callable[[Probe], Bundle]) -> Probe:
    """What ``host`` is, if a gateway could be started on it. Nothing is left there.

    Args:
        choose: as for :func:`start`.

    Raises:
        ProvisionFailed: no gateway could be started there, for a reason that names the host.
        GatewayUnreachable, GatewayRefused: see :class:`SshConnection`.
    """
    with SshConnection(host) as connection:
        # Nothing is made before a bundle is announced, and none will be.
        talk = Conversation(host, connection, _request(host, "", 0.0, 0.0))
        try:
            probe = talk.answer(Probe)
            _check_space(host, probe, choose(probe))
        finally:
            talk.give_up()
            talk.close()
    return probe


def _request(host: SshHost, name: str, start_seconds: float, log_seconds: float) -> dict[str, Any]:
    return {
        "do": "start",
        "directory": host.directory,
        "name": name,
        "bind": host.bind,
        "ports": host.port_range,
        "inherited": INHERITED,
        "environment": {"GLIBC_TUNABLES": GLIBC_TUNABLES},
        "start_seconds": start_seconds,
        "log_seconds": log_seconds,
    }


def stop(host: SshHost, directory: str) -> Stopped:
    """End the gateway whose directory that is, and remove the directory. May be repeated.

    Raises:
        GatewayError: the host cannot be reached, or it could not be removed.
    """
    request = {"do": "stop", "directory": directory, "seconds": STOP_SECONDS, "log_bytes": _LOG_TAIL}
    return _ask(host, request, Stopped)


def fetch_log(host: SshHost, directory: str, size: int) -> str:
    """The last ``size`` bytes of the gateway's log.

    Raises:
        GatewayError: the host cannot be reached, or nothing of the gateway is there any more.
    """
    return _ask(host, {"do": "log", "directory": directory, "log_bytes": size}, _Log).log


def _ask(host: SshHost, request: dict[str, Any], kind: type[T]) -> T:
    with SshConnection(host) as connection:
        talk = Conversation(host, connection, request)
        try:
            return talk.answer(kind)
        finally:
            talk.close()


def _check_space(host: SshHost, probe: Probe, bundle: Bundle) -> None:
    needed = bundle.info.size + bundle.info.unpacked + _SPARE_BYTES
    if probe.free_bytes < needed:
        what, step = FAILURES["space"]
        why = f"{probe.base} has {probe.free_bytes // 10**6} MB free, and a gateway needs {needed // 10**6} MB"
        raise ProvisionFailed(what, where=host.label, why=why, next_step=step)


def _chunks(bundle: Bundle) -> Iterator[bytes]:
    with bundle.path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _check_wanted(host: SshHost, abandoned: threading.Event) -> None:
    if abandoned.is_set():
        raise ProvisionFailed("given up, because another gateway did not start", where=host.label)
