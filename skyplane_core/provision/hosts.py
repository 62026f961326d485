"""Hosts that a user gives, to become gateways over SSH: values, and how they are read. Opens no connection."""

from __future__ import annotations

import enum
import importlib
import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from skyplane_core.errors import UsageError
from skyplane_core.model import Role

_PORTS = re.compile(r"(\d{1,5})-(\d{1,5})")
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@-]*")
_NAME = re.compile(r"[A-Za-z0-9_.:%][A-Za-z0-9_.:%-]*")
_HOST_KEY = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?|[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}( .*)?")


class Control(enum.Enum):
    """How a client reaches a gateway's control port: at its address, through SSH, or whichever of them answers."""

    AUTO = "auto"
    DIRECT = "direct"
    SSH = "ssh"


class SshHost(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A machine that can be reached by SSH and becomes a gateway. It needs a ``python3`` and nothing else.

    Args:
        address: host name or IP address that SSH dials; ``port`` its SSH port.
        user: login name; empty: that of this process's user.
        name: what messages call it; empty: ``user@address:port``.
        key: path of a private key. ``private_key``: the key itself (PEM or OpenSSH), for callers that keep it in no
            file; ``passphrase`` opens either. Without both, the SSH agent and the usual files below ``~/.ssh``.
        host_key: ``SHA256:...`` or a public key line, which the host must show; empty: looked up in ``known_hosts``,
            by default ``~/.ssh/known_hosts``.
        role: what it does in a transfer; None: what is missing (see :func:`in_order`).
        region: for the plan; as ``aws:us-east-1`` also for what a transfer would cost.
        advertise: address at which the other gateways dial its wire port; empty: ``address``.
        dials_out: no other gateway can dial it (a firewall, a NAT), so it dials them, whichever way the data goes.
        bind: address that the gateway listens on.
        ports: range such as ``40000-40010`` for its two ports; empty: any free ones.
        control: how the client reaches its control port. With ``ssh`` that port is open on the host's loopback alone.
        python: interpreter on the host.
        directory: existing directory on the host for the gateway's own; empty: the login's home directory.

    Raises:
        ValueError: a field cannot be used (as a ``msgspec.ValidationError`` where hosts are read from a file).
    """

    address: str
    port: int = 22
    user: str = ""
    name: str = ""
    key: str = ""
    private_key: str = ""
    passphrase: str = ""
    host_key: str = ""
    known_hosts: str = ""
    role: Role | None = None
    region: str = ""
    advertise: str = ""
    bind: str = "0.0.0.0"  # noqa: S104 - a gateway is there to be reached; TLS and a shared secret guard its ports
    ports: str = ""
    control: Control = Control.AUTO
    python: str = "python3"
    directory: str = ""
    dials_out: bool = False

    def __post_init__(self) -> None:
        problems = {
            "address": _NAME.fullmatch(self.address),
            "port": 0 < self.port < 65536,
            "user": not self.user or _USER.fullmatch(self.user),
            "key": not (self.key and self.private_key),
            "host_key": not self.host_key or _HOST_KEY.fullmatch(self.host_key.strip()),
            "advertise": not self.advertise or _NAME.fullmatch(self.advertise),
            "bind": _is_address(self.bind),
            "ports": not self.ports or self.port_range,
            "python": self.python,
            "directory": not self.directory or self.directory.startswith("/"),
            "dials_out": not (self.dials_out and self.advertise),
        }
        for field, good in problems.items():
            if not good:
                raise ValueError(f"{field} of host {self.address!r} is not usable: {_HINTS[field]}")

    def __repr__(self) -> str:
        return f"SshHost({self.label})"

    __str__ = __repr__

    @property
    def target(self) -> str:
        """``user@address:port``, by which a dataplane's reference knows this host."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.user}@{address}:{self.port}" if self.user else f"{address}:{self.port}"

    @property
    def label(self) -> str:
        """What messages call this host."""
        return self.name or self.target

    @property
    def port_range(self) -> tuple[int, int] | None:
        """First and last port that the gateway may listen on; None if any, or if ``ports`` is no range."""
        match = _PORTS.fullmatch(self.ports)
        if match is None:
            return None
        low, high = int(match[1]), int(match[2])
        return (low, high) if 0 < low < high < 65536 else None


_HINTS = {
    "address": "a host name or an IP address",
    "port": "1 to 65535",
    "user": "a login name",
    "key": "give a key or a private_key, not both",
    "host_key": "SHA256:... as ssh-keygen -l shows it, or a public key such as 'ssh-ed25519 AAAA...'",
    "advertise": "a host name or an IP address",
    "bind": "an IP address of the host, or 0.0.0.0",
    "ports": "two ports or more, such as 40000-40010",
    "python": "the name or path of an interpreter",
    "directory": "an absolute path",
    "dials_out": "nobody dials it, so give no advertise",
}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hosts: list[dict[str, Any]]
    defaults: dict[str, Any] = {}


def parse_host(text: str) -> SshHost:
    """A host from ``user@address[:port]``; an IPv6 address stands in brackets.

    Raises:
        UsageError: it is not of that form.
    """
    user, at, rest = text.rpartition("@")
    match = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]]+))(?::(\d+))?", rest)
    try:
        if match is None or (at and not user):
            raise ValueError("it is not of that form")
        return SshHost(match[1] or match[2], port=int(match[3] or 22), user=user)
    except ValueError as error:
        raise UsageError(
            "not a host", where=repr(text), why=str(error), next_step="Write user@address or user@address:port."
        ) from error


