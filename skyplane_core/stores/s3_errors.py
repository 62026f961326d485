"""S3's refusals as the engine's errors: the one place that reads S3 error codes."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from skyplane_core.errors import (
    BucketNotFound,
    ChecksumMismatch,
    ObjectNotFound,
    PermissionDenied,
    PreconditionFailed,
    StoreError,
    StoreRejected,
    StoreUnavailable,
    Throttled,
    Unauthenticated,
    UploadNotFound,
)
from skyplane_core.model import Precondition
from skyplane_core.stores.base import NEXT_FOR_MISSING

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
    408: StoreUnavailable,
    412: PreconditionFailed,
    429: Throttled,
    503: Throttled,
}
# No case of a server that cannot do something may look like a passing failure, although its status is a 5xx.
_NEVER = frozenset({"NotImplemented"})
_UNSUPPORTED = frozenset({"NotImplemented", "InvalidArgument", "InvalidRequest", "MalformedXML"})
_ELSEWHERE = frozenset(
    {"", "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_ERROR_DOCUMENT = re.compile(rb"\s*(<\?xml[^>]*>\s*)?<Error[\s>]")
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
    code: str,
    status: int,
    message: str,
    *,
    where: str,
    anonymous: bool = False,
    missing: type[StoreError] = ObjectNotFound,
    retry_after: float | None = None,
) -> StoreError:
    """The error for an S3 error code; an unknown or missing code is judged by its HTTP status.

    Args:
        anonymous: whether the call carried no credentials, which changes the advice.
        missing: what a 404 means that does not say what is missing.
    """
    kind = _BY_CODE.get(code)
    if kind is None and code in _NEVER:
        kind = StoreRejected
    if kind is None and status == 404:
        kind = missing
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


def is_refusal(answer: Answer) -> bool:
    """Whether an answer stands for an error: any status from 300, or an error document under a 200.

    S3 has sent its 200 before it knows how a completion ends ("CompleteMultipartUpload", API reference).
    """
    return answer.status >= 300 or _ERROR_DOCUMENT.match(answer.body) is not None


def refuses_checksums(answer: Answer) -> bool:
    """Whether a server may have refused a request for the checksum headers that it carried."""
    code = _element(answer.body.decode("utf-8", "replace"), "Code")
    return code in _UNSUPPORTED or (not code and answer.status in (400, 501))


def from_answer(
    answer: Answer,
    *,
    where: str,
    anonymous: bool = False,
    region: str = "",
    missing: type[StoreError] = ObjectNotFound,
) -> StoreError:
    """The error that a refusal (:func:`is_refusal`) stands for.

    Args:
        region: what the request was signed for.
        anonymous, missing: as in :func:`from_code`.
    """
    text = answer.body.decode("utf-8", "replace")
    code = _element(text, "Code")
    status = answer.status
    theirs = answer.headers.get("x-amz-bucket-region") or _element(text, "Region")
    if status in (301, 307, 400) and code in _ELSEWHERE and theirs and theirs != region:
        return StoreRejected(
            "the bucket is in another region",
            where=where,
            why=f"it is in {theirs}, and was asked for in {region or 'none'}",
            next_step=f"Name the bucket's own region: {theirs}.",
        )
    if status < 300 and code not in _BY_CODE and code not in _NEVER:
        status = 500
    return from_code(
        code,
        status,
        _element(text, "Message"),
        where=where,
        anonymous=anonymous,
        missing=missing,
        retry_after=_seconds(answer.headers.get("Retry-After")),
    )


def of_conditional_write(error: StoreError, precondition: Precondition) -> StoreError:
    """S3 answers NoSuchKey where a write wants to replace a version of an object that is gone."""
    if precondition.version and isinstance(error, ObjectNotFound):
        return PreconditionFailed(_WHAT[PreconditionFailed], where=error.where, why="it is gone")
    return error


def _element(text: str, name: str) -> str:
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return html.unescape(found.group(1)).strip()[:1000] if found else ""


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None
