"""boto3, kept in one place: the control client of a store, and the environment's credentials.

It is imported when a function here is called: data processes open stores for their data paths, which need no SDK.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.stores.http_data import parse_endpoint
from skyplane_core.stores.s3_errors import mapped
from skyplane_core.stores.s3_sign import DEFAULT_REGION, aws_endpoint, is_aws, use_path_style

if TYPE_CHECKING:
    import boto3.session


def make_client(config: StoreConfig) -> Any:
    """A boto3 S3 client that follows ``config`` alone: no profile, no environment, no credential chain. Thread-safe."""
    import boto3.session
    import botocore
    from botocore.config import Config

    credentials = config.credentials
    if config.endpoint_url:
        parse_endpoint(config.endpoint_url)
    # Explicit empty strings would fall through to the chain, so that anonymous is said by the signature instead.
    session = boto3.session.Session(
        aws_access_key_id=credentials.access_key or None,
        aws_secret_access_key=credentials.secret_key or None,
        aws_session_token=credentials.session_token or None,
    )
    return session.client(
        "s3",
        region_name=config.region or DEFAULT_REGION,
        endpoint_url=config.endpoint_url or aws_endpoint(config.region),
        verify=config.verify,
        config=Config(
            signature_version=botocore.UNSIGNED if credentials.anonymous else "s3v4",
            s3={"addressing_style": "path" if use_path_style(config) else "virtual"},
            # Checksums are ours to give: boto3's default would hash, and would choose CRC32.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": 3},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=32,
            ignore_configured_endpoint_urls=True,
            user_agent_extra="skyplane",
        ),
    )


def resolve(
    bucket: str,
    *,
    endpoint_url: str = "",
    region: str = "",
    path_style: bool = False,
    requester_pays: bool = False,
    verify: bool | str = True,
    credentials: Credentials | None = None,
) -> StoreConfig:
    """The config of a bucket as this machine's environment sees it.

    Args:
        endpoint_url: else ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``, else AWS.
        region: else the bucket's own where AWS tells it (a HeadBucket), else the session's, else ``us-east-1``.
        credentials: else whatever boto3's chain finds, frozen with their expiry; anonymous if it finds none.

    Raises:
        UsageError: the endpoint is no URL, or the environment names a profile that is not there.
        Unauthenticated: a credential source is configured and yields nothing.
    """
    import boto3.session

    where = f"s3://{bucket}"
    endpoint = _endpoint(endpoint_url)
    with mapped(where):
        session = boto3.session.Session()
        config = StoreConfig(
            kind="s3",
            bucket=bucket,
            endpoint_url=endpoint,
            region=region or session.region_name or DEFAULT_REGION,
            path_style=path_style,
            requester_pays=requester_pays,
            verify=verify,
            credentials=credentials if credentials is not None else _session_credentials(session),
        )
    if region or not is_aws(endpoint):
        return config
    return msgspec.structs.replace(config, region=_bucket_region(config) or config.region)


def _endpoint(given: str) -> str:
    """The endpoint to use, checked under the name that it goes by; empty for AWS."""
    settings = {"endpoint_url": given} | {
        name: os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    }
    for name, url in settings.items():
        if url:
            parse_endpoint(url, name)
            return url
    return ""


def _session_credentials(session: boto3.session.Session) -> Credentials:
    found = session.get_credentials()
    if found is None:
        return Credentials()
    frozen = found.get_frozen_credentials()
    # botocore shows the expiry of refreshable credentials in this attribute only.
    expiry = getattr(found, "_expiry_time", None)
    return Credentials(
        access_key=frozen.access_key or "",
        secret_key=frozen.secret_key or "",
        session_token=frozen.token or "",
        expires_at=expiry.timestamp() if expiry is not None else None,
    )


def _bucket_region(config: StoreConfig) -> str:
    """The bucket's region, which AWS names in refusals too, or nothing if AWS cannot be asked.

    A failure is no error here: whoever then uses the store gets it with all its reasons.
    """
    import botocore.exceptions

    client = make_client(config)
    try:
        headers = client.head_bucket(Bucket=config.bucket)["ResponseMetadata"]["HTTPHeaders"]
    except botocore.exceptions.ClientError as error:
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    except botocore.exceptions.BotoCoreError:
        return ""
    finally:
        client.close()
    return str(headers.get("x-amz-bucket-region", ""))
