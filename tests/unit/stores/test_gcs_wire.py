"""Targets, headers and hashes of GCS, without a server."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.model import ObjectAttributes, Precondition
from skyplane_core.stores import gcs_wire as wire
from skyplane_core.stores.http_head import Headers, parse_headers

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
TOKENS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=20)
ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1).map(str.strip).filter(bool)


def headers(lines: str | bytes) -> Headers:
    raw = lines.encode() if isinstance(lines, str) else lines
    return parse_headers(raw.decode("latin-1").split("\r\n"))


@given(KEYS)
def test_a_key_is_one_path_segment_and_survives(key: str) -> None:
    for target, depth in ((wire.xml_target("b", key, generation="5"), 2), (wire.json_target("b", key), 6)):
        path = urlsplit(f"http://h{target}").path
        assert target.isascii()
        assert " " not in target
        assert len(path.split("/")) == depth + 1
        assert unquote(path.split("/")[-1]) == key


@pytest.mark.parametrize("key", ["a b", "é", "100%", "x+y", "a//b", "/lead", "a/../b", "?#&=", "k" * 1024, "%2F", "\n"])
def test_awkward_keys(key: str) -> None:
    assert unquote(wire.xml_target("b", key).removeprefix("/b/")) == key


def test_targets() -> None:
    assert wire.xml_target("b") == "/b"
    assert wire.xml_target("b", flag="uploads", prefix="", max_uploads=3) == "/b?uploads&max-uploads=3"
    assert wire.xml_target("b", "k/l", partNumber=1, uploadId="a+b") == "/b/k%2Fl?partNumber=1&uploadId=a%2Bb"
    assert wire.json_target("b", fields="items(name)") == "/storage/v1/b/b/o?fields=items%28name%29"
    assert wire.json_target("b", upload=True, ifGenerationMatch="0") == "/upload/storage/v1/b/b/o?ifGenerationMatch=0"


@given(st.integers(0, 2**32 - 1))
def test_crc32c_round_trip(crc32c: int) -> None:
    text = wire.encode_crc32c(crc32c)
    assert wire.decode_crc32c(text) == crc32c
    assert wire.hash_crc32c(headers(f"x-goog-hash: md5=CS9tHYTtyFntzj7B9nkkJQ==, crc32c={text}")) == crc32c
    assert wire.hash_crc32c(headers(f"X-Goog-Hash: md5=x\r\nx-goog-hash: crc32c={text}")) == crc32c


def test_known_crc32c() -> None:
    # RFC 3720 B.4: 32 bytes of zeros.
    assert wire.encode_crc32c(0x8A9136AA) == "ipE2qg=="
    assert wire.hash_crc32c(headers("x-goog-hash: md5=x")) is None
    assert wire.hash_crc32c(headers("x-goog-hash: crc32c=AAAA")) is None
    assert wire.hash_crc32c(headers("x-goog-hash: crc32c=!")) is None


@given(
    st.builds(
        ObjectAttributes,
        content_type=ASCII,
        content_disposition=ASCII,
        content_language=ASCII,
        cache_control=ASCII,
        content_encoding=ASCII,
        metadata=st.dictionaries(TOKENS, ASCII, max_size=5),
    )
)
def test_plain_attributes_go_through_headers(attributes: ObjectAttributes) -> None:
    assert wire.fits_headers(attributes)
    lines = "\r\n".join(f"{name}: {value}" for name, value in wire.attribute_headers(attributes).items())
    assert wire.parse_attributes(headers(lines)) == attributes


@given(st.dictionaries(st.text(), st.text(), max_size=5), st.text())
def test_any_attributes_can_be_parked(metadata: dict[str, str], disposition: str) -> None:
    attributes = ObjectAttributes(content_disposition=disposition, metadata=metadata)
    ((name, value),) = wire.stash_headers(attributes).items()
    assert value.isascii()
    assert name == "x-goog-meta-skyplane-attributes"
    assert wire.unstash(value) == attributes


@pytest.mark.parametrize("value", ["", "%%%", "e30", "é", "bnVsbA=="])
def test_a_foreign_parked_value_is_a_value_error(value: str) -> None:
    with pytest.raises(ValueError):
        wire.unstash(value)


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": "é"},
        {"é": "a"},
        {"Upper": "a"},
        {"a": " a"},
        {"a": "a\t"},
        {"a": ""},
        {"a b": "c"},
        {"a/b": "c"},
        {"": "x"},
    ],
)
def test_what_headers_would_change_does_not_fit(metadata: dict[str, str]) -> None:
    assert not wire.fits_headers(ObjectAttributes(metadata=metadata))


def test_the_stored_encoding_counts_and_not_the_served_one() -> None:
    served = headers("Content-Encoding: gzip\r\nx-goog-stored-content-encoding: identity")
    assert wire.parse_attributes(served) == ObjectAttributes()
    stored = headers("x-goog-stored-content-encoding: gzip")
    assert wire.parse_attributes(stored) == ObjectAttributes(content_encoding="gzip")


@pytest.mark.parametrize("line", ["x-goog-meta-a: é", "x-goog-meta-é: a", "x-goog-meta-a b: c\r\nx-goog-meta-d: e"])
def test_headers_that_cannot_be_trusted(line: str) -> None:
    assert wire.parse_attributes(headers(line)) is None


def test_an_empty_metadata_value_is_kept() -> None:
    assert wire.parse_attributes(headers("x-goog-meta-a: ")) == ObjectAttributes(metadata={"a": ""})


def test_generation_match() -> None:
    assert wire.generation_match(Precondition()) == ""
    assert wire.generation_match(Precondition(absent=True)) == "0"
    assert wire.generation_match(Precondition(version="17")) == "17"


def test_listing_page() -> None:
    body = b"""{"kind": "storage#objects", "nextPageToken": "t", "items": [{"name": "a/\xc3\xa9", "size": "7",
    "generation": "1795222334004413", "metageneration": "1", "updated": "2026-11-21T00:00:00.500Z",
    "crc32c": "ipE2qg==", "contentType": "text/plain", "metadata": {"K": "v"}}]}"""
    page = wire.PAGE.decode(body)
    info = page.items[0].info()
    assert (info.key, info.size, info.version) == ("a/é", 7, "1795222334004413")
    assert info.crc32c == 0x8A9136AA
    assert info.modified == 1795219200.5
    assert info.attributes == ObjectAttributes(content_type="text/plain", metadata={"K": "v"})
    assert page.next_page_token == "t"
    assert msgspec.json.decode(b"{}", type=wire.JsonPage) == wire.JsonPage()


def test_json_upload_body() -> None:
    attributes = ObjectAttributes(content_type="text/plain", cache_control="no-cache", metadata={"ü": "é"})
    resource = wire.json_attributes(attributes)
    assert resource == {"contentType": "text/plain", "cacheControl": "no-cache", "metadata": {"ü": "é"}}
    body = wire.multipart_related("B", resource, memoryview(b"\r\n\x00"))
    first, second = body.split(b"\r\n--B\r\n")
    assert first.startswith(b"--B\r\nContent-Type: application/json")
    assert "é".encode() in first
    assert second == b"Content-Type: text/plain\r\n\r\n\r\n\x00\r\n--B--"
