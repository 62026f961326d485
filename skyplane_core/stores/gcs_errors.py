"""GCS's refusals as errors of ours. The only place that knows what its statuses, codes and words mean."""

from __future__ import annotations

import email.utils
import re
import time
from typing import TYPE_CHECKING

import msgspec

from skyplane_core import errors
from skyplane_core.stores.base import NEXT_FOR_MISSING
from skyplane_core.stores.gcs_xml import parse_error

if TYPE_CHECKING:
    from skyplane_core.stores.http_data import Answer
from skyplane_core.stores.http_head import Headers

_HASH_COMPLAINT = re.compile(
    r"(crc32c|md5|hash|checksum|digest).{0,200}?(not match|n't match|mismatch)", re.IGNORECASE | re.DOTALL
)
_RATE_LIMITS = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "SlowDown", "TooManyRequests"})
_WHY_LIMIT = 500
_BY_STATUS = {401: errors.Unauthenticated, 403: errors.PermissionDenied, 416: errors.SourceChanged}
_ADVICE = {
    errors.Unauthenticated: "Renew the access token.",
    errors.PermissionDenied: "Grant the account the permission that GCS names, on this bucket.",
    errors.ObjectNotFound: NEXT_FOR_MISSING,
    errors.BucketNotFound: "Check the bucket's name.",
    errors.UploadNotFound: "It was completed, aborted or removed by a lifecycle rule.",
    errors.SourceChanged: "The object is not the one that was listed: run the transfer again.",
}


class _JsonItem(msgspec.Struct):
    reason: str = ""


class _JsonBody(msgspec.Struct):
    message: str = ""
    errors: list[_JsonItem] = []


class _JsonError(msgspec.Struct):
    error: _JsonBody


# Made once and here: msgspec works out a type on its first use, and crashes if two threads do so at once.
_JSON_ERROR = msgspec.json.Decoder(_JsonError)


def from_answer(
    answer: Answer,
    *,
    what: str,
    where: str,
    missing: type[errors.StoreError] = errors.ObjectNotFound,
    conflict: type[errors.StoreError] = errors.PreconditionFailed,
    anonymous: bool = False,
) -> errors.StoreError:
    """The error that an answer of 300 and more (or an error document under a 200) stands for.

    Args:
        what: the call that failed, one clause.
        where: the ``gs://`` URI.
        missing: what a 404 means that does not say it is about the bucket or an upload.
        conflict: what a 412 means.
        anonymous: whether the call carried no credentials, which changes the advice.
    """
    code, words = _explain(answer.body)
    return from_status(
        answer.status,
        code,
        words,
        what=what,
        where=where,
        missing=missing,
        conflict=conflict,
        anonymous=anonymous,
        retry_after=_retry_after(answer.headers),
    )


def from_status(
    status: int,
    code: str,
    words: str,
    *,
    what: str,
    where: str,
    missing: type[errors.StoreError] = errors.ObjectNotFound,
    conflict: type[errors.StoreError] = errors.PreconditionFailed,
    anonymous: bool = False,
    retry_after: float | None = None,
) -> errors.StoreError:
    """As :func:`from_answer`, for an HTTP status with GCS's own code (XML) or reason (JSON) and words."""
    kind = _classify(status, code, words, missing, conflict)
    next_step = _advise(kind, code, anonymous=anonymous)
    why = " ".join(filter(None, (f"HTTP {status}", code, words)))[:_WHY_LIMIT]
    return kind(what, where=where, why=why, next_step=next_step, retry_after=retry_after)


def from_google(error: Exception, *, what: str, where: str) -> errors.StoreError:
    """The error that an exception of google-auth or google-api-core stands for.

    Told by class and by the HTTP ``code`` that google-api-core's exceptions carry, so that none of them is imported.
    """
    status = getattr(error, "code", None)
    if isinstance(status, int):
        return from_status(int(status), "", str(getattr(error, "message", error)), what=what, where=where)
    why = str(error)[:_WHY_LIMIT]
    names = {cls.__name__ for cls in type(error).__mro__}
    if getattr(error, "retryable", False) or names & {"TransportError", "RetryError", "OSError"}:
        return errors.StoreUnavailable(what, where=where, why=why)
    return errors.Unauthenticated(
        what,
        where=where,
        why=why,
        next_step="Log in again (gcloud auth application-default login) or check GOOGLE_APPLICATION_CREDENTIALS.",
    )


def _classify(
    status: int, code: str, words: str, missing: type[errors.StoreError], conflict: type[errors.StoreError]
) -> type[errors.StoreError]:
    if status in (429, 503) or code in _RATE_LIMITS:
        return errors.Throttled
    if status == 404:
        if code == "NoSuchBucket" or "bucket does not exist" in words:
            return errors.BucketNotFound
        return errors.UploadNotFound if code == "NoSuchUpload" else missing
    if status in (304, 412):
        return conflict
    if status == 400 and (code == "BadDigest" or _HASH_COMPLAINT.search(words)):
        return errors.ChecksumMismatch
    if status == 408 or status >= 500:
        return errors.StoreUnavailable
    return _BY_STATUS.get(status, errors.StoreRejected)


def _advise(kind: type[errors.StoreError], code: str, *, anonymous: bool) -> str:
    """What the reader should do about an error of this kind."""
    if code == "UserProjectMissing":
        return "The bucket bills the requester: set requester_pays and a project."
    if kind in (errors.Unauthenticated, errors.PermissionDenied) and anonymous:
        return (
            "No credentials were given, and the bucket is not open to everybody: log in (gcloud auth "
            "application-default login), set GOOGLE_APPLICATION_CREDENTIALS, or use a connection that has some."
        )
    return _ADVICE.get(kind, "")


def _explain(body: bytes) -> tuple[str, str]:
    """Code (or reason) and words of an error body, XML or JSON; a body that is neither is quoted."""
    if not body:
        return "", ""
    if (parsed := parse_error(body)) is not None:
        return parsed
    try:
        error = _JSON_ERROR.decode(body).error
    except msgspec.MsgspecError:
        return "", body[:_WHY_LIMIT].decode("utf-8", "replace").strip()
    return (error.errors[0].reason if error.errors else ""), error.message


def _retry_after(headers: Headers) -> float | None:
    """Seconds from a ``Retry-After`` header, which holds seconds or a date."""
    value = (headers.get("Retry-After") or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
