"""Our SharedKey signatures and our URLs are those of azure-storage-blob, byte for byte."""

from __future__ import annotations

import base64
import time
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.errors import UsageError
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.stores.azure_sign import API_VERSION, Address, address, authorize, divide
from skyplane_core.stores.http_data import Request

NOW = 1_795_219_200.0
KEY = base64.b64encode(b"an account's key of some bytes").decode()
KEYS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
NAMES = st.sampled_from(
    [
        "x-ms-meta-a1",
        "x-ms-meta-a_",
        "x-ms-meta-A_b",
        "x-ms-meta-ab",
        "x-ms-meta-_0",
        "x-ms-meta-skyplane_source",
        "x-ms-blob-content-type",
        "x-ms-blob-cache-control",
        "x-ms-blob-type",
        "x-ms-content-crc64",
        "x-ms-range",
        "Content-MD5",
        "Content-Type",
        "If-Match",
        "If-None-Match",
    ]
)
QUERIES = st.dictionaries(
    st.sampled_from(["comp", "restype", "blockid", "prefix", "startFrom", "marker", "include"]), KEYS, max_size=5
)


def their_authorization(request: Request, length: int) -> str:
    """The Authorization header that the SDK's policy gives the same request."""
    from azure.core.pipeline import PipelineContext, PipelineRequest
    from azure.core.pipeline.transport import HttpRequest
    from azure.storage.blob._shared.authentication import SharedKeyCredentialPolicy

    headers = {name: value for name, value in request.headers.items() if name != "Authorization"}
    headers = {name.lower() if name.lower().startswith("x-ms-") else name: value for name, value in headers.items()}
    theirs = HttpRequest(request.method, f"https://account.blob.core.windows.net{request.target}", headers=headers)
    theirs.headers["Content-Length"] = str(length)
    SharedKeyCredentialPolicy("account", KEY).on_request(PipelineRequest(theirs, PipelineContext(None)))
    return str(theirs.headers["Authorization"])


@given(
    method=st.sampled_from(["GET", "HEAD", "PUT", "DELETE"]),
    key=st.one_of(st.just(""), KEYS),
    headers=st.dictionaries(NAMES, VALUES),
    query=QUERIES,
    length=st.sampled_from([0, 1, 8_388_608]),
)
def test_the_signature_is_the_sdks(
    method: str, key: str, headers: dict[str, str], query: dict[str, str], length: int
) -> None:
    target = Address("https://account.blob.core.windows.net", "/box").target(key, **query)
    signed = authorize(
        Request(method, target, headers),
        account="account",
        credentials=Credentials("account", KEY),
        length=length,
        now=NOW,
    )
    assert signed.headers["Authorization"] == their_authorization(signed, length)
    assert signed.headers["x-ms-date"] == time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(NOW))


@given(key=KEYS)
def test_a_key_arrives_as_it_is(key: str) -> None:
    target = Address("https://account.blob.core.windows.net", "/box").target(key)
    assert unquote(target.partition("?")[0]) == f"/box/{key}"
    assert target.isascii()
    assert " " not in target


def test_a_token_and_a_sas_go_where_they_belong() -> None:
    plain = Request("GET", "/box/k?comp=block", {})
    bearer = authorize(plain, account="account", credentials=Credentials(token="t"), length=0, now=NOW)
    assert bearer.headers == {"x-ms-version": API_VERSION, "Authorization": "Bearer t"}
    sas = authorize(plain, account="account", credentials=Credentials(sas="sv=1&sig=a%2B"), length=0, now=NOW)
    assert sas.target == "/box/k?comp=block&sv=1&sig=a%2B"
    assert "Authorization" not in sas.headers
    bare = authorize(Request("GET", "/box/k", {}), account="a", credentials=Credentials(sas="sig=x"), length=0, now=NOW)
    assert bare.target == "/box/k?sig=x"
    anonymous = authorize(plain, account="account", credentials=Credentials(), length=0, now=NOW)
    assert anonymous == plain._replace(headers={"x-ms-version": API_VERSION})


@pytest.mark.parametrize(
    ("endpoint_url", "reached"),
    [
        ("", "https://account.blob.core.windows.net/box"),
        ("https://account.blob.core.usgovcloudapi.net", "https://account.blob.core.usgovcloudapi.net/box"),
        ("https://store.example.org", "https://store.example.org/box"),
        ("http://127.0.0.1:10000", "http://127.0.0.1:10000/account/box"),
        ("http://[::1]:10000", "http://[::1]:10000/account/box"),
        ("http://azurite:10000/", "http://azurite:10000/account/box"),
        ("http://127.0.0.1:10000/account", "http://127.0.0.1:10000/account/box"),
        ("https://proxy.example.org/azure/", "https://proxy.example.org/azure/box"),
    ],
)
def test_where_a_container_is(endpoint_url: str, reached: str) -> None:
    found = address(StoreConfig(kind="azure", bucket="account/box", endpoint_url=endpoint_url))
    assert found.endpoint_url + found.path == reached
    assert urlsplit(found.endpoint_url).path == ""


@pytest.mark.parametrize("bucket", ["", "account", "account/", "/box", "a/b/c"])
def test_a_bucket_is_an_account_and_a_container(bucket: str) -> None:
    with pytest.raises(UsageError, match="az://account/container"):
        divide(bucket)