def host_of(target: str, hosts: Sequence[SshHost]) -> SshHost:
    """The settings of a host by its :attr:`SshHost.target`; without any, the user's own keys have to do."""
    return next((host for host in hosts if host.target == target), None) or parse_host(target)


def read_hosts(path: Path) -> tuple[SshHost, ...]:
    """The hosts in a TOML or JSON file: a list ``hosts`` of tables, and a table ``defaults`` for what they share.

    Paths in it may begin with ``~`` and are relative to the file's directory.

    Raises:
        UsageError: the file cannot be read, or a field in it is unknown, wrong or missing; it is named.
    """
    try:
        content = path.read_bytes()
        file = msgspec.convert(_decode(path, content), _File)
        hosts = []
        for number, fields in enumerate(file.hosts):
            try:
                host = msgspec.convert({**file.defaults, **fields}, SshHost)
            except msgspec.ValidationError as error:
                raise UsageError(
                    "the hosts file is wrong", where=f"{path}: host {number + 1}", why=str(error)
                ) from error
            beside = path.resolve().parent
            files = {name: _beside(getattr(host, name), beside) for name in ("key", "known_hosts")}
            hosts.append(msgspec.structs.replace(host, **files))
    except OSError as error:
        raise UsageError("the hosts file cannot be read", where=str(path), why=error.strerror or "") from error
    except ValueError as error:
        raise UsageError("the hosts file is wrong", where=str(path), why=str(error)) from error
    return tuple(hosts)


def in_order(hosts: Sequence[SshHost]) -> tuple[SshHost, ...]:
    """The hosts as a dataplane uses them: readers first, because the first gateway is the head.

    Of several readers, those that can be dialled come first, as the head has to be.
    Several may have the same role. Where none has one, up to three are told by their place (see
    :func:`skyplane_core.planner.plan.plan`). Where some have, one without becomes the reader or writer that is missing.

    Raises:
        UsageError: one is there twice; nobody would read, or nobody write; or the role of one is open.
    """
    targets = [host.target for host in hosts]
    for target in targets:
        if targets.count(target) > 1:
            raise UsageError("a host is given twice", where=target)
    if all(host.role is None for host in hosts):
        if len(hosts) > _UNSAID:
            raise UsageError(
                f"{len(hosts)} hosts and no roles", next_step="Say of each whether it is a reader, a relay or a writer."
            )
        return tuple(hosts)
    cast = list(hosts)
    for role in (Role.READER, Role.WRITER):
        if any(host.role is role for host in cast):
            continue
        free = next((number for number, host in enumerate(cast) if host.role is None), None)
        if free is None:
            raise UsageError(f"none of the hosts may be a {role.value}", where=", ".join(host.label for host in hosts))
        cast[free] = msgspec.structs.replace(cast[free], role=role)
    for host in cast:
        if host.role is None:
            raise UsageError(
                "it is open what a host does", where=host.label, next_step="Make it a reader, a relay or a writer."
            )
    return tuple(sorted(cast, key=lambda host: (_ORDER.index(host.role or Role.RELAY), host.dials_out)))


_ORDER = (Role.READER, Role.RELAY, Role.WRITER)
_UNSAID = 3
"""So many gateways know by their place what they do."""


def _decode(path: Path, content: bytes) -> Any:
    if path.suffix == ".json":
        return msgspec.json.decode(content)
    try:
        toml = importlib.import_module("tomllib")
    except ModuleNotFoundError as error:
        raise UsageError(
            "this Python cannot read TOML",
            where=str(path),
            next_step="Use Python 3.11 or newer, or write the same as JSON in a file whose name ends in .json.",
        ) from error
    return toml.loads(content.decode())


def _beside(name: str, directory: Path) -> str:
    return str(directory / Path(name).expanduser()) if name else ""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
