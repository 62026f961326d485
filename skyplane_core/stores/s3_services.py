"""Services that speak S3 and have URIs of their own: where their buckets are, and in which region. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from skyplane_core.errors import UsageError

_ACCOUNT = re.compile(r"[0-9a-f]{32}")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]*")


class Place(NamedTuple):
    """Where requests go, and the region that they are signed for. Empty: whatever the environment says."""

    endpoint_url: str = ""
    region: str = ""


def place_of(
    service: str,
    *,
    where: str,
    endpoint_url: str = "",
    region: str = "",
    account: str = "",
    environ: Mapping[str, str],
) -> Place:
    """The place of a bucket of ``service`` (``r2``, ``cos``, or empty for S3, whose place is as given).

    Args:
        where: the URI, for the error.
        endpoint_url: wins over what account or region say.
        account: Cloudflare's account id; else ``R2_ACCOUNT_ID`` or ``CLOUDFLARE_ACCOUNT_ID``.
        region: of IBM COS; else ``IBM_COS_REGION``. R2 has none but ``auto``.

    Raises:
        UsageError: nothing says where the bucket is, or what does is malformed.
    """
    if service == "r2":
        return Place(endpoint_url or _r2(account, environ, where), region or "auto")
    if service == "cos":
        region = region or environ.get("IBM_COS_REGION", "") or _cos_region(endpoint_url)
        return Place(endpoint_url or _cos(region, where), region)
    return Place(endpoint_url, region)


def _r2(account: str, environ: Mapping[str, str], where: str) -> str:
    named = {"account": account} | {name: environ.get(name, "") for name in ("R2_ACCOUNT_ID", "CLOUDFLARE_ACCOUNT_ID")}
    for name, value in named.items():
        if value and not _ACCOUNT.fullmatch(value):
            raise UsageError(
                f"{name} is {value!r}",
                where=where,
                why="a Cloudflare account id has 32 hexadecimal digits, in lower case",
            )
        if value:
            return f"https://{value}.r2.cloudflarestorage.com"
    raise UsageError(
        "nothing says which Cloudflare account the bucket is in",
        where=where,
        next_step="Set R2_ACCOUNT_ID, name the account or the endpoint URL, or write "
        "https://ACCOUNT.r2.cloudflarestorage.com/bucket/key.",
    )


def _cos(region: str, where: str) -> str:
    if not region:
        raise UsageError(
            "nothing says which region of IBM Cloud Object Storage the bucket is in",
            where=where,
            next_step="Name the region, such as eu-de or us (IBM_COS_REGION), or the endpoint URL.",
        )
    if not _REGION.fullmatch(region):
        raise UsageError(
            f"{region!r} is no region of IBM Cloud Object Storage", where=where, next_step="Such as eu-de."
        )
    return f"https://s3.{region}.cloud-object-storage.appdomain.cloud"


def _cos_region(endpoint_url: str) -> str:
    """The region in an address of IBM's, which requests are signed for."""
    found = re.fullmatch(
        r"https://s3\.(?:(?:private|direct)\.)?([a-z0-9-]+)\.cloud-object-storage\.appdomain\.cloud/?", endpoint_url
    )
    return found[1] if found else ""
