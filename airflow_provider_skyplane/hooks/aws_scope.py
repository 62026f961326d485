"""Narrower AWS credentials than a connection's own, for one end of one transfer."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from airflow_provider_skyplane.compat import mask_secret
from airflow_provider_skyplane.hooks.scopes import Scope, s3_policy
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.stores.s3_sign import is_aws

log = logging.getLogger(__name__)

FEDERATION_SECONDS = 12 * 3600
_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}


def bind_role(hook: Any, scope: Scope) -> bool:
    """Have the amazon provider's hook assume its role with a policy for ``scope``; False if there is nothing to bind.

    A policy of the connection's own (``assume_role_kwargs``) stays.
    """
    connection = hook.conn_config
    if not connection.role_arn or {"Policy", "PolicyArns"} & connection.assume_role_kwargs.keys():
        return False
    policy = s3_policy(scope, connection.role_arn.split(":")[1])
    if policy is None:
        log.info("Credentials for %s are not narrowed: it is no plain bucket name.", scope.bucket)
        return False
    connection.assume_role_kwargs = {**connection.assume_role_kwargs, "Policy": policy}
    return True


def federated(config: StoreConfig, scope: Scope, sts_endpoint: str = "") -> StoreConfig:
    """``config`` with a federation token instead of a user's keys, or as it is where there is none to be had.

    Args:
        sts_endpoint: else AWS's own; a server that only speaks S3 has none.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    keys = config.credentials
    policy = s3_policy(scope, _partition(config.region))
    if keys.anonymous or keys.session_token or policy is None or not (sts_endpoint or is_aws(config.endpoint_url)):
        return config
    try:
        token = _token(config, policy, sts_endpoint)
    except (BotoCoreError, ClientError) as error:
        log.warning("Credentials for %s are not narrowed, the connection's own are used: %s", config.uri, error)
        return config
    for secret in (token["SecretAccessKey"], token["SessionToken"]):
        mask_secret(secret)
    return msgspec.structs.replace(
        config,
        credentials=Credentials(
            access_key=token["AccessKeyId"],
            secret_key=token["SecretAccessKey"],
            session_token=token["SessionToken"],
            expires_at=token["Expiration"].timestamp(),
        ),
    )


def _token(config: StoreConfig, policy: str, sts_endpoint: str) -> dict[str, Any]:
    import boto3

    client = boto3.client(
        "sts",
        region_name=config.region or "us-east-1",
        endpoint_url=sts_endpoint or None,
        aws_access_key_id=config.credentials.access_key,
        aws_secret_access_key=config.credentials.secret_key,
    )
    try:
        answer = client.get_federation_token(Name="skyplane", Policy=policy, DurationSeconds=FEDERATION_SECONDS)
    finally:
        client.close()
    found: dict[str, Any] = answer["Credentials"]
    return found


def _partition(region: str) -> str:
    return next((name for start, name in _PARTITIONS.items() if region.startswith(start)), "aws")
