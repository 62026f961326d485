"""Stores that answer with anything: errors of the tree, an end, and no more memory than an answer may occupy.

At the level of the store's own calls, over real sockets, whatever reads the answers behind them.
"""

from __future__ import annotations

import contextlib
import itertools
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.errors import SkyplaneError
from skyplane_core.model import Credentials, ObjectAttributes, ObjectInfo, Precondition, StoreConfig, StoredPart
from skyplane_core.stores.azure_wire import Block
from skyplane_core.stores.base import ObjectStore
from skyplane_core.stores.registry import open_store
from tests.fuzz.hostile_server import MOST_REQUESTS, HostileServer, answer
from tests.fuzz.mutation import corpus, effort, mutated

MIB = 1024 * 1024
UPLOAD = "0123456789abcdef0123"
PARTS = [StoredPart(1, '"0cc175b9c0f1b6a831c399e269772661"', 5, 0)]
BLOCKS = [StoredPart(1, Block(UPLOAD, 1, 0).id, 5, 0)]
VERSIONS = {"s3": 'etag:"x"', "gs": "17", "az": "0x8D"}


def scheme(store: ObjectStore) -> str:
    return store.uri.partition(":")[0]


def listed(store: ObjectStore) -> list[ObjectInfo]:
    found = list(store.list())
    assert all(info.size >= 0 for info in found)
    return found


def parts(store: ObjectStore) -> None:
    for part in store.list_parts("k", UPLOAD):
        assert part.number >= 0
        assert part.size >= 0


CALLS: dict[str, Callable[[ObjectStore], object]] = {
    "list": listed,
    "parts": parts,
    "uploads": lambda store: list(store.list_uploads()),
    "complete": lambda store: store.complete_upload(
        "k",
        UPLOAD,
        BLOCKS if scheme(store) == "az" else PARTS,
        size=5,
        crc32c=0,
        precondition=Precondition(version=VERSIONS[scheme(store)]),
    ),
    "initiate": lambda store: store.create_upload("k", ObjectAttributes()),
    "head": lambda store: store.head("k"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    running = HostileServer()
    yield running
    running.close()


@pytest.fixture(scope="module", params=["s3", "gcs", "azure"])
def store(request: pytest.FixtureRequest, server: HostileServer) -> Iterator[ObjectStore]:
    credentials = Credentials(access_key="a", secret_key="s") if request.param == "s3" else Credentials(token="t")
    bucket = "account/box" if request.param == "azure" else "b"
    config = StoreConfig(request.param, bucket, server.url, "r", path_style=True, credentials=credentials)
    opened = open_store(config)
    yield opened
    opened.close()


def tried(call: Callable[[ObjectStore], object], store: ObjectStore, server: HostileServer) -> None:
    with contextlib.suppress(SkyplaneError):
        call(store)
    assert server.requests < MOST_REQUESTS, "it would go on for ever"


@pytest.mark.parametrize("name", CALLS)
def test_bodies(name: str, store: ObjectStore, server: HostileServer) -> None:
    folder = FOLDERS[scheme(store)]
    suitable = [seed for seed in corpus(folder) if name in MARKS and MARKS[name] in seed] or corpus(folder)

    # What S3 calls a passing failure is tried again after a pause.
    @effort(30 if folder == "s3" else 80)
    @given(st.lists(mutated(suitable), min_size=1, max_size=3))
    def run(bodies: list[bytes]) -> None:
        server.say([answer(body, headers=HEADERS) for body in bodies])
        tried(CALLS[name], store, server)

    run()


FOLDERS = {"s3": "s3", "gs": "gcs", "az": "azure"}
MARKS = {"list": b"a", "parts": b"ListParts", "uploads": b"ListMultipart", "complete": b"Complete"}
HEADERS = (
    'ETag: "0cc175b9c0f1b6a831c399e269772661-1"', "Last-Modified: Fri, 02 Jan 2026 03:04:05 GMT",
    "x-goog-generation: 17", "x-goog-hash: crc32c=AAAAAA==", "x-amz-checksum-crc32c: AAAAAA==",
    "x-ms-content-crc64: AAAAAAAAAAA=",
)  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_whole_answers(name: str, server: HostileServer) -> None:
    """Heads as well. Not S3, where most of them are tried again after a pause."""
    store = open_store(StoreConfig("gcs", "b", server.url, credentials=Credentials(token="t")))

    @effort(80)
    @given(st.lists(mutated(corpus("answers")), min_size=1, max_size=3))
    def run(answers: list[bytes]) -> None:
        server.say(answers)
        tried(CALLS[name], store, server)

    run()
    store.close()


@pytest.mark.parametrize("missing", range(len(HEADERS)))
@pytest.mark.parametrize("name", ["head", "complete"])
def test_headers_that_are_missing_or_odd(name: str, missing: int, store: ObjectStore, server: HostileServer) -> None:
    body = corpus(FOLDERS[scheme(store)])[0]
    others = HEADERS[:missing] + HEADERS[missing + 1 :]
    odd = HEADERS[missing].partition(":")[0] + ": \xff,=;\x01"
    for headers in (others, (*others, odd)):
        server.say([answer(body, headers=headers)])
        tried(CALLS[name], store, server)


PAGES = {
    "s3": b"<ListBucketResult><IsTruncated>true</IsTruncated>"
    b"<NextContinuationToken>%d</NextContinuationToken></ListBucketResult>",
    "gs": b'{"nextPageToken":"%d"}',
    "az": b"<EnumerationResults><Blobs /><NextMarker>%d</NextMarker></EnumerationResults>",
}


def test_a_listing_of_nothing_has_an_end(store: ObjectStore, server: HostileServer) -> None:
    """Each page names another one and none holds an object."""
    page = PAGES[scheme(store)]
    server.say([b""])
    numbers = itertools.count()
    server.next = lambda _request: answer(page % next(numbers))
    with pytest.raises(SkyplaneError):
        list(store.list())
    assert server.requests < MOST_REQUESTS


def test_answers_that_do_not_end_take_no_memory(store: ObjectStore, server: HostileServer) -> None:
    huge = b'{"items":[' + b"[" * (32 * MIB)
    for form in (answer(huge), b"HTTP/1.1 200 OK\r\n\r\n" + huge, b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * (4 * MIB)):
        for call in CALLS.values():
            server.say([form])
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            with pytest.raises(SkyplaneError):
                call(store)
            peak = tracemalloc.get_traced_memory()[1] - before
            tracemalloc.stop()
            assert peak < 24 * MIB
