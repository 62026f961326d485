"""An S3 store's configuration from an Airflow AWS connection. Everything heavy is imported inside the functions."""

from __future__ import annotations

import importlib.util
import os
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_skyplane.compat import AirflowException, BaseHook, mask_secret
from skyplane_core.model import Credentials, StoreConfig


def s3_config(
    bucket: str,
    aws_conn_id: str | None,
    *,
    region_name: str | None = None,
    verify: bool | str | None = None,
    botocore_config: dict[str, Any] | None = None,
) -> StoreConfig:
    """The store behind ``bucket`` with the credentials of ``aws_conn_id``, as the stock S3 hook would use them.

    Without the amazon provider the connection is read directly: static keys or boto3's default chain.

    Raises:
        botocore.exceptions.NoCredentialsError: nothing in the connection or its surroundings holds credentials.
    """
    if importlib.util.find_spec("airflow.providers.amazon") is None:
        return _raw_config(bucket, aws_conn_id, region_name, verify, botocore_config)

    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    hook = AwsBaseHook(
        aws_conn_id=aws_conn_id, client_type="s3", region_name=region_name, verify=verify, config=botocore_config
    )
    client = hook.get_conn()
    session = hook.get_session(region_name=hook.region_name)
    return _config(
        bucket,
        client_config=client.meta.config,
        region=client.meta.region_name,
        endpoint_url=hook.conn_config.get_service_endpoint_url("s3"),
        verify=hook.verify,
        session=session,
    )


def _config(
    bucket: str, *, client_config: Any, region: str | None, endpoint_url: str | None, verify: Any, session: Any
) -> StoreConfig:
    from botocore import UNSIGNED

    endpoint = endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    unsigned = client_config.signature_version is UNSIGNED
    return StoreConfig(
        kind="s3",
        bucket=bucket,
        endpoint_url=endpoint,
        region="" if region in (None, "aws-global") else str(region),
        path_style=_path_style(client_config.s3 or {}, endpoint),
        verify=_verify(verify),
        credentials=Credentials() if unsigned else _credentials(session),
    )


def _path_style(s3_options: dict[str, Any], endpoint: str) -> bool:
    style = s3_options.get("addressing_style") or "auto"
    if style == "auto":
        # botocore cannot put a bucket in front of an IP address either.
        host = urlsplit(endpoint).hostname or ""
        return host.replace(".", "").isdigit() or ":" in host
    return bool(style == "path")


def _verify(verify: bool | str | None) -> bool | str:  # noqa: FBT001  # as botocore has it
    if verify is None:
        return os.environ.get("AWS_CA_BUNDLE") or True
    return verify


def _credentials(session: Any) -> Credentials:
    from botocore.exceptions import NoCredentialsError

    found = session.get_credentials()
    if found is None:
        raise NoCredentialsError
    frozen = found.get_frozen_credentials()
    mask_secret(frozen.secret_key)
    if frozen.token:
        mask_secret(frozen.token)
    # botocore tells the expiry of refreshable credentials to nobody, and without it they could not be renewed in time.
    expiry = getattr(found, "_expiry_time", None)
    return Credentials(
        access_key=frozen.access_key,
        secret_key=frozen.secret_key,
        session_token=frozen.token or "",
        expires_at=expiry.timestamp() if expiry is not None else None,
    )


def _raw_config(
    bucket: str,
    aws_conn_id: str | None,
    region_name: str | None,
    verify: bool | str | None,  # noqa: FBT001  # as botocore has it
    botocore_config: dict[str, Any] | None,
) -> StoreConfig:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    connection = BaseHook.get_connection(aws_conn_id) if aws_conn_id else None
    extra: dict[str, Any] = connection.extra_dejson if connection else {}
    needs_provider = sorted({"role_arn", "assume_role_method", "s3_config_file"} & extra.keys())
    if needs_provider:
        raise AirflowException(
            f"AWS connection {aws_conn_id!r} uses {', '.join(needs_provider)}, which only the amazon provider "
            "understands. Install apache-airflow-providers-amazon."
        )
    options = dict(botocore_config or extra.get("config_kwargs") or {})
    if options.get("signature_version") == "unsigned":
        options["signature_version"] = UNSIGNED
    session = boto3.session.Session(
        aws_access_key_id=(connection and connection.login) or extra.get("aws_access_key_id"),
        aws_secret_access_key=(connection and connection.password) or extra.get("aws_secret_access_key"),
        aws_session_token=extra.get("aws_session_token"),
        region_name=region_name or extra.get("region_name"),
        profile_name=extra.get("profile_name"),
    )
    service = extra.get("service_config", {}).get("s3", {})
    return _config(
        bucket,
        client_config=Config(**options),
        region=session.region_name,
        endpoint_url=service.get("endpoint_url", extra.get("endpoint_url")),
        verify=extra.get("verify") if verify is None else verify,
        session=session,
    )
