"""SSH hosts of a ``skyplane`` connection: as it writes them, or as Airflow connections of type ``ssh``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from airflow_provider_skyplane.compat import AirflowException, mask_secret
from skyplane_core.errors import UsageError
from skyplane_core.provision.hosts import SshHost, in_order, parse_host

_CONNECTION = "conn_id"
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*)-----END \1-----", re.DOTALL)
_PEM_LINE = 70


def hosts_of(conn_id: str, extra: Mapping[str, Any], look_up: Callable[[str], Any]) -> tuple[SshHost, ...]:
    """The hosts in the extra field ``hosts``, with the connection's SSH key if they have none.

    The field is a list, or JSON of one, or lines. Each item is ``user@address[:port]``, or the fields of
    :class:`SshHost`; ``conn_id`` among them takes address, login and keys from an Airflow connection.

    Raises:
        AirflowNotFoundException: there is no such connection.
        AirflowException: a host, or its connection, cannot be used; it is named.
    """
    shared = _shared_key(conn_id, extra)
    hosts = tuple(_host(conn_id, item, shared, look_up) for item in _items(conn_id, extra.get("hosts")))
    if shared and not hosts:
        raise AirflowException(
            f"Connection {conn_id!r} has an SSH key ({', '.join(shared)}) and no hosts to use it for."
        )
    try:
        in_order(hosts)
    except UsageError as error:
        raise _wrong(conn_id, str(error)) from error
    return hosts


def _items(conn_id: str, said: Any) -> list[Any]:
    if isinstance(said, str) and said.strip()[:1] in ("[", "{"):
        try:
            said = json.loads(said)
        except ValueError as error:
            raise _wrong(conn_id, f"it is no JSON: {error}") from error
    if isinstance(said, str):
        return said.split()
    if isinstance(said, dict):
        return [said]
    if said is not None and not isinstance(said, list):
        raise _wrong(conn_id, f"it is {said!r}")
    return said or []


def _host(conn_id: str, item: Any, shared: dict[str, str], look_up: Callable[[str], Any]) -> SshHost:
    fields: dict[str, Any] = {}
    if isinstance(item, dict) and item.get(_CONNECTION):
        fields = _from_connection(look_up(str(item[_CONNECTION])))
    if isinstance(item, dict):
        fields |= {name: value for name, value in item.items() if name != _CONNECTION}
    elif not isinstance(item, str):
        raise _wrong(conn_id, f"a host is {item!r}")
    try:
        host = parse_host(item) if isinstance(item, str) else msgspec.convert(fields, SshHost)
    except (ValueError, UsageError) as error:
        raise _wrong(conn_id, str(error)) from error
    if not host.key and not host.private_key:
        host = msgspec.structs.replace(host, **shared)
    for secret in (host.private_key, host.passphrase):
        if secret:
            mask_secret(secret)
    return host


def _shared_key(conn_id: str, extra: Mapping[str, Any]) -> dict[str, str]:
    names = {"key": "ssh_key_file", "private_key": "ssh_private_key", "passphrase": "ssh_passphrase"}
    found = {field: str(extra[name]) for field, name in names.items() if extra.get(name)}
    if {"key", "private_key"} <= found.keys():
        raise AirflowException(
            f"Connection {conn_id!r} has both ssh_key_file and ssh_private_key. Leave one of them out."
        )
    if "private_key" in found:
        found["private_key"] = pem(found["private_key"])
    return found


def _from_connection(connection: Any) -> dict[str, Any]:
    """An SSH connection's fields, named as the stock SSH hook has them."""
    conn_id, extra = connection.conn_id, connection.extra_dejson
    if connection.conn_type != "ssh" or not connection.host:
        raise AirflowException(
            f"Connection {conn_id!r} is no SSH connection with a host: gateways cannot be started there."
        )
    key, file = extra.get("private_key"), extra.get("key_file")
    if connection.password and not (key or file):
        raise AirflowException(
            f"SSH connection {conn_id!r} logs in with a password. Gateways are started with a key: "
            "give it private_key or key_file in its extra."
        )
    fields = {
        "address": connection.host,
        "port": int(connection.port or 22),
        "user": connection.login or "",
        "name": conn_id,
        "key": "" if key else file or "",
        "private_key": pem(key) if key else "",
        # As in the stock hook, a password opens the key where nothing else does.
        "passphrase": extra.get("private_key_passphrase") or connection.password or "",
        "host_key": _host_key(extra.get("host_key") or ""),
    }
    return {name: value for name, value in fields.items() if value}


def _host_key(text: str) -> str:
    """The stock hook takes a key without its type for one of RSA."""
    bare = text and " " not in text.strip() and not text.startswith("SHA256:")
    return f"ssh-rsa {text.strip()}" if bare else text.strip()


def pem(text: str) -> str:
    """A private key whose line breaks a form or an environment variable has eaten or escaped."""
    text = text.replace("\\n", "\n").strip()
    match = _PEM.fullmatch(text)
    if match is None or "\n" in match[2].strip():
        return f"{text}\n"
    body = "".join(match[2].split())
    lines = [body[start : start + _PEM_LINE] for start in range(0, len(body), _PEM_LINE)]
    return "\n".join([f"-----BEGIN {match[1]}-----", *lines, f"-----END {match[1]}-----", ""])


def _wrong(conn_id: str, why: str) -> AirflowException:
    return AirflowException(
        f"The extra field hosts of connection {conn_id!r} cannot be used: {why}. Expected user@address[:port], or JSON "
        'such as [{"address": "198.51.100.7", "user": "ubuntu", "role": "reader"}, {"conn_id": "ssh_writer"}].'
    )
