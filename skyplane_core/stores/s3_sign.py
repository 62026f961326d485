"""Where a request for an S3 object goes and how it is signed: pure functions, no SDK.

A hundred lines of SigV4 keep botocore out of the gateways (half a second and 30 MB a process) and
cost a quarter of its signer's time per request; the tests hold them against that signer, byte for byte.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import ipaddress
import time
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.stores.http_data import Request, host_header

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
DEFAULT_REGION = "us-east-1"
_PARTITION_SUFFIX = {
    "cn": "amazonaws.com.cn",
    "eusc": "amazonaws.eu",
    "us-iso": "c2s.ic.gov",
    "us-isob": "sc2s.sgov.gov",
}
_AWS_SUFFIXES = (".amazonaws.com", *(f".{suffix}" for suffix in _PARTITION_SUFFIX.values()))


class Address(NamedTuple):
    """How to reach one bucket: the connection's endpoint and what precedes a key in the request's path."""

    endpoint_url: str
    path_prefix: str

    def target(self, key: str, query: dict[str, str] | None = None) -> str:
        """Path and query as sent and signed: the key's bytes encoded once, ``/`` kept, no dot segment touched."""
        return _with_query(self.path_prefix + quote(key, safe="/~"), query)

    def bucket_target(self, query: dict[str, str] | None = None) -> str:
        """The same for the bucket itself."""
        return _with_query(self.path_prefix.rstrip("/") or "/", query)


def is_aws(endpoint_url: str) -> bool:
    """Whether this is AWS itself: no endpoint given, or one of its own."""
    return not endpoint_url or (urlsplit(endpoint_url).hostname or "").endswith(_AWS_SUFFIXES)


def is_ip_address(endpoint_url: str) -> bool:
    """Whether an endpoint's host is an address, in front of which no bucket's name can stand."""
    try:
        ipaddress.ip_address(urlsplit(endpoint_url).hostname or "")
    except ValueError:
        return False
    return True


def aws_endpoint(region: str) -> str:
    """AWS's own HTTPS endpoint of a region."""
    name = region or DEFAULT_REGION
    head = name.split("-")
    suffix = _PARTITION_SUFFIX.get("-".join(head[:2])) or _PARTITION_SUFFIX.get(head[0]) or "amazonaws.com"
    return f"https://s3.{name}.{suffix}"


def use_path_style(config: StoreConfig) -> bool:
    """Whether the bucket is named in the path and not in the host.

    So where it is asked for, at any endpoint that is not AWS's (as boto3 has it), and where the bucket's name has a
    dot, which the wildcard of the endpoint's certificate does not cover. Never where virtual hosts are asked for.
    """
    if config.virtual_host:
        return False
    return config.path_style or not is_aws(config.endpoint_url) or "." in config.bucket


def address(config: StoreConfig) -> Address:
    """The address of the config's bucket."""
    endpoint = (config.endpoint_url or aws_endpoint(config.region)).rstrip("/")
    url = urlsplit(endpoint)
    base = url.path
    if use_path_style(config):
        return Address(endpoint, f"{base}/{quote(config.bucket, safe='')}/")
    return Address(f"{url.scheme}://{config.bucket}.{url.netloc}{base}", f"{base}/")


def payload_may_be_unsigned(endpoint_url: str) -> bool:
    """Whether the payload's SHA-256 (0.47 s/GB, five times the price of the PUT itself) can be left out.

    Over HTTPS the channel protects the payload and the signed CRC32C header catches accidents. Over plain HTTP the hash
    is all that ties the payload to the signature; without it, whoever sits on the path could swap the bytes of a write.
    AWS's own SDKs draw the same line. On loopback there is no path.
    """
    url = urlsplit(endpoint_url)
    if url.scheme == "https" or url.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(url.hostname or "").is_loopback
    except ValueError:
        return False


def canonical_query(query: dict[str, str]) -> str:
    """A query string, encoded and ordered as SigV4 wants it."""
    return "&".join(sorted(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in query.items()))


def _with_query(path: str, query: dict[str, str] | None) -> str:
    return f"{path}?{canonical_query(query)}" if query else path


def sign(
    request: Request, *, endpoint_url: str, credentials: Credentials, region: str, payload_hash: str, now: float
) -> Request:
    """``request`` with its signature (SigV4 in headers); as it is if the credentials are anonymous.

    Args:
        request: its target must be canonical, as :meth:`Address.target` makes it. All of its headers are signed.
        endpoint_url: what the connection was opened for, hence the ``Host`` header.
        payload_hash: hex SHA-256 of the body, or :data:`UNSIGNED_PAYLOAD`.
        now: seconds since the epoch.
    """
    if credentials.anonymous:
        return request
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    headers = request.headers | {
        "Host": host_header(endpoint_url),
        "X-Amz-Content-SHA256": payload_hash,
        "X-Amz-Date": stamp,
    }
    if credentials.session_token:
        headers["X-Amz-Security-Token"] = credentials.session_token
    canonical = sorted((name.lower(), " ".join(value.split())) for name, value in headers.items())
    names = ";".join(name for name, _ in canonical)
    path, _, query = request.target.partition("?")
    text = "\n".join(
        (request.method, path, query, *(f"{name}:{value}" for name, value in canonical), "", names, payload_hash)
    )
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(text.encode()).hexdigest()}"
    key = _signing_key(credentials.secret_key, stamp[:8], region)
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return request._replace(headers=headers)


@functools.lru_cache(maxsize=64)
def _signing_key(secret: str, date: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
