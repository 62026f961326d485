"""S3's refusals as the engine's errors: the one place that reads S3 error codes."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from skyplane_core.errors import (
    BucketNotFound,
    ChecksumMismatch,
    ObjectNotFound,
    PermissionDenied,
    PreconditionFailed,
    SkyplaneError,
    StoreError,
    StoreRejected,
    StoreUnavailable,
    Throttled,
    Unauthenticated,
    UploadNotFound,
    UsageError,
)
from skyplane_core.model import Precondition
from skyplane_core.stores.base import NEXT_FOR_MISSING
from skyplane_core.stores.http_data import NEXT_FOR_CONNECTING

if TYPE_CHECKING:
    from skyplane_core.stores.http_data import Answer

_BY_CODE: dict[str, type[StoreError]] = {
    "NoSuchBucket": BucketNotFound,
    "NoSuchKey": ObjectNotFound,
    "NoSuchVersion": ObjectNotFound,
    "NoSuchUpload": UploadNotFound,
    "AccessDenied": PermissionDenied,
    "AllAccessDisabled": PermissionDenied,
    "AccountProblem": PermissionDenied,
    "ExpiredToken": Unauthenticated,
    "TokenRefreshRequired": Unauthenticated,
    "InvalidToken": Unauthenticated,
    "InvalidAccessKeyId": Unauthenticated,
    "SignatureDoesNotMatch": Unauthenticated,
    "AuthorizationHeaderMalformed": Unauthenticated,
    "RequestTimeTooSkewed": Unauthenticated,
    "SlowDown": Throttled,
    "RequestLimitExceeded": Throttled,
    "TooManyRequests": Throttled,
    "Throttling": Throttled,
    "ThrottlingException": Throttled,
    "ServiceUnavailable": Throttled,
    "InternalError": StoreUnavailable,
    "RequestTimeout": StoreUnavailable,
    "OperationAborted": StoreUnavailable,
    "ConditionalRequestConflict": StoreUnavailable,
    "IncompleteBody": StoreUnavailable,
    "PreconditionFailed": PreconditionFailed,
    "BadDigest": ChecksumMismatch,
    "XAmzContentSHA256Mismatch": ChecksumMismatch,
    "XAmzContentChecksumMismatch": ChecksumMismatch,
}
_BY_STATUS: dict[int, type[StoreError]] = {
    401: Unauthenticated,
    403: PermissionDenied,
    404: ObjectNotFound,
    408: StoreUnavailable,
    412: PreconditionFailed,
    429: Throttled,
    503: Throttled,
}
# No case of a server that cannot do something may look like a passing failure, although its status is a 5xx.
_NEVER = frozenset({"NotImplemented", "501"})
_WHAT: dict[type[StoreError], str] = {
    BucketNotFound: "the bucket does not exist",
    ObjectNotFound: "the object does not exist",
    UploadNotFound: "the multipart upload is not open",
    PermissionDenied: "access denied",
    Unauthenticated: "the credentials were not accepted",
    Throttled: "the store asks for fewer requests",
    StoreUnavailable: "the store failed",
    PreconditionFailed: "the object is not what the write's precondition demands",
    ChecksumMismatch: "the store received other bytes than the checksum says",
    StoreRejected: "the store refuses the request",
}
_NEXT: dict[type[StoreError], str] = {
    ObjectNotFound: NEXT_FOR_MISSING,
    BucketNotFound: "Check the bucket's name and the endpoint, or create the bucket.",
    PermissionDenied: (
        "Let these credentials list, read and write there "
        "(s3:ListBucket, s3:GetObject, s3:PutObject, s3:AbortMultipartUpload, s3:DeleteObject)."
    ),
    Unauthenticated: "Check the access key, the secret and the session token's expiry.",
}
_NEXT_ANONYMOUS = (
    "No credentials were given, and the bucket is not open to everybody: set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or use a connection that has some."
)
_NEXT_BY_CODE = {
    "RequestTimeTooSkewed": "Set this machine's clock.",
    "InvalidObjectState": "Restore the object from its archive tier first.",
    "PermanentRedirect": "Name the bucket's own region.",
    "AuthorizationHeaderMalformed": "Name the bucket's own region.",
}


def from_code(
    code: str, status: int, message: str, *, where: str, anonymous: bool = False, retry_after: float | None = None
) -> StoreError:
    """The error for an S3 error code; an unknown or missing code is judged by its HTTP status.

    ``anonymous``: whether the call carried no credentials, which changes the advice.
    """
    kind = _BY_CODE.get(code)
    if kind is None and code in _NEVER:
        kind = StoreRejected
    if kind is None:
        kind = _BY_STATUS.get(status) or (StoreUnavailable if status >= 500 and status != 501 else StoreRejected)
    # A 5xx stays a passing failure whatever the code says of keys and buckets, so that nobody concludes from an
    # ailing server that an object is gone.
    if status >= 500 and kind in (ObjectNotFound, BucketNotFound, UploadNotFound):
        kind = StoreUnavailable
    why = f"{code}: {message}" if code and message else code or message or f"HTTP {status}"
    advice = _NEXT_ANONYMOUS if anonymous and kind in (PermissionDenied, Unauthenticated) else _NEXT.get(kind, "")
    return kind(
        _WHAT[kind],
        where=where,
        why=why,
        next_step=_NEXT_BY_CODE.get(code) or advice,
        retry_after=retry_after,
    )


def from_answer(answer: Answer, *, where: str, anonymous: bool = False) -> StoreError:
    """The error for a refusal on the data path."""
    text = answer.body.decode("utf-8", "replace")
    return from_code(
        _element(text, "Code"),
        answer.status,
        _element(text, "Message"),
        where=where,
        anonymous=anonymous,
        retry_after=_seconds(answer.headers.get("Retry-After")),
    )


def of_conditional_write(error: StoreError, precondition: Precondition) -> StoreError:
    """S3 answers NoSuchKey where a write wants to replace a version of an object that is gone."""
    if precondition.version and isinstance(error, ObjectNotFound):
        return PreconditionFailed(_WHAT[PreconditionFailed], where=error.where, why="it is gone")
    return error


@contextlib.contextmanager
def mapped(where: str, *, anonymous: bool = False) -> Iterator[None]:
    """Turn whatever botocore raises within into an error of ours."""
    import botocore.exceptions as sdk

    try:
        yield
    except SkyplaneError:
        raise
    except sdk.ClientError as error:
        details = error.response.get("Error", {})
        metadata = error.response.get("ResponseMetadata", {})
        code = str(details.get("Code", ""))
        raise from_code(
            "" if code.isdigit() and code != "501" else code,
            int(metadata.get("HTTPStatusCode") or (code if code.isdigit() else 0)),
            str(details.get("Message", "")),
            where=where,
            anonymous=anonymous,
            retry_after=_seconds(metadata.get("HTTPHeaders", {}).get("retry-after")),
        ) from error
    except (sdk.NoCredentialsError, sdk.PartialCredentialsError, sdk.CredentialRetrievalError) as error:
        raise Unauthenticated(
            "the AWS credentials cannot be used",
            where=where,
            why=str(error),
            next_step="Give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY both, or a profile (AWS_PROFILE) that works.",
        ) from error
    except (sdk.ProfileNotFound, sdk.ConfigParseError) as error:
        raise UsageError(
            "the AWS configuration cannot be used",
            where=where,
            why=str(error),
            next_step="Check AWS_PROFILE, AWS_CONFIG_FILE and the files that they name (else those in ~/.aws).",
        ) from error
    except (sdk.ParamValidationError, sdk.UnsupportedSignatureVersionError, sdk.InvalidRegionError) as error:
        if "Invalid bucket name" in str(error):
            # botocore goes on with its regular expressions.
            raise StoreRejected(
                "not a name for a bucket",
                where=where,
                why="S3 takes letters, digits, '.', '-' and '_', or the ARN of an access point",
                next_step="Check the bucket's name.",
            ) from error
        raise StoreRejected(_WHAT[StoreRejected], where=where, why=str(error)) from error
    except (sdk.EndpointConnectionError, sdk.ConnectTimeoutError, sdk.ProxyConnectionError) as error:
        raise StoreUnavailable(
            "no answer from the store", where=where, why=str(error), next_step=NEXT_FOR_CONNECTING
        ) from error
    except (sdk.BotoCoreError, OSError) as error:
        raise StoreUnavailable("no answer from the store", where=where, why=str(error)) from error


def _element(text: str, name: str) -> str:
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return html.unescape(found.group(1)).strip()[:1000] if found else ""


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None
