"""Azure's refusals as errors of ours. The only place that knows what its statuses and codes mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skyplane_core import errors
from skyplane_core.stores.azure_xml import parse_error
from skyplane_core.stores.base import NEXT_FOR_MISSING

if TYPE_CHECKING:
    from skyplane_core.stores.http_data import Answer

_BY_CODE: dict[str, type[errors.StoreError]] = {
    "AuthenticationFailed": errors.Unauthenticated,
    "InvalidAuthenticationInfo": errors.Unauthenticated,
    "NoAuthenticationInformation": errors.Unauthenticated,
    "PublicAccessNotPermitted": errors.PermissionDenied,
    "AccountIsDisabled": errors.PermissionDenied,
    "BlobImmutableDueToPolicy": errors.PermissionDenied,
    "ContainerNotFound": errors.BucketNotFound,
    "ContainerDisabled": errors.PermissionDenied,
    "ContainerBeingDeleted": errors.StoreUnavailable,
    "BlobNotFound": errors.ObjectNotFound,
    "BlobAlreadyExists": errors.PreconditionFailed,
    "InvalidRange": errors.SourceChanged,
    "Md5Mismatch": errors.ChecksumMismatch,
    "Crc64Mismatch": errors.ChecksumMismatch,
    "ServerBusy": errors.Throttled,
}
_BY_STATUS: dict[int, type[errors.StoreError]] = {
    401: errors.Unauthenticated,
    403: errors.PermissionDenied,
    408: errors.StoreUnavailable,
    416: errors.SourceChanged,
    429: errors.Throttled,
    503: errors.Throttled,
}
_UNSUPPORTED = frozenset({"FeatureNotSupported", "UnsupportedHeader", "NotImplemented", "UnsupportedHttpVerb"})
_ADVICE: dict[type[errors.StoreError], str] = {
    errors.Unauthenticated: "Check the account's key and this machine's clock, or renew the SAS token or the login.",
    errors.PermissionDenied: (
        "Grant the role 'Storage Blob Data Contributor' (to read: 'Reader') on this container, or a SAS token with the "
        "rights to list, read, create, write and delete; and let the account's firewall admit this machine."
    ),
    errors.ObjectNotFound: NEXT_FOR_MISSING,
    errors.BucketNotFound: "Check the names of account and container, or create the container.",
    errors.UploadNotFound: "Its blocks were dropped: by another write of this blob, or after a week.",
    errors.SourceChanged: "The blob is not the one that was listed: run the transfer again.",
}
_ADVICE_ANONYMOUS = (
    "No credentials were given, and the container is not open to everybody: set AZURE_STORAGE_KEY, "
    "AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING, log in (az login), or use a connection that has some."
)
_ADVICE_BY_CODE = {
    "BlobArchived": "The blob is in the archive tier: rehydrate it first (az storage blob set-tier --tier Hot).",
    "BlobBeingRehydrated": "The blob is coming back from the archive tier, which takes hours: try again then.",
    "InvalidBlobOrBlock": (
        "Another upload to this blob is open, with block ids of another length. Commit it or overwrite the blob; "
        "otherwise Azure drops its blocks after a week."
    ),
    "InvalidBlobType": "A page or append blob stands there: delete it first.",
    "BlockCountExceedsLimit": "100,000 uncommitted blocks of this blob are waiting. Commit or overwrite it.",
    "SnapshotsPresent": "Delete the blob's snapshots first.",
    "BlobImmutableDueToPolicy": "An immutability policy or a legal hold protects it.",
    "PublicAccessNotPermitted": _ADVICE_ANONYMOUS,
}
_LEASED = "Somebody holds a lease: release or break it first (az storage blob lease break)."
_WHY_LIMIT = 500


def lacks_feature(answer: Answer) -> bool:
    """Whether the endpoint refuses because it does not know something that the service itself does."""
    return answer.status in (400, 500, 501) and _explain(answer)[0] in _UNSUPPORTED


def code_of(answer: Answer) -> str:
    """Azure's code for a refusal, or nothing."""
    return _explain(answer)[0]


def from_answer(
    answer: Answer,
    *,
    what: str,
    where: str,
    missing: type[errors.StoreError] = errors.ObjectNotFound,
    conflict: type[errors.StoreError] = errors.PreconditionFailed,
    anonymous: bool = False,
) -> errors.StoreError:
    """The error that an answer of 300 and more stands for.

    Args:
        what: the call that failed, one clause.
        where: the ``az://`` URI.
        missing: what a 404 means that is not about the container.
        conflict: what a 412 means that is not about a lease.
        anonymous: whether the call carried no credentials, which changes the advice.
    """
    code, words = _explain(answer)
    kind = _classify(answer.status, code, missing, conflict)
    advice = _ADVICE.get(kind, "")
    if code.startswith("Lease"):
        advice = _LEASED
    elif anonymous and (kind in (errors.Unauthenticated, errors.PermissionDenied) or code == "ResourceNotFound"):
        advice = _ADVICE_ANONYMOUS
    why = " ".join(filter(None, (f"HTTP {answer.status}", code, words)))[:_WHY_LIMIT]
    return kind(
        what,
        where=where,
        why=why,
        next_step=_ADVICE_BY_CODE.get(code, advice),
        retry_after=_seconds(answer.headers.get("Retry-After")),
    )


def from_identity(error: Exception, *, where: str) -> errors.StoreError:
    """The error that an exception of azure-identity stands for: told by class, so that it is not imported."""
    why = str(error)[:_WHY_LIMIT]
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & {"ServiceRequestError", "ServiceResponseError", "OSError"} and "ClientAuthenticationError" not in names:
        return errors.StoreUnavailable("no answer from the service that gives the tokens", where=where, why=why)
    return errors.Unauthenticated(
        "the Azure credentials give no access token",
        where=where,
        why=why,
        next_step="Log in again (az login), or check AZURE_TENANT_ID, AZURE_CLIENT_ID and what goes with them.",
    )


def _classify(
    status: int, code: str, missing: type[errors.StoreError], conflict: type[errors.StoreError]
) -> type[errors.StoreError]:
    if code.startswith("Lease") or code in _UNSUPPORTED:
        return errors.StoreRejected
    known = _BY_CODE.get(code)
    # Only a 4xx says that something is not there: an ailing server says anything.
    if status < 500 and known is not None:
        return missing if known is errors.ObjectNotFound else known
    if status == 404:
        return missing
    if status in (304, 412):
        return conflict
    return _BY_STATUS.get(status) or (errors.StoreUnavailable if status >= 500 else errors.StoreRejected)


def _explain(answer: Answer) -> tuple[str, str]:
    """Code and words of a refusal; that of a HEAD has a header only."""
    code = answer.headers.get("x-ms-error-code", "")
    parsed = parse_error(answer.body) if answer.body else None
    if parsed is not None:
        return code or parsed.code, parsed.message
    return code, answer.body[:_WHY_LIMIT].decode("utf-8", "replace").strip()


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None
