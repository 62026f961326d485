"""Error codes, attributes, versions and servers of S3."""

from __future__ import annotations

from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core import errors
from skyplane_core.model import ObjectAttributes, Precondition, StoredPart
from skyplane_core.stores import s3_attributes, s3_errors, s3_servers, s3_version
from skyplane_core.stores.http_data import Answer
from skyplane_core.stores.http_head import Headers


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("NoSuchBucket", 404, errors.BucketNotFound),
        ("NoSuchKey", 404, errors.ObjectNotFound),
        ("NoSuchUpload", 404, errors.UploadNotFound),
        ("AccessDenied", 403, errors.PermissionDenied),
        ("ExpiredToken", 400, errors.Unauthenticated),
        ("InvalidAccessKeyId", 403, errors.Unauthenticated),
        ("SignatureDoesNotMatch", 403, errors.Unauthenticated),
        ("SlowDown", 503, errors.Throttled),
        ("", 429, errors.Throttled),
        ("", 503, errors.Throttled),
        ("InternalError", 500, errors.StoreUnavailable),
        ("", 502, errors.StoreUnavailable),
        ("NoSuchKey", 500, errors.StoreUnavailable),
        ("NotImplemented", 501, errors.StoreRejected),
        ("", 501, errors.StoreRejected),
        ("PreconditionFailed", 412, errors.PreconditionFailed),
        ("", 412, errors.PreconditionFailed),
        ("ConditionalRequestConflict", 409, errors.StoreUnavailable),
        ("BadDigest", 400, errors.ChecksumMismatch),
        ("EntityTooLarge", 400, errors.StoreRejected),
        ("SomethingNew", 400, errors.StoreRejected),
        ("PermanentRedirect", 301, errors.StoreRejected),
    ],
)
def test_codes(code: str, status: int, kind: type[errors.StoreError]) -> None:
    error = s3_errors.from_code(code, status, "words", where="s3://b/k")
    assert type(error) is kind
    assert error.where == "s3://b/k"
    assert "words" in error.why


@pytest.mark.parametrize(
    "code", ["NoSuchBucket", "NoSuchKey", "AccessDenied", "InvalidAccessKeyId", "RequestTimeTooSkewed"]
)
def test_what_a_person_can_mend_comes_with_a_next_step(code: str) -> None:
    assert s3_errors.from_code(code, 403, "", where="s3://b").next_step


@pytest.mark.parametrize(("code", "status"), [("AccessDenied", 403), ("", 403), ("", 401)])
def test_who_gave_no_credentials_is_told_to_give_some(code: str, status: int) -> None:
    error = s3_errors.from_code(code, status, "", where="s3://b", anonymous=True)
    assert "No credentials were given" in error.next_step
    assert "AWS_ACCESS_KEY_ID" in error.next_step
    archived = s3_errors.from_code("InvalidObjectState", 403, "", where="s3://b/k", anonymous=True)
    assert "archive" in archived.next_step
    assert "No credentials" not in s3_errors.from_code(code, status, "", where="s3://b").next_step


def test_an_answer_is_read_for_its_code() -> None:
    headers = Headers([("Retry-After", "7")])
    body = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>less &amp; slower</Message></Error>"
    error = s3_errors.from_answer(Answer(503, headers, body), where="s3://b/k")
    assert isinstance(error, errors.Throttled)
    assert error.retry_after == 7
    assert "less & slower" in error.why


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("InternalError", errors.StoreUnavailable),
        ("SlowDown", errors.Throttled),
        ("NoSuchUpload", errors.UploadNotFound),
        ("SomethingNew", errors.StoreUnavailable),
        ("AccessDenied", errors.PermissionDenied),
    ],
)
@pytest.mark.parametrize("start", [b"", b"\n  ", b'<?xml version="1.0" encoding="UTF-8"?>\n'])
def test_an_error_under_a_200(code: str, kind: type[errors.StoreError], start: bytes) -> None:
    answer = Answer(200, Headers(), start + f"<Error><Code>{code}</Code></Error>".encode())
    assert s3_errors.is_refusal(answer)
    assert type(s3_errors.from_answer(answer, where="")) is kind


@pytest.mark.parametrize("body", [b"", b"<ListBucketResult/>", b"<Errors/>", b"<a><Error/></a>"])
def test_what_is_no_refusal(body: bytes) -> None:
    assert not s3_errors.is_refusal(Answer(200, Headers(), body))


@pytest.mark.parametrize(
    ("status", "code", "in_header"),
    [(301, "PermanentRedirect", True), (301, "", True), (400, "", True), (400, "AuthorizationHeaderMalformed", False)],
)
def test_a_wrong_region_is_named_with_the_right_one(status: int, code: str, in_header: bool) -> None:
    headers = Headers([("x-amz-bucket-region", "eu-west-3")] if in_header else [])
    body = f"<Error><Code>{code}</Code>{'' if in_header else '<Region>eu-west-3</Region>'}</Error>" if code else ""
    answer = Answer(status, headers, body.encode())
    error = s3_errors.from_answer(answer, where="s3://b", region="us-east-1")
    assert type(error) is errors.StoreRejected
    assert "eu-west-3" in error.next_step
    assert "us-east-1" in error.why
    same = s3_errors.from_answer(answer, where="s3://b", region="eu-west-3")
    assert "another region" not in same.what


