"""S3's documents: any key survives, and bytes from a server that means harm raise what they should."""

from __future__ import annotations

import datetime
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.model import ObjectInfo, StoredPart
from skyplane_core.stores import s3_page, s3_xml
from skyplane_core.stores.s3_version import encode_crc32c

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
PARTS = st.lists(
    st.builds(
        StoredPart,
        number=st.integers(1, 10_000),
        part_id=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40),
        size=st.just(0),
        crc32c=st.none() | st.integers(0, 2**32 - 1),
    ),
    max_size=20,
)


def listing(entries: list[str], extra: str = "", *, namespace: str = s3_xml._NAMESPACE, blank: str = "") -> bytes:
    declared = f' xmlns="{namespace}"' if namespace else ""
    body = blank.join([f"<Name>b</Name>{extra}", *entries])
    return f"<?xml version='1.0' encoding='UTF-8'?>\n<ListBucketResult{declared}>{body}</ListBucketResult>".encode()


def entry(key: str, size: object = 7, modified: str = "2026-11-21T00:00:00.500Z") -> str:
    return (
        f"<Contents>\n<Key>{key}</Key>\n <LastModified>{modified}</LastModified><ETag>&quot;e&quot;</ETag>"
        f"<Size>{size}</Size><Owner><ID>id</ID><DisplayName/></Owner><StorageClass>STANDARD</StorageClass></Contents>"
    )


@given(
    keys=st.lists(KEYS, max_size=10),
    encode=st.sampled_from([quote_plus, quote, lambda key: quote(key, safe="")]),
    namespace=st.sampled_from([s3_xml._NAMESPACE, "urn:other", ""]),
    blank=st.sampled_from(["", "\n  "]),
    declared_first=st.booleans(),
)
def test_any_key_survives_a_listing(
    keys: list[str],
    encode: object,
    namespace: str,
    blank: str,
    declared_first: bool,
) -> None:
    assert callable(encode)
    entries = [entry(encode(key)) for key in keys]
    encoding = "<EncodingType>url</EncodingType>"
    document, found = s3_page.read(
        listing(
            entries if declared_first else [*entries, encoding],
            encoding if declared_first else "",
            namespace=namespace,
            blank=blank,
        )
    )
    assert [info.key for info in found] == keys
    assert not document.truncated


def test_an_object_on_a_page() -> None:
    page = listing([entry("a/b")])
    seconds = datetime.datetime(2026, 11, 21, tzinfo=datetime.timezone.utc).timestamp() + 0.5
    assert s3_page.read(page)[1] == [ObjectInfo("a/b", 7, 'etag:"e"', seconds)]


@given(
    st.text(
        st.characters(
            exclude_categories=["Cs"],
            exclude_characters="\r\ufffe\uffff" + "".join(map(chr, [*range(9), *range(11, 32)])),
        ),
        min_size=1,
    )
)
def test_a_server_that_encodes_nothing_sends_keys_as_they_are(key: str) -> None:
    assert s3_page.read(listing([entry(escape(key))]))[1][0].key == key


