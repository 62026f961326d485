"""An S3 store's configuration from an Airflow AWS connection. Everything heavy is imported inside the functions."""

from __future__ import annotations

import importlib.util
import logging
import os
from typing import Any

import msgspec

from airflow_provider_skyplane.compat import AirflowException, AirflowNotFoundException, BaseHook, mask_secret
from airflow_provider_skyplane.hooks.aws_plain import plain_config, store_config
from airflow_provider_skyplane.hooks.aws_scope import bind_role, federated
from airflow_provider_skyplane.hooks.scopes import Scope
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.stores.s3_auth import bucket_region
from skyplane_core.stores.s3_services import place_of
from skyplane_core.stores.s3_sign import is_aws

log = logging.getLogger(__name__)


def s3_config(
    bucket: str,
    aws_conn_id: str | None,
    *,
    region_name: str | None = None,
    verify: bool | str | None = None,
    botocore_config: dict[str, Any] | None = None,
    service: str = "",
    endpoint_url: str = "",
    account: str = "",
    scope: Scope | None = None,
    federate: bool = False,
) -> StoreConfig:
    """The store behind ``bucket`` with the credentials of ``aws_conn_id``, as the stock S3 hook would use them.

    ``service`` is ``r2`` or ``cos`` for those; ``endpoint_url`` wins over the connection's, R2's ``account`` over the
    environment's.

    With a ``scope`` a role is assumed with a policy for it; with ``federate`` a user's keys are exchanged for a token
    of that policy, too. Where AWS refuses that, the connection's own credentials are used, and the log says so.

    A connection that holds everything itself, and any connection where the amazon provider is not installed, is read
    directly; without the provider that is static keys or boto3's default chain.

    Raises:
        botocore.exceptions.NoCredentialsError: nothing in the connection or its surroundings holds credentials.
    """
    config = plain_config(bucket, aws_conn_id, region_name=region_name, verify=verify, botocore_config=botocore_config)
    if config is None and importlib.util.find_spec("airflow.providers.amazon") is None:
        config = _raw_config(bucket, aws_conn_id, region_name, verify, botocore_config)
    if config is None:
        config = provider_config(
            bucket, aws_conn_id, region_name=region_name, verify=verify, botocore_config=botocore_config, scope=scope
        )
    place = place_of(
        service,
        where=f"{service or 's3'}://{bucket}",
        # What a connection says of an endpoint is of this service; the environment's is of S3.
        endpoint_url=endpoint_url or _said_endpoint(aws_conn_id) if service else endpoint_url or config.endpoint_url,
        region=(region_name or "") if service == "r2" else config.region,
        account=account,
        environ=os.environ,
    )
    placed = msgspec.structs.replace(config, service=service, endpoint_url=place.endpoint_url, region=place.region)
    config = _in_its_region(placed)
    if scope is None or not federate or service:
        return config
    return federated(config, scope, _said_endpoint(aws_conn_id, "sts", general=False))


def _said_endpoint(aws_conn_id: str | None, service: str = "s3", *, general: bool = True) -> str:
    """The endpoint that the connection itself names for a service, or for all of them, or nothing."""
    if not aws_conn_id:
        return ""
    try:
        extra = BaseHook.get_connection(aws_conn_id).extra_dejson
    except AirflowNotFoundException:
        return ""
    said = (extra.get("service_config") or {}).get(service) or {}
    return str(said.get("endpoint_url", extra.get("endpoint_url") if general else "") or "")


def _in_its_region(config: StoreConfig) -> StoreConfig:
    """A connection's region is where its jobs run; boto3 follows AWS to the bucket's own, and so do we."""
    if not is_aws(config.endpoint_url):
        return config
    return msgspec.structs.replace(config, region=bucket_region(config) or config.region)


def provider_config(
    bucket: str,
    aws_conn_id: str | None,
    *,
    region_name: str | None = None,
    verify: bool | str | None = None,
    botocore_config: dict[str, Any] | None = None,
    scope: Scope | None = None,
) -> StoreConfig:
    """As :func:`s3_config`, by the amazon provider's own hook."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from botocore.exceptions import ClientError

    def made() -> Any:
        return AwsBaseHook(
            aws_conn_id=aws_conn_id, client_type="s3", region_name=region_name, verify=verify, config=botocore_config
        )

    hook = made()
    if scope is not None and bind_role(hook, scope):
        try:
            return _of_hook(bucket, hook)
        except ClientError as error:
            log.warning("The role of connection %r is assumed without a policy for %s: %s", aws_conn_id, bucket, error)
            hook = made()
    return _of_hook(bucket, hook)


def _of_hook(bucket: str, hook: Any) -> StoreConfig:
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

    return store_config(
        bucket,
        region=region,
        endpoint_url=endpoint_url,
        addressing_style=(client_config.s3 or {}).get("addressing_style") or "auto",
        verify=verify,
        credentials=Credentials() if client_config.signature_version is UNSIGNED else _credentials(session),
    )


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

    connection = None
    if aws_conn_id:
        try:
            connection = BaseHook.get_connection(aws_conn_id)
        except AirflowNotFoundException:
            # As the amazon provider's hook does: the environment may hold credentials.
            log.warning("There is no connection %r: looking for credentials where boto3 does.", aws_conn_id)
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
