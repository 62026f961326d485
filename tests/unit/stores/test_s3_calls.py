"""Which failures of a control call are tried again, and what listings make of odd pages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.errors import (
    BucketNotFound,
    ObjectNotFound,
    StoreError,
    StoreRejected,
    StoreUnavailable,
    Throttled,
    Unauthenticated,
)
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.stores.s3 import open_store
from skyplane_core.stores.s3_calls import ATTEMPTS, MAX_PAUSE, S3Calls, pause
from skyplane_core.stores.s3_head import head
from skyplane_core.stores.s3_listing import list_pages, list_parts, list_uploads
from tests.servers.answers import Answers, answer

CHANCE = st.floats(0, 1, exclude_max=True)


@given(CHANCE, st.none() | st.floats(0, 1e9))
def test_passing_failures_are_tried_again_a_few_times(chance: float, retry_after: float | None) -> None:
    error = Throttled("slow down", retry_after=retry_after)
    waits = [pause(error, 503, attempt, chance) for attempt in range(1, ATTEMPTS + 1)]
    assert waits[-1] is None
    for attempt, wait in enumerate(waits[:-1], 1):
        assert wait is not None
        assert min(retry_after or 0.0, MAX_PAUSE) <= wait <= MAX_PAUSE
        assert wait >= chance * 2 ** (attempt - 1)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StoreRejected("no"), 400),
        (ObjectNotFound("gone"), 404),
        (Unauthenticated("who"), 403),
        (StoreUnavailable("in conflict"), 409),
    ],
)
def test_what_repeating_cannot_mend(error: StoreError, status: int) -> None:
    assert pause(error, status, 1, 0.5) is None


@contextlib.contextmanager
def calling(*told: bytes, waits: list[float] | None = None, **config: object) -> Iterator[tuple[S3Calls, Answers]]:
    """Calls on a server that gives these answers, where nobody waits (``waits`` notes for how long)."""
    answers = Answers(*told)
    with answers.serving() as url:
        calls = S3Calls(
            StoreConfig("s3", "b", endpoint_url=url, credentials=Credentials("AK", "SK"), **config),  # type: ignore[arg-type]
            sleep=(waits if waits is not None else []).append,
        )
        try:
            yield calls, answers
        finally:
            calls.close()


def test_a_throttled_call_waits_and_succeeds() -> None:
    waits: list[float] = []
    slow = answer(503, {"Retry-After": "7"}, b"<Error><Code>SlowDown</Code></Error>")
    with calling(slow, b"", answer(200), waits=waits) as (calls, answers):
        assert calls.send("HEAD", "k").status == 200
    assert waits[0] == 7
    assert len(waits) == 2
    assert [head.split(" HTTP")[0] for head in answers.heads] == ["HEAD /b/k"] * 3


def test_each_attempt_is_no_more_than_the_limit() -> None:
    with calling(*[answer(500)] * ATTEMPTS) as (calls, _), pytest.raises(StoreUnavailable, match=r"s3://b/k.*500"):
        calls.send("GET", "k")


def test_no_answer_names_the_endpoint_and_the_object() -> None:
    with calling(*[b""] * ATTEMPTS) as (calls, _), pytest.raises(StoreUnavailable, match=r"s3://b/k.*127\.0\.0\.1"):
        calls.send("GET", "k")


def test_a_refusal_is_not_repeated() -> None:
    refusal = answer(403, {}, b"<Error><Code>RequestTimeTooSkewed</Code><Message>late</Message></Error>")
    with calling(refusal) as (calls, _), pytest.raises(Unauthenticated, match="clock") as caught:
        calls.send("GET", "k")
    assert "late" in caught.value.why


def test_another_region_is_named() -> None:
    moved = answer(301, {"x-amz-bucket-region": "eu-west-3"})
    with calling(moved, region="us-east-1") as (calls, _), pytest.raises(StoreRejected, match="eu-west-3"):
        calls.send("HEAD")


def test_what_a_request_carries() -> None:
    with calling(answer(200), requester_pays=True) as (calls, answers):
        calls.send("POST", "a b", query={"uploadId": "u/+"}, body=b"<x/>")
    sent = answers.heads[0].lower()
    assert sent.startswith("post /b/a%20b?uploadid=u%2f%2b http/1.1")
    assert "x-amz-request-payer: requester" in sent
    assert "credential=ak/" in sent
    assert answers.bodies == [b"<x/>"]


def test_nobody_signs_without_credentials() -> None:
    answers = Answers(answer(200))
    with answers.serving() as url:
        calls = S3Calls(StoreConfig("s3", "b", endpoint_url=url))
        calls.send("HEAD")
        calls.close()
    assert "authorization" not in answers.heads[0].lower()


def page(root: str, body: str) -> bytes:
    return answer(200, {}, f"<{root}>{body}</{root}>".encode())


def entry(key: str) -> str:
    return (
        f"<Contents><Key>{key}</Key><Size>1</Size><ETag>e</ETag>"
        "<LastModified>2026-11-21T00:00:00.000Z</LastModified></Contents>"
    )


def test_pages_follow_each_other() -> None:
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t/+=</NextContinuationToken>"
    with calling(page("ListBucketResult", more + entry("a")), page("ListBucketResult", entry("b"))) as (calls, answers):
        assert [info.key for page in list_pages(calls, "p ", delimiter="/") for info in page.objects] == ["a", "b"]
    assert "delimiter=%2F&encoding-type=url&list-type=2&max-keys=1000&prefix=p%20" in answers.heads[0]
    assert "continuation-token=t%2F%2B%3D" in answers.heads[1]


def test_a_page_that_is_too_long_is_asked_for_in_pieces() -> None:
    long = page("ListBucketResult", entry("a" * 2**20))
    with calling(long, page("ListBucketResult", entry("a"))) as (calls, answers):
        assert [info.key for page in list_pages(calls) for info in page.objects] == ["a"]
    assert "max-keys=250" in answers.heads[1]


@pytest.mark.parametrize("body", ["<IsTruncated>true</IsTruncated>", "<Contents/>", entry("a").replace("1<", "x<")])
def test_a_page_that_makes_no_sense(body: str) -> None:
    with calling(page("ListBucketResult", body)) as (calls, _), pytest.raises(StoreUnavailable, match="s3://b"):
        list(list_pages(calls))


def test_keys_out_of_order() -> None:
    with (
        calling(page("ListBucketResult", entry("b") + entry("a"))) as (calls, _),
        pytest.raises(StoreRejected, match="order"),
    ):
        list(list_pages(calls))


def test_parts_that_go_round_in_circles() -> None:
    more = "<IsTruncated>true</IsTruncated><NextPartNumberMarker>{}</NextPartNumberMarker>"
    part = "<Part><PartNumber>{}</PartNumber><Size>1</Size><ETag>e</ETag></Part>"
    pages = [page("ListPartsResult", (more + part).format(n, n)) for n in (1, 2, 1)]
    with calling(*pages) as (calls, _), pytest.raises(StoreUnavailable, match="1 comes after 2"):
        list(list_parts(calls, "k", "u"))


def test_open_uploads_of_encoded_keys() -> None:
    first = page(
        "ListMultipartUploadsResult",
        "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextKeyMarker>a+b%2B</NextKeyMarker>"
        "<NextUploadIdMarker>u1</NextUploadIdMarker><Upload><Key>a+b%2B</Key><UploadId>u1</UploadId></Upload>",
    )
    with calling(first, page("ListMultipartUploadsResult", "")) as (calls, answers):
        assert list(list_uploads(calls)) == [("a b+", "u1")]
    assert "key-marker=a%20b%2B" in answers.heads[1]


@pytest.mark.parametrize(
    "headers",
    [
        {"Last-Modified": "Sat, 21 Nov 2026 00:00:00 GMT"},
        {"ETag": "e"},
        {"ETag": "e", "Last-Modified": "once upon a time"},
    ],
)
def test_a_head_that_lacks_something(headers: dict[str, str]) -> None:
    with calling(answer(200, headers)) as (calls, _), pytest.raises(StoreUnavailable, match="s3://b/k"):
        head(calls, "k")


def test_what_is_gone_need_not_be_deleted() -> None:
    answers = Answers(answer(404, {}, b"<Error><Code>NoSuchKey</Code></Error>"), answer(404))
    with answers.serving() as url:
        store = open_store(StoreConfig("s3", "b", endpoint_url=url))
        store.delete("k")
        with pytest.raises(BucketNotFound, match="s3://b"):
            assert store.capabilities
        store.close()
