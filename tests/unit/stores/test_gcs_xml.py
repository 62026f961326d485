"""Documents of XML multipart uploads: round trips, and bytes from a server that means harm."""

from __future__ import annotations

import time
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.model import StoredPart
from skyplane_core.stores import gcs_xml as xml

NAMESPACES = ("http://s3.amazonaws.com/doc/2006-03-01/", "http://doc.s3.amazonaws.com/2006-03-01", "")
# What XML 1.0 can hold; a literal CR becomes LF in every XML parser.
TEXT = st.text(
    st.characters(
        exclude_categories=["Cs"],
        exclude_characters="\r\ufffe\uffff" + "".join(map(chr, [*range(9), 11, 12, *range(14, 32)])),
    )
)
PARTS = st.lists(
    st.builds(StoredPart, number=st.integers(1, 10_000), part_id=TEXT, size=st.integers(0, 5 * 2**40)), max_size=20
)


def document(root: str, body: str, namespace: str = "") -> bytes:
    declared = f' xmlns="{namespace}"' if namespace else ""
    return f"<?xml version='1.0' encoding='UTF-8'?>\n<{root}{declared}>{body}</{root}>".encode()


@given(PARTS, st.sampled_from(NAMESPACES))
def test_parts_page_round_trip(parts: list[StoredPart], namespace: str) -> None:
    body = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><LastModified>2026-11-21T00:00:00.000Z</LastModified>"
        f"<ETag>{escape(part.part_id)}</ETag><Size>{part.size}</Size></Part>"
        for part in parts
    )
    page = xml.parse_parts(document("ListPartsResult", f"<IsTruncated>false</IsTruncated>{body}", namespace))
    assert page == xml.PartsPage(parts, None)


@given(PARTS)
def test_complete_lists_parts_in_order_with_their_etags(parts: list[StoredPart]) -> None:
    root = xml._parse(xml.build_complete(parts), "CompleteMultipartUpload")
    sent = [(int(item.get("PartNumber")), item.get("ETag")) for item in root.all("Part")]
    assert sent == [(part.number, part.part_id) for part in sorted(parts, key=lambda part: part.number)]


@given(st.lists(st.tuples(TEXT, TEXT), max_size=20), TEXT.filter(bool), TEXT)
def test_uploads_page_round_trip(uploads: list[tuple[str, str]], next_key: str, next_upload: str) -> None:
    body = "".join(f"<Upload><Key>{escape(k)}</Key><UploadId>{escape(u)}</UploadId></Upload>" for k, u in uploads)
    last = xml.parse_uploads(document("ListMultipartUploadsResult", body))
    assert last == xml.UploadsPage(uploads, "", "")
    markers = f"<NextKeyMarker>{escape(next_key)}</NextKeyMarker>"
    markers += f"<NextUploadIdMarker>{escape(next_upload)}</NextUploadIdMarker>"
    more = xml.parse_uploads(document("ListMultipartUploadsResult", f"<IsTruncated>true</IsTruncated>{markers}{body}"))
    assert more == xml.UploadsPage(uploads, next_key, next_upload)


def test_names_that_xml_cannot_hold() -> None:
    raw = document("InitiateMultipartUploadResult", "<Key>a\x01b</Key><UploadId>id</UploadId>")
    assert xml.parse_initiate(raw) == "id"
    with pytest.raises(ValueError, match="not XML"):
        xml.parse_uploads(document("ListMultipartUploadsResult", "<Upload><Key>a\x01</Key></Upload>"))
    encoded = "<EncodingType>url</EncodingType><Upload><Key>a%01+%2B%20</Key><UploadId>id</UploadId></Upload>"
    assert xml.parse_uploads(document("ListMultipartUploadsResult", encoded)).uploads == [("a\x01++ ", "id")]


@given(TEXT.filter(bool))
def test_upload_id(upload_id: str) -> None:
    body = f"<Bucket>b</Bucket><Key>k</Key><UploadId>{escape(upload_id)}</UploadId>"
    assert xml.parse_initiate(document("InitiateMultipartUploadResult", body, NAMESPACES[0])) == upload_id


def test_error_document() -> None:
    body = "<Code>NoSuchKey</Code><Message>The specified key does not exist.</Message>"
    body += "<Details>No such object: b/k</Details>"
    found = xml.parse_error(document("Error", body))
    assert found == xml.XmlError("NoSuchKey", "The specified key does not exist. No such object: b/k")
    assert xml.parse_error(b"") is None
    assert xml.parse_error(b"{}") is None
    assert xml.parse_error(document("ListPartsResult", "")) is None


def test_a_truncated_page_must_name_the_next_one() -> None:
    with pytest.raises(ValueError, match="not a number"):
        xml.parse_parts(document("ListPartsResult", "<IsTruncated>true</IsTruncated>"))
    with pytest.raises(ValueError, match="no next page"):
        xml.parse_uploads(document("ListMultipartUploadsResult", "<IsTruncated>true</IsTruncated>"))


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
HOSTILE = {
    "billion laughs": f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]><Error><Code>&l9;</Code></Error>'.encode(),
    "external entity": b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><Error><Code>&e;</Code></Error>',
    "doctype in UTF-16": '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE x []><Error/>'.encode("utf-16"),
    "undefined entity": b"<Error><Code>&nothing;</Code></Error>",
    "deep": b"<Error>" + b"<a>" * 100_000,
    "wide": b"<Error>" + b"<a/>" * 100_000 + b"</Error>",
    "huge": b"<Error>" + b" " * xml.MAX_BYTES + b"</Error>",
    "cut": b"<Error><Code>NoSuch",
    "empty": b"",
    "two roots": b"<Error/><Error/>",
    "not UTF-8": b"<Error>\xff</Error>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_are_refused_quickly(name: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError):
        xml._parse(HOSTILE[name], "Error")
    assert time.process_time() - started < 1


@given(st.binary(max_size=300))
def test_any_bytes_raise_only_value_error(data: bytes) -> None:
    for parse in (xml.parse_initiate, xml.parse_complete, xml.parse_parts, xml.parse_uploads):
        for document_bytes in (data, b"<ListPartsResult>" + data + b"</ListPartsResult>"):
            try:
                parse(document_bytes)
            except ValueError:
                continue


@pytest.mark.parametrize("number", ["-1", "+1", "1.5", "", "9" * 19, "٣", "0x1"])
def test_numbers_are_plain_and_bounded(number: str) -> None:
    body = f"<Part><PartNumber>{number}</PartNumber><ETag>e</ETag><Size>1</Size></Part>"
    with pytest.raises(ValueError, match="not a number"):
        xml.parse_parts(document("ListPartsResult", body))
