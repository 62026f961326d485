"""Google Cloud Storage.

Part bytes and multipart uploads use the XML API (the JSON API has no parallel upload into one object), everything
else the JSON API, both over :mod:`~skyplane_core.stores.http_data`. A version is a generation.

GCS takes no precondition on any request of a multipart upload (``400 NotImplemented``), so
``capabilities.conditional_complete`` is False: :meth:`GcsStore.complete_upload` looks first, and a write by somebody
else between the look and the completion is overwritten. Who needs it to be atomic completes the upload under a key
of its own and then moves the object (JSON ``moveTo`` with ``ifGenerationMatch``), or uses a single put.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from skyplane_core.errors import (
    BucketNotFound,
    ObjectNotFound,
    PreconditionFailed,
    StoreRejected,
    UsageError,
)
from skyplane_core.model import (
    Attestation,
    CopySource,
    CopyStep,
    ObjectAttributes,
    ObjectInfo,
    Precondition,
    StoreConfig,
    Stored,
    StoredPart,
)
from skyplane_core.stores import gcs_copy
from skyplane_core.stores import gcs_wire as wire
from skyplane_core.stores.base import Capabilities, DataPath
from skyplane_core.stores.gcs_auth import from_google_credentials, resolve
from skyplane_core.stores.gcs_calls import GcsCalls, open_pool
from skyplane_core.stores.gcs_data import GcsData
from skyplane_core.stores.gcs_upload import GcsUploads
from skyplane_core.stores.http_data import ANSWER_LIMIT
from skyplane_core.stores.paging import Page, Pages

__all__ = ["GcsStore", "from_google_credentials", "open_store", "resolve"]

CAPABILITIES = Capabilities(
    attestation=Attestation.WHOLE,
    max_single_put=5 * 1024 * 1024 * 1024 * 1024,
    conditional_complete=False,
    conditional_delete=True,
    listing_ranges=True,
    listing_has_attributes=True,
    listing_has_crc32c=True,
    max_copy=5 * 1024 * 1024 * 1024 * 1024,
    conditional_copy=True,
)

_PAGE = 1000


def open_store(config: StoreConfig) -> GcsStore:
    """The store that ``config`` describes. Sends nothing yet."""
    return GcsStore(config)


class GcsStore:
    """An :class:`~skyplane_core.stores.base.ObjectStore` on one bucket."""

    def __init__(self, config: StoreConfig) -> None:
        if not config.bucket:
            raise UsageError("no bucket is named", where=config.uri, next_step="Write gs://bucket.")
        self._calls = GcsCalls(config)
        self._bucket = config.bucket
        self._pool = open_pool(config)
        self._uploads = GcsUploads(self._calls, self._pool)

    @property
    def uri(self) -> str:
        return self._calls.config.uri

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def probe(self) -> None:
        """Lists at most one object: what every transfer needs from either side, and no right on the bucket itself."""
        with self._pool.connection() as http:
            target = wire.json_target(self._bucket, maxResults=1, fields="items(name)")
            self._calls.send(http, "GET", target, "cannot use the bucket", missing=BucketNotFound)

    def list(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]:
        for page in self.list_pages(prefix, start_after=start_after, delimiter=delimiter):
            yield from page.objects

    def list_pages(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[Page]:
        token, size = "", _PAGE
        pages = Pages(self.uri)
        while True:
            target = wire.json_target(
                self._bucket,
                prefix=prefix,
                startOffset=start_after,
                delimiter=delimiter,
                matchGlob=self._calls.config.match_glob,
                maxResults=size,
                pageToken=token,
                fields=f"nextPageToken,items({wire.OBJECT_FIELDS})",
            )
            with self._pool.connection() as http:
                answer = self._calls.send(http, "GET", target, "cannot list the bucket", missing=BucketNotFound)
            if len(answer.body) >= ANSWER_LIMIT and size > 1:
                size //= 4
                continue
            page = self._calls.decode(answer.body, wire.PAGE)
            found = _infos(self._calls, page.items)
            # startOffset is inclusive.
            if start_after and not token and found and found[0].key == start_after:
                del found[0]
            yield Page(found, bool(page.next_page_token))
            if not page.next_page_token:
                return
            pages.turn(page.next_page_token, len(page.items))
            token, size = page.next_page_token, min(_PAGE, size * 2)

    def head(self, key: str) -> ObjectInfo:
        with self._pool.connection() as http:
            found = self._calls.head(http, key, self._calls.config.object_version)
        return _infos(self._calls, [found])[0]

    def create_upload(self, key: str, attributes: ObjectAttributes) -> str:
        return self._uploads.create(key, attributes)

    def list_parts(self, key: str, upload_id: str) -> Iterator[StoredPart]:
        return self._uploads.parts(key, upload_id)

    def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Iterable[StoredPart],
        *,
        size: int,
        crc32c: int,
        precondition: Precondition,
    ) -> Stored:
        return self._uploads.complete(key, upload_id, list(parts), size, crc32c, precondition)

    def copy(
        self,
        source: CopySource,
        key: str,
        attributes: ObjectAttributes,
        precondition: Precondition,
        token: str = "",
    ) -> CopyStep:
        return gcs_copy.copy(self._calls, source, key, attributes, precondition, token)

    def copy_part(
        self,
        source: CopySource,  # noqa: ARG002 - the protocol's
        key: str,
        upload_id: str,  # noqa: ARG002
        number: int,  # noqa: ARG002
        offset: int,  # noqa: ARG002
        size: int,  # noqa: ARG002
    ) -> StoredPart:
        raise StoreRejected("GCS copies no parts of objects", where=self._calls.where(key))

    def abort_upload(self, key: str, upload_id: str) -> None:
        self._uploads.abort(key, upload_id)

    def list_uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        return self._uploads.open_uploads(prefix)

    def delete(self, key: str, precondition: Precondition = Precondition()) -> None:
        target = wire.json_target(self._bucket, key, ifGenerationMatch=wire.generation_match(precondition))
        with self._pool.connection() as http:
            try:
                self._calls.send(http, "DELETE", target, "cannot delete the object", key=key)
            except ObjectNotFound as error:
                if precondition.version:
                    raise PreconditionFailed("the object is gone", where=error.where, why=error.why) from error

    def data(self) -> DataPath:
        return GcsData(self._calls)

    def close(self) -> None:
        self._pool.close()


def _infos(calls: GcsCalls, items: list[wire.JsonObject]) -> list[ObjectInfo]:
    try:
        return [item.info() for item in items]
    except (ValueError, OverflowError) as error:
        raise calls.garbled(error) from error
