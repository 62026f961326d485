"""Which of our errors each of GCS's refusals becomes."""

from __future__ import annotations

import json
import time
from email.utils import formatdate

import pytest

from skyplane_core import errors
from skyplane_core.stores.gcs_errors import from_answer, from_google, from_status
from skyplane_core.stores.http_data import Answer
from skyplane_core.stores.http_head import Headers

WHERE = "gs://bucket/key"


def xml_body(code: str, message: str = "") -> bytes:
    return (
        f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    )


def json_body(status: int, reason: str, message: str = "") -> bytes:
    item = {"reason": reason, "message": message, "domain": "global"}
    return json.dumps({"error": {"code": status, "message": message, "errors": [item]}}).encode()


def error_of(
    status: int, body: bytes = b"", headers: dict[str, str] | None = None, **kwargs: object
) -> errors.StoreError:
    return from_answer(Answer(status, Headers((headers or {}).items()), body), what="cannot", where=WHERE, **kwargs)  # type: ignore[arg-type]


CASES = [
    (401, json_body(401, "authError", "Invalid Credentials"), errors.Unauthenticated),
    (401, xml_body("AuthenticationRequired"), errors.Unauthenticated),
    (403, xml_body("AccessDenied", "x does not have storage.objects.get access"), errors.PermissionDenied),
    (403, json_body(403, "rateLimitExceeded"), errors.Throttled),
    (404, xml_body("NoSuchKey", "The specified key does not exist."), errors.ObjectNotFound),
    (404, xml_body("NoSuchBucket", "The specified bucket does not exist."), errors.BucketNotFound),
    (404, json_body(404, "notFound", "The specified bucket does not exist."), errors.BucketNotFound),
    (404, json_body(404, "notFound", "No such object: bucket/key"), errors.ObjectNotFound),
    (404, xml_body("NoSuchUpload"), errors.UploadNotFound),
    (404, b"", errors.ObjectNotFound),
    (408, b"", errors.StoreUnavailable),
    (412, xml_body("PreconditionFailed"), errors.PreconditionFailed),
    (416, xml_body("InvalidRange"), errors.SourceChanged),
    (429, json_body(429, "rateLimitExceeded"), errors.Throttled),
    (500, xml_body("InternalError"), errors.StoreUnavailable),
    (502, b"<html>Bad Gateway</html>", errors.StoreUnavailable),
    (503, xml_body("SlowDown"), errors.Throttled),
    (504, b"", errors.StoreUnavailable),
    (400, xml_body("BadDigest", "The CRC32C you specified did not match what we computed."), errors.ChecksumMismatch),
    (
        400,
        json_body(400, "invalid", 'Provided CRC32C "AAAAAA==" doesn\'t match calculated CRC32C "ipE2qg==".'),
        errors.ChecksumMismatch,
    ),
    (400, xml_body("EntityTooSmall"), errors.StoreRejected),
    (
        400,
        xml_body("NotImplemented", "A header you provided implies functionality that is not implemented."),
        errors.StoreRejected,
    ),
    (400, xml_body("UserProjectMissing", "Bucket is requester pays bucket but no user project."), errors.StoreRejected),
    (409, xml_body("Conflict"), errors.StoreRejected),
    (301, b"", errors.StoreRejected),
]


@pytest.mark.parametrize(("status", "body", "kind"), CASES)
def test_kind(status: int, body: bytes, kind: type[errors.StoreError]) -> None:
    error = error_of(status, body)
    assert type(error) is kind
    assert error.where == WHERE
    assert f"HTTP {status}" in error.why


def test_what_a_bare_404_and_412_mean_is_the_callers_to_say() -> None:
    assert type(error_of(404, missing=errors.SourceChanged)) is errors.SourceChanged
    assert type(error_of(404, xml_body("NoSuchBucket"), missing=errors.SourceChanged)) is errors.BucketNotFound
    assert type(error_of(412, conflict=errors.SourceChanged)) is errors.SourceChanged


def test_advice() -> None:
    assert "GOOGLE_APPLICATION_CREDENTIALS" in error_of(403, anonymous=True).next_step
    assert "recursive" in error_of(404).next_step
    assert "permission" in error_of(403).next_step
    assert "requester_pays" in error_of(400, xml_body("UserProjectMissing")).next_step
    assert "token" in error_of(401).next_step


def test_retry_after() -> None:
    assert error_of(503, headers={"Retry-After": "7"}).retry_after == 7
    date = formatdate(time.time() + 100, usegmt=True)
    assert 90 < (error_of(429, headers={"Retry-After": date}).retry_after or 0) <= 100
    assert error_of(503, headers={"Retry-After": "soon"}).retry_after is None
    assert error_of(503).retry_after is None


def test_words_are_bounded_and_bodies_of_any_kind_are_taken() -> None:
    assert len(error_of(500, b"x" * 10**6).why) <= 500
    assert len(error_of(403, xml_body("AccessDenied", "y" * 10**5)).why) <= 500
    for body in (b"\xff\xfe", b"[]", b'{"error": "invalid_grant"}', b"<Error>", b"null"):
        assert type(error_of(400, body)) is errors.StoreRejected


def test_exceptions_of_google_libraries() -> None:
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth

    def kind(error: Exception) -> type[errors.StoreError]:
        return type(from_google(error, what="cannot", where=WHERE))

    assert kind(api.NotFound("No such object: b/k")) is errors.ObjectNotFound
    assert kind(api.Forbidden("no")) is errors.PermissionDenied
    assert kind(api.TooManyRequests("slow")) is errors.Throttled
    assert kind(api.ServiceUnavailable("later")) is errors.Throttled
    assert kind(api.GatewayTimeout("later")) is errors.StoreUnavailable
    assert kind(api.PreconditionFailed("no")) is errors.PreconditionFailed
    assert kind(auth.TransportError("no route")) is errors.StoreUnavailable
    assert kind(auth.RefreshError("invalid_grant")) is errors.Unauthenticated
    assert kind(auth.DefaultCredentialsError("bad file")) is errors.Unauthenticated


def test_every_status_becomes_a_store_error() -> None:
    for status in range(300, 600):
        assert isinstance(from_status(status, "", "", what="w", where=WHERE), errors.StoreError)
