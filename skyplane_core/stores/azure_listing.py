"""Listings of a container as streams, in the order of the keys' UTF-8 bytes; a page in memory at a time.

Azure has two orders of its own. An account with a flat namespace lists by UTF-16 units, which is another order only
where a character beyond U+FFFF and one from U+E000 on stand at the same place of two names: such a listing is refused
when it comes to them. One with a hierarchical namespace lists directory by directory (``a/b`` before ``a-c``), and
directories among the files: there each directory is listed by itself, and they are put in order between their
neighbours.
"""

from __future__ import annotations

import email.utils
import heapq
from collections.abc import Iterator

from skyplane_core.errors import BucketNotFound, StoreRejected
from skyplane_core.model import ObjectInfo
from skyplane_core.stores import azure_wire as wire
from skyplane_core.stores import azure_xml as xml
from skyplane_core.stores.azure_calls import AzureCalls
from skyplane_core.stores.azure_places import Places
from skyplane_core.stores.base import MIB
from skyplane_core.stores.http_pool import ConnectionPool
from skyplane_core.stores.paging import Pages
from skyplane_core.stores.s3_xml import number

_PAGE = 1000
_PAGE_LIMIT = 4 * MIB
"""Bytes of a page; an entry has a good kilobyte, and up to 8 KiB of metadata."""


class Listing:
    """Listings of one container. Thread-safe."""

    def __init__(self, calls: AzureCalls, pool: ConnectionPool) -> None:
        self._calls = calls
        self._pool = pool
        self._places = Places()
        self._hierarchical: bool | None = None

    def objects(self, prefix: str = "", start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]:
        """The objects under ``prefix`` in key order, with their attributes.

        Raises:
            StoreRejected: two names are in the order of UTF-16, and their UTF-8 bytes have another one.
        """
        start = start_after.encode()
        last = b""
        for entry in self._in_order(prefix, start_after, delimiter):
            encoded = entry.name.encode()
            if last and encoded <= last:
                raise StoreRejected(
                    "Azure does not list these names in the order of their UTF-8 bytes",
                    where=self._calls.where(entry.name),
                    why=f"{entry.name!r} comes after {last.decode()!r}",
                    next_step="Transfer them by a prefix each, or rename one: its name has a character beyond U+FFFF.",
                )
            last = encoded
            # A listing begins with a whole page, or at the container's beginning.
            behind = bool(start) and encoded <= start
            if not behind and not (delimiter and delimiter in entry.name[len(prefix) :]):
                yield _info(self._calls, entry)

    def uncommitted(self, prefix: str) -> Iterator[str]:
        """Names at which blocks may wait without a blob: these are listed as empty."""
        for entry in self._entries(prefix, include="uncommittedblobs"):
            if entry.properties.get("Content-Length", "0") in ("0", ""):
                yield entry.name

    def _entries(
        self, prefix: str, *, after: str = "", delimiter: str = "", include: str = "metadata"
    ) -> Iterator[xml.Entry]:
        """What the service lists, in its own order; what comes before ``after`` may be left out."""
        listing = (prefix, delimiter, include)
        size, marker = _PAGE, self._places.find(listing, after)
        pages = Pages(self._calls.where())
        while True:
            target = self._calls.target(
                restype="container",
                comp="list",
                prefix=prefix,
                delimiter=delimiter,
                include=include,
                maxresults=str(size),
                marker=marker,
            )
            with self._pool.connection() as http:
                answer = self._calls.send(
                    http, "GET", target, "cannot list the container", missing=BucketNotFound, limit=_PAGE_LIMIT
                )
            if len(answer.body) >= _PAGE_LIMIT and size > 1:
                size = max(1, size // 4)
                continue
            try:
                page = xml.parse_page(answer.body)
            except ValueError as error:
                raise self._calls.garbled(error) from error
            if page.entries and marker:
                self._places.note(listing, page.entries[0].name, marker)
            yield from page.entries
            if not page.next_marker:
                return
            pages.turn(page.next_marker, len(page.entries))
            marker, size = page.next_marker, min(_PAGE, size * 2)

    def _in_order(self, prefix: str, start_after: str, delimiter: str) -> Iterator[xml.Entry]:
        if not self._hierarchical:
            for entry in self._entries(prefix, after=start_after, delimiter=delimiter):
                if self._learn(entry):
                    break
                if not entry.directory:
                    yield entry
        if self._hierarchical:
            yield from self._walk(prefix, start_after, deep=delimiter != "/")

    def _learn(self, entry: xml.Entry | None) -> bool:
        """Only an account with a hierarchical namespace says of a name whether it is a file or a directory."""
        if entry is not None and not (entry.directory and not entry.properties):
            self._hierarchical = "ResourceType" in entry.properties
        return bool(self._hierarchical)

    def _walk(self, prefix: str, start_after: str, *, deep: bool) -> Iterator[xml.Entry]:
        """The files under ``prefix`` of a hierarchical namespace, in the order of their keys' UTF-8 bytes.

        A directory's names come in order; what is below ``a/`` has its place after ``a-b``, which comes later. So an
        entry waits until every later name is behind it: only names that begin with one another wait at the same time.
        """
        waiting: list[tuple[bytes, bool]] = []
        files: dict[bytes, xml.Entry] = {}
        begin = ""
        if start_after.startswith(prefix):
            above = prefix[: prefix.rfind("/") + 1]
            next_to = start_after[len(above) :].partition("/")[0]
            begin = above + next_to
            # What is below "a/" comes after "a-b", and is not listed again from "a-b" on.
            shorter = [above + next_to[:at] for at in range(1, len(next_to)) if next_to[at] < "/"]
            waiting = [(f"{path}/".encode(), True) for path in shorter if path.startswith(prefix)]
            heapq.heapify(waiting)
        expected = {place for place, _ in waiting}

        def ready(before: bytes | None) -> Iterator[xml.Entry]:
            while waiting and (before is None or waiting[0][0] < before):
                place, directory = heapq.heappop(waiting)
                if not directory:
                    yield files.pop(place)
                elif deep and not _is_behind(start_after, place):
                    yield from self._walk(place.decode(), start_after, deep=True)

        for entry in self._entries(prefix, after=begin, delimiter="/"):
            name = entry.name.rstrip("/").encode()
            yield from ready(name)
            if entry.directory:
                if name + b"/" not in expected:
                    heapq.heappush(waiting, (name + b"/", True))
            elif entry.properties.get("ResourceType") != "directory":
                files[name] = entry
                heapq.heappush(waiting, (name, False))
        yield from ready(None)


def _is_behind(start_after: str, directory: bytes) -> bool:
    """Whether a listing that starts after a key has nothing to say about a directory."""
    start = start_after.encode()
    return directory < start and not start.startswith(directory)


def _info(calls: AzureCalls, entry: xml.Entry) -> ObjectInfo:
    properties = entry.properties
    try:
        return ObjectInfo(
            key=entry.name,
            size=number(properties.get("Content-Length")),
            version=wire.from_etag(properties["Etag"]),
            modified=email.utils.parsedate_to_datetime(properties["Last-Modified"]).timestamp(),
            attributes=wire.listed_attributes(properties, entry.metadata),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise calls.garbled(ValueError(f"a blob without {error}"), entry.name) from error