def test_an_expired_token_is_no_wrong_region() -> None:
    headers = Headers([("x-amz-bucket-region", "eu-west-3")])
    answer = Answer(400, headers, b"<Error><Code>ExpiredToken</Code></Error>")
    assert isinstance(s3_errors.from_answer(answer, where="", region="us-east-1"), errors.Unauthenticated)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b"<Code>" * 1000])
def test_an_answer_without_a_code_is_judged_by_its_status(body: bytes) -> None:
    assert isinstance(s3_errors.from_answer(Answer(500, Headers(), body), where=""), errors.StoreUnavailable)


@given(
    st.dictionaries(st.from_regex(r"[a-z0-9-]{1,8}", fullmatch=True), st.text(st.characters(exclude_categories=["Cs"])))
)
def test_metadata_survives_the_headers(metadata: dict[str, str]) -> None:
    headers = s3_attributes.to_headers(ObjectAttributes(metadata=metadata))
    assert all(value.isascii() and value.isprintable() and value == value.strip() for value in headers.values())
    assert s3_attributes.from_headers(headers.items()).metadata == metadata


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        ("plain", "plain"),
        ("=?UTF-8?Q?caf=C3=A9?=", "café"),
        ("=?UTF-8?B?Y2Fmw6k=?= =?UTF-8?B?IQ==?=", "café!"),
        ("=?UTF-8?B?not base64?=", "=?UTF-8?B?not base64?="),
        ("=?no-such-charset?B?AAAA?=", "=?no-such-charset?B?AAAA?="),
        ("caf\u00c3\u00a9", "café"),
        ("caf\u00e9", "café"),
    ],
)
def test_values_of_other_writers(wire: str, value: str) -> None:
    assert s3_attributes.from_headers([("X-Amz-Meta-Key", wire)]).metadata == {"key": value}


@given(st.integers(0, 2**32 - 1))
def test_a_crc32c_survives_its_header(value: int) -> None:
    assert s3_version.decode_crc32c(s3_version.encode_crc32c(value)) == value


@pytest.mark.parametrize("text", [None, "", "AAAAAA==-3", "AAAA", "%%%%"])
def test_what_is_no_crc32c(text: str | None) -> None:
    assert s3_version.decode_crc32c(text) is None


def test_a_composite_checksum_is_not_the_objects() -> None:
    assert s3_version.full_object_crc32c("AAAAAA==", "COMPOSITE") is None
    assert s3_version.full_object_crc32c("AAAAAA==", "FULL_OBJECT") == 0


def test_versions() -> None:
    assert s3_version.from_etag("abc") == s3_version.from_etag('"abc"') == 'etag:"abc"'
    assert s3_version.etag_of('etag:"abc"') == '"abc"'
    assert s3_version.etag_of("vid:1") == s3_version.version_id_of('etag:"abc"') == ""
    assert s3_version.condition_headers(Precondition(version='etag:"abc"'), "") == {"If-Match": '"abc"'}
    assert s3_version.condition_headers(Precondition(), "") == {}
    with pytest.raises(errors.StoreRejected):
        s3_version.condition_headers(Precondition(version="vid:1"), "")


def test_the_etag_of_an_upload() -> None:
    parts = [StoredPart(1, '"d41d8cd98f00b204e9800998ecf8427e"', 0)]
    assert s3_version.multipart_etag(parts) == '"59adb24ef3cdbe0297f05b395827453f-1"'
    assert s3_version.multipart_etag([StoredPart(1, '"not-md5"', 0)]) == ""


@pytest.mark.parametrize(
    ("headers", "server", "vouches"),
    [
        ({"server": "AmazonS3", "x-amz-checksum-type": "FULL_OBJECT"}, s3_servers.AWS, True),
        ({"server": "Werkzeug/3.1 Python/3.11", "x-amz-checksum-type": "FULL_OBJECT"}, s3_servers.MOTO, False),
        ({"server": "nginx", "x-amz-checksum-crc32c": "AAAAAA=="}, s3_servers.UNKNOWN, False),
        ({"x-amz-checksum-type": "FULL_OBJECT"}, s3_servers.UNKNOWN, True),
        ({"x-trans-id": "tx1", "x-openstack-request-id": "tx1"}, s3_servers.SWIFT, False),
    ],
)
def test_servers(headers: dict[str, str], server: s3_servers.Server, vouches: bool) -> None:
    message: Message[str, str] = Message()
    for name, value in headers.items():
        message[name.title()] = value
    assert s3_servers.identify(headers) is s3_servers.identify(message) is server
    assert s3_servers.vouches(headers) == s3_servers.vouches(message) == vouches


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("rosUhgp5mIg=", "FULL_OBJECT", 0xAE8B14860A799888),
        ("rosUhgp5mIg=", None, 0xAE8B14860A799888),
        ("rosUhgp5mIg=", "COMPOSITE", None),
        ("rosUhgp5mIg=-3", "FULL_OBJECT", None),
        ("not base64", "FULL_OBJECT", None),
        ("4waSgw==", "FULL_OBJECT", None),
        (None, "FULL_OBJECT", None),
    ],
)
def test_a_crc64nvme_counts_only_as_one_of_the_whole_object(
    value: str | None, kind: str | None, expected: int | None
) -> None:
    lines = [("x-amz-checksum-crc64nvme", value), ("x-amz-checksum-type", kind)]
    headers = Headers([(name, text) for name, text in lines if text is not None])
    assert s3_version.full_object_crc64nvme(headers) == expected
