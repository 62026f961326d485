"""The list server tells what an object server with the same objects tells."""

from __future__ import annotations

import itertools
import json
import urllib.parse
from xml.etree import ElementTree

import pytest

from skyplane_core.model import ObjectInfo, StoreConfig
from skyplane_core.stores.http_data import HttpData, Request
from skyplane_core.stores.registry import open_store
from skyplane_core.testing.listserver import KeySpace, ListServer
from skyplane_core.testing.listserver.keyspace import size_of
from skyplane_core.testing.objectserver import ObjectServer

COUNT = 2345


def config(kind: str, url: str) -> StoreConfig:
    if kind == "s3":
        return StoreConfig("s3", "b", endpoint_url=url, region="us-east-1", path_style=True)
    return StoreConfig("gcs", "b", endpoint_url=url)


def page(kind: str, http: HttpData, query: dict[str, str]) -> tuple[list[str], list[str], str]:
    """Keys, common prefixes, and what asks for the next page."""
    path = "/b?list-type=2&" if kind == "s3" else "/storage/v1/b/b/o?"
    answer = http.send(Request("GET", path + urllib.parse.urlencode(query), {}), b"")
    assert answer.status == 200, answer.body
    if kind == "gcs":
        value = json.loads(answer.body)
        keys = [item["name"] for item in value.get("items", [])]
        return keys, value.get("prefixes", []), value.get("nextPageToken", "")
    root = ElementTree.fromstring(answer.body)  # noqa: S314 - our own servers
    name = "{http://s3.amazonaws.com/doc/2006-03-01/}"
    keys = [found.text or "" for found in root.iterfind(f"{name}Contents/{name}Key")]
    groups = [found.text or "" for found in root.iterfind(f"{name}CommonPrefixes/{name}Prefix")]
    truncated = root.findtext(f"{name}IsTruncated") == "true"
    token = root.findtext(f"{name}NextContinuationToken") or ""
    assert truncated == bool(token)
    assert int(root.findtext(f"{name}KeyCount") or -1) == len(keys) + len(groups)
    return keys, groups, token


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_it_answers_as_an_object_server(kind: str) -> None:
    names = {"s3": ("max-keys", "start-after", "continuation-token"), "gcs": ("maxResults", "startOffset", "pageToken")}
    limit, start, token = names[kind]
    with ListServer(kind, COUNT, "b") as ours, ObjectServer(kind, buckets=["b"]) as theirs:
        for key in KeySpace(COUNT):
            theirs.put("b", key, b"")
        both = HttpData(ours.endpoint_url), HttpData(theirs.endpoint_url)
        for prefix, delimiter, size, begin in itertools.product(
            (
                "",
                "data/",
                "data/0000001/",
                "data/0000001",
                "data/00000",
                "data/0000002/344.bin",
                "x",
                "data/0000000/99",
            ),
            ("", "/"),
            ("1000", "7", "1"),
            ("", "data/0000000/998.bin", "data/0000001/", "data/0000001", "data/0000001/5", "zzz"),
        ):
            query = {"prefix": prefix, "delimiter": delimiter, limit: size} | ({start: begin} if begin else {})
            for _ in range(3):
                answers = [page(kind, http, query) for http in both]
                assert answers[0][:2] == answers[1][:2], query
                assert bool(answers[0][2]) == bool(answers[1][2]), query
                if not answers[0][2]:
                    break
                # Each server is asked with its own token, which names the same place.
                assert len(answers[0][0]) <= int(size)
                query = {**query, token: answers[0][2]}
                assert answers[0][2] == answers[1][2]
        for http in both:
            http.close()


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_our_store_lists_all_of_it_and_what_is_written_besides(kind: str) -> None:
    with ListServer(kind, COUNT, "b") as server:
        store = open_store(config(kind, server.endpoint_url))
        found = list(store.list("data/"))
        assert [info.key for info in found] == list(KeySpace(COUNT))
        assert [info.size for info in found] == [size_of(number % 1000) for number in range(COUNT)]
        assert len({info.version for info in found}) == COUNT
        server.behind.put("b", "data/.skyplane/t/journal", b"state")
        assert [info.key for info in store.list("data/.skyplane/")] == ["data/.skyplane/t/journal"]
        store.close()


def test_the_copies_record_the_versions_of_their_sources() -> None:
    with ListServer("s3", COUNT, "b") as s3, ListServer("gcs", COUNT, "b") as gcs:
        stores = [open_store(config(server.kind, server.endpoint_url)) for server in (s3, gcs)]
        sides: list[list[ObjectInfo]] = [list(store.list("data/")) for store in stores]
        for source, copy in zip(*sides, strict=True):
            assert copy.attributes is not None
            assert (source.key, source.size) == (copy.key, copy.size)
            assert copy.attributes.metadata == {"skyplane-source": source.version}
        for store in stores:
            store.close()
