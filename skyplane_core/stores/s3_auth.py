"""The environment's credentials, endpoint and region for an S3 bucket: all that boto3 is used for.

It is imported when :func:`resolve` is called: whoever is given a config needs no SDK.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from skyplane_core.errors import StoreError, StoreUnavailable, Unauthenticated, UsageError
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.stores import s3_errors
from skyplane_core.stores.http_data import NEXT_FOR_CONNECTING, parse_endpoint
from skyplane_core.stores.s3_calls import S3Calls
from skyplane_core.stores.s3_sign import DEFAULT_REGION, is_aws

if TYPE_CHECKING:
    import boto3.session


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
    with _mapped(where):
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
    return msgspec.structs.replace(config, region=bucket_region(config) or config.region)


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


def bucket_region(config: StoreConfig) -> str:
    """The bucket's region, which AWS names in refusals too, or nothing if AWS cannot be asked.

    A failure is no error here: whoever then uses the store gets it with all its reasons.
    """
    calls = S3Calls(config)
    try:
        return calls.exchange("HEAD").headers.get("x-amz-bucket-region", "")
    except StoreError:
        return ""
    finally:
        calls.close()


@contextlib.contextmanager
def _mapped(where: str) -> Iterator[None]:
    """Turn what botocore raises while it looks for credentials into an error of ours."""
    import botocore.exceptions as sdk

    try:
        yield
    except sdk.ClientError as error:
        # A service that hands out credentials (STS, SSO) has refused.
        details = error.response.get("Error", {})
        metadata = error.response.get("ResponseMetadata", {})
        raise s3_errors.from_code(
            str(details.get("Code", "")),
            int(metadata.get("HTTPStatusCode", 0)),
            str(details.get("Message", "")),
            where=where,
        ) from error
    except (sdk.ProfileNotFound, sdk.ConfigParseError) as error:
        raise UsageError(
            "the AWS configuration cannot be used",
            where=where,
            why=str(error),
            next_step="Check AWS_PROFILE, AWS_CONFIG_FILE and the files that they name (else those in ~/.aws).",
        ) from error
    except (sdk.EndpointConnectionError, sdk.ConnectTimeoutError, sdk.ProxyConnectionError) as error:
        raise StoreUnavailable(
            "no answer from the service that gives the credentials",
            where=where,
            why=str(error),
            next_step=NEXT_FOR_CONNECTING,
        ) from error
    except (sdk.HTTPClientError, OSError) as error:
        raise StoreUnavailable(
            "no answer from the service that gives the credentials", where=where, why=str(error)
        ) from error
    except sdk.BotoCoreError as error:
        raise Unauthenticated(
            "the AWS credentials cannot be used",
            where=where,
            why=str(error),
            next_step="Give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY both, or a profile (AWS_PROFILE) that works.",
        ) from error
