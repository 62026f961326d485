"""Names, metadata, checksums, block ids and documents of Azure, as values."""

from __future__ import annotations

import base64

import pytest
from awscrt.checksums import crc64nvme
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.errors import StoreRejected
from skyplane_core.model import ObjectAttributes, Precondition
from skyplane_core.spec import SOURCE_VERSION_KEY
from skyplane_core.stores import azure_wire as wire
from skyplane_core.stores import azure_xml as xml
from skyplane_core.stores.http_head import Headers

TOKENS = st.text("0123456789abcdef", min_size=20, max_size=20)


def test_crc64_is_what_the_service_computes() -> None:
    # What the service answered to a Put Blob of these bytes (recorded in the test suite of its JavaScript SDK).
    assert wire.encode_crc64(crc64nvme(b"Hello World")) == "YeJLfssylmU="


def test_md5_is_what_the_header_wants() -> None:
    assert wire.encode_md5(b"Hello World") == "sQqNsWTgdUEFt6mb5y4/5Q=="


@given(TOKENS, st.integers(0, 99_999), st.integers(0, 2**32 - 1))
def test_a_blocks_id_tells_what_it_is(token: str, number: int, crc32c: int) -> None:
    block = wire.Block(token, number, crc32c)
    assert wire.parse_block(block.id) == block
    assert len(block.id) == len(wire.Block("0" * 20, 1, 0).id) <= 88


@given(st.one_of(st.text(max_size=60), st.binary(max_size=64).map(lambda raw: base64.b64encode(raw).decode())))
def test_other_ids_are_none_of_ours(block_id: str) -> None:
    found = wire.parse_block(block_id)
    assert found is None or found.id == block_id


@given(
    st.builds(
        ObjectAttributes,
        content_type=st.text(max_size=10),
        metadata=st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3),
    )
)
def test_an_uploads_id_carries_its_attributes(attributes: ObjectAttributes) -> None:
    upload_id = wire.new_upload(attributes)
    assert wire.attributes_of(upload_id) == attributes
    assert wire.attributes_of(wire.token_of(upload_id)) == ObjectAttributes()
    assert wire.new_upload(attributes) != upload_id


@pytest.mark.parametrize("upload_id", ["", "x" * 20 + ".!", "x" * 20 + ".bm8=", "x" * 21])
def test_what_is_no_uploads_id(upload_id: str) -> None:
    if len(upload_id) <= 21:
        assert wire.attributes_of(upload_id) == ObjectAttributes()
    else:
        with pytest.raises(ValueError, match=r".+"):
            wire.attributes_of(upload_id)


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"a-b": "x"}, "'a-b' is not an identifier"),
        ({"1a": "x"}, "is not an identifier"),
        ({"": "x"}, "is not an identifier"),
        ({"ä": "x"}, "is not an identifier"),
        ({"a": "x", "A": "y"}, "twice, but for its case"),
        ({SOURCE_VERSION_KEY: "v", "skyplane_source": "w"}, "twice"),
        ({"a": ""}, "empty"),
    ],
)
def test_metadata_that_a_blob_cannot_have(metadata: dict[str, str], why: str) -> None:
    assert why in wire.unholdable(ObjectAttributes(metadata=metadata))
    with pytest.raises(StoreRejected) as caught:
        wire.attribute_headers(ObjectAttributes(metadata=metadata), "az://a/b/key")
    assert caught.value.where == "az://a/b/key"
    assert caught.value.next_step


@pytest.mark.parametrize("field", ["content_type", "cache_control", "content_disposition"])
def test_a_content_header_that_a_blob_cannot_have(field: str) -> None:
    assert "is not ASCII" in wire.unholdable(ObjectAttributes(**{field: 'attachment; filename="ü"'}))


IDENTIFIERS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
PRINTABLE = st.from_regex(r"[!-~]([ -~]{0,10}[!-~])?", fullmatch=True)


