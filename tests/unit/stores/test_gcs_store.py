"""The store's behaviour where the documentation of GCS leaves one way to do it: multipart, attestation, repetition."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from awscrt.checksums import crc32c

from skyplane_core.errors import (
    ChecksumMismatch,
    PreconditionFailed,
    SourceChanged,
    StoreRejected,
    StoreUnavailable,
    UploadNotFound,
)
from skyplane_core.model import (
    Attestation,
    Credentials,
    ObjectAttributes,
    Precondition,
    StoreConfig,
    Stored,
    StoredPart,
)
from skyplane_core.stores import base, gcs, gcs_calls, gcs_data, gcs_upload
from skyplane_core.stores.gcs_wire import encode_crc32c
from skyplane_core.stores.http_data import ANSWER_LIMIT, Answer, Request
from skyplane_core.stores.http_head import Headers
from tests.unit.stores.gcs_memory import Memory, message, xml_answer

DATA = b"0123456789abcdef"
PLAIN = ObjectAttributes(content_type="text/plain", metadata={"a": "b"})
RICH = ObjectAttributes(content_disposition="attachment; filename=é", metadata={"ü": "é", "Upper": " x "})
ANY = Precondition()


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    memory = Memory()
    for module in (gcs_calls, gcs_data, gcs_upload):
        monkeypatch.setattr(module, "open_http", lambda *_arguments: memory)
    return memory


@pytest.fixture
def store(memory: Memory) -> Iterator[gcs.GcsStore]:
    config = StoreConfig(
        kind="gcs", bucket="b", project="p", requester_pays=True, credentials=Credentials(token="secret")
    )
    store = gcs.open_store(config)
    yield store
    store.close()
    for request in memory.log:
        assert request.headers["Authorization"] == "Bearer secret"
        assert request.headers["x-goog-user-project"] == "p"


def upload(store: gcs.GcsStore, key: str = "k/é", attributes: ObjectAttributes = PLAIN) -> tuple[str, list[StoredPart]]:
    upload_id = store.create_upload(key, attributes)
    path = store.data()
    pieces = [DATA[:6], DATA[6:12], DATA[12:]]
    parts = [
        path.put_part(key, upload_id, number, 0, memoryview(piece), crc32c=crc32c(piece))
        for number, piece in enumerate(pieces, 1)
    ]
    path.close()
    return upload_id, parts


def complete(
    store: gcs.GcsStore,
    upload_id: str,
    parts: list[StoredPart],
    precondition: Precondition = ANY,
    checksum: int | None = None,
) -> Stored:
    checksum = crc32c(DATA) if checksum is None else checksum
    return store.complete_upload("k/é", upload_id, parts, size=len(DATA), crc32c=checksum, precondition=precondition)


def test_it_is_an_object_store(store: gcs.GcsStore) -> None:
    assert isinstance(store, base.ObjectStore)
    assert isinstance(store.data(), base.DataPath)
    assert store.uri == "gs://b"
    assert not store.capabilities.conditional_complete


@pytest.mark.parametrize("generation_in_complete", [True, False])
@pytest.mark.parametrize("attributes", [PLAIN, RICH, ObjectAttributes()])
def test_multipart(
    store: gcs.GcsStore, memory: Memory, attributes: ObjectAttributes, generation_in_complete: bool
) -> None:
    memory.generation_in_complete = generation_in_complete
    upload_id, parts = upload(store, attributes=attributes)
    listed = list(store.list_parts("k/é", upload_id))
    assert [(part.number, part.part_id, part.size) for part in listed] == [(p.number, p.part_id, p.size) for p in parts]
    assert "k/é" not in memory.objects
    stored = complete(store, upload_id, listed[::-1])
    assert stored == Stored(str(memory.objects["k/é"].generation), len(DATA), crc32c(DATA), Attestation.WHOLE)
    assert memory.objects["k/é"].data == DATA
    assert store.head("k/é").attributes == attributes
    assert complete(store, upload_id, parts) == stored
    with pytest.raises(UploadNotFound):
        list(store.list_parts("k/é", upload_id))
    store.abort_upload("k/é", upload_id)
    assert store.head("k/é").version == stored.version


@pytest.mark.parametrize("precondition", [Precondition(absent=True), Precondition(version="1700000000000001")])
def test_completing_again_with_a_precondition_returns_the_same(
    store: gcs.GcsStore, memory: Memory, precondition: Precondition
) -> None:
    if precondition.version:
        memory.put("k/é", b"before")
    upload_id, parts = upload(store)
    stored = complete(store, upload_id, parts, precondition)
    assert complete(store, upload_id, parts, precondition) == stored


@pytest.mark.parametrize("precondition", [Precondition(absent=True), Precondition(version="17")])
@pytest.mark.parametrize("existing", [b"other", DATA])
def test_a_precondition_that_does_not_hold(
    store: gcs.GcsStore, memory: Memory, precondition: Precondition, existing: bytes
) -> None:
    memory.put("k/é", existing)
    upload_id, parts = upload(store)
    with pytest.raises(PreconditionFailed, match="gs://b/k/é"):
        complete(store, upload_id, parts, precondition)
    assert memory.objects["k/é"].data == existing
    assert list(store.list_uploads()) == [("k/é", upload_id)]


def test_a_lost_answer_that_left_attributes_parked_is_made_good(store: gcs.GcsStore, memory: Memory) -> None:
    upload_id, parts = upload(store, attributes=RICH)

    def lose_completion(request: Request, answer: Answer) -> Answer:
        if request.method == "POST":
            raise StoreUnavailable("lost", why="reset")
        return answer

    memory.tamper = lose_completion
    with pytest.raises(StoreUnavailable, match="gs://b/k/é"):
        complete(store, upload_id, parts)
    memory.tamper = lambda _request, answer: answer
    assert complete(store, upload_id, parts).attestation is Attestation.WHOLE
    assert store.head("k/é").attributes == RICH


def test_a_checksum_that_is_not_ours_deletes_exactly_what_we_wrote(store: gcs.GcsStore, memory: Memory) -> None:
    upload_id, parts = upload(store)
    with pytest.raises(ChecksumMismatch, match="was deleted"):
        complete(store, upload_id, parts, checksum=1)
    assert memory.deleted == [("k/é", "1700000000000001")]


@pytest.mark.parametrize("generation_in_complete", [True, False])
def test_somebody_elses_object_is_never_deleted(
    store: gcs.GcsStore, memory: Memory, generation_in_complete: bool
) -> None:
    memory.generation_in_complete = generation_in_complete
    memory.on_complete = lambda key: memory.put(key, b"theirs")
    upload_id, parts = upload(store)
    with pytest.raises(PreconditionFailed):
        complete(store, upload_id, parts)
    assert memory.objects["k/é"].data == b"theirs"
    assert not memory.deleted


def test_parts_must_add_up(store: gcs.GcsStore, memory: Memory) -> None:
    upload_id, parts = upload(store)
    with pytest.raises(StoreRejected, match="add up"):
        complete(store, upload_id, parts[:2])
    assert not memory.objects


def test_an_error_inside_a_successful_completion_is_an_error(store: gcs.GcsStore, memory: Memory) -> None:
    upload_id, parts = upload(store)
    memory.tamper = lambda request, answer: (
        xml_answer("Error", "<Code>InternalError</Code>") if request.method == "POST" else answer
    )
    with pytest.raises(StoreUnavailable, match="InternalError"):
        complete(store, upload_id, parts)


def test_uploads_are_listed_page_by_page_and_aborted(store: gcs.GcsStore) -> None:
    ids = [(key, store.create_upload(key, PLAIN)) for key in ("a/1", "a/2", "a/<&", "b", "a/1")]
    assert list(store.list_uploads("a/")) == sorted(item for item in ids if item[0] != "b")
    for key, upload_id in ids:
        store.abort_upload(key, upload_id)
        store.abort_upload(key, upload_id)
    assert list(store.list_uploads()) == []
    path = store.data()
    with pytest.raises(UploadNotFound):
        path.put_part("b", ids[3][1], 1, 0, memoryview(b"x"), crc32c=crc32c(b"x"))


def test_a_page_that_leads_back_is_refused(store: gcs.GcsStore, memory: Memory) -> None:
    upload_id, _ = upload(store)
    again = "<IsTruncated>true</IsTruncated><NextPartNumberMarker>0</NextPartNumberMarker>"
    memory.tamper = lambda _request, _answer: xml_answer("ListPartsResult", again)
    with pytest.raises(StoreUnavailable, match="not after"):
        list(store.list_parts("k/é", upload_id))


@pytest.mark.parametrize("attributes", [PLAIN, RICH])
def test_put_object(store: gcs.GcsStore, memory: Memory, attributes: ObjectAttributes) -> None:
    path = store.data()

    def put(data: bytes, precondition: Precondition, checksum: int | None = None) -> Stored:
        checksum = crc32c(data) if checksum is None else checksum
        return path.put_object("k", memoryview(data), crc32c=checksum, attributes=attributes, precondition=precondition)

    stored = put(DATA, Precondition(absent=True))
    assert stored == Stored(str(memory.objects["k"].generation), len(DATA), crc32c(DATA), Attestation.WHOLE)
    assert store.head("k").attributes == attributes
    buffer = bytearray(4)
    result = path.read_into("k", stored.version, 2, memoryview(buffer))
    assert bytes(buffer) == DATA[2:6]
    assert result == base.ReadResult(attributes, crc32c(DATA))
    assert path.read_into("k", stored.version, 0, memoryview(bytearray())) == result
    with pytest.raises(PreconditionFailed):
        put(b"new", Precondition(absent=True))
    with pytest.raises(ChecksumMismatch):
        put(b"new", ANY, checksum=1)
    assert put(b"new", Precondition(version=stored.version)).version != stored.version
    with pytest.raises(SourceChanged):
        path.read_into("k", stored.version, 0, memoryview(buffer))


def test_a_put_whose_answer_names_another_checksum_is_undone(store: gcs.GcsStore, memory: Memory) -> None:
    def lie(request: Request, answer: Answer) -> Answer:
        if request.method == "PUT":
            others = [line for line in answer.headers.items() if line[0] != "x-goog-hash"]
            lied = Headers([*others, ("x-goog-hash", f"crc32c={encode_crc32c(7)}")])
            return answer._replace(headers=lied)
        return answer

    memory.tamper = lie
    path = store.data()
    with pytest.raises(ChecksumMismatch, match="00000007"):
        path.put_object("k", memoryview(DATA), crc32c=crc32c(DATA), attributes=PLAIN, precondition=ANY)
    assert "k" not in memory.objects
    assert memory.deleted == [("k", "1700000000000001")]


def test_a_gzip_object_is_read_as_it_is_stored(store: gcs.GcsStore, memory: Memory) -> None:
    stored = memory.put("k", DATA, {"contentEncoding": "gzip"})
    path = store.data()
    buffer = bytearray(len(DATA))
    assert path.read_into("k", str(stored.generation), 0, memoryview(buffer)).attributes.content_encoding == "gzip"
    assert bytes(buffer) == DATA


CHANGES = {
    "unpacked on the way": ({"x-goog-stored-content-encoding": "gzip"}, StoreRejected),
    "packed on the way": ({"Content-Encoding": "gzip"}, StoreRejected),
    "another range": ({"Content-Range": "bytes 0-3/16"}, StoreUnavailable),
    "another generation": ({"x-goog-generation": "5"}, SourceChanged),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_answer_about_other_bytes_is_refused(store: gcs.GcsStore, memory: Memory, name: str) -> None:
    change, kind = CHANGES[name]
    stored = memory.put("k", DATA)

    def tamper(_request: Request, answer: Answer) -> Answer:
        headers = {**dict(answer.headers.items()), **change}
        return answer._replace(headers=message(headers))

    memory.tamper = tamper
    with pytest.raises(kind):
        store.data().read_into("k", str(stored.generation), 4, memoryview(bytearray(4)))


def test_a_server_without_ranges_is_refused(store: gcs.GcsStore, memory: Memory) -> None:
    stored = memory.put("k", DATA)
    memory.tamper = lambda _request, answer: answer._replace(status=200)
    with pytest.raises(StoreUnavailable, match="range"):
        store.data().read_into("k", str(stored.generation), 4, memoryview(bytearray(4)))


def test_a_page_too_big_to_keep_is_asked_for_in_smaller_ones(store: gcs.GcsStore, memory: Memory) -> None:
    def page(request: Request, _answer: Answer) -> Answer:
        if "maxResults=1000" in request.target:
            return Answer(200, message({}), b"{" * ANSWER_LIMIT)
        return Answer(200, message({}), b'{"items": [{"name": "k", "generation": "1"}]}')

    memory.tamper = page
    assert [info.key for info in store.list()] == ["k"]
    assert "maxResults=250" in memory.log[1].target
