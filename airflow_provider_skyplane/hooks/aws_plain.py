"""AWS connections that hold all there is to know: read without boto3 and the amazon provider, whose import takes 0.3 s.

Whatever is not certain to come out the same there is left to them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_skyplane.compat import AirflowNotFoundException, BaseHook, conf, mask_secret
from skyplane_core.model import Credentials, StoreConfig

_EXTRAS = {
    "aws_session_token",
    "config_kwargs",
    "endpoint_url",
    "region_name",
    "service_config",
    "verify",
}
_CONFIG_KWARGS = {"connect_timeout", "max_pool_connections", "read_timeout", "retries", "s3"}
"""Options of botocore's client that change nothing in how we reach the bucket, and ``s3``, which is looked into."""
_FROM_ENVIRONMENT = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_USE_FIPS_ENDPOINT")


def plain_config(
    bucket: str,
    aws_conn_id: str | None,
    *,
    region_name: str | None,
    verify: bool | str | None,
    botocore_config: dict[str, Any] | None,
) -> StoreConfig | None:
    """The store behind ``bucket`` if the connection has keys, a region and nothing out of the ordinary, else None."""
    if not aws_conn_id or botocore_config or _environment_matters():
        return None
    try:
        connection = BaseHook.get_connection(aws_conn_id)
    except AirflowNotFoundException:
        return None
    extra = connection.extra_dejson
    region = region_name or extra.get("region_name")
    style = _addressing_style(extra)
    usual = connection.conn_type == "aws" and connection.login and connection.password
    if not usual or not region or style is None or extra.keys() - _EXTRAS:
        return None
    token = extra.get("aws_session_token") or ""
    for secret in (connection.password, token):
        if secret:
            mask_secret(secret)
    service = (extra.get("service_config") or {}).get("s3") or {}
    endpoint = service.get("endpoint_url", extra.get("endpoint_url")) or ""
    return store_config(
        bucket,
        region=region,
        endpoint_url=endpoint,
        addressing_style=style,
        verify=extra.get("verify") if verify is None else verify,
        credentials=Credentials(
            access_key=connection.login or "", secret_key=connection.password or "", session_token=token
        ),
    )


def store_config(
    bucket: str,
    *,
    region: str | None,
    endpoint_url: str | None,
    addressing_style: str,
    verify: bool | str | None,
    credentials: Credentials,
) -> StoreConfig:
    """A store's configuration from what a connection says, filled up from the environment as botocore does it."""
    endpoint = endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    return StoreConfig(
        kind="s3",
        bucket=bucket,
        endpoint_url=endpoint,
        region="" if region in (None, "aws-global") else str(region),
        path_style=_path_style(addressing_style, endpoint),
        verify=(os.environ.get("AWS_CA_BUNDLE") or True) if verify is None else verify,
        credentials=credentials,
    )


def _path_style(style: str, endpoint: str) -> bool:
    if style == "auto":
        # botocore cannot put a bucket in front of an IP address either.
        host = urlsplit(endpoint).hostname or ""
        return host.replace(".", "").isdigit() or ":" in host
    return style == "path"


def _environment_matters() -> bool:
    """Whether something outside of the connection would have a say: a profile, a session factory of the user's own."""
    if any(os.environ.get(name) for name in _FROM_ENVIRONMENT):
        return True
    if Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser().exists():
        return True
    return bool(conf.get("aws", "session_factory", fallback=None))


def _addressing_style(extra: dict[str, Any]) -> str | None:
    """What the connection's ``config_kwargs`` say about it, or None if they say anything that we do not know."""
    options = extra.get("config_kwargs") or {}
    if not isinstance(options, dict) or options.keys() - _CONFIG_KWARGS:
        return None
    s3_options = options.get("s3") or {}
    if s3_options.keys() - {"addressing_style"}:
        return None
    return s3_options.get("addressing_style") or "auto"
