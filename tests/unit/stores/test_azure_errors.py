"""What Azure's refusals mean."""

from __future__ import annotations

import pytest

from skyplane_core import errors
from skyplane_core.stores.azure_errors import code_of, from_answer, from_identity, lacks_feature
from skyplane_core.stores.http_data import Answer
from skyplane_core.stores.http_head import Headers


def answer(status: int, code: str = "", message: str = "words", *headers: tuple[str, str]) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>{message}\nRequestId:1\nTime:2</Message></Error>".encode()
    return Answer(status, Headers(headers), body if code else b"")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "ServerBusy", errors.Throttled),
        (429, "", errors.Throttled),
        (503, "", errors.Throttled),
        (500, "InternalError", errors.StoreUnavailable),
        (500, "OperationTimedOut", errors.StoreUnavailable),
        (500, "BlobNotFound", errors.StoreUnavailable),
        (403, "AuthenticationFailed", errors.Unauthenticated),
        (401, "InvalidAuthenticationInfo", errors.Unauthenticated),
        (401, "", errors.Unauthenticated),
        (403, "AuthorizationPermissionMismatch", errors.PermissionDenied),
        (403, "AuthorizationFailure", errors.PermissionDenied),
        (403, "KeyBasedAuthenticationNotPermitted", errors.PermissionDenied),
        (409, "PublicAccessNotPermitted", errors.PermissionDenied),
        (403, "", errors.PermissionDenied),
        (404, "ContainerNotFound", errors.BucketNotFound),
        (404, "BlobNotFound", errors.ObjectNotFound),
        (404, "ResourceNotFound", errors.ObjectNotFound),
        (404, "", errors.ObjectNotFound),
        (409, "ContainerBeingDeleted", errors.StoreUnavailable),
        (412, "ConditionNotMet", errors.PreconditionFailed),
        (412, "", errors.PreconditionFailed),
        (304, "", errors.PreconditionFailed),
        (409, "BlobAlreadyExists", errors.PreconditionFailed),
        (412, "LeaseIdMissing", errors.StoreRejected),
        (409, "LeaseIdMismatchWithBlobOperation", errors.StoreRejected),
        (409, "BlobArchived", errors.StoreRejected),
        (409, "BlobBeingRehydrated", errors.StoreRejected),
        (416, "InvalidRange", errors.SourceChanged),
        (400, "Md5Mismatch", errors.ChecksumMismatch),
        (400, "Crc64Mismatch", errors.ChecksumMismatch),
        (400, "InvalidBlobOrBlock", errors.StoreRejected),
        (400, "MetadataTooLarge", errors.StoreRejected),
        (500, "FeatureNotSupported", errors.StoreRejected),
    ],
)
def test_each_refusal_by_its_kind(status: int, code: str, kind: type[errors.StoreError]) -> None:
    by_body = from_answer(answer(status, code), what="cannot", where="az://a/b/k")
    by_header = from_answer(answer(status, "", "", ("x-ms-error-code", code)), what="cannot", where="az://a/b/k")
    for error in (by_body, by_header):
        assert type(error) is kind
        assert error.where == "az://a/b/k"
        assert f"HTTP {status}" in error.why
        assert code in error.why


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (409, "BlobArchived", "rehydrate it first"),
        (412, "LeaseIdMissing", "lease break"),
        (409, "InvalidBlobType", "page or append blob"),
        (400, "InvalidBlobOrBlock", "after a week"),
        (403, "AuthorizationPermissionMismatch", "Storage Blob Data Contributor"),
        (403, "AuthenticationFailed", "clock"),
        (404, "ContainerNotFound", "account and container"),
    ],
)
def test_a_refusal_says_what_to_do(status: int, code: str, said: str) -> None:
    assert said in from_answer(answer(status, code), what="cannot", where="").next_step


@pytest.mark.parametrize("code", ["ResourceNotFound", "NoAuthenticationInformation", "PublicAccessNotPermitted"])
def test_without_credentials_the_advice_is_to_give_some(code: str) -> None:
    status = {"ResourceNotFound": 404, "NoAuthenticationInformation": 401}.get(code, 409)
    assert "AZURE_STORAGE_KEY" in from_answer(answer(status, code), what="", where="", anonymous=True).next_step


def test_what_is_missing_is_the_callers_to_say() -> None:
    gone = from_answer(answer(404, "BlobNotFound"), what="", where="", missing=errors.SourceChanged)
    assert type(gone) is errors.SourceChanged
    other = from_answer(answer(404, "ContainerNotFound"), what="", where="", missing=errors.SourceChanged)
    assert type(other) is errors.BucketNotFound
    changed = from_answer(answer(412, "ConditionNotMet"), what="", where="", conflict=errors.SourceChanged)
    assert type(changed) is errors.SourceChanged


def test_only_the_words_are_quoted_and_the_wait_is_passed_on() -> None:
    error = from_answer(answer(503, "ServerBusy", "The server is busy.", ("Retry-After", "7")), what="", where="")
    assert error.why == "HTTP 503 ServerBusy The server is busy."
    assert error.retry_after == 7


def test_what_azure_identity_raises() -> None:
    from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
    from azure.identity import CredentialUnavailableError

    for refused in (ClientAuthenticationError("no"), CredentialUnavailableError("none")):
        assert type(from_identity(refused, where="az://a/b")) is errors.Unauthenticated
    silent = from_identity(ServiceRequestError("nobody there"), where="az://a/b")
    assert type(silent) is errors.StoreUnavailable
    assert (silent.where, silent.why) == ("az://a/b", "nobody there")


def test_features_that_an_endpoint_lacks() -> None:
    assert lacks_feature(answer(500, "FeatureNotSupported"))
    assert lacks_feature(answer(501, "NotImplemented"))
    assert not lacks_feature(answer(500, "InternalError"))
    assert not lacks_feature(answer(400, "Crc64Mismatch"))
    assert code_of(answer(400, "InvalidBlockList")) == "InvalidBlockList"
    assert code_of(Answer(500, Headers(), b"<html>")) == ""
