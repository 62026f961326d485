"""Where a request for a container goes and how it is authorized: pure functions, no SDK.

The tests hold the signatures against the SDK's own signer, byte for byte.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hmac
import ipaddress
import time
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from skyplane_core.errors import UsageError
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.stores.http_data import Request, parse_endpoint

API_VERSION = "2023-11-03"
"""Pinned, and old enough for every cloud. 2019-12-12 brought blocks of 4,000 MiB, 2021-02-12 names beyond XML."""

_SIGNED_HEADERS = ("Content-MD5", "Content-Type", "Date", "If-Modified-Since", "If-Match", "If-None-Match")


class Address(NamedTuple):
    """How to reach one container: the connection's endpoint, and the path of the container on it."""

    endpoint_url: str
    path: str

    def target(self, key: str = "", **query: str) -> str:
        """Path and query of a request on the container, or on the blob ``key``; empty parameters are left out."""
        path = f"{self.path}/{quote(key, safe='/~')}" if key else self.path
        pairs = "&".join(f"{name}={quote(value, safe='~')}" for name, value in query.items() if value)
        return f"{path}?{pairs}" if pairs else path


def divide(bucket: str) -> tuple[str, str]:
    """Account and container of a config's bucket.

    Raises:
        UsageError: it is not ``account/container``.
    """
    account, _, container = bucket.partition("/")
    if not (account and container) or "/" in container:
        raise UsageError(
            "not an account and a container", where=f"az://{bucket}", next_step="Write az://account/container."
        )
    return account, container


def address(config: StoreConfig) -> Address:
    """The address of the config's container.

    An endpoint with a path is taken as it is. One without is the account's own host, unless it is a bare address or
    name of a machine, as of an emulator, which serves many accounts: there the account comes first in the path.
    """
    account, container = divide(config.bucket)
    if not config.endpoint_url:
        return Address(f"https://{account}.blob.core.windows.net", f"/{quote(container)}")
    url = parse_endpoint(config.endpoint_url)
    base = url.path.rstrip("/")
    if not base and _is_machine(url.hostname or ""):
        base = f"/{account}"
    return Address(f"{url.scheme}://{url.netloc}", f"{base}/{quote(container)}")


def _is_machine(host: str) -> bool:
    if "." not in host:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def authorize(request: Request, *, account: str, credentials: Credentials, length: int, now: float) -> Request:
    """``request`` with the API's version, and with what proves that it may be made.

    Args:
        account: the storage account's name.
        length: bytes of the body that will be sent with it.
        now: seconds since the epoch.
    """
    headers = request.headers | {"x-ms-version": API_VERSION}
    if credentials.token:
        headers["Authorization"] = f"Bearer {credentials.token}"
    elif credentials.sas:
        mark = "&" if "?" in request.target else "?"
        return request._replace(target=f"{request.target}{mark}{credentials.sas}", headers=headers)
    elif credentials.secret_key:
        headers["x-ms-date"] = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now))
        text = _string_to_sign(request._replace(headers=headers), account, length)
        digest = hmac.digest(_decoded(credentials.secret_key), text.encode(), "sha256")
        headers["Authorization"] = f"SharedKey {account}:{base64.b64encode(digest).decode()}"
    return request._replace(headers=headers)


def is_account_key(text: str) -> bool:
    """Whether ``text`` can be an account's key: base64."""
    try:
        return bool(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return False


def _string_to_sign(request: Request, account: str, length: int) -> str:
    # Content-Encoding, Content-Language and Range are never sent as such: the blob's own have x-ms- names.
    lines = [request.method, "", "", str(length) if length else ""]
    lines += [request.headers.get(name, "") for name in _SIGNED_HEADERS]
    lines += ["", ""]
    named = [(name.lower(), value) for name, value in request.headers.items() if name.lower().startswith("x-ms-")]
    lines += [f"{name}:{value}" for name, value in sorted(named, key=_service_order)]
    path, _, query = request.target.partition("?")
    lines.append(f"/{account}{path}")
    lines += [f"{name.lower()}:{value}" for name, value in sorted(parse_qsl(query, keep_blank_values=True))]
    return "\n".join(lines)


def _service_order(header: tuple[str, str]) -> str:
    """The service sorts headers as words: hyphens count for nothing, and an underscore comes before digits."""
    return header[0].replace("-", "").replace("_", " ")


@functools.lru_cache(maxsize=16)
def _decoded(key: str) -> bytes:
    return base64.b64decode(key)


def plain_endpoint(endpoint_url: str, account: str) -> str:
    """An endpoint without its final slash; empty for the account's own in the public cloud, which needs no naming."""
    endpoint = endpoint_url.rstrip("/")
    return "" if endpoint.lower() == f"https://{account}.blob.core.windows.net" else endpoint


def split_host(endpoint_url: str) -> str:
    """The account that an endpoint of Azure's own names, or nothing."""
    host = urlsplit(endpoint_url).hostname or ""
    account, _, rest = host.partition(".")
    return account if rest.startswith(("blob.", "dfs.")) else ""
