"""Our SigV4 and our URLs are those of botocore, byte for byte."""

from __future__ import annotations

import datetime
import hashlib
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.stores.http_data import Request
from skyplane_core.stores.s3_sign import (
    UNSIGNED_PAYLOAD,
    address,
    aws_endpoint,
    payload_may_be_unsigned,
    sign,
)

NOW = 1_795_219_200.0
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
HEADERS = st.dictionaries(
    st.sampled_from(["x-amz-meta-a", "Range", "If-Match", "x-amz-request-payer", "Content-Type"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20),
)


def botocore_authorization(
    request: Request, endpoint: str, credentials: Credentials, region: str, body: bytes | None = None
) -> str:
    """The Authorization header that botocore's signer gives the same request; without a body its hash is left out."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as BotoCredentials

    class Unsigned(S3SigV4Auth):  # type: ignore[misc]
        def payload(self, request: AWSRequest) -> str:
            return UNSIGNED_PAYLOAD

    keys = BotoCredentials(credentials.access_key, credentials.secret_key, credentials.session_token or None)
    theirs = AWSRequest(request.method, endpoint + request.target, headers=dict(request.headers), data=body)
    moment = datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc)
    theirs.context["timestamp"] = moment.strftime("%Y%m%dT%H%M%SZ")
    signer = (Unsigned if body is None else S3SigV4Auth)(keys, "s3", region)
    signer._modify_request_before_signing(theirs)
    del theirs.headers["X-Amz-Date"]
    theirs.headers["X-Amz-Date"] = theirs.context["timestamp"]
    text = signer.string_to_sign(theirs, signer.canonical_request(theirs))
    signer._inject_signature_to_request(theirs, signer.signature(text, theirs))
    return str(theirs.headers["Authorization"])


@given(key=KEYS, headers=HEADERS, token=st.sampled_from(["", "token/+="]), virtual=st.booleans(), upload=KEYS)
def test_the_signature_is_botocores(key: str, headers: dict[str, str], token: str, virtual: bool, upload: str) -> None:
    credentials = Credentials("AKID", "secret/+", token)
    config = StoreConfig(
        kind="s3", bucket="bucket", region="eu-central-1", path_style=not virtual, credentials=credentials
    )
    where = address(config)
    request = Request("PUT", where.target(key, {"uploadId": upload, "partNumber": "7"}), headers)
    signed = sign(
        request,
        endpoint_url=where.endpoint_url,
        credentials=credentials,
        region="eu-central-1",
        payload_hash=UNSIGNED_PAYLOAD,
        now=NOW,
    )
    theirs = botocore_authorization(request, where.endpoint_url, credentials, "eu-central-1")
    assert signed.headers["Authorization"].replace(", ", ",") == theirs.replace(", ", ",")


QUERIES = st.dictionaries(
    st.sampled_from(["prefix", "start-after", "delimiter", "continuation-token", "list-type", "uploads", "uploadId"]),
    KEYS,
)


@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "DELETE"]),
    key=st.none() | KEYS,
    query=QUERIES,
    endpoint=st.sampled_from(["", "http://10.0.0.1:9000", "https://minio.example:443/s3"]),
    body=st.binary(max_size=40),
)
def test_a_control_calls_signature_is_botocores(
    method: str, key: str | None, query: dict[str, str], endpoint: str, body: bytes
) -> None:
    credentials = Credentials("AKID", "secret/+", "token/+=")
    where = address(StoreConfig("s3", "bucket", region="eu-central-1", endpoint_url=endpoint))
    target = where.bucket_target(query) if key is None else where.target(key, query)
    request = Request(method, target, {"x-amz-request-payer": "requester"})
    signed = sign(
        request,
        endpoint_url=where.endpoint_url,
        credentials=credentials,
        region="eu-central-1",
        payload_hash=hashlib.sha256(body).hexdigest(),
        now=NOW,
    )
    origin = urlsplit(where.endpoint_url)._replace(path="").geturl()
    theirs = botocore_authorization(request, origin, credentials, "eu-central-1", body)
    assert signed.headers["Authorization"].replace(", ", ",") == theirs.replace(", ", ",")


@pytest.mark.parametrize(
    ("config", "target"),
    [
        (StoreConfig("s3", "b"), "/?uploads="),
        (StoreConfig("s3", "b.c"), "/b.c?uploads="),
        (StoreConfig("s3", "b", endpoint_url="https://minio.example/s3"), "/s3/b?uploads="),
    ],
)
def test_the_bucket_itself(config: StoreConfig, target: str) -> None:
    assert address(config).bucket_target({"uploads": ""}) == target


@given(KEYS)
def test_a_target_holds_each_byte_of_the_key_once(key: str) -> None:
    where = address(StoreConfig(kind="s3", bucket="bucket", endpoint_url="http://127.0.0.1:9"))
    target = where.target(key)
    assert unquote(target.removeprefix("/bucket/")) == key
    assert target.isascii()
    assert not set(target) & set(" ?#\r\n\0")


def test_anonymous_requests_are_not_signed() -> None:
    request = Request("GET", "/b/k", {"Range": "bytes=0-1"})
    signed = sign(request, endpoint_url="https://x", credentials=Credentials(), region="r", payload_hash="", now=NOW)
    assert signed == request


@pytest.mark.parametrize(
    ("config", "endpoint", "prefix"),
    [
        (StoreConfig("s3", "b"), "https://b.s3.us-east-1.amazonaws.com", "/"),
        (StoreConfig("s3", "b", region="cn-north-1"), "https://b.s3.cn-north-1.amazonaws.com.cn", "/"),
        (StoreConfig("s3", "b.c", region="eu-west-1"), "https://s3.eu-west-1.amazonaws.com", "/b.c/"),
        (StoreConfig("s3", "b", region="eu-west-1", path_style=True), "https://s3.eu-west-1.amazonaws.com", "/b/"),
        (StoreConfig("s3", "b", endpoint_url="http://127.0.0.1:9000/"), "http://127.0.0.1:9000", "/b/"),
        (StoreConfig("s3", "b", endpoint_url="https://minio.example/s3"), "https://minio.example/s3", "/s3/b/"),
        (StoreConfig("s3", "b", endpoint_url=aws_endpoint("eu-west-3")), "https://b.s3.eu-west-3.amazonaws.com", "/"),
    ],
)
def test_addresses(config: StoreConfig, endpoint: str, prefix: str) -> None:
    assert address(config) == (endpoint, prefix)
    assert urlsplit(endpoint).hostname


@pytest.mark.parametrize(
    ("endpoint", "unsigned"),
    [
        ("https://s3.example", True),
        ("http://s3.example", False),
        ("http://10.0.0.1:9000", False),
        ("http://127.0.0.1:9000", True),
        ("http://localhost:9000", True),
        ("http://[::1]:9000", True),
    ],
)
def test_the_payload_is_signed_where_somebody_could_swap_it(endpoint: str, unsigned: bool) -> None:
    assert payload_may_be_unsigned(endpoint) == unsigned