@given(PARTS)
def test_a_completion_names_each_part_with_its_checksum(parts: list[StoredPart]) -> None:
    sent = s3_xml.read(s3_xml.completion(parts), "CompleteMultipartUpload", "Part").rows
    assert [(row["PartNumber"], row["ETag"], row.get("ChecksumCRC32C")) for row in sent] == [
        (str(part.number), part.part_id, None if part.crc32c is None else encode_crc32c(part.crc32c)) for part in parts
    ]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"   ",
        b"<",
        b"<html><body>no</body></html>",
        b"<Error><Code>InternalError</Code></Error>",
        b"<!DOCTYPE html><html></html>",
        b'<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><ListBucketResult>&b;</ListBucketResult>',
        b'<!DOCTYPE r SYSTEM "file:///etc/passwd"><ListBucketResult/>',
        b"<ListBucketResult>&entity;</ListBucketResult>",
        b"<ListBucketResult><Contents></ListBucketResult>",
        b"<ListBucketResult></ListBucketResult>trailing",
        b"<ListBucketResult>\x01</ListBucketResult>",
        b"<ListBucketResult>\xff</ListBucketResult>",
        "<ListBucketResult/>".encode("utf-16"),
        "<!DOCTYPE r []><ListBucketResult/>".encode("utf-16-le"),
        "<!DOCTYPE r []><ListBucketResult/>".encode("utf-16-be"),
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE r [<!ENTITY a "b">]><ListBucketResult/>'.encode("utf-16"),
        b"<ListBucketResult>" * 50_000,
    ],
)
def test_what_is_no_listing(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        s3_xml.read(document, "ListBucketResult", "Contents")


def test_depth_costs_no_stack() -> None:
    deep = b"<a>" * 100_000 + b"</a>" * 100_000
    assert s3_xml.read(b"<R>" + deep + b"</R>", "R").fields == {"a": ""}


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_read(document: bytes) -> None:
    try:
        s3_xml.read(document, "R", "r")
    except ValueError:
        return


@given(st.data())
def test_a_damaged_page_is_refused_or_read(data: st.DataObject) -> None:
    whole = bytearray(listing([entry("a%20b"), entry("c")], "<EncodingType>url</EncodingType>"))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    try:
        s3_page.read(bytes(whole[:cut]))
    except ValueError:
        return


def usual(key: str, etag: str = "&quot;0123abc-2&quot;", size: object = 7) -> str:
    return (
        f"<Contents><Key>{key}</Key><LastModified>2026-11-21T00:00:00.500Z</LastModified><ETag>{etag}</ETag>"
        f"<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>{size}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )


@given(
    st.lists(
        st.builds(
            usual,
            KEYS.map(quote) | KEYS.map(escape) | KEYS,
            st.sampled_from(["&quot;ab-1&quot;", '"ab"', "ab", '"', '"ab', "&amp;", ""]),
            st.integers(-1, 10**19) | st.sampled_from(["", "1 ", "\u0661"]),
        )
        | st.sampled_from([entry("x"), "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>", " ", "<Contents/>"]),
        max_size=6,
    ),
    st.sampled_from(["<EncodingType>url</EncodingType>", ""]),
)
def test_the_short_way_reads_what_the_parser_reads(entries: list[str], extra: str) -> None:
    page = listing(entries, extra)
    try:
        expected = s3_page.parsed(page)[1]
    except ValueError:
        with pytest.raises(ValueError, match=r"\w"):
            s3_page.read(page)
    else:
        assert s3_page.read(page)[1] == expected


@given(st.data())
def test_a_damaged_page_is_read_alike_in_both_ways(data: st.DataObject) -> None:
    whole = bytearray(listing([usual("a%20b"), usual("c")], "<EncodingType>url</EncodingType>"))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.sampled_from(b'<>/&;"%+0Kx\0 \xff'))
    try:
        expected = s3_page.parsed(bytes(whole))
    except ValueError:
        with pytest.raises(ValueError, match=r"\w"):
            s3_page.read(bytes(whole))
    else:
        document, found = s3_page.read(bytes(whole))
        assert (document.truncated, found) == (expected[0].truncated, expected[1])


@pytest.mark.parametrize(
    "bad",
    [
        entry("k", size=""),
        entry("k", size="-1"),
        entry("k", size="9" * 30),
        entry("k", size="\u0661"),
        entry("k", modified="yesterday"),
        entry("%FF"),
        "<Contents><Key>k</Key></Contents>",
        "<Contents/>",
    ],
)
def test_an_object_that_cannot_be_read(bad: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        s3_page.read(listing([bad], "<EncodingType>url</EncodingType>"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T00:00:01.250Z", 1.25),
        ("1970-01-01T00:00:01", 1.0),
        ("1970-01-01T01:00:01+01:00", 1.0),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert s3_xml.moment(text) == seconds