@given(st.dictionaries(IDENTIFIERS, VALUES, max_size=4), st.one_of(st.just(""), PRINTABLE))
def test_what_can_be_held_comes_back_as_it_went(metadata: dict[str, str], content_type: str) -> None:
    attributes = ObjectAttributes(content_type=content_type, metadata={**metadata, SOURCE_VERSION_KEY: "etag:1"})
    if wire.unholdable(attributes):
        lowered = [name.lower() for name in metadata]
        assert len(set(lowered)) < len(lowered) or "skyplane_source" in lowered
        return
    sent = wire.attribute_headers(attributes, "")
    assert all(value.isascii() and value.isprintable() for value in sent.values())
    assert all(name.isascii() and "-" not in name.removeprefix(wire.META) for name in sent if wire.META in name)
    answered = [(name.replace("x-ms-blob-content", "Content"), value) for name, value in sent.items()]
    answered = [(name.replace("x-ms-blob-Content", "Content"), value) for name, value in answered]
    assert wire.parse_attributes(Headers(answered)) == attributes
    listed = {name.removeprefix(wire.META): value for name, value in sent.items() if wire.META in name}
    assert wire.listed_attributes({"Content-Type": content_type}, listed) == attributes


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("./key", "dot"),
        ("a/../b", "dot"),
        ("key.", "dot"),
        ("a./b", "dot"),
        ("a\\b", "backslash"),
        ("a\nb", "control"),
        ("\x7f", "control"),
        ("k" * 1025, "1024 characters"),
        ("🛰" * 513, "1024 characters"),
        ("a/" * 254 + "a", "254 path segments"),
    ],
)
def test_names_that_azure_would_refuse_or_mix_up(key: str, why: str) -> None:
    with pytest.raises(StoreRejected, match=why):
        wire.check_key(key, f"az://a/b/{key}")


@pytest.mark.parametrize("key", ["k" * 1024, "🛰" * 512, "日" * 1024, ".hidden", "a..b", "a//b", "/a", "a/", "a b%?#"])
def test_names_that_azure_keeps(key: str) -> None:
    wire.check_key(key, "")


def test_conditions_quote_the_version() -> None:
    assert wire.condition_headers(Precondition()) == {}
    assert wire.condition_headers(Precondition(absent=True)) == {"If-None-Match": "*"}
    assert wire.condition_headers(Precondition(version="0x8D")) == {"If-Match": '"0x8D"'}
    assert wire.from_etag('"0x8D"') == wire.from_etag("0x8D") == "0x8D"


def test_a_page_with_all_that_it_may_hold() -> None:
    page = xml.parse_page(
        "\ufeff".encode()
        + b"""<?xml version="1.0" encoding="utf-8"?>
        <EnumerationResults ServiceEndpoint="https://a.blob.core.windows.net/" ContainerName="box"><Blobs>
        <Blob><Name>a&amp;b</Name><Properties><Etag>0x8D</Etag><Content-Length>3</Content-Length><Content-Type />
        </Properties><Metadata><Owner>me</Owner><empty /></Metadata><OrMetadata /></Blob>
        <Blob><Name Encoded="true">odd%EF%BF%BE%2F%25</Name><Properties /></Blob>
        <BlobPrefix><Name>dir/</Name></BlobPrefix>
        </Blobs><NextMarker>2!92!x</NextMarker></EnumerationResults>"""
    )
    assert page.next_marker == "2!92!x"
    assert [(entry.name, entry.directory) for entry in page.entries] == [
        ("a&b", False),
        ("odd\ufffe/%", False),
        ("dir/", True),
    ]
    assert page.entries[0].properties == {"Etag": "0x8D", "Content-Length": "3", "Content-Type": ""}
    assert page.entries[0].metadata == {"Owner": "me", "empty": ""}


def test_block_lists() -> None:
    listed = xml.parse_block_list(
        b"<BlockList><CommittedBlocks /><UncommittedBlocks><Block><Name>QQ==</Name><Size>5</Size></Block>"
        b"</UncommittedBlocks></BlockList>"
    )
    assert listed == xml.BlockList([], [("QQ==", 5)])
    built = xml.build_block_list(["QQ==", "Qg=="])
    assert b"<BlockList><Uncommitted>QQ==</Uncommitted><Uncommitted>Qg==</Uncommitted></BlockList>" in built


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<BlockList>",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><BlockList />",
        b"<Other />",
        b"<BlockList><CommittedBlocks><Block><Name>QQ==</Name></Block></CommittedBlocks></BlockList>",
        b"<BlockList><CommittedBlocks><Block><Size>-1</Size></Block></CommittedBlocks></BlockList>",
        "<BlockList />".encode("utf-16"),
    ],
)
def test_what_is_no_block_list(document: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        xml.parse_block_list(document)


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_document_or_a_value_error(document: bytes) -> None:
    for parse in (xml.parse_page, xml.parse_block_list):
        try:
            parse(document)
        except ValueError:
            continue
    assert xml.parse_error(document) is None
